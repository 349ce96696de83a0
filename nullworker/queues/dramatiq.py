"""dramatiq on Redis.

    dramatiq://host:6379/0?queue=default
    dramatiq://host:6379/0?queue=gpu&namespace=dramatiq&heartbeat_timeout=60     where the broker's settings differ

What a worker has fetched and not acknowledged is a set per worker and queue, so reading it takes a (read-only) script;
dramatiq itself works by scripts, so the server allows them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from nullworker.queues._redis import RedisQueue, now_s
from nullworker.queues.base import Depth, Queue, QueueWarning

if TYPE_CHECKING:
    from typing_extensions import Self

    from nullworker.queues._redis_watch import Watch
    from nullworker.queues.urls import QueueUrl

#: Processes that have talked to the broker lately, producers among them; the latest are looked at.
WORKERS_MAX = 500
#: Due times are in the delayed messages themselves; those of the first of them are looked at.
DELAYED_LOOKED_AT_MAX = 100
DEFAULT_HEARTBEAT_TIMEOUT_S = 60.0

# A worker that has been silent for the heartbeat timeout is dead: its messages go back when a living worker comes by.
_READ = """
local namespace, queue, now_ms, dead_before_ms = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local workers_max, delayed_max = tonumber(ARGV[4]), tonumber(ARGV[5])
local heartbeats = namespace .. ':__heartbeats__'
local ready = redis.call('LLEN', namespace .. ':' .. queue)
local delayed = redis.call('LLEN', namespace .. ':' .. queue .. '.DQ')
local ids = redis.call('LRANGE', namespace .. ':' .. queue .. '.DQ', 0, delayed_max - 1)
local in_flight, orphaned, held_delayed, most = 0, 0, 0, 0
local workers = redis.call('ZRANGE', heartbeats, -workers_max, -1, 'WITHSCORES')
for i = 1, #workers, 2 do
    local acks = namespace .. ':__acks__.' .. workers[i] .. '.' .. queue
    local count = redis.call('SCARD', acks)
    local count_delayed = redis.call('SCARD', acks .. '.DQ')
    delayed = delayed + count_delayed
    if tonumber(workers[i + 1]) <= dead_before_ms then
        orphaned = orphaned + count
        if count_delayed > 0 and count_delayed + #ids <= delayed_max then
            for _, id in ipairs(redis.call('SMEMBERS', acks .. '.DQ')) do ids[#ids + 1] = id end
        end
    else
        in_flight = in_flight + count
        held_delayed = held_delayed + count_delayed
        most = math.max(most, count)
    end
end
local due, next_due = 0, -1
for _, id in ipairs(ids) do
    local message = redis.call('HGET', namespace .. ':' .. queue .. '.DQ.msgs', id)
    local eta = message and tonumber(string.match(message, '"eta": ?(%d+)'))
    if eta and eta <= now_ms then
        due = due + 1
    elseif eta and (next_due < 0 or eta < next_due) then
        next_due = eta
    end
end
local processes = redis.call('ZCARD', heartbeats)
return {ready, delayed, due, tostring(next_due), in_flight, orphaned, held_delayed, most, processes}
"""


class DramatiqQueue(RedisQueue):
    """Reads one queue of dramatiq's Redis broker, with its delay queue."""

    kind = "dramatiq"
    parameters = frozenset({"queue", "namespace", "heartbeat_timeout"})

    def __init__(self, url: QueueUrl, name: str, namespace: str, heartbeat_timeout_s: float) -> None:
        """Use `open`.

        Args:
            url: of the queue, taken apart.
            name: of the queue.
            namespace: of its keys.
            heartbeat_timeout_s: a worker without a heartbeat for this long is dead.
        """
        super().__init__(url, name)
        self._namespace = namespace
        self._heartbeat_timeout_s = heartbeat_timeout_s

    @classmethod
    def from_url(cls, url: QueueUrl) -> Self:
        timeout_s = url.seconds("heartbeat_timeout", DEFAULT_HEARTBEAT_TIMEOUT_S)
        return cls(url, url.text("queue", "default"), url.text("namespace", "dramatiq"), timeout_s)

    async def depth(self) -> Depth:
        """Reads the queue by one round trip.

        Waiting are also delayed messages that are due; messages of dead workers are abandoned: a worker has to come for
        either.
        """
        now = now_s()
        ready, delayed, due, next_due_ms, in_flight, orphaned, _, _, processes = await self._read(now)
        return Depth(
            waiting=ready + due,
            in_flight=in_flight,
            sampled_at_s=now,
            delayed=delayed - due,
            next_due_in_s=max(0.0, next_due_ms / 1000 - now) if next_due_ms >= 0 else None,
            redelivered=orphaned,
            abandoned=orphaned,
            exact=processes <= WORKERS_MAX,
        )

    async def _read(self, now: float) -> list[int]:
        answer = await self.broker.ask(
            "EVAL",
            _READ,
            1,
            self._namespace,
            self.name,
            int(now * 1000),
            int((now - self._heartbeat_timeout_s) * 1000),
            WORKERS_MAX,
            DELAYED_LOOKED_AT_MAX,
        )
        return [int(number) for number in answer]

    async def warnings(self) -> list[QueueWarning]:
        """Of workers that fetch ahead, that hold what is not due yet, or that are dead."""
        _, _, _, _, _, orphaned, held_delayed, most, _ = await self._read(now_s())
        found = []
        if most > 1:
            found.append(
                QueueWarning(
                    "prefetch",
                    f"One worker process has {most} messages in flight, and each opens a reservation: start workers "
                    "with --processes 1 --threads 1 and dramatiq_queue_prefetch=1 in their environment.",
                )
            )
        if held_delayed:
            found.append(
                QueueWarning(
                    "delayed-in-worker",
                    f"{held_delayed} delayed message(s) are in the memory of workers: one that is killed gives them "
                    f"back after {self._heartbeat_timeout_s:g} s only, so let consumers end on SIGTERM.",
                )
            )
        if orphaned:
            found.append(
                QueueWarning(
                    "abandoned",
                    f"{orphaned} message(s) belong to workers that are dead, and wait for another: dramatiq gives them "
                    "back when a living worker happens to do maintenance (maintenance_chance).",
                )
            )
        return found

    async def start_watch(self) -> Watch | None:
        queue = f"{self._namespace}:{self.name}"
        held = f"{_literally(self._namespace)}:__acks__.*.{_literally(self.name)}"
        return await self.keyspace_watch("ls", [queue, queue + ".DQ"], [held])


def _literally(text: str) -> str:
    """A text as a pattern of Redis that matches it alone."""
    return re.sub(r"([*?\[\]\\^-])", r"\\\1", text)


_: type[Queue] = DramatiqQueue
