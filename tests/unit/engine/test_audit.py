"""Every act is in the audit log, without keys, and the log does not grow without bound."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nullworker.engine import audit
from nullworker.engine.audit import AuditEntry, AuditLog, detail_of

if TYPE_CHECKING:
    from pathlib import Path


def entry(what: str) -> AuditEntry:
    return AuditEntry(1.0, "account key", "page", "127.0.0.1", what, "/x/", {"max_workers": 3}, "because", "done")


def test_what_was_written_is_read_again_oldest_first(tmp_path: Path) -> None:
    log = AuditLog(tmp_path)
    assert log.tail(5) == []
    for what in ("one", "two", "three"):
        log.add(entry(what))
    assert [found.what for found in log.tail(2)] == ["two", "three"]
    assert AuditLog(tmp_path).tail(9)[0] == entry("one")
    assert (tmp_path / "audit.log").stat().st_mode & 0o777 == 0o600


def test_a_line_that_a_kill_has_torn_is_passed_over(tmp_path: Path) -> None:
    log = AuditLog(tmp_path)
    log.add(entry("one"))
    with (tmp_path / "audit.log").open("ab") as file:
        file.write(b'{"at_s": 1.0, "wh')
    assert [found.what for found in log.tail(9)] == ["one"]


def test_old_files_are_numbered_and_the_oldest_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "FILE_BYTES_MAX", 400)
    monkeypatch.setattr(audit, "FILES_KEPT", 2)
    log = AuditLog(tmp_path)
    for number in range(30):
        log.add(entry(str(number)))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["audit.log", "audit.log.1", "audit.log.2"]
    found = [int(each.what) for each in log.tail(100)]
    assert found == sorted(found)
    assert found[-1] == 29
    assert len(log.tail(3)) == 3


def test_a_disk_that_refuses_undoes_nothing(tmp_path: Path) -> None:
    (tmp_path / "audit.log").mkdir()
    log = AuditLog(tmp_path)
    log.add(entry("one"))
    assert log.error


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"", {}),
        (b"not json", {}),
        (b"[1]", {}),
        (b'{"api_key": "k", "max_workers": 3, "min_load": null}', {"max_workers": 3}),
        (b'{"docker_login_pass": "secret-word"}', {"docker_login_pass": "***"}),
    ],
)
def test_the_values_are_kept_and_keys_are_not(body: bytes, detail: dict[str, object]) -> None:
    assert detail_of(body) == detail


def test_a_long_value_is_cut() -> None:
    assert len(detail_of(b'{"launch_args": "' + b"x y " * 1_000 + b'"}')["launch_args"]) == audit.VALUE_CHARACTERS_MAX
