"""Which engine a name means, and where its key comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import vastai
from vastai._base import _APIKEY_SENTINEL, _resolve_api_key

from nullworker.client.errors import InstanceInvalidError, KeyMissingError
from nullworker.client.instances import Instance, find_instance, find_key, state_directory

if TYPE_CHECKING:
    from pathlib import Path

LOCAL = Instance("local", "http://127.0.0.1:8080")


@pytest.mark.parametrize("name", ["prod", "alpha", "candidate"])
def test_vasts_own_are_where_the_sdk_has_them(name: str) -> None:
    """Engine, console and root certificate."""
    found, sdk = find_instance(name), vastai.Serverless("key", instance=name)
    assert found == Instance(name, None)
    assert not found.is_here
    assert (found.engine_url, found.console_url) == (sdk.autoscaler_url, sdk.vast_web_url)
    assert found.certificate_url == sdk.SSL_CERT_URL
    assert found.poll_max_s == sdk.max_poll_interval


def test_everything_of_an_engine_of_ones_own_is_under_its_url() -> None:
    """And it holds a request until there is news, so that it is asked again soon."""
    found = find_instance("https://e.example.com:1/base/")
    assert (found.engine_url, found.console_url) == (found.url, found.url)
    assert found.certificate_url == "https://e.example.com:1/base/static/jvastai_root.cer"
    assert found.poll_max_s < 1


@pytest.mark.parametrize(
    ("kept", "found"),
    [
        ("http://127.0.0.1:9000\n", "http://127.0.0.1:9000"),
        ("http://192.168.0.7:9000", "http://127.0.0.1:8080"),  # whose key would go elsewhere
        ("\0", "http://127.0.0.1:8080"),
        ("", "http://127.0.0.1:8080"),
        (None, "http://127.0.0.1:8080"),
    ],
)
def test_local_is_where_the_engine_says_that_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: str | None, found: str
) -> None:
    """By the file that it keeps; else at the loopback address, not the name localhost, which may mean ::1 first."""
    monkeypatch.setenv("NULLWORKER_STATE", str(tmp_path))
    if kept is not None:
        (tmp_path / "url").write_text(kept)
    assert find_instance("local") == Instance("local", found)
    assert find_instance("local").is_here


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
        """So that it need not be copied."""
        (tmp_path / "api_key").write_text("file\n")
        assert find_key(LOCAL, None, {"NULLWORKER_STATE": str(tmp_path)}) == "file"
        assert find_key(find_instance("http://localhost:9"), None, {"NULLWORKER_STATE": str(tmp_path)}) == "file"

    @pytest.mark.parametrize("name", ["prod", "https://engine.example.com"])
    def test_it_is_not_sent_to_an_engine_elsewhere(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        """The key of the engine on this machine is for that engine."""
        monkeypatch.setenv("HOME", str(tmp_path))
        (tmp_path / "api_key").write_text("file")
        with pytest.raises(KeyMissingError, match="VAST_API_KEY"):
            find_key(find_instance(name), None, {"NULLWORKER_STATE": str(tmp_path)})

    def test_without_any_it_says_where_it_looked(self, tmp_path: Path) -> None:
        """The file is named."""
        with pytest.raises(KeyMissingError, match=f"{tmp_path}/api_key.*No such file"):
            find_key(LOCAL, None, {"NULLWORKER_STATE": str(tmp_path)})

    # The SDK leaves the files open.
    @pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
    def test_the_files_of_the_vastai_command_line_are_read_as_the_sdk_does(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """For Vast's engines: argument, environment, the file, the file of older versions."""
        prod = find_instance("prod")
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
        monkeypatch.delenv("VAST_API_KEY", raising=False)
        kept = {".vast_api_key": "old", ".config/vastai/vast_api_key": "new", "elsewhere/vastai/vast_api_key": "moved"}
        for number, (name, key) in enumerate(kept.items()):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(f"{key}\n")
            if number == 2:
                monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "elsewhere"))
            assert find_key(prod) == _resolve_api_key(_APIKEY_SENTINEL) == key
        monkeypatch.setenv("VAST_API_KEY", "environment")
        assert find_key(prod) == _resolve_api_key(_APIKEY_SENTINEL) == "environment"
        assert find_key(prod, "given") == _resolve_api_key("given") == "given"

    def test_a_key_of_vasts_is_sent_to_no_engine_of_ones_own(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whatever its address."""
        monkeypatch.setenv("HOME", str(tmp_path))
        (tmp_path / ".vast_api_key").write_text("vasts")
        for name in ("local", "https://run.vast.ai.example.com"):
            with pytest.raises(KeyMissingError):
                find_key(find_instance(name), None, {"NULLWORKER_STATE": str(tmp_path / "none")})

    def test_a_file_of_vasts_that_cannot_be_read_is_named(self, tmp_path: Path) -> None:
        """A broken file is not passed over in favour of an older one."""
        (tmp_path / "vastai").mkdir()
        (tmp_path / "vastai/vast_api_key").write_bytes(b"\xff\xfe")
        with pytest.raises(KeyMissingError, match=r"vast_api_key \(not text\)"):
            find_key(find_instance("prod"), None, {"XDG_CONFIG_HOME": str(tmp_path)})

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
