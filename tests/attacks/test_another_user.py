"""Attacks by a consumer that runs as another user: on the engine's files, the worker's token, and its own end."""

from __future__ import annotations

import os
import pwd
import uuid
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import psutil
import pytest
from click.testing import CliRunner

from nullworker.cli.consume import command as consume
from nullworker.fleets.base import FleetError
from nullworker.fleets.processes.settings import read_settings
from nullworker.wire.worker_side import run_as
from nullworker.worker.supervisor import Order, Supervisor
from tests.integration import null_worker_kit as kit
from tests.kit.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(bool(run_as.missing_capabilities()), reason="this takes root")
NOBODY = run_as.RunAs("nobody", 65_534, 65_534, (65_534,), "/nonexistent")

#: Each attack that succeeds leaves its name; what else is said goes to a file that the user may write.
SCRIPT = """
try() { name=$1; shift; "$@" > /dev/null 2>&1 && echo "$name"; }
exec >> "$FOLDER/said"
id -u; id -G; echo "$HOME"
try key cat "$STATE/api_key"
try token cat /proc/$WORKER/environ
try supervisor cat /proc/$PPID/environ
try kill kill -0 $PPID
try kill kill -0 $WORKER
try memory cat /proc/$WORKER/maps
echo written > /dev/stderr
setsid sleep 600 &
echo $! > "$FOLDER/left"
test -n "$STAYS" && sleep 600
exit 3
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where that user may write."""
    with TemporaryDirectory() as name:
        os.chown(name, NOBODY.uid, NOBODY.gid)
        yield Path(name)


def order(folder: Path, tmp_path: Path, **more: str) -> Order:
    (tmp_path / "api_key").write_text("x")
    (tmp_path / "api_key").chmod(0o600)
    env = {"PATH": "/usr/bin:/bin", "FOLDER": str(folder), "STATE": str(tmp_path), "WORKER": str(os.getpid())}
    session_id = uuid.uuid4().hex
    env |= {"NULL_SESSION_ID": session_id, **NOBODY.variables, **more}
    return Order(["/bin/sh", "-c", SCRIPT], session_id, env, "/", grace_s=5.0, run_as=NOBODY)


@pytest.mark.parametrize("ends_by_itself", [True, False])
async def test_it_reaches_nothing_of_the_engine_and_is_ended_whole(
    folder: Path, tmp_path: Path, ends_by_itself: bool
) -> None:
    supervisor = await Supervisor.spawn()
    supervisor.start(order(folder, tmp_path, STAYS="" if ends_by_itself else "yes"))
    await until((folder / "left").exists)
    await until(lambda: (folder / "left").read_text().strip())
    code = await supervisor.ended if ends_by_itself else await supervisor.end()
    assert code == (3 if ends_by_itself else 143)
    assert (folder / "said").read_text().split() == ["65534", "65534", "/nonexistent"]
    assert supervisor.last_line() == "written"
    assert supervisor.left == ()
    assert not psutil.pid_exists(int((folder / "left").read_text()))


def test_who_cannot_be_run_as_is_refused_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert run_as.find("nobody") == NOBODY
    settings = {"state_dir": str(tmp_path)}
    assert read_settings({**settings, "run_as": "nobody"}).run_as == "nobody"
    for name, why in (("root", "is root"), ("no such user", "there is no user"), ("x\0", "there is no user")):
        with pytest.raises(run_as.RunAsError, match=why):
            run_as.find(name)
        with pytest.raises(FleetError, match=f"run_as of .* is set, and .*{why}"):
            read_settings({**settings, "run_as": name})
    monkeypatch.setattr(run_as, "_STATUS", tmp_path / "status")
    (tmp_path / "status").write_text("CapEff:\t00000000000000e0\n")  # root in a container, for the most part
    with pytest.raises(run_as.RunAsError, match="root with CAP_SYS_PTRACE, which"):
        run_as.find(pwd.getpwuid(65_534).pw_name)


def test_the_command_line_refuses_it_as_well() -> None:
    said = CliRunner().invoke(consume, ["--run-as", "root", "--", "true"])
    assert said.exit_code == 2
    assert "is root" in said.output


async def test_a_workers_consumer_is_of_that_user_and_has_the_token_of_the_control_port_alone(
    folder: Path, tmp_path: Path
) -> None:
    seen = f"{{ id -u; env; }} > {folder}/seen.tmp && mv {folder}/seen.tmp {folder}/seen; sleep 600"
    more = {"NULL_RUN_AS": "nobody", "NULL_CONTROL_TOKEN": "true", "NULL_CONSUMER": f"sh -c '{seen}'"}
    async with kit.StubEngine().running() as engine:
        env = kit.worker_env(engine.url, NULL_CONSUMER_DIR="/", **more)
        async with kit.worker(env, tmp_path) as worker:
            await engine.ready()
            await kit.create(worker, engine.auth_data(worker.url))
            await until((folder / "seen").exists)
    uid, *lines = (folder / "seen").read_text().splitlines()
    variables = dict(line.partition("=")[::2] for line in lines)
    assert uid == "65534"
    assert variables["HOME"] == "/nonexistent"
    assert len(variables["NULL_CONTROL_URL"].rpartition("/")[2]) == 64
    assert not {"MASTER_TOKEN", "NULL_RUN_AS"} & set(variables)
    assert kit.TOKEN not in str(variables)
