"""`nullworker doctor`: what each check finds in facts, and what is gathered of a directory and a machine."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nullworker.cli.doctor import checks, machine, peers
from nullworker.cli.doctor.checks import CHECKS, Level, examine
from nullworker.cli.doctor.facts import (
    EndpointFacts,
    EngineFacts,
    Facts,
    InitFacts,
    Package,
    QueueFacts,
    StateFacts,
    StateFile,
    UnitFacts,
    WorkerFacts,
)
from nullworker.engine.state_dir import StateLock
from nullworker.engine.store_file import MIGRATIONS, open_store_file

UNIT = UnitFacts(
    "nullworker.service",
    {"LoadState": "loaded", "KillMode": "process", "OOMPolicy": "continue", "PrivateTmp": "no", "DynamicUser": "no"},
)
STATE = StateFacts(
    "/s", exists=True, files=(StateFile("api_key", 0o600, 0),), file_system="ext4", store_version=4, known_version=4
)
ENGINE = EngineFacts(
    "http://e:1",
    "http://e:1",
    listens=True,
    answers=True,
    version="1.0",
    endpoints=(EndpointFacts("gpu", "2 workers are coming up", "coming_up"),),
    workers=(WorkerFacts(1, "http://w:1", is_silent=False),),
)
WELL = Facts(
    version="1.0",
    python=(3, 11),
    packages=(Package("aiohttp", "3.14.1", "3.14"),),
    state=STATE,
    engine=ENGINE,
    year=2026,
    clock_is_synchronised=True,
    open_files=(1024, 65_536),
    init=InitFacts("tini", reaps=True),
    unit=UNIT,
    queues=(QueueFacts("redis://h/0"),),
)


def on_state(**changes: Any) -> Facts:
    return replace(WELL, state=replace(STATE, **changes))


def of_engine(**changes: Any) -> Facts:
    return replace(WELL, engine=replace(ENGINE, **changes))


def with_unit(**properties: str) -> Facts:
    return replace(WELL, unit=UnitFacts(UNIT.name, {**UNIT.properties, **properties}))


def test_where_all_is_well_every_check_says_so() -> None:
    found = examine(WELL)
    assert [each for each in found if each.level is not Level.OK] == []
    silent = {"configuration", "endpoints"}  # which have nothing to say
    assert {each.check for each in found} == set(CHECKS) - silent


CASES: list[tuple[str, Level, str, Facts]] = [
    ("versions", Level.WRONG, "This is Python 3.9", replace(WELL, python=(3, 9))),
    ("versions", Level.WARNING, "newer than what nullworker is tested with", replace(WELL, python=(3, 99))),
    (
        "versions", Level.WRONG, "aiohttp 3.9.5 is installed, and nullworker needs 3.14 or later",
        replace(WELL, packages=(Package("aiohttp", "3.9.5", "3.14"),)),
    ),
    ("versions", Level.WARNING, "is of version 0.9, and this command of 1.0", of_engine(version="0.9")),
    ("configuration", Level.WRONG, "max_workers is -1", replace(WELL, config_error="max_workers is -1.")),
    ("state directory", Level.WRONG, "cannot be looked at (permission denied)", on_state(error="permission denied")),
    ("state directory", Level.WRONG, "is no directory", on_state(is_directory=False)),
    ("state directory", Level.WRONG, "belongs to user 7, and this runs as user 0", on_state(owner=7, files=())),
    ("state directory", Level.WRONG, "open to other users (mode 0750)", on_state(mode=0o750)),
    (
        "state directory", Level.WRONG, "/s/secret is open to other users (mode 0644)",
        on_state(files=(StateFile("secret", 0o644, 0),)),
    ),
    (
        "state directory", Level.WRONG, "/s/secret belongs to user 5", on_state(files=(StateFile("secret", 0o600, 5),)),
    ),
    (
        "state directory", Level.WRONG, "/s/secret is a link",
        on_state(files=(StateFile("secret", 0o777, 0, is_plain=False),)),
    ),
    ("state directory", Level.WRONG, "by a newer nullworker (version 5 of its tables", on_state(store_version=5)),
    ("state directory", Level.WRONG, "network file system (nfs4)", on_state(file_system="nfs4")),
    ("disk", Level.WRONG, "Only 0.1 GB are free", on_state(free_bytes=100 << 20)),
    ("disk", Level.WARNING, "Only 1.1 GB are free", on_state(free_bytes=1 << 30)),
    ("disk", Level.WARNING, "Only 9 more files", on_state(free_inodes=9)),
    ("clock", Level.WRONG, "says that it is 1970", replace(WELL, year=1970)),
    ("clock", Level.WARNING, "60 s ahead of that of this machine", of_engine(clock_ahead_s=60.0)),
    ("clock", Level.WARNING, "60 s behind that of this machine", of_engine(clock_ahead_s=-60.0)),
    ("clock", Level.WARNING, "Nothing keeps the clock", replace(WELL, clock_is_synchronised=False)),
    ("open files", Level.WARNING, "may have 1024 files open at most", replace(WELL, open_files=(1024, 1024))),
    ("init", Level.WRONG, "(python3) does not reap orphans", replace(WELL, init=InitFacts("python3", reaps=False))),
    ("init", Level.WRONG, "12 that have ended are still there", replace(WELL, init=InitFacts("sh", False, 12))),
    ("systemd", Level.WRONG, "kills all processes of the fleet", with_unit(KillMode="control-group")),
    ("systemd", Level.WRONG, "kills all processes of the fleet", with_unit(KillMode="mixed")),
    ("systemd", Level.WRONG, "ends the engine when a job runs out of memory", with_unit(OOMPolicy="stop")),
    ("systemd", Level.WRONG, "removes the /tmp of running jobs", with_unit(PrivateTmp="yes")),
    ("systemd", Level.WRONG, "gives the user of running jobs away", with_unit(DynamicUser="yes")),
    ("engine", Level.WRONG, "refuses the key: unknown", of_engine(key_error="unknown")),
    ("engine", Level.WRONG, "The store cannot be written", of_engine(complaints=("The store cannot be written.",))),
    (
        "engine", Level.WRONG, "No engine answers at http://e:1 (nothing listens there)",
        of_engine(listens=False, answers=False, error="nothing listens there"),
    ),
    ("engine", Level.WRONG, "Another program listens at http://e:1", of_engine(answers=False)),
    (
        "engine", Level.WRONG, "An engine (process 42) uses /s, and none answers at http://e:1",
        replace(of_engine(listens=False, answers=False), state=replace(STATE, engine_pid=42)),
    ),
    (
        "endpoints", Level.WRONG, "Workers of gpu fail to start: no GPU",
        of_engine(endpoints=(EndpointFacts("gpu", "", "", "no GPU"),)),
    ),
    (
        "endpoints", Level.WARNING, "Requests wait at gpu because max_workers is 4",
        of_engine(endpoints=(EndpointFacts("gpu", "max_workers is 4", "at_cap"),)),
    ),
    ("workers", Level.WRONG, "Worker 3 sends no reports", of_engine(workers=(WorkerFacts(3, "", is_silent=True),))),
    (
        "workers", Level.WARNING, "Worker 3 cannot be reached at http://w:1 from here (connection refused)",
        of_engine(workers=(WorkerFacts(3, "http://w:1", is_silent=False, error="connection refused"),)),
    ),
    ("queues", Level.WRONG, "redis://h/0 cannot be read: no", replace(WELL, queues=(QueueFacts("redis://h/0", "no"),))),
    (
        "queues", Level.WARNING, "redis://h/0: keys are evicted",
        replace(WELL, queues=(QueueFacts("redis://h/0", warnings=("keys are evicted",)),)),
    ),
    ("queues", Level.WRONG, "has told nothing", of_engine(queues=("The dispatcher has told nothing.",))),
]  # fmt: skip


@pytest.mark.parametrize(("check", "level", "part", "facts"), CASES, ids=[case[2] for case in CASES])
def test_what_is_wrong_is_found_and_it_is_said_what_to_do(check: str, level: Level, part: str, facts: Facts) -> None:
    (found,) = [each for each in examine(facts) if each.level is not Level.OK]
    assert (found.check, found.level) == (check, level)
    assert part in found.what
    assert found.what.endswith(".")
    assert found.advice


def test_every_check_has_a_case() -> None:
    assert {case[0] for case in CASES} == set(CHECKS)


def test_what_is_not_known_is_no_fault() -> None:
    facts = replace(WELL, clock_is_synchronised=None, init=InitFacts(), unit=None, packages=())
    assert [each for each in examine(facts) if each.level is not Level.OK] == []
    assert not [each for each in examine(facts) if each.check in ("init", "systemd")]


def test_one_of_vasts_engines_is_not_asked() -> None:
    facts = replace(WELL, engine=EngineFacts("", "Vast (prod)", is_ours=False, is_here=False))
    assert [each for each in examine(facts) if each.level is not Level.OK] == []


def test_a_state_directory_that_is_not_there_yet_is_no_fault() -> None:
    (found,) = [each for each in examine(on_state(exists=False)) if each.check == "state directory"]
    assert found.level is Level.OK
    assert "the first start of an engine makes it" in found.what


# ------------------------------------------------------------------------------------------------------------ gathering


def test_a_state_directory_is_looked_at_and_left_as_it_is(tmp_path: Path) -> None:
    directory = tmp_path / "state"
    assert machine.state(directory).exists is False
    directory.mkdir(mode=0o700)
    open_store_file(directory / "engine.db")
    (directory / "secret").write_text("s")
    (directory / "secret").chmod(0o640)
    (directory / "api_key").symlink_to("secret")
    before = sorted(path.name for path in directory.iterdir())
    found = machine.state(directory)
    assert (found.mode, found.owner, found.us) == (0o700, os.geteuid(), os.geteuid())
    assert (found.store_version, found.known_version) == (len(MIGRATIONS), len(MIGRATIONS))
    assert {file.name: (file.mode, file.is_plain) for file in found.files if file.name != "api_key"} == {
        "secret": (0o640, True),
        "engine.db": (0o600, True),
    }
    assert [file.is_plain for file in found.files if file.name == "api_key"] == [False]
    assert found.free_bytes > 0
    places = [line.split(" ")[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    is_shown = any(tmp_path.is_relative_to(place) for place in places)  # a chroot need not be a mount of its own
    assert bool(found.file_system) == is_shown
    assert sorted(path.name for path in directory.iterdir()) == before


def test_the_engine_that_has_the_directory_is_found_without_taking_its_lock(tmp_path: Path) -> None:
    assert machine.state(tmp_path).engine_pid == 0
    lock = StateLock(tmp_path)
    assert machine.state(tmp_path).engine_pid == os.getpid()
    lock.release()
    assert machine.state(tmp_path).engine_pid == 0


def test_a_file_in_place_of_the_directory_is_said_to_be_one(tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    assert machine.state(tmp_path / "state").is_directory is False


@pytest.mark.parametrize(
    ("cgroup", "found"),
    [
        ("0::/system.slice/nullworker.service\n", ("nullworker.service", False)),
        ("12:pids:/x\n1:name=systemd:/system.slice/nw.service\n0::/\n", ("nw.service", False)),
        (
            "0::/user.slice/user-1000.slice/user@1000.service/app.slice/nullworker.service\n",
            ("nullworker.service", True),
        ),
        ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/app-term.scope\n", ("", False)),
        ("0::/user.slice/user-1000.slice/session-3.scope\n", ("", False)),
        ("0::/\n", ("", False)),
        ("", ("", False)),
    ],
)
def test_the_unit_of_a_process_is_read_from_its_control_group(cgroup: str, found: tuple[str, bool]) -> None:
    assert machine.unit_of(cgroup) == found


def test_a_unit_is_asked_for_and_one_that_is_not_installed_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    systemctl = tmp_path / "systemctl"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.unit(0) is None
    systemctl.write_text('#!/bin/sh\necho "LoadState=loaded"\necho "KillMode=control-group"\n')
    systemctl.chmod(0o755)
    assert machine.unit(0) == UnitFacts("nullworker.service", {"LoadState": "loaded", "KillMode": "control-group"})
    systemctl.write_text('#!/bin/sh\necho "LoadState=not-found"\n')
    assert machine.unit(0) is None


def test_what_is_installed_is_at_least_what_is_declared() -> None:
    found = {package.name: package for package in machine.packages()}
    assert found["aiohttp"].lowest
    assert [each for each in checks.versions(replace(WELL, packages=tuple(found.values()))) if each.advice] == []


def test_a_queue_whose_dispatcher_is_silent_or_in_trouble_is_said() -> None:
    row = {"dispatcher": "h process 1", "queue": "redis://h/0", "heard_s_ago": 3.0, "trouble": ""}
    assert peers.trouble_of(row) == ""
    assert peers.trouble_of({**row, "heard_s_ago": 500.0}).endswith("has told nothing for 500 s.")
    assert peers.trouble_of({**row, "trouble": "No route."}) == "The dispatcher of queue redis://h/0 says: No route."
