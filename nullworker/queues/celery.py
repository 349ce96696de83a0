"""Celery on Redis, as kombu lays it out.

    celery+redis://host:6379/0?queue=celery
    celery+redis://host:6379/0?queue=gpu&acks_late=true      tasks are acknowledged when they are done (see below)
    celery+rediss://… celery+sentinel://…                    with TLS, by Sentinel: see docs/queues.md

By default Celery acknowledges a task when it *starts*, so that a running one is nowhere in Redis, and what is in flight
is unknown. With ``task_acks_late = True`` (and ``worker_prefetch_multiplier = 1``) it is in the hash of unacknowledged
messages until it is done; ``acks_late=true`` in the URL says that this is so.

That hash is one for all queues of a database and holds whole messages, so a read-only script on the server splits it.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from nullworker.queues._redis import HandOver, RedisQueue, now_s
from nullworker.queues.base import Depth, Queue, QueueUrlError, QueueWarning

if TYPE_CHECKING:
    from typing_extensions import Self

    from nullworker.queues._redis_watch import Watch
    from nullworker.queues.urls import QueueUrl

DEFAULT_SEPARATOR = "\x06\x16"
DEFAULT_PRIORITY_STEPS = "0,3,6,9"
DEFAULT_VISIBILITY_TIMEOUT_S = 3600.0
#: Of a queue that is no longer than this, every message is looked at for its ETA; in a longer one, all count as due.
WAITING_LOOKED_AT_MAX = 100
#: Unacknowledged messages looked at; with prefetch 1 there is one for each busy worker.
UNACKED_LOOKED_AT_MAX = 1000

# The end of an unacknowledged message is its routing key, so whose it is takes no reading of the rest.
_READ = """
local waiting_max, unacked_max, expired_before = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local function eta_of(message)
    local _, before = string.find(message, '"eta": "', 1, true)
    return before and string.match(message, '^[^"]+', before + 1)
