"""The checks: each looks at some facts, and says what is wrong and what to do. They read and change nothing else."""

from __future__ import annotations

import enum
import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nullworker.cli.doctor.facts import Facts, StateFile

PYTHON_LOWEST, PYTHON_TESTED = (3, 10), (3, 13)
FREE_BYTES_LOW, FREE_BYTES_WRONG = 2 << 30, 200 << 20
FREE_INODES_LOW = 10_000
#: Each worker and each waiting client keeps a connection; below this, few of them can.
OPEN_FILES_LOW = 4_096
CLOCK_AHEAD_LOW_S = 5.0
#: Before this year, the clock was never set: certificates would not be valid yet.
YEAR_LOWEST = 2025
#: On these SQLite's log is not safe, or locks are not.
NETWORK_FILE_SYSTEMS = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "afs", "ceph", "glusterfs")
#: In these the first that waits is served as soon as may be.
_SERVED_SOON = ("coming_up", "in_time", "scaling_up", "client_silent", "")


class Level(enum.Enum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    WRONG = "wrong"


class Finding(NamedTuple):
    """What a check found: a sentence, and what to do ("": nothing)."""

    check: str
    level: Level
    what: str
    advice: str = ""


def ok(what: str) -> Finding:
    """All is well with something."""
    return Finding("", Level.OK, what)


def warning(what: str, advice: str) -> Finding:
    """Something may be wrong."""
    return Finding("", Level.WARNING, what, advice)


def wrong(what: str, advice: str) -> Finding:
    """Something is wrong."""
    return Finding("", Level.WRONG, what, advice)


def examine(facts: Facts) -> list[Finding]:
    """What all checks find, in their order; each ends with a full stop, as what others say in it may not."""
    return [
        found._replace(check=name, what=found.what.rstrip(".") + ".")
        for name, check in CHECKS.items()
        for found in check(facts)
    ]


# ------------------------------------------------------------------------------------------------------- installation


def versions(facts: Facts) -> Iterator[Finding]:
    """Python, and what is installed, against what is declared; the engine, against this command."""
    python = f"Python {facts.python[0]}.{facts.python[1]}"
    if facts.python < PYTHON_LOWEST:
        yield wrong(f"This is {python}.", f"Install nullworker with Python {_dotted(PYTHON_LOWEST)} or later.")
    elif facts.python > PYTHON_TESTED:
        yield warning(f"{python} is newer than what nullworker is tested with.", f"Use {_dotted(PYTHON_TESTED)}.")
    else:
        yield ok(f"nullworker {facts.version} on {python}.")
    for package in facts.packages:
        if _numbers(package.installed) < _numbers(package.lowest):
            yield wrong(
                f"{package.name} {package.installed} is installed, and nullworker needs {package.lowest} or later.",
                f"pip install --upgrade '{package.name}>={package.lowest}'",
            )
    engine = facts.engine
    if engine.version and engine.version != facts.version:
        yield warning(
            f"The engine at {engine.url} is of version {engine.version}, and this command of {facts.version}.",
            "Use the command that came with the engine, or restart the engine if it was upgraded meanwhile.",
        )


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:3])


def configuration(facts: Facts) -> Iterator[Finding]:
    """The file that was named."""
    if facts.config_error:
        yield wrong(facts.config_error, "Correct it; docs/configuration.md has all keys.")


# ------------------------------------------------------------------------------------------------------ state directory


def state_directory(facts: Facts) -> Iterator[Finding]:
    """The directory, the modes of its files, and the version of its tables."""
    state = facts.state
    if state.error:
        yield wrong(f"The state directory {state.path} cannot be looked at ({state.error}).", "Run this as its owner.")
        return
    if not state.exists:
        if facts.engine.is_here:
            yield ok(f"There is no state directory {state.path} yet; the first start of an engine makes it.")
        return
    if not state.is_directory:
        yield wrong(f"The state directory {state.path} is no directory.", "Name another with --state.")
        return
    found = [*_modes(facts), *_store(facts)]
    yield from found or [ok(f"The state directory {state.path} is closed to others, and so are its keys.")]


