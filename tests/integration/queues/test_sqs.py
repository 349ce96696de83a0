"""The SQS adapter against moto's server through AWS's own client: what it counts, and what it warns of."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import TYPE_CHECKING, Any

import pytest

from nullworker.queues.base import QueueError
from nullworker.queues.registry import open_queue
from nullworker.testing.queues import QueueDriver, check_queue
from tests.integration.queues.killed import AtJob, take_one
from tests.integration.queues.moto_server import REGION, Moto, moto_server
from tests.integration.queues.told import check_told

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from nullworker.queues.base import Queue

SECRET = "s3cret-key"
numbers = itertools.count()


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        ("ACCESS_KEY_ID", "AKIAEXAMPLE"),
        ("SECRET_ACCESS_KEY", SECRET),
        ("EC2_METADATA_DISABLED", "true"),
    ):
        monkeypatch.setenv(f"AWS_{name}", value)


@pytest.fixture(scope="module")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moto]:
    with moto_server(tmp_path_factory.mktemp("moto")) as server:
        yield server


@pytest.fixture
def name() -> str:
    return f"renders-{next(numbers)}"


class SqsDriver(QueueDriver):
    """Sends, and receives one message at a time."""

    abandons = True

    def __init__(self, moto: Moto, name: str) -> None:
        url = moto.url(name)
        super().__init__(
            url,
            secret=SECRET,
            bad_urls=(
                moto.url(""),
                f"sqs:///{name}?endpoint_url={moto.endpoint_url}",
                f"sqs://{REGION}",
                f"{url}&queue=x",
                f"{url}&acks_late=perhaps",
                f"{url}&late=-1",
                f"{url}&late=often",
                f"{url}&profile=no-such-profile",
                f"sqs://AKIAEXAMPLE:{SECRET}@{REGION}/{name}?endpoint_url={moto.endpoint_url}",
                f"sqs://{REGION}/{name}?endpoint_url=http://127.0.0.1:1",
                f"sqs://{REGION}/{name}?endpoint_url=nonsense",
                f"sqs://{REGION}/no*such?endpoint_url={moto.endpoint_url}",
            ),
        )
        self.moto = moto
        self.name = name

    async def produce(self, count: int) -> None:
        await asyncio.to_thread(self._send, count, 0)

    async def produce_delayed(self, delay_s: float) -> None:
        await asyncio.to_thread(self._send, 1, min(int(delay_s), 900))  # AWS delays no longer

    def _send(self, count: int, delay_s: int) -> None:
        with self.moto.client() as client:
            url = client.create_queue(QueueName=self.name)["QueueUrl"]
            for _ in range(count):
                client.send_message(QueueUrl=url, MessageBody="job", DelaySeconds=delay_s)

    async def consume_one_start(self) -> str:
        return await asyncio.to_thread(self._receive)

    def _receive(self) -> str:
        with self.moto.client() as client:
            url = client.get_queue_url(QueueName=self.name)["QueueUrl"]
            (message,) = client.receive_message(QueueUrl=url, MaxNumberOfMessages=1)["Messages"]
            return str(message["ReceiptHandle"])

    async def finish(self, job: str) -> None:
        with self.moto.client() as client:
            url = client.get_queue_url(QueueName=self.name)["QueueUrl"]
            client.delete_message(QueueUrl=url, ReceiptHandle=job)

    async def consume_one_to_kill(self) -> AtJob:
        return await take_one("sqs", self.moto.endpoint_url, REGION, self.name)

    async def abandon(self, job: AtJob) -> None:
        await job.kill()
        with self.moto.client() as client:  # its time is over
            url = client.get_queue_url(QueueName=self.name)["QueueUrl"]
            client.change_message_visibility(QueueUrl=url, ReceiptHandle=job.handle, VisibilityTimeout=0)


async def test_it_passes_the_conformance_kit(moto: Moto, name: str) -> None:
    driver = SqsDriver(moto, name)
    result = await check_queue(driver)
    check_told(driver, result)
    assert result.info.lag_s == 60
    assert not result.info.pushes


async def codes(queue: Queue) -> dict[str, str]:
    return {warning.code: warning.message for warning in (await queue.info()).warnings}


def make(moto: Moto, name: str, **attributes: str) -> str:
    with moto.client() as client:
        return str(client.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"])


def redrive(moto: Moto, name: str, receives: int) -> str:
    make(moto, name + "-dead")
    arn = f"arn:aws:sqs:{REGION}:123456789012:{name}-dead"
    return json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": receives})


async def test_a_queue_that_is_made_later_and_deleted_again_is_empty_without_it(moto: Moto, name: str) -> None:
    async with await open_queue(moto.url(name)) as queue:
        assert "missing" in await codes(queue)
        await SqsDriver(moto, name).produce(2)
        assert (await queue.depth()).waiting == 2
        assert "missing" not in await codes(queue)
        with moto.client() as client:
            client.delete_queue(QueueUrl=client.get_queue_url(QueueName=name)["QueueUrl"])
        depth = await queue.depth()
        assert (depth.waiting, depth.in_flight, depth.delayed, depth.exact) == (0, 0, 0, False)


async def test_the_queue_may_be_named_by_its_own_url_or_with_its_account(moto: Moto, name: str) -> None:
    await SqsDriver(moto, name).produce(1)
    own_url = make(moto, name)
    for path in (own_url, f"123456789012/{name}"):
        async with await open_queue(moto.url(path)) as queue:
            assert (await queue.depth()).waiting == 1
            assert (await queue.info()).name == name


async def test_a_message_whose_lease_ran_out_waits_again(moto: Moto, name: str) -> None:
    """A dead consumer's message is in flight until its lease ends, and counts as waiting from then on."""
    make(moto, name, VisibilityTimeout="1")
    driver = SqsDriver(moto, name)
    await driver.produce(1)
    async with await open_queue(moto.url(name)) as queue:
        await driver.consume_one_start()
        assert (await queue.depth()).in_flight == 1
        # The broker reads its clock once for each of the two numbers: when the lease ends, both may be 0 for a moment.
        while not (depth := await queue.depth()).waiting:  # noqa: ASYNC110 - as said
            await asyncio.sleep(0.05)
        assert (depth.waiting, depth.in_flight) == (1, 0)


