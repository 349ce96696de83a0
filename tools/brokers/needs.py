"""What the tests need beside Python packages: where it is looked for, and which tests are skipped without it."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
QUEUE_TESTS = ROOT / "tests/integration/queues"
NODE_FOLDERS = (QUEUE_TESTS / "node", QUEUE_TESTS / "node_pg", ROOT / "tests/integration/page")
NODE_TESTS = ("BullMQ", "graphile-worker and pg-boss", "the page's accessibility")  # which are skipped without each
#: Wants another redis-py than we have, so that it cannot be in our environment.
ARQ = "arq==0.28.0"


@dataclass(frozen=True, slots=True)
class Program:
    """An executable and the Debian package that has it."""

    name: str
    package: str
    also_in: tuple[str, ...] = ()  # glob patterns of absolute folders, beside PATH
    tests: str = ""  # which are skipped without it

    def find(self) -> str | None:
        """Its path, if it is here."""
        if found := shutil.which(self.name):
            return found
        for pattern in self.also_in:
            for directory in sorted(Path("/").glob(pattern.lstrip("/")), reverse=True):
                if found := shutil.which(self.name, path=str(directory)):
                    return found
        return None


POSTGRES_BIN = ("/usr/lib/postgresql/*/bin",)
PROGRAMS = (
    Program("redis-server", "redis-server", tests="Redis, Celery, RQ, arq, dramatiq and BullMQ"),
    Program("nats-server", "nats-server", ("/usr/sbin",), "NATS"),
    Program("rabbitmq-server", "rabbitmq-server", ("/usr/sbin",), "RabbitMQ, and dramatiq on it"),
    Program("epmd", "erlang-base", ("/usr/bin", "/usr/lib/erlang/bin"), "RabbitMQ, and dramatiq on it"),
    Program("postgres", "postgresql", POSTGRES_BIN, "procrastinate, graphile-worker and pg-boss"),
    Program("initdb", "postgresql", POSTGRES_BIN, "procrastinate, graphile-worker and pg-boss"),
    Program("pgbouncer", "pgbouncer", ("/usr/sbin",), "PostgreSQL behind a pooler"),
    Program("setpriv", "util-linux", (), "PostgreSQL, where root runs the tests"),
    Program("node", "nodejs", (), "BullMQ, graphile-worker and pg-boss"),
    Program("curl", "curl", (), "the page on classic backends"),
    Program("npm", "npm", (), "BullMQ, graphile-worker and pg-boss"),
    Program("chromium", "chromium", (), "the page in a browser"),
    Program("sshd", "openssh-server", ("/usr/sbin",), "workers on machines that are reached by SSH"),
    Program("ssh", "openssh-client", (), "workers on machines that are reached by SSH"),
    Program("slurmctld", "slurmctld", ("/usr/sbin",), "workers as jobs of Slurm"),
    Program("slurmd", "slurmd", ("/usr/sbin",), "workers as jobs of Slurm"),
    Program("sbatch", "slurm-client", (), "workers as jobs of Slurm"),
    Program("promtool", "prometheus", (), "the rules and the dashboard for Prometheus"),
)
#: Of `make chaos` alone: the tests do without.
CHAOS_PROGRAMS = (
    Program("ip", "iproute2", tests="faults of the network, in make chaos"),
    Program("faketime", "faketime", tests="faults of the clock, in make chaos"),
)


def program(name: str) -> Program:
    """The one of that name."""
    return next(one for one in (*PROGRAMS, *CHAOS_PROGRAMS) if one.name == name)


def tools_folder() -> Path:
    """A place for what the tests need beside our environment: in it, so that it goes with it."""
    inside = Path(sys.prefix)
    usable = sys.prefix != sys.base_prefix and os.access(inside, os.W_OK)
    return (inside if usable else Path(tempfile.gettempdir())) / "test-tools"


def python_library(requirement: str) -> Path:
    """Where the folder of a Python library is, once `libraries` has made it."""
    return tools_folder() / re.sub(r"[^\w.]+", "-", requirement)


def node_library(folder: Path) -> Path:
    """Where the modules are that ``package.json`` in ``folder`` asks for, once `libraries` has got them."""
    manifest = folder / "package.json"
    return tools_folder() / f"node-{hashlib.sha256(manifest.read_bytes()).hexdigest()[:12]}"
