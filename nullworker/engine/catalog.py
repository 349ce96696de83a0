"""The endpoints and workergroups that an engine serves, with what the core does not need to know of them.

The core has their parameters; the catalogue has names, keys' owners, backends, consumers, and when each was made. Every
change goes through here: it is checked, then given to the core, then stored.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from nullworker.core.events import (
    EndpointDeleted,
    EndpointPut,
    WorkergroupDeleted,
    WorkergroupPut,
    WorkersUpdated,
)
from nullworker.core.parameters import EndpointState, ParameterError, Parameters
from nullworker.engine.config import NULL_BACKEND, EndpointConfig, WorkergroupConfig
from nullworker.wire.errors import NotFoundError, UnwritableError, WireError

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from nullworker.core.events import Event
    from nullworker.wire.types import EndpointBody, WorkergroupBody

log = logging.getLogger(__name__)

ENDPOINTS_MAX = 1_000
WORKERGROUPS_MAX = 10_000


@dataclass(slots=True)
class EndpointEntry:
    """An endpoint of the catalogue."""

    endpoint_id: int
    name: str
    parameters: Parameters
    created_at_s: float  # Unix time
    #: Its part of the configuration file, when that was last applied; "": it is not from a file.
    from_file: str = ""
    deleting: bool = False
    forced: bool = False  # deleted with all that it holds


@dataclass(slots=True)
class WorkergroupEntry:
    """A workergroup of the catalogue."""

    workergroup_id: int
    endpoint_id: int
    config: WorkergroupConfig
    created_at_s: float
    #: What `vastai` sent and we only keep (search parameters, launch arguments, …).
    vast: dict[str, Any]
    position: int = -1  # its place in the configuration file; -1: it is not from a file
    deleting: bool = False


class CatalogStore(Protocol):
    """Where the catalogue is stored."""

    def put_endpoint(self, endpoint: EndpointEntry) -> None:
        """Stores an endpoint."""

    def delete_endpoint(self, endpoint_id: int) -> None:
        """Removes it."""

    def put_workergroup(self, workergroup: WorkergroupEntry) -> None:
        """Stores a workergroup."""

    def delete_workergroup(self, workergroup_id: int) -> None:
        """Removes it."""

    def reserve_id(self, next_id: int) -> bool:
        """Makes sure, now, that no engine after this one gives an id below ``next_id``; whether it went well."""

    def flush(self) -> None:
        """Waits until all changes so far are committed, or for a bounded time."""


class Catalog:
    """All endpoints and workergroups."""

    def __init__(
        self,
        handle: Callable[[Event], object],
        wall_s: Callable[[], float],
        store: CatalogStore | None = None,
        fleets: Callable[[str], bool] = lambda _: True,
        backends: Callable[[str, str], bool] = lambda _fleet, _backend: True,
    ) -> None:
        """Begins with no endpoint.

        Args:
            handle: feeds the core.
            wall_s: Unix time.
            store: where each change is written; None: nowhere.
            fleets: whether there is a fleet of a name.
            backends: whether a fleet, by name, can run a backend.
        """
        self._handle = handle
        self._wall_s = wall_s
        self._store = store
        self._knows_backend = backends
        self._knows_fleet = fleets
        self.endpoints: dict[int, EndpointEntry] = {}
        self.workergroups: dict[int, WorkergroupEntry] = {}
        #: Deleted, and not gone yet, because some of their workers are still held. They are not shown.
        self._leaving: dict[int, WorkergroupEntry] = {}
        self.by_name: dict[str, EndpointEntry] = {}
        #: Endpoints that an earlier configuration had, and the one that was applied last has not.
        self.left_over: set[int] = set()
        self.next_id = 1  # of endpoints and workergroups; never used twice

    # --------------------------------------------------------------------------------------------------------- lookups

    def endpoint(self, endpoint_id: int) -> EndpointEntry:
        """The endpoint with that id.

        Raises:
            NotFoundError: there is none.
        """
        entry = self.endpoints.get(endpoint_id)
        if entry is None:
            raise NotFoundError(f"There is no endpoint {endpoint_id}; `vastai show endpoints` lists them.")
        return entry

    def workergroup(self, workergroup_id: int) -> WorkergroupEntry:
        """The workergroup with that id.

        Raises:
            NotFoundError: there is none.
        """
        entry = self.workergroups.get(workergroup_id)
        if entry is None:
            raise NotFoundError(f"There is no workergroup {workergroup_id}; `vastai show workergroups` lists them.")
        return entry

    def has_workergroup(self, workergroup_id: int) -> bool:
        """Whether there is such a workergroup, or one that is being deleted and is not gone yet."""
        return workergroup_id in self.workergroups or workergroup_id in self._leaving

    # ------------------------------------------------------------------------------------------------------- endpoints

    def create_endpoint(self, body: EndpointBody) -> EndpointEntry:
        """Makes an endpoint of what the body gives, with the documented defaults for the rest.

        Raises:
            WireError: a value is out of its bounds, the name is missing or taken, or there are too many.
        """
        if body.endpoint_name is None:
            raise WireError("endpoint_name", "endpoint_name is missing: an endpoint needs a name.")
        if len(self.endpoints) >= ENDPOINTS_MAX:
            raise WireError("", f"There are {ENDPOINTS_MAX} endpoints, and that is the most; delete one first.")
        self._check_name(body.endpoint_name, None)
        return self._add_endpoint(body.endpoint_name, _parameters(Parameters(), body))

    def _check_name(self, name: str, own: EndpointEntry | None) -> None:
        taken = self.by_name.get(name)
        if taken is not None and taken is not own:
            still = ", which is being deleted and still has held workers" if taken.deleting else ""
            raise WireError("endpoint_name", f"endpoint_name {name} is taken by endpoint {taken.endpoint_id}{still}.")

    def _add_endpoint(self, name: str, parameters: Parameters, from_file: str = "") -> EndpointEntry:
        entry = EndpointEntry(self._new_id(), name, parameters, self._wall_s(), from_file)
        self._put_endpoint(entry)
        return entry

    def _put_endpoint(self, entry: EndpointEntry) -> None:
        self.endpoints[entry.endpoint_id] = entry
        self.by_name[entry.name] = entry
        self._handle(EndpointPut(entry.endpoint_id, entry.name, entry.parameters))
        if self._store is not None:
            self._store.put_endpoint(entry)

    def update_endpoint(self, endpoint_id: int, body: EndpointBody) -> EndpointEntry:
        """Changes what the body gives, at once.

        Raises:
            NotFoundError: there is no such endpoint.
            WireError: a value is out of its bounds, or the new name is taken.
        """
        entry = self.endpoint(endpoint_id)
        if entry.deleting:
            raise WireError("", f"Endpoint {endpoint_id} is being deleted; it cannot be changed any more.")
        parameters = _parameters(entry.parameters, body)
        name = body.endpoint_name or entry.name
        self._check_name(name, entry)
        self.by_name.pop(entry.name, None)
        entry.name, entry.parameters = name, parameters
        self._put_endpoint(entry)
        return entry

    def parameters_after(self, endpoint_id: int, body: EndpointBody) -> Parameters:
        """The parameters that an endpoint would have after `update_endpoint`; changes nothing.

        Raises:
            NotFoundError: there is no such endpoint.
            WireError: a value is out of its bounds, or the endpoint is being deleted.
        """
        entry = self.endpoint(endpoint_id)
        if entry.deleting:
            raise WireError("", f"Endpoint {endpoint_id} is being deleted; it cannot be changed any more.")
        return _parameters(entry.parameters, body)

    def delete_endpoint(self, endpoint_id: int, *, force: bool) -> None:
        """Deletes an endpoint: its held workers are waited for, unless ``force``.

        Raises:
            NotFoundError: there is no such endpoint.
        """
        entry = self.endpoint(endpoint_id)
        entry.deleting, entry.forced = True, entry.forced or force
        if self._store is not None:
            self._store.put_endpoint(entry)
        self._handle(EndpointDeleted(endpoint_id, force))

    def endpoint_gone(self, endpoint_id: int) -> None:
        """Called when the last worker of a deleted endpoint is gone."""
        entry = self.endpoints.pop(endpoint_id, None)
        if entry is None:
            return
        if self.by_name.get(entry.name) is entry:
            del self.by_name[entry.name]
        for table in (self.workergroups, self._leaving):
            for group in [g for g in table.values() if g.endpoint_id == endpoint_id]:
                self._forget_workergroup(table, group.workergroup_id)
        if self._store is not None:
            self._store.delete_endpoint(endpoint_id)

    # ---------------------------------------------------------------------------------------------------- workergroups

    def create_workergroup(self, body: WorkergroupBody) -> WorkergroupEntry:
        """Makes a workergroup; ``template_hash`` names the backend, ``launch_args`` may hold ``--fleet`` and others.

        Raises:
            WireError: a value is wrong, or the endpoint or backend is unknown.
        """
        endpoint = self._endpoint_of(body)
        if len(self.workergroups) >= WORKERGROUPS_MAX:
            raise WireError("", f"There are {WORKERGROUPS_MAX} workergroups, and that is the most; delete one first.")
        backend = body.template_hash or NULL_BACKEND
        config = WorkergroupConfig(backend=backend, occupancy=1 if backend == NULL_BACKEND else None)
        return self._add_workergroup(endpoint.endpoint_id, self._checked(_grouped(config, body)), _kept(body))

    def _endpoint_of(self, body: WorkergroupBody) -> EndpointEntry:
        if body.endpoint_id is not None:
            entry = self.endpoints.get(body.endpoint_id)
            if entry is None:
                raise WireError("endpoint_id", f"endpoint_id {body.endpoint_id} names no endpoint.")
        elif body.endpoint_name is not None:
            entry = self.by_name.get(body.endpoint_name)
            if entry is None:
                raise WireError("endpoint_name", f"endpoint_name {body.endpoint_name} names no endpoint.")
        else:
            raise WireError("endpoint_id", "endpoint_id or endpoint_name is missing: a workergroup needs an endpoint.")
        if entry.deleting:
            raise WireError("endpoint_id", f"Endpoint {entry.name} is being deleted.")
        return entry

    def _checked(self, config: WorkergroupConfig) -> WorkergroupConfig:
        if not self._knows_fleet(config.fleet):
            raise WireError("fleet", f"There is no fleet called {config.fleet} here.")
        if not self._knows_backend(config.fleet, config.backend):
            raise WireError(
                "template_hash", f"template_hash {config.backend} names no backend; `null` is the one for reservations."
            )
        try:
            config.to_core(0, 0)
        except ParameterError as error:
            raise WireError(error.name, f"{error}.") from None
        return config

    def _add_workergroup(
        self, endpoint_id: int, config: WorkergroupConfig, vast: dict[str, Any], position: int = -1
    ) -> WorkergroupEntry:
        entry = WorkergroupEntry(self._new_id(), endpoint_id, config, self._wall_s(), vast, position)
        self._put_workergroup(entry)
        return entry

    def _put_workergroup(self, entry: WorkergroupEntry) -> None:
        self.workergroups[entry.workergroup_id] = entry
        self._handle(WorkergroupPut(entry.config.to_core(entry.workergroup_id, entry.endpoint_id)))
        if self._store is not None:
            self._store.put_workergroup(entry)

    def try_again(self, workergroup_id: int) -> None:
        """Has the core forget the failures of a workergroup, and try it again at once if it is wanted."""
        entry = self.workergroups.get(workergroup_id)
        if entry is not None:
            self._handle(WorkergroupPut(entry.config.to_core(entry.workergroup_id, entry.endpoint_id)))

    def update_workergroup(self, workergroup_id: int, body: WorkergroupBody) -> WorkergroupEntry:
        """Changes what the body gives; workers that exist stay as they are until they are updated.

        Raises:
            NotFoundError: there is no such workergroup.
            WireError: a value is wrong, or it would move to another endpoint.
        """
        entry = self.workergroup(workergroup_id)
        if (body.endpoint_id is not None or body.endpoint_name is not None) and (
            self._endpoint_of(body).endpoint_id != entry.endpoint_id
        ):
            raise WireError("endpoint_id", "A workergroup stays with its endpoint; create another for the other one.")
        config = entry.config if body.template_hash is None else replace(entry.config, backend=body.template_hash)
        entry.config = self._checked(_grouped(config, body))
        entry.vast.update(_kept(body))
        self._put_workergroup(entry)
        return entry

    def delete_workergroup(self, workergroup_id: int) -> None:
        """Deletes a workergroup; its held workers go when they are released.

        Raises:
            NotFoundError: there is no such workergroup.
        """
        entry = self.workergroup(workergroup_id)
        entry.deleting = True
        self._leaving[workergroup_id] = self.workergroups.pop(workergroup_id)
        if self._store is not None:
            self._store.put_workergroup(entry)  # until the last of it is gone: a restart must know its workers again
        self._handle(WorkergroupDeleted(workergroup_id))

    def workergroups_gone(self, are_left: Container[int]) -> None:
        """Called when the last worker of a deleted workergroup is gone; ``are_left`` has the ids that remain."""
        for workergroup_id in [number for number in self._leaving if number not in are_left]:
            self._forget_workergroup(self._leaving, workergroup_id)

    def _forget_workergroup(self, table: dict[int, WorkergroupEntry], workergroup_id: int) -> None:
        del table[workergroup_id]
        if self._store is not None:
            self._store.delete_workergroup(workergroup_id)

    def update_workers(self, workergroup_id: int, *, cancel: bool) -> None:
        """Begins or cancels a rolling update of a workergroup.

        Raises:
            NotFoundError: there is no such workergroup.
        """
        self.workergroup(workergroup_id)
        self._handle(WorkersUpdated(workergroup_id, cancel))
        if self._store is not None:
            self._store.flush()  # a kill after the answer must not undo it

    # -------------------------------------------------------------------------------------------------- file and store

    def restore(self, endpoints: list[EndpointEntry], workergroups: list[WorkergroupEntry], next_id: int) -> None:
        """Takes over what the store has.

        `resume_deletions` follows once the core knows the workers.

        Args:
            endpoints: all of them.
            workergroups: all of them.
            next_id: the first id that was never used.
        """
        self.next_id = next_id
        for endpoint in endpoints:
            self.endpoints[endpoint.endpoint_id] = endpoint
            self.by_name[endpoint.name] = endpoint
            self._handle(EndpointPut(endpoint.endpoint_id, endpoint.name, endpoint.parameters))
        for group in workergroups:
            table = self._leaving if group.deleting else self.workergroups
            table[group.workergroup_id] = group
            self._handle(WorkergroupPut(group.config.to_core(group.workergroup_id, group.endpoint_id)))

    def resume_deletions(self) -> None:
        """Begins the deletions again that were not complete when the engine ended."""
        for group in list(self._leaving.values()):
            self._handle(WorkergroupDeleted(group.workergroup_id))
        for endpoint in list(self.endpoints.values()):
            if endpoint.deleting:
                self._handle(EndpointDeleted(endpoint.endpoint_id, endpoint.forced))

    def apply_file(self, configs: tuple[EndpointConfig, ...]) -> None:
        """Applies the configuration file: an endpoint whose part of it has changed since the last time is changed.

        Raises:
            WireError: a backend or fleet is unknown.
        """
        for config in configs:
            from_file = _from_file(config)
            for group in config.workergroups:
                self._checked(group)
            entry = self.by_name.get(config.name)
            if entry is None:
                entry = self._add_endpoint(config.name, config.parameters, from_file)
            elif entry.deleting:
                continue
            elif entry.from_file != from_file:
                entry.parameters, entry.from_file = config.parameters, from_file
                self._put_endpoint(entry)
            else:
                continue
            self._apply_groups(entry, config.workergroups)
        named = {config.name for config in configs}
        left = [e for e in self.by_name.values() if e.from_file and e.name not in named and not e.deleting]
        self.left_over = {entry.endpoint_id for entry in left}
        for entry in left:
            log.warning(
                "the endpoint %s is no longer in the configuration, and goes on as it was, with the workers of its "
                "min_load: put it back, or delete it (vastai delete endpoint %d)",
                entry.name,
                entry.endpoint_id,
                extra={"action": "endpoint_left_over", "endpoint_id": entry.endpoint_id},
            )

    def _apply_groups(self, endpoint: EndpointEntry, configs: tuple[WorkergroupConfig, ...]) -> None:
        present = {
            g.position: g
            for g in self.workergroups.values()
            if g.endpoint_id == endpoint.endpoint_id and g.position >= 0
        }
        for position, config in enumerate(configs):
            known = present.pop(position, None)
            if known is None:
                self._add_workergroup(endpoint.endpoint_id, config, {}, position)
            elif known.config != config:
                known.config = config
                self._put_workergroup(known)
        for group in present.values():
            self.delete_workergroup(group.workergroup_id)

    def _new_id(self) -> int:
        new = self.next_id
        if self._store is not None and not self._store.reserve_id(new + 1):
            # Were it made all the same and forgotten at a kill, another would get its id, and with it its key.
            raise UnwritableError("The store cannot be written (the disk may be full): nothing was made.")
        self.next_id += 1
        return new


def _parameters(base: Parameters, body: EndpointBody) -> Parameters:
    names = [field.name for field in fields(Parameters) if field.name != "state"]
    given: dict[str, Any] = {name: value for name in names if (value := getattr(body, name)) is not None}
    if body.min_workers is not None and body.cold_workers is None:
        given["cold_workers"] = body.min_workers
    if body.endpoint_state is not None:
        given["state"] = EndpointState(body.endpoint_state)
    try:
        return replace(base, **given)
    except ParameterError as error:
        raise WireError(error.name, f"{error}.") from None


def _grouped(config: WorkergroupConfig, body: WorkergroupBody) -> WorkergroupConfig:
    return config if body.max_workers is None else replace(config, max_workers=body.max_workers)


def _kept(body: WorkergroupBody) -> dict[str, Any]:
    names = ("template_hash", "template_id", "search_params", "launch_args", "gpu_ram")
    return {name: value for name in names if (value := getattr(body, name)) is not None}


def _from_file(config: EndpointConfig) -> str:
    return msgspec.json.encode(config, order="deterministic").decode()
