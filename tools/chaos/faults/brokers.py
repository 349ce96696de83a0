"""A broker that is a server of its own is killed, or stopped for a time."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from tools.chaos.faults.kind import fault, lasts

if TYPE_CHECKING:
    from tools.chaos.world import World


@fault(needs=("redis",), broker="redis")
def broker_killed(world: World) -> None:
    """SIGKILL of Redis; it is started again with what it had acknowledged."""
    world.kill(world.redis)
    lasts(world, 6.0)
    world.start_broker()


@fault(needs=("redis",), broker="redis")
def broker_stopped(world: World) -> None:
    """SIGSTOP of Redis, and SIGCONT up to 8 s later."""
    if world.redis is not None:
        world.redis.send_signal(signal.SIGSTOP)
        lasts(world, 8.0)
        world.redis.send_signal(signal.SIGCONT)
