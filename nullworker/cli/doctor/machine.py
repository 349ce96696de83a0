"""Gathers what can be known of this machine: installation, state directory, clock, limits, first process, unit."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import resource
import shutil
import stat
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from nullworker.cli.doctor.facts import InitFacts, Package, StateFacts, StateFile, UnitFacts

#: Files that hold keys, or what workers may do by it.
SECRET_FILES = ("api_key", "secret", "signing_key.pem", "ca.pem", "engine.db", "dispatch.db")
STORE_FILE, LOCK_FILE = "engine.db", "lock"
#: An orphan that has ended for so long and is still there is not reaped.
REAP_S = 2.0
_ORPHAN_S = 0.2
_ADJTIMEX_BYTES, _CLOCK_UNSYNCHRONISED = 512, 5
PROPERTIES = ("LoadState", "KillMode", "OOMPolicy", "PrivateTmp", "DynamicUser")
DEFAULT_UNIT = "nullworker.service"


def packages() -> tuple[Package, ...]:
    """What is installed of that which nullworker declares with a lowest version."""
    found: dict[str, Package] = {}
    with contextlib.suppress(metadata.PackageNotFoundError):
        for requirement in metadata.requires("nullworker") or []:
            match = re.match(r"([\w.-]+)(?:\[[^\]]*\])?\s*>=\s*([\d.]+)", requirement)
            if match is None or "python_version" in requirement:
                continue
            with contextlib.suppress(metadata.PackageNotFoundError):
                found[match[1]] = Package(match[1], metadata.version(match[1]), match[2])
    return tuple(found.values())


def version() -> str:
    """Of nullworker; "": it is run from a clone that is not installed."""
    with contextlib.suppress(metadata.PackageNotFoundError):
        return metadata.version("nullworker")
    return ""


def state(path: Path) -> StateFacts:
    """The state directory, without a change to it."""
    from nullworker.engine.store_file import MIGRATIONS

    us, known = os.geteuid(), len(MIGRATIONS)
    try:
        shown = path.expanduser().absolute()
        disk = _existing(shown)
        room = os.statvfs(disk)
        room_facts: dict[str, Any] = {
            "us": us,
            "known_version": known,
            "file_system": _file_system(disk),
            "free_bytes": room.f_bavail * room.f_frsize,
            "free_inodes": room.f_favail if room.f_files else 1 << 30,  # some file systems have no such limit
        }
        if not shown.exists():
            return StateFacts(str(shown), **room_facts)
        found = shown.stat()
        if not stat.S_ISDIR(found.st_mode):
            return StateFacts(str(shown), exists=True, is_directory=False, us=us)
        return StateFacts(
            str(shown),
            exists=True,
            mode=stat.S_IMODE(found.st_mode),
            owner=found.st_uid,
            files=tuple(_files(shown)),
            store_version=_store_version(shown / STORE_FILE),
            engine_pid=_holder(shown / LOCK_FILE),
            **room_facts,
        )
    except OSError as error:
        return StateFacts(str(path), error=(error.strerror or str(error)).lower(), us=us)


def _existing(path: Path) -> Path:
    """The path, or the nearest of its parents that is there."""
    return next(each for each in (path, *path.parents) if each.exists())


def _files(directory: Path) -> list[StateFile]:
    found = []
    for name in SECRET_FILES:
        with contextlib.suppress(FileNotFoundError):
            info = (directory / name).lstat()
            is_plain = stat.S_ISREG(info.st_mode)
            found.append(StateFile(name, stat.S_IMODE(info.st_mode), info.st_uid, is_plain))
    return found


def _file_system(path: Path) -> str:
    """The type of the file system that a path is on."""
    best, kind = "", ""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/mounts").read_text().splitlines():
            _, place, this, *_ = line.split(" ")
            place = place.replace("\\040", " ")
            if path.is_relative_to(place) and len(place) >= len(best):
                best, kind = place, this
    return kind


def _store_version(path: Path) -> int | None:
    """The version of the tables of a store, from the head of its file: to open it would change what is beside it."""
    try:
        with path.open("rb") as file:
            head = file.read(100)
    except OSError:
        return None
    return int.from_bytes(head[60:64], "big") if head.startswith(b"SQLite format 3\0") else None


def _holder(lock: Path) -> int:
    """The process that holds the lock of a state directory, found without trying to take it; 0: none does."""
    try:
        number = lock.stat().st_ino
        held = Path("/proc/locks").read_text()
        pid = int(lock.read_text().strip() or 0)
    except (OSError, ValueError):
        return 0
    return pid if re.search(rf"FLOCK\s+ADVISORY\s+WRITE\s+-?\d+\s+\w+:\w+:{number}\s", held) else 0


def clock_is_synchronised() -> bool | None:
    """Whether the kernel says that something keeps its clock in time; None: it does not say."""
    try:
        answer = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_ADJTIMEX_BYTES))
    except (OSError, AttributeError):
        return None
    return None if answer < 0 else answer != _CLOCK_UNSYNCHRONISED


def year() -> int:
    """By this machine's clock."""
    return time.gmtime().tm_year


