"""Other programs: a second engine or dispatcher, clients that vanish or never say all, a lock that is held for long."""

from __future__ import annotations

import contextlib
import socket
import sqlite3
import time
from typing import TYPE_CHECKING

from tools.chaos.faults.kind import fault, lasts, must_be_refused

if TYPE_CHECKING:
    from tools.chaos.world import World


@fault()
def second_engine(world: World) -> None:
    """Another engine is started on the same state, and refuses."""
    must_be_refused(world, *world.engine_arguments(0), what="a second engine")


@fault()
def second_dispatcher(world: World) -> None:
    """Another dispatcher is started for the same queue, with a state of its own, and refuses."""
    world.dispatcher_serves()  # else either may be the second
    must_be_refused(world, *world.dispatch_arguments("another"), what="a second dispatcher")


@fault(broker="sqlite")
def queue_locked(world: World) -> None:
    """Another program holds the queue's write lock, for up to 3 s."""
    path = world.queue_file(world.endpoints[0])
    with contextlib.closing(sqlite3.connect(path, timeout=10.0, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        time.sleep(world.rng.uniform(0.5, 3.0))  # the world cannot watch meanwhile: it writes to the queue
        db.execute("COMMIT")


@fault()
def half_requests(world: World) -> None:
    """Fifty connections to the engine never say all, for up to 4 s."""
    with contextlib.ExitStack() as peers:
        for _ in range(50):
            with contextlib.suppress(OSError):
                peer = peers.enter_context(socket.create_connection((world.host, world.port), timeout=1.0))
                peer.sendall(b"POST /route/ HTTP/1.1\r\nContent-Length: 99\r\n\r\n{"[: world.rng.randrange(50)])
        lasts(world)


@fault()
def clients_vanish(world: World) -> None:
    """Two clients ask for workers, and are killed while they wait or hold."""
    where = ["--instance", f"http://{world.host}:{world.port}", "--endpoint", world.endpoints[0], "--hold", "60"]
    asking = [world.run("reserve", *where, environ={"VAST_API_KEY": world.key}) for _ in range(2)]
    lasts(world)
    for process in asking:
        world.kill(process)
