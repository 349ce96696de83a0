"""Debian packages, got so that the package system is whole whatever happens.

Two steps. The download may be ended at any moment: it has a time limit, and is tried again. The unpacking has neither,
and runs where no signal of the terminal reaches it: dpkg that is killed leaves packages half-configured. Where they are
so already, by whatever, nothing is installed: repairing them is not ours.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

#: ``=1`` allows the installation where systemd runs, which starts the packages' services; ``=0`` forbids any.
INSTALL_VARIABLE = "NULLWORKER_TESTS_INSTALL"
#: All downloads together; then they are given up, and what is missing is named.
DOWNLOAD_LIMIT_S = 240.0
TRIES = 2
LIMITS = ("-o", "Acquire::http::Timeout=20", "-o", "DPkg::Lock::Timeout=60")
APT = ("apt-get", "-y", "-q", "--no-install-recommends", *LIMITS)


def why_not(environ: dict[str, str] | None = None) -> str:
    """Empty where Debian packages may be installed, else the reason why not."""
    wish = (os.environ if environ is None else environ).get(INSTALL_VARIABLE)
    if wish == "0":
        return f"{INSTALL_VARIABLE}=0"
    if os.geteuid() != 0:
        return "only root may install packages"
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        return "there is no apt-get"
    if wish != "1" and Path("/run/systemd/system").exists():
        return f"systemd would start the packages' own services (set {INSTALL_VARIABLE}=1 to allow that)"
    return broken()


def broken() -> str:
    """Empty if the package system is whole, else what to do about it. It is not touched."""
    audit = subprocess.run(["dpkg", "--audit"], capture_output=True, text=True, check=False)
    if audit.stdout.strip() or audit.returncode != 0:
        return "packages of this machine are half-installed, not by us: see dpkg --audit, and run dpkg --configure -a"
    return ""


def install(packages: Sequence[str], say: Callable[[str], None]) -> str:
    """Installs packages; returns the empty string, or why it could not be done.

    Args:
        packages: names of Debian packages.
        say: is given a line before each step.
    """
    if reason := why_not():
        return reason
    say(f"downloading {', '.join(packages)} …")
    if failure := _download(packages):
        return failure
    say("unpacking them (this is not interrupted: Ctrl-C waits for it) …")
    with (
        _signals_held(),
        tempfile.TemporaryFile() as output,
    ):  # no pipe: should we be killed, it can still be written to
        done = subprocess.run(
            [*APT, "--no-download", "install", *packages],
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            check=False,
        )
        output.seek(0)
        said = output.read().decode(errors="replace")
    return "" if done.returncode == 0 else _last_line(said)


def _download(packages: Sequence[str]) -> str:
    """Into apt's cache, with a fresh list of packages only where the old one does not do."""
    failure = ""
    steps = (["install", "--download-only", *packages], ["update"])
    for step in (steps[0], *(steps[1], steps[0]) * TRIES):
        try:
            done = subprocess.run(
                [*APT, *step],
                env=_environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=DOWNLOAD_LIMIT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"the download did not end within {DOWNLOAD_LIMIT_S:g} s"
        if done.returncode == 0 and step is steps[0]:
            return ""
        failure = _last_line(done.stderr) if done.returncode else failure
    return failure


def _environment() -> dict[str, str]:
    start_no_service = {"RUNLEVEL": "1"}
    return {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8", **start_no_service}


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP take effect at the end of the block."""
    held = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    before = {signum: signal.getsignal(signum) for signum in held}
    came: list[int] = []
    for signum in held:
        signal.signal(signum, lambda number, _: came.append(number))
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
        for number in came[:1]:
            signal.raise_signal(number)


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no message"])[-1]
