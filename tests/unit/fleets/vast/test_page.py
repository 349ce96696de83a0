"""docs/fleets-vast.md has every setting with its default, and its first file is a configuration; what a box is told."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import msgspec
import pytest

from nullworker.engine.config import load_config
from nullworker.fleets.base import FleetError
from nullworker.fleets.vast import box
from nullworker.fleets.vast.settings import VastSettings, read_key, read_settings
from tests.integration.process_fleets import spec

PAGE = (Path(__file__).parents[4] / "docs/fleets-vast.md").read_text()
SETTINGS = VastSettings(state_dir="x", repository="https://example.com/x", price_per_hour_max=1, spend_per_day_max=2)


def test_every_setting_is_on_the_page_with_its_default() -> None:
    said = dict(re.findall(r"^\| `(\w+)` \| (.*?) ?\|", PAGE, re.MULTILINE))
    fields = {field.name: field.default for field in msgspec.structs.fields(VastSettings)}
    assert set(said) == set(fields) - {"state_dir"}
    for name, default in fields.items():
        if isinstance(default, float) and default:
            assert said[name] == f"{default:g}", name
    assert said["image"] == f"`{fields['image']}`"
    assert said["url"] == f"`{fields['url']}`"
    for name in ("repository", "price_per_hour_max", "spend_per_day_max"):
        assert said[name] == ""


def test_the_first_file_is_a_configuration(tmp_path: Path) -> None:
    file = tmp_path / "nullworker.toml"
    file.write_text(PAGE.partition("```toml\n")[2].partition("```")[0])
    config = load_config(file)
    assert config.endpoints[0].workergroups[0].fleet == "vast"
    read_settings({"state_dir": "x", **config.fleets["vast"]})


def test_the_key_is_in_a_file_or_a_variable_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("abc\n")
    assert read_key(msgspec.structs.replace(SETTINGS, api_key_file=str(file)), {}) == "abc"
    assert read_key(SETTINGS, {"NULLWORKER_VAST_KEY": " abc ", "VAST_API_KEY": "the engine's"}) == "abc"
    with pytest.raises(FleetError, match="has no key"):
        read_key(SETTINGS, {"VAST_API_KEY": "the engine's"})
    file.write_text("two words")
    with pytest.raises(FleetError, match=r"What .*key holds is no key of Vast") as it:
        read_key(msgspec.structs.replace(SETTINGS, api_key_file=str(file)), {})
    assert "two words" not in str(it.value)


def test_the_commands_of_a_machine_are_a_short_script_without_a_secret() -> None:
    text = box.onstart()
    assert len(text) <= box.ONSTART_CHARACTERS_MAX
    assert subprocess.run(["bash", "-n"], input=text, text=True, check=False).returncode == 0
    switch = text.partition("<<'SWITCH'\n")[2].partition("\nSWITCH\n")[0]
    compile(switch, "switch", "exec")


def test_a_workergroup_changes_everything_but_the_identity() -> None:
    given = box.environment(
        spec(7, "null", env={"MASTER_TOKEN": "mine", "NULLWORKER_WORKER": "8", "HF_HOME": "/m"}, use_ssl=True), SETTINGS
    )
    assert (given["MASTER_TOKEN"], given["NULLWORKER_WORKER"], given["HF_HOME"]) == ("token-7", "7", "/m")
    assert (given["USE_SSL"], given["-p 3000:3000"]) == ("true", "1")
    for name in ("-v /:/host", "", "A=B"):
        with pytest.raises(FleetError, match="is no name of a variable"):
            box.environment(spec(7, env={name: "1"}), SETTINGS)
