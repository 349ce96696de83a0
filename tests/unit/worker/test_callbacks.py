import socket
from typing import Any

import pytest
from aiohttp import web
from vastai.serverless.server.lib.data_types import Session

from nullworker.worker.callbacks import CallbackError, Callbacks
from nullworker.worker.sessions import HeldSession
from tests.kit.servers import end_server

NEVER = [
    "169.254.169.254",
    "169.254.0.1",
    "fe80::1",
    "fe80::1%eth0",
    "fd00:ec2::254",
    "::ffff:169.254.169.254",
    "::169.254.169.254",
    "64:ff9b::169.254.169.254",
    "2002:a9fe:a9fe::1",
    "100.100.100.200",
    "168.63.129.16",
    "0.0.0.0",
    "::",
    "255.255.255.255",
    "224.0.0.1",
    "ff02::1",
    "240.0.0.1",
]
PRIVATE = ["127.0.0.1", "127.9.9.9", "::1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "fd12::1"]
PRIVATE += ["::ffff:10.0.0.1", "64:ff9b::10.0.0.1"]
PUBLIC = ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"]


@pytest.mark.parametrize("address", NEVER)
@pytest.mark.parametrize("private", [True, False])
def test_link_local_and_metadata_addresses_are_never_called(address: str, private: bool) -> None:
    with pytest.raises(CallbackError, match="never called"):
        Callbacks(private=private).check_address(address)


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_are_called_where_the_operator_says_so(address: str) -> None:
    Callbacks(private=True).check_address(address)
    with pytest.raises(CallbackError, match="NULL_CALLBACK_PRIVATE"):
        Callbacks(private=False).check_address(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_called(address: str) -> None:
    Callbacks(private=False).check_address(address)


@pytest.mark.parametrize(
    "host", ["169.254.169.254", "[::ffff:169.254.169.254]", "2852039166", "0xa9.0xfe.0xa9.0xfe", "0251.0376.0251.0376"]
)
async def test_an_address_is_known_in_every_spelling(host: str) -> None:
    with pytest.raises(CallbackError, match="never called"):
        await Callbacks(private=True).check(f"http://{host}/latest/meta-data")


async def test_a_name_is_refused_for_any_of_its_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    def both(*_arguments: object, **_more: object) -> list[tuple[object, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, 80)) for ip in ("8.8.8.8", "169.254.169.254")]

    monkeypatch.setattr(socket, "getaddrinfo", both)
    with pytest.raises(CallbackError, match="never called"):
        await Callbacks(private=True).check("http://rebinding.example/")


async def test_a_name_that_does_not_resolve_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_arguments: object, **_more: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(CallbackError, match="not known here"):
        await Callbacks(private=True).check("http://nowhere.example/")


async def test_localhost_is_a_private_address() -> None:
    await Callbacks(private=True).check("http://localhost:1/")
    with pytest.raises(CallbackError, match="NULL_CALLBACK_PRIVATE"):
        await Callbacks(private=False).check("http://localhost:1/")


@pytest.mark.parametrize(("private", "first"), [(True, "127.0.0.1"), (False, "8.8.8.8")])
async def test_what_was_checked_is_what_is_connected_to(
    monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int, private: bool, first: str
) -> None:
    """A name that leads elsewhere by the time of the call is refused then."""
    answers = [first, "127.0.0.1"]

    def rebinding(_host: str, *_arguments: object, **_more: object) -> list[tuple[object, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (answers.pop(0), 0))]

    told: list[Any] = []

    async def take(request: web.Request) -> web.Response:
        told.append(await request.json())
        return web.Response()

    app = web.Application()
    app.router.add_post("/done", take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", unused_tcp_port).start()
    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    callbacks, url = Callbacks(private=private), f"http://rebinding.example:{unused_tcp_port}/done"
    await callbacks.check(url)
    session = Session(
        session_id="s", lifetime=60.0, auth_data={}, expiration=0.0, on_close_route=url, on_close_payload={"job": 7}
    )
    held = HeldSession.of(session, max_lifetime_s=60, max_age_s=60)
    callbacks.session_closed(held)
    await callbacks.finish(30)
    await end_server(runner)
    assert told == ([{"session_id": "s", "job": 7}] if private else [])
    assert answers == []
    assert held.on_close_route is None  # so that the framework posts nothing itself


@pytest.mark.parametrize(
    ("url", "called"),
    [
        (f"http://127.0.0.1:4000/nullworker/closed/{'a-_9' * 5}xy", True),
        (f"http://127.0.0.1:4000/nullworker/closed/{'a-_9' * 5}xy/more", False),
        (f"http://127.0.0.1:4000/nullworker/closed/{'a-_9' * 5}xy?a=b", False),
        (f"http://127.0.0.1:4000/nullworker/closed/{'a-_9' * 5}", False),
        ("http://127.0.0.1:4000/nullworker/closed/../../admin/delete-all", False),
        (f"http://127.0.0.1:4000/closed/{'a-_9' * 5}xy", False),
        (f"http://10.0.0.1:4000/nullworker/closed/{'a-_9' * 5}xy", False),
        (f"http://127.0.0.1@10.0.0.1:80/nullworker/closed/{'a-_9' * 5}xy", False),
    ],
)
async def test_a_dispatchers_notice_is_all_that_is_called_on_this_machine(url: str, called: bool) -> None:
    if called:
        await Callbacks(private=False).check(url)
        return
    with pytest.raises(CallbackError, match="NULL_CALLBACK_PRIVATE"):
        await Callbacks(private=False).check(url)
