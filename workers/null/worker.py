"""The Null PyWorker: `python -m workers.null.worker`, with BACKEND=null on a Vast instance."""

from __future__ import annotations

import sys

from nullworker.worker.main import main

if __name__ == "__main__":
    sys.exit(main())
