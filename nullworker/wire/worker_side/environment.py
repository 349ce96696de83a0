"""Reads environment variables strictly: each value is checked, and a wrong one is named in one sentence."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

PORT_MAX = 65_535
WORKER_ID_MAX = 2**53 - 1  # beyond it, a JSON number is no longer exact in every language
#: A worker's variable: what others its consumer has in place of the worker's own, as a JSON object; null: not set.
ORIGINAL_VARIABLES = "NULL_ORIGINAL_VARIABLES"
_YES = frozenset({"1", "true", "yes", "y", "on", "t"})
_NO = frozenset({"", "0", "false", "no", "n", "off", "f"})


class SettingsError(Exception):
    """A setting that is missing or wrong; the message is one sentence that names it."""


class Environment:
    """The variables ``env``. All methods raise SettingsError for a value that is missing or wrong."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env

    def raw(self, name: str) -> str:
        """The value as it is; "" if it is not set."""
        return self._env.get(name, "")

    def text(self, name: str) -> str:
        """The value without blanks around it; "" if it is not set."""
        return self.raw(name).strip()

    def has(self, name: str) -> bool:
        """Whether the variable is set to more than blanks."""
        return bool(self.text(name))

    def required(self, name: str) -> str:
        """The value as it is, which must be more than blanks."""
        if not self.has(name):
            raise SettingsError(
                f"{name} is not set; a Vast instance has it, elsewhere set it before starting the worker."
            )
        return self.raw(name)

    def whole_number(self, name: str, at_least: int, at_most: int) -> int:
        """A whole number, which must be set.

        Args:
            name: the variable.
            at_least: the least value that is accepted.
            at_most: the greatest value that is accepted.
        """
        text = self.required(name)
        # Digits alone, without blanks: the framework reads some of these itself, one as a part of another's name.
        if not (text.isascii() and text.isdigit() and len(text) <= 20 and at_least <= int(text) <= at_most):
            raise SettingsError(f"{name} is {text!r}, but must be a whole number from {at_least} to {at_most}.")
        return int(text)

    def worker_id(self) -> int:
        """The worker's number, which a Vast instance has in CONTAINER_ID."""
        return self.whole_number("CONTAINER_ID", 0, WORKER_ID_MAX)

    def port(self, name: str, default: int | None = None) -> int:
        """A port. Without a ``default`` it must be set."""
        if default is not None and not self.has(name):
            return default
        return self.whole_number(name, 1, PORT_MAX)

    def public_port(self) -> int:
        """The port of WORKER_PORT as it is seen from outside, which a Vast instance has in VAST_TCP_PORT_<it>."""
        return self.port(f"VAST_TCP_PORT_{self.text('WORKER_PORT')}")

    def number(
        self,
        name: str,
        default: float,
        *,
        at_least: float = 0.0,
        at_most: float = math.inf,
        kind: str = "a number",
    ) -> float:
        """A finite number.

        Args:
            name: the variable.
            default: taken where it is not set.
            at_least: the least value that is accepted.
            at_most: the greatest value that is accepted.
            kind: what it is called where it is wrong, such as "a number of seconds".
        """
        text = self.text(name)
        if not text:
            return default
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (at_least <= value <= at_most and math.isfinite(value)):
            bounds = f"of at least {at_least:g}" + (f" and at most {at_most:g}" if math.isfinite(at_most) else "")
            raise SettingsError(f"{name} is {text!r}, but must be {kind} {bounds}.")
        return value

    def flag(self, name: str) -> bool:
        """Whether it is set to yes, in one of the usual spellings; not set is no."""
        text = self.text(name).lower()
        if text in _YES:
            return True
        if text in _NO:
            return False
        raise SettingsError(f"{name} is {text!r}, but must be true or false.")

    def report_addrs(self) -> tuple[str, ...]:
        """The engine's URLs in REPORT_ADDR, which must be set, without a slash at their ends."""
        addrs = tuple(addr.strip().rstrip("/") for addr in self.required("REPORT_ADDR").split(",") if addr.strip())
        for addr in addrs:
            if not is_http_url(addr):
                raise SettingsError(f"REPORT_ADDR has {addr!r}, but must be one or more http or https URLs.")
        if not addrs:
            raise SettingsError("REPORT_ADDR names no address; set it to the engine's URL.")
        return addrs


def is_http_url(text: str) -> bool:
    """Whether ``text`` is an absolute http or https URL with a host and, if any, a legal port."""
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False


def http_url(host: str, port: int | str, *, use_ssl: bool = False) -> str:
    """The URL of a server.

    Args:
        host: its name or address; an IPv6 address gets its brackets.
        port: its port.
        use_ssl: whether it is https.
    """
    return f"{'https' if use_ssl else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"
