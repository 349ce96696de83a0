"""Keys with a name and a role: what is kept of them, when they end, and what a disk that refuses leaves."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from nullworker.engine.auth import key_ring
from nullworker.engine.auth.key_ring import KEY_RING_FILE, KeyRing, Role
from nullworker.engine.auth.keys import ACCOUNT, Keys
from nullworker.engine.state_dir import StateError
from nullworker.wire.errors import NotFoundError, TooManyError, UnwritableError
from nullworker.wire.redaction import redact

if TYPE_CHECKING:
    from pathlib import Path


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / KEY_RING_FILE


def test_a_key_is_kept_as_its_digest_and_over_a_restart(path: Path, clock: Clock) -> None:
    made, key = KeyRing(path, clock).create("ci", Role.ROUTE, (3,))
    assert len(bytes.fromhex(key.reveal().removeprefix(key_ring.PREFIX))) == 32
    assert key.reveal() not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    again = KeyRing(path, clock)
    assert again.find(key.reveal()) == made
    assert again.find(key.reveal()[:-1]) is None
    assert again.find(made.digest) is None
    assert redact(f"key {key.reveal()}!") == f"key {key_ring.PREFIX}***!"


def test_a_key_ends_when_it_was_to_or_when_it_is_revoked(path: Path, clock: Clock) -> None:
    ring = KeyRing(path, clock)
    short, short_key = ring.create("short", Role.READ, expires_in_s=60)
    long, long_key = ring.create("long", Role.READ)
    clock.now += 60
    assert ring.find(short_key.reveal()) is None
    assert ring.find(long_key.reveal()) == long
    ring.revoke(long.id)
    for each in (ring, KeyRing(path, clock)):
        assert each.find(long_key.reveal()) is None
        assert each.get(long.id) is None
    for key_id in (short.id, long.id, 99):
        with pytest.raises(NotFoundError):
            ring.revoke(key_id)
    clock.now += key_ring.SHOWN_AFTER_END_S
    assert ring.create("new", Role.READ)[0].id == 3, "no number is used twice"
    assert [key.name for key in ring.rows()] == ["new"]


def test_both_keys_are_good_while_one_takes_the_others_place(path: Path, clock: Clock) -> None:
    ring = KeyRing(path, clock)
    made, old = ring.create("ci", Role.ROUTE, (3, 4), expires_in_s=1_000)
    clock.now += 500
    rotated, new = ring.rotate(made.id, 60)
    assert (rotated.name, rotated.role, rotated.endpoints) == ("ci", Role.ROUTE, (3, 4))
    assert rotated.expires_at_s == clock.now + 1_000
    assert ring.find(old.reveal()) is not None
    assert ring.find(new.reveal()) == rotated
    clock.now += 60
    assert ring.find(old.reveal()) is None
    assert KeyRing(path, clock).find(new.reveal()) == rotated
    _, last = ring.rotate(rotated.id, 10_000)
    clock.now += 950
    assert ring.find(new.reveal()) is None, "an overlap makes no key last longer than it was given"
    assert ring.find(last.reveal()) is not None


def test_an_endpoints_key_is_rotated_and_both_are_good_for_a_while(path: Path, clock: Clock) -> None:
    keys = Keys("account-key", b"s" * 32, KeyRing(path, clock))
    first = keys.endpoint_key(5).reveal()
    keys.ring.rotate_endpoint(5, 60)
    second = keys.endpoint_key(5).reveal()
    assert first != second
    assert keys.is_endpoint(5, first)
    assert keys.is_endpoint(5, second)
    keys.ring.rotate_endpoint(5, 60)
    assert not keys.is_endpoint(5, first), "one before the last is good no more"
    clock.now += 60
    after = Keys("account-key", b"s" * 32, KeyRing(path, clock))
    assert [after.is_endpoint(5, key) for key in (first, second, after.endpoint_key(5).reveal())] == [
        False,
        False,
        True,
    ]
    assert after.endpoint_key(6).reveal() == Keys("other", b"s" * 32).endpoint_key(6).reveal()


def test_the_account_key_is_rotated_and_the_old_one_ends(tmp_path: Path) -> None:
    keys = Keys.open(tmp_path)
    old, cookie = keys.account_key.reveal(), keys.cookie_signature("x")
    keys.rotate_account(60)
    new = keys.account_key.reveal()
    assert (tmp_path / "api_key").read_text().strip() == new
    assert keys.holder(new) == ACCOUNT
    before = keys.holder(old)
    assert before is not None
    assert before.role is Role.ADMIN
    assert not keys.is_cookie_signature("x", cookie)
    keys.ring.revoke(before.key_id)
    again = Keys.open(tmp_path)
    assert again.holder(new) == ACCOUNT
    assert again.holder(old) is None
    again.rotate_account(0)
    assert again.holder(new) is None
    assert old not in (tmp_path / KEY_RING_FILE).read_text()


def test_a_disk_that_refuses_changes_nothing(path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    ring = KeyRing(path, clock)
    made, key = ring.create("ci", Role.ROUTE)

    def refuse(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    keys = Keys("the-account-key-of-this-test", b"s" * 32, ring, path.parent)
    for change in (
        lambda: ring.create("more", Role.ADMIN),
        lambda: ring.revoke(made.id),
        lambda: ring.rotate(made.id, 0),
        lambda: ring.rotate_endpoint(1, 0),
        lambda: keys.rotate_account(0),
    ):
        with pytest.raises(UnwritableError, match="no space left"):
            change()
    assert ring.find(key.reveal()) == made
    assert keys.is_account("the-account-key-of-this-test")
    monkeypatch.undo()
    assert [each.name for each in KeyRing(path, clock).rows()] == ["ci"]
    assert sorted(each.name for each in path.parent.iterdir()) == [KEY_RING_FILE]


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"keys": {"1": {}}}', b""])
def test_a_damaged_file_ends_the_start(path: Path, clock: Clock, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(StateError, match=str(path)):
        KeyRing(path, clock)


def test_a_file_that_others_may_read_is_refused(path: Path, clock: Clock) -> None:
    path.write_bytes(b"{}")
    path.chmod(0o644)
    with pytest.raises(StateError, match="open to other users"):
        KeyRing(path, clock)


def test_there_are_only_so_many(path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_ring, "KEYS_MAX", 2)
    ring = KeyRing(path, clock)
    ring.create("a", Role.READ)
    ring.create("b", Role.READ)
    with pytest.raises(TooManyError):
        ring.create("c", Role.READ)


@pytest.mark.parametrize(
    ("role", "covered"),
    [("route", {"route"}), ("read", {"read"}), ("operate", {"route", "read", "operate"}), ("admin", set(Role))],
)
def test_what_a_role_covers(role: str, covered: set[str]) -> None:
    assert {each.value for each in Role if Role(role).covers(each)} == {str(Role(each).value) for each in covered}
