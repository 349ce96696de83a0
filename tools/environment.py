"""Installs what ``make demo`` or the tests need into the environment that runs this.

    .venv/bin/python tools/environment.py demo     a fifth of what the tests need
    .venv/bin/python tools/environment.py tests    all extras, and the group ``dev``
    .venv-docs/bin/python tools/environment.py docs    the group ``docs``
    .venv-release/bin/python tools/environment.py release    the group ``release``
    .venv-ray/bin/python tools/environment.py ray      the group ``ray``

Uses the standard library and pip alone, since nothing else is there yet. uv does the work: pip gets it from PyPI into a
folder that is removed again, and it needs a fifth of pip's time. Where there is no uv for the machine, or it fails, pip
does the same.
"""

from __future__ import annotations

import os
import re
import ssl
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = Path(__file__).resolve().parents[1]
VASTAI = "vastai>=1.9.1"
#: Builds our package, and has the distutils that vastai imports.
SETUPTOOLS = "setuptools>=80.10.2,<81"
#: PDF files, with fonts and an XML parser: 70 MB that a worker never imports, only vastai's own invoices.
LEFT_OUT = ("borb",)
#: Bytecode is made by the first run, in less time than pip takes for all of it.
PIP = ("-m", "pip", "--quiet", "--disable-pip-version-check", "--retries", "3")
INSTALL = (*PIP, "install", "--no-compile")
#: A plain path to the clone, in place of a finder that would cost each start of Python 0.01 s.
EDITABLE = ("--config-settings", "editable_mode=compat", "--editable")
#: A download that stalls ends the command in place of holding it for ever.
LIMIT_S = 600
WANTED = {
    "demo": "the demo needs (once, about 110 MB)",
    "tests": "the tests need (once, about 600 MB)",
    "docs": "the documentation site needs (once, about 100 MB)",
    "release": "a release needs (once, about 80 MB)",
    "ray": "the tests with a real Ray cluster need (once, about 310 MB)",
}


class InstallError(Exception):
    """An installation failed; the message is what the installer said."""


def needed_of(requirements: list[str]) -> list[str]:
    """Of a package's requirements (as its metadata has them) those that the demo needs."""
    needed = []
    for requirement in requirements:
        name = re.split(r"[^\w.-]", requirement, maxsplit=1)[0].lower()
        if name not in LEFT_OUT and "extra ==" not in requirement:
            needed.append(requirement)
    return needed


def run(command: Sequence[str | Path], environ: Mapping[str, str] | None = None) -> None:
    """Runs an installer in the project's folder.

    Raises:
        InstallError: it failed, or did not end in time.
    """
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words, cwd=ROOT, timeout=LIMIT_S, env=environ, capture_output=True, text=True, check=False
        )
    except subprocess.TimeoutExpired:
        raise InstallError(f"it did not end within {LIMIT_S} s; look at the connection to PyPI") from None
    except OSError as error:
        raise InstallError(f"{words[0]}: {error.strerror}") from None
    if done.returncode != 0:
        raise InstallError((done.stdout + done.stderr).strip())


def uv_environ(environ: Mapping[str, str], *, system_certificates: bool) -> dict[str, str]:
    """What uv is to know of pip's settings: the index, and which certificate authorities are trusted.

    Args:
        environ: the variables of this process; what is set for uv itself counts more.
        system_certificates: whether this machine has certificate authorities.
    """
    own: dict[str, str] = {"UV_NO_PROGRESS": "1"}
    for ours, pips in (("UV_DEFAULT_INDEX", "PIP_INDEX_URL"), ("SSL_CERT_FILE", "PIP_CERT")):
        if pips in environ:
            own[ours] = environ[pips]
    if system_certificates:
        own |= {"UV_SYSTEM_CERTS": "1", "UV_NATIVE_TLS": "1"}  # newer and older versions
    return {**own, **environ}


def by_uv(what: str) -> None:
    """Installs with uv.

    Raises:
        InstallError: there is none for this machine, or it failed.
    """
    with tempfile.TemporaryDirectory(prefix="nullworker-uv-") as folder:
        run([sys.executable, *INSTALL, "--only-binary", ":all:", "--target", folder, "uv"])
        left_out = Path(folder) / "left_out.txt"
        left_out.write_text("".join(f'{name}; python_version < "3"\n' for name in LEFT_OUT))
        wanted: dict[str, list[str | Path]] = {
            "demo": [*EDITABLE, ".[demo]", "--overrides", left_out],
            "tests": [*EDITABLE, ".[all]", "--group", "dev"],
            "docs": ["--group", "docs"],
            "release": ["--group", "release"],
            "ray": ["--group", "ray"],
        }
        paths = ssl.get_default_verify_paths()
        environ = uv_environ(os.environ, system_certificates=bool(paths.cafile or paths.capath))
        uv = Path(folder) / "bin" / "uv"
        run([uv, "pip", "install", "--quiet", "--python", sys.executable, *wanted[what]], environ)


def by_pip(what: str) -> None:
    """Installs with pip.

    Raises:
        InstallError: it failed.
    """
    if what != "demo":
        run([sys.executable, *INSTALL, "--upgrade", "pip>=25.1"])  # which knows --group
        project = [*EDITABLE, ".[all]", "--group", "dev"] if what == "tests" else ["--group", what]
        run([sys.executable, *INSTALL, *project])
        return
    run([sys.executable, *INSTALL, "--no-deps", VASTAI, SETUPTOOLS])
    needed = needed_of(metadata.requires("vastai") or [])
    run([sys.executable, *INSTALL, "--no-build-isolation", *EDITABLE, ".[engine]", "pillow>=12.1.1", *needed])


def main(arguments: Sequence[str]) -> None:
    """Installs; says so before and after, with the seconds and MB that it took."""
    what = arguments[0] if arguments else "demo"
    environment = Path(sys.prefix)
    print(f"Installing what {WANTED[what]} into {environment.name} …", flush=True)
    began_s = time.monotonic()
    try:
        by_uv(what)
    except InstallError as error:
        reason = (str(error).splitlines() or ["no message"])[-1]
        print(f"uv could not install it ({reason}); pip does, which takes longer …", flush=True)
        try:
            by_pip(what)
        except InstallError as failure:
            print(failure, file=sys.stderr)
            sys.exit("error: not everything could be installed; pip's message above says why.")
    size_bytes = sum(file.stat().st_size for file in environment.rglob("*") if not file.is_symlink())
    print(f"Installed in {time.monotonic() - began_s:.0f} s: {size_bytes / 1e6:.0f} MB.", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
