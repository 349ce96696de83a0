"""docs/fleets-ssh.md has every setting with its default, and its first file is a configuration."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from nullworker.engine.config import load_config
from nullworker.fleets.ssh.settings import HostSettings, SshSettings

PAGE = (Path(__file__).parents[4] / "docs/fleets-ssh.md").read_text()


def table(heading: str) -> dict[str, str]:
    """The first two columns of the table under a heading; a row may be about several keys."""
    rows = PAGE.partition(f"| {heading} |")[2].partition("\n\n")[0]
    found = re.findall(r"^\| (`.*?`) \| (.*?) ?\|", rows, re.MULTILINE)
    return {key.strip("` "): default for keys, default in found for key in keys.split(",")}


def test_every_setting_is_on_the_page_with_its_default() -> None:
    said = table("setting of `[fleet.ssh]`")
    fields = {field.name: field.default for field in msgspec.structs.fields(SshSettings)}
    assert set(said) == set(fields) - {"state_dir"}
    for name in ("python", "remote_dir"):
        assert said[name] == f"`{fields[name]}`"
    for name in ("gpus_per_worker", "silence_s", "grace_s", "logs_kept"):
        assert said[name] == f"{fields[name]:g}"
    assert said["install"] == "`true`"
    assert fields["install"] is True


def test_every_key_of_a_host_is_on_the_page() -> None:
    assert set(table("key of a host")) == {field.name for field in msgspec.structs.fields(HostSettings)}


def test_the_first_file_is_a_configuration(tmp_path: Path) -> None:
    file = tmp_path / "nullworker.toml"
    file.write_text(PAGE.partition("```toml\n")[2].partition("```")[0])
    config = load_config(file)
    (endpoint,) = config.endpoints
    assert endpoint.workergroups[0].fleet == "ssh"
    read = msgspec.convert({"state_dir": "x", **config.fleets["ssh"]}, SshSettings)
    assert [host.host for host in read.all_hosts] == ["me@box-1"]
    assert config.public_url == "https://10.0.0.1:8800"
