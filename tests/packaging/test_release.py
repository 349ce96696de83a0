"""What a release consists of: requirements with hashes, a bill of materials, and bounds for known holes."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import msgspec
import pytest

from tools.release import INSTALLATIONS, declared_by, with_direct_dependencies, with_wheel, wrong_in

ROOT = Path(__file__).resolve().parents[2]
HASH = "--hash=sha256:" + "0a" * 32
GOOD = f"""\
# a comment
aiohttp==3.14.5 \\
    {HASH} \\
    {HASH}
multidict==7.1.0 ; python_full_version < '3.11' \\
    {HASH}
"""


def test_requirements_with_versions_and_hashes_are_right() -> None:
    assert wrong_in(GOOD) == []


@pytest.mark.parametrize("line", ["click==8.5.1", f"click>=8.5.1 {HASH}", "click==8.5.1 --hash=sha256:0a", "-e ."])
def test_what_has_no_hash_or_more_than_one_version_is_named(line: str) -> None:
    assert wrong_in(GOOD + line + "\n") == [line]


def test_the_wheel_comes_first_with_its_own_hash(tmp_path: Path) -> None:
    wheel = tmp_path / "nullworker-1.2.3-py3-none-any.whl"
    wheel.write_bytes(b"wheel")
    text = with_wheel(GOOD, wheel, ["engine", "redis"])
    digest = hashlib.sha256(b"wheel").hexdigest()
    assert text.startswith(f"nullworker[engine,redis]==1.2.3 \\\n    --hash=sha256:{digest}\n")
    assert with_wheel(GOOD, wheel, []).startswith("nullworker==1.2.3 ")
    assert wrong_in(text) == []


def test_the_product_depends_on_what_it_declares() -> None:
    sbom = {
        "metadata": {"component": {"bom-ref": "root"}},
        "components": [{"bom-ref": "1", "name": "aio-pika"}, {"bom-ref": "2", "name": "yarl"}],
        "dependencies": [{"ref": "1"}, {"ref": "2"}, {"ref": "root"}],
    }
    declared = declared_by('Name: x\nRequires-Dist: aio_pika>=9; extra == "rabbitmq"\nRequires-Dist: click\n')
    assert declared == ["aio_pika", "click"]
    found = with_direct_dependencies(sbom, declared)
    assert found["dependencies"] == [{"ref": "root", "dependsOn": ["1"]}, {"ref": "1"}, {"ref": "2"}]


def test_each_bound_for_a_known_hole_is_declared() -> None:
    """The table of docs/security.md, and the lowest versions that pyproject.toml allows."""
    page = (ROOT / "docs/security.md").read_text().partition("## What a release consists of")[2].partition("\n## ")[0]
    bounds = dict(re.findall(r"(?m)^\| `([\w-]+)` \| ([\d.]+) \|", page))
    assert len(bounds) > 8
    project = msgspec.toml.decode((ROOT / "pyproject.toml").read_bytes())["project"]
    parts = [project["dependencies"], *project["optional-dependencies"].values()]
    declared = [requirement for part in parts for requirement in part]
    for name, version in bounds.items():
        asked = {match[1] for each in declared if (match := re.match(rf"{name}>=([\d.]+)", each))}
        assert asked == {version}, name
        assert not [each for each in declared if re.match(rf"{name}(?![\w>-])", each)], "it has no bound there"


@pytest.mark.long
@pytest.mark.timeout(1_200)
def test_a_release_installs_by_its_hashes_alone(tmp_path: Path) -> None:
    """Into empty environments, by pip; and not if a hash is another."""
    out = tmp_path / "release"
    subprocess.run(["make", "release", f"RELEASE_OUT={out}", f"PYTHON={sys.executable}"], cwd=ROOT, check=True)
    names = {file.name for file in out.iterdir()}
    of_each = [f"{kind}-{name}" for name in INSTALLATIONS for kind in ("requirements", "sbom")]
    assert names > {"SHA256SUMS"}
    assert {name.partition(".")[0] for name in names} > set(of_each)
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=out, check=True)
    for name in ("client", "engine"):
        environment = tmp_path / name
        done = _install(environment, out, out / f"requirements-{name}.txt")
        assert done.returncode == 0, done.stderr
        ran: list[str | Path] = [environment / "bin/nullworker", "--version"]
        assert subprocess.run(ran, capture_output=True, text=True, check=True).stdout.startswith("nullworker")
        sbom = json.loads((out / f"sbom-{name}.json").read_text())
        assert (sbom["bomFormat"], sbom["metadata"]["component"]["name"]) == ("CycloneDX", "nullworker")
        assert _installed(environment) <= {(each["name"], each["version"]) for each in sbom["components"]}
    other = out / "other.txt"
    text = (out / "requirements-client.txt").read_text()
    other.write_text(re.sub(r"sha256:[0-9a-f]{8}", "sha256:00000000", text))
    refused = _install(tmp_path / "refused", out, other)
    assert refused.returncode != 0
    assert "DO NOT MATCH THE HASHES" in refused.stderr


def _install(environment: Path, out: Path, requirements: Path) -> subprocess.CompletedProcess[str]:
    shutil.rmtree(environment, ignore_errors=True)
    venv.create(environment, with_pip=True)
    how: list[str | Path] = ["--quiet", "--require-hashes", "--find-links", out, "-r", requirements]
    pip: list[str | Path] = [environment / "bin/python", "-m", "pip", "--disable-pip-version-check", "install", *how]
    return subprocess.run(pip, capture_output=True, text=True, check=False)


def _installed(environment: Path) -> set[tuple[str, str]]:
    """All that is there, but for pip, its parts, and the product itself."""
    command: list[str | Path] = [
        environment / "bin/python",
        "-m",
        "pip",
        "list",
        "--format=json",
        "--disable-pip-version-check",
    ]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    without = ("pip", "setuptools", "wheel", "nullworker")
    names = ((re.sub(r"[-_.]+", "-", each["name"]).lower(), each["version"]) for each in found)
    return {each for each in names if each[0] not in without}
