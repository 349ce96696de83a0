"""Classic backends as real processes, their folders, their certificates, and the wait for what will come true."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import psutil
import requests
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.kit.authority import Authority
from tests.kit.waiting import HANG_S
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Mapping

    from typing_extensions import Self

CLONE = Path(__file__).resolve().parents[2]


def write_backend(root: Path, name: str, **files: str) -> Path:
    """Writes ``root/name`` with a file ``<stem>.py`` for each of ``files``; returns ``root``."""
    (root / name).mkdir(parents=True)
    for stem, text in files.items():
        (root / name / f"{stem}.py").write_text(dedent(text))
    return root


class ClassicProcess:
    """`python -m nullworker.classic` with these arguments; ended with the ``with`` block, by its id."""

    def __init__(
        self, *arguments: str, env: Mapping[str, str] | None = None, cwd: Path = CLONE, port: int | None = None
    ) -> None:
        self.port = port or free_port()
        self._log = Path(os.environ.get("TMPDIR", "/tmp")) / f"classic-test-{os.getpid()}-{self.port}.log"
        clean = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV")}
        told = {"WORKER_PORT": str(self.port), "PYTHONPATH": str(CLONE), **(env or {})}
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "nullworker.classic", *arguments],
                cwd=cwd,
                env={**clean, **told},
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._log.unlink(missing_ok=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def said(self) -> str:
        """All that it wrote."""
        return self._log.read_text(errors="replace")

    def wait_for(self, text: str, *, times: int = 1) -> None:
        """Until it wrote ``text`` so often."""
        deadline = time.monotonic() + HANG_S
        while self.said.count(text) < times:
            assert self.process.poll() is None, f"it ended with {self.process.returncode} and said: {self.said}"
            assert time.monotonic() < deadline, f"it never said {text!r}, but: {self.said}"
            time.sleep(0.02)

    def wait_for_hang_ups(self) -> None:
        """Until it has closed each connection that its client had closed before."""
        deadline = time.monotonic() + HANG_S
        while any(
            c.status == psutil.CONN_CLOSE_WAIT and c.laddr and c.laddr.port == self.port
            for c in psutil.net_connections("tcp")
        ):
            assert time.monotonic() < deadline, "it keeps a connection whose client is gone"
            time.sleep(0.02)

    def wait_until_up(self) -> Self:
        self.wait_for(" serves ")
        return self

    def wait(self) -> int:
        """Its exit code."""
        return self.process.wait(HANG_S)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Sends the signal; returns the exit code."""
        self.process.send_signal(number)
        return self.wait()


@dataclass(frozen=True)
class Certificate:
    """The certificate of a server on 127.0.0.1, in files, and the authority that has signed it."""

    certificate: Path
    key: Path
    root: Path
    authority: Authority

    @classmethod
    def make(cls, folder: Path) -> Certificate:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        made = cls(folder / "instance.crt", folder / "instance.key", folder / "root.crt", Authority())
        made.certificate.write_bytes(made.authority.certificate_of(key, "127.0.0.1"))
        made.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        made.root.write_bytes(made.authority.pem)
        return made


def post(url: str, **given: Any) -> requests.Response:
    return requests.post(url, timeout=HANG_S, **given)


def get(url: str, **given: Any) -> requests.Response:
    return requests.get(url, timeout=HANG_S, **given)
