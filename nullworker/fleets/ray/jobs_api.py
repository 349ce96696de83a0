"""The routes of Ray's dashboard that the fleet uses, and one list of all jobs: asking for each would be many calls.

An answer that is not as documented is a `FleetError`: what Ray says is read, and not believed to be well-formed.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import aiohttp
import msgspec

from nullworker.fleets.base import FleetError
from nullworker.fleets.ray.wording import last_words
from nullworker.wire import tasks

if TYPE_CHECKING:
    import re
    from collections.abc import Mapping

#: A call that has not been answered for so long has failed; an upload has as long for each of its mebibytes.
CALL_S = 30.0
#: How old the cluster's status may be; Ray itself looks every 5 s.
STATUS_S = 1.0
#: So many calls at once.
CALLS_MAX = 16
_ENDS = frozenset({"STOPPED", "SUCCEEDED", "FAILED"})
_STATES = _ENDS | {"PENDING", "RUNNING"}
_LISTED_BYTES_MAX = 512 << 20


class RayError(FleetError):
    """Ray answered, and said no; certainly nothing was done."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Job:
    """One job that was submitted, as Ray shows it."""

    job_id: str
    status: str
    message: str = ""
    error_type: str = ""
    node_id: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)  # of its runtime environment

    @property
    def waits(self) -> bool:
        """Whether it has not begun."""
        return self.status == "PENDING"

    @property
    def has_ended(self) -> bool:
        """Whether it runs no more, and never will."""
        return self.status in _ENDS


@dataclass(frozen=True, slots=True)
class Jobs:
    """The jobs at one moment, by their submission ids."""

    asked_at: float  # of the event loop's clock, before Ray was asked
    by_id: Mapping[str, Job]


class JobsApi:
    """Calls the dashboard."""

    def __init__(self, address: str, token: str) -> None:
        """Takes the address of the dashboard, and its token ("": it needs none)."""
        self.address = address
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._session: aiohttp.ClientSession | None = None
        self._status: asyncio.Task[str] | None = None
        self._status_at = 0.0
        self._limit = asyncio.Semaphore(CALLS_MAX)

    async def version(self) -> str:
        """Ray's version. Raises FleetError."""
        answer = await self._json("GET", "/api/version")
        if not isinstance(answer, dict) or not isinstance(answer.get("ray_version"), str):
            raise FleetError(f"{self.address} is no dashboard of Ray: correct address of [fleet.ray].")
        return str(answer["ray_version"])

    async def submit(self, body: Mapping[str, Any]) -> None:
        """Submits a job under the submission id that ``body`` has. One that is there already is no error.

        Raises:
            RayError: it was refused.
            FleetError: Ray did not answer, and may have done it.
        """
        job_id = str(body["submission_id"])
        for tries_left in (1, 0):
            try:
                await self._json("POST", "/api/jobs/", body)
                return
            except FleetError as error:
                if isinstance(error, RayError) and error.status in (401, 403):
                    raise
                # Whether it took effect is asked, and it is sent again: one submission id is one job.
                if await self.job(job_id) is not None:
                    return
                if error.definite or not tries_left:
                    raise

    async def job(self, job_id: str) -> Job | None:
        """One job; None: there is no such job. Raises FleetError."""
        try:
            return _job_in(await self._json("GET", f"/api/jobs/{quote(job_id)}"))
        except RayError as error:
            if error.status == 404:
                return None
            raise

    async def jobs(self) -> dict[str, Job]:
        """All jobs that were submitted, by their ids. Raises FleetError."""
        answer = await self._json("GET", "/api/jobs/")
        if not isinstance(answer, list):
            raise FleetError("Ray's list of jobs is not as documented.", definite=False)
        found = (_job_in(each) for each in answer if isinstance(each, dict) and each.get("submission_id"))
        return {job.job_id: job for job in found}

    async def stop(self, job_id: str) -> None:
        """Asks a job to end; one that waits ends as soon as it begins. One that is not there is no error."""
        try:
            await self._json("POST", f"/api/jobs/{quote(job_id)}/stop")
        except RayError as error:
            if error.status != 404:
                raise

    async def delete(self, job_id: str) -> bool:
        """Removes a job that has ended from Ray's list. Returns whether it is gone. Raises FleetError."""
        try:
            await self._json("DELETE", f"/api/jobs/{quote(job_id)}")
        except RayError as error:
            return error.status == 404
        return True

    async def cluster_status(self) -> str:
        """What ``ray status`` prints, "" where there is nothing yet; one question a second serves all.

        Raises:
            FleetError: Ray does not answer.
        """
        now = asyncio.get_running_loop().time()
        if self._status is None or now - self._status_at >= STATUS_S:
            self._status, self._status_at = tasks.start(self._cluster_status()), now
        return await asyncio.shield(self._status)

    async def _cluster_status(self) -> str:
        answer = await self._json("GET", "/api/cluster_status?format=1")
        data = answer.get("data") if isinstance(answer, dict) else None
        text = data.get("clusterStatus") if isinstance(data, dict) else None
        return text if isinstance(text, str) else ""

    async def log_end(self, job_id: str, node_id: str, lines: int) -> bytes:
        """The last lines of what a job has printed; empty where Ray does not have it.

        Args:
            job_id: the job, which may have been deleted.
            node_id: where it runs or ran.
            lines: how many.

        Raises:
            FleetError: Ray does not answer.
        """
        name = quote(f"job-driver-{job_id}.log")
        try:
            route = f"/api/v0/logs/file?node_id={quote(node_id)}&filename={name}&lines={lines}"
            return await self._call("GET", route)
        except RayError as error:
            if error.status in (401, 403):
                raise
            return b""  # the node is gone, or has removed the file

    async def has_package(self, name: str) -> bool:
        """Whether a package of code is there; if so, it is kept for some minutes more. Raises FleetError."""
        try:
            await self._call("GET", f"/api/packages/gcs/{name}")
        except RayError as error:
            if error.status == 404:
                return False
            raise
        return True

    async def put_package(self, name: str, content: bytes) -> None:
        """Uploads a package of code. Raises FleetError."""
        timeout_s = CALL_S * (1 + (len(content) >> 20))
        await self._call("PUT", f"/api/packages/gcs/{name}", content, timeout_s=timeout_s)

    async def close(self) -> None:
        """Closes the connections."""
        if self._session is not None:
            await self._session.close()

    async def _json(self, method: str, route: str, body: Mapping[str, Any] | None = None) -> Any:
        content = None if body is None else msgspec.json.encode(body)
        try:
            return msgspec.json.decode(await self._call(method, route, content))
        except msgspec.DecodeError as error:
            raise FleetError(f"{self.address} answers, but not as Ray's dashboard does.", definite=False) from error

    async def _call(self, method: str, route: str, content: bytes | None = None, *, timeout_s: float = CALL_S) -> bytes:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                headers={**self._headers, "User-Agent": "nullworker"}, trust_env=False
            )
        kind = {"Content-Type": "application/json" if method == "POST" else "application/octet-stream"}
        try:
            async with (
                self._limit,
                self._session.request(
                    method,
                    self.address + route,
                    data=content,
                    headers=kind if content is not None else {},
                    timeout=aiohttp.ClientTimeout(total=timeout_s),
                    allow_redirects=False,
                ) as response,
            ):
                read = await response.content.read(_LISTED_BYTES_MAX)
                while chunk := await response.content.read(_LISTED_BYTES_MAX - len(read)):
                    read += chunk
                status = response.status
        except aiohttp.ClientConnectorError as error:
            why = error.strerror or str(error)
            raise FleetError(f"Ray's dashboard at {self.address} cannot be reached ({why}).") from error
        except (asyncio.TimeoutError, aiohttp.ClientError, ValueError) as error:
            why = str(error) or f"no answer for {timeout_s:g} s"
            raise FleetError(f"Ray's dashboard at {self.address} did not answer ({why}).", definite=False) from error
        if status == 200:
            return read
        if status in (401, 403):
            raise RayError(
                f"Ray at {self.address} refuses the token ({last_words(read.decode(errors='replace'))}): put it into "
                "RAY_AUTH_TOKEN or token_file of [fleet.ray].",
                status,
            )
        raise RayError(f"Ray refused: {last_words(read.decode(errors='replace'))}.", status)


