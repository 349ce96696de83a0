"""Starts a worker: which command it is, what its environment holds, which ports it gets."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from nullworker.fleets.base import FleetError
from nullworker.fleets.processes.gpus import ORDER, VISIBLE_VARIABLE
from nullworker.fleets.processes.proc import INSTANCE_VARIABLE, Process, stat
from nullworker.fleets.processes.records import Ports
from nullworker.wire.worker_side.environment import ORIGINAL_VARIABLES
from nullworker.wire.worker_side.run_as import RUN_AS_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nullworker.fleets.processes.records import Directory, Record
    from nullworker.fleets.processes.settings import ProcessSettings

#: What a worker gets of the engine's own environment. Keys of a provider, or of anyone else, are not among it.
PASSED_VARIABLES = (
    "HOME",
    "LANG",
    "LC_*",
    "TZ",
    "TMPDIR",
    "VIRTUAL_ENV",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "CUDA_VISIBLE_DEVICES",
)
_BACKEND_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_BOUND_MAX = 96  # descriptors; a worker listens within seconds of its creation
_SITE_DIRECTORIES = ("site-packages", "dist-packages")
#: What the worker's interpreter is started with. The consumer, often of another Python, has the engine's own instead.
_OF_THE_INTERPRETER = ("PYTHONPATH", "SETUPTOOLS_USE_DISTUTILS")


def command(settings: ProcessSettings, roots: Sequence[str], backend: str) -> list[str]:
    """The command that runs ``backend``: its own ``worker.py``, or the classic runtime over its ``backend.py``.

    Args:
        settings: of the fleet.
        roots: as `workers_roots` returns them.
        backend: its name.

    Raises:
        FleetError: the backend is in none of ``roots``, or its name cannot be one.
    """
    return [settings.python, "-m", *module_of(roots, backend)]


def module_of(roots: Sequence[str], backend: str) -> list[str]:
    """The module that runs ``backend``, with its arguments.

    Raises:
        FleetError: the backend is in none of ``roots``, or its name cannot be one.
    """
    if not _BACKEND_NAME.fullmatch(backend):
        raise FleetError(f"{backend!r} cannot be the name of a backend: letters, digits, '_', '-' and '.' can.")
    for root in roots:
        folder = Path(root) / "workers" / backend
        if backend.isidentifier() and (folder / "worker.py").is_file():
            return [f"workers.{backend}.worker"]
        if (folder / "backend.py").is_file():
            return ["nullworker.classic", backend]
    where = " or ".join(f"{root}/workers/{backend}" for root in roots)
    raise FleetError(
        f"There is no backend {backend!r} (no worker.py or backend.py in {where}): "
        f"correct the workergroup's backend, or name the folder that workers/{backend} is in by workers_path of "
        "[fleet.processes]."
    )


def workers_roots(own: Sequence[str]) -> list[str]:
    """The directories that hold a ``workers`` folder: those of ``own``, the setting, first, then the installed ones.

    Raises:
        FleetError: there is none.
    """
    spec = importlib.util.find_spec("workers")
    installed = spec.submodule_search_locations or () if spec else ()
    roots = [*own, *(str(Path(path).parent) for path in installed)]
    roots = [root for root in dict.fromkeys(roots) if (Path(root) / "workers").is_dir()]
    if not roots:
        raise FleetError("No folder 'workers' is installed or named: set workers_path of the process fleet.")
    return roots


def module_path(roots: Sequence[str], own: str) -> str:
    """PYTHONPATH of a worker: where ``workers`` and ``nullworker`` are, then ``own``, what the engine was given itself.

    Site-packages are left out: an interpreter finds its own by itself, and must see none before its standard library.
    """
    package = importlib.util.find_spec("nullworker")
    parents = [str(Path(path).parent) for path in package.submodule_search_locations or ()] if package else []
    needed = [path for path in (*roots, *parents) if Path(path).name not in _SITE_DIRECTORIES]
    return os.pathsep.join(dict.fromkeys(path for path in (*needed, *own.split(os.pathsep)) if path))


def base_environment(settings: ProcessSettings, roots: Sequence[str], own: Mapping[str, str]) -> dict[str, str]:
    """What all workers of a fleet have in their environment.

    Args:
        settings: of the fleet.
        roots: as `workers_roots` returns them.
        own: the engine's own environment.
    """
    names = set(PASSED_VARIABLES) | set(settings.pass_env)
    prefixes = tuple(name[:-1] for name in names if name.endswith("*"))
    environment = {
        name: value for name, value in own.items() if name in names or (prefixes and name.startswith(prefixes))
    }
    # Behind all else, so that a consumer's `python` is found where the machine has none of its own.
    path = [*own.get("PATH", os.defpath).split(os.pathsep), str(Path(settings.python).parent)]
    environment["PATH"] = os.pathsep.join(dict.fromkeys(part for part in path if part))
    environment["PYTHONPATH"] = module_path(roots, own.get("PYTHONPATH", ""))
    # The last output of a worker that is killed is in its log, and not in a buffer.
    environment["PYTHONUNBUFFERED"] = "1"
    # vastai imports distutils: where Python has its own, the whole of setuptools in its place costs a start 0.2 s.
    if settings.python == sys.executable and sys.version_info < (3, 12):
        environment["SETUPTOOLS_USE_DISTUTILS"] = "stdlib"
    environment[ORIGINAL_VARIABLES] = json.dumps({name: own.get(name) for name in _OF_THE_INTERPRETER})
    return environment


def environment(settings: ProcessSettings, base: Mapping[str, str], record: Record, directory: str) -> dict[str, str]:
    """The whole environment of one worker. A workergroup's own variables change all but its identity and
    its GPUs.

    Args:
        settings: of the fleet.
        base: as `base_environment` returns it.
        record: of the worker.
        directory: of the worker.
    """
    ports = record.ports
    own = {**record.env, **({"NULL_CONSUMER": record.consumer} if record.consumer else {})}
    # A consumer starts where the engine did, or where the settings say, so that its relative paths are valid.
    consumer_dir = {"NULL_CONSUMER_DIR": settings.consumer_dir} if own.get("NULL_CONSUMER") else {}
    # What the workergroup sets itself is the consumer's as well.
    consumers = {
        name: value for name, value in json.loads(base.get(ORIGINAL_VARIABLES, "{}")).items() if name not in own
    }
    gpus = {} if record.gpus is None else {**ORDER, VISIBLE_VARIABLE: ",".join(record.gpus)}
    return {
        **base,
        ORIGINAL_VARIABLES: json.dumps(consumers),
        "BACKEND": record.backend,
        "MODEL_LOG": str(Path(directory) / "model.log"),
        "NULL_CALLBACK_PRIVATE": "true",  # a session's callback may well be on this machine
        **consumer_dir,
        **own,
        **gpus,
        **({RUN_AS_VARIABLE: settings.run_as, "NULL_CONTROL_TOKEN": "true"} if settings.run_as else {}),
        "CONTAINER_ID": str(record.worker_id),
        "REPORT_ADDR": record.report_addr,
        "MASTER_TOKEN": record.worker_token,
        "PUBLIC_IPADDR": settings.host,
        "WORKER_HOST": settings.host,
        "WORKER_PORT": str(ports.worker),
        f"VAST_TCP_PORT_{ports.worker}": str(ports.worker),
        "WORKER_HTTP_PORT": str(ports.http),
        "NULL_CONTROL_PORT": str(ports.control),
        "USE_SSL": "true" if record.use_ssl else "false",
        INSTANCE_VARIABLE: directory,
    }


def launch(
    directory: Directory, record: Record, arguments: Sequence[str], environment: Mapping[str, str], *, new: bool
) -> tuple[Process, int]:
    """Starts an instance's process, and writes it into the record.

    Args:
        directory: of the fleet's mark.
        record: of the instance.
        arguments: the command, as `command` returns it.
        environment: as `environment` returns it.
        new: whether the instance's directory is to be made first.

    Returns:
        The process, and a descriptor that becomes readable when it ends. The caller reaps it.

    Raises:
        OSError: it does not run; a new instance's directory is not there either.
    """
    path, log_path = directory.path(record.worker_id), directory.log_path(record.worker_id)
    if new:
        directory.add(record)
    try:
        record.log_offset = log_path.stat().st_size if log_path.exists() else 0
        leader = _spawn(arguments, path, log_path, environment)
        before = record.stopped, record.exit_detail
        try:
            record.stopped, record.exit_detail = False, ""
            record.set_leader(leader)
            directory.save(record)
            return leader, os.pidfd_open(leader.pid)
        except OSError:
            os.killpg(leader.pid, signal.SIGKILL)
            os.waitpid(leader.pid, 0)
            record.set_leader(None)
            record.stopped, record.exit_detail = before
            raise
    except OSError:
        if new:
            with contextlib.suppress(OSError):
                directory.remove(record.worker_id)
        raise


def _spawn(arguments: Sequence[str], path: Path, log_path: Path, environment: Mapping[str, str]) -> Process:
    """Starts a process as the leader of a session of its own, its output at the end of its log. Raises OSError."""
    log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        process = subprocess.Popen(
            arguments,
            cwd=path,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    finally:
        os.close(log)
    process.returncode = 0  # it outlives this object, which would warn of that and wait for it in our place
    line = stat(process.pid)
    assert line is not None, "a child that is not reaped is in the process table"
    return line.process


class PortPool:
    """Chooses free ports, and none twice as long as its holder keeps it.

    A chosen port stays bound here, not listened on, until `_BOUND_MAX` later ones are: so the kernel gives it to no
    other program before its worker listens on it, which can do so all the same, as servers set SO_REUSEADDR.
    """

    def __init__(self, host: str) -> None:
        self._host = host
        self._held: set[int] = set()
        self._bound: dict[int, socket.socket] = {}

    def choose(self) -> Ports:
        """Three ports that are free now.

        Raises:
            FleetError: the host is not an address of this machine, or no port is free.
        """
        chosen: dict[int, socket.socket] = {}
        refused: list[socket.socket] = []  # they stay bound until all are chosen, and are not met again
        try:
            while len(chosen) < 3:
                probe = self._any()
                port = probe.getsockname()[1]
                if port in self._held:
                    refused.append(probe)
                else:
                    chosen[port] = probe
        except OSError as error:
            refused += chosen.values()
            raise FleetError(
                f"No free port on {self._host} ({error.strerror or error}): "
                "is it an address of this machine, and are there ports left?"
            ) from error
        finally:
            for probe in refused:
                probe.close()
        self._bound.update(chosen)
        while len(self._bound) > _BOUND_MAX:
            self._unbind(next(iter(self._bound)))
        ports = Ports(*chosen)
        self.hold(ports)
        return ports

    def _any(self) -> socket.socket:
        """A socket that is bound to a free port."""
        probe = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((self._host, 0))
        except OSError:
            probe.close()
            raise
        return probe

    def _unbind(self, port: int) -> None:
        bound = self._bound.pop(port, None)
        if bound is not None:
            bound.close()

    def hold(self, ports: Ports) -> None:
        """Keeps ports from being chosen."""
        self._held.update((ports.worker, ports.http, ports.control))

    def release(self, ports: Ports) -> None:
        """Ends what `choose` or `hold` began."""
        for port in (ports.worker, ports.http, ports.control):
            self._held.discard(port)
            self._unbind(port)

    def close(self) -> None:
        """Lets go of all ports."""
        for port in list(self._bound):
            self._unbind(port)

    def are_free(self, ports: Ports) -> bool:
        """Whether a worker could listen on all of these now."""
        for port in (ports.worker, ports.http, ports.control):
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((self._host, port))
                except OSError:
                    return False
        return True
