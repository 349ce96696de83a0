"""``make fresh``: a Debian made from its own archive, with nothing in it, in which the project's commands are run.

    python -m tools.fresh                  make demo
    python -m tools.fresh demo test        both; also ``brokers``, and ``ci`` for .ci/run

Needs root and debootstrap (``DEBOOTSTRAP`` names another place of it). Prints the seconds of each step, and the MB of
the environment that it made. Nothing of this machine is used: neither its packages nor its caches.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SUITE, ARCHIVE = "bookworm", "http://deb.debian.org/debian"
PACKAGES = "python3,python3-venv,make,git,ca-certificates,procps"
COMMANDS = {"demo": "make demo", "brokers": "make brokers", "test": "make test", "ci": ".ci/run"}


def main(names: list[str]) -> int:
    """Runs commands in a new Debian; returns the exit code of the first that fails."""
    debootstrap = os.environ.get("DEBOOTSTRAP") or shutil.which("debootstrap")
    if os.geteuid() != 0 or debootstrap is None:
        sys.exit("error: make fresh needs root, and debootstrap (the Debian package of that name).")
    if unknown := [name for name in names if name not in COMMANDS]:
        sys.exit(f"error: {unknown[0]} is none of {', '.join(COMMANDS)}.")
    with tempfile.TemporaryDirectory(prefix="nullworker-fresh-") as work:
        root = Path(work) / "root"
        log = Path(work) / "debootstrap.log"
        began_s = time.monotonic()
        with log.open("wb") as output:
            made = subprocess.run(
                [debootstrap, "--variant=minbase", f"--include={PACKAGES}", SUITE, root, ARCHIVE],
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            )
        if made.returncode != 0:
            print(log.read_text(errors="replace")[-2000:], file=sys.stderr)
            sys.exit("error: no Debian could be made; the end of debootstrap's log is above.")
        print(f"fresh: Debian {SUITE} in {time.monotonic() - began_s:.0f} s", flush=True)
        try:
            return in_new_debian(root, names)
        finally:
            unmount(root)


def in_new_debian(root: Path, names: list[str]) -> int:
    """Copies the project there as git has it, and runs the commands in order."""
    prepare(root)
    for name in names:
        began_s = time.monotonic()
        code = run(root, f"cd /root/project && {COMMANDS[name]}")
        print(
            f"fresh: {COMMANDS[name]} ended with exit code {code} after {time.monotonic() - began_s:.0f} s", flush=True
        )
        run(root, "du -sm /root/project/.venv | sed 's/^/fresh: MB of the environment: /'")
        if code != 0:
            return code
    return 0


def prepare(root: Path) -> None:
    """Mounts what a machine has, lets names be looked up, and copies the project."""
    for kind, where in (("proc", "proc"), ("sysfs", "sys"), ("tmpfs", "dev/shm"), ("devpts", "dev/pts")):
        (root / where).mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-t", kind, kind, root / where], check=True)
    subprocess.run(["mount", "--rbind", "/sys/fs/cgroup", root / "sys/fs/cgroup"], check=True)  # for Slurm's daemons
    for name in ("resolv.conf", "hosts"):
        shutil.copy(Path("/etc") / name, root / "etc" / name)
    (root / "usr/sbin/policy-rc.d").write_text("#!/bin/sh\nexit 101\n")  # no service starts in a chroot
    (root / "usr/sbin/policy-rc.d").chmod(0o755)
    certificates(root)
    project = root / "root/project"
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", ROOT, project], check=True)


def certificates(root: Path) -> None:
    """Copies this machine's certificate authorities, for a network whose proxy has one of its own."""
    ours = Path("/etc/ssl/certs/ca-certificates.crt")
    if ours.exists():
        shutil.copy(ours, root / "etc/ssl/certs/ca-certificates.crt")


def run(root: Path, script: str) -> int:
    """Runs a script there, with nothing of our environment but the way to the network."""
    passed = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
    trusted = "/etc/ssl/certs/ca-certificates.crt"
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "PIP_CERT": trusted,
        "NODE_EXTRA_CA_CERTS": trusted,
        "NULLWORKER_TESTS_INSTALL": "1",
        **passed,
    }
    return subprocess.run(["chroot", root, "sh", "-c", script], env=environment, check=False).returncode


def unmount(root: Path) -> None:
    """Before the folder is removed: what is mounted there is not part of it."""
    for where in ("dev/pts", "dev/shm", "sys/fs/cgroup", "sys", "proc"):
        subprocess.run(["umount", "--lazy", root / where], stderr=subprocess.DEVNULL, check=False)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["demo"]))