async def test_if_consumers_delete_first_what_is_in_flight_is_unknown(moto: Moto, name: str) -> None:
    driver = SqsDriver(moto, name)
    await driver.produce(2)
    await driver.finish(await driver.consume_one_start())
    async with await open_queue(moto.url(name) + "&acks_late=false") as queue:
        depth = await queue.depth()
        assert (depth.waiting, depth.in_flight) == (1, None)


async def test_counts_that_are_right_at_once_can_be_said_to_be_so(moto: Moto, name: str) -> None:
    make(moto, name)
    async with await open_queue(moto.url(name) + "&late=0") as queue:
        assert (await queue.info()).lag_s == 0
        assert (await queue.depth()).exact
    async with await open_queue(moto.url(name) + "&late=12.5") as queue:
        assert (await queue.info()).lag_s == 12.5
        assert not (await queue.depth()).exact


async def test_settings_that_hurt_are_told(moto: Moto, name: str) -> None:
    make(moto, name, VisibilityTimeout="30")
    async with await open_queue(moto.url(name)) as queue:
        warnings = await codes(queue)
        assert set(warnings) == {"short-lease", "no-dead-letter"}
        assert "longer than 30 s" in warnings["short-lease"]
        assert (await queue.info()).lease_s == 30
    kept = f"{name}-kept"
    make(moto, kept, VisibilityTimeout="7200", RedrivePolicy=redrive(moto, kept, 3))
    async with await open_queue(moto.url(kept)) as queue:
        assert not await codes(queue)
    once = f"{name}-once"
    make(moto, once, VisibilityTimeout="7200", RedrivePolicy=redrive(moto, once, 1))
    async with await open_queue(moto.url(once)) as queue:
        assert set(await codes(queue)) == {"single-receive"}


async def test_the_groups_of_a_fifo_queue_are_told(moto: Moto, name: str) -> None:
    """Two messages of one group wait, and only one of them can be had: the depth is not the parallelism."""
    fifo = f"{name}.fifo"
    url = make(moto, fifo, FifoQueue="true", ContentBasedDeduplication="true")
    with moto.client() as client:
        for body in ("a", "b"):
            client.send_message(QueueUrl=url, MessageBody=body, MessageGroupId="g")
        async with await open_queue(moto.url(fifo)) as queue:
            assert (await queue.depth()).waiting == 2
            assert "--max" in (await codes(queue))["fifo-groups"]
        assert len(client.receive_message(QueueUrl=url)["Messages"]) == 1
        assert "Messages" not in client.receive_message(QueueUrl=url)


async def test_a_broker_that_is_down_is_an_error_until_it_is_back(tmp_path: Path, name: str) -> None:
    with moto_server(tmp_path) as moto:
        driver = SqsDriver(moto, name)
        await driver.produce(1)
        async with await open_queue(moto.url(name)) as queue:
            moto.stop()
            for read in (queue.depth, queue.info):
                with pytest.raises(QueueError, match=r"^SQS in eu-west-1 at .*\.$"):
                    await read()
            moto.start()
            assert (await queue.depth()).waiting == 0  # moto keeps nothing
            await driver.produce(1)
            assert (await queue.depth()).waiting == 1


async def test_keys_that_aws_refuses_are_an_error(tmp_path: Path, name: str) -> None:
    with moto_server(tmp_path, checks_keys=True) as moto:
        with pytest.raises(QueueError, match=r"refused with HTTP status 403 .*\.$") as refused:
            await open_queue(moto.url(name))
        assert SECRET not in str(refused.value)


async def test_without_credentials_it_says_where_they_are_looked_for(
    moto: Moto, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(variable)
    for variable in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(variable, str(tmp_path / "none"))
    with pytest.raises(QueueError, match=r"credentials, neither in the environment"):
        await open_queue(moto.url(name).replace("127.0.0.1", "localhost"))


async def test_queues_of_a_region_share_one_client_and_close_it(moto: Moto, name: str) -> None:
    queues: list[Any] = [await open_queue(moto.url(f"{name}-{number}")) for number in range(20)]
    assert len({id(queue._client) for queue in queues}) == 1
    depths = await asyncio.gather(*(queue.depth() for queue in queues))
    assert [depth.waiting for depth in depths] == [0] * 20
    for queue in queues[1:]:
        await queue.close()
    assert (await queues[0].depth()).waiting == 0
    async with await open_queue(moto.url(name)) as late:
        assert vars(late)["_client"] is queues[0]._client, "it is closed with the last of its queues, not before"
    await queues[0].close()
    with pytest.raises(QueueError, match="was closed"):
        await queues[0].depth()
