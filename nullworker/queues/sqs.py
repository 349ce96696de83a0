"""A queue of Amazon SQS, or of anything that speaks its interface.

    sqs://eu-west-1/renders                      the queue's name
    sqs://eu-west-1/123456789012/renders         of another account
    sqs+https://sqs.eu-west-1.amazonaws.com/123456789012/renders      its own URL; see docs/queues.md for more
    sqs://eu-west-1/renders?acks_late=false      consumers delete a message before they work on it
    sqs://eu-west-1/renders?late=0               its counts are right at once, as those of ElasticMQ and LocalStack are

Credentials come from where every AWS tool finds them (environment, profile, instance role), never from the URL. AWS
needs up to a minute until its counts are right; `QueueInfo.lag_s` says so to the dispatcher.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError, NoCredentialsError

from nullworker.queues._sqs_connections import CONNECTIONS, SqsPlace
from nullworker.queues.base import Depth, Queue, QueueError, QueueInfo, QueueWarning
from nullworker.queues.urls import parse_url

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from nullworker.queues.connections import Connections
    from nullworker.queues.urls import QueueUrl

#: AWS promises right counts only after a minute without changes.
LAG_S = 60.0
#: Jobs on a GPU run for minutes or hours; a lease shorter than this needs a word in --check.
LONG_JOB_S = 3600.0
#: Waiting, in flight, delayed.
COUNTS = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
)
#: Codes for a queue that does not exist, in the query and the JSON protocol.
NO_SUCH_QUEUE = frozenset(("AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"))
BOTO_CONFIG = Config(connect_timeout=3, read_timeout=10, retries={"total_max_attempts": 2, "mode": "standard"})


class _Clients:
    """boto3's clients: made slowly (0.1 s), safe to use from several threads, so queues of one region share one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clients: dict[SqsPlace, tuple[Any, int]] = {}

    def take(self, where: SqsPlace) -> Any:
        """A client; each needs a `give_back`."""
        key = replace(where, name="", account="", queue_url=None)
        with self._lock:
            client, users = self._clients.get(key, (None, 0))
            if client is None:
                session = boto3.session.Session(profile_name=where.profile, region_name=where.region)
                client = session.client(
                    "sqs",
                    endpoint_url=where.endpoint_url,
                    verify=where.verify,
                    config=BOTO_CONFIG.merge(Config(client_cert=where.client_cert)),
                )
            self._clients[key] = (client, users + 1)
            return client

    def give_back(self, client: Any) -> None:
        """Ends one use; the last one closes the connections."""
        with self._lock:
            for key, (ours, users) in list(self._clients.items()):
                if ours is not client:
                    continue
                if users > 1:
                    self._clients[key] = (client, users - 1)
                else:
                    del self._clients[key]
                    client.close()


_clients = _Clients()


