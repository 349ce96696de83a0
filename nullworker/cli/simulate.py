"""``nullworker simulate``: endpoint parameters on a trace, this engine beside its rivals, and the hunt for faults."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import click

from nullworker.cli.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

    from nullworker.cli.charts import Choice
    from nullworker.core.parameters import Parameters
    from nullworker.simulation.traces import Job

EPILOG = """\b
Examples:
  nullworker simulate --trace jobs.csv
  nullworker simulate --trace jobs.csv --set cold_workers=2 --start-up 90 --price 0.40 --chart fleet.svg
  nullworker simulate --trace jobs.csv --sweep target_queue_time=0,0.5,5 --sweep cold_workers=0..4
  nullworker simulate --compare --chart rivals.svg
  nullworker simulate --seed 8812 --scenario everything
  nullworker simulate --dispatcher --seeds 500

A trace is a CSV with the columns arrival_s and duration_s, such as nullworker dispatch --history writes."""


#: Options of the core's simulator.
_OF_THE_CORE = {
    "scenario": "--scenario",
    "without": "--without",
    "without_clients": "--without-clients",
    "until_s": "--until",
    "crash_everywhere": "--crash-everywhere",
    "decided": "--decided",
    "soak": "--soak",
    "exhaustive": "--exhaustive",
    "trace": "--trace",
    "comparing": "--compare",
}


@click.command("simulate", epilog=EPILOG)
@click.option("--trace", type=click.Path(dir_okay=False, path_type=Path), help="Jobs by arrival and duration (CSV).")
@click.option("--endpoint", type=click.Path(dir_okay=False, path_type=Path), help="A TOML file with one [[endpoint]].")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="An endpoint parameter.")
@click.option("--start-up", type=click.FloatRange(0), default=60.0, show_default=True, help="Seconds a worker boots.")
@click.option("--price", type=click.FloatRange(0), default=0.0, help="Of one worker, an hour.")
@click.option("--sweep", "sweeps", multiple=True, metavar="NAME=A,B|A..B", help="Try all of these values.")
@click.option("--compare", "comparing", is_flag=True, help="This engine beside the rivals' documented rules.")
@click.option("--workload", default="", metavar="NAME", help="With --compare: this made-up workload alone.")
@click.option("--chart", type=click.Path(dir_okay=False, path_type=Path), help="Draw what comes out (PNG, SVG).")
@click.option("--seed", type=int, help="Hunt for broken promises: the world of this seed.")
@click.option("--dispatcher", is_flag=True, help="With --seed, --seeds: worlds of the dispatcher and brokers.")
@click.option("--seeds", type=click.IntRange(1), help="So many seeds, from --seed (or 1) on.")
@click.option("--scenario", default="", help="The kind of world; each seed has one of its own otherwise.")
@click.option("--without", multiple=True, metavar="FAULT", help="Leave this fault out of the seed's world.")
@click.option("--without-clients", default="", metavar="N,N-N", help="Leave these clients out.")
@click.option("--until", "until_s", type=float, help="Let all faults end at this time.")
@click.option("--shrink/--no-shrink", "shrinks", default=True, help="Look for the shortest history that fails so.")
@click.option(
    "--crash-everywhere", is_flag=True, help="Run the seed once more for each place that it can be killed at."
)
@click.option("--decided", is_flag=True, help="Of a failing seed: at which moment did it become inevitable?")
@click.option("--soak", is_flag=True, help="Run seeds on all cores until --minutes are up, and add to the record.")
@click.option("--minutes", type=click.FloatRange(0.01), default=10.0, show_default=True, help="How long to soak.")
@click.option("--record", type=click.Path(dir_okay=False, path_type=Path), help="Of soaks, in place of the docs'.")
@click.option("--exhaustive", is_flag=True, help="Walk through all states of small worlds (--scenario: of one).")
@click.option(
    "--states", type=click.IntRange(1), default=100_000, show_default=True, help="Of each, with --exhaustive."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(**options: Any) -> int:
    """Try an endpoint's parameters on a trace before they cost money; it is the engine's own code that decides."""
    if options["dispatcher"]:
        from nullworker.cli.hunt_dispatcher import hunt_dispatcher

        others = [flag for name, flag in _OF_THE_CORE.items() if options[name]]
        if others:
            raise click.UsageError(f"--dispatcher goes with --seed, --seeds and --json, not with {', '.join(others)}.")
        return hunt_dispatcher(options)
    if options["exhaustive"]:
        from nullworker.cli.exhaustive import exhaustive

        return exhaustive(options)
    if options["soak"]:
        from nullworker.cli.hunt import soak

        return soak(options["minutes"], options["scenario"], as_json=options["as_json"], record=options["record"])
    if options["seed"] is not None or options["seeds"] is not None or options["scenario"]:
        from nullworker.cli.hunt import hunt

        return hunt(options)
    return _study(options)


def _study(options: dict[str, Any]) -> int:
    from nullworker.core.parameters import ParameterError
    from nullworker.simulation.traces import TraceError

    if options["trace"] is None and not options["comparing"]:
        raise click.UsageError("Give --trace FILE, --compare, or --seed N.")
    if options["comparing"] and options["sweeps"]:
        raise click.UsageError("Give --compare or --sweep: one of them.")
    chart: Path | None = options["chart"]
    if chart is not None and chart.suffix.lower() not in (".png", ".svg"):
        raise UserError(f"--chart {chart} must end in .png or .svg.")
    try:
        parameters = _parameters(options)
        if options["comparing"]:
            return _compare(options, parameters)
        if options["sweeps"]:
            return _sweep(options, parameters)
        return _one(options, parameters)
    except (TraceError, ParameterError, ValueError) as error:
        raise UserError(str(error)) from None


def _parameters(options: dict[str, Any]) -> Parameters:
    from nullworker.core.parameters import TESTED_PARAMETERS

    parameters = replace(TESTED_PARAMETERS, max_workers=1000)
    if options["endpoint"] is not None:
        from nullworker.engine.config import ConfigError, load_config

        try:
            endpoints = load_config(options["endpoint"]).endpoints
        except ConfigError as error:
            raise UserError(str(error)) from None
        if len(endpoints) != 1:
            raise UserError(f"{options['endpoint']} has {len(endpoints)} endpoints; give a file with one.")
        parameters = endpoints[0].parameters
    given: dict[str, Any] = {}
    for text in options["settings"]:
        name, value = _split(text, "--set")
        given[name] = _number(name, value)
    return replace(parameters, **given)


def _split(text: str, option: str) -> tuple[str, str]:
    from nullworker.core.parameters import BOUNDS

    name, separator, value = text.partition("=")
    if not separator or name not in BOUNDS:
        raise UserError(f"{option} {text} is not NAME=VALUE with one of {', '.join(BOUNDS)}.")
    return name, value


def _number(name: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise UserError(f"{name} must be a number, not {text!r}.") from None
    return int(number) if name in ("cold_workers", "max_workers") and number.is_integer() else number


def _axis(text: str) -> tuple[str, list[float]]:
    name, values = _split(text, "--sweep")
    first, dots, last = values.partition("..")
    if dots:
        low, high = int(_number(name, first)), int(_number(name, last))
        if low > high:
            raise UserError(f"--sweep {text} is an empty range: the first number is the lower one.")
        return name, [float(number) for number in range(low, high + 1)]
    return name, [float(_number(name, value)) for value in values.split(",")]


def _jobs(path: Path) -> list[Job]:
    from nullworker.simulation.traces import read_trace

    return read_trace(path)


def _one(options: dict[str, Any], parameters: Parameters) -> int:
    from nullworker.simulation.outcome import feasible_s
    from nullworker.simulation.study import Setting, Study

    chart: Path | None = options["chart"]
    jobs = _jobs(options["trace"])
    study = Study(jobs, Setting(parameters, options["start_up"], timeline=chart is not None))
    show = sys.stderr.isatty() and not options["as_json"]
    outcome = study.run(lambda done: print(f"\r{done} of {len(jobs)} jobs", end="", file=sys.stderr) if show else None)
    if show:
        print("\r", end="", file=sys.stderr)
    row = outcome.row(feasible_s(study.windows, options["start_up"]), options["price"])
    if chart is not None:
        from nullworker.cli.charts import draw_timeline

        _draw(chart, lambda: draw_timeline(outcome.timeline, chart))
        row["chart"] = str(chart)
    if options["as_json"]:
        print(json.dumps(row, indent=2))
    else:
        for name, value in row.items():
            print(f"{name:12}  {value}")
    return 0


def _draw(chart: Path, draw: Callable[[], None]) -> None:
    try:
        draw()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(f"The chart {chart} cannot be written ({reason}); choose another file.") from None


def _draw_choices(options: dict[str, Any], panels: dict[str, list[Choice]], cost: str) -> None:
    chart: Path | None = options["chart"]
    if chart is not None:
        from nullworker.cli.charts import draw_choices

        _draw(chart, lambda: draw_choices(panels, cost, chart))
        if not options["as_json"]:
            print(f"chart: {chart}")


def _sweep(options: dict[str, Any], parameters: Parameters) -> int:
    from nullworker.cli.charts import Choice
    from nullworker.simulation.compare import sweep
    from nullworker.simulation.study import Setting

    axes: dict[str, list[float]] = {}
    for text in options["sweeps"]:
        for part in text.split():
            name, values = _axis(part)
            axes[name] = values
    found = sweep(_jobs(options["trace"]), Setting(parameters, options["start_up"]), axes)
    rows, choices = [], []
    for chosen, outcome, best in found:
        row = outcome.row(None, options["price"])
        worker_s = round(outcome.worker_s, 1)
        kept = {name: row[name] for name in ("killed", "unserved", "wait_p50_s", "wait_p95_s", "wait_p99_s", "peak")}
        cost = {"cost": row["cost"]} if "cost" in row else {}
        rows.append({**chosen, **kept, "worker_s": worker_s, "inactive_s": row["inactive_s"], **cost, "frontier": best})
        label = ", ".join(f"{name}={value:g}" for name, value in chosen.items()) if best else ""
        choices.append(Choice(label, worker_s, row["wait_p95_s"], best, bool(row["killed"])))
    if options["as_json"]:
        print(json.dumps(rows, indent=2))
    else:
        _table(rows)
        print("frontier: no other set is better on p95 wait without more worker-seconds, or the other way round")
    _draw_choices(options, {options["trace"].name: choices}, "worker-seconds")
    return 0


def _compare(options: dict[str, Any], parameters: Parameters) -> int:
    from nullworker.cli.charts import Choice
    from nullworker.simulation.compare import compare
    from nullworker.simulation.rivals import rivals
    from nullworker.simulation.study import OWN
    from nullworker.simulation.traces import SYNTHETIC

    def begins(policy: str) -> None:
        if show:
            print(f"\r\033[K{name}: {policy} ", end="", file=sys.stderr, flush=True)

    if options["trace"] is not None:
        traces = {options["trace"].name: _jobs(options["trace"])}
    else:
        chosen = options["workload"]
        if chosen and chosen not in SYNTHETIC:
            raise UserError(f"--workload {chosen} is none of {', '.join(SYNTHETIC)}.")
        traces = {name: make(Random(1)) for name, make in SYNTHETIC.items() if chosen in ("", name)}
    answers, panels = [], {}
    show = sys.stderr.isatty()
    for name, jobs in traces.items():
        found = compare(name, jobs, parameters, options["start_up"], lambda: Random(7), begins)
        if show:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
        beaten = found.beaten_by()
        rows = found.rows(options["price"])
        panels[name] = [
            Choice(row["policy"], row["over_bound"], row["wait_p95_s"], row["policy"] == OWN, row["killed"] > 0)
            for row in rows
        ]
        answers.append(
            {
                "trace": name,
                "jobs": len(jobs),
                "beaten_by": beaten,
                "rows": rows,
                "rules": {rule.name: rule.source for rule in rivals()},
            }
        )
        if options["as_json"]:
            continue
        print(f"\n{name}: {len(jobs)} jobs, a worker boots {options['start_up']:g} s, over_bound is worker-seconds")
        columns = (
            "policy",
            "killed",
            "unserved",
            "wait_p50_s",
            "wait_p95_s",
            "wait_p99_s",
            "over_bound",
            "peak",
            "cost",
        )
        _table([{key: row[key] for key in columns if key in row} for row in rows])
        if beaten:
            print(f"better on waits and cost at once: {', '.join(beaten)}")
    if options["as_json"]:
        print(json.dumps(answers, indent=2))
    _draw_choices(options, panels, "worker-seconds over the bound's")
    return 0


def _table(rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    from nullworker.cli.printing import console_of_lines

    table = Table(box=None, padding=(0, 2))
    for name in rows[0]:
        table.add_column(name, justify="left" if name == "policy" else "right", no_wrap=True)
    for row in rows:
        table.add_row(*("yes" if v is True else "" if v is False else f"{v:g}" if isinstance(v, float) else str(v)
                        for v in row.values()))  # fmt: skip
    console_of_lines(folds=False).print(table)  # a table of numbers that is folded cannot be read
