"""Finds a backend's folder and imports what is in it; what is wrong there is one sentence.

The folder's parent comes first on the import path and the folder itself last, so that ``from helloworld.x import y``
(the classic way), ``import utils`` of a fork's own root, and a plain ``import x`` of a neighbour all work, and a folder
can not hide an installed package.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import traceback
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")

#: What ``flask_dict`` holds: called with the backend object and the request.
Handler = Callable[[Any, Any], Any]
#: Endpoint name (no slash before it) by method.
Handlers = Mapping[str, Mapping[str, Handler]]


class BackendError(Exception):
    """The backend cannot be used; the message is one sentence that names what is wrong with which file."""


@dataclass(frozen=True)
class LoadedBackend:
    """A backend's folder, imported. Nothing of it has been made yet."""

    name: str
    folder: Path
    backend_class: type
    handlers: Handlers
    thread_safe: bool
    metrics_class: type | None  # of metrics.py
    log_watch_class: type | None  # of logwatch.py

    @property
    def endpoints(self) -> str:
        """For people: ``POST /increment, GET /value``."""
        return ", ".join(f"{method} /{name}" for method, named in self.handlers.items() for name in named)


def load(name: str, roots: tuple[Path, ...]) -> LoadedBackend:
    """Imports the backend ``name``, a folder in one of ``roots``. Raises `BackendError`."""
    folder = _find(name, roots)
    package = _package(name, folder)
    module = _import(package, folder / "backend.py")
    backend_class = _class(module, "Backend", folder / "backend.py")
    return LoadedBackend(
        name=name,
        folder=folder,
        backend_class=backend_class,
        handlers=_handlers(module, folder / "backend.py"),
        thread_safe=getattr(module, "thread_safe", getattr(backend_class, "thread_safe", False)) is True,
        metrics_class=_beside(package, folder, "metrics", "Metrics"),
        log_watch_class=_beside(package, folder, "logwatch", "LogWatch"),
    )


def make(cls: type, what: str, folder: Path, given: Mapping[str, object]) -> Any:
    """Calls a class of the user's with those arguments that it takes by name.

    Args:
        cls: the class.
        what: its name in messages.
        folder: the backend's, for messages.
        given: the arguments that it may take.

    Raises:
        BackendError: it could not be made.
    """
    try:
        parameters = inspect.signature(cls).parameters.values()
    except (TypeError, ValueError):
        parameters = ()  # type: ignore[assignment]  # a class written in C, whose parameters are not known
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters)
    by_name = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    try:
        return cls(**{key: value for key, value in given.items() if takes_all or key in by_name})
    except (Exception, SystemExit) as error:
        raise BackendError(f"{what} could not be made: {explain(error, folder)}") from error


def explain(error: BaseException, folder: Path) -> str:
    """What was raised and, where that was in ``folder``, on which line of which file."""
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    frames = traceback.extract_tb(error.__traceback__)
    inside = [f for f in frames if Path(f.filename).is_relative_to(folder)]
    return f"{text} ({Path(inside[-1].filename).name}, line {inside[-1].lineno})" if inside else text


def _find(name: str, roots: tuple[Path, ...]) -> Path:
    for root in roots:
        folder = root / name
        if (folder / "backend.py").is_file():
            return folder
    for root in roots:
        if (root / name).is_dir():
            raise BackendError(f"backend {name!r} has no backend.py: there is none in {root / name}")
    looked = " or ".join(str(root) for root in roots)
    raise BackendError(f"there is no backend {name!r}: no folder of that name is in {looked}")


def _package(name: str, folder: Path) -> str:
    """Makes the folder a package, under its own name unless an installed module has that; returns its name."""
    sys.path.insert(0, str(folder.parent))
    sys.path.append(str(folder))
    importlib.invalidate_caches()
    taken = None if _is_ours(sys.modules.get(name)) else importlib.util.find_spec(name)
    if taken is None or taken.origin is None or taken.origin == str(folder / "__init__.py"):
        package = name  # nothing has the name, or (an origin of None) what would be found is the folder itself
    else:
        package = f"{name}_backend"
    for stale in [m for m in sys.modules if m == package or m.startswith(f"{package}.")]:
        del sys.modules[stale]
    module = types.ModuleType(package)
    module.__path__ = [str(folder)]
    sys.modules[package] = module
    return package


def _is_ours(module: types.ModuleType | None) -> bool:
    """Whether `_package` made it, for a backend loaded before; such a one has no spec to ask for."""
    return module is not None and module.__spec__ is None


def _import(package: str, path: Path) -> types.ModuleType:
    try:
        return importlib.import_module(f"{package}.{path.stem}")
    except (Exception, SystemExit) as error:
        raise BackendError(f"{path} could not be imported: {explain(error, path.parent)}") from error


def _class(module: types.ModuleType, name: str, path: Path) -> type:
    found = getattr(module, name, None)
    if not isinstance(found, type):
        raise BackendError(f"{path} defines no class {name}")
    return found


def _beside(package: str, folder: Path, stem: str, name: str) -> type | None:
    path = folder / f"{stem}.py"
    return _class(_import(package, path), name, path) if path.is_file() else None


def _handlers(module: types.ModuleType, path: Path) -> Handlers:
    flask_dict = getattr(module, "flask_dict", None)
    if not isinstance(flask_dict, Mapping):
        raise BackendError(f"{path} defines no dictionary flask_dict (method to endpoint to handler)")
    handlers: dict[str, dict[str, Handler]] = {}
    for method, named in flask_dict.items():
        if not isinstance(method, str) or method.upper() not in METHODS:
            raise BackendError(f"{path} has {method!r} in flask_dict, which is none of {', '.join(METHODS)}")
        if not isinstance(named, Mapping):
            raise BackendError(f"{path} has no dictionary of endpoint to handler in flask_dict[{method!r}]")
        for endpoint, handler in named.items():
            _check(endpoint, handler, f"flask_dict[{method!r}]", path)
            handlers.setdefault(method.upper(), {})[endpoint.strip("/")] = handler
    if not handlers:
        raise BackendError(f"{path} has no handler in flask_dict")
    return handlers


def _check(endpoint: object, handler: object, where: str, path: Path) -> None:
    if not isinstance(endpoint, str) or not endpoint.strip("/") or set(endpoint) & set("<>?#"):
        raise BackendError(f"{path} has {endpoint!r} in {where}, which can be no endpoint's name")
    if not callable(handler):
        raise BackendError(f"{path} has no function for {endpoint!r} in {where}")
    try:
        inspect.signature(handler).bind(None, None)
    except TypeError:
        raise BackendError(
            f"{path} has a handler for {endpoint!r} in {where} that does not take (backend, request)"
        ) from None
    except ValueError:
        return  # written in C: its parameters are not known
