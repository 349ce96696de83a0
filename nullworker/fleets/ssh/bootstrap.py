"""The first thing that runs on a host; its source is sent there, before anything of this package is.

It takes one line of JSON and, if the host does not have it yet, the archive of code; it makes a virtual environment if
the interpreter lacks what workers need; and it becomes the agent. Each line that it prints for the engine begins with
``nullworker ``, for what a login shell prints comes before. It must be read by old interpreters as well, to say so.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

NEEDED = ("aiohttp", "click", "cryptography", "jwt", "msgspec", "vastai", "Crypto")
RUN = "import sys; sys.path.insert(0, sys.argv[1]); from nullworker.fleets.ssh.agent import main; main(sys.argv[2])"


def say(word: str, text: str = "") -> None:
    """Tells the engine something."""
    sys.stdout.write("nullworker " + word + " " + text.replace("\n", " ") + "\n")
    sys.stdout.flush()


def take_code(order: dict[str, Any], folder: Path) -> None:
    """Makes the folder of code, if it is not there; reads the archive only then. Raises OSError."""
    if folder.is_dir():
        say("have")
        return
    say("need")
    content = sys.stdin.buffer.read(order["bytes"])
    if hashlib.sha256(content).hexdigest()[:32] != order["code"]:
        raise OSError("the code did not arrive whole")
    new = folder.with_name(folder.name + "." + str(os.getpid()))
    new.mkdir()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for entry in archive.infolist():
            path = Path(archive.extract(entry, str(new)))
            path.chmod((entry.external_attr >> 16) & 0o777 | 0o600)
    try:
        new.rename(folder)
    except OSError:
        shutil.rmtree(str(new))  # another connection was faster
        if not folder.is_dir():
            raise


def environment(order: dict[str, Any], root: Path) -> str:
    """The interpreter of a virtual environment that has what workers need. Raises OSError."""
    wanted = json.dumps([order["requirements"], sys.version_info[:2]])
    folder = root / "venvs" / hashlib.sha256(wanted.encode()).hexdigest()[:16]
    python = str(folder / "bin" / "python")
    folder.parent.mkdir(exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        complete = folder / "complete"
        if not complete.exists():
            say("installing")
            run([sys.executable, "-m", "venv", "--clear", str(folder)], "made (Debian: apt install python3-venv)")
            pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            run(pip + order["requirements"], "filled")
            complete.touch()
    return python


def run(command: list[str], participle: str) -> None:
    """Runs a command of the installation. Raises OSError."""
    done = subprocess.run(
        command, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if done.returncode != 0:
        lines = done.stdout.decode(errors="replace").strip().splitlines() or ["no output"]
        raise OSError("a virtual environment could not be " + participle + ": " + lines[-1][:300])


def prepare(order: dict[str, Any]) -> list[str]:
    """What to run to be the agent; empty: the engine was told why not. Raises OSError."""
    root = Path(order["root"]).absolute()
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = root / "code" / order["code"]
    folder.parent.mkdir(exist_ok=True)
    take_code(order, folder)
    python = sys.executable
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing and not order["install"]:
        say("failed", "its Python lacks " + ", ".join(missing) + ", and install of [fleet.ssh] is off")
        return []
    if missing:
        python = environment(order, root)
    settings = dict(order["agent"], root=str(root), code=str(folder))
    return [python, "-c", RUN, str(folder), json.dumps(settings)]


def main() -> None:
    """Becomes the agent, or says why not."""
    order = json.loads(sys.stdin.buffer.readline().decode())
    needed = tuple(order["python_min"])
    if sys.version_info < needed:
        have, need = ".".join(map(str, sys.version_info[:2])), ".".join(map(str, needed))
        say("failed", "its Python is " + have + ", and workers need " + need + " or later")
        return
    if not sys.platform.startswith("linux"):
        say("failed", "it is no Linux machine")
        return
    try:
        os.chdir(str(Path.home()))
        command = prepare(order)
    except (OSError, zipfile.BadZipFile) as error:
        say("failed", str(error))
        return
    if command:
        os.execv(command[0], command)  # noqa: S606 - it becomes the agent


if __name__ == "__main__":
    main()
