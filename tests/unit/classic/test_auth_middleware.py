"""Which requests are accepted, and what the handler sees of them; the real application, without a socket."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from werkzeug.test import Client

from nullworker.classic import app as application
from nullworker.classic import envelope as envelopes
from nullworker.classic import legacy_log_watch
from nullworker.classic.auth_middleware import AuthMiddleware
from nullworker.classic.fair_lock import ClientGoneError, FairLock
from nullworker.classic.hooks import Metrics
from nullworker.classic.in_flight import RequestStats
from nullworker.classic.loading import load
from nullworker.classic.readiness import MODEL, Readiness
from nullworker.classic.settings import EngineLink, Settings
from nullworker.wire.worker_side.engine_trust import EngineTrust
from nullworker.wire.worker_side.messages import Identity
from tests.kit.engine_key import engine_key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from werkzeug.test import TestResponse

    from tests.unit.classic.conftest import WriteBackend

URL = "http://127.0.0.1:40123"
LINK = EngineLink(("http://engine",), Identity(17, "the-token", URL))

#: Handlers that show what they see.
MIRROR = """
    from flask import Response, abort, request as current

    class Backend:
        def __init__(self):
            self.seen = []

    def show(backend, request):
        assert current.path == request.path
        return {
            "method": request.method,
            "json": request.get_json(silent=True),
            "args": request.args.to_dict(flat=False),
            "authorization": request.headers.get("Authorization"),
            "mimetype": request.mimetype,
        }

    def stream(backend, request):
        breaks = request.json.get("break")
        def parts():
            yield b"one "
            if breaks:
                raise RuntimeError("broken")
            yield b"two"
        return Response(parts(), mimetype="text/plain")

    def refuse(backend, request):
        abort(418)

    def fail(backend, request):
        raise LookupError("secret/path")

    flask_dict = {
        "POST": {"show": show, "stream": stream, "refuse": refuse, "fail": fail},
        "GET": {"look": show},
        "PUT": {"store": show},
    }
