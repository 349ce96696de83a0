"""The Ray fleet's verbs. One worker is one job; a stopped one is a record without a job that runs.

What is known of an instance: its record in the engine's state directory, and Ray's list of jobs, which is asked for
once for all instances and at most every ``jobs_s`` seconds.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import logging
import os
import re
import secrets
import shlex
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import msgspec

from nullworker.fleets.base import Fleet, FleetError, Instance, InstanceState, PlaceFree, ShortageError, no_notice
from nullworker.fleets.bundle import OWN_CODE, make_bundle
from nullworker.fleets.keyed_queue import KeyedQueue
from nullworker.fleets.processes import launch
from nullworker.fleets.processes.settings import unchecked_workers_paths
from nullworker.fleets.ray import wording
from nullworker.fleets.ray.jobs_api import JobsApi, JobsView
from nullworker.fleets.ray.node_side import INSTANCE_JSON
from nullworker.fleets.ray.placeholders import Placeholders, kind_of, why_short
from nullworker.fleets.ray.records import RayRecord, RayRecords
from nullworker.fleets.ray.settings import read_settings, read_token
from nullworker.wire import tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from nullworker.fleets.base import InstanceSpec, Notice
    from nullworker.fleets.bundle import Bundle
    from nullworker.fleets.ray.jobs_api import Job, Jobs
    from nullworker.fleets.ray.settings import RaySettings

log = logging.getLogger(__name__)

#: How often it is looked whether a view of Ray's jobs is due.
WATCH_S = 1.0
#: How long a creation waits for its job to begin, and from when on it looks whether Ray lacks a place. Ray tells that
#: about every 5 s; what begins later is being installed.
PLACED_S, LOOK_AFTER_S = 12.0, 1.5
#: How long a job may take to end beyond the grace that it has. Ray finds out that a node is dead in about 20 s.
END_S = 90.0
POLL_S = 0.25
#: How long a package of code is sure to be there after it was looked for; Ray's own time is 600 s.
PACKAGE_S = 240.0
_LOGS_MAX = 1000
#: Ray's words for jobs that ended before they began.
_NEVER_BEGAN = re.compile(r"RUNTIME_ENV|ACTOR_(START_FAILURE|UNSCHEDULABLE)")


class RayFleet:
    """Workers as jobs of a Ray cluster; see docs/fleets-ray.md."""

    def __init__(
        self,
        settings: RaySettings,
        mark: str,
        on_exit: Callable[[int, str], None],
        on_notice: Callable[[Notice], None],
    ) -> None:
        """Use `open`."""
        self._settings = settings
        self._prefix = f"nw-{_as_id(mark)}"
        self._pattern = re.compile(rf"{re.escape(self._prefix)}-(\d+)-[0-9a-f]{{8}}")
        self._on_exit = on_exit
        self._on_notice = on_notice
        self._api = JobsApi(settings.address, read_token(settings, os.environ))
        self._kept = RayRecords(settings.state_dir, mark)
        self._records: dict[int, RayRecord] = {}
        self._placeholders = Placeholders(self._api, self._kept, self._new_id, self._place_free)
        self._view = JobsView(self._api, self._pattern, settings.jobs_s)
        self._bundle: Bundle | None = None
        self._package_at = 0.0
        self._uploading = asyncio.Lock()
        self._coming: dict[int, str] = {}  # what those ask for whose jobs wait, in the order of their submission
        self._submitted_at: dict[int, float] = {}  # by worker, of the event loop's clock
        self._announced: set[int] = set()  # whose end needs no announcing
        self._gone: OrderedDict[int, tuple[str, str]] = OrderedDict()  # job and node of destroyed ones, for their logs
        self._queue = KeyedQueue()
        self._watching: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls,
        settings: Mapping[str, object],
        mark: str,
        on_exit: Callable[[int, str], None],
        on_notice: Callable[[Notice], None] = no_notice,
    ) -> RayFleet:
        """Asks Ray for its jobs, and adopts what runs under ``mark``. See `Fleet.open` and `RaySettings`.

        Raises:
            FleetError: the settings are wrong, the dashboard does not answer or refuses the token, or the state
                directory cannot be used.
        """
        fleet = cls(read_settings(settings), mark, on_exit, on_notice)
        try:
            log.info("Ray %s at %s", await fleet._api.version(), fleet._settings.address)
            fleet._bundle = await asyncio.to_thread(
                make_bundle, fleet._settings.workers_paths, fleet._settings.code, "Ray"
            )
            fleet._kept.prepare()
            fleet._records = dict(fleet._kept.load_all())
            fleet._placeholders.load()
            view = await fleet._view.view()
            await fleet._adopt(view)
            await fleet._take(view)
        except OSError as error:
            await fleet._api.close()
            raise FleetError(f"The state directory of the Ray fleet cannot be used ({error}).") from error
        except BaseException:
            await fleet._api.close()
            raise
        fleet._announced = {i for i in fleet._records if fleet._state(i)[0] is not InstanceState.RUNNING}
        period_s = min(WATCH_S, fleet._settings.jobs_s)
        fleet._watching = tasks.start(tasks.repeat(fleet._watch, period_s, "Watching jobs of Ray"))
        return fleet

    @classmethod
    def check_backend(cls, settings: Mapping[str, object], backend: str) -> None:
        """Looks for the folder of ``backend``. See `Fleet.check_backend`.

        Raises:
            FleetError: it is neither installed nor in ``workers_path``.
        """
        launch.module_of(launch.workers_roots(unchecked_workers_paths(settings)), backend)

    async def create(self, spec: InstanceSpec) -> None:
        """Submits a job, and waits a little for its place. See `Fleet.create`.

        Raises:
            ShortageError: Ray has no place for it.
            FleetError: Ray refuses it, or does not answer.
        """
        await self._enqueue(spec.worker_id, lambda: self._create(spec))

    async def start(self, worker_id: int) -> None:
        """Submits another job for an instance. See `Fleet.start`.

        Raises:
            FleetError: there is no such instance, or as for `create`.
        """
        await self._enqueue(worker_id, lambda: self._start(worker_id))

    async def stop(self, worker_id: int) -> None:
        """Stops an instance's job, and keeps its record. See `Fleet.stop`.

        Raises:
            FleetError: there is no such instance, or its job does not end.
        """
        await self._enqueue(worker_id, lambda: self._stop(worker_id))

    async def destroy(self, worker_id: int) -> None:
        """Stops an instance's job, and forgets it; its log stays on its node. See `Fleet.destroy`.

        Raises:
            FleetError: its job does not end.
        """
        await self._enqueue(worker_id, lambda: self._destroy(worker_id))

    async def list(self) -> list[Instance]:
        """All instances, by their records and Ray's list of jobs. See `Fleet.list`.

        Raises:
            FleetError: Ray does not answer.
        """
        self._check_open()
        await self._take(await self._view.view())
        return [self._listed(worker_id) for worker_id in sorted(self._records)]

    async def read_log(self, worker_id: int, bytes_max: int) -> bytes:
        """The end of what a worker's job has printed, from its node. See `Fleet.read_log`.

        Raises:
            FleetError: Ray does not answer.
        """
        self._check_open()
        record = self._records.get(worker_id)
        job_id, node_id = self._gone.get(worker_id) or self._placeholders.job_of(worker_id)
        if record is not None:
            job_id, node_id = record.job_id, record.node_id
        if job_id and not node_id:
            job = await self._api.job(job_id)
            node_id = job.node_id if job is not None else ""
        if not node_id or bytes_max <= 0:
            return b""
        lines = min(10_000, max(50, bytes_max // 20))
        return (await self._api.log_end(job_id, node_id, lines))[-bytes_max:]

    async def close(self, *, destroy: bool = False, grace_s: float | None = None) -> None:  # noqa: ARG002 - Ray keeps each job's own
        """Waits for the verbs under way. See `Fleet.close`; how long workers may take to end, ``grace_s`` of the
        settings says.
        """
        if self._closing is None:
            self._closing = tasks.start(self._close(destroy=destroy))
        await asyncio.shield(self._closing)

    # ------------------------------------------------------------------------------------------------- each verb

    async def _create(self, spec: InstanceSpec) -> None:
        worker_id = spec.worker_id
        known = self._records.get(worker_id)
        if known is not None and not await self._never_came(worker_id, known):
            return
        plain = {**dataclasses.asdict(spec), "env": dict(spec.env)}
        settings = {
            "host": self._settings.host,
            "consumer_dir": self._settings.consumer_dir,
            "code_name": OWN_CODE if self._settings.code else "",
            "pass_env": [*self._settings.pass_env, *self._variables()],
        }
        record = RayRecord(spec=plain, settings=settings, job_id=self._new_id(worker_id), unsure="created")
        await self._check_waiting(worker_id, record)
        self._records[worker_id] = record
        try:
            self._save(worker_id)
            await self._submit(worker_id, record)
        except FleetError as error:
            if error.definite:
                self._remove(worker_id)
            raise

    async def _start(self, worker_id: int) -> None:
        record = self._known(worker_id, "started")
        if self._state(worker_id)[0] is InstanceState.RUNNING:
            return
        if not record.spec:
            raise FleetError(f"Worker {worker_id} cannot be started: what it was created with is lost. Destroy it.")
        await self._check_waiting(worker_id, record)
        before = msgspec.structs.asdict(record)
        self._placeholders.leave(record.job_id, worker_id, record.node_id)
        record.job_id, record.node_id = self._new_id(worker_id), ""
        record.stopped, record.ended, record.unsure = False, "", "started"
        self._announced.discard(worker_id)
        try:
            self._save(worker_id)
            await self._submit(worker_id, record)
        except FleetError as error:
            if error.definite:
                self._announced.add(worker_id)
                record.stopped, record.ended, record.unsure = before["stopped"], before["ended"], ""
                self._save(worker_id)
            raise

    async def _stop(self, worker_id: int) -> None:
        record = self._known(worker_id, "stopped")
        self._announced.add(worker_id)
        record.stopped, record.ended = True, ""
        self._save(worker_id)  # first: should the engine die in between, the end counts as no crash
        try:
            await self._end(worker_id, record)
        except FleetError:
            record.stopped = False
            self._save(worker_id)
            raise

    async def _destroy(self, worker_id: int) -> None:
        record = self._records.get(worker_id)
        if record is None:
            return
        self._announced.add(worker_id)
        await self._end(worker_id, record)
        self._placeholders.leave(record.job_id, worker_id, record.node_id)
        self._gone[worker_id] = record.job_id, record.node_id
        while len(self._gone) > _LOGS_MAX:
            self._gone.popitem(last=False)
        self._remove(worker_id)

    async def _submit(self, worker_id: int, record: RayRecord) -> None:
        """Submits a job for an instance, and waits until it has begun or is seen to wait. Raises FleetError."""
        self._submitted_at[worker_id] = float("inf")  # what Ray shows until it has answered says nothing of it
        try:
            await self._api.submit(await self._body(record))
            record.unsure = ""
            self._save(worker_id)
            await self._placed(worker_id, record)
        finally:
            self._submitted_at[worker_id] = asyncio.get_running_loop().time()

    async def _placed(self, worker_id: int, record: RayRecord) -> None:
        """Returns when a job has begun, or Ray has not said that it lacks a place for it. Raises FleetError."""
        loop = asyncio.get_running_loop()
        began, pause_s = loop.time(), POLL_S
        shape = wording.shape_of(self._wanted(record)[0])
        self._coming[worker_id] = shape
        try:
            old_report = wording.report_of(await self._api.cluster_status())
            while True:
                job = await self._api.job(record.job_id)
                if job is None:
                    raise FleetError(f"Ray has forgotten the job of worker {worker_id}.", definite=False)
                if not job.waits:
                    self._has_begun(worker_id, record, job)
                    return
                waited_s = loop.time() - began
                if waited_s >= LOOK_AFTER_S:
                    status = await self._api.cluster_status()
                    if wording.report_of(status) != old_report and self._is_short(worker_id, shape, status):
                        await self._leave_waiting(worker_id, record, status)
                if waited_s >= PLACED_S:
                    return
                await asyncio.sleep(pause_s)
                pause_s = min(1.0, pause_s * 1.5)
        finally:
            self._coming.pop(worker_id, None)

    def _has_begun(self, worker_id: int, record: RayRecord, job: Job) -> None:
        """A job waits no more. Raises FleetError if it has ended before it began."""
        record.node_id = job.node_id
        self._save(worker_id)
        if job.has_ended and _NEVER_BEGAN.search(job.error_type):
            self._placeholders.leave(record.job_id, worker_id)
            said = wording.last_words(job.message.partition(". Full traceback")[0])
            raise FleetError(f"Ray cannot run worker {worker_id}: {said}.")

    def _is_short(self, worker_id: int, shape: str, status: str) -> bool:
        """Whether Ray lacks a place for a job that waits. It shows how many it has none for, and not which: the latest.

        Args:
            worker_id: whose job waits.
            shape: what it asks for.
            status: what ``ray status`` prints.
        """
        coming = [each for each, its in self._coming.items() if its == shape]
        later = len(coming) - 1 - coming.index(worker_id)
        return later < wording.demands(status).get(shape, 0) - self._placeholders.count(shape)

    async def _leave_waiting(self, worker_id: int, record: RayRecord, status: str) -> None:
        """Makes a job that Ray has no place for a placeholder. Raises ShortageError."""
        wanted, labels = self._wanted(record)
        kind, shape = kind_of(wanted, labels), wording.shape_of(wanted)
        self._placeholders.leave(record.job_id, worker_id, kind=kind, shape=shape)  # first: it counts from now on
        await self._api.stop(record.job_id)
        why = wording.what_is_short(wanted, labels, status)
        raise ShortageError(f"Ray has no place for worker {worker_id} ({why}).")

    async def _end(self, worker_id: int, record: RayRecord) -> None:
        """Stops an instance's job; returns when it runs no more, or waits and never will. Raises FleetError."""
        job = await self._api.job(record.job_id)
        if job is None or job.has_ended:
            return
        record.node_id = record.node_id or job.node_id
        await self._api.stop(record.job_id)
        loop = asyncio.get_running_loop()
        told_at, pause_s = loop.time(), POLL_S
        while job is not None and not job.has_ended:
            if job.waits:
                await self._placeholders.cancel([record.job_id])
                self._placeholders.leave(record.job_id, worker_id)
                return
            if loop.time() - told_at > self._settings.grace_s + END_S:
                raise FleetError(
                    f"Ray's job of worker {worker_id} has not ended {loop.time() - told_at:.0f} s after it was told to "
                    "stop.",
                    definite=False,
                )
            await asyncio.sleep(pause_s)
            pause_s = min(1.0, pause_s * 1.5)
            job = await self._api.job(record.job_id)

    # ------------------------------------------------------------------------------------------------ what is known

    def _state(self, worker_id: int) -> tuple[InstanceState, str]:
        record = self._records[worker_id]
        if record.stopped:
            return InstanceState.STOPPED, ""
        return (InstanceState.EXITED, record.ended) if record.ended else (InstanceState.RUNNING, "")

    def _listed(self, worker_id: int) -> Instance:
        spec = self._records[worker_id].spec
        state, detail = self._state(worker_id)
        endpoint, workergroup_id = str(spec.get("endpoint", "")), int(spec.get("workergroup_id", 0))
        return Instance(worker_id, state, detail, "", endpoint, workergroup_id)

    async def _adopt(self, view: Jobs) -> None:
        """Takes over jobs with the mark that no record is about. Raises FleetError."""
        known = {record.job_id for record in self._records.values()} | self._placeholders.job_ids
        for job in view.by_id.values():
            match = self._pattern.fullmatch(job.job_id)
            if match is None or job.job_id in known:
                continue
            worker_id = int(match[1])
            if not worker_id or job.has_ended or worker_id in self._records:
                self._placeholders.leave(job.job_id, worker_id, job.node_id)
                continue
            self._records[worker_id] = _record_of(job)
            self._save(worker_id)

    async def _take(self, view: Jobs) -> None:
        """Takes in what Ray's list of jobs shows. Raises FleetError."""
        for worker_id, record in list(self._records.items()):
            if record.stopped or record.ended or view.asked_at <= self._submitted_at.get(worker_id, 0.0):
                continue
            job_id = record.job_id
            job = view.by_id.get(job_id)
            if job is None:  # so much is not believed of a list alone
                job = await self._api.job(job_id)
                if record.job_id != job_id or record.stopped or self._records.get(worker_id) is not record:
                    continue
            if job is None and record.unsure:
                self._came_not(worker_id, record)
                continue
            if job is None:
                record.ended = "its job is gone from Ray's list (was the cluster restarted?)"
            elif job.has_ended:
                token = str(record.spec.get("worker_token", ""))
                record.ended = wording.how_it_ended(job.status, job.message, token)
            elif record.node_id == job.node_id and not record.unsure:
                continue
            record.node_id, record.unsure = job.node_id if job is not None else record.node_id, ""
            self._save(worker_id)

    async def _never_came(self, worker_id: int, record: RayRecord) -> bool:
        """Whether there is nothing of an instance whose creation had no answer. Raises FleetError."""
        if record.unsure != "created":
            return False
        try:
            job = await self._api.job(record.job_id)
        except FleetError as error:
            raise FleetError(str(error), definite=False) from error  # it may still be there
        if job is not None:
            record.unsure = ""
            self._save(worker_id)
            return False
        self._came_not(worker_id, record)
        return True

    def _came_not(self, worker_id: int, record: RayRecord) -> None:
        """A submission whose answer was lost had not arrived: a new instance is none, and another has no job."""
        if record.unsure == "created":
            self._remove(worker_id)
        else:
            record.stopped, record.unsure = True, ""
            self._announced.add(worker_id)
            self._save(worker_id)

    async def _watch(self) -> None:
        """Announces ends and places that may be free; asks Ray for its jobs where that is due."""
        runs = any(not record.stopped and not record.ended for record in self._records.values())
        if runs or self._placeholders.job_ids:
            try:
                view = await self._view.view()
                await self._take(view)
                await self._placeholders.sweep(view)
            except FleetError as error:
                log.warning("Ray does not show its jobs: %s", error)
        for worker_id, record in list(self._records.items()):
            if worker_id not in self._announced and record.ended and self._closing is None:
                self._announced.add(worker_id)
                try:
                    self._on_exit(worker_id, record.ended)
                except Exception:
                    log.exception("The callback for the end of worker %d failed.", worker_id)

    def _place_free(self) -> None:
        if self._closing is None:
            self._on_notice(PlaceFree())

    async def _check_waiting(self, worker_id: int, record: RayRecord) -> None:
        wanted, labels = self._wanted(record)
        backlog, kind = self._settings.backlog, kind_of(wanted, labels)
        await self._placeholders.check(worker_id, kind, backlog, lambda: why_short(self._api, wanted, labels))

    # ------------------------------------------------------------------------------------------------ what is submitted

    def _wanted(self, record: RayRecord) -> tuple[dict[str, float], dict[str, str]]:
        """What a worker asks for, by Ray's names, and the labels that its node must have."""
        asked = record.spec["resources"]
        settings = self._settings
        wanted = {
            "CPU": settings.cpus_per_worker if asked["cpus"] is None else asked["cpus"],
            "GPU": settings.gpus_per_worker if asked["gpus"] is None else asked["gpus"],
            "memory": 0 if asked["memory_gb"] is None else round(asked["memory_gb"] * 1e9),
            **settings.resources,
        }
        return {name: n for name, n in wanted.items() if n}, dict(asked["labels"])

    async def _body(self, record: RayRecord) -> dict[str, Any]:
        """What is sent to submit an instance's job. Raises FleetError."""
        wanted, labels = self._wanted(record)
        own = {name: n for name, n in wanted.items() if name not in ("CPU", "GPU", "memory")}
        told = {"job_id": record.job_id, "spec": record.spec, "settings": record.settings}
        assert self._bundle is not None
        environment = self._settings.with_packages(self._bundle.requirements)
        environment["working_dir"] = f"gcs://{await self._package()}"
        environment["env_vars"] = {
            **self._variables(),
            "RAY_JOB_STOP_WAIT_TIME_S": str(self._settings.grace_s),
            INSTANCE_JSON: msgspec.json.encode(told).decode(),
        }
        body: dict[str, Any] = {
            "submission_id": record.job_id,
            "entrypoint": f"exec {shlex.quote(self._settings.python)} -m nullworker.fleets.ray.node_side",
            "runtime_env": environment,
            "metadata": {"nullworker": self._prefix, "endpoint": str(record.spec["endpoint"])},
            "entrypoint_num_cpus": wanted.get("CPU", 0),
            "entrypoint_num_gpus": wanted.get("GPU", 0),
            "entrypoint_memory": wanted.get("memory", 0),
            "entrypoint_resources": own,
        }
        return {**body, "entrypoint_label_selector": labels} if labels else body

    def _variables(self) -> dict[str, str]:
        """The variables that the settings' runtime environment sets."""
        variables = self._settings.runtime_env.get("env_vars") or {}
        return {str(name): str(value) for name, value in variables.items()}

    async def _package(self) -> str:
        """The name of the package of code, which is uploaded where Ray does not have it. Raises FleetError."""
        assert self._bundle is not None
        name = f"_ray_pkg_{self._bundle.name}.zip"
        loop = asyncio.get_running_loop()
        async with self._uploading:
            if not self._package_at or loop.time() - self._package_at > PACKAGE_S:
                if not await self._api.has_package(name):
                    await self._api.put_package(name, self._bundle.content)
                self._package_at = loop.time()
        return name

    def _new_id(self, worker_id: int) -> str:
        return f"{self._prefix}-{worker_id}-{secrets.token_hex(4)}"

    # ------------------------------------------------------------------------------------------------ housekeeping

    def _known(self, worker_id: int, participle: str) -> RayRecord:
        record = self._records.get(worker_id)
        if record is None:
            raise FleetError(f"Worker {worker_id} cannot be {participle}: the Ray fleet has no such instance.")
        return record

    def _save(self, worker_id: int) -> None:
        try:
            self._kept.save(worker_id, self._records[worker_id])
        except OSError as error:
            raise FleetError(f"The state directory of the Ray fleet cannot be written ({error}).") from error

    def _remove(self, worker_id: int) -> None:
        self._records.pop(worker_id, None)
        self._submitted_at.pop(worker_id, None)
        try:
            self._kept.remove(worker_id)
        except OSError as error:
            raise FleetError(f"What worker {worker_id} left cannot be removed ({error}).", definite=False) from error

    async def _enqueue(self, worker_id: int, call: Callable[[], Coroutine[None, None, None]]) -> None:
        self._check_open()
        await self._queue.run(worker_id, call)

    def _check_open(self) -> None:
        if self._closing is not None:
            raise FleetError("The Ray fleet is closed.")

    async def _close(self, *, destroy: bool) -> None:
        try:
            if self._watching is not None:
                self._watching.cancel()
            await self._queue.wait_idle()
            if destroy:
                await self._destroy_all()
        finally:
            await self._api.close()

    async def _destroy_all(self) -> None:
        ending = [self._destroy(worker_id) for worker_id in list(self._records)]
        failures = [each for each in await asyncio.gather(*ending, return_exceptions=True) if each is not None]
        for failure in failures:
            if not isinstance(failure, FleetError):
                raise failure
        if failures:
            raise FleetError(f"{len(failures)} of {len(ending)} workers could not be destroyed: {failures[0]}")
        await self._placeholders.cancel_all()


def _as_id(mark: str) -> str:
    """A mark as part of a job's id."""
    plain = re.sub(r"[^A-Za-z0-9_.-]", "_", mark)[:80]
    return plain if plain == mark else f"{plain}.{hashlib.sha256(mark.encode()).hexdigest()[:8]}"


def _record_of(job: Job) -> RayRecord:
    """A record of an instance whose record is lost, by what its job was told."""
    try:
        told = msgspec.json.decode(str(job.variables.get(INSTANCE_JSON, "")))
        return RayRecord(spec=dict(told["spec"]), settings=dict(told["settings"]), job_id=job.job_id)
    except (msgspec.DecodeError, KeyError, TypeError, ValueError):
        return RayRecord(spec={}, settings={}, job_id=job.job_id)


_: type[Fleet] = RayFleet
