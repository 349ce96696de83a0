"""Settings of the SSH fleet that cannot work are refused in one sentence that says what to do."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest

from nullworker.fleets.base import FleetError
from nullworker.fleets.ssh.connection import ssh_command
from nullworker.fleets.ssh.settings import HostSettings, read_settings

if TYPE_CHECKING:
    from pathlib import Path

needs_ssh = pytest.mark.skipif(shutil.which("ssh") is None, reason="there is no ssh (make brokers)")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({}, r"The SSH fleet has no host: name some, as in hosts = \[\"box-1\""),
        ({"hosts": ["a", {"host": "a"}]}, "The host a is named twice"),
        ({"hosts": ["-oProxyCommand=x"]}, "cannot be a host of the SSH fleet"),
        ({"hosts": ["a b"]}, "cannot be a host of the SSH fleet"),
        ({"hosts": [""]}, "cannot be a host of the SSH fleet"),
        ({"hosts": [{"host": "a", "slots": 0}]}, r"wrong \(Expected `int` >= 1 .*slots`\): correct \[fleet.ssh\]"),
        ({"hosts": [{"host": "a", "prot": 22}]}, "unknown field `prot`"),
        ({"hosts": ["a"], "silence_s": 1}, "Expected `int` >= 3"),
        ({"hosts": ["a"], "pyton": "x"}, "unknown field `pyton`"),
    ],
)
@needs_ssh
def test_what_is_wrong_is_refused(tmp_path: Path, table: dict[str, Any], message: str) -> None:
    with pytest.raises(FleetError, match=message):
        read_settings({"state_dir": str(tmp_path), **table})


@needs_ssh
@pytest.mark.parametrize("key", ["code", "identity", "ssh_config"])
def test_a_file_that_is_not_there_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(FleetError, match=f"There is no {tmp_path}/absent, which {key} of \\[fleet.ssh\\] names"):
        read_settings({"state_dir": tmp_path, "hosts": ["a"], key: tmp_path / "absent"})


def test_a_machine_without_ssh_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FleetError, match="needs the program ssh on this machine"):
        read_settings({"state_dir": tmp_path, "hosts": ["a"]})


@needs_ssh
def test_ssh_never_asks_and_takes_no_changed_key(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.touch()
    settings = read_settings({"state_dir": tmp_path, "hosts": ["a"], "identity": key, "silence_s": 30})
    command = ssh_command(settings, HostSettings(host="me@box", port=2222))
    assert command[:2] == ["ssh", "-T"]
    for option in ("BatchMode=yes", "StrictHostKeyChecking=yes", "ServerAliveInterval=10", "ServerAliveCountMax=3"):
        assert command[command.index(option) - 1] == "-o"
    assert command[-7:-1] == ["-i", str(key), "-p", "2222", "--", "me@box"]
    assert command[-1].startswith("exec python3 -c '")
    assert command[-1].count("'") == 2, "one quoted word, in whatever shell"
