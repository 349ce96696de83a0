"""``make release``: what a release consists of, in ``build/release``.

- the wheel;
- ``requirements-NAME.txt`` for each kind of installation: the wheel and all that it needs, each at one version and with
  its hashes, for all supported Pythons: ``pip install --require-hashes --find-links build/release -r …`` takes nothing
  else;
- ``sbom-NAME.json``: the bill of materials of each, in CycloneDX's form;
- ``SHA256SUMS`` of these files.

Runs in an environment of its own, which has uv and cyclonedx-bom (the group ``release``).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools.environment import uv_environ
from tools.environments import ROOT, build_wheel

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: The kinds of installation, and the extras of each. A client and a dispatcher need none.
INSTALLATIONS = {
    "client": (),
    "engine": ("engine",),
    "worker": ("worker",),
    "engine-worker": ("engine", "worker"),
    "all": ("all",),
}
PYTHON_OLDEST = "3.10"
_REQUIREMENT = re.compile(r"^([A-Za-z0-9][\w.-]*)(?:\[[\w,-]+\])?==(\S+)")
_HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}(?=\s|$)")


def sha256(path: Path) -> str:
    """A file's hash."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def with_wheel(requirements: str, wheel: Path, extras: Sequence[str]) -> str:
    """A file of requirements with the wheel's own line before the others.

    Args:
        requirements: what it needs, with hashes.
        wheel: the wheel.
        extras: of the installation.
    """
    name, version = wheel.name.split("-")[:2]
    wanted = f"{name}[{','.join(extras)}]" if extras else name
    return f"{wanted}=={version} \\\n    --hash=sha256:{sha256(wheel)}\n{requirements}"


def wrong_in(requirements: str) -> list[str]:
    """What ``pip install --require-hashes`` would refuse: what has not one version, or no hash. Empty: nothing."""
    joined = requirements.replace("\\\n", " ").splitlines()
    lines = [line.strip() for line in joined if line.strip() and not line.lstrip().startswith("#")]
    return [line[:100] for line in lines if not (_REQUIREMENT.match(line) and _HASH.search(line))]


def with_direct_dependencies(sbom: dict[str, Any], declared: Iterable[str]) -> dict[str, Any]:
    """A bill of materials in which the product depends on what it declares.

    Args:
        sbom: as cyclonedx-bom makes it, which does not know that.
        declared: names of the packages.
    """
    names = {_canonical(name) for name in declared}
    direct = [each["bom-ref"] for each in sbom["components"] if _canonical(each["name"]) in names]
    root = sbom["metadata"]["component"]["bom-ref"]
    others = [each for each in sbom.get("dependencies", []) if each["ref"] != root]
    return {**sbom, "dependencies": [{"ref": root, "dependsOn": sorted(direct)}, *others]}


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared_by(wheel_metadata: str) -> list[str]:
    """The names of the packages that a wheel's metadata asks for, its extras' included."""
    return re.findall(r"(?m)^Requires-Dist: ([\w.-]+)", wheel_metadata)


def _declared(wheel: Path, unpacked: Path) -> list[str]:
    shutil.unpack_archive(wheel, unpacked, "zip")
    (metadata,) = unpacked.glob("*.dist-info/METADATA")
    return declared_by(metadata.read_text())


def _run(command: Sequence[str | Path]) -> None:
    paths = ssl.get_default_verify_paths()
    environ = uv_environ(os.environ, system_certificates=bool(paths.cafile or paths.capath))
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"error: {Path(words[0]).name} failed with exit code {done.returncode}:\n{done.stdout}{done.stderr}")


def _requirements(extras: Sequence[str], path: Path) -> str:
    """What an installation needs, at one version each and with hashes, for all supported Pythons."""
    how = ("--universal", "--python-version", PYTHON_OLDEST, "--generate-hashes", "--no-header", "--no-annotate")
    wanted = [word for extra in extras for word in ("--extra", extra)]
    uv = Path(sys.executable).with_name("uv")
    _run([uv, "pip", "compile", "--quiet", *how, *wanted, "--output-file", path, "pyproject.toml"])
    return path.read_text()


def _sbom(requirements: Path, declared: Iterable[str], path: Path) -> None:
    tool = Path(sys.executable).with_name("cyclonedx-py")
    how = ("--pyproject", "pyproject.toml", "--output-reproducible", "--of", "JSON", "--output-file", path)
    _run([tool, "requirements", *how, requirements])
    made = with_direct_dependencies(json.loads(path.read_text()), declared)
    path.write_text(json.dumps(made, indent=2, sort_keys=True) + "\n")


def make(directory: Path) -> list[Path]:
    """Makes all files of a release in ``directory``, which is emptied before; returns them."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as work:
        wheel = Path(shutil.copy(build_wheel(Path(work)), directory))
        part = Path(work) / "requirements.txt"
        declared = _declared(wheel, Path(work) / "unpacked")
        for name, extras in INSTALLATIONS.items():
            text = with_wheel(_requirements(extras, part), wheel, extras)
            wrong = wrong_in(text)
            if wrong:
                sys.exit("\n".join([f"error: the requirements of {name} lack a version or a hash:", *wrong]))
            (directory / f"requirements-{name}.txt").write_text(text)
            _sbom(part, declared, directory / f"sbom-{name}.json")
    files = sorted(directory.iterdir())
    (directory / "SHA256SUMS").write_text("".join(f"{sha256(file)}  {file.name}\n" for file in files))
    return sorted(directory.iterdir())


def main() -> None:
    """Makes a release, and says what is in it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "build/release", help="the directory; it is emptied before")
    for file in make(parser.parse_args().out):
        print(f"{file.stat().st_size:>9,} bytes  {file}")


if __name__ == "__main__":
    main()
