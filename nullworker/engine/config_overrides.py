"""Every key of the configuration file can also come from a variable or a flag: which key a name means.

A flag names a key by its path: ``port``, ``endpoint.null-prod.min_load``, ``fleet.processes.KEY``,
``endpoint.null-prod.workergroup.0.consumer``. The variable of the same key is ``NULLWORKER_`` and the path in capitals,
with ``_`` for each character that is no letter or digit. Endpoints have their names, workergroups their places, from 0.
"""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Any

import msgspec

from nullworker.engine.config_source import ConfigError, Source, known_keys
from nullworker.wire.decoding import complaint

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

PREFIX = "NULLWORKER_"
#: Variables with the prefix that are no keys of the file.
_OTHER_VARIABLES = frozenset({"NULLWORKER_CONFIG"})


def apply_environment(source: Source, kind: Any, environ: Mapping[str, str]) -> None:
    """Puts the ``NULLWORKER_…`` variables of ``environ`` over the tree; ``kind`` is what the tree is to become.

    Args:
        source: the configuration.
        kind: the type that its tree is to become.
        environ: the environment.

    Raises:
        ConfigError: a value makes no sense, a variable names two keys, or it is misspelt.
    """
    known: dict[str, tuple[str, str]] = {}
    for path, table, key in _keys(source, kind):
        variable = PREFIX + re.sub(r"[^A-Z0-9]", "_", path.upper())
        if variable in known and variable in environ:
            raise ConfigError(f"The variable {variable} means keys of two endpoints; set them in the file.")
        known[variable] = (table, key)
    for variable, text in sorted(environ.items()):
        if variable in known:
            _set(source, kind, known[variable], text, f"The variable {variable}")
        elif (
            variable.startswith(PREFIX) and variable not in _OTHER_VARIABLES and not _set_fleet(source, variable, text)
        ):
            _refuse_if_misspelt(variable, known)


def apply_flags(source: Source, kind: Any, flags: Sequence[tuple[str, str]]) -> None:
    """Puts ``flags``, pairs of a key's path and its value as text, over the tree.

    Args:
        source: the configuration.
        kind: the type that its tree is to become.
        flags: pairs of a key's path and its value as text.

    Raises:
        ConfigError: a path names no key, or a value makes no sense.
    """
    known = {path: (table, key) for path, table, key in _keys(source, kind)}
    for given, text in flags:
        path = given.removeprefix("engine.")
        if path in known:
            _set(source, kind, known[path], text, f"The flag for {path}")
        elif re.fullmatch(r"fleet\.[^.]+\.[^.]+", path):
            _, fleet, key = path.split(".")
            source.set(f"fleet.{fleet}", key, _toml_value(text), f"The flag for {path}")
        else:
            near = difflib.get_close_matches(path, known, n=1)
            raise ConfigError(f"There is no key {given}" + (f"; did you mean {near[0]}?" if near else "."))


def _keys(source: Source, kind: Any) -> Iterator[tuple[str, str, str]]:
    """Every key that may be set: its path, its table, its name."""
    for key in known_keys(kind, "engine"):
        yield key, "engine", key
    endpoints = source.tree.get("endpoint", [])
    for index, endpoint in enumerate(endpoints if isinstance(endpoints, list) else []):
        name = endpoint.get("name") if isinstance(endpoint, dict) else None
        if not isinstance(name, str):
            continue
        table = f"endpoint[{index}]"
        for key in known_keys(kind, table):
            if key not in {"name", "workergroup"}:
                yield f"endpoint.{name}.{key}", table, key
        groups = endpoint.get("workergroup", [])
        for n in range(len(groups) if isinstance(groups, list) else 0):
            inner = f"{table}.workergroup[{n}]"
            for key in known_keys(kind, inner):
                yield f"endpoint.{name}.workergroup.{n}.{key}", inner, key


def _set(source: Source, kind: Any, where: tuple[str, str], text: str, origin: str) -> None:
    """Sets the key ``where`` (its table, its name) to what ``text`` means for a key of its type."""
    table, key = where
    try:
        value = (
            _toml_value(text)
            if key in {"env", "labels"}
            else msgspec.convert(text, _type_of(kind, table, key), strict=False)
        )
    except msgspec.ValidationError as error:
        message = complaint(str(error).partition(" - at ")[0]).replace(", not text", "")
        raise ConfigError(f"{origin}: {key} {message}, and {text!r} is not.") from None
    source.set(table, key, value, origin)


def _type_of(kind: Any, table: str, key: str) -> Any:
    """The type of ``key`` in ``table``, as its Struct declares it."""
    here = msgspec.inspect.type_info(kind)
    for name in re.findall(r"([a-z_]+)(?:\[\d+\])?", table):
        assert isinstance(here, msgspec.inspect.StructType)
        here = next(field.type for field in here.fields if field.name == name)
        if isinstance(here, msgspec.inspect.ListType):
            here = here.item_type
    assert isinstance(here, msgspec.inspect.StructType)
    return next(field.type for field in msgspec.structs.fields(here.cls) if field.name == key)


def _toml_value(text: str) -> object:
    """``text`` as TOML reads a value, or as it stands where TOML cannot."""
    try:
        return msgspec.toml.decode(f"value = {text}")["value"]
    except msgspec.DecodeError:
        return text


def _set_fleet(source: Source, variable: str, text: str) -> bool:
    """Sets a key of a fleet that the configuration names; False where ``variable`` is no such thing."""
    named = set(source.tree.get("fleet", {})) | {
        group.get("fleet", "processes")
        for endpoint in source.tree.get("endpoint", [])
        for group in endpoint.get("workergroup", [])
    }
    for fleet in sorted(named, key=len, reverse=True):
        prefix = f"{PREFIX}FLEET_" + re.sub(r"[^A-Z0-9]", "_", str(fleet).upper()) + "_"
        if variable.startswith(prefix):
            key = variable[len(prefix) :].lower()
            source.set(f"fleet.{fleet}", key, _toml_value(text), f"The variable {variable}")
            return True
    return False


def _refuse_if_misspelt(variable: str, known: Mapping[str, object]) -> None:
    """Other programs may have variables of the same prefix; one that resembles a key is taken for a typing error."""
    names = {name.removeprefix(PREFIX): name for name in known}
    near = difflib.get_close_matches(variable.removeprefix(PREFIX), names, n=1, cutoff=0.85)
    if near:
        raise ConfigError(f"The variable {variable} names no key; did you mean {names[near[0]]}?")
    if variable.startswith((f"{PREFIX}ENDPOINT_", f"{PREFIX}FLEET_")):
        raise ConfigError(f"The variable {variable} names no key of an endpoint or fleet that the configuration has.")
