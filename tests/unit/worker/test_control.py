import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from vastai.serverless.server.lib.data_types import Session

from nullworker.worker.control import Control
from nullworker.worker.health import Health
from nullworker.worker.release import Releaser
from nullworker.worker.sessions import SessionTable
from tests.kit.servers import end_server

TOKEN = "0123456789abcdef" * 4


class LocalReleaser(Releaser):
    """Ends a session in the table itself; the way through the framework's port is the integration tests' matter."""

    def __init__(self, sessions: SessionTable) -> None:
        self._table = sessions

    async def release_all(self) -> list[str]:
        return [self._table.pop(session_id).session_id for session_id in list(self._table)]


@dataclass
class Port:
    """A control port on a free port, and a client for it."""

    sessions: SessionTable
    health: Health
    http: aiohttp.ClientSession
    number: int
    control: Control
    own_health: bool = True
    extra: dict[str, str] = field(default_factory=dict)

    async def call(self, method: str, path: str, *, body: str | None = None, **headers: str) -> tuple[int, Any]:
        url = f"http://127.0.0.1:{self.number}{path}"
        async with self.http.request(method, url, headers=headers, data=body) as answer:
            return answer.status, await (answer.json() if answer.content_type == "application/json" else answer.text())


@pytest.fixture
async def port(unused_tcp_port: int, request: pytest.FixtureRequest) -> AsyncIterator[Port]:
    sessions, health = SessionTable(1_000, 5_000), Health()
    own_health = getattr(request, "param", True)
    control = Control(sessions, LocalReleaser(sessions), health, unused_tcp_port, own_health=own_health)
    runner = await control.start()
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as http:
        yield Port(sessions, health, http, unused_tcp_port, control)
    await end_server(runner)


def hold(sessions: SessionTable) -> None:
    with sessions.opening_with({"job": 7}):
        sessions["s"] = Session(
            session_id="s",
            lifetime=60.0,
            auth_data={},
            expiration=0.0,
            on_close_route=None,
            on_close_payload=None,
            request_idx=3,
        )


async def test_release_answers_exactly_as_promised(port: Port) -> None:
    assert await port.call("POST", "/release") == (200, {"released": False, "reason": "no active session"})
    hold(port.sessions)
    assert await port.call("POST", "/release") == (200, {"released": True, "session_ids": ["s"]})
    assert await port.call("POST", "/release") == (200, {"released": False, "reason": "no active session"})


async def test_a_reservation_shows_who_holds_the_worker(port: Port) -> None:
    nothing = dict.fromkeys(["session_id", "request_idx", "since", "until", "payload", "heartbeat_at"])
    nothing |= {"place_ends_at": None, "place_ends_because": None}
    assert await port.call("GET", "/reservation") == (200, {"held": False, **nothing})
    hold(port.sessions)
    status, body = await port.call("GET", "/reservation")
    assert status == 200
    assert (body["held"], body["session_id"], body["request_idx"], body["payload"]) == (True, "s", 3, {"job": 7})
    assert body["until"] - body["since"] == pytest.approx(60, abs=5)


async def test_a_waiting_call_is_answered_when_a_reservation_opens(port: Port) -> None:
    waiting = [asyncio.ensure_future(port.call("GET", "/reservation?wait=60")) for _ in range(3)]
    await port.call("GET", "/health")  # a round trip later, the waiters are in
    hold(port.sessions)
    assert [(await each)[1]["held"] for each in waiting] == [True, True, True]


async def test_waiting_ends_when_its_time_is_over(port: Port) -> None:
    status, body = await port.call("GET", "/reservation?wait=0.01")
    assert (status, body["held"]) == (200, False)


async def test_a_call_that_waits_for_the_end_of_a_session_is_answered_then(port: Port) -> None:
    hold(port.sessions)
    waiting = asyncio.ensure_future(port.call("GET", "/reservation?wait=60&while=s"))
    await port.call("GET", "/health")  # a round trip later, the waiter is in
    assert not waiting.done()
    await port.call("POST", "/release")
    assert (await waiting)[1]["held"] is False


async def test_another_session_than_the_one_named_is_told_of_at_once(port: Port) -> None:
    hold(port.sessions)
    status, body = await port.call("GET", "/reservation?wait=60&while=the-one-before")
    assert (status, body["session_id"]) == (200, "s")


async def test_a_release_of_a_session_that_is_over_does_not_end_the_next(port: Port) -> None:
    hold(port.sessions)
    status, body = await port.call("POST", "/release?session_id=the-one-before")
    assert (status, body) == (200, {"released": False, "reason": "another session is held"})
    assert port.sessions.held is not None
    assert (await port.call("POST", "/release?session_id=s"))[1] == {"released": True, "session_ids": ["s"]}


async def test_only_a_heartbeat_of_the_consumer_itself_is_shown(port: Port) -> None:
    """The program that runs the consumer sends heartbeats as well, which say nothing of work."""
    hold(port.sessions)
    await port.call("POST", "/heartbeat?by=runner")
    assert (await port.call("GET", "/reservation"))[1]["heartbeat_at"] is None
    await port.call("POST", "/heartbeat")
    body = (await port.call("GET", "/reservation"))[1]
    assert body["heartbeat_at"] == pytest.approx(body["since"], abs=30)


async def test_the_program_that_runs_the_consumer_can_say_that_it_is_broken(port: Port) -> None:
    status, body = await port.call("POST", "/fail", body='{"reason": "It crashed\\n twice."}')
    assert (status, body) == (200, {"failed": True, "reason": "It crashed twice."})
    assert await port.call("GET", "/health") == (500, {"error": "It crashed twice."})


