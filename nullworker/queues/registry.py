"""Finds the adapter for a queue's URL by its scheme, among the entry points ``nullworker.queues``.

Adapters in this package are found the same way as those of other packages: a distribution that declares

    [project.entry-points."nullworker.queues"]
    my-broker = "my_package.my_module:MyQueue"

makes ``my-broker://…`` work. What follows a plus (``my-broker+tls``, ``celery+redis``) is for the adapter to
interpret: the whole scheme is looked up first, then what is left without its last such part.
"""

from __future__ import annotations

import contextlib
import re
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, cast

from nullworker.queues.base import QueueError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from importlib.metadata import EntryPoint

    from nullworker.queues.base import Queue

GROUP = "nullworker.queues"
_ARN = re.compile(r"(?:sqs://)?arn:aws[a-z-]*:sqs:([^:]+):([^:]+):([^:?]+)(?:\?.*)?")


def schemes() -> list[str]:
    """The schemes of all installed adapters, sorted."""
    return sorted({point.name for point in entry_points(group=GROUP)})


def adapter(url: str) -> type[Queue]:
    """The adapter for a URL's scheme.

    Raises:
        QueueError: no adapter has that scheme, or the adapter's library is not installed.
    """
    if arn := _ARN.fullmatch(url):
        raise QueueError(f"An ARN is not a URL: write sqs://{arn[1]}/{arn[2]}/{arn[3]}.")
    scheme, separator, _ = url.partition("://")
    if not separator:
        raise QueueError(f"A queue's URL begins with one of {_listed()}, each followed by ://.")
    scheme = scheme.lower()
    points = {point.name: point for point in entry_points(group=GROUP)}
    name = scheme
    while name not in points and "+" in name:
        name = name.rpartition("+")[0]
    point = points.get(name)
    if point is None:
        if written := sorted(_ways(points, scheme)):
            *some, last = written
            listed = f"{', '.join(some)} or {last}" if some else last
            raise QueueError(f"{scheme}://… does not say whose queue it is: write {listed} in place of {scheme}.")
        raise QueueError(f"No queue adapter is installed for {scheme}:// (there are {_listed()}).")
    try:
        return cast("type[Queue]", point.load())
    except ImportError as error:
        package = point.dist.name if point.dist else "nullworker"
        extra = f"{package}[{point.extras[0]}]" if point.extras else package
        raise QueueError(
            f"The adapter for {scheme}:// cannot be loaded ({error}): install what it needs, pip install '{extra}'."
        ) from error


async def open_queue(url: str) -> Queue:
    """Opens the queue that a URL names, with the adapter for its scheme.

    Raises:
        QueueError: no adapter has the scheme, the URL is wrong, or the broker refuses.
    """
    return await adapter(url).open(url)


def _ways(points: Mapping[str, EntryPoint], scheme: str) -> set[str]:
    """Schemes of adapters whose URLs are a library's own, of this scheme, behind the adapter's name and a plus."""
    found = set()
    for name, point in points.items():
        kind, plus, transport = name.partition("+")
        if plus and transport == scheme:
            found.add(name)
        with contextlib.suppress(ImportError):
            connections = getattr(point.load(), "CONNECTIONS", None)
            if not plus and connections is not None and scheme in connections.transports:
                found.add(f"{kind}+{scheme}")
    return found


def _listed() -> str:
    return ", ".join(schemes()) or "none"
