"""How an adapter's URL says where its broker is: data that the adapters declare.

`parse_url` reads the names of parameters and transports from it, and ``docs/tools/connection_table.py`` the table of
docs/queues.md. Each row has a test of its name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Way:
    """One way to reach a broker: a row of the table."""

    #: A word or two, unique for its broker, by which the row's test is named.
    name: str
    #: The first cell: what it is.
    what: str
    #: The second cell: how a URL says it.
    written: str
    #: The third cell: what else there is to know.
    note: str = ""
    #: What may follow the plus in the scheme; the empty one stands for no plus.
    transports: tuple[str, ...] = ()
    #: Names of URL parameters.
    parameters: tuple[str, ...] = ()
    #: What libraries call these parameters.
    also: Mapping[str, str] = field(default_factory=dict)
    #: Parameters of libraries that are allowed and change nothing here.
    unused: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Connections:
    """All ways to reach one kind of broker."""

    #: As docs/queues.md names it.
    broker: str
    ways: tuple[Way, ...]
    #: Whether the URL may name several servers.
    several: bool = False

    @property
    def parameters(self) -> frozenset[str]:
        """The names of all parameters, without the libraries' other names for them."""
        return frozenset(name for way in self.ways for name in way.parameters)

    @property
    def also(self) -> dict[str, str]:
        """Libraries' names of parameters, each with ours."""
        return {name: ours for way in self.ways for name, ours in way.also.items()}

    @property
    def unused(self) -> frozenset[str]:
        """Parameters that change nothing."""
        return frozenset(name for way in self.ways for name in way.unused)

    @property
    def transports(self) -> tuple[str, ...]:
        """What may follow the plus of a scheme, in the order of the table."""
        return tuple(dict.fromkeys(transport for way in self.ways for transport in way.transports))
