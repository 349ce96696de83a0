"""``python -m workers.null.client --endpoint NAME``: reservations from the command line; ``--help`` tells the rest."""

from __future__ import annotations

import sys


def main() -> int:
    """Runs ``nullworker reserve`` under this name; returns its exit code."""
    try:
        from nullworker.cli.main import run
        from nullworker.cli.reserve import command

        return run(command, prog="python -m workers.null.client")
    except ModuleNotFoundError as error:
        if error.name not in ("aiohttp", "click"):
            raise
        print(  # noqa: T201 - a command prints
            f"error: {error.name} is not installed; run: pip install nullworker, "
            "or in a clone: pip install -r requirements.txt",
            file=sys.stderr,
        )
        return 1


if __name__ == "__main__":
    sys.exit(main())
