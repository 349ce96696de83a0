"""All small mistakes that can be made in a function: each a change of its syntax tree."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

#: Each comparison, and what it is mistaken for.
_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
}
_EXTREMES = {"max": "min", "min": "max"}
_BLOCKS = ("body", "orelse", "finalbody")


class Step(NamedTuple):
    """One possible change; ``apply`` makes it in the tree that it was found in."""

    kind: str
    line: int
    before: str
    after: str
    apply: Callable[[], None]


def steps(function: ast.FunctionDef, fields: Mapping[str, str]) -> Iterator[Step]:
    """All changes of a function, in the order of its tree.

    Args:
        function: is not changed before a step is applied.
        fields: for the name of a field, that of one like it.
    """
    for node in _code(function):
        yield from _in_blocks(node)
        if isinstance(node, (ast.If, ast.While, ast.IfExp)):
            yield _negated(node)
        if isinstance(node, (ast.If, ast.IfExp)) and node.orelse:
            yield from _without_else(node)
        for parent, name, number, child in _expressions(node):
            yield from _of_expression(child, _replacer(parent, name, number), fields)


def _code(function: ast.FunctionDef) -> Iterator[ast.AST]:
    """The nodes that run: no annotations, decorators and texts."""
    waiting: list[ast.AST] = [function]
    while waiting:
        node = waiting.pop(0)
        yield node
        waiting += _children(node)


def _children(node: ast.AST) -> list[ast.AST]:
    found: list[ast.AST] = []
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "args") and not isinstance(node, ast.Call):
            continue
        for child in value if isinstance(value, list) else [value]:
            text = isinstance(child, ast.JoinedStr) or (
                isinstance(child, ast.Constant) and isinstance(child.value, str)
            )
            if isinstance(child, ast.AST) and not text:
                found.append(child)
    return found


def _expressions(node: ast.AST) -> Iterator[tuple[ast.AST, str, int | None, ast.expr]]:
    """The expressions right below a node, with their places in it."""
    allowed = {id(child) for child in _children(node)}
    for name, value in ast.iter_fields(node):
        for number, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(child, ast.expr) and id(child) in allowed:
                yield node, name, number, child


def _replacer(parent: ast.AST, name: str, number: int | None) -> Callable[[ast.expr], None]:
    def replace(new: ast.expr) -> None:
        if number is None:
            setattr(parent, name, new)
        else:
            getattr(parent, name)[number] = new

    return replace


def _of_expression(node: ast.expr, replace: Callable[[ast.expr], None], fields: Mapping[str, str]) -> Iterator[Step]:
    for kind, new in _variants(node, fields):
        yield Step(kind, node.lineno, ast.unparse(node), ast.unparse(new), lambda new=new: replace(new))  # type: ignore[misc]


def _variants(node: ast.expr, fields: Mapping[str, str]) -> Iterator[tuple[str, ast.expr]]:
    """What an expression is mistaken for."""
    if isinstance(node, ast.Compare):
        for number, operator in enumerate(node.ops):
            operators = [*node.ops]
            operators[number] = _COMPARISONS[type(operator)]()
            yield "comparison", ast.Compare(node.left, operators, node.comparators)
    elif isinstance(node, ast.BoolOp):
        other: ast.boolop = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield "and/or", ast.BoolOp(other, node.values)
        for number in range(len(node.values)):
            left = [value for at, value in enumerate(node.values) if at != number]
            yield "operand", left[0] if len(left) == 1 else ast.BoolOp(node.op, left)
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield "constant", ast.Constant(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
        yield "constant", ast.Constant(node.value + 1)
    elif isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC and not _is_text(node):
        yield "arithmetic", ast.BinOp(node.left, _ARITHMETIC[type(node.op)](), node.right)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _EXTREMES:
        yield "max/min", ast.Call(ast.Name(_EXTREMES[node.func.id], ast.Load()), node.args, node.keywords)
    elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load) and node.attr in fields:
        yield "field", ast.Attribute(node.value, fields[node.attr], ast.Load())


def _is_text(node: ast.BinOp) -> bool:
    """Whether something like ``"a" + b``, which cannot be subtracted."""
    return any(
        isinstance(part, ast.JoinedStr) or (isinstance(part, ast.Constant) and isinstance(part.value, str))
        for part in ast.walk(node)
    )


def _negated(node: ast.If | ast.While | ast.IfExp) -> Step:
    test = node.test
    new = (
        test.operand if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not) else ast.UnaryOp(ast.Not(), test)
    )
    return Step(
        "negation", node.lineno, f"if {ast.unparse(test)}", f"if {ast.unparse(new)}", lambda: setattr(node, "test", new)
    )


def _without_else(node: ast.If | ast.IfExp) -> Iterator[Step]:
    if isinstance(node, ast.If):
        kept = f"if {ast.unparse(node.test)}: …"
        yield Step("else", node.lineno, f"{kept} else: …", kept, lambda: setattr(node, "orelse", []))
    else:
        new = ast.Constant(value=True)
        yield Step("else", node.lineno, ast.unparse(node), ast.unparse(node.body), lambda: setattr(node, "test", new))


def _in_blocks(node: ast.AST) -> Iterator[Step]:
    """The statements of a node's blocks that can be left out."""
    for name in _BLOCKS:
        block = getattr(node, name, None)
        if isinstance(block, list):
            for number, statement in enumerate(block):
                if _is_removable(statement):
                    yield Step("removal", statement.lineno, ast.unparse(statement), "", _remover(block, number))


def _is_removable(statement: ast.AST) -> bool:
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Call)
    if isinstance(statement, ast.Assign):
        return all(isinstance(target, (ast.Attribute, ast.Subscript)) for target in statement.targets)
    if isinstance(statement, ast.Return):
        return statement.value is None
    return isinstance(statement, (ast.AugAssign, ast.Delete, ast.Continue, ast.Break))


def _remover(block: list[ast.stmt], number: int) -> Callable[[], None]:
    def remove() -> None:
        block[number] = ast.copy_location(ast.Pass(), block[number])

    return remove
