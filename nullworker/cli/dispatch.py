"""``nullworker dispatch``: keeps as many reservations as a queue has work."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nullworker.cli.errors import UserError
from nullworker.wire import tasks

if TYPE_CHECKING:
    from collections.abc import Callable

    from nullworker.cli.metrics_port import MetricsPort
    from nullworker.dispatch.binding import BindingSettings, BindingStatus
    from nullworker.dispatch.dispatcher import Dispatcher
    from nullworker.dispatch.settings import DispatchSettings
    from nullworker.queues.base import Depth, QueueInfo

EPILOG = """\b
Examples:
  nullworker dispatch --endpoint null-local --queue sqlite://./jobs.db --max 4
  nullworker dispatch --queue 'celery+redis://localhost/0?queue=celery' --check
  nullworker dispatch --endpoint gpu --queue 'rq://localhost/0?queue=default' --instance prod --price 0.4 --max-daily 9
  nullworker dispatch --config nullworker.toml

Reads the queue and takes nothing from it. Ctrl-C withdraws waiting requests and ends no held reservation: the next
start adopts those. docs/dispatcher.md says more."""

#: A signal ends the dispatcher within this time: waiting requests are withdrawn, which takes their workers' answers.
END_S = 20.0
#: A second one within this: what is under way is left for the next start, which finds it in the store.
HURRY_S = 1.0
_TIME = "%H:%M:%S"  # of a line, printed as well as logged
NO_ENDPOINT = "(none)"  # where only a queue is checked


@click.command("dispatch", epilog=EPILOG)
@click.option("--endpoint", help="The endpoint to reserve workers of.")
@click.option("--queue", metavar="URL", help="The queue to read; docs/queues.md lists the kinds.")
@click.option("--max", "most", type=click.IntRange(0), default=16, show_default=True, help="Reservations at most.")
@click.option(
    "--jobs-per-worker", type=click.IntRange(1), default=1, show_default=True, help="Jobs for each reservation."
)
@click.option("--instance", metavar="prod|alpha|candidate|local|URL", help="The engine  [default: local]")
@click.option("--poll", "poll_s", type=float, default=1.0, show_default=True, help="Seconds between two readings.")
@click.option("--cost", type=float, default=100.0, show_default=True, help="What a reservation takes, in perf units.")
@click.option(
    "--lifetime", "lifetime_s", type=float, default=600.0, show_default=True,
    help="Seconds that a worker stays held without a keep-alive from here.",
)  # fmt: skip
@click.option(
    "--claim", "claim_s", type=float, default=30.0, show_default=True,
    help="Seconds in which a consumer takes its first job; matters where the broker does not tell what is in flight, "
    "and with --max-idle-hold.",
)  # fmt: skip
@click.option(
    "--end-idle", "end_idle_s", type=float, metavar="SECONDS",
    help="Release held workers after this long with nothing waiting or in flight; only for consumers that acknowledge "
    "a job after it is done.",
)  # fmt: skip
@click.option(
    "--max-idle-hold", "max_idle_hold_s", type=float, metavar="SECONDS",
    help="Release a held worker whose job has been over for so long, with nothing in flight, though its consumer does "
    "not end, or which took none while none waited; only for consumers that acknowledge a job after it is done.",
)  # fmt: skip
@click.option(
    "--price", type=float, default=0.0, help="Price of one worker for an hour; needed by the limits on money."
)
@click.option("--max-hourly", type=float, help="Open no more than this costs an hour.")
@click.option("--max-daily", type=float, help="Open nothing more once this much was spent in 24 hours.")
@click.option("--cap", type=click.IntRange(0), help="Reservations of all queues together.")
@click.option("--config", type=click.Path(dir_okay=False, path_type=Path), help="A file with [dispatch] in it.")
@click.option(
    "--state",
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory of the dispatcher's database, dispatch.db.",
)
@click.option(
    "--history", type=click.Path(dir_okay=False, path_type=Path),
    help="Keep a trace of arrivals and durations in this file (CSV), for nullworker simulate.",
)  # fmt: skip
@click.option(
    "--check", is_flag=True,
    help="Read the queue once, print what it shows, warn of likely problems; with --endpoint, ask the engine as well.",
)  # fmt: skip
@click.option(
    "--metrics-port", type=click.IntRange(1, 65535),
    help="Serve the queues' metrics for Prometheus on this port of 127.0.0.1; an engine of nullworker has them anyway.",
)  # fmt: skip
@click.option("--until-empty", is_flag=True, help="End when the queue is empty and nothing is held.")
@click.option("--api-key", help="The engine's key; else VAST_API_KEY, else the local engine's own.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def command(**options: Any) -> int:
    """Keep one reservation for each job that waits or is in flight, and end none whose job may be running."""
    from nullworker.dispatch.settings import DispatchSettingsError
    from nullworker.dispatch.store import DispatchStoreError
    from nullworker.queues.base import QueueError

    try:
        settings = _settings(options)
        store_file = _store_file(options["state"])
        if options["check"]:
            return asyncio.run(_check(settings, store_file, options["api_key"], as_json=options["as_json"]))
        return _dispatch(settings, store_file, options)
    except (DispatchSettingsError, QueueError, DispatchStoreError) as error:
        raise UserError(str(error)) from None


def _store_file(state: Path | None) -> Path:
    from nullworker.client.instances import state_directory

    return (state or state_directory()) / "dispatch.db"


def _settings(options: dict[str, Any]) -> DispatchSettings:
    from dataclasses import replace

    from nullworker.dispatch.budget import Budget
    from nullworker.dispatch.settings import DispatchSettings, check_binding, check_settings

    if options["config"] is not None:
        from nullworker.dispatch.settings_file import load_settings

        if options["queue"] or options["endpoint"]:
            raise click.UsageError("Give --config, or --endpoint and --queue, not both.")
        settings = load_settings(options["config"])
    else:
        settings = DispatchSettings((check_binding(_binding(options), spelled=_flag),))
    budget = Budget(
        settings.budget.hourly if options["max_hourly"] is None else options["max_hourly"],
        settings.budget.daily if options["max_daily"] is None else options["max_daily"],
    )
    settings = replace(
        settings,
        budget=budget,
        instance=options["instance"] or settings.instance,
        cap=settings.cap if options["cap"] is None else options["cap"],
        trace_file=str(options["history"]) if options["history"] else settings.trace_file,
    )
    return check_settings(settings)


def _flag(key: str) -> str:
    """The flag that sets the same as a key of the file."""
    return "--price" if key == "price_per_hour" else f"--{key.removesuffix('_s').replace('_', '-')}"


def _binding(options: dict[str, Any]) -> BindingSettings:
    from nullworker.dispatch.binding import BindingSettings

    missing = [f"--{name}" for name in ("endpoint", "queue") if not options[name]]
    if missing and not (options["check"] and missing == ["--endpoint"]):
        raise click.UsageError(f"Missing option '{missing[0]}' (or --config).")
    return BindingSettings(
        endpoint=options["endpoint"] or NO_ENDPOINT,
        queue=options["queue"],
        most=options["most"],
        jobs_per_worker=options["jobs_per_worker"],
        poll_s=options["poll_s"],
        cost=options["cost"],
        lifetime_s=options["lifetime_s"],
        claim_s=options["claim_s"],
        end_idle_s=options["end_idle_s"],
        max_idle_hold_s=options["max_idle_hold_s"],
        price_per_hour=options["price"],
    )


# ---------------------------------------------------------------------------------------------------------------- check


async def _check(settings: DispatchSettings, store_file: Path, api_key: str | None, *, as_json: bool) -> int:
    from nullworker.client.errors import ClientError
    from nullworker.queues.base import QueueError

    errors = []
    for binding in settings.bindings:
        try:
            await _check_queue(binding, store_file, as_json=as_json)
        except QueueError as error:
            errors.append(str(error))
    endpoints = [binding.endpoint for binding in settings.bindings if binding.endpoint != NO_ENDPOINT]
    if endpoints:
        try:
            await _check_engine(settings.instance, api_key, endpoints, as_json=as_json)
        except ClientError as error:
            errors.append(str(error))
    for sentence in errors:
        if as_json:
            print(json.dumps({"error": sentence}), flush=True)
        print(f"error: {sentence}", file=sys.stderr)
    return 1 if errors else 0


async def _check_queue(binding: BindingSettings, store_file: Path, *, as_json: bool) -> None:
    from dataclasses import asdict

    from nullworker.queues.registry import open_queue

    async with await open_queue(binding.queue) as queue:
        info, depth = await queue.info(), await queue.depth()
    advice = _advice(binding, info, store_file)
    if as_json:
        print(json.dumps({"info": asdict(info), "depth": asdict(depth), "advice": advice}), flush=True)
    else:
        _show(info, depth, advice)


async def _check_engine(instance: str, api_key: str | None, endpoints: list[str], *, as_json: bool) -> None:
    from nullworker.client import NullClient
    from nullworker.client.instances import find_instance
    from nullworker.dispatch.dispatcher import check_endpoints

    _silence_libraries()
    engine = find_instance(instance).label
    async with NullClient(instance, api_key) as client:
        await check_endpoints(client, engine, endpoints)
    if as_json:
        print(json.dumps({"engine": engine, "endpoints": endpoints}), flush=True)
    else:
        print(f"engine {engine}: accepts the key, and has {', '.join(dict.fromkeys(endpoints))}")


def _show(info: QueueInfo, depth: Depth, advice: list[str]) -> None:
    in_flight = "unknown" if depth.in_flight is None else str(depth.in_flight)
    print(f"{info.kind} {info.name} ({info.broker})")
    text = f"  {depth.waiting} waiting, {in_flight} in flight, {depth.delayed} delayed"
    text += f", {depth.abandoned} abandoned" if depth.abandoned else ""
    text += f", {depth.redelivered} redelivered" if depth.redelivered else ""
    text += f", {depth.parallel_max} at a time at most" if depth.parallel_max is not None else ""
    print(text + (", paused" if depth.paused else "") + ("" if depth.exact else " (not exact)"))
    how = "announces changes" if info.pushes else "is polled"
    lease = f", redelivers a job after {info.lease_s:g} s" if info.lease_s else ""
    late = f"may be {info.lag_s:g} s late" if info.lag_s else "are current"
    print(f"  the broker {how}, its numbers {late}{lease}")
    for warning in info.warnings:
        print(f"  warning ({warning.code}): {warning.message}")
    for sentence in advice:
        print(f"  warning: {sentence}")


def _advice(binding: BindingSettings, info: QueueInfo, store_file: Path) -> list[str]:
    """Likely problems, by the settings and by what this dispatcher has stored."""
    from nullworker.dispatch.store import DispatchStore

    advice = []
    for flag, value in (("--end-idle", binding.end_idle_s), ("--max-idle-hold", binding.max_idle_hold_s)):
        if value is not None and info.lag_s > 0:
            advice.append(f"{flag} has no effect here: the broker's numbers may be {info.lag_s:g} s late.")
    if store_file.exists():
        with contextlib.closing(DispatchStore(store_file)) as store:
            longest_s = store.longest_held_s(binding.name)
        if info.lease_s and longest_s > info.lease_s:
            advice.append(
                f"Reservations were held for up to {longest_s:.0f} s, and the broker redelivers a job after "
                f"{info.lease_s:g} s: raise that lease, or renew it during the job (docs/consumer.md)."
            )
    return advice


# ------------------------------------------------------------------------------------------------------------- dispatch


def _silence_libraries() -> None:
    for name in ("aio_pika", "aiormq"):  # their errors are reported in a sentence of ours
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _dispatch(settings: DispatchSettings, store_file: Path, options: dict[str, Any]) -> int:
    from nullworker.dispatch.dispatcher import Dispatcher
    from nullworker.wire.output import OutputWriter, log_to_stderr

    log_to_stderr("%(asctime)s  %(message)s", at=_TIME)
    _silence_libraries()

    async def run(output: OutputWriter) -> int:
        signals = _Signals()
        endpoints = [binding.endpoint for binding in settings.bindings]
        printer = _StatusPrinter(output.add, as_json=options["as_json"], short=len(set(endpoints)) == len(endpoints))
        try:
            async with _metrics_port(options["metrics_port"]) as metrics:
                dispatcher = Dispatcher(
                    settings.bindings,
                    instance=settings.instance,
                    api_key=options["api_key"],
                    store_file=store_file,
                    shared_cap=settings.cap,
                    budget=settings.budget,
                    trace_file=Path(settings.trace_file) if settings.trace_file else None,
                    on_change=printer.print_change,
                )
                if metrics is not None:
                    metrics.bindings = dispatcher.bindings
                async with dispatcher:
                    adopted = dispatcher.adopt()
                    if adopted:
                        logging.getLogger(__name__).info(
                            "%d reservations of an earlier dispatcher are adopted", adopted
                        )
                    return await _run_until_signal(dispatcher, signals, until_empty=options["until_empty"])
        except asyncio.CancelledError:
            if not signals.received:
                raise
            return signals.exit_code  # it came before anything was dispatched

    with OutputWriter(sys.stdout.fileno()) as output:
        return asyncio.run(run(output))


def _metrics_port(port: int | None) -> contextlib.AbstractAsyncContextManager[MetricsPort | None]:
    if port is None:
        return contextlib.nullcontext()
    from nullworker.cli.metrics_port import serving

    return serving(port)


class _Signals:
    """SIGINT and SIGTERM: the first asks for an end, a second for one at once. Either has its bound."""

    def __init__(self) -> None:
        """Listens from now on. Until there is something gentler to stop, a signal cancels the task that made this."""
        task = asyncio.current_task()
        assert task is not None
        self.received = self.exit_code = 0
        self._stop: Callable[[], object] = task.cancel
        for signum in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(signum, self._receive, signum)

    def stops(self, stop: Callable[[], object]) -> None:
        """The next signal calls ``stop``."""
        self._stop = stop

    def _receive(self, signum: int) -> None:
        from nullworker.cli.ending import end_within

        self.received += 1
        if self.received == 1:
            self.exit_code = 130 if signum == signal.SIGINT else 0
        end_within(END_S if self.received == 1 else HURRY_S, self.exit_code)
        self._stop()


async def _run_until_signal(dispatcher: Dispatcher, signals: _Signals, *, until_empty: bool) -> int:
    running = tasks.start(dispatcher.run(until_empty=until_empty))
    signals.stops(running.cancel)
    try:
        await running
    except asyncio.CancelledError:
        if not signals.received:
            raise
    if not signals.received:
        return 0
    draining = tasks.start(dispatcher.drain())
    signals.stops(draining.cancel)
    try:
        held = await draining
    except asyncio.CancelledError:
        held = sum(binding.holding for binding in dispatcher.bindings)
    if held:
        logging.getLogger(__name__).warning(
            "%d reservations stay held for their jobs; start nullworker dispatch again to adopt them.", held
        )
    return signals.exit_code


class _StatusPrinter:
    """Prints a line when something has changed: with its time, and the name of its endpoint where that is enough."""

    def __init__(self, write: Callable[[str], None], *, as_json: bool, short: bool) -> None:
        """Prints nothing yet.

        Args:
            write: takes a line.
            as_json: whether each is JSON.
            short: whether no two queues have one endpoint, so that a line need not have the queue's URL.
        """
        self._write = write
        self._as_json = as_json
        self._short = short
        self._printed: dict[str, BindingStatus] = {}

    def print_change(self, status: BindingStatus) -> None:
        """Prints the status of a binding, unless it differs from the last one in its reasons alone."""
        from dataclasses import asdict, replace

        state = replace(status, reason="", waits_because="")
        before = self._printed.get(status.queue)
        if before == state:
            return
        self._printed[status.queue] = state
        if self._as_json:
            shown = asdict(status)
            del shown["waits_because"]
            self._write(json.dumps(shown))
            return
        endpoint, _, url = status.queue.partition(" ")
        name = endpoint if self._short else status.queue
        if before is None and self._short:
            self._line(f"{endpoint} serves {url}")
        text = f"{name}: want {'?' if status.want is None else status.want} ({status.reason}), "
        doing = ", ".join(f"{count} {what}" for what, count in sorted(status.doing.items()))
        text += f"{status.held} held{f' ({doing})' if doing else ''}, {status.asked} requested"
        text += f" ({status.waits_because})" if status.waits_because else ""
        self._line(text + (f" | {status.trouble}" if status.trouble else ""))
        told = {warning.code for warning in before.warnings} if before is not None else set()
        for warning in status.warnings:
            if warning.code not in told:
                self._line(f"{name}: warning ({warning.code}): {warning.message}")

    def _line(self, text: str) -> None:
        self._write(f"{time.strftime(_TIME)}  {text}")
