"""A worker that makes nothing of what sets our engine apart: no reports at once, no numbers in them, no grants.

It runs the consumer as the Null PyWorker does, and reports as the framework alone does.
"""

from __future__ import annotations

import os
import sys

from nullworker.wire.worker_side.engine_tls import GRANTS_VARIABLE
from nullworker.wire.worker_side.engine_trust import EngineTrust
from nullworker.worker.main import main

_learn = EngineTrust.learn


def _learn_key_alone(self: EngineTrust, pem: bytes, features_header: str | None) -> None:
    del features_header
    _learn(self, pem, None)


if __name__ == "__main__":
    os.environ.pop(GRANTS_VARIABLE, None)  # the engine's fleets tell each worker that it gives grants
    EngineTrust.learn = _learn_key_alone  # type: ignore[method-assign]
    sys.exit(main())