def _modes(facts: Facts) -> Iterator[Finding]:
    state = facts.state
    if state.owner != state.us:
        yield wrong(
            f"The state directory {state.path} belongs to user {state.owner}, and this runs as user {state.us}.",
            "Run engine and commands as the user that it belongs to.",
        )
    if state.mode & 0o077:
        yield wrong(
            f"The state directory {state.path} is open to other users (mode {state.mode:04o}).",
            f"chmod 700 {state.path}, and make new keys if others may have read them.",
        )
    for file in state.files:
        if reason := _why_open(file, state.owner):
            path = f"{state.path}/{file.name}"
            yield wrong(f"The file {path} {reason}.", f"Make it a plain file of its owner: chmod 600 {path}.")


def _why_open(file: StateFile, owner: int) -> str:
    if not file.is_plain:
        return "is a link or no plain file"
    if file.owner != owner:
        return f"belongs to user {file.owner}"
    return f"is open to other users (mode {file.mode:04o})" if file.mode & 0o077 else ""


def _store(facts: Facts) -> Iterator[Finding]:
    state = facts.state
    if state.store_version is not None and state.store_version > state.known_version:
        yield wrong(
            f"The store in {state.path} was written by a newer nullworker (version {state.store_version} of its "
            f"tables; this one knows {state.known_version}).",
            "Upgrade nullworker, or bring back the copy of before its upgrade (docs/running.md).",
        )
    if state.file_system in NETWORK_FILE_SYSTEMS:
        yield wrong(
            f"The state directory {state.path} is on a network file system ({state.file_system}), where the store "
            "may be damaged.",
            "Put it on a disk of this machine with --state.",
        )


def disk(facts: Facts) -> Iterator[Finding]:
    """Room for the store, the logs and the history."""
    state = facts.state
    free = f"{state.free_bytes / 1e9:.1f} GB"
    advice = "Make room, or move the state directory to a larger disk with --state."
    if state.free_bytes < FREE_BYTES_WRONG:
        yield wrong(f"Only {free} are free for {state.path}: the store can soon not be written.", advice)
    elif state.free_bytes < FREE_BYTES_LOW:
        yield warning(f"Only {free} are free for {state.path}.", advice)
    elif state.free_inodes < FREE_INODES_LOW:
        yield warning(f"Only {state.free_inodes} more files can be made on the disk of {state.path}.", advice)
    else:
        yield ok(f"{free} are free for {state.path}.")


# --------------------------------------------------------------------------------------------------------- the machine


def clock(facts: Facts) -> Iterator[Finding]:
    """This machine's clock, and the engine's."""
    if facts.year < YEAR_LOWEST:
        yield wrong(f"The clock of this machine says that it is {facts.year}.", "Set it, and have NTP keep it.")
        return
    ahead_s = facts.engine.clock_ahead_s
    if abs(ahead_s) > CLOCK_AHEAD_LOW_S:
        which = "ahead of" if ahead_s > 0 else "behind"
        yield warning(
            f"The clock of {facts.engine.url} is {abs(ahead_s):.0f} s {which} that of this machine.",
            "Grants are good all the same; times that are shown are not. Have NTP keep both clocks.",
        )
    if facts.clock_is_synchronised is False:
        yield warning("Nothing keeps the clock of this machine in time.", "Enable NTP: timedatectl set-ntp true.")
    elif abs(ahead_s) <= CLOCK_AHEAD_LOW_S:
        yield ok("The clock is set.")


def open_files(facts: Facts) -> Iterator[Finding]:
    """The limit on open files, each connection being one."""
    _, most = facts.open_files
    if 0 <= most < OPEN_FILES_LOW:
        yield warning(
            f"A process may have {most} files open at most, and each worker and waiting client takes one.",
            "Raise the limit: LimitNOFILE=65536 in a unit, --ulimit nofile=65536 for a container.",
        )
    else:
        yield ok(f"A process may have {'any number of' if most < 0 else most} files open.")


def init(facts: Facts) -> Iterator[Finding]:
    """Whether the first process reaps: what consumers leave behind becomes its children."""
    first = facts.init
    if first.reaps is False:
        left = f"; {first.zombies} that have ended are still there" if first.zombies else ""
        yield wrong(
            f"The first process ({first.name}) does not reap orphans: processes that have ended stay in the process "
            f"table until it is full{left}.",
            "Start the container with an init: docker run --init, or tini as its entry point (deploy/Dockerfile).",
        )
    elif first.reaps:
        yield ok(f"The first process ({first.name}) reaps orphans.")


