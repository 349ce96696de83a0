"""What ``nullworker up`` shows: on a terminal one live screen, elsewhere a line whenever something has changed."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from nullworker.core import views

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from nullworker.cli.up.plan import Plan
    from nullworker.core.views import WorkerView
    from nullworker.dispatch.binding import BindingStatus
    from nullworker.engine.server import Server

DECISIONS_SHOWN = 8
LINES_SAID = 5
STYLE = {"held": "bold green", "ready": "green", "error": "red", "destroying": "dim"}
#: Decisions that the screen is for: the size of the fleet, and what workers come to.
LEVEL_MOST = 2


class Screen:
    """Shows an engine and what a dispatcher reads; a context manager."""

    def __init__(self, plan: Plan, server: Server, log_file: Path) -> None:
        self._plan = plan
        self._server = server
        self._log_file = log_file
        self._console = Console(highlight=False, soft_wrap=True)
        self._live = Live(console=self._console, refresh_per_second=5)
        self._queues: dict[str, BindingStatus] = {}
        self._said: list[str] = []
        self._printed: dict[str, str] = {}
        self._warned: set[str] = set()
        self._seen = len(server.decisions.about())

    def __enter__(self) -> Screen:  # noqa: PYI034 - final
        if self._console.is_terminal:
            self._live.start()
        else:
            names = ", ".join(endpoint.name for endpoint in self._plan.engine.endpoints)
            self._line(f"engine at {self._server.url}, endpoints: {names}; log: {self._log_file}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live.is_started:
            self._live.update(self.picture())
            self._live.stop()

    def say(self, sentence: str) -> None:
        """Shows a sentence."""
        self._said.append(sentence)
        if not self._live.is_started:
            self._line(sentence)

    def queue_changed(self, status: BindingStatus) -> None:
        """What a dispatcher reads of a queue, and wants for it."""
        self._queues[status.queue] = status

    async def run(self, look_s: float) -> None:
        """Looks and shows, until it is cancelled."""
        while True:
            if self._live.is_started:
                self._live.update(self.picture())
            else:
                self._print_changes()
            await asyncio.sleep(look_s)

    # ------------------------------------------------------------------------------------------------- lines

    def _print_changes(self) -> None:
        for queue, status in self._queues.items():
            if queue not in self._printed:
                name, _, url = queue.partition(" ")
                self._line(f"{name} serves {url}")
            line = queue_line(status)
            # The same but for its reasons is no news.
            if self._printed.get(queue) != line:
                self._printed[queue] = line
                self._line(line)
            for warning in warning_lines(status):
                if warning not in self._warned:
                    self._warned.add(warning)
                    self._line(warning)
        decisions = self._server.decisions.about()
        for decision in decisions[self._seen :]:
            if decision.level <= LEVEL_MOST and decision.worker_id:
                self._line(f"worker {decision.worker_id}: {decision.kind} ({decision.reason})")
        self._seen = len(decisions)

    def _line(self, text: str) -> None:
        print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)

    # ----------------------------------------------------------------------------------------------- picture

    def picture(self) -> Group:
        """The whole screen."""
        parts: list[Text | Table] = [Text(f"nullworker up  {time.strftime('%H:%M:%S')}  {self._server.url}", "bold")]
        for queue, status in self._queues.items():
            parts += [Text(queue.replace(" ", " serves ", 1), "dim"), Text(queue_line(status))]
            parts += [Text(warning, "yellow") for warning in warning_lines(status)]
        for endpoint in views.endpoints(self._server.driver.engine):
            if endpoint.why:
                parts.append(Text(f"{endpoint.name}: {endpoint.waiting} waiting for a worker because {endpoint.why}"))
        workers = views.workers(self._server.driver.engine)
        if workers:
            table = Table("worker", "state", "for", "request", "note", box=None, padding=(0, 2))
            for worker in workers:
                held = ", ".join(str(number) for number in worker.request_idxs)
                state = Text(worker.state, STYLE.get(worker.state, "yellow"))
                table.add_row(str(worker.id), state, f"{worker.for_s:.0f} s", held, note(worker))
            parts.append(table)
        else:
            parts.append(Text("no worker", "dim"))
        shown = [d for d in self._server.decisions.about() if d.level <= LEVEL_MOST and d.worker_id]
        for decision in shown[-DECISIONS_SHOWN:]:
            at = time.strftime("%H:%M:%S", time.localtime(decision.at_s))
            parts.append(Text(f"{at}  worker {decision.worker_id}: {decision.kind} ({decision.reason})", "dim"))
        parts += [Text(sentence, "bold yellow") for sentence in self._said[-LINES_SAID:]]
        return Group(*parts)


def queue_line(status: BindingStatus) -> str:
    """A queue in one line: what it has, what is wanted for it and why, and what is wrong."""
    waiting = "?" if status.waiting is None else str(status.waiting)
    text = f"{status.queue.partition(' ')[0]}: {waiting} waiting"
    text += "" if status.in_flight is None else f", {status.in_flight} in flight"
    text += f"; want {'?' if status.want is None else status.want}, {status.held} held, {status.asked} requested"
    text += f" ({status.reason})" if status.reason else ""
    return text + (f" | {status.trouble}" if status.trouble else "")


def warning_lines(status: BindingStatus) -> list[str]:
    """What a queue's settings will cost, a line each."""
    name = status.queue.partition(" ")[0]
    return [f"{name}: warning ({warning.code}): {warning.message}" for warning in status.warnings]


def note(worker: WorkerView) -> str:
    """What is wrong with a worker, or why it goes."""
    return worker.error or worker.retire or ("silent" if worker.suspect else "")
