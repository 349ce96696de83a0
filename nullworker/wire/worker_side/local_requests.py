"""Whether a request comes from a program on this machine, and not from another machine or from a web page.

A web page, opened in a browser on this machine, can make the browser send requests to loopback ports. Such a request
carries an ``Origin``, or names the page's own host in ``Host`` (DNS rebinding).
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container


def is_loopback(host: str) -> bool:
    """Whether ``host`` (a name or an address) is this machine alone."""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def host_of(header: str) -> str:
    """The name or address in a ``Host`` header, without port and brackets."""
    if header.startswith("[") and "]" in header:
        return header[1 : header.index("]")]
    return header.split(":", 1)[0]


def is_from_web_page(origin: str | None, fetch_site: str | None, allowed: Container[str] = ("none",)) -> bool:
    """Whether a web page sent a request. Browsers set both headers, and a page cannot remove them.

    Args:
        origin: the ``Origin`` header, None if there is none.
        fetch_site: the ``Sec-Fetch-Site`` header, None if there is none.
        allowed: values of ``Sec-Fetch-Site`` that are accepted; "none" is the user's own typing.
    """
    return origin is not None or (fetch_site if fetch_site is not None else "none") not in allowed
