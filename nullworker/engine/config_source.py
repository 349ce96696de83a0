"""A configuration as it was given: the tree of its keys, where each came from, and errors that name the place."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from nullworker.wire.decoding import complaint

T = TypeVar("T")

_UNKNOWN = re.compile(r"contains unknown field `([^`]*)`")
_MISSING = re.compile(r"missing required field `([^`]*)`")
_PATH = re.compile(r"`\$\.?([^`]*)`$")
_HEADER = re.compile(r"\s*(\[\[?)\s*([^\[\]#]+?)\s*\]")


class ConfigError(Exception):
    """A configuration that cannot be used; the message is one sentence: where, which key, what is wrong with it."""


class Source:
    """The tree of a configuration; tables are named by paths such as ``engine`` and ``endpoint[0].workergroup[1]``."""

    def __init__(self, tree: dict[str, Any], file: Path | None, text: str) -> None:
        """Takes a parsed configuration.

        Args:
            tree: its tables and keys.
            file: the file that it is from; None: it is the default.
            text: the content of the file, in which errors find their lines.
        """
        self.tree = tree
        self._file = file
        self._text = text
        self._origins: dict[tuple[str, str], str] = {}  # of keys that came from elsewhere: (table, key) -> where

    @classmethod
    def of_default(cls, tree: dict[str, Any]) -> Source:
        """The configuration of an engine that was given no file."""
        return cls(tree, None, "")

    @classmethod
    def of_file(cls, file: Path) -> Source:
        """Reads a TOML file.

        Raises:
            ConfigError: it cannot be read, or it is no TOML.
        """
        try:
            text = file.expanduser().read_text(encoding="utf-8")
            return cls(msgspec.toml.decode(text), file.expanduser(), text)
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            raise ConfigError(f"The configuration file {file} cannot be read ({why}).") from None
        except UnicodeDecodeError:
            raise ConfigError(f"The configuration file {file} is not UTF-8.") from None
        except msgspec.DecodeError as error:
            raise ConfigError(f"The configuration file {file} is not TOML: {error}.") from None

    def set(self, table: str, key: str, value: object, origin: str) -> None:
        """Sets a key.

        Args:
            table: the path of its table.
            key: its name.
            value: what replaces the tree's value.
            origin: where ``value`` is from, for errors ("The variable NULLWORKER_PORT").
        """
        self.table(table)[key] = value
        self._origins[table, key] = origin

    def table(self, path: str) -> dict[str, Any]:
        """The table at ``path``, made where it is missing (its list must be there)."""
        here: Any = self.tree
        for name, index in re.findall(r"([^.\[\]]+)(?:\[(\d+)\])?", path):
            here = here[name][int(index)] if index else here.setdefault(name, {})
        assert isinstance(here, dict)
        return here

    def convert(self, kind: type[T]) -> T:
        """The tree as ``kind``.

        Raises:
            ConfigError: a key is unknown, missing, or has a value of a wrong type.
        """
        try:
            return msgspec.convert(self.tree, kind)
        except msgspec.ValidationError as error:
            raise self._translated(error, kind) from None

    def path(self, key: str, text: str) -> Path:
        """``text`` as a path: relative to the file, or to the current directory where it came from elsewhere."""
        path = Path(text).expanduser()
        if self._file is None or ("engine", key) in self._origins or not self.table("engine").get(key):
            return path.absolute()
        return (self._file.absolute().parent / path).absolute()

    def check(self, holds: bool, table: str, key: str, message: str) -> None:
        """Raises `error` unless ``holds``.

        Args:
            holds: the condition.
            table: as `error` takes it; so are ``key`` and ``message``.
            key: the key whose value is checked.
            message: what is wrong with it.

        Raises:
            ConfigError: it does not hold.
        """
        if not holds:
            raise self.error(table, key, message)

    def error(self, table: str, key: str, message: str) -> ConfigError:
        """The error that a key causes.

        Args:
            table: the path of the table.
            key: the name of the key.
            message: what is wrong; it continues a sentence that begins with the key's name.
        """
        return ConfigError(f"{self._place(table, key)}: {key} {message}{'' if message.endswith('?') else '.'}")

    def _translated(self, error: msgspec.ValidationError, kind: object) -> ConfigError:
        text, _, tail = str(error).partition(" - at ")
        found = _PATH.search(tail)
        path = found.group(1) if found else ""
        unknown, missing = _UNKNOWN.search(text), _MISSING.search(text)
        if unknown:
            key = unknown.group(1)
            near = difflib.get_close_matches(key, known_keys(kind, path), n=1)
            return self.error(path, key, "is no key here" + (f"; did you mean {near[0]}?" if near else ""))
        if missing:
            return self.error(path, missing.group(1), "is missing")
        path = re.sub(r"\[\.\.\.\].*", "", path)  # an entry of a table of free keys: the table is to blame
        table, _, key = path.rpartition(".")
        if text == "Expected `array`, got `object`":
            lists = re.sub(r"\[\d+\]", "", path)
            return self.error(table, key, f"tables are written with two brackets: [[{lists}]]")
        return self.error(table, key, complaint(text))

    def _place(self, table: str, key: str) -> str:
        """Such as: nullworker.toml, line 12, [[endpoint]] of null-prod."""
        origin = self._origins.get((table, key))
        if origin:
            return origin
        where = "The default configuration" if self._file is None else str(self._file)
        line = self._line(table, key)
        return where + (f", line {line}" if line else "") + (f", {self._title(table)}" if table else "")

    def _title(self, table: str) -> str:
        if not table.startswith("endpoint["):
            return f"[{table}]"
        title = f"[[{re.sub(r'[^a-z.]', '', table)}]]"
        name = self.table(table.partition(".")[0]).get("name")
        return f"{title} of {name}" if isinstance(name, str) and name else title

    def _line(self, table: str, key: str) -> int | None:
        """The line that has ``key`` in ``table``, or else the line at which the table starts."""
        is_key = re.compile(rf"""\s*["']?{re.escape(key)}["']?\s*[=.]""")
        here, counts, start = "", {"endpoint": -1, "endpoint.workergroup": -1}, None
        for number, line in enumerate(self._text.splitlines(), 1):
            header = _HEADER.match(line)
            if header:
                here = _table_path(header.group(1), header.group(2), counts)
                if here == table or here == f"{table}.{key}".lstrip("."):
                    start = number
            elif here == table and is_key.match(line):
                return number
        return start


def _table_path(brackets: str, name: str, counts: dict[str, int]) -> str:
    """The path of the table that a header opens; ``counts`` remembers how many of each list came before."""
    if brackets == "[" or name not in counts:
        return name
    counts[name] += 1
    if name == "endpoint":
        counts["endpoint.workergroup"] = -1
        return f"endpoint[{counts['endpoint']}]"
    return f"endpoint[{counts['endpoint']}].workergroup[{counts[name]}]"


def known_keys(kind: Any, path: str) -> list[str]:
    """The keys that the table at ``path`` of ``kind`` may have."""
    here = msgspec.inspect.type_info(kind)
    for name in re.findall(r"([a-z_]+)(?:\[\d+\])?", path):
        if not isinstance(here, msgspec.inspect.StructType):
            return []
        here = next((field.type for field in here.fields if field.name == name), here)
        if isinstance(here, msgspec.inspect.ListType):
            here = here.item_type
    return [field.name for field in here.fields] if isinstance(here, msgspec.inspect.StructType) else []
