"""Jobs that no instance has any more: they are removed once they have ended, and some of them stand for a shortage.

Ray cannot take back a job that waits. One that is told to stop while it waits ends as soon as it begins: so the job of
a worker that was refused for want of a place stays as a placeholder, which Ray's autoscaler sees; when it has ended,
there was a place. One that nothing asks for any more is cancelled from inside the cluster, by a job of its own, and
Ray itself gives up what has waited for 15 minutes.
"""

from __future__ import annotations

import asyncio
import logging
import shlex
from typing import TYPE_CHECKING

from nullworker.fleets.base import FleetError, ShortageError
from nullworker.fleets.ray.records import LeftJob
from nullworker.fleets.ray.wording import what_is_short

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from nullworker.fleets.ray.jobs_api import Jobs, JobsApi
    from nullworker.fleets.ray.records import RayRecords

log = logging.getLogger(__name__)

#: A placeholder that nothing asked for during so long is cancelled; the engine tries at least every 300 s.
FORGET_AFTER_S = 600.0
#: Ray's watch over a job lets go of it about a second after its end; a job that is deleted before comes back as failed.
LINGER_S = 3.0
#: Ray's own interpreter and package, as the process for the job has them: `python` may well be another.
_RAYS_PYTHON = r"""
folder=$(sed -n 's|^[^/]*\(/.*\)/ray/_raylet.*|\1|p' /proc/$PPID/maps | head -n 1)
PYTHONPATH="$folder" exec "$(readlink /proc/$PPID/exe)" -c"""
_CANCEL = """
import ray, sys
ray.init("auto", log_to_driver=False, logging_level="ERROR")
for name in sys.argv[1:]:
    try:
        ray.kill(ray.get_actor("_ray_internal_job_actor_" + name, namespace="SUPERVISOR_ACTOR_RAY_NAMESPACE"))
    except ValueError:
        pass
"""