class SqsQueue:
    """Reads an SQS queue. Opened by ``await SqsQueue.open(url)``; boto3 works in threads."""

    CONNECTIONS: ClassVar[Connections] = CONNECTIONS

    def __init__(self, url: QueueUrl) -> None:
        self._place = SqsPlace.of(url)
        self._url = url
        self._name = self._place.name
        self._queue_url = self._place.queue_url
        has_owner = self._place.account and self._queue_url is None
        self._owner = {"QueueOwnerAWSAccountId": self._place.account} if has_owner else {}
        self._acks_late = url.flag("acks_late", default=True)
        self._lag_s = url.seconds("late", LAG_S, can_be_zero=True)
        self._found_url: str | None = None
        self._client: Any = None
        self._closed = False

    @property
    def _is_exact(self) -> bool:
        """Approximate is AWS's own word for counts that may be late."""
        return not self._lag_s

    @classmethod
    async def open(cls, url: str) -> Self:
        """Finds credentials, and reads the queue once.

        Raises:
            QueueError: the URL is wrong, SQS cannot be reached, or refuses.
        """
        queue = cls(parse_url(url, parameters=("acks_late", "late"), connections=cls.CONNECTIONS))
        try:
            await asyncio.to_thread(queue._connect)
            await queue.depth()
        except BaseException:
            await queue.close()
            raise
        return queue

    async def depth(self) -> Depth:
        """Reads the three counts by one call.

        Raises:
            QueueError: SQS cannot be reached, or refuses.
        """
        now = time.time()  # noqa: TID251 - a wall-clock stamp, for the dispatcher to compare with its own
        attributes = await asyncio.to_thread(self._attributes, list(COUNTS))
        if attributes is None:
            return Depth(0, 0, now, exact=self._is_exact)
        try:
            waiting, in_flight, delayed = (int(attributes[name]) for name in COUNTS)
        except (KeyError, ValueError) as error:
            raise QueueError(f"{self._shown}: the answer has no count {error}; is it SQS?") from error
        in_flight_known = in_flight if self._acks_late else None
        return Depth(waiting, in_flight_known, now, delayed=delayed, exact=self._is_exact)

    async def info(self) -> QueueInfo:
        """Warns of leases that jobs outlive, of groups that serialise, and of jobs that come back for ever.

        Raises:
            QueueError: as for `depth`.
        """
        attributes = await asyncio.to_thread(self._attributes, ["All"])
        if attributes is None:
            warnings = [
                QueueWarning("missing", f"There is no queue {self._name} yet, and nothing waits: check the name.")
            ]
        else:
            warnings = _warnings(self._name, attributes)
        lease_s = float((attributes or {}).get("VisibilityTimeout", 0))
        return QueueInfo(
            kind="sqs",
            name=self._name,
            broker=self._shown,
            lease_s=lease_s or None,
            lag_s=self._lag_s,
            warnings=(*(self._place.tls.warnings() if self._place.tls else ()), *warnings),
        )

    async def changed(self, timeout_s: float) -> bool:
        """Sleeps: SQS announces a message only to the consumers that take it."""
        self._check_open()
        await asyncio.sleep(timeout_s)
        return False

    async def close(self) -> None:
        """Gives the client back."""
        self._closed = True
        client, self._client = self._client, None
        if client is not None:
            _clients.give_back(client)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def _shown(self) -> str:
        at = f" at {self._place.endpoint_url}" if self._place.endpoint_url else ""
        return f"SQS in {self._place.region}{at}"

    def _check_open(self) -> None:
        if self._closed:
            raise QueueError(f"{self._shown}: this queue was closed.")

    def _connect(self) -> None:
        try:
            client = _clients.take(self._place)
        except (BotoCoreError, ValueError) as error:
            self._fail(error)
        if self._closed:
            _clients.give_back(client)
        self._client = client

    def _attributes(self, names: list[str]) -> dict[str, str] | None:
        """Attributes of the queue; None if there is no such queue."""
        self._check_open()
        client = self._client
        try:
            queue_url = self._queue_url or self._found_url
            if queue_url is None:
                queue_url = client.get_queue_url(QueueName=self._name, **self._owner)["QueueUrl"]
                self._found_url = queue_url
            answer = client.get_queue_attributes(QueueUrl=queue_url, AttributeNames=names)
            return dict(answer.get("Attributes", {}))
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in NO_SUCH_QUEUE:
                return None
            self._fail(error)
        except BotoCoreError as error:
            self._fail(error)

    def _fail(self, error: Exception) -> NoReturn:
        said = str(error)
        if isinstance(error, ClientError):
            problem = error.response.get("Error", {})
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", "unknown")
            message = str(problem.get("Message", ""))
            if not message or message.startswith("<"):  # a page in place of an answer
                message = f"the request was refused with HTTP status {status}"
            said = f"{message} ({problem.get('Code') or 'no code'})"
        if isinstance(error, NoCredentialsError):
            said += ", neither in the environment nor in a profile or role: set AWS_PROFILE, say"
        if isinstance(error, EndpointConnectionError):
            said = said.rstrip(".") + "; check the region and the network"
        said = (said.strip().splitlines() or ["no message"])[0].rstrip(".")[:240]
        raise QueueError(f"{self._shown}: {said}.") from error


def _warnings(name: str, attributes: dict[str, str]) -> list[QueueWarning]:
    warnings = []
    visibility_s = float(attributes.get("VisibilityTimeout", 0))
    if visibility_s < LONG_JOB_S:
        warnings.append(
            QueueWarning(
                "short-lease",
                f"A job that runs longer than {visibility_s:g} s (VisibilityTimeout) is given to another consumer as "
                "well: renew it beside the job, from another process, by ChangeMessageVisibility (12 h at most).",
            )
        )
    if attributes.get("FifoQueue") == "true" or name.endswith(".fifo"):
        warnings.append(
            QueueWarning(
                "fifo-groups",
                "It is a FIFO queue: of the messages of one group a single one is given out at a time, so that more "
                "workers than there are groups would idle; set --max to the number of groups.",
            )
        )
    receives = None
    with contextlib.suppress(ValueError, AttributeError):
        receives = json.loads(attributes.get("RedrivePolicy", "{}")).get("maxReceiveCount")
    if receives is None:
        warnings.append(
            QueueWarning(
                "no-dead-letter",
                "There is no redrive policy: a job that always fails comes back for as long as messages are kept, and "
                "keeps a worker busy all that time.",
            )
        )
    elif int(receives) < 2:
        warnings.append(
            QueueWarning(
                "single-receive",
                "maxReceiveCount is 1: a job whose worker is lost goes to the dead-letter queue, and is not run again.",
            )
        )
    return warnings


_: type[Queue] = SqsQueue
