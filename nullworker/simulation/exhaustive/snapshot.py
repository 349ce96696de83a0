"""Saves an engine's state and brings it back, in a few microseconds.

A snapshot keeps the objects themselves and the values of all of their fields; tables are copied. Bringing it back
writes the values into the same objects, so that every reference between them holds again; objects that came later are
reached by nothing any more. The functions that do so are generated from the classes' own fields: a field that is added
to the core is saved without a change here. What a class's fields hold is looked at once, on an object of it.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Any

from nullworker.core import events
from nullworker.core.engine import Engine
from nullworker.core.parameters import TESTED_PARAMETERS, WorkergroupSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    Save = Callable[[Any], tuple[Any, ...]]
    Load = Callable[[tuple[Any, ...]], None]

_TABLES = (dict, OrderedDict, list, deque)
#: Values that are shared: they do not change, or are saved by themselves.
_SHARED = (WorkergroupSpec,)
#: Saved by themselves; and those that the next event replaces.
_STATE_SKIPPED = frozenset({"timers", "listening", "out", "changed_workers", "changed_reservations"})


def _is_part(value: Any) -> bool:
    """Whether a field holds an object that belongs to its owner alone."""
    parameters: Any = getattr(type(value), "__dataclass_params__", None)
    return parameters is not None and not parameters.frozen and type(value).__module__.startswith(_PARTS_IN)


_PARTS_IN = ("nullworker.core.reconcile.", "nullworker.core.waiting_line")


def _names(sample: Any) -> list[str]:
    if dataclasses.is_dataclass(sample):
        return [field.name for field in dataclasses.fields(sample)]
    slots = getattr(type(sample), "__slots__", None)
    return list(slots) if slots is not None else list(vars(sample))


def _paths(sample: Any, owner: str, skipped: frozenset[str]) -> list[tuple[str, bool]]:
    """(where, whether it is a table) of every value that is to be saved of an object."""
    paths: list[tuple[str, bool]] = []
    for name in _names(sample):
        if name in skipped:
            continue
        value = getattr(sample, name)
        if _is_part(value) or type(value).__name__ == "FleetOrder":
            paths += _paths(value, f"{owner}.{name}", frozenset())
        else:
            paths.append((f"{owner}.{name}", isinstance(value, _TABLES)))
    return paths


def saver_and_loader(sample: Any, skipped: frozenset[str] = frozenset()) -> tuple[Save, Load]:
    """Two functions for objects of the class of ``sample``: what is saved of one, and its bringing back."""
    paths = _paths(sample, "o", skipped)
    saved = ", ".join(f"{path}.copy()" if table else path for path, table in paths)
    targets = ", ".join(f"t{number}" if table else path for number, (path, table) in enumerate(paths))
    copies = "".join(f"\n    {path} = t{number}.copy()" for number, (path, table) in enumerate(paths) if table)
    source = (
        f"def save(o):\n    return (o, {saved})\n"
        f"def load(saved):\n    o = saved[0]\n    (_, {targets}) = saved{copies}\n"
    )
    made: dict[str, Any] = {}
    exec(source, made)  # noqa: S102 - of the classes' own fields
    return made["save"], made["load"]


def _make() -> tuple[Callable[[Engine], tuple[Any, ...]], Callable[[tuple[Any, ...]], Engine]]:
    """`save_engine` and `load_engine`, by an engine that has one object of each class."""
    sample = Engine()
    sample.handle(events.EndpointPut(1, "sample", TESTED_PARAMETERS), 0.0)
    sample.handle(events.WorkergroupPut(WorkergroupSpec(1, 1, "sample")), 0.0)
    sample.handle(events.Asked(1, 1, 1.0), 0.0)
    sample.handle(events.FleetListed("sample", 0.0, ((1_000, "running"),)), 0.0)
    state = sample.state
    save_itself, load_itself = saver_and_loader(sample, frozenset({"state"}))
    save_state, load_state = saver_and_loader(state, _STATE_SKIPPED)
    save_timers, load_timers = saver_and_loader(state.timers)
    save_listening, load_listening = saver_and_loader(state.listening)
    save_endpoint, load_endpoint = saver_and_loader(state.endpoints[1])
    save_group, load_group = saver_and_loader(state.workergroups[1])
    save_worker, load_worker = saver_and_loader(state.workers[1])
    save_reservation, load_reservation = saver_and_loader(state.reservations[1])
    save_unknown, load_unknown = saver_and_loader(next(iter(state.unknown_instances.values())))

    def save(engine: Engine) -> tuple[Any, ...]:
        state = engine.state
        reservations = [save_reservation(r) for r in state.reservations.values()]
        for worker in state.workers.values():
            reservations += [save_reservation(r) for r in worker.held.values() if r.delivery.orphan]
        return (
            save_itself(engine),
            save_state(state),
            save_timers(state.timers),
            save_listening(state.listening),
            [save_endpoint(endpoint) for endpoint in state.endpoints.values()],
            [save_group(group) for group in state.workergroups.values()],
            [save_worker(worker) for worker in state.workers.values()],
            reservations,
            [save_unknown(unknown) for unknown in state.unknown_instances.values()],
        )

    def load(saved: tuple[Any, ...]) -> Engine:
        engine: Engine
        itself, state, timers, listening, endpoints, groups, workers, reservations, unknowns = saved
        engine = itself[0]
        load_itself(itself)
        load_state(state)
        load_timers(timers)
        load_listening(listening)
        for each in endpoints:
            load_endpoint(each)
        for each in groups:
            load_group(each)
        for each in workers:
            load_worker(each)
        for each in reservations:
            load_reservation(each)
        for each in unknowns:
            load_unknown(each)
        return engine

    return save, load


save_engine, load_engine = _make()
