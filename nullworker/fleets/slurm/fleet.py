"""The Slurm fleet's verbs. One worker is one job; a stopped one is a directory without a job.

What is known of an instance: its record in the shared directory, what its job wrote there (that it runs, how it ended),
and Slurm's queue, which is asked once for all instances and at most every ``queue_s`` seconds.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import re
from typing import TYPE_CHECKING, Any

from nullworker.fleets.base import (
    EndsSoon,
    Fleet,
    FleetError,
    Instance,
    InstanceState,
    PlaceFree,
    ShortageError,
    no_notice,
)
from nullworker.fleets.keyed_queue import KeyedQueue
from nullworker.fleets.processes import launch, logs
from nullworker.fleets.processes.settings import unchecked_workers_paths
from nullworker.fleets.slurm.instances import ENDED_NAME, LOG_NAME, RUNS_NAME, SlurmInstances, SlurmRecord
from nullworker.fleets.slurm.settings import read_settings
from nullworker.fleets.slurm.squeue import QueueView, SlurmError, command, seconds_left
from nullworker.wire import tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from nullworker.fleets.base import InstanceSpec, Notice
    from nullworker.fleets.slurm.settings import SlurmSettings
    from nullworker.fleets.slurm.squeue import Job, Jobs

log = logging.getLogger(__name__)

#: How often the files that jobs write are looked for.
WATCH_S = 0.5
#: How long the end of a job may take; Slurm's own KillWait is 30 s by default.
END_S = 120.0
_END_POLL_S = 0.05
#: What a job gets of the engine's environment: none of your keys.
_EXPORTED = "PATH,HOME,LANG,TZ,TMPDIR,VIRTUAL_ENV"
#: What Slurm says where a limit on jobs is reached, or it is busy, which may be different later.
_LATER = re.compile(r"(?<!time )limit|temporarily|currently busy", re.IGNORECASE)
_NAME = re.compile(r"nw-(\d+)")
_LABELS = ("partition", "account", "qos", "constraint")


class SlurmFleet:
    """Workers as jobs of a Slurm cluster; see docs/fleets-slurm.md."""

    def __init__(
        self,
        settings: SlurmSettings,
        mark: str,
        on_exit: Callable[[int, str], None],
        on_notice: Callable[[Notice], None],
    ) -> None:
        """Use `open`."""
        self._settings = settings
        self._mark = f"nullworker-{mark}"
        self._on_exit = on_exit
        self._on_notice = on_notice
        self._instances = SlurmInstances(settings.shared_dir, mark)
        self._records: dict[int, SlurmRecord] = {}
        self._submitted_at: dict[int, float] = {}  # by worker, of the event loop's clock
        self._queue_view = QueueView(self._mark, settings.queue_s)
        self._announced: set[int] = set()  # whose end needs no announcing
        self._noticed: set[int] = set()  # jobs whose end was given notice of
        self._cancelled: dict[int, float] = {}  # jobs that a view may still show as running, and until when
        self._was_short = False
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
    ) -> SlurmFleet:
        """Submits a job for trial, and adopts what runs under ``mark``. See `Fleet.open` and `SlurmSettings`.

        Raises:
            FleetError: the settings are wrong, Slurm refuses such jobs or does not answer, or the directory cannot be
                used.
        """
        if not mark or "|" in mark:
            raise FleetError("The Slurm fleet needs a mark that is not empty and has no '|'.")
        fleet = cls(read_settings(settings), mark, on_exit, on_notice)
        try:
            await fleet._try_out()
            fleet._instances.prepare()
            fleet._records = dict(fleet._instances.load_all())
        except SlurmError as error:
            raise FleetError(f"{str(error).rstrip('.')}: correct [fleet.slurm].") from error
        except OSError as error:
            raise FleetError(f"The shared directory of the Slurm fleet cannot be used ({error}).") from error
        await fleet._take(await fleet._queue_view.view())
        fleet._announced = {i for i in fleet._records if fleet._state(i)[0] is not InstanceState.RUNNING}
        fleet._watching = tasks.start(tasks.repeat(fleet._watch, WATCH_S, "Watching jobs of Slurm"))
        return fleet

    @classmethod
    def check_backend(cls, settings: Mapping[str, object], backend: str) -> None:
        """Looks for the folder of ``backend``. See `Fleet.check_backend`.

        Raises:
            FleetError: it is neither installed nor in ``workers_path``.
        """
        launch.module_of(launch.workers_roots(unchecked_workers_paths(settings)), backend)

    async def create(self, spec: InstanceSpec) -> None:
        """Submits a job. See `Fleet.create`.

        Raises:
            ShortageError: as many jobs as ``backlog`` wait already, or a limit on jobs is reached.
            FleetError: Slurm refuses it, or does not answer.
        """
        await self._enqueue(spec.worker_id, lambda: self._create(spec))

    async def start(self, worker_id: int) -> None:
        """Submits another job for an instance. See `Fleet.start`.

        Raises:
            FleetError: there is no such instance, or as for `create`.
        """
        await self._enqueue(worker_id, lambda: self._start(worker_id))

    async def stop(self, worker_id: int) -> None:
        """Cancels an instance's job, and keeps its directory. See `Fleet.stop`.

        Raises:
            FleetError: there is no such instance, or its job does not end.
        """
        await self._enqueue(worker_id, lambda: self._stop(worker_id))

    async def destroy(self, worker_id: int) -> None:
        """Cancels an instance's job, and removes its directory; its log is kept. See `Fleet.destroy`.

        Raises:
            FleetError: its job does not end.
        """
        await self._enqueue(worker_id, lambda: self._destroy(worker_id))

    async def list(self) -> list[Instance]:
        """All instances, by their records, what their jobs wrote, and Slurm's queue. See `Fleet.list`.

        Raises:
            FleetError: Slurm does not answer.
        """
        self._check_open()
        await self._take(await self._queue_view.view())
        known = [self._listed(worker_id) for worker_id, record in self._records.items() if record.job_id]
        strays = [Instance(worker_id, InstanceState.RUNNING) for worker_id in self._strays()]
        return sorted([*known, *strays], key=lambda instance: instance.worker_id)

    async def read_log(self, worker_id: int, bytes_max: int) -> bytes:
        """The end of a worker's log in the shared directory. See `Fleet.read_log`."""
        self._check_open()
        for path in self._instances.log_paths(worker_id):
            try:
                return await asyncio.to_thread(logs.read_end, path, bytes_max)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise FleetError(f"The log of worker {worker_id} cannot be read ({error}).") from error
        return b""

    async def close(self, *, destroy: bool = False, grace_s: float | None = None) -> None:  # noqa: ARG002 - Slurm's KillWait counts
        """Waits for the verbs under way. See `Fleet.close`; how long workers may take to end, Slurm's KillWait says."""
        if self._closing is None:
            self._closing = tasks.start(self._close(destroy=destroy))
        await asyncio.shield(self._closing)

    async def _try_out(self) -> None:
        """Has Slurm check the options of a job, without one. Raises FleetError."""
        try:
            await command(["sbatch", "--test-only", *self._options(None), "--wrap", "true"])
        except SlurmError as error:
            if "not available" not in str(error):
                raise
            log.warning("%s (a job for trial; nodes may be back later)", error)

    # ------------------------------------------------------------------------------------------------- each verb

    async def _create(self, spec: InstanceSpec) -> None:
        worker_id = spec.worker_id
        known = self._records.get(worker_id)
        if known is not None:
            await self._find_job(worker_id, known)
            if known.job_id:
                return
            self._remove(worker_id)  # it never came
        self._check_resources(spec)
        self._check_backlog(worker_id)
        settings = {
            "host": self._settings.host,
            "workers_path": self._settings.workers_paths,
            "consumer_dir": self._settings.consumer_dir,
        }
        record = SlurmRecord(spec={**dataclasses.asdict(spec), "env": dict(spec.env)}, settings=settings)
        self._records[worker_id] = record
        try:
            await self._submit(worker_id, record)
        except FleetError as error:
            if error.definite:
                self._remove(worker_id)
            raise

    async def _start(self, worker_id: int) -> None:
        record = self._known(worker_id, "started")
        await self._find_job(worker_id, record)
        if self._state(worker_id)[0] is InstanceState.RUNNING:
            return
        await self._submit(worker_id, record)

    async def _stop(self, worker_id: int) -> None:
        record = self._known(worker_id, "stopped")
        await self._find_job(worker_id, record)
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
        self._announced.add(worker_id)
        stray = self._strays().get(worker_id)
        if record is not None:
            await self._find_job(worker_id, record)
            await self._end(worker_id, record)
            self._remove(worker_id)
        elif stray is not None:
            await command(["scancel", str(stray)])
            self._note_cancelled(stray)

    async def _find_job(self, worker_id: int, record: SlurmRecord) -> None:
        """Finds the job of a submission whose answer was lost in Slurm's queue, if it is there. Raises FleetError."""
        if record.is_unsure:
            await self._take(await self._queue_view.next_view(self._submitted_at.get(worker_id, 0.0)))

    async def _submit(self, worker_id: int, record: SlurmRecord) -> None:
        """Submits a job for an instance. Raises FleetError."""
        directory = self._instances.path(worker_id)
        words = [
            "sbatch",
            "--parsable",
            f"--job-name=nw-{worker_id}",
            f"--comment={self._mark}",
            "--no-requeue",
            "--signal=B:TERM@30",
            "--open-mode=append",
            f"--output={directory / LOG_NAME}",
            f"--chdir={directory}",
            f"--export={_EXPORTED}",
            *self._options(record.spec["resources"]),
        ]
        script = f"#!/bin/sh\nexec '{self._settings.python}' -m nullworker.fleets.slurm.node_side '{directory}'\n"
        self._submitted_at[worker_id] = float("inf")  # what Slurm shows until it has answered says nothing of it
        record.is_unsure = True
        self._save(worker_id)  # first: should the engine die in between, the next one looks for the job
        try:
            out = await command(words, script)
        except SlurmError as error:
            record.is_unsure = False
            self._save(worker_id)
            if _LATER.search(str(error)):
                self._was_short = True
                raise ShortageError(str(error)) from error
            raise
        finally:
            self._submitted_at[worker_id] = asyncio.get_running_loop().time()
        self._has_job(worker_id, record, int(out.strip().split(";")[0]))

    def _has_job(self, worker_id: int, record: SlurmRecord, job_id: int) -> None:
        record.job_id, record.is_unsure, record.stopped, record.ended = job_id, False, False, ""
        self._announced.discard(worker_id)
        self._save(worker_id)

    async def _end(self, worker_id: int, record: SlurmRecord) -> None:
        """Cancels an instance's job; returns when it runs no more. Raises FleetError."""
        job_id = record.job_id
        if not job_id or self._instances.said(worker_id, ENDED_NAME, job_id) is not None:
            return
        await command(["scancel", str(job_id)])
        self._note_cancelled(job_id)
        loop = asyncio.get_running_loop()
        cancelled_at = loop.time()
        while self._instances.said(worker_id, RUNS_NAME, job_id) is not None:  # else it never ran, and never will
            if self._instances.said(worker_id, ENDED_NAME, job_id) is not None:
                return
            latest = self._queue_view.latest
            if loop.time() - cancelled_at > self._settings.queue_s:
                latest = await self._queue_view.view()
            job = latest.by_id.get(job_id) if latest is not None else None
            if latest is not None and latest.asked_at > cancelled_at and (job is None or job.has_ended):
                return
            if loop.time() - cancelled_at > END_S:
                raise FleetError(
                    f"Job {job_id} of worker {worker_id} has not ended {END_S:g} s after it was cancelled.",
                    definite=False,
                )
            await asyncio.sleep(_END_POLL_S)

    def _note_cancelled(self, job_id: int) -> None:
        self._cancelled[job_id] = asyncio.get_running_loop().time() + END_S

    # ------------------------------------------------------------------------------------------------ what is known

    def _state(self, worker_id: int) -> tuple[InstanceState, str]:
        record = self._records[worker_id]
        if record.stopped:
            return InstanceState.STOPPED, ""
        ended = self._instances.said(worker_id, ENDED_NAME, record.job_id)
        if ended is not None:
            return InstanceState.EXITED, f"{ended}; {self._last_line(worker_id)}"
        if record.ended:
            return InstanceState.EXITED, f"{record.ended}; {self._last_line(worker_id)}"
        return InstanceState.RUNNING, ""

    def _last_line(self, worker_id: int) -> str:
        record = self._records[worker_id]
        path, _ = self._instances.log_paths(worker_id)
        last = logs.last_line(path, 0, record.spec["worker_token"])
        return f"its log ends: {last}" if last else "it logged nothing"

    def _listed(self, worker_id: int) -> Instance:
        record = self._records[worker_id]
        state, detail = self._state(worker_id)
        address = self._instances.said(worker_id, RUNS_NAME, record.job_id) or ""
        return Instance(
            worker_id, state, detail, address, str(record.spec["endpoint"]), int(record.spec["workergroup_id"])
        )

    def _strays(self) -> dict[int, int]:
        """Jobs with the mark that no record is about, by the worker that they were submitted for."""
        latest = self._queue_view.latest
        found = {}
        for job in latest.by_id.values() if latest is not None else ():
            name = _NAME.fullmatch(job.name)
            goes = job.has_ended or job.state == "COMPLETING" or job.job_id in self._cancelled
            if name and not goes and int(name[1]) not in self._records:
                found[int(name[1])] = job.job_id
        return found

    async def _take(self, jobs: Jobs) -> None:
        """Takes in what Slurm's queue shows."""
        for job_id, until in list(self._cancelled.items()):
            if job_id not in jobs.by_id or jobs.asked_at > until:  # one that is there all the same is to be ended again
                del self._cancelled[job_id]
        alive = [job for job in jobs.by_id.values() if not job.has_ended and job.job_id not in self._cancelled]
        names = {job.name: job for job in sorted(alive, key=lambda job: job.job_id)}
        for each in alive:
            if self._is_too_many(each, jobs.asked_at):
                await self._cancel_one_too_many(each)
        for worker_id, record in list(self._records.items()):
            asked_later = jobs.asked_at > self._submitted_at.get(worker_id, 0.0)
            if record.is_unsure:
                found = names.get(f"nw-{worker_id}")
                if found is not None and found.job_id != record.job_id:
                    self._has_job(worker_id, record, found.job_id)
                continue
            if record.stopped or record.ended or not asked_later:
                continue
            job = jobs.by_id.get(record.job_id)
            if job is None or job.has_ended:
                why = "is gone from Slurm's queue" if job is None else f"ended as {job.state} ({job.reason})"
                record.ended = f"its job {record.job_id} {why}"
                self._save(worker_id)
            elif job.state == "RUNNING":
                self._give_notice(worker_id, job.job_id, seconds_left(job))

    def _is_too_many(self, job: Job, asked_at: float) -> bool:
        """Whether a job is a worker's that has another, or none: one of a submission that came late, or that was told
        to end and was not.
        """
        name = _NAME.fullmatch(job.name)
        record = self._records.get(int(name[1])) if name else None
        if record is None or record.is_unsure or asked_at <= self._submitted_at.get(int(job.name[3:]), 0.0):
            return False
        return record.stopped or job.job_id != record.job_id

    async def _cancel_one_too_many(self, job: Job) -> None:
        """Cancels it; where that fails, the next view shows it again."""
        try:
            await command(["scancel", str(job.job_id)])
        except FleetError as error:
            log.warning("job %d (%s) is one too many, and is not cancelled: %s", job.job_id, job.name, error)
        else:
            log.warning("job %d (%s) was one too many: cancelled", job.job_id, job.name)
            self._note_cancelled(job.job_id)

    def _give_notice(self, worker_id: int, job_id: int, left_s: float | None) -> None:
        if left_s is not None and left_s <= self._settings.notice_s and job_id not in self._noticed:
            self._noticed.add(job_id)
            self._on_notice(EndsSoon(worker_id, max(0.0, left_s), f"the time limit of Slurm's job {job_id}"))

    async def _watch(self) -> None:
        """Announces ends, and that a place may be free; asks Slurm for its queue now and then."""
        if any(not record.stopped and not record.ended for record in self._records.values()):
            try:
                await self._take(await self._queue_view.view())
            except FleetError as error:
                log.warning("Slurm does not show its queue: %s", error)
        for worker_id in list(self._records):
            if worker_id not in self._announced:
                state, detail = self._state(worker_id)
                if state is InstanceState.EXITED and self._closing is None:
                    self._announced.add(worker_id)
                    self._announce(worker_id, detail)
        if self._was_short and len(self._waiting()) < self._settings.backlog:
            self._was_short = False
            self._on_notice(PlaceFree())

    def _announce(self, worker_id: int, detail: str) -> None:
        try:
            self._on_exit(worker_id, detail)
        except Exception:
            log.exception("The callback for the end of worker %d failed.", worker_id)

    def _waiting(self) -> dict[int, str]:
        """The instances whose jobs have not begun, with Slurm's reasons."""
        latest = self._queue_view.latest
        found = {}
        for worker_id, record in self._records.items():
            has_begun = self._instances.said(worker_id, RUNS_NAME, record.job_id) is not None
            if not has_begun and self._state(worker_id)[0] is InstanceState.RUNNING:
                job = latest.by_id.get(record.job_id) if latest is not None else None
                found[worker_id] = job.reason if job is not None and job.waits else "just submitted"
        return found

    # ------------------------------------------------------------------------------------------------ housekeeping

    def _check_backlog(self, worker_id: int) -> None:
        waiting = self._waiting()
        if len(waiting) >= self._settings.backlog:
            self._was_short = True
            first, reason = next(iter(waiting.items()))
            raise ShortageError(
                f"Worker {worker_id} is not submitted while worker {first} waits in Slurm's queue ({reason}): "
                f"{len(waiting)} of backlog {self._settings.backlog} wait."
            )

    def _check_resources(self, spec: InstanceSpec) -> None:
        unknown = [name for name in spec.resources.labels if name not in _LABELS]
        if unknown:
            raise FleetError(
                f"Worker {spec.worker_id} was not submitted: the label {unknown[0]!r} means nothing to Slurm; use "
                f"{', '.join(_LABELS)}."
            )

    def _options(self, resources: Mapping[str, Any] | None) -> tuple[str, ...]:
        """What a job asks for, as options of sbatch."""
        wanted = resources or {"gpus": None, "cpus": None, "memory_gb": None, "labels": {}}
        settings = self._settings
        options = {name: getattr(settings, name) for name in _LABELS} | dict(wanted["labels"])
        words = [f"--{name}={value}" for name, value in options.items() if value]
        gpus = settings.gpus_per_worker if wanted["gpus"] is None else wanted["gpus"]
        if gpus:
            words.append(f"--gres=gpu:{settings.gpu_kind + ':' if settings.gpu_kind else ''}{gpus}")
        if wanted["cpus"] is not None:
            words.append(f"--cpus-per-task={max(1, round(wanted['cpus']))}")
        if wanted["memory_gb"] is not None:
            words.append(f"--mem={max(1, round(wanted['memory_gb'] * 1000))}M")
        if settings.time_limit_min:
            words.append(f"--time={settings.time_limit_min}")
        return (*words, *settings.options)

    def _known(self, worker_id: int, participle: str) -> SlurmRecord:
        record = self._records.get(worker_id)
        if record is None:
            raise FleetError(f"Worker {worker_id} cannot be {participle}: the Slurm fleet has no such instance.")
        return record

    def _save(self, worker_id: int) -> None:
        try:
            self._instances.save(worker_id, self._records[worker_id])
        except OSError as error:
            raise FleetError(f"The shared directory of the Slurm fleet cannot be written ({error}).") from error

    def _remove(self, worker_id: int) -> None:
        self._records.pop(worker_id, None)
        self._submitted_at.pop(worker_id, None)
        try:
            self._instances.remove(worker_id)
        except OSError as error:
            raise FleetError(f"What worker {worker_id} left cannot be removed ({error}).", definite=False) from error

    async def _enqueue(self, worker_id: int, call: Callable[[], Coroutine[None, None, None]]) -> None:
        self._check_open()
        await self._queue.run(worker_id, call)

    def _check_open(self) -> None:
        if self._closing is not None:
            raise FleetError("The Slurm fleet is closed.")

    async def _close(self, *, destroy: bool) -> None:
        if self._watching is not None:
            self._watching.cancel()
        await self._queue.wait_idle()
        if not destroy:
            return
        ending = [self._destroy(worker_id) for worker_id in list(self._records)]
        failures = [each for each in await asyncio.gather(*ending, return_exceptions=True) if each is not None]
        for failure in failures:
            if not isinstance(failure, FleetError):
                raise failure
        if failures:
            raise FleetError(f"{len(failures)} of {len(ending)} workers could not be destroyed: {failures[0]}")


_: type[Fleet] = SlurmFleet