@pytest.mark.parametrize("body", ["", "[]", "{}", '{"reason": 3}', '{"reason": " "}', "\xff{"])
async def test_a_failure_without_a_reason_is_none(port: Port, body: str) -> None:
    assert (await port.call("POST", "/fail", body=body))[0] == 400
    assert (await port.call("GET", "/health"))[0] == 200


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        ("[" * 50_000, {}),
        ('{"reason": ' * 5_000, {}),
        ('{"reason": 1}', {"Content-Type": "application/json; charset=no-such"}),
        ("not it", {"Content-Encoding": "gzip"}),
    ],
)
async def test_a_failure_that_cannot_be_read_is_refused_in_a_sentence(
    port: Port, body: str, headers: dict[str, str]
) -> None:
    status, answer = await port.call("POST", "/fail", body=body, **headers)
    assert (status, answer["error"][:27]) == (400, "The body must be an object ")
    assert (await port.call("GET", "/health"))[0] == 200


async def test_a_failure_told_at_too_great_length_is_refused_in_a_sentence(port: Port) -> None:
    status, answer = await port.call("POST", "/fail", body='{"reason": "' + "x" * 100_000 + '"}')
    assert (status, answer) == (413, {"error": "The body is larger than 65536 bytes."})


@pytest.mark.parametrize("wait", ["-1", "61", "soon", "nan", "inf"])
async def test_a_wrong_wait_is_refused(port: Port, wait: str) -> None:
    status, body = await port.call("GET", f"/reservation?wait={wait}")
    assert (status, body) == (400, {"error": "wait must be a number of seconds from 0 to 60."})


async def test_a_heartbeat_extends_what_is_held(port: Port) -> None:
    assert await port.call("POST", "/heartbeat") == (200, {"extended": False, "reason": "no active session"})
    hold(port.sessions)
    before = port.sessions["s"].expiration
    status, body = await port.call("POST", "/heartbeat")
    assert (status, body["extended"]) == (200, True)
    assert before <= body["until"] <= before + 30


async def test_health_is_that_of_the_worker(port: Port) -> None:
    assert (await port.call("GET", "/health"))[0] == 200
    port.health.fail("The consumer ended with exit code 3.")
    port.health.fail("Something later.")
    assert await port.call("GET", "/health") == (500, {"error": "The consumer ended with exit code 3."})


@pytest.mark.parametrize("port", [False], indirect=True)
async def test_health_is_absent_where_the_consumer_has_its_own(port: Port) -> None:
    assert (await port.call("GET", "/health"))[0] == 404


METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("path", ["/release", "/reservation", "/heartbeat", "/fail", "/health", "/nothing"])
async def test_nothing_that_a_web_page_sends_is_answered(port: Port, method: str, path: str) -> None:
    hold(port.sessions)
    for headers in (
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": f"http://127.0.0.1:{port.number}"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Host": "evil.example"},
        {"Host": f"evil.example:{port.number}"},
        {"Host": "127.0.0.1"},
        {"Host": f"127.0.0.1:{port.number + 1}"},
        {"Host": f"127.0.0.1:{port.number}@evil.example"},
        {"Host": ""},
    ):
        status, _ = await port.call(method, path, **headers)
        assert status == 403, headers
    assert port.sessions.held is not None


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "LocalHost", "[::1]"])
async def test_every_name_of_this_machine_will_do(port: Port, name: str) -> None:
    assert (await port.call("POST", "/release", Host=f"{name}:{port.number}"))[0] == 200


async def test_a_port_that_is_taken_is_an_error(port: Port) -> None:
    second = Control(SessionTable(1, 1), LocalReleaser(port.sessions), Health(), port.number, own_health=True)
    with pytest.raises(OSError, match="in use"):
        await second.start()


async def test_the_consumer_says_which_job_it_is_at(port: Port) -> None:
    told: list[tuple[int, str]] = []
    port.control.on_job = lambda session, job: told.append((session.request_idx, job))
    assert await port.call("POST", "/job", body='{"job": "tile 17"}') == (
        200,
        {"told": False, "reason": "no active session"},
    )
    hold(port.sessions)
    assert await port.call("POST", "/job", body='{"job": "tile\\n 17"}') == (200, {"told": True})
    assert await port.call("POST", "/job", body='{"job": 18}') == (200, {"told": True})
    for wrong in ("", "5", '{"job": ""}', '{"job": true}', '{"job": [1]}'):
        status, answer = await port.call("POST", "/job", body=wrong)
        assert (status, answer["error"].startswith("The body must be an object")) == (400, True)
    assert told == [(3, "tile 17"), (3, "18")]


async def test_with_a_token_no_other_program_reads_or_ends_anything(unused_tcp_port: int) -> None:
    sessions, health = SessionTable(1_000, 5_000), Health()
    control = Control(sessions, LocalReleaser(sessions), health, unused_tcp_port, own_health=True, token=TOKEN)
    runner = await control.start()
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as http:
        port = Port(sessions, health, http, unused_tcp_port, control)
        hold(sessions)
        calls = (
            ("GET", "/reservation"),
            ("POST", "/release"),
            ("POST", "/heartbeat"),
            ("POST", "/job"),
            ("POST", "/fail"),
        )
        for method, path in calls:
            for prefix in ("", "/", "/x", f"/{TOKEN[:-1]}", f"/{TOKEN}x"):
                status, answer = await port.call(method, prefix + path, body='{"reason": "x"}')
                assert status == 404, (prefix, path)
                assert "job" not in str(answer)
        assert not health.error
        assert "s" in sessions
        assert (await port.call("GET", "/health"))[0] == 200
        assert (await port.call("POST", f"/{TOKEN}/release"))[1] == {"released": True, "session_ids": ["s"]}
    await end_server(runner)