def open_files() -> tuple[int, int]:
    """The limit on open files, and how far a process may raise it; -1: no limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft, hard


def python() -> tuple[int, int]:
    """The version of Python."""
    return sys.version_info[0], sys.version_info[1]


# ------------------------------------------------------------------------------------------------------- first process


def init() -> InitFacts:
    """The process that orphans go to, by an orphan that is made for this and ends at once."""
    if shutil.which("sh") is None or not Path("/proc/self/stat").exists():
        return InitFacts()
    script = f"sleep {_ORPHAN_S} >/dev/null 2>&1 & echo $!"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    if not done.stdout.strip().isdigit():
        return InitFacts()
    orphan = int(done.stdout)
    parent = _parent_and_state(orphan)[0]
    reaps = None if parent == 0 else _is_reaped(orphan)
    return InitFacts(_name(parent), reaps, _zombies_of(parent))


def _is_reaped(orphan: int) -> bool:
    ends_at = time.monotonic() + _ORPHAN_S + REAP_S
    while time.monotonic() < ends_at:
        if not _parent_and_state(orphan)[1]:
            return True
        time.sleep(0.02)
    return False


def _parent_and_state(pid: int) -> tuple[int, str]:
    """A process's parent and its state, Z where it has ended; (0, ""): it is no more."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0, ""
    return int(fields[1]), fields[0]


def _name(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return "init"


def _zombies_of(parent: int) -> int:
    pids = [int(entry.name) for entry in Path("/proc").glob("[0-9]*")]
    return sum(_parent_and_state(pid) == (parent, "Z") for pid in pids)


# ------------------------------------------------------------------------------------------------------------- systemd


def unit(engine_pid: int) -> UnitFacts | None:
    """The unit that the engine runs in, else the one that is installed by the usual name; None: there is none."""
    if shutil.which("systemctl") is None:
        return None
    cgroup = ""
    if engine_pid:
        with contextlib.suppress(OSError):
            cgroup = Path(f"/proc/{engine_pid}/cgroup").read_text()
    name, is_user = unit_of(cgroup)
    return _shown(name or DEFAULT_UNIT, is_user=is_user)


def unit_of(cgroup: str) -> tuple[str, bool]:
    """The unit in the text of ``/proc/PID/cgroup`` ("": it is in none), and whether a user's own manager has it."""
    for line in cgroup.splitlines():
        number, controllers, path = line.split(":", 2)
        services = [part for part in path.split("/") if part.endswith(".service")]
        if services and (number == "0" or controllers == "name=systemd"):
            managers = [part for part in services if part.startswith("user@")]
            is_user = bool(managers) and services[-1] not in managers
            return ("", False) if managers and not is_user else (services[-1], is_user)
    return "", False


def _shown(name: str, *, is_user: bool) -> UnitFacts | None:
    command = ["systemctl", *(["--user"] if is_user else []), "show", name, "--property", ",".join(PROPERTIES)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    properties = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    return UnitFacts(name, properties) if properties.get("LoadState") == "loaded" else None
