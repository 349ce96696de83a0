"""``on_close_route``: the URL that a creator wants called when its session ends, and which URLs those may be.

The framework would post to whatever it is given and follow redirects. Here the worker posts itself: to addresses that
were checked, at the moment of connecting, without redirects, and with 10 s for all of it. Link-local addresses and
those of cloud metadata are never called; addresses of private networks (this machine's too) where the operator says so.
One kind of URL on this machine is called always: that at which a local dispatcher is notified that a reservation has
ended, because nothing else answers to its path. Never called on this machine are the ports of workers, of consumers and
of the engine: a client could reach there with its worker's hand what it cannot reach itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import re
import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from nullworker.wire import tasks
from nullworker.wire.headers import CALLBACK
from nullworker.wire.timeouts import within
from nullworker.wire.worker_side import engine_tls
from nullworker.worker.local_listeners import belongs_to_a_worker, is_own_address

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nullworker.worker.sessions import HeldSession

log = logging.getLogger(__name__)

_TIMEOUT_S = 10.0
_RESOLVE_TIMEOUT_S = 3.0
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: Where clouds answer with an instance's own credentials, outside the link-local range.
_METADATA: tuple[_Network, ...] = (
    ipaddress.ip_network("fd00:ec2::/32"),  # Amazon
    ipaddress.ip_network("100.100.100.200/32"),  # Alibaba
    ipaddress.ip_network("168.63.129.16/32"),  # Azure
    ipaddress.ip_network("192.0.0.192/32"),  # Oracle
)
#: As `nullworker.dispatch.close_webhook` makes them.
_NOTICE = re.compile(r"http://127\.0\.0\.1:\d{1,5}/nullworker/closed/[\w-]{22}", re.ASCII)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class CallbackError(Exception):
    """A URL that is not called; the message is one sentence that says why."""


class Callbacks:
    """Checks the callbacks of sessions when they open, and makes them when they close."""

    def __init__(self, *, private: bool, engines: Sequence[str] = ()) -> None:
        """Takes what it goes by.

        Args:
            private: whether addresses of private networks may be called.
            engines: the engine's URLs, which are never called.
        """
        self._private = private
        self._engines = {(parts.hostname or "", _port(parts)) for parts in map(urlsplit, engines)}
        self._tasks: set[asyncio.Task[None]] = set()

    async def check(self, url: str) -> None:
        """Whether ``url`` (an absolute http or https URL) may be called.

        Raises:
            CallbackError: it may not, or its host is not known.
        """
        if _NOTICE.fullmatch(url):
            return
        parts = urlsplit(url)
        host = parts.hostname or ""
        try:
            addresses = [_literal(host)] if _literal(host) else await _resolve(host)
        except (OSError, asyncio.TimeoutError, UnicodeError):
            raise CallbackError("The host of payload.on_close_route is not known here.") from None
        for address in addresses:
            await self.check_place(address, _port(parts))

    async def check_place(self, address: str, port: int) -> None:
        """Whether this port of this IP address may be called.

        Raises:
            CallbackError: it may not.
        """
        self.check_address(address)
        # An address that stands for another is connected to as it is, and compared as what it stands for.
        plain = str(_unwrapped(ipaddress.ip_address(address.partition("%")[0])))
        if await self._is_engine(plain, port):
            raise CallbackError("payload.on_close_route leads to the engine, which is never called.")
        if is_own_address(plain) and await asyncio.to_thread(belongs_to_a_worker, port):
            raise CallbackError("payload.on_close_route leads to a worker or a consumer, which are never called.")

    async def _is_engine(self, address: str, port: int) -> bool:
        hosts = [host for host, engine_port in self._engines if engine_port == port]
        found: list[str] = []
        for host in hosts:
            with contextlib.suppress(OSError, asyncio.TimeoutError, UnicodeError):
                found += [_literal(host)] if _literal(host) else await _resolve(host)
        # An engine on this machine may listen on all of its addresses.
        return address in found or (is_own_address(address) and any(is_own_address(each) for each in found))

    def check_address(self, text: str) -> None:
        """Whether the IP address ``text`` may be called.

        Raises:
            CallbackError: it may not.
        """
        address = _unwrapped(ipaddress.ip_address(text.partition("%")[0]))
        if not _callable_anywhere(address):
            raise CallbackError("payload.on_close_route leads to an address that is never called.")
        if not self._private and not address.is_global:
            raise CallbackError(
                "payload.on_close_route leads to a private address; NULL_CALLBACK_PRIVATE=true on the worker allows it."
            )

    def session_closed(self, session: HeldSession) -> None:
        """Takes the callback over from the framework, which is about to look for it, and starts it."""
        url, session.on_close_route = session.on_close_route, None
        if url:
            task = tasks.watch(self._call(url, _body(session)), "A callback")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def finish(self, timeout_s: float) -> None:
        """Waits for the calls under way, ``timeout_s`` seconds at most."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_s)

    async def _call(self, url: str, body: dict[str, Any]) -> None:
        parts = urlsplit(url)
        place = f"{parts.scheme}://{parts.hostname}"  # path and query may hold the creator's secrets
        try:
            await self._post(url, body)
        except CallbackError as error:
            log.warning("the callback to %s was not made: %s", place, error)
        except (OSError, aiohttp.ClientError, asyncio.TimeoutError, ValueError) as error:
            log.warning("the callback to %s failed: %s", place, error or type(error).__name__)

    async def _post(self, url: str, body: dict[str, Any]) -> None:
        parts = urlsplit(url)
        address = _literal(parts.hostname or "")
        if address and not _NOTICE.fullmatch(url):
            await self.check_place(address, _port(parts))  # the port may be another program's by now
        connector = aiohttp.TCPConnector(
            resolver=_CheckedResolver(self), force_close=True, ssl=engine_tls.context_of_others(os.environ) or True
        )
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False) as http,
            http.post(url, json=body, headers={CALLBACK: "1"}, allow_redirects=False) as answer,
        ):
            if answer.status >= 300:
                log.warning("the callback to %s was answered with status %s", answer.url.host, answer.status)


