"""Which engine a name means, and where its key comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nullworker.client.errors import InstanceInvalidError, KeyMissingError
from nullworker.client.instances import Instance, find_instance, find_key, state_directory

if TYPE_CHECKING:
    from pathlib import Path

LOCAL = find_instance("local")


@pytest.mark.parametrize("name", ["prod", "alpha", "candidate"])
def test_vasts_own_are_left_to_vastai(name: str) -> None:
    """Their addresses are vastai's to know."""
    assert find_instance(name) == Instance(name, None)
    assert not find_instance(name).is_here


def test_local_is_the_loopback_address() -> None:
    """Not the name localhost, which may mean ::1 first."""
    assert LOCAL.url == "http://127.0.0.1:8080"
    assert LOCAL.is_here


@pytest.mark.parametrize(
    ("url", "is_here"),
    [
        ("http://127.0.0.1:9000", True),
        ("http://127.1.2.3", True),
        ("http://[::1]:8080", True),
        ("http://localhost:8080", True),
        ("https://engine.example.com", False),
        ("http://192.168.0.7:8080", False),
        ("https://localhost.example.com", False),
    ],
)
def test_a_url_is_an_engine_of_ones_own(url: str, is_here: bool) -> None:
    """And it is known whether it is on this machine."""
    assert find_instance(url).url == url
    assert find_instance(url).is_here is is_here


def test_slashes_at_the_end_of_a_url_are_dropped() -> None:
    """Paths are appended as they are."""
    assert find_instance("http://e:1/base//").url == "http://e:1/base"


@pytest.mark.parametrize(
    "name",
    [
        *("", "Prod", "beta", "localhost", "127.0.0.1:8080", "ftp://e", "http://", "http://:80", "http://e:0"),
        *(
            "http://e:99999",
            "http://e:x",
            "http://[::1",
            "http://e/?a=1",
            "http://e/#a",
            "http://user:p@e",
            "http://e e",
        ),
        "http://e\n",
    ],
)
def test_anything_else_is_refused_with_what_there_is(name: str) -> None:
    """A typing error does not fall back to prod, as vastai has it."""
    with pytest.raises(InstanceInvalidError, match="prod, alpha, candidate, local"):
        find_instance(name)


class TestKey:
    def test_the_given_one_goes_before_the_environments(self) -> None:
        """An argument is meant."""
        assert find_key(LOCAL, "given", {"VAST_API_KEY": "environment"}) == "given"

    def test_the_environments_goes_before_the_file(self, tmp_path: Path) -> None:
        """As the engine itself has it at its first start."""
        (tmp_path / "api_key").write_text("file")
        environ = {"VAST_API_KEY": "environment", "NULLWORKER_STATE": str(tmp_path)}
        assert find_key(LOCAL, None, environ) == "environment"

    def test_the_engine_here_leaves_one_in_its_state_directory(self, tmp_path: Path) -> None:
        """So that nobody has to copy it."""
        (tmp_path / "api_key").write_text("file\n")
        assert find_key(LOCAL, None, {"NULLWORKER_STATE": str(tmp_path)}) == "file"
        assert find_key(find_instance("http://localhost:9"), None, {"NULLWORKER_STATE": str(tmp_path)}) == "file"

    @pytest.mark.parametrize("name", ["prod", "https://engine.example.com"])
    def test_it_is_not_sent_to_an_engine_elsewhere(self, tmp_path: Path, name: str) -> None:
        """A key of this machine is nobody else's business."""
        (tmp_path / "api_key").write_text("file")
        with pytest.raises(KeyMissingError, match="VAST_API_KEY"):
            find_key(find_instance(name), None, {"NULLWORKER_STATE": str(tmp_path)})

    def test_without_any_it_says_where_it_looked(self, tmp_path: Path) -> None:
        """The file is named."""
        with pytest.raises(KeyMissingError, match=f"{tmp_path}/api_key.*No such file"):
            find_key(LOCAL, None, {"NULLWORKER_STATE": str(tmp_path)})

    @pytest.mark.parametrize("key", ["two words", "line\nbreak", "schlüssel"])
    def test_one_that_no_header_can_carry_is_refused(self, key: str) -> None:
        """Before it fails as something else."""
        with pytest.raises(KeyMissingError, match="is no key"):
            find_key(LOCAL, key, {})

    def test_an_empty_or_binary_file_is_refused(self, tmp_path: Path) -> None:
        """A half-written file is none."""
        (tmp_path / "api_key").write_bytes(b"\n")
        with pytest.raises(KeyMissingError, match="is no key"):
            find_key(LOCAL, None, {"NULLWORKER_STATE": str(tmp_path)})
        (tmp_path / "api_key").write_bytes(b"\xff\xfe")
        with pytest.raises(KeyMissingError, match="not text"):
            find_key(LOCAL, None, {"NULLWORKER_STATE": str(tmp_path)})


def test_the_state_directory_has_a_default_at_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The same that the engine has."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert state_directory({}) == tmp_path / ".local/state/nullworker"
    assert state_directory({"NULLWORKER_STATE": "~/s"}) == tmp_path / "s"