end
local function is_ours(value)
    for i = 4, #ARGV do
        if string.sub(value, -#ARGV[i]) == ARGV[i] then return true end
    end
end
local waiting, etas = 0, {}
for i = 2, #KEYS do waiting = waiting + redis.call('LLEN', KEYS[i]) end
if waiting <= waiting_max then
    for i = 2, #KEYS do
        for _, message in ipairs(redis.call('LRANGE', KEYS[i], 0, -1)) do etas[#etas + 1] = eta_of(message) end
    end
end
local held, held_etas, redelivered, looked_at, cursor = 0, {}, 0, 0, '0'
local expired, expired_etas = 0, {}
repeat
    local page = redis.call('HSCAN', KEYS[1], cursor, 'COUNT', 100)
    cursor = page[1]
    for i = 2, #page[2], 2 do
        local value = page[2][i]
        looked_at = looked_at + 1
        if is_ours(value) then
            local since = tonumber(redis.call('ZSCORE', KEYS[1] .. '_index', page[2][i - 1]) or '')
            if since and since < expired_before then
                expired = expired + 1
                expired_etas[#expired_etas + 1] = eta_of(value)
            else
                held = held + 1
                held_etas[#held_etas + 1] = eta_of(value)
            end
            if string.find(value, '"redelivered": true', 1, true) then redelivered = redelivered + 1 end
        end
    end
until cursor == '0' or looked_at >= unacked_max
return {waiting, etas, held, held_etas, redelivered, expired, expired_etas, cursor == '0' and 1 or 0}
"""


@dataclass(frozen=True, slots=True)
class _CeleryReading:
    waiting: int
    etas: list[float]  # of messages that wait, Unix seconds
    held: int  # by workers: unacknowledged
    held_etas: list[float]
    redelivered: int
    expired: int  # unacknowledged for longer than the visibility timeout: the next worker gives them back
    expired_etas: list[float]
    complete: bool


class CeleryQueue(RedisQueue):
    """Reads one Celery queue, with all its priorities."""

    kind = "celery"
    parameters = frozenset(
        {"queue", "acks_late", "visibility_timeout", "priority_steps", "sep", "keyprefix", "routing_keys"}
    )

    def __init__(self, url: QueueUrl, name: str, *, acks_late: bool) -> None:
        """Use `open`.

        Args:
            url: of the queue, taken apart.
            name: of the queue.
            acks_late: whether all its tasks acknowledge late.
        """
        super().__init__(url, name)
        self._acks_late = acks_late
        self._hand_over = HandOver()
        self._visibility_timeout_s = url.seconds("visibility_timeout", DEFAULT_VISIBILITY_TIMEOUT_S)
        self._prefix = url.parameters.get("keyprefix", "")
        separator = url.text("sep", DEFAULT_SEPARATOR)
        steps = url.text("priority_steps", DEFAULT_PRIORITY_STEPS).split(",")
        if not all(step.isdecimal() for step in steps):
            raise QueueUrlError(
                f"{url.shown}: priority_steps should be numbers with commas between, as in Celery's setting."
            )
        self._lists = [self._prefix + (f"{name}{separator}{step}" if int(step) else name) for step in steps]
        self._unacked = f"{self._prefix}unacked"
        self._endings = [f"{json.dumps(key)}]" for key in url.text("routing_keys", name).split(",")]

    @classmethod
    async def open(cls, url: str) -> Self:
        scheme = url.partition("://")[0].lower()
        if scheme.partition("+")[2] not in {*cls.CONNECTIONS.transports} - {""}:
            raise QueueUrlError(
                f"{scheme}://…: Celery is read on Redis: celery+redis://…, celery+rediss://… or celery+sentinel://…; "
                "its queues on RabbitMQ are read by rabbitmq+http://…, those on SQS by sqs://…."
            )
        return await super().open(url)

    @classmethod
    def from_url(cls, url: QueueUrl) -> Self:
        return cls(url, url.text("queue", "celery"), acks_late=url.flag("acks_late"))

    async def depth(self) -> Depth:
        """Reads the queue by one round trip; ``in_flight`` is None unless the URL says ``acks_late=true``.

        Tasks with an ETA or countdown that is not reached are delayed, whether they are in the queue or in a worker.
        Those that are unacknowledged beyond the visibility timeout are abandoned: kombu gives them back when a worker
        comes.
        """
        now = now_s()
        reading = await self._read()
        later = [eta for eta in reading.etas if eta > now]
        held_later = [eta for eta in reading.held_etas if eta > now]
        expired_later = [eta for eta in reading.expired_etas if eta > now]
        next_due = min((*later, *held_later, *expired_later), default=None)
        waiting, in_flight = reading.waiting - len(later), reading.held - len(held_later)
        abandoned = reading.expired - len(expired_later)
        is_certain = self._hand_over.is_over(time.monotonic(), is_empty=waiting == in_flight == abandoned == 0)
        return Depth(
            waiting=waiting,
            in_flight=in_flight if self._acks_late else None,
            sampled_at_s=now,
            delayed=len(later) + len(held_later) + len(expired_later),
            next_due_in_s=None if next_due is None else next_due - now,
            redelivered=reading.redelivered,
            abandoned=abandoned,
            exact=reading.complete and is_certain,
        )

    async def _read(self) -> _CeleryReading:
        keys = [self._unacked, *self._lists]
        limits = (WAITING_LOOKED_AT_MAX, UNACKED_LOOKED_AT_MAX, now_s() - self._visibility_timeout_s)
        answer = await self.broker.ask("EVAL", _READ, len(keys), *keys, *limits, *self._endings)
        waiting, etas, held, held_etas, redelivered, expired, expired_etas, complete = answer
        return _CeleryReading(
            waiting, _unix(etas), held, _unix(held_etas), redelivered, expired, _unix(expired_etas), bool(complete)
        )

    async def warnings(self) -> list[QueueWarning]:
        """Of early acknowledgement, of prefetching, of tasks that outlive the visibility timeout."""
        now = now_s()
        reading = await self._read()
        expired, workers = await self.broker.read(
            ("ZCOUNT", f"{self._prefix}unacked_index", "-inf", now - self._visibility_timeout_s),
            ("SCARD", f"{self._prefix}_kombu.binding.celery.pidbox"),  # workers that listen to remote control
        )
        held = reading.held - sum(eta > now for eta in reading.held_etas)
        found = []
        if not self._acks_late:
            found.append(
                QueueWarning(
                    "early-ack",
                    "Celery acknowledges a task when it starts, so a running one is unseen, and lost with its worker: "
                    "set task_acks_late = True and worker_prefetch_multiplier = 1, and add &acks_late=true to the URL.",
                )
            )
        if held if not self._acks_late else held > workers > 0:
            found.append(
                QueueWarning(
                    "prefetch",
                    f"{held} task(s) of this queue are held by {workers or 'some'} worker(s) that have not begun all: "
                    "set worker_prefetch_multiplier = 1 (or worker_disable_prefetch) and start workers with -c 1.",
                )
            )
        if expired:
            found.append(
                QueueWarning(
                    "expired-lease",
                    f"{expired} message(s) in this database are unacknowledged beyond the visibility timeout of "
                    f"{self._visibility_timeout_s:g} s and will run again: raise it above the longest task.",
                )
            )
        if any(eta > now + self._visibility_timeout_s for eta in (*reading.etas, *reading.held_etas)):
            found.append(
                QueueWarning(
                    "eta-beyond-lease",
                    f"A task has an ETA beyond the visibility timeout of {self._visibility_timeout_s:g} s, so another "
                    "worker gets it meanwhile, and it runs twice; raise the timeout above the longest delay.",
                )
            )
        return found

    def lease_s(self) -> float | None:
        return self._visibility_timeout_s

    async def start_watch(self) -> Watch | None:
        return await self.keyspace_watch("lh", [*self._lists, self._unacked])


def _unix(texts: list[Any]) -> list[float]:
    """ISO times as Unix seconds; what is no time is a task's own idea of an ETA, and left out."""
    times = []
    for text in texts:
        try:
            moment = datetime.fromisoformat(text.decode().replace("Z", "+00:00"))
        except ValueError:
            continue
        times.append((moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp())
    return times


_: type[Queue] = CeleryQueue