class _CheckedResolver(AbstractResolver):
    """Gives a connector only addresses that may be called, so that what was checked is what is connected to."""

    def __init__(self, callbacks: Callbacks) -> None:
        self._callbacks = callbacks

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        results: list[ResolveResult] = []
        for address in await _resolve(host):
            await self._callbacks.check_place(address, port)
            version = ipaddress.ip_address(address.partition("%")[0]).version
            own_family = socket.AF_INET if version == 4 else socket.AF_INET6
            if family not in (socket.AF_UNSPEC, own_family):
                continue
            result: ResolveResult = {
                "hostname": host,
                "host": address,
                "port": port,
                "family": own_family,
                "proto": 0,
                "flags": int(socket.AI_NUMERICHOST),
            }
            results.append(result)
        return results

    async def close(self) -> None:
        """Nothing is held open."""


def _body(session: HeldSession) -> dict[str, Any]:
    """What the framework would send: the creator's payload, with the session's id where it has none of its own."""
    payload = session.on_close_payload
    if payload is None:
        payload = {}
    elif not isinstance(payload, dict):
        payload = {"payload": payload}
    return {"session_id": session.session_id, **payload}


def _port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)


def _literal(host: str) -> str:
    """``host`` in the usual spelling if it is an IP address in any spelling that a resolver would take, else ""."""
    try:
        return str(ipaddress.ip_address(host.partition("%")[0]))
    except ValueError:
        pass
    try:
        return socket.inet_ntoa(socket.inet_aton(host))  # 0x7f.1, 2130706433 and the like
    except (OSError, UnicodeError):
        return ""


async def _resolve(host: str) -> list[str]:
    """All addresses of ``host``.

    Raises:
        OSError: it has none.
    """
    loop = asyncio.get_running_loop()
    found = await within(loop.getaddrinfo(host, None, type=socket.SOCK_STREAM), _RESOLVE_TIMEOUT_S)
    return list(dict.fromkeys(str(info[4][0]) for info in found))


def _unwrapped(address: _Address) -> _Address:
    """The IPv4 address that an IPv6 one stands for, where it stands for one."""
    if isinstance(address, ipaddress.IPv4Address) or int(address) in (0, 1):  # :: and ::1 are themselves
        return address
    if address in _NAT64 or int(address) >> 32 == 0:  # the latter: ::a.b.c.d
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else address)


def _callable_anywhere(address: _Address) -> bool:
    if address.is_link_local or address.is_multicast or address.is_unspecified:
        return False
    # is_reserved is true of ::1 as well, which is private and no more.
    if address.is_reserved and not address.is_loopback:
        return False
    return not any(address.version == network.version and address in network for network in _METADATA)
