"""A string that must not be seen: printed, formatted or logged, it is ``***``."""

from __future__ import annotations

from typing import Final

MASK: Final = "***"


class Secret:
    """Holds a secret text. Only `reveal` gives it out, so that every place that does is found by that word."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself, for an answer, an environment variable or a file, and never for a log."""
        return self._text

    def __repr__(self) -> str:
        """Always ``***``; so are ``str()`` and any format."""
        return MASK

    def __format__(self, spec: str) -> str:
        """Always ``***``, padded as ``spec`` says."""
        return format(MASK, spec)

    def __reduce__(self) -> str | tuple[object, ...]:
        """Secrets are not pickled: a pickle would show them."""
        raise TypeError("a Secret cannot be pickled; reveal() it where it is needed")
