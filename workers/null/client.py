"""``python -m workers.null.client --endpoint NAME``: reservations from the command line; ``--help`` tells the rest."""

from __future__ import annotations

import sys

from nullworker.client.demo import main

if __name__ == "__main__":
    sys.exit(main())