class Placeholders:
    """The jobs of one mark that no instance has."""

    def __init__(
        self,
        api: JobsApi,
        records: RayRecords,
        new_id: Callable[[int], str],
        place_free: Callable[[], None],
    ) -> None:
        """Takes what it uses.

        Args:
            api: is called.
            records: where the jobs are written down.
            new_id: makes an id for a job of a worker.
            place_free: called when one has ended: there was a place.
        """
        self._api = api
        self._records = records
        self._new_id = new_id
        self._place_free = place_free
        self._jobs: dict[str, LeftJob] = {}
        self._since: dict[str, float] = {}  # when each was last of use, of the event loop's clock
        self._seen_ended: dict[str, float] = {}
        self._cancelled: set[str] = set()

    def load(self) -> None:
        """Reads what was written down. Raises OSError."""
        self._jobs = self._records.load_left()
        self._since = dict.fromkeys(self._jobs, asyncio.get_running_loop().time())

    @property
    def job_ids(self) -> set[str]:
        """The jobs."""
        return set(self._jobs)

    def job_of(self, worker_id: int) -> tuple[str, str]:
        """The last job of a worker that is gone, and the node it ran on; two empty words: there is none."""
        found = [(job_id, left.node_id) for job_id, left in self._jobs.items() if left.worker_id == worker_id]
        return found[-1] if found else ("", "")

    def leave(self, job_id: str, worker_id: int, node_id: str = "", kind: str = "", shape: str = "") -> None:
        """A job is of no instance any more.

        Args:
            job_id: its submission id.
            worker_id: of the worker that it was for.
            node_id: where it ran.
            kind: what it waits for, if it stands for a shortage.
            shape: the same without labels, as Ray shows it.
        """
        self._jobs[job_id] = LeftJob(worker_id=worker_id, node_id=node_id, kind=kind, shape=shape)
        self._since[job_id] = asyncio.get_running_loop().time()
        self._save()

    def count(self, shape: str) -> int:
        """How many stand for a shortage of what Ray shows so."""
        return sum(left.kind != "" and left.shape == shape for left in self._jobs.values())

    async def check(self, worker_id: int, kind: str, backlog: int, reason: Callable[[], Awaitable[str]]) -> None:
        """Returns if fewer placeholders of this kind than ``backlog`` wait.

        Args:
            worker_id: the worker that is to be created.
            kind: what it needs, as `leave` got it.
            backlog: how many may wait.
            reason: asked why, if they do.

        Raises:
            ShortageError: they do.
            FleetError: Ray does not answer.
        """
        waiting = [job_id for job_id, left in self._jobs.items() if left.kind == kind]
        for job_id in waiting[:]:
            job = await self._api.job(job_id)
            self._since[job_id] = asyncio.get_running_loop().time()
            if job is None or not job.waits:
                self._met(job_id)
                waiting.remove(job_id)
        if len(waiting) >= backlog:
            raise ShortageError(f"Ray has no place for worker {worker_id} ({await reason()}).")

    def _met(self, job_id: str) -> None:
        left = self._jobs.get(job_id)
        if left is not None and left.kind:
            left.kind = ""
            self._since[job_id] = asyncio.get_running_loop().time()
            self._save()

    async def sweep(self, view: Jobs) -> None:
        """Does what is due, as a view of Ray's jobs shows them. Raises FleetError.

        Args:
            view: the present one.
        """
        now = asyncio.get_running_loop().time()
        to_cancel: list[str] = []
        for job_id, left in list(self._jobs.items()):
            since = self._since[job_id]
            if view.asked_at <= since:
                continue
            job = view.by_id.get(job_id)
            if left.kind and (job is None or not job.waits):
                self._met(job_id)
                self._place_free()
            elif job is None:
                self._forget(job_id)
            elif job.has_ended:
                seen_at = self._seen_ended.setdefault(job_id, now)
                if now - seen_at >= LINGER_S and await self._api.delete(job_id):
                    self._forget(job_id)
            elif not left.worker_id:
                continue  # it cancels others, and ends by itself
            elif not job.waits:
                await self._api.stop(job_id)
            elif not left.kind or now - since > FORGET_AFTER_S:
                to_cancel.append(job_id)
        await self.cancel(to_cancel)

    async def cancel(self, job_ids: list[str]) -> None:
        """Takes back jobs that wait: a job on the head does it. Raises FleetError.

        Args:
            job_ids: the jobs; those for which this was done before are left out.
        """
        fresh = [job_id for job_id in job_ids if job_id not in self._cancelled]
        if not fresh:
            return
        self._cancelled.update(fresh)
        own_id = self._new_id(0)
        entrypoint = " ".join((_RAYS_PYTHON, *(shlex.quote(word) for word in (_CANCEL, *fresh))))
        await self._api.submit({"submission_id": own_id, "entrypoint": entrypoint})
        self.leave(own_id, 0)

    async def cancel_all(self) -> None:
        """Takes back all that waits. Raises FleetError."""
        waiting = []
        for job_id in list(self._jobs):
            job = await self._api.job(job_id) if job_id not in self._cancelled else None
            waiting += [job_id] if job is not None and job.waits else []
        await self.cancel(waiting)

    def _forget(self, job_id: str) -> None:
        self._jobs.pop(job_id, None)
        self._since.pop(job_id, None)
        self._seen_ended.pop(job_id, None)
        self._cancelled.discard(job_id)
        self._save()

    def _save(self) -> None:
        try:
            self._records.save_left(self._jobs)
        except OSError as error:
            raise FleetError(f"The state directory of the Ray fleet cannot be written ({error}).") from error


def kind_of(wanted: Mapping[str, float], labels: Mapping[str, str]) -> str:
    """What a worker needs, as one word: two that need the same wait for the same.

    Args:
        wanted: resources by name.
        labels: that the node must have.
    """
    parts = [*(f"{name}:{n:g}" for name, n in sorted(wanted.items())), *(f"{k}={v}" for k, v in sorted(labels.items()))]
    return ",".join(parts) or "nothing"


async def why_short(api: JobsApi, wanted: Mapping[str, float], labels: Mapping[str, str]) -> str:
    """Why Ray has no place for a worker. Raises FleetError.

    Args:
        api: is asked.
        wanted: resources by name.
        labels: that the node must have.
    """
    return what_is_short(wanted, labels, await api.cluster_status())
