"""What instances there are and in which state, as disk and kernel know it. Everything here is called in a thread."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nullworker.fleets.base import Instance, InstanceState
from nullworker.fleets.processes import logs, proc

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nullworker.fleets.processes.proc import Process
    from nullworker.fleets.processes.records import Directory, Record

_UNWATCHED_END = "ended (its exit code is not known: no engine watched, or an earlier one had started it)"
_UNREADABLE = "its record is unreadable"


@dataclass(slots=True, eq=False)
class ProcessInstance:
    """An instance as the fleet holds it in memory."""

    worker_id: int
    record: Record | None  # None: unreadable
    leader: Process | None  # the first process of its present or last run, as long as anything of it may be left
    pidfd: int | None = None  # readable when the leader has ended
    told: bool = False  # told to end by an engine before this one: that it does is no news
    launching: bool = False

    @property
    def name(self) -> str:
        """How a message calls it."""
        return f"Worker {self.worker_id}"


def find_instances(directory: Directory) -> list[ProcessInstance]:
    """All instances under a mark, running or not. Raises OSError."""
    marked = proc.marked_processes(str(directory.root))
    found = []
    for worker_id in directory.ids():
        record = directory.load(worker_id)
        leader = record.leader if record else None
        running = marked.pop(str(directory.path(worker_id)), [])
        if record is not None and record.pid is None and not record.exit_detail:
            # An engine may have died after it started a process and before it had noted its number.
            leaders = [each.process for each in running if each.process.pid == each.session_id]
            leader = min(leaders, key=lambda process: process.start_ticks, default=None)
            record.set_leader(leader)
            record.stopped = record.stopped and leader is None
        # One that an engine told to stop, and died over it, is still told.
        told = record is not None and record.stopped
        found.append(ProcessInstance(worker_id, record, leader, told=told))
    for name in marked:  # the directory was removed by hand, the processes were not
        worker = Path(name).name
        if worker.isascii() and worker.isdigit():
            found.append(ProcessInstance(int(worker), None, None))
    return found


def exists(directory: Directory, instance: ProcessInstance) -> bool:
    """Whether anything of an instance is there. One whose record is unreadable is, until it is destroyed."""
    if instance.launching or instance.record is None:
        return True
    return directory.path(instance.worker_id).is_dir() or proc.is_alive(instance.leader)


def list_existing(directory: Directory, instances: Iterable[ProcessInstance], host: str) -> list[Instance]:
    """Those of the instances that exist, with their present states, in the order of their ids.

    Args:
        directory: of the fleet's mark.
        instances: all that are known.
        host: the address of the fleet.
    """
    seen = [_listed(directory, instance, host) for instance in instances if exists(directory, instance)]
    return sorted(seen, key=lambda instance: instance.worker_id)


def _listed(directory: Directory, instance: ProcessInstance, host: str) -> Instance:
    record = instance.record
    state, detail = _state(directory, instance)
    if record is None:
        return Instance(instance.worker_id, state, detail)
    address = f"{host}:{record.ports.worker}"
    return Instance(instance.worker_id, state, detail, address, record.endpoint, record.workergroup_id)


def _state(directory: Directory, instance: ProcessInstance) -> tuple[InstanceState, str]:
    if instance.launching or proc.is_alive(instance.leader):
        return InstanceState.RUNNING, ""
    record = instance.record
    if record is None:
        return InstanceState.EXITED, _UNREADABLE
    if record.stopped:
        return InstanceState.STOPPED, ""
    return InstanceState.EXITED, record.exit_detail or describe_end(directory, instance)


def describe_end(directory: Directory, instance: ProcessInstance) -> str:
    """How an instance ended, as far as can be known, and the last line of its log."""
    status = (proc.exit_status(instance.leader, reap=False) if instance.leader else None) or _UNWATCHED_END
    record = instance.record
    if record is None:
        return f"{status}; {_UNREADABLE}"
    last = logs.last_line(directory.log_path(instance.worker_id), record.log_offset, record.worker_token)
    return f"{status}; its log ends: {last}" if last else f"{status}; it logged nothing"


def has_orphans(directory: Directory, instance: ProcessInstance) -> bool:
    """Whether anything that an instance started in its session may outlive it."""
    belongings = proc.Belongings(str(directory.path(instance.worker_id)), instance.leader)
    try:
        return bool(proc.find([belongings], thorough=False)[belongings.directory])
    except OSError:
        return True


def in_words(error: OSError) -> str:
    """What went wrong and what to do, as the end of a sentence without its full stop."""
    where = f" ({os.fsdecode(error.filename)})" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full{where}: free some space"
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return "too many files are open: raise the limit (ulimit -n)"
    if error.errno in (errno.EAGAIN, errno.ENOMEM):
        return "the machine has no room for another process: raise the limit (ulimit -u), or have fewer workers"
    if error.errno == errno.ENOSYS:
        return "it needs Linux 5.3 or later"
    return f"{error.strerror or error}{where}"
