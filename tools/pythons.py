"""The versions of Python that pyproject.toml names, and where this machine has them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def supported() -> list[str]:
    """As ``["3.10", ...]``: what the classifiers of the package say."""
    text = (ROOT / "pyproject.toml").read_text()
    return re.findall(r'"Programming Language :: Python :: (3\.\d+)"', text)


def interpreter(version: str) -> Path | None:
    """An interpreter of this version that runs, from ``PATH`` or pyenv; None if there is none."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    on_path = shutil.which(f"python{version}")
    candidates = [*([Path(on_path)] if on_path else []), *sorted(pyenv.glob(f"versions/{version}.*/bin/python"))]
    asks = [
        [str(candidate), "-c", "import ssl, sys, venv; print('%d.%d' % sys.version_info[:2])"]
        for candidate in candidates
    ]
    for candidate, ask in zip(candidates, asks, strict=True):
        # pyenv puts a command on PATH for each version that it has; those that are not chosen fail when they are run.
        done = subprocess.run(ask, capture_output=True, text=True, check=False)
        if done.returncode == 0 and done.stdout.strip() == version:
            return candidate
    return None
