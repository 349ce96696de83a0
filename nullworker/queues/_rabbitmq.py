"""What the adapters for RabbitMQ share: first of all, its management API.

All queues of a virtual host share one HTTP session and one question for their counts. A queue's own page
(``/api/queues/vhost/name``) is made from statistics that are up to five seconds old, and has no counts at all while
the queue is new; the list with ``enable_queue_totals`` asks the queues themselves.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias
from urllib.parse import quote
from weakref import WeakKeyDictionary

import aiohttp

from nullworker.queues._batches import Batch
from nullworker.queues._tls import tls_settings, tls_ways
from nullworker.queues.base import QueueError, QueueWarning
from nullworker.queues.connections import Connections, Way
from nullworker.queues.urls import place

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nullworker.queues.urls import QueueUrl

Json: TypeAlias = "dict[str, Any]"

#: RabbitMQ's own default of ``consumer_timeout``, since 3.8.17; the server does not tell what it was set to.
CONSUMER_TIMEOUT_S = 1800.0
DEFAULT_PORT = 15672
#: dramatiq keeps messages that are delayed, or will be tried again, in a queue of this name beside their own.
DELAY_QUEUE_SUFFIX = ".DQ"
LIMITS = aiohttp.ClientTimeout(total=15, sock_connect=5)
#: Queues a request: their names make a regular expression in its URL, and URLs have limits.
NAMES_MAX = 50

CONNECTIONS = Connections(
    "RabbitMQ",
    several=True,
    ways=(
        Way(
            "plain",
            "management API",
            "`rabbitmq+http://user:password@host:15672/vhost/queue`",
            "The virtual host `/` is written `%2F`, or left out. The API's own address does as well, and that of the "
            "queue's page: `rabbitmq+http://host:15672/api/queues/vhost/queue`, `rabbitmq+http://host:15672/#/queues/…`.",
            transports=("http", "https"),
        ),
        *tls_ways(
            (),
            scheme="rabbitmq+https://host/vhost/queue?",
            written="`rabbitmq+https://user:password@host:443/vhost/queue`",
            also_authority=("cafile", "cacertfile"),
            verify=("no_verify_ssl", "verify"),
        ),
        Way(
            "path-prefix",
            "API behind a path",
            "`rabbitmq+https://host:443/vhost/queue?path_prefix=/rabbit`, or "
            "`rabbitmq+https://host:443/rabbit/api/queues/vhost/queue`",
            parameters=("path_prefix",),
        ),
        Way("ipv6", "IPv6 address", "`rabbitmq+http://[2001:db8::1]:15672/vhost/queue`"),
        Way(
            "failover",
            "several servers of one cluster",
            "`rabbitmq+http://user:password@host1:15672,host2:15672/vhost/queue`",
            "The first that answers.",
        ),
    ),
)


class Management:
    """The API for one virtual host. Opened by `share`, let go of by `leave`."""

    _shared: ClassVar[WeakKeyDictionary[asyncio.AbstractEventLoop, dict[tuple[str, ...], Management]]] = (
        WeakKeyDictionary()
    )

    def __init__(self, key: tuple[str, ...], url: QueueUrl, vhost: str, prefix: str) -> None:
        """Use `share`.

        Args:
            key: by which it is shared.
            url: of one of its queues, taken apart.
            vhost: the virtual host.
            prefix: the path before ``/api``.

        Raises:
            QueueUrlError: what the URL says of TLS cannot be used.
        """
        scheme = url.transport
        tls = tls_settings(url, is_tls=scheme == "https")
        places = [place(host.name or "localhost", host.port or DEFAULT_PORT) for host in url.hosts]
        self.users = 0
        self.vhost = vhost
        self.shown = f"RabbitMQ's management API at {', '.join(where + prefix for where in places)}"
        self.tls_warnings = tuple(tls.warnings() if tls else ())
        self._key = key
        self._url = url
        self._bases = [f"{scheme}://{where}{quote(prefix)}" for where in places]  # the last to answer comes first
        self._counts = Batch(self._ask_counts)
        secret = f"{url.username or 'guest'}:{'guest' if url.password is None else url.password}"
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=tls.context(url) if tls else True),
            headers={"Authorization": "Basic " + base64.b64encode(secret.encode()).decode()},
            timeout=LIMITS,
            raise_for_status=False,
        )

    @classmethod
    def share(cls, url: QueueUrl, vhost: str, prefix: str) -> Management:
        """The API that a URL names; every call needs a `leave`.

        Args:
            url: of a queue, taken apart.
            vhost: the queue's virtual host.
            prefix: the path before ``/api``.

        Raises:
            QueueUrlError: what the URL says of TLS cannot be used.
        """
        key = (url.scheme, repr(url.hosts), str(url.username), str(url.password), vhost, prefix, repr(url.parameters))
        shared = cls._shared.setdefault(asyncio.get_running_loop(), {})
        if key not in shared:
            shared[key] = cls(key, url, vhost, prefix)
        shared[key].users += 1
        return shared[key]

    async def leave(self) -> None:
        """Ends one use; the last one closes the session."""
        self.users -= 1
        if self.users == 0:
            self._shared.get(asyncio.get_running_loop(), {}).pop(self._key, None)
            await self._counts.close()
            await self._session.close()

    async def counts(self, name: str) -> Json | None:
        """What a queue says of itself (``messages_ready``, ``messages_unacknowledged``, ``arguments``, ``state`` …).

        If there is a `DELAY_QUEUE_SUFFIX` beside it, what that says of itself is under that name.

        Returns:
            None if there is no such queue.

        Raises:
            QueueError: the API cannot be reached or refuses, or there is no such virtual host.
        """
        return await self._counts.read(name)

    async def details(self, name: str) -> Json | None:
        """A queue's own page, with ``consumer_details`` and policies; up to five seconds old. None: no such queue.

        Raises:
            QueueError: as for `counts`.
        """
        found: Json | None = await self._get(f"queues/{quote(self.vhost, safe='')}/{quote(name, safe='')}", {})
        return found

    async def version(self) -> str:
        """The server's version.

        Raises:
            QueueError: as for `counts`.
        """
        overview: Json = await self._get("overview", {}) or {}
        return str(overview.get("rabbitmq_version", "unknown"))

    async def _ask_counts(self, names: list[str]) -> Mapping[str, Json]:
        found: dict[str, Json] = {}
        for start in range(0, len(names), NAMES_MAX):
            alternatives = "|".join(re.escape(name) for name in names[start : start + NAMES_MAX])
            page = await self._get(
                f"queues/{quote(self.vhost, safe='')}",
                {
                    "disable_stats": "true",
                    "enable_queue_totals": "true",
                    "page": "1",
                    "page_size": str(3 * NAMES_MAX),
                    "use_regex": "true",
                    "name": f"^({alternatives})({re.escape(DELAY_QUEUE_SUFFIX)})?$",
                },
            )
            if page is None:
                raise QueueError(f"{self.shown}: there is no virtual host {self.vhost!r}; / is written %2F.")
            found |= {str(item.get("name")): item for item in page["items"]}
        for name in names:
            if name in found:
                found[name][DELAY_QUEUE_SUFFIX] = found.get(name + DELAY_QUEUE_SUFFIX)
        return found

    async def _get(self, path: str, parameters: dict[str, str]) -> Any:
        """The parsed answer of the first server that answers, None for 404."""
        for base in list(self._bases):
            try:
                async with self._session.get(f"{base}/api/{path}", params=parameters) as response:
                    body = await response.read()
                break
            except (asyncio.TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
                self._bases.append(self._bases.pop(0))
                failure = error
        else:
            raise self._unreachable(failure) from failure
        if response.status == 404:
            return None
        if response.status in {401, 403}:
            raise QueueError(
                f"{self.shown} refuses the user (HTTP status {response.status}): check name and password, the tag "
                "'monitoring' or 'management', and the user's rights in the virtual host."
            )
        if response.status == 200:
            with contextlib.suppress(ValueError):
                return json.loads(body)
        raise QueueError(f"{self.shown} answers (HTTP status {response.status}), but not as RabbitMQ: check the port.")

    def _unreachable(self, error: Exception) -> QueueError:
        if isinstance(error, asyncio.TimeoutError):
            return QueueError(f"{self.shown} did not answer in time.")
        said = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")[:200]
        port = "that port" if self._url.port else f"the port, {DEFAULT_PORT} unless the URL has another (clouds: 443)"
        said = f"{self.shown} cannot be reached: {said}; check that it is up, and {port}."
        return QueueError(self._url.hidden(said))


def delay_queue(name: str, due: int) -> QueueWarning:
    """The warning of messages beside a queue that dramatiq has delayed or will try again.

    Args:
        name: of the queue.
        due: how many of them no worker holds.
    """
    return QueueWarning(
        "delay-queue",
        f"{due} message(s) are in {name}{DELAY_QUEUE_SUFFIX}, which only a worker of dramatiq moves; when they are due "
        "cannot be read, so that they call for a worker now: add ignore_delayed=true to the URL if one runs elsewhere.",
    )


def missing_queue(name: str) -> QueueWarning:
    """The warning for a queue that is not there."""
    return QueueWarning("missing", f"There is no queue {name} yet, and nothing waits: check the name.")


def timeout_warning(lease_s: float) -> QueueWarning:
    """The warning for a time limit on acknowledgements that jobs may outlive."""
    return QueueWarning(
        "short-lease",
        f"A job that is not acknowledged within {lease_s / 60:g} min (consumer_timeout; 30 min unless a policy or "
        "rabbitmq.conf says otherwise) loses its channel and is given to another consumer: raise that limit.",
    )
