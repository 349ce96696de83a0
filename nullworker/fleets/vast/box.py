"""What a rented machine is told: its environment, and the commands with which it starts.

The commands start the dead man's switch first, then the repository's own ``start_server.sh``. When the worker has
ended, the machine stops itself. The account's key is never among them.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

from nullworker.fleets.base import FleetError
from nullworker.fleets.vast import dead_mans_switch
from nullworker.wire import paths

if TYPE_CHECKING:
    from nullworker.fleets.base import InstanceSpec
    from nullworker.fleets.vast.settings import VastSettings

#: Vast takes no longer commands.
ONSTART_CHARACTERS_MAX = 4048
#: Variables by which an instance tells what it is for.
ENDPOINT, WORKERGROUP, WORKER = "NULLWORKER_ENDPOINT", "NULLWORKER_WORKERGROUP", "NULLWORKER_WORKER"

_ONSTART = """#!/bin/bash
export NULLWORKER_INSTANCE_ID="${CONTAINER_ID:-}" CONTAINER_ID="$NULLWORKER_WORKER"
switch=$(cat <<'SWITCH'
%s
SWITCH
)
own() { curl -sS -X "$1" -H "Authorization: Bearer $CONTAINER_API_KEY" \\
  "${NULLWORKER_VAST_URL:-https://console.vast.ai}/api/v0/instances/$NULLWORKER_INSTANCE_ID/"; }
command -v python3 >/dev/null || { echo "There is no python3 in this image."; own DELETE; exit 1; }
python3 -c "$switch" &
dir="${SERVER_DIR:-${WORKSPACE:-$HOME}/nullworker}"
if [ ! -e "$dir/start_server.sh" ]; then
  rm -rf -- "$dir"
  git clone --quiet --depth 1 ${PYWORKER_REF:+--branch "$PYWORKER_REF"} -- "$PYWORKER_REPO" "$dir"
fi
env -u CONTAINER_API_KEY bash "$dir/start_server.sh" "$BACKEND"
echo "The worker has ended with exit code $?; the instance stops."
exec python3 -c "$switch" stop
"""


def onstart() -> str:
    """The commands with which an instance starts."""
    return _ONSTART % _without_words(Path(dead_mans_switch.__file__).read_text())


def _without_words(source: str) -> str:
    """A program without its docstring, as the commands may not be long."""
    first = ast.parse(source).body[0]
    return "\n".join(source.splitlines()[first.end_lineno or 0 :]).strip()


def environment(spec: InstanceSpec, settings: VastSettings) -> dict[str, str]:
    """The environment of an instance, and the port that is open, as Vast takes them.

    Args:
        spec: what it is for.
        settings: of the fleet.

    Raises:
        FleetError: a variable of the workergroup's cannot be sent.
    """
    unfit = next((name for name in spec.env if not name or name.startswith("-") or "=" in name), None)
    if unfit is not None:
        raise FleetError(f"Worker {spec.worker_id} was not created: {unfit!r} is no name of a variable.")
    return {
        **({"NULL_CONSUMER_DIR": settings.consumer_dir} if settings.consumer_dir else {}),
        **spec.env,
        **({"NULL_CONSUMER": spec.consumer} if spec.consumer else {}),
        "BACKEND": spec.backend,
        "MASTER_TOKEN": spec.worker_token,
        "REPORT_ADDR": spec.report_addr,
        "USE_SSL": "true" if spec.use_ssl else "false",
        "WORKER_PORT": str(settings.worker_port),
        "PYWORKER_REPO": settings.repository,
        **({"PYWORKER_REF": settings.ref} if settings.ref else {}),
        "NULLWORKER_ASK_PATH": paths.DELETE_REQUESTS,  # with no request: only whether it is known
        "NULLWORKER_SILENCE_S": f"{settings.silence_s:g}",
        "NULLWORKER_VAST_URL": settings.url,
        WORKER: str(spec.worker_id),
        ENDPOINT: spec.endpoint,
        WORKERGROUP: str(spec.workergroup_id),
        **port_of(settings),
    }


def port_of(settings: VastSettings) -> dict[str, str]:
    """The port that is open, as Vast takes it among the variables."""
    return {f"-p {settings.worker_port}:{settings.worker_port}": "1"}
