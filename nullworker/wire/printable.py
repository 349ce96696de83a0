"""Text from others made fit for a terminal, a log or a page: nothing in it is obeyed, all of it is seen.

Names, errors and last lines of output come from workers, consumers and clients. A terminal would obey escape sequences
in them, a line break forges a line of its own, and characters that change the direction of writing show another text
than there is.
"""

from __future__ import annotations

from typing import Any

_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def printable(text: str) -> str:
    r"""``text`` on one line, in which each character that is not printable is shown as its escape: ``\x1b``."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else _escape(each) for each in text)


def one_line(text: str) -> str:
    """``text`` as a sentence can have it in it: what is not printable is a blank, and several blanks are one."""
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())


def printable_lines(text: str) -> str:
    """As `printable`, and line breaks stay."""
    return "\n".join(printable(line) for line in text.split("\n"))


def printable_values(value: Any) -> Any:
    """``value``, as JSON has it, with every text in it `printable`."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, list):
        return [printable_values(each) for each in value]
    if isinstance(value, dict):
        return {printable(str(key)): printable_values(each) for key, each in value.items()}
    return value


def _escape(character: str) -> str:
    code = ord(character)
    short = _SHORT.get(character)
    if short is not None:
        return short
    if code == 0xA0:
        return " "
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
