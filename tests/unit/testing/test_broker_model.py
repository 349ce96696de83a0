"""The brokers of the dispatcher's simulator pass the conformance kit that the adapters of real brokers pass."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from nullworker.queues.base import Depth, QueueError, QueueInfo, QueueWarning
from nullworker.simulation.queueing.broker import Broker, Job, Returns, Traits
from nullworker.testing.queues import CheckResult, QueueDriver, check_queue
from tests.kit.virtual_time import run_in_virtual_time

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

LEASE_S = 30.0
LAG_S = 5.0


class Model:
    """A broker, and the time that has passed for it."""

    def __init__(self, traits: Traits) -> None:
        self.broker = Broker(traits)
        self.passed_s = 0.0  # beyond the loop's

    def now_s(self) -> float:
        return asyncio.get_running_loop().time() + self.passed_s


class ModelQueue:
    """Reads a model of a broker, as an adapter does."""

    def __init__(self, model: Model) -> None:
        self._model, self._broker = model, model.broker
        self._closed = False

    @classmethod
    async def open(cls, url: str) -> Self:
        raise QueueError(f"{url}: there is no such queue.")

    async def depth(self) -> Depth:
        if self._closed:
            raise QueueError("The queue was closed.")
        return replace(self._broker.depth(self._model.now_s()), sampled_at_s=time.time())  # noqa: TID251 - as an adapter does

    async def info(self) -> QueueInfo:
        traits = self._broker.traits
        warnings = (QueueWarning("paused", "The queue is paused."),) if self._broker.paused else ()
        return QueueInfo("model", "jobs", "here", lease_s=traits.lease_s, lag_s=traits.lag_s, warnings=warnings)

    async def changed(self, timeout_s: float) -> bool:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), timeout_s)
        return False

    async def close(self) -> None:
        self._closed = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.close()


class ModelDriver(QueueDriver):
    """Produces and consumes with the model itself."""

    tells_delayed = False
    tells_paused = True
    abandons = True
    settle_s: ClassVar[float] = LAG_S

    def __init__(self, model: Model) -> None:
        super().__init__("model://jobs")
        self._model, self._broker = model, model.broker
        self._numbers = count(1)

    async def produce(self, count: int) -> None:
        for _ in range(count):
            self._broker.put(Job(next(self._numbers), 1.0), self._model.now_s())

    async def consume_one_start(self) -> tuple[Job, object]:
        consumer = object()
        job = self._broker.take(consumer, self._model.now_s())
        assert job is not None
        self._broker.begin(job, consumer, self._model.now_s())
        return job, consumer

    async def finish(self, job: tuple[Job, object]) -> None:
        self._broker.done(*job, self._model.now_s())

    async def abandon(self, job: tuple[Job, object]) -> None:
        self._broker.died(*job, self._model.now_s())
        self._model.passed_s += self._broker.traits.lease_s or 0.0

    async def pause(self) -> None:
        self._broker.paused = True

    async def resume(self) -> None:
        self._broker.paused = False


class UncountedDriver(ModelDriver):
    tells_in_flight = False


class EarlyDriver(UncountedDriver):
    abandons = False  # its job is lost


def check(traits: Traits, driver_class: type[ModelDriver] = ModelDriver) -> CheckResult:
    model = Model(traits)

    async def open_queue(_: str) -> ModelQueue:
        return ModelQueue(model)

    result: Any = run_in_virtual_time(check_queue(driver_class(model), open_queue=open_queue))
    assert isinstance(result, CheckResult)
    return result


@pytest.mark.parametrize(
    "traits",
    [
        Traits(lease_s=None),
        Traits(LEASE_S, Returns.BROKER),
        Traits(LEASE_S, Returns.CONSUMER, tells_abandoned=True),
        Traits(LEASE_S, Returns.CONSUMER, tells_abandoned=False),
        Traits(LEASE_S, Returns.BROKER, lag_s=LAG_S),
        Traits(LEASE_S, Returns.CONSUMER, tells_abandoned=True, lag_s=LAG_S),
    ],
)
def test_a_model_passes_what_real_brokers_pass(traits: Traits) -> None:
    assert "the lone job of a dead consumer calls for another" in check(traits).passed


@pytest.mark.parametrize("returns", list(Returns))
def test_a_model_that_does_not_count_what_is_in_flight_says_so(returns: Returns) -> None:
    early = check(Traits(LEASE_S, returns, late_ack=False, counts_in_flight=False), EarlyDriver)
    assert "what a consumer holds is in flight, or unknown" in early.passed
    late = check(Traits(LEASE_S, Returns.BROKER, counts_in_flight=False), UncountedDriver)
    assert "the lone job of a dead consumer calls for another" in late.passed


def test_a_model_that_hides_a_dead_consumers_job_for_ever_does_not_pass() -> None:
    """No seed draws it: no dispatcher could send a worker for a job that nothing shows."""
    with pytest.raises(AssertionError, match="dead consumer should be waiting or abandoned"):
        check(Traits(LEASE_S, Returns.CONSUMER, counts_in_flight=False), UncountedDriver)