"""


class House:
    """The middleware with everything behind it."""

    def __init__(self, write_backend: WriteBackend, *, link: EngineLink | None, **settings: Any) -> None:
        root = write_backend("mirror", backend=MIRROR)
        loaded = load("mirror", (root,))
        self.stats = RequestStats(lambda: 1000.0, lambda: None)
        self.slot = application.BackendSlot(FairLock())
        self.slot.enter(loaded.backend_class(), Metrics(None, is_driven=True))
        self.readiness = Readiness([MODEL], lambda: 0.0, perf=100)
        trust = None
        if link is not None:
            trust = EngineTrust(link.identity)
            trust.learn(engine_key().pem, None)
        told = {"host": "127.0.0.1", "body_bytes_max": 10_000, **settings}
        made = Settings(backend="mirror", roots=(root,), port=3000, link=link, **told)
        app = application.build(loaded, self.slot, made.body_bytes_max)
        paths = legacy_log_watch.add(app, loaded.handlers, self.slot, self.readiness, "the-token")
        middleware = AuthMiddleware(
            app,
            handlers=loaded.handlers,
            settings=made,
            stats=self.stats,
            trust=trust,
            open_paths=paths,
        )
        self.http = Client(middleware)

    def direct(self, path: str, method: str = "POST", remote: str = "127.0.0.1", **given: Any) -> TestResponse:
        given.setdefault("buffered", True)  # read to its end and closed, as a server does
        return self.http.open(path, method=method, environ_base={"REMOTE_ADDR": remote}, **given)

    def signed(
        self,
        path: str,
        payload: object,
        *,
        remote: str = "203.0.113.5",
        buffered: bool = True,
        given: Mapping[str, Any] | None = None,
        **auth_data: Any,
    ) -> TestResponse:
        auth = {"request_idx": 5, "cost": 100, "url": URL, "reqnum": 1, "endpoint": "e"}
        auth["signature"] = engine_key().sign(URL)
        body = {"auth_data": {**auth, **auth_data}, "session_id": None, "payload": payload}
        headers = {"Authorization": "Bearer client-key"}
        return self.direct(
            f"{path}?api_key=client-key", remote=remote, json=body, headers=headers, buffered=buffered, **(given or {})
        )

    @property
    def ends(self) -> list[tuple[int, str | None]]:
        return [(work.request_idx, work.status) for work in self.stats.ended()]


@pytest.fixture
def house(write_backend: WriteBackend) -> House:
    """Under an engine."""
    return House(write_backend, link=LINK)


@pytest.fixture
def lone_house(write_backend: WriteBackend) -> House:
    """Without an engine."""
    return House(write_backend, link=None)


def error(response: TestResponse) -> str:
    return str(json.loads(response.get_data())["error"])


class TestSigned:
    def test_a_handler_sees_the_payload_as_if_it_had_been_sent_by_itself(self, house: House) -> None:
        response = house.signed("/show", {"amount": 3})
        assert response.status_code == 200
        assert response.json == {
            "method": "POST",
            "json": {"amount": 3},
            "args": {},
            "authorization": None,
            "mimetype": "application/json",
        }

    @pytest.mark.parametrize("payload", [None, [1, 2], "text", 3, {}])
    def test_any_json_is_a_payload(self, payload: object, house: House) -> None:
        response = house.signed("/show", payload)
        assert response.json is not None
        assert response.json["json"] == payload

    def test_a_get_handler_gets_the_payload_as_its_query(self, house: House) -> None:
        response = house.signed("/look", {"x": 1, "many": ["a", "b"], "yes": True})
        assert response.json is not None
        assert (response.json["method"], response.json["json"]) == ("GET", None)
        assert response.json["args"] == {"x": ["1"], "many": ["a", "b"], "yes": ["true"]}

    def test_a_put_handler_is_reached_too(self, house: House) -> None:
        response = house.signed("/store", {"x": 1})
        assert response.json is not None
        assert (response.json["method"], response.json["json"]) == ("PUT", {"x": 1})

    def test_a_payload_that_no_query_can_say_is_refused_and_the_engine_told(self, house: House) -> None:
        response = house.signed("/look", {"x": {"y": 1}})
        assert response.status_code == 400
        assert "payload.x is nested" in error(response)
        assert house.ends == [(5, "Error")]

    @pytest.mark.parametrize(
        ("path", "status", "end"),
        [("/show", 200, "Success"), ("/refuse", 418, "Error"), ("/fail", 500, "Error"), ("/nowhere", 404, "Error")],
    )
    def test_each_is_counted_as_ended_once(self, path: str, status: int, end: str, house: House) -> None:
        assert house.signed(path, {}).status_code == status
        assert house.ends == [(5, end)]
        assert house.stats.is_idle
        work = house.stats.ended()[0]
        assert (work.cost, bool(work.started_at)) == (100, status != 404)

    def test_a_streamed_answer_is_work_until_its_last_byte(self, house: House) -> None:
        response = house.signed("/stream", {}, buffered=False)
        assert not house.stats.is_idle
        assert response.get_data() == b"one two"
        response.close()
        assert house.ends == [(5, "Success")]

    def test_a_streamed_answer_keeps_its_turn_until_its_last_byte(self, house: House) -> None:
        response = house.signed("/stream", {}, buffered=False)
        with pytest.raises(ClientGoneError):
            house.slot.handler_lock.acquire(lambda: True)  # must wait; its client has gone
        response.close()
        house.slot.handler_lock.acquire(lambda: True)()

    def test_any_other_answer_gives_its_turn_back_before_it_is_read(self, house: House) -> None:
        response = house.signed("/show", {}, buffered=False)
        house.slot.handler_lock.acquire(lambda: True)()
        response.close()

    def test_a_client_that_hangs_up_in_the_line_is_cancelled(self, house: House) -> None:
        release = house.slot.handler_lock.acquire(lambda: False)
        gone = {"environ_overrides": {"waitress.client_disconnected": lambda: True}}
        assert house.signed("/show", {}, given=gone).status_code == 499
        assert house.ends == [(5, "Cancelled")]
        assert house.stats.ended()[0].started_at == 0
        release()

    def test_a_stream_that_breaks_is_an_error(self, house: House) -> None:
        response = house.signed("/stream", {"break": True}, buffered=False)
        with pytest.raises(RuntimeError):
            response.get_data()
        response.close()
        assert house.ends == [(5, "Error")]

    def test_a_stream_that_is_not_read_to_its_end_is_cancelled_and_releases_the_lock(self, house: House) -> None:
        response = house.signed("/stream", {}, buffered=False)
        assert next(response.iter_encoded()) == b"one "
        response.close()
        assert house.ends == [(5, "Cancelled")]
        assert house.signed("/show", {}).status_code == 200

    @pytest.mark.parametrize("changes", [{"signature": "c2ln"}, {"signature": ""}, {"url": "http://127.0.0.1:1"}])
    def test_a_forged_one_is_refused_and_not_counted(self, changes: dict[str, Any], house: House) -> None:
        response = house.signed("/show", {}, remote="127.0.0.1", **changes)
        assert response.status_code == 401
        assert house.ends == []
        assert house.stats.figures().received == 0

    def test_a_session_is_not_offered(self, house: House) -> None:
        response = house.signed("/session/create", {"lifetime": 60})
        assert response.status_code == 404
        assert "offers no sessions" in error(response)


class TestDirect:
    def test_curl_on_this_machine_is_accepted_and_not_counted(self, house: House) -> None:
        response = house.direct("/show?api_key=mine", json={"amount": 3})
        assert response.json is not None
        assert (response.json["json"], response.json["args"]) == ({"amount": 3}, {"api_key": ["mine"]})
        assert house.stats.figures().received == 0

    def test_from_elsewhere_it_must_be_signed(self, house: House) -> None:
        response = house.direct("/show", json={"amount": 3}, remote="203.0.113.5")
        assert response.status_code == 401
        assert "not signed by the engine" in error(response)

    @pytest.mark.parametrize(
        "headers",
        [
            {"X-Forwarded-For": "203.0.113.5"},
            {"Forwarded": "for=203.0.113.5"},
            {"Via": "1.1 proxy"},
            {"Origin": "https://evil.example"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Host": "rebound.example:3000"},
        ],
    )
    @pytest.mark.parametrize("kind", ["engine", "lone"])
    def test_what_only_seems_to_be_of_this_machine_is_refused(
        self, headers: dict[str, str], kind: str, write_backend: WriteBackend
    ) -> None:
        house = House(write_backend, link=LINK if kind == "engine" else None)
        response = house.direct("/look", method="GET", headers=headers)
        assert response.status_code == (401 if kind == "engine" else 403)

    @pytest.mark.parametrize("host", ["127.0.0.1:3000", "localhost", "[::1]:3000"])
    def test_each_name_of_this_machine_will_do(self, host: str, house: House) -> None:
        assert house.direct("/look", method="GET", headers={"Host": host}).status_code == 200

    def test_what_came_through_tls_has_no_address_and_must_be_signed(self, house: House) -> None:
        assert house.direct("/look", method="GET", remote="localhost-by-socket").status_code == 401

    def test_unsecured_lets_in_everyone_and_unwraps_what_is_wrapped(self, write_backend: WriteBackend) -> None:
        house = House(write_backend, link=LINK, unsecured=True, host="0.0.0.0")
        assert house.direct("/look", method="GET", remote="203.0.113.5").status_code == 200
        unsigned = house.signed("/show", {"a": 1}, signature="", url="")
        assert unsigned.json is not None
        assert unsigned.json["json"] == {"a": 1}

    def test_a_server_without_engine_on_an_open_address_is_open(self, write_backend: WriteBackend) -> None:
        house = House(write_backend, link=None, host="0.0.0.0")
        assert house.direct("/look", method="GET", remote="203.0.113.5").status_code == 200


class TestBadInput:
    @pytest.mark.parametrize(
        ("path", "given", "status", "message"),
        [
            ("/nowhere", {"json": {}}, 404, "there is no endpoint /nowhere: mirror has POST /show,"),
            ("/look", {"json": {}}, 405, "/look takes GET, not POST"),
            (
                "/fail",
                {"json": {}},
                500,
                "the handler of POST /fail raised LookupError; the server's log has the details",
            ),
            ("/stream", {"data": "{", "content_type": "application/json"}, 400, "the body of POST /stream is not JSON"),
            ("/stream", {"data": "{}"}, 415, "is not declared as JSON: send Content-Type: application/json"),
            ("/show", {"json": "x" * 10_001}, 413, "the body is over 10000 bytes"),
        ],
    )
    def test_it_is_named_and_the_server_goes_on(
        self, path: str, given: dict[str, Any], status: int, message: str, lone_house: House
    ) -> None:
        response = lone_house.direct(path, **given)
        assert response.status_code == status
        assert message in error(response)
        assert "secret/path" not in response.get_data(as_text=True)
        assert lone_house.direct("/show", json={}).status_code == 200

    def test_a_method_that_is_not_taken_says_which_is(self, lone_house: House) -> None:
        assert set(lone_house.direct("/look", json={}).headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}

    def test_a_body_in_pieces_is_bounded_as_well(self, lone_house: House) -> None:
        response = lone_house.direct("/show", data="x" * 10_001, content_type="text/plain")
        assert response.status_code == 200, "the handler did not ask for it"
        response = lone_house.direct("/stream", data="1" * 10_001, content_type="application/x-www-form-urlencoded")
        assert response.status_code in (413, 415)

    def test_before_the_backend_is_made_a_request_is_told_to_come_back(self, house: House) -> None:
        house.slot.backend = None
        response = house.signed("/show", {})
        assert response.status_code == 503
        assert "still loading" in error(response)
        assert house.ends == [(5, "Rejected")]

    def test_once_the_server_ends_a_request_is_sent_elsewhere(self, house: House) -> None:
        house.slot.handler_lock.close()
        assert house.signed("/show", {}).status_code == 503
        assert house.ends == [(5, "Rejected")]


class TestLogWatchPaths:
    """What a classic log watch posts."""

    def say(self, house: House, path: str, remote: str = "127.0.0.1", **body: Any) -> TestResponse:
        return house.direct(path, json=body, remote=remote, headers={"Host": "0.0.0.0:3000"})

    def test_a_log_watch_of_its_own_process_says_that_the_model_is_loaded(self, house: House) -> None:
        response = self.say(house, "/report_loaded", mtoken="the-token", id="17", loadtime=4.5, max_perf=42)
        assert response.status_code == 200
        assert (house.readiness.loadtime_s, house.readiness.perf) == (4.5, 42)

    def test_an_error_is_heard_until_it_is_taken_back(self, house: House) -> None:
        self.say(house, "/report_error", mtoken="the-token", error_msg="out of memory")
        assert house.readiness.error == "out of memory"
        self.say(house, "/report_error", mtoken="the-token", error_msg="")
        assert house.readiness.error == ""

    def test_before_the_backend_is_made_it_is_accepted_too(self, house: House) -> None:
        house.slot.metrics = None
        assert self.say(house, "/worker_status/", mtoken="the-token", max_perf=7).status_code == 200
        assert house.readiness.perf == 7

    @pytest.mark.parametrize("body", [{}, {"mtoken": "guessed"}, {"mtoken": 3}, {"mtoken": "\udcff"}])
    def test_without_the_token_nothing_is_accepted(self, body: dict[str, Any], house: House) -> None:
        assert self.say(house, "/report_loaded", **body).status_code == 401
        assert not house.readiness.is_ready

    def test_from_elsewhere_nothing_is_accepted(self, house: House) -> None:
        assert self.say(house, "/report_loaded", remote="203.0.113.5", mtoken="the-token").status_code == 401
        assert not house.readiness.is_ready


class _ParsedError(AssertionError):
    """A message was parsed that should not have been."""


@pytest.mark.parametrize("auth_data", ["", f'"auth_data": {{"url": "{URL}", "signature": "AAAA"}}, '])
def test_a_long_body_of_a_sender_that_the_engine_did_not_send_is_not_parsed(
    write_backend: WriteBackend, monkeypatch: pytest.MonkeyPatch, auth_data: str
) -> None:
    """S2: 32 MB of brackets took 1.8 GB and a minute, without any key."""
    house = House(write_backend, link=LINK, body_bytes_max=1 << 20)

    def read(_body: bytes) -> None:
        raise _ParsedError

    monkeypatch.setattr(envelopes, "read", read)
    body = f'{{{auth_data}"payload": [{"[]," * 100_000}0]}}'
    answer = house.direct("/show", remote="203.0.113.5", data=body, content_type="application/json")
    assert answer.status_code == 401
    with pytest.raises(_ParsedError):  # of a program of this machine it is, as every direct request
        house.direct("/show", data=body, content_type="application/json")


@pytest.mark.parametrize("order", [("auth_data", "payload"), ("payload", "auth_data")])
def test_a_long_body_of_a_client_that_the_engine_sent_is_taken_in_any_order(
    write_backend: WriteBackend, order: tuple[str, str]
) -> None:
    house = House(write_backend, link=LINK, body_bytes_max=1 << 20)
    auth = {"request_idx": 5, "cost": 100, "url": URL, "signature": engine_key().sign(URL)}
    whole = {"auth_data": auth, "payload": {"text": "x" * (3 * envelopes.LONG_BYTES)}}
    body = json.dumps({name: whole[name] for name in order})
    answer = house.direct("/show", remote="203.0.113.5", data=body, content_type="application/json")
    assert answer.status_code == 200
