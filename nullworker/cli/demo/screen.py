"""What the demo shows while it runs: on a terminal a picture that moves, elsewhere a line when something changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from nullworker.wire.printable import printable

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from nullworker.cli.demo.history import Moment
    from nullworker.cli.demo.stage import Summary

_STYLE = {"held": "bold green", "ready": "green", "destroying": "dim", "error": "red"}


class Screen:
    """Shows moments; a context manager."""

    def __init__(self, jobs: int, *, quiet: bool = False) -> None:
        self._jobs = jobs
        self._quiet = quiet
        self._console = Console()
        self._live = Live(console=self._console, refresh_per_second=10, transient=True)
        self._said: tuple[int, ...] = ()
        self._page = ""

    def __enter__(self) -> Self:
        if self._console.is_terminal and not self._quiet:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live.is_started:
            self._live.stop()

    def page(self, url: str, key: str) -> None:
        """Where to look while it runs."""
        self._page = f"to watch it, open {url} and sign in with {key}"
        if not self._quiet and not self._live.is_started:
            print(self._page, flush=True)

    def show(self, moment: Moment, workers: list[dict[str, Any]]) -> None:
        """Shows one moment."""
        if self._quiet:
            return
        if self._live.is_started:
            self._live.update(self._picture(moment, workers))
            return
        said = (moment.waiters, moment.booting, moment.ready, moment.held, moment.leaving, moment.done)
        if said != self._said:
            self._said = said
            print(f"{moment.at_s:6.1f} s  {self._line(moment)}", flush=True)

    def _line(self, m: Moment) -> str:
        return (
            f"jobs {m.done}/{self._jobs} done, {m.waiting_jobs} waiting | workers {m.booting} booting, {m.ready} free, "
            f"{m.held} held, {m.leaving} leaving | {m.waiters} waiting for a worker"
        )

    def _picture(self, m: Moment, workers: list[dict[str, Any]]) -> Group:
        table = Table("worker", "state", "for", "reservation", box=None, padding=(0, 2))
        for worker in workers:
            state = str(worker["state"])
            held = ", ".join(f"request {idx}" for idx in worker["request_idxs"])
            style = _STYLE.get(state, "yellow")
            table.add_row(str(worker["id"]), Text(state, style=style), f"{worker['for_s']:.1f} s", held)
        width = 40
        full = round(width * m.done / max(1, self._jobs))
        bar = Text.assemble(("█" * full, "green"), ("░" * (width - full), "dim"), f" {m.done}/{self._jobs} jobs")
        numbers = Text(f"{m.at_s:5.1f} s   {self._line(m)}")
        return Group(Text("nullworker demo", style="bold"), Text(self._page, style="dim"), bar, numbers, table)

    def finish(self, summary: Summary) -> None:
        """Prints the one summary."""
        if self._quiet:
            return
        s = summary
        rows = [
            ("jobs", f"{s.jobs_done} done, {s.jobs_failed} failed, {s.jobs_lost} lost"),
            ("reservations", f"{s.reservations} opened, at most {s.peak_workers} workers at once"),
            (
                "worker-seconds",
                f"{s.worker_seconds_held} held, {s.worker_seconds_idle} idle, {s.worker_seconds_booting} booting",
            ),
            ("from zero to the first grant", f"{s.first_grant_s} s"),
            ("left at the end", f"{s.workers_left} workers, {s.processes_left} processes"),
            ("took", f"{s.total_s} s"),
        ]
        if s.picture:
            rows.append(("picture", s.picture))
        rows.append(("timeline", s.timeline))
        if s.output:
            rows.append(("what the jobs printed", s.output))
        if s.first_failure:
            rows.append(("the first that failed", printable(s.first_failure)))
        for name, value in rows:
            print(f"{name + ':':31}{value}")
