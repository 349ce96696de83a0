"""``make sizes``: how many packages and MB ``pip install nullworker[...]`` brings into an empty environment."""

from __future__ import annotations

import tempfile
from importlib.metadata import distributions
from pathlib import Path

from tools.environments import build_wheel, install

#: What is installed, and the extras that this takes.
INSTALLATIONS = {"client only": "", "engine": "engine", "worker": "worker", "all": "all"}


def main() -> None:
    """Prints a row for each installation: its packages, ours included, and the size of their files."""
    print(f"{'installation':<14}{'extras':<10}{'packages':>9}{'MB':>8}")
    with tempfile.TemporaryDirectory() as work:
        wheel = build_wheel(Path(work))
        for name, extras in INSTALLATIONS.items():
            environment = Path(work) / name.replace(" ", "-")
            install(wheel, extras, environment)
            (packages,) = environment.glob("lib/python*/site-packages")
            count = sum(1 for _ in distributions(path=[str(packages)]))
            size_bytes = sum(file.stat().st_size for file in packages.rglob("*") if not file.is_symlink())
            print(f"{name:<14}{extras or '-':<10}{count:>9}{size_bytes / 1e6:>8.1f}", flush=True)


if __name__ == "__main__":
    main()
