"""``python -m nullworker.classic BACKEND``: serves a folder that has a ``backend.py``.

Exit codes: 0 after SIGTERM or SIGHUP, 130 after Ctrl-C, 1 if the backend or the port cannot be used, 2 for wrong
settings.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from nullworker.classic.settings import from_environment
from nullworker.wire.output import log_to_stderr
from nullworker.wire.worker_side import engine_tls, failure_report
from nullworker.wire.worker_side.environment import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

#: The clone's own backends, wherever the clone is.
OWN_WORKERS = Path(__file__).resolve().parents[2] / "workers"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    given = _parser().parse_args(arguments)
    log_to_stderr("%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("waitress").setLevel(
        logging.ERROR
    )  # it warns of its queue's depth, which is reported to the engine anyway
    try:
        settings = from_environment(
            os.environ,
            default_roots=_worker_folders(),
            backend=given.backend,
            path=given.path,
            host=given.host,
            port=given.port,
            thread_safe=True if given.thread_safe else None,
        )
        engine_tls.install(os.environ)  # before anything makes a context of its own
    except SettingsError as error:
        return _give_up(str(error), 2)
    try:
        from nullworker.classic import loading, service, tls, wsgi_server  # noqa: PLC0415 - they need the extra, see below
    except ImportError as error:
        return _give_up(f"Classic backends need {error.name}; run: pip install 'nullworker[classic]'", 1)
    try:
        made = service.Service(settings, loading.load(settings.backend, settings.roots))
    except loading.BackendError as error:
        return _give_up(str(error), 1)
    try:
        ended_by = made.run()
    except (wsgi_server.PortError, tls.TlsError) as error:
        return _give_up(str(error), 1)
    except loading.BackendError as error:
        return _say(str(error), 1)  # the service has reported it to the engine
    return 130 if ended_by == signal.SIGINT else 0


def _worker_folders() -> tuple[Path, ...]:
    """Each folder ``workers`` on the import path, the current directory's first, and the clone's own last."""
    spec = importlib.util.find_spec("workers")
    found = spec.submodule_search_locations or () if spec is not None else ()
    return tuple(dict.fromkeys([*(Path(path).absolute() for path in found), OWN_WORKERS]))


def _give_up(problem: str, code: int) -> int:
    failure_report.report(os.environ, problem)
    return _say(problem, code)


def _say(problem: str, code: int) -> int:
    sys.stderr.write(f"nullworker.classic: {problem}\n")
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m nullworker.classic",
        description="Serves a backend of the classic guide: a folder with backend.py.",
        epilog="Example: python -m nullworker.classic helloworld --port 3000",
    )
    parser.add_argument("backend", nargs="?", help="the folder's name (default: BACKEND)")
    parser.add_argument("--path", metavar="DIR", help="where the folder lies (default: BACKEND_PATH, else workers/)")
    parser.add_argument(
        "--host", help="address to listen on (default: WORKER_HOST, else loopback unless an engine is set)"
    )
    parser.add_argument("--port", type=int, help="port to listen on (default: WORKER_PORT, else 3000)")
    parser.add_argument("--thread-safe", action="store_true", help="run handlers in parallel (default: one at a time)")
    return parser


def _leave(code: int) -> NoReturn:
    """Ends the process, though the backend may have begun threads that never end and were not made daemons."""
    lasting = [t.name for t in threading.enumerate() if t is not threading.main_thread() and not t.daemon]
    if not lasting:
        sys.exit(code)
    logging.getLogger(__name__).info("the backend's own threads are cut off: %s", ", ".join(lasting))
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _leave(main())
