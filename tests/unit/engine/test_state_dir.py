from __future__ import annotations

import os
import pathlib
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from nullworker.engine.state_dir import (
    StateError,
    StateLock,
    open_state_dir,
    read_key_file,
    read_or_create,
    url_kept,
    write_new_key_file,
)

if TYPE_CHECKING:
    from pathlib import Path

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_missing_directory_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    made = open_state_dir(tmp_path / "deep" / "state")
    assert made.is_dir()
    assert mode(made) == 0o700


def test_the_home_directory_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_state_dir(pathlib.Path("~/state")) == tmp_path / "state"


def test_an_empty_open_directory_is_closed(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o755)
    assert mode(open_state_dir(tmp_path / "state")) == 0o700


def test_an_open_directory_with_something_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "api_key").write_text("k")
    tmp_path.chmod(0o755)
    with pytest.raises(StateError, match=r"open to other users \(mode 0755\); run chmod 700"):
        open_state_dir(tmp_path)


def test_a_file_in_the_directorys_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(StateError, match="is a file"):
        open_state_dir(tmp_path / "state")
    with pytest.raises(StateError, match="not a directory"):
        open_state_dir(tmp_path / "state" / "below")


@AS_ROOT
def test_somebody_elses_directory_and_key_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o700)
    os.chown(tmp_path / "state", 12345, 12345)
    with pytest.raises(StateError, match="belongs to user 12345"):
        open_state_dir(tmp_path / "state")
    write_new_key_file(tmp_path / "key", b"k")
    os.chown(tmp_path / "key", 12345, 12345)
    with pytest.raises(StateError, match="belongs to user 12345"):
        read_key_file(tmp_path / "key")


def test_a_key_file_is_written_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "key"
    assert read_or_create(path, lambda: b"first") == (b"first", True)
    assert mode(path) == 0o600
    assert read_or_create(path, lambda: b"second") == (b"first", False)
    assert not write_new_key_file(path, b"third")
    assert read_key_file(path) == b"first"
    assert [found.name for found in tmp_path.iterdir()] == ["key"]


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o660])
def test_a_key_file_that_others_may_open_is_refused(tmp_path: Path, bits: int) -> None:
    path = tmp_path / "key"
    write_new_key_file(path, b"k")
    path.chmod(bits)
    with pytest.raises(StateError, match=rf"open to other users \(mode {bits:04o}\)"):
        read_key_file(path)


def test_a_link_a_fifo_and_an_empty_file_are_refused(tmp_path: Path) -> None:
    write_new_key_file(tmp_path / "real", b"k")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(StateError, match="symbolic link"):
        read_or_create(tmp_path / "link", lambda: b"k")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(StateError, match="symbolic link"):
        read_or_create(tmp_path / "dangling", lambda: b"k")
    os.mkfifo(tmp_path / "fifo", 0o600)
    with pytest.raises(StateError, match="not a regular file"):
        read_key_file(tmp_path / "fifo")
    write_new_key_file(tmp_path / "empty", b" \n")
    with pytest.raises(StateError, match="is empty"):
        read_key_file(tmp_path / "empty")


def test_two_processes_that_create_a_file_at_once_read_the_same(tmp_path: Path) -> None:
    """Real processes race; all read the winner's content."""
    script = (
        "import os, pathlib, sys; from nullworker.engine.state_dir import read_or_create;"
        "print(read_or_create(pathlib.Path(sys.argv[1]), lambda: str(os.getpid()).encode())[0].decode())"
    )
    racers = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "key")], stdout=subprocess.PIPE)
        for _ in range(4)
    ]
    answers = {racer.communicate(timeout=60)[0] for racer in racers}
    assert len(answers) == 1
    assert answers.pop().decode().strip() in {str(racer.pid) for racer in racers}


def test_a_second_engine_is_kept_out_until_the_first_is_gone(tmp_path: Path) -> None:
    lock = StateLock(tmp_path)
    with pytest.raises(StateError, match=rf"Another engine \(process {os.getpid()}\) uses the state directory"):
        StateLock(tmp_path)
    lock.release()
    lock.release()
    StateLock(tmp_path).release()
    assert mode(tmp_path / "lock") == 0o600


def test_a_killed_engine_holds_no_lock(tmp_path: Path) -> None:
    script = (
        "import pathlib, sys; from nullworker.engine.state_dir import StateLock;"
        "lock = StateLock(pathlib.Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, stdin=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        with pytest.raises(StateError, match=f"process {child.pid}"):
            StateLock(tmp_path)
        child.kill()
        child.wait(timeout=60)
    StateLock(tmp_path).release()


def test_the_url_of_an_engine_is_kept_while_it_runs(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("http://127.0.0.1:65535 of an engine that was killed\n")
    (tmp_path / "url").chmod(0o600)
    with url_kept(tmp_path, "http://127.0.0.1:1"):
        assert (tmp_path / "url").read_text() == "http://127.0.0.1:1\n"
        assert mode(tmp_path / "url") == 0o600
    assert not (tmp_path / "url").exists()


def test_an_engine_whose_url_cannot_be_kept_runs_all_the_same(tmp_path: Path) -> None:
    """Nor is a link followed, to what is another's."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("as it was")
    (tmp_path / "url").symlink_to(elsewhere)
    with url_kept(tmp_path, "http://127.0.0.1:1"):
        pass
    assert elsewhere.read_text() == "as it was"