def unit(facts: Facts) -> Iterator[Finding]:
    """The systemd unit: whether a restart of it kills jobs."""
    if facts.unit is None:
        return
    name, properties = facts.unit.name, facts.unit.properties
    found = [
        wrong(f"The unit {name} {why}.", f"Set {setting} in it (systemctl edit {name}); deploy/systemd has a unit.")
        for key, good, setting, why in _SETTINGS
        if properties.get(key) is not None and properties[key] not in good
    ]
    yield from found or [ok(f"A restart of the unit {name} kills no job.")]


#: property, its good values, what to set, and what is wrong with another value.
_SETTINGS = (
    (
        "KillMode", ("process", "none"), "KillMode=process",
        "kills all processes of the fleet, and their jobs, when the engine is restarted",
    ),
    (
        "OOMPolicy", ("continue",), "OOMPolicy=continue",
        "ends the engine when a job runs out of memory",
    ),
    (
        "PrivateTmp", ("no",), "PrivateTmp=no",
        "removes the /tmp of running jobs when the engine is restarted",
    ),
    (
        "DynamicUser", ("no",), "User= to a user of its own",
        "gives the user of running jobs away when the engine is restarted",
    ),
)  # fmt: skip


# ------------------------------------------------------------------------------------------- engine, workers and queues


def engine(facts: Facts) -> Iterator[Finding]:
    """Whether the engine answers, and takes the key."""
    found, state = facts.engine, facts.state
    if not found.is_ours:
        yield ok(f"The engine is {found.label}; doctor asks engines of nullworker alone.")
        return
    if found.answers and found.key_error:
        yield wrong(f"The engine at {found.url} refuses the key: {found.key_error}", "Give its key with --api-key.")
        return
    if found.answers:
        yield from (
            wrong(complaint, "nullworker status shows it; the engine's log says more.")
            for complaint in found.complaints
        )
        if not found.complaints:
            yield ok(f"The engine at {found.url} answers.")
        return
    if found.key_error:
        yield wrong(found.key_error, "Start an engine first, or name another with --instance.")
    elif found.listens:
        yield wrong(
            f"Another program listens at {found.url}, and it is no engine of nullworker.",
            "Stop it, or give the engine another port with --port.",
        )
    elif state.engine_pid:
        yield wrong(
            f"An engine (process {state.engine_pid}) uses {state.path}, and none answers at {found.url}.",
            "Name its address with --instance, or look into its log.",
        )
    else:
        yield wrong(f"No engine answers at {found.url} ({found.error}).", "Start one: nullworker engine.")


def endpoints(facts: Facts) -> Iterator[Finding]:
    """Endpoints whose workers fail, and whose waiters are not served."""
    for each in facts.engine.endpoints:
        explain = f"nullworker explain {each.name} tells the whole story."
        if each.failures:
            yield wrong(f"Workers of {each.name} fail to start: {each.failures}", explain)
        elif each.why_code not in _SERVED_SOON:
            yield warning(f"Requests wait at {each.name} because {each.why}.", explain)


def workers(facts: Facts) -> Iterator[Finding]:
    """Whether workers report, and can be reached from here."""
    found = facts.engine.workers
    for each in found:
        explain = f"nullworker explain worker {each.worker_id} says what it last told."
        if each.is_silent:
            yield wrong(f"Worker {each.worker_id} sends no reports.", explain)
        elif each.error:
            yield warning(
                f"Worker {each.worker_id} cannot be reached at {each.url} from here ({each.error}).",
                "Clients call it there: open its port, or give it another address.",
            )
    if found and all(not each.is_silent and not each.error for each in found):
        yield ok(f"{len(found)} {'worker reports and is' if len(found) == 1 else 'workers report and are'} reached.")


def queues(facts: Facts) -> Iterator[Finding]:
    """The queues that were named, read from here; and what dispatchers told of theirs."""
    for trouble in facts.engine.queues:
        yield wrong(trouble, "nullworker queues shows all; nullworker dispatch --check tries one.")
    for each in facts.queues:
        if each.error:
            yield wrong(f"The queue {each.url} cannot be read: {each.error}", "docs/queues.md has its URL's form.")
            continue
        yield ok(f"The queue {each.url} is read.")
        yield from (warning(f"{each.url}: {text}", "docs/queues.md says what it means.") for text in each.warnings)


CHECKS: dict[str, Callable[[Facts], Iterator[Finding]]] = {
    "versions": versions,
    "configuration": configuration,
    "state directory": state_directory,
    "disk": disk,
    "clock": clock,
    "open files": open_files,
    "init": init,
    "systemd": unit,
    "engine": engine,
    "endpoints": endpoints,
    "workers": workers,
    "queues": queues,
}
