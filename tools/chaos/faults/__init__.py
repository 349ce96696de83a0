"""The kinds of fault, by what they harm. Each does its harm, lets it last and takes it away; its victims are noted."""

from __future__ import annotations

from tools.chaos.faults import brokers, clocks, files, network, peers, processes, versions
from tools.chaos.faults.kind import KINDS, Kind

__all__ = ["KINDS", "Kind", "brokers", "clocks", "files", "network", "peers", "processes", "versions"]
