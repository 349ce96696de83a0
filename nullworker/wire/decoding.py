"""Decodes the bytes of a body as a wire type; what is wrong is one sentence that names the field.

msgspec's own messages state Python's names of types, JSON paths and regular expressions ("Expected `str` matching regex
… - at `$.endpoint_name`"). They reach people, in the engine's answers and for configuration files, so they are
rewritten here ("endpoint_name must be text without control characters."); a message that a newer msgspec words in
another way is passed on as it is.

Unknown fields pass. NaN, infinities, broken UTF-8, lone surrogates and nesting that is too deep do not. A whole number
that arrives as ``5.0`` is read as 5, as some JSON writers know only one kind of number. A number in quotes is refused.
"""

from __future__ import annotations

import re
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from nullworker.wire.errors import WireError

T = TypeVar("T")

_FIELD = re.compile(r"`\$\.?([^`]*)`$")
_MISSING = re.compile(r"missing required field `([^`]+)`")
_EXPECTED = re.compile(r"Expected `([^`]+)`(.*?)(?:, got `([^`]+)`)?")
_BOUND = re.compile(r"( of length)? (>=|<=|>|<) (\S+)")
_NOT_FINITE = re.compile(rb'"([^"\\]{1,100})"\s*:\s*(?:NaN|-?Infinity)')
_TYPES = {
    "float": "a number",
    "int": "a whole number",
    "str": "text",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}
_SIGNS = {">=": "of at least", "<=": "of at most", ">": "over", "<": "under"}


_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}  # one for each type, made when first needed


def decode(kind: type[T], body: bytes, *, whole_floats: bool = True) -> T:
    """Decodes a JSON ``body`` as ``kind`` (a type of `nullworker.wire.types`).

    Args:
        kind: the type.
        body: what came.
        whole_floats: whether ``5.0`` passes for 5, which a second and slower reading finds.

    Raises:
        WireError: the body is no JSON, or no ``kind``; its ``field`` names the field to blame.
    """
    decoder: msgspec.json.Decoder[T] | None = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.json.Decoder(kind)
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        if not whole_floats or "Expected `int" not in str(error):
            raise _wire_error(error, kind) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _malformed(error, body) from None
    return _decode_with_whole_floats(kind, body)


def _decode_with_whole_floats(kind: type[T], body: bytes) -> T:
    """The slow path: as `decode`, with every float that is a whole number made an int; unknown fields are skipped."""
    try:
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            raw: dict[str, msgspec.Raw] = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
            known = {name: raw[name] for name in kind.__struct_encode_fields__ if name in raw}
            return msgspec.convert({name: _whole(msgspec.json.decode(value)) for name, value in known.items()}, kind)
        return msgspec.convert(_whole(msgspec.json.decode(body)), kind)
    except msgspec.ValidationError as error:
        raise _wire_error(error, kind) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _malformed(error, body) from None


def _whole(value: object) -> object:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_whole(item) for item in value]
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    return value


def _malformed(error: Exception, body: bytes) -> WireError:
    if isinstance(error, RecursionError):
        return WireError("", "The body is nested too deeply.")
    try:
        body.decode()  # msgspec 0.22 raises UnicodeDecodeError for what is not UTF-8, 0.23 a DecodeError like any other
    except UnicodeDecodeError:
        return WireError("", "The body is not UTF-8.")
    found = _NOT_FINITE.search(body)
    if found:
        field = found.group(1).decode(errors="replace")
        return WireError(field, f"{field} must be a finite number.")
    return WireError("", f"The body is not JSON: {str(error).removeprefix('JSON is malformed: ')}.")


def _wire_error(error: msgspec.ValidationError, kind: object) -> WireError:
    text, _, tail = str(error).partition(" - at ")
    found = _FIELD.search(tail)
    field = found.group(1) if found else ""
    missing = _MISSING.search(text)
    if missing:
        field = f"{field}.{missing.group(1)}" if field else missing.group(1)
        return WireError(field, f"{field} is missing.")
    if text.startswith("Invalid enum value"):
        return WireError(field, f"{field} must be one of {', '.join(_choices(kind, field))}.")
    return WireError(field, f"{field or 'The body'} {complaint(text)}.")


def _choices(kind: object, field: str) -> list[str]:
    """The values that the field ``requests[0].status`` of ``kind`` may have."""
    here = [inspect.type_info(kind)]
    for name in re.findall(r"[A-Za-z_]\w*", field):
        structs = [each for each in _parts(here) if isinstance(each, inspect.StructType)]
        here = [each.type for struct in structs for each in struct.fields if each.name == name]
    return [str(value) for each in _parts(here) if isinstance(each, inspect.LiteralType) for value in each.values]


def _parts(kinds: list[inspect.Type]) -> list[inspect.Type]:
    """``kinds``, with unions taken apart and lists and bounds replaced by what they hold."""
    parts: list[inspect.Type] = []
    for kind in kinds:
        if isinstance(kind, inspect.UnionType):
            parts += _parts(list(kind.types))
        elif isinstance(kind, inspect.ListType):
            parts += _parts([kind.item_type])
        elif isinstance(kind, inspect.Metadata):
            parts += _parts([kind.type])
        else:
            parts.append(kind)
    return parts


def complaint(text: str) -> str:
    """Turns msgspec's "Expected `int` >= 0, got `str`" into "must be a whole number of at least 0, not text"."""
    expected = _EXPECTED.fullmatch(text)
    if expected is None:
        return "is a number too large" if text == "Number out of range" else f"is wrong: {text[:1].lower()}{text[1:]}"
    kinds, bound, got = expected.groups()
    wanted = " or ".join(_TYPES.get(kind, kind) for kind in kinds.split(" | "))
    found = "a fraction" if (kinds, got) == ("int", "float") else _TYPES.get(got, got)
    return f"must be {wanted}{_limit(kinds, bound)}" + (f", not {found}" if found else "")


def _limit(kinds: str, text: str) -> str:
    found = _BOUND.fullmatch(text)
    if found is None:
        # The only pattern that the types use keeps control characters out.
        return " without control characters" if text.startswith(" matching regex") else text
    of_length, sign, number = found.groups()
    unit = (" item" if "array" in kinds else " character") if of_length else ""
    if unit and number != "1":
        unit += "s"
    return f" {_SIGNS[sign]} {number.removesuffix('.0')}{unit}"