def _job_in(answer: object) -> Job:
    if not isinstance(answer, dict) or answer.get("status") not in _STATES:
        raise FleetError("Ray shows a job that is not as documented.", definite=False)
    environment = answer.get("runtime_env")
    variables = environment.get("env_vars") if isinstance(environment, dict) else None
    return Job(
        str(answer.get("submission_id")),
        str(answer["status"]),
        str(answer.get("message") or ""),
        str(answer.get("error_type") or ""),
        str(answer.get("driver_node_id") or ""),
        variables if isinstance(variables, dict) else {},
    )


class JobsView:
    """The jobs whose ids begin with a prefix, as Ray shows them."""

    def __init__(self, api: JobsApi, pattern: re.Pattern[str], period_s: float) -> None:
        """Takes what it uses.

        Args:
            api: is asked.
            pattern: of the ids that are of interest.
            period_s: how old a view may be.
        """
        self._api = api
        self._pattern = pattern
        self._period_s = period_s
        self._view: Jobs | None = None
        self._asking: asyncio.Task[Jobs] | None = None

    async def view(self) -> Jobs:
        """The present view: Ray is asked if the latest is older than the period; one question serves all.

        Raises:
            FleetError: Ray does not answer.
        """
        now = asyncio.get_running_loop().time()
        if self._view is not None and now - self._view.asked_at < self._period_s:
            return self._view
        if self._asking is None or self._asking.done():
            self._asking = tasks.start(self._ask(now))
        return await asyncio.shield(self._asking)

    async def _ask(self, now: float) -> Jobs:
        jobs = await self._api.jobs()
        self._view = Jobs(now, {job_id: job for job_id, job in jobs.items() if self._pattern.fullmatch(job_id)})
        return self._view
