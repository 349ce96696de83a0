"""What consumers of the tests write down: that a job begins and ends, and whether their worker is held at that moment.

Uses little of the standard library, for it is loaded with each consumer, and with RQ for each job.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import time


def note(what: str, job: str) -> None:
    """One line, in one write, so that those of several consumers do not mix."""
    session = os.environ["NULL_SESSION_ID"]
    held = int(reservation()["session_id"] == session)
    line = f"{what} {job} {session} {held} {time.time():.6f}\n"  # noqa: TID251 - as the workers' logs
    file = os.open(os.environ["NOTES"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(file, line.encode())
    os.close(file)


def reservation() -> dict[str, object]:
    """What the worker's control port says."""
    place = os.environ["NULL_CONTROL_URL"].removeprefix("http://")
    host, port = place.split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(f"GET /reservation HTTP/1.1\r\nHost: {place}\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    seen: dict[str, object] = json.loads(answer.partition(b"\r\n\r\n")[2])
    return seen


def work(job: str, seconds: float) -> None:
    """Does a job. At one whose name begins with ``crash`` the consumer kills itself, the first time."""
    note("begin", job)
    if job.startswith("crash"):
        try:
            os.close(os.open(os.environ["NOTES"] + f".{job}", os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            pass
        else:
            os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(seconds)
    note("end", job)
