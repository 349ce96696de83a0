"""A null worker that first makes itself a virtual environment, where there is none, as ``start_server.sh`` does."""

import venv
from pathlib import Path

from nullworker.worker.main import main

ENVIRONMENT = Path("environment")  # in its own directory, which it keeps while it is inactive

if __name__ == "__main__":
    if not ENVIRONMENT.exists():
        venv.create(ENVIRONMENT, with_pip=True)
    raise SystemExit(main())
