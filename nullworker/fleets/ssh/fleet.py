"""The SSH fleet's verbs. Each host has an agent that runs the process fleet there; here is who goes where.

A host that does not answer is a shortage: nothing new goes to it, and what it has is listed as it was last known, for
its workers go on. Whether they live is what they report themselves.
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import functools
import logging
from typing import TYPE_CHECKING, Any

from nullworker.fleets.base import Fleet, FleetError, Instance, InstanceState, PlaceFree, ShortageError, no_notice
from nullworker.fleets.bundle import make_bundle
from nullworker.fleets.keyed_queue import KeyedQueue
from nullworker.fleets.processes import launch
from nullworker.fleets.processes.settings import unchecked_workers_paths
from nullworker.fleets.ssh.connection import Connection, NotConnectedError, ssh_command
from nullworker.fleets.ssh.placement import Placement, Placements, is_full, lacks, slots_of
from nullworker.fleets.ssh.settings import read_settings
from nullworker.wire import tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Coroutine, Mapping

    from nullworker.fleets.base import InstanceSpec, Notice
    from nullworker.fleets.bundle import Bundle
    from nullworker.fleets.ssh.settings import HostSettings, SshSettings

log = logging.getLogger(__name__)

#: What a host lists, and names of hosts.
Listed = list[dict[str, Any]]
Names = list[str]

PYTHON_MIN = (3, 10)
#: A start waits so long for all hosts, and takes those that have not answered by then for absent.
OPEN_S = 20.0
#: A host that takes longer to say what it has is listed as it was last known.
LIST_S = 20.0


class SshFleet:
    """Workers on machines that are reached by SSH; see docs/fleets-ssh.md."""

    def __init__(
        self,
        settings: SshSettings,
        mark: str,
        bundle: Bundle,
        on_exit: Callable[[int, str], None],
        on_notice: Callable[[Notice], None],
    ) -> None:
        """Use `open`."""
        self._settings = settings
        self._on_exit = on_exit
        self._on_notice = on_notice
        self._hosts = {host.host: host for host in settings.all_hosts}
        self._placements = Placements(settings.state_dir, mark)
        self._connections = {
            name: Connection(
                host,
                ssh_command(settings, host),
                _order(settings, host, mark, bundle),
                bundle,
                self._changed,
                functools.partial(self._exited, name),
            )
            for name, host in self._hosts.items()
        }
        self._was_up: set[str] = set()  # hosts that were connected since this fleet was opened
        self._is_opening = True
        self._creating: set[int] = set()
        self._announced: set[int] = set()  # workers whose end was announced
        self._forgotten: list[set[int]] = []  # for each list under way: the workers that were destroyed meanwhile
        self._queue = KeyedQueue()
        self._closing: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls,
        settings: Mapping[str, object],
        mark: str,
        on_exit: Callable[[int, str], None],
        on_notice: Callable[[Notice], None] = no_notice,
    ) -> SshFleet:
        """Connects to the hosts and adopts what runs there under ``mark``. See `Fleet.open` and `SshSettings`.

        A host that does not answer is tried again for as long as the fleet is open.

        Raises:
            FleetError: the settings are wrong, or the code for the hosts cannot be read.
        """
        if not mark:
            raise FleetError("The SSH fleet needs a mark that is not empty.")
        read = read_settings(settings)
        bundle = await asyncio.to_thread(make_bundle, read.workers_paths, read.code)
        fleet = cls(read, mark, bundle, on_exit, on_notice)
        fleet._placements.load()
        fleet._forget_other_hosts()
        await asyncio.gather(*(connection.open(OPEN_S) for connection in fleet._connections.values()))
        fleet._is_opening = False
        return fleet

    @classmethod
    def check_backend(cls, settings: Mapping[str, object], backend: str) -> None:
        """Looks for the folder of ``backend`` on this machine, which hosts get a copy of. See `Fleet.check_backend`.

        Raises:
            FleetError: it is neither installed nor in ``workers_path``.
        """
        launch.module_of(launch.workers_roots(unchecked_workers_paths(settings)), backend)

    async def create(self, spec: InstanceSpec) -> None:
        """Starts a worker on the host with the most free slots. See `Fleet.create`.

        Raises:
            ShortageError: no host that answers has room.
            FleetError: no host has what it wants, or could start it; or the answer was lost.
        """
        await self._enqueue(spec.worker_id, lambda: self._create(spec))

    async def start(self, worker_id: int) -> None:
        """Starts a worker again where it was. See `Fleet.start`.

        Raises:
            FleetError: there is no such instance, or its host does not answer or could not start it.
        """
        await self._enqueue(worker_id, lambda: self._on_host("start", worker_id, InstanceState.RUNNING))

    async def stop(self, worker_id: int) -> None:
        """Ends all processes of a worker, and keeps its directory on the host. See `Fleet.stop`.

        Raises:
            FleetError: there is no such instance, or its host does not answer, or a process survived.
        """
        await self._enqueue(worker_id, lambda: self._on_host("stop", worker_id, InstanceState.STOPPED))

    async def destroy(self, worker_id: int) -> None:
        """Ends a worker and removes what it left on its host. See `Fleet.destroy`.

        Raises:
            FleetError: its host does not answer, or not everything could be ended or removed.
        """
        await self._enqueue(worker_id, lambda: self._destroy(worker_id))

    async def list(self) -> list[Instance]:
        """All instances: as hosts say, and of hosts that do not answer, as they were last known. See `Fleet.list`."""
        self._check_open()
        await asyncio.gather(*(self._list_host(name) for name in self._connections))
        return [
            placement.instance(worker_id, self._hosts[placement.host])
            for worker_id in self._placements.ids()
            if (placement := self._placements.get(worker_id)) is not None and placement.is_sure
        ]

    async def read_log(self, worker_id: int, bytes_max: int) -> bytes:
        """The end of a worker's log, from its host; of one that is gone, from any. See `Fleet.read_log`.

        Raises:
            FleetError: its host does not answer.
        """
        self._check_open()
        placement = self._placements.get(worker_id)
        if placement is not None:
            return await self._read_log(placement.host, worker_id, bytes_max)
        up = [name for name, connection in self._connections.items() if connection.hello]
        found = await asyncio.gather(
            *(self._read_log(name, worker_id, bytes_max) for name in up), return_exceptions=True
        )
        return next((each for each in found if isinstance(each, bytes) and each), b"")

    async def close(self, *, destroy: bool = False, grace_s: float | None = None) -> None:
        """Waits for the verbs under way, and ends the connections. See `Fleet.close`."""
        if self._closing is None:
            self._closing = tasks.start(self._close(destroy=destroy, grace_s=grace_s))
        elif destroy and grace_s is not None:
            await self._hurry(grace_s)
        await asyncio.shield(self._closing)

    # --------------------------------------------------------------------------------------------------- each verb

    async def _create(self, spec: InstanceSpec) -> None:
        worker_id = spec.worker_id
        known = self._placements.get(worker_id)
        if known is not None:
            if not known.is_sure:
                await self._create_again(spec, known)
            return
        reasons: list[str] = []
        failures: list[FleetError] = []
        for name in self._candidates(spec, reasons):
            placement = Placement(
                host=name,
                endpoint=spec.endpoint,
                workergroup_id=spec.workergroup_id,
                cpus=spec.resources.cpus or 0.0,
                memory_gb=spec.resources.memory_gb or 0.0,
            )
            self._placements.put(worker_id, placement)
            self._save()
            try:
                await self._create_on(name, spec, placement)
            except FleetError as error:
                if not error.definite:
                    raise
                self._forget(worker_id)
                text = str(error).rstrip(".")
                if isinstance(error, (ShortageError, NotConnectedError)):
                    reasons.append(f"{name}: {text[:1].lower()}{text[1:]}")
                else:
                    failures.append(FleetError(f"Worker {worker_id} was not created on {name}: {text}."))
            else:
                return
        if failures and not reasons:
            raise failures[0]
        reasons += (str(failure).rstrip(".") for failure in failures)
        raise ShortageError(f"No host has room for worker {worker_id}: {_shortened(reasons)}.")

    async def _create_again(self, spec: InstanceSpec, placement: Placement) -> None:
        """The answer to its creation was lost: it may be there."""
        try:
            await self._create_on(placement.host, spec, placement)
        except NotConnectedError as error:
            raise FleetError(str(error), definite=False) from error
        except FleetError as error:
            if error.definite:
                self._forget(spec.worker_id)
            raise

    async def _create_on(self, name: str, spec: InstanceSpec, placement: Placement) -> None:
        self._creating.add(spec.worker_id)
        try:
            await self._connections[name].call("create", spec=_fields(spec))
            placement.is_sure = True
            self._announced.discard(spec.worker_id)
            self._save()
        finally:
            self._creating.discard(spec.worker_id)

    def _candidates(self, spec: InstanceSpec, reasons: Names) -> Names:
        """The hosts that have room, the one with the most free slots first; notes why the others have none.

        Raises:
            FleetError: no host has what is wanted, whatever is free.
        """
        asked = spec.resources.gpus
        wanted = self._settings.gpus_per_worker if asked is None else asked
        free: dict[str, int] = {}
        unfit: list[str] = []
        for name, host in self._hosts.items():
            connection = self._connections[name]
            gpus = None if connection.hello is None else connection.hello["gpus"]
            placed = [each for _, each in self._placements.on(name)]
            if lack := lacks(host, spec.resources):
                unfit.append(f"{name} {lack}")
            elif gpus is None:
                reasons.append(f"{name} does not answer: {connection.why}")
            elif gpus < wanted:
                unfit.append(f"{name} has {gpus} GPU{'' if gpus == 1 else 's'}, and {wanted} are wanted")
            else:
                slots = slots_of(host, gpus, self._settings.gpus_per_worker)
                if full := is_full(host, slots, placed, spec):
                    reasons.append(f"{name} {full}")
                else:
                    free[name] = slots - len(placed)
        if len(unfit) == len(self._hosts):
            raise FleetError(f"No host can have worker {spec.worker_id}: {_shortened(unfit)}.")
        return sorted(free, key=lambda name: -free[name])

    async def _on_host(self, verb: str, worker_id: int, then: InstanceState) -> None:
        placement = self._placements.get(worker_id)
        if placement is None:
            raise FleetError(f"The SSH fleet has no instance of worker {worker_id}.")
        await self._connections[placement.host].call(verb, worker_id=worker_id)
        placement.state, placement.detail, placement.is_sure = then.value, "", True
        self._announced.discard(worker_id)
        self._save()

    async def _destroy(self, worker_id: int) -> None:
        placement = self._placements.get(worker_id)
        if placement is not None:
            await self._connections[placement.host].call("destroy", worker_id=worker_id)
            self._forget(worker_id)

    async def _read_log(self, name: str, worker_id: int, bytes_max: int) -> bytes:
        said = await self._connections[name].call("read_log", worker_id=worker_id, bytes_max=bytes_max)
        return base64.b64decode(said)

    # ------------------------------------------------------------------------------------------ what hosts say

    async def _list_host(self, name: str) -> None:
        before = {worker_id for worker_id, _ in self._placements.on(name)} - self._creating
        forgotten: set[int] = set()
        self._forgotten.append(forgotten)
        try:
            listed = await self._connections[name].call("list", limit_s=LIST_S)
        except NotConnectedError:
            return  # what it has is listed as it was last known
        except FleetError as error:
            log.warning("host %s did not say what it has: %s", name, error)
            return
        finally:
            self._forgotten.remove(forgotten)
        self._take_list(name, listed, before, forgotten)

    def _take_list(self, name: str, listed: Listed, before: set[int], forgotten: Container[int] = ()) -> None:
        """Takes what a host has for the truth.

        Args:
            name: the host.
            listed: what it lists.
            before: the workers that were placed there when it was asked: those that are not listed are gone.
            forgotten: the workers that were destroyed since.
        """
        there = {each["worker_id"]: each for each in listed if each["worker_id"] not in forgotten}
        for worker_id in before - there.keys() - self._creating:
            self._placements.remove(worker_id)
        for worker_id, each in there.items():
            placement = self._placements.get(worker_id)
            if placement is not None and placement.host != name:
                log.warning("worker %d is on host %s, and on %s as well", worker_id, placement.host, name)
                continue
            if placement is None:
                placement = Placement(host=name, endpoint=each["endpoint"], workergroup_id=each["workergroup_id"])
                self._placements.put(worker_id, placement)
            placement.state, placement.detail = each["state"], each["detail"]
            placement.address, placement.is_sure = each["address"], True
        self._save()

    def _changed(self, connection: Connection) -> None:
        """A host is connected, or is not any more."""
        name = connection.name
        if connection.hello is None:
            log.warning("host %s does not answer: %s", name, connection.why, extra={"action": "host_down"})
            return
        ran = {i for i, each in self._placements.on(name) if each.state == InstanceState.RUNNING.value}
        listed = connection.hello["instances"]
        self._take_list(name, listed, {i for i, _ in self._placements.on(name)} - self._creating)
        if name not in self._was_up:
            self._was_up.add(name)
            if not self._is_opening:
                self._on_notice(PlaceFree())
            return
        log.warning("host %s answers again", name, extra={"action": "host_up"})
        for each in listed:  # what ended while it was not connected, and this fleet was open
            if each["worker_id"] in ran and each["state"] == InstanceState.EXITED.value:
                self._exited(name, each["worker_id"], each["detail"])
        self._on_notice(PlaceFree())

    def _exited(self, name: str, worker_id: int, detail: str) -> None:
        placement = self._placements.get(worker_id)
        if placement is None or placement.host != name or worker_id in self._announced:
            return
        placement.state, placement.detail = InstanceState.EXITED.value, detail
        self._announced.add(worker_id)
        self._save()
        if self._closing is None:
            try:
                self._on_exit(worker_id, detail)
            except Exception:
                log.exception("The callback for the end of worker %d failed.", worker_id)

    # ------------------------------------------------------------------------------------------------ housekeeping

    def _forget(self, worker_id: int) -> None:
        self._placements.remove(worker_id)
        self._announced.discard(worker_id)
        for forgotten in self._forgotten:
            forgotten.add(worker_id)
        self._save()

    def _forget_other_hosts(self) -> None:
        for name in self._placements.hosts() - self._hosts.keys():
            left = [worker_id for worker_id, _ in self._placements.on(name)]
            log.warning(
                "host %s is no longer in [fleet.ssh], and workers %s may still run there: they are not known any more",
                name,
                ", ".join(map(str, left)),
            )
            for worker_id in left:
                self._placements.remove(worker_id)

    def _save(self) -> None:
        """Writes where workers are; where that fails, hosts tell it again."""
        try:
            self._placements.save()
        except OSError as error:
            log.warning("Where workers of the SSH fleet are cannot be kept (%s).", error)

    async def _enqueue(self, worker_id: int, call: Callable[[], Coroutine[None, None, None]]) -> None:
        self._check_open()
        await self._queue.run(worker_id, call)

    def _check_open(self) -> None:
        if self._closing is not None:
            raise FleetError("The SSH fleet is closed.")

    async def _close(self, *, destroy: bool, grace_s: float | None) -> None:
        await self._queue.wait_idle()
        failures: list[FleetError] = []
        if destroy:
            ended = await asyncio.gather(
                *(self._end_host(name, grace_s) for name in self._hosts), return_exceptions=True
            )
            failures += [each for each in ended if isinstance(each, FleetError)]
        await asyncio.gather(*(connection.close() for connection in self._connections.values()))
        if failures:
            raise failures[0]

    async def _end_host(self, name: str, grace_s: float | None) -> None:
        """Destroys everything under the mark on a host. Raises FleetError."""
        left = [worker_id for worker_id, _ in self._placements.on(name)]
        if not left and self._connections[name].hello is None:
            return
        try:
            await self._connections[name].call("end", grace_s=grace_s)
        except NotConnectedError as error:
            raise FleetError(f"Workers {', '.join(map(str, left))} go on: {error}") from error
        for worker_id in left:
            self._forget(worker_id)

    async def _hurry(self, grace_s: float) -> None:
        up = [connection for connection in self._connections.values() if connection.hello]
        calls = (connection.call("end", grace_s=grace_s) for connection in up)
        await asyncio.gather(*calls, return_exceptions=True)


def _order(settings: SshSettings, host: HostSettings, mark: str, bundle: Bundle) -> dict[str, Any]:
    """What the bootstrap on a host is told."""
    agent = {
        "mark": mark,
        "has_own_code": bundle.has_own_code,
        "consumer_dir": settings.consumer_dir,
        "address": host.address,
        "gpus": host.gpus,
        "gpus_per_worker": settings.gpus_per_worker,
        "grace_s": settings.grace_s,
        "log_bytes_max": settings.log_bytes_max,
        "logs_kept": settings.logs_kept,
    }
    return {
        "code": bundle.name,
        "bytes": len(bundle.content),
        "python": settings.python,
        "python_min": PYTHON_MIN,
        "install": settings.install,
        "requirements": bundle.requirements,
        "root": settings.remote_dir,
        "agent": agent,
    }


def _fields(spec: InstanceSpec) -> dict[str, Any]:
    """A spec as the agent takes it."""
    return {**dataclasses.asdict(spec), "env": dict(spec.env)}


def _shortened(reasons: Names) -> str:
    """Some reasons as one clause, for a message that is read by people."""
    shown = "; ".join(reasons[:3])
    return shown if len(reasons) <= 3 else f"{shown}; and {len(reasons) - 3} more"


_: type[Fleet] = SshFleet
