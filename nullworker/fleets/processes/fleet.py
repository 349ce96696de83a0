"""The process fleet's verbs. One worker is one session of processes, with its own directory, ports and log.

The truth is on disk and in the kernel: each instance's record names its first process, and the kernel knows whether
that runs. What is kept in memory can be rebuilt from both, which the next engine does when it opens the fleet.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from nullworker.fleets.base import Fleet, FleetError, no_notice
from nullworker.fleets.keyed_queue import KeyedQueue
from nullworker.fleets.processes import launch, logs, proc
from nullworker.fleets.processes.certificate import MachineCertificate
from nullworker.fleets.processes.ending import Endings
from nullworker.fleets.processes.gpus import GpuPool
from nullworker.fleets.processes.instances import (
    ProcessInstance,
    describe_end,
    exists,
    find_instances,
    has_orphans,
    in_words,
    list_existing,
)
from nullworker.fleets.processes.proc import Belongings
from nullworker.fleets.processes.records import Directory, Record
from nullworker.fleets.processes.settings import read_settings, unchecked_workers_paths
from nullworker.wire import tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping

    from nullworker.fleets.base import Instance, InstanceSpec, Notice
    from nullworker.fleets.processes.proc import Process
    from nullworker.fleets.processes.settings import ProcessSettings

T = TypeVar("T")
log = logging.getLogger(__name__)

#: How often the sizes of logs are checked.
LOG_LOOK_INTERVAL_S = 1.0


class ProcessFleet:
    """Workers as processes of this machine; see docs/fleets.md for settings, environment and what is kept where."""

    def __init__(self, settings: ProcessSettings, mark: str, on_exit: Callable[[int, str], None]) -> None:
        """Use `open`."""
        self._settings = settings
        self._on_exit = on_exit
        self._directory = Directory(settings.state_dir, mark)
        self._roots = launch.workers_roots(settings.workers_paths)
        self._environment = launch.base_environment(settings, self._roots, os.environ)
        self._ports = launch.PortPool(settings.host)
        self._gpus = GpuPool(settings.gpu_names(os.environ), settings.gpus_per_worker)
        self._certificate = MachineCertificate(settings.host)
        self._launchers = ThreadPoolExecutor(settings.start_limit, "fleet-launch")
        self._helpers = ThreadPoolExecutor(2, "fleet-help")  # for calls that must not wait behind a thousand launches
        self._endings = Endings(self._helpers, settings.grace_s)
        self._instances: dict[int, ProcessInstance] = {}
        self._queue = KeyedQueue()
        self._trimming: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls,
        settings: Mapping[str, object],
        mark: str,
        on_exit: Callable[[int, str], None],
        on_notice: Callable[[Notice], None] = no_notice,  # noqa: ARG003 - a machine gives none
    ) -> ProcessFleet:
        """Opens the fleet and adopts what it finds running under ``mark``. See `Fleet.open` and `ProcessSettings`.

        Raises:
            FleetError: the settings are wrong, the state directory cannot be used, or the machine is no Linux.
        """
        if not mark:
            raise FleetError("The process fleet needs a mark that is not empty.")
        fleet = cls(read_settings(settings), mark, on_exit)
        try:
            await fleet._adopt()
        except OSError as error:
            await fleet.close()
            raise FleetError(f"The process fleet cannot be opened: {in_words(error)}.") from error
        fleet._trimming = tasks.start(tasks.repeat(fleet._trim_logs, LOG_LOOK_INTERVAL_S, "Cutting long logs"))
        return fleet

    @classmethod
    def check_backend(cls, settings: Mapping[str, object], backend: str) -> None:
        """Looks for the folder of ``backend``. See `Fleet.check_backend`.

        Raises:
            FleetError: it is neither installed nor in ``workers_path``.
        """
        launch.module_of(launch.workers_roots(unchecked_workers_paths(settings)), backend)

    async def create(self, spec: InstanceSpec) -> None:
        """Starts a worker. See `Fleet.create`.

        Raises:
            ShortageError: too few GPUs are free.
            FleetError: the backend is not there, or the disk, the ports or the processes of the machine are used up.
        """
        await self._enqueue(spec.worker_id, lambda: self._create(spec))

    async def start(self, worker_id: int) -> None:
        """Starts a worker again, in its directory, on its ports where they are free. See `Fleet.start`.

        Raises:
            FleetError: there is no such instance, or as for `create`.
        """
        await self._enqueue(worker_id, lambda: self._start(worker_id))

    async def stop(self, worker_id: int) -> None:
        """Ends all processes of a worker, and keeps its directory. See `Fleet.stop`.

        Raises:
            FleetError: there is no such instance, or a process survived SIGKILL.
        """
        await self._enqueue(worker_id, lambda: self._stop(worker_id))

    async def destroy(self, worker_id: int) -> None:
        """Ends all processes of a worker, and removes its directory; its log is kept. See `Fleet.destroy`.

        Raises:
            FleetError: a process survived SIGKILL, or a file could not be removed.
        """
        await self._enqueue(worker_id, lambda: self._destroy(worker_id))

    async def list(self) -> list[Instance]:
        """All instances under this fleet's mark, as disk and kernel tell it. See `Fleet.list`.

        Raises:
            FleetError: the state directory cannot be read.
        """
        self._check_open()
        try:
            return await self._help(list_existing, self._directory, list(self._instances.values()), self._settings.host)
        except OSError as error:
            raise FleetError(f"The process fleet cannot be listed: {in_words(error)}.") from error

    async def close(self, *, destroy: bool = False, grace_s: float | None = None) -> None:
        """Waits for the verbs under way, and releases resources. See `Fleet.close`."""
        if grace_s is not None:
            self._endings.hurry(grace_s)
        if self._closing is None:
            self._closing = tasks.start(self._close(destroy=destroy))
        await asyncio.shield(self._closing)

    @property
    def gpu_count(self) -> int:
        """How many GPUs there are for workers."""
        return self._gpus.count

    async def read_log(self, worker_id: int, bytes_max: int) -> bytes:
        """The end of a worker's log, which is kept for some time after the worker is destroyed. See `Fleet.read_log`.

        Raises:
            FleetError: the log cannot be read.
        """
        self._check_open()
        try:
            return await self._help(self._read_log, worker_id, bytes_max)
        except OSError as error:
            raise FleetError(f"The log of worker {worker_id} cannot be read: {in_words(error)}.") from error

    def _read_log(self, worker_id: int, bytes_max: int) -> bytes:
        for path in self._directory.log_paths(worker_id):
            with contextlib.suppress(FileNotFoundError):
                return logs.read_end(path, bytes_max)
        return b""

    # ------------------------------------------------------------------------------------------------- each verb

    async def _create(self, spec: InstanceSpec) -> None:
        known = self._instances.get(spec.worker_id)
        if known is not None and await self._help(exists, self._directory, known):
            return
        if known is not None and known.record is not None:  # it was removed by hand
            self._ports.release(known.record.ports)
            self._gpus.release(spec.worker_id)
        _check_resources(spec)
        gpus = self._gpus.take_for(spec)
        try:
            record = Record.of(spec, self._ports.choose())
        except FleetError:
            self._gpus.release(spec.worker_id)
            raise
        record.gpus = gpus
        instance = ProcessInstance(spec.worker_id, record, None, launching=True)
        self._instances[spec.worker_id] = instance
        try:
            await self._launch(instance, record, new=True)
        except BaseException as error:
            self._ports.release(record.ports)
            self._gpus.release(spec.worker_id)
            del self._instances[spec.worker_id]
            if isinstance(error, OSError):
                raise FleetError(f"{instance.name} was not created: {in_words(error)}.") from error
            raise
        finally:
            instance.launching = False

    async def _start(self, worker_id: int) -> None:
        instance, record = self._known(worker_id, "started")
        if proc.is_alive(instance.leader):
            return
        await self._end(instance)  # what its last run may have left behind
        record.gpus = self._gpus.take_for(record.spec, record.gpus or ())
        if not self._ports.are_free(record.ports):
            before, record.ports = record.ports, self._ports.choose()
            self._ports.release(before)
        instance.launching = True
        try:
            await self._launch(instance, record, new=False)
        except BaseException as error:
            self._gpus.release(worker_id)
            if not isinstance(error, OSError):
                raise
            raise FleetError(f"{instance.name} was not started: {in_words(error)}.") from error
        finally:
            instance.launching = False

    async def _stop(self, worker_id: int) -> None:
        instance, record = self._known(worker_id, "stopped")
        record.stopped, record.exit_detail = True, ""
        await self._save(record)  # first: should the engine die in between, the end counts as no crash
        try:
            await self._end(instance)
        except FleetError:
            record.stopped = False
            await self._save(record)
            raise
        record.set_leader(None)
        await self._save(record)

    async def _destroy(self, worker_id: int) -> None:
        instance = self._instances.get(worker_id)
        if instance is None:
            record = await self._help(self._directory.load, worker_id)
            instance = ProcessInstance(worker_id, record, record.leader if record else None)
        await self._end(instance)
        try:
            await self._help(self._remove, instance)
        except OSError as error:
            raise FleetError(
                f"{instance.name} has ended, but what it left cannot be removed: {in_words(error)}.", definite=False
            ) from error
        finally:
            if not self._directory.path(worker_id).exists():
                self._instances.pop(worker_id, None)
                if instance.record is not None:
                    self._ports.release(instance.record.ports)

    def _known(self, worker_id: int, participle: str) -> tuple[ProcessInstance, Record]:
        instance = self._instances.get(worker_id)
        if instance is None:
            raise FleetError(f"Worker {worker_id} cannot be {participle}: the process fleet has no such instance.")
        if instance.record is None:
            raise FleetError(f"{instance.name} cannot be {participle}: its record is unreadable; destroy it.")
        return instance, instance.record

    def _remove(self, instance: ProcessInstance) -> None:
        """In a thread: keeps the log, removes the rest."""
        directory, record, worker_id = self._directory, instance.record, instance.worker_id
        kept = directory.kept_log_path(record.endpoint if record else "unknown", worker_id)
        try:
            logs.keep(directory.log_path(worker_id), kept, self._settings.logs_kept)
        except OSError as error:
            log.warning("The log of worker %d is not kept: %s.", worker_id, in_words(error))
        directory.remove(worker_id)

    # --------------------------------------------------------------------------------------- beginning and ending

    async def _launch(self, instance: ProcessInstance, record: Record, *, new: bool) -> None:
        loop = asyncio.get_running_loop()
        launch_now = functools.partial(self._launch_now, record, new=new)
        instance.leader, pidfd = await loop.run_in_executor(self._launchers, launch_now)
        instance.told = False
        self._watch(instance, pidfd)

    def _launch_now(self, record: Record, *, new: bool) -> tuple[Process, int]:
        """In a thread, one of ``start_limit``."""
        if self._closing is not None:
            raise FleetError(f"Worker {record.worker_id} was not started: the process fleet is closing.")
        if record.use_ssl:
            self._certificate.ensure(record)
        arguments = launch.command(self._settings, self._roots, record.backend)
        path = str(self._directory.path(record.worker_id))
        environment = launch.environment(self._settings, self._environment, record, path)
        return launch.launch(self._directory, record, arguments, environment, new=new)

    async def _end(self, instance: ProcessInstance) -> None:
        """Returns when nothing of the instance runs. Raises FleetError."""
        belongings = Belongings(str(self._directory.path(instance.worker_id)), instance.leader)
        await self._endings.end(belongings, name=instance.name)
        self._unwatch(instance)
        if instance.leader is not None:
            proc.exit_status(instance.leader, reap=True)
            instance.leader = None
        self._gpus.release(instance.worker_id)

    def _leader_ended(self, instance: ProcessInstance) -> None:
        """The event loop calls this as soon as an instance's first process has ended."""
        self._unwatch(instance)
        self._endings.scan_now()
        if not instance.told and instance.leader is not None:
            call = functools.partial(self._ended_by_itself, instance, instance.leader)
            tasks.observe(
                self._queue.submit(instance.worker_id, call),
                f"Looking after the end of worker {instance.worker_id}",
                functools.partial(self._tell_end, instance.worker_id),
            )

    async def _ended_by_itself(self, instance: ProcessInstance, leader: Process) -> None:
        if instance.told or instance.leader != leader:
            return  # it was told to end, or an earlier verb has handled it
        record = instance.record
        detail = await self._help(describe_end, self._directory, instance)
        if not await self._help(has_orphans, self._directory, instance):
            # Otherwise it stays in the kernel's table until it is destroyed or started again, so that its number, which
            # is also their session's, is not used again.
            proc.exit_status(leader, reap=True)
            instance.leader = None
        if record is not None:
            record.exit_detail = detail
            record.set_leader(instance.leader)
            await self._save(record)
        self._tell_end(instance.worker_id, detail)

    def _tell_end(self, worker_id: int, detail: str) -> None:
        if self._closing is None:
            try:
                self._on_exit(worker_id, detail)
            except Exception:
                log.exception("The callback for the end of worker %d failed.", worker_id)

    def _watch(self, instance: ProcessInstance, pidfd: int) -> None:
        instance.pidfd = pidfd
        asyncio.get_running_loop().add_reader(pidfd, self._leader_ended, instance)

    def _unwatch(self, instance: ProcessInstance) -> None:
        if instance.pidfd is not None:
            asyncio.get_running_loop().remove_reader(instance.pidfd)
            os.close(instance.pidfd)
            instance.pidfd = None

    async def _adopt(self) -> None:
        """Finds the instances that are there, and watches those that run. Raises OSError."""
        os.close(os.pidfd_open(os.getpid()))  # raises where the system cannot announce the end of a process
        await self._help(self._directory.prepare)
        for instance in await self._help(find_instances, self._directory):
            self._instances[instance.worker_id] = instance
            if instance.record is not None:
                self._ports.hold(instance.record.ports)
                if instance.leader is not None or not instance.record.stopped:
                    self._gpus.hold(instance.worker_id, instance.record.gpus or ())
            if instance.leader is None:
                continue
            with contextlib.suppress(ProcessLookupError):
                pidfd = os.pidfd_open(instance.leader.pid)
                if proc.is_alive(instance.leader):  # checked after pidfd_open, so that it is the same process
                    self._watch(instance, pidfd)
                else:
                    os.close(pidfd)

    # ------------------------------------------------------------------------------------------------ housekeeping

    async def _trim_logs(self) -> None:
        await self._help(self._trim_now, [each.worker_id for each in self._instances.values() if each.pidfd])

    def _trim_now(self, worker_ids: Iterable[int]) -> None:
        for worker_id in worker_ids:
            try:
                logs.trim(self._directory.log_path(worker_id), self._settings.log_bytes_max)
            except FileNotFoundError:
                continue
            except OSError as error:
                log.warning("The log of worker %d is cut short: %s.", worker_id, in_words(error))

    async def _save(self, record: Record) -> None:
        """Writes a record whose loss does not fail the verb."""
        try:
            await self._help(self._directory.save, record)
        except OSError as error:
            log.warning("The record of worker %d is out of date: %s.", record.worker_id, in_words(error))

    async def _enqueue(self, worker_id: int, call: Callable[[], Coroutine[None, None, None]]) -> None:
        self._check_open()
        await self._queue.run(worker_id, call)

    async def _help(self, function: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._helpers, function, *arguments)

    def _check_open(self) -> None:
        if self._closing is not None:
            raise FleetError("The process fleet is closed.")

    async def _close(self, *, destroy: bool) -> None:
        failures: list[FleetError] = []
        worker_ids = list(self._instances) if destroy else []  # what is not among them yet will not be launched
        calls = [self._queue.submit(each, functools.partial(self._destroy, each)) for each in worker_ids]
        for result in await asyncio.gather(*calls, return_exceptions=True):
            if isinstance(result, FleetError):
                failures.append(result)
            elif isinstance(result, BaseException):
                raise result
        if self._trimming is not None:
            self._trimming.cancel()
        await self._queue.wait_idle()
        if destroy:
            await self._help(self._certificate.remove)
        for instance in self._instances.values():
            self._unwatch(instance)
        self._launchers.shutdown(wait=False)
        self._helpers.shutdown(wait=False)
        self._ports.close()
        if failures:
            raise FleetError(f"{len(failures)} of {len(worker_ids)} workers could not be destroyed: {failures[0]}")


def _check_resources(spec: InstanceSpec) -> None:
    """Raises FleetError for what a machine has no notion of."""
    wanted = spec.resources
    given = {"cpus": wanted.cpus, "memory_gb": wanted.memory_gb, "labels": wanted.labels or None}
    names = [name for name, value in given.items() if value is not None]
    if names:
        raise FleetError(
            f"Worker {spec.worker_id} was not created: the process fleet places workers by GPUs alone; leave "
            f"{' and '.join(names)} out of its workergroup."
        )


_: type[Fleet] = ProcessFleet
