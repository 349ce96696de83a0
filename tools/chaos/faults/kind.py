"""What a kind of fault is, and the table of all."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from tools.chaos.world import World

    Harm = Callable[[World], None]


@dataclass(frozen=True)
class Kind:
    """One kind of fault."""

    harm: Harm
    #: What the fault is, for the table.
    about: str
    #: Called before anything is started.
    prepare: Harm | None = None
    #: What it needs of the machine: ``namespaces``, ``faketime``, ``redis``, ``old``.
    needs: tuple[str, ...] = ()
    #: ``sqlite`` or ``redis``; empty: any.
    broker: str = ""


#: By its name; each is called at a random moment of an episode.
KINDS: dict[str, Kind] = {}


def fault(prepare: Harm | None = None, needs: tuple[str, ...] = (), broker: str = "") -> Callable[[Harm], Harm]:
    """Puts a function into the table. Its docstring says what it is.

    Args:
        prepare: called before anything is started.
        needs: what it needs of the machine.
        broker: the kind of queue that it is about.
    """

    def add(harm: Harm) -> Harm:
        KINDS[harm.__name__] = Kind(harm, (harm.__doc__ or "").strip().splitlines()[0], prepare, needs, broker)
        return harm

    return add


def lasts(world: World, most_s: float = 4.0) -> None:
    """Lets a fault last for a random time."""
    world.pause(world.rng.uniform(0.0, most_s))


def run(*words: str) -> None:
    """Runs a program of the system. Raises CalledProcessError with what it said."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)} failed: {done.stderr.strip()}")


def must_be_refused(world: World, *words: str, what: str, may_live: bool = False) -> None:
    """Starts a command, which is to say why it does not serve, and to end with an error.

    Args:
        world: of the episode.
        words: the command's arguments.
        what: it is, in words.
        may_live: that it serves is right as well; it is killed.
    """
    log = world.log(words[0])
    begin = log.stat().st_size
    process = world.run(*words)
    if not world.within(lambda: process.poll() is not None, 20.0):
        if not may_live:
            world.history.seen.append(f"{what} was not refused")
        world.kill(process)
    elif process.returncode == 0:
        world.history.seen.append(f"{what} ended as if all were well")
    if b"Traceback" in log.read_bytes()[begin:]:
        world.history.seen.append(f"a traceback in {log.name}")
