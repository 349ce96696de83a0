"""A network is cut: between two hosts, which are network namespaces of the episode, or of the one host to itself."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tools.chaos.faults.kind import fault, lasts, run

if TYPE_CHECKING:
    from tools.chaos.world import World

HERE, THERE = "10.213.0.1", "10.213.0.2"
#: Longer than the dispatcher's reservations last without a keep-alive (20 s) would be another fault.
CUT_S = 12.0


def _second_host(world: World) -> tuple[str, ...]:
    """Makes a host that is joined to this one by a cable; what runs a command there."""
    holder = world.popen("host", ["unshare", "--net", "sleep", "infinity"])
    own = Path("/proc/self/ns/net").readlink()
    world.within(lambda: Path(f"/proc/{holder.pid}/ns/net").readlink() != own, 10.0)
    enter = ("nsenter", f"--net=/proc/{holder.pid}/ns/net")
    run("ip", "link", "add", "chaos0", "type", "veth", "peer", "name", "chaos1", "netns", str(holder.pid))
    run("ip", "address", "add", f"{HERE}/30", "dev", "chaos0")
    run("ip", "link", "set", "chaos0", "up")
    run(*enter, "ip", "address", "add", f"{THERE}/30", "dev", "chaos1")
    run(*enter, "ip", "link", "set", "chaos1", "up")
    run(*enter, "ip", "link", "set", "lo", "up")
    world.host, world.insecure = HERE, True  # the cable is the episode's own
    world.fleet["host"] = HERE
    return enter


def _dispatcher_elsewhere(world: World) -> None:
    world.prefix["dispatch"] = _second_host(world)


def _workers_elsewhere(world: World) -> None:
    """Workers are started here and run there: the fleet's Python is a program that changes the host first."""
    enter = _second_host(world)
    python = world.folder / "python"
    python.write_text(f'#!/bin/sh\nexec {" ".join(enter)} {sys.executable} "$@"\n')
    python.chmod(0o755)
    world.fleet |= {"host": THERE, "python": str(python)}
    Path("/proc/sys/net/ipv4/ip_nonlocal_bind").write_text("1")  # the fleet keeps ports of the other host bound


def _cut(world: World) -> None:
    """Pulls the cable at one of its ends: on that side connections fail at once, on the other packets are lost."""
    enter = world.prefix["dispatch"] or tuple(Path(str(world.fleet["python"])).read_text().split()[2:4])
    end = ("ip", "link", "set", "chaos0") if world.rng.random() < 0.5 else (*enter, "ip", "link", "set", "chaos1")
    run(*end, "down")
    lasts(world, CUT_S)
    run(*end, "up")


@fault(_dispatcher_elsewhere, needs=("namespaces",), broker="sqlite")
def dispatcher_cut_off(world: World) -> None:
    """The network between the dispatcher and all else is cut, for up to 12 s."""
    _cut(world)


@fault(_workers_elsewhere, needs=("namespaces",), broker="sqlite")
def workers_cut_off(world: World) -> None:
    """The network between all workers and all else is cut, for up to 12 s."""
    _cut(world)


@fault(needs=("namespaces",))
def all_cut_off(world: World) -> None:
    """No program reaches another (the loopback interface is down), for up to 12 s."""
    run("ip", "link", "set", "lo", "down")
    lasts(world, CUT_S)
    run("ip", "link", "set", "lo", "up")
