"""docs/fleets-ray.md has every setting with its default, and its first file is a configuration."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
import pytest

from nullworker.engine.config import load_config
from nullworker.fleets.base import FleetError
from nullworker.fleets.ray import node_side
from nullworker.fleets.ray.settings import RaySettings, read_settings, read_token
from tests.integration.process_fleets import spec

PAGE = (Path(__file__).parents[4] / "docs/fleets-ray.md").read_text()


def test_every_setting_is_on_the_page_with_its_default() -> None:
    said = dict(re.findall(r"^\| `(\w+)` \| (.*?) ?\|", PAGE, re.MULTILINE))
    fields = {field.name: field.default for field in msgspec.structs.fields(RaySettings)}
    assert set(said) == set(fields) - {"state_dir"}
    for name in ("backlog", "jobs_s", "grace_s", "gpus_per_worker", "cpus_per_worker"):
        assert said[name] == f"{fields[name]:g}"
    assert said["python"] == f"`{fields['python']}`"


def test_the_first_file_is_a_configuration(tmp_path: Path) -> None:
    file = tmp_path / "nullworker.toml"
    file.write_text(PAGE.partition("```toml\n")[2].partition("```")[0])
    config = load_config(file)
    assert config.endpoints[0].workergroups[0].fleet == "ray"
    msgspec.convert({"state_dir": "x", **config.fleets["ray"]}, RaySettings)


@pytest.mark.parametrize(
    ("environment", "packages"),
    [
        ({}, ["a"]),
        ({"pip": ["torch"]}, ["a", "torch"]),
        ({"pip": "requirements.txt"}, "requirements.txt"),
        ({"conda": "mine"}, None),
        ({"image_uri": "mine", "pip": ["torch"]}, ["a", "torch"]),
    ],
)
def test_what_workers_need_is_installed_beside_the_users_packages(environment: dict[str, Any], packages: Any) -> None:
    settings = RaySettings(state_dir="x", address="http://x", runtime_env=environment)
    assert settings.with_packages(("a",)).get("pip") == packages
    assert msgspec.structs.replace(settings, install=False).with_packages(("a",)) == environment


def test_the_token_is_found_as_ray_finds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    settings = read_settings({"state_dir": tmp_path, "address": "http://x:8265/"})
    assert settings.address == "http://x:8265"
    assert read_token(settings, {}) == ""
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray/auth_token").write_text("home\n")
    (tmp_path / "named").write_text("named\n")
    assert read_token(settings, {}) == "home"
    assert read_token(settings, {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "named")}) == "named"
    assert read_token(settings, {"RAY_AUTH_TOKEN": "own", "RAY_AUTH_TOKEN_PATH": "/no/such"}) == "own"
    with pytest.raises(FleetError, match=r"^Ray's token cannot be read from /no/such"):
        read_token(settings, {"RAY_AUTH_TOKEN_PATH": "/no/such"})


def test_a_job_becomes_its_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setenv(node_side.INSTANCE_JSON, "secret")
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "secret")
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    monkeypatch.setenv("HF_HOME", "/models")
    own = {"host": "", "consumer_dir": "", "code_name": "own", "pass_env": ["HF_HOME"]}
    told = {"job_id": "nw-mark-1-0a", "spec": asdict(spec(1, "null", consumer="./run")), "settings": own}
    before = tmp_path / f"nullworker-ray-{os.getuid()}/nw-mark-0-0a.4194305"
    before.mkdir(parents=True)
    arguments, environment, directory = node_side.prepare(told)
    assert arguments == [sys.executable, "-m", "workers.null.worker"]
    assert directory.parent == before.parent
    assert not before.exists(), "what an earlier job left is removed"
    assert environment["CONTAINER_ID"] == "1"
    assert environment["WORKER_HOST"] == "127.0.0.1", "from which it reaches the engine"
    assert environment["NULL_CONSUMER_DIR"] == str(Path("own").absolute())
    assert (environment["RAY_ADDRESS"], environment["HF_HOME"]) == ("10.0.0.1:6379", "/models")
    assert "secret" not in environment.values()
