"""The flags of ``nullworker reserve``, which ``python -m workers.null.client`` has, too."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click
import pytest
from click.testing import CliRunner

from nullworker.cli import reserve
from nullworker.cli.reserve import Options
from workers.null import client

if TYPE_CHECKING:
    from collections.abc import Callable

FLAGS = ("endpoint", "count", "hold", "interval", "cost", "instance", "deadline", "payload", "json")


def form(*flags: str) -> Options:
    """The options that come of ``flags``."""
    seen: list[Options] = []

    def take(**values: Any) -> None:
        seen.append(Options(**values))

    command = click.Command("reserve", params=reserve.command.params, callback=take)
    result = CliRunner().invoke(command, flags)
    assert result.exit_code == 0, result.output
    return seen[0]


def test_the_defaults_are_one_worker_for_three_minutes_on_prod() -> None:
    """Starts 30 s apart and a cost of 100 belong to them."""
    assert form("--endpoint", "e") == Options(
        endpoint="e", count=1, hold=180.0, interval=30.0, cost=100.0, instance="prod", deadline=None, payload=None,
        json=False,
    )  # fmt: skip


def test_as_a_command_of_ours_it_asks_the_engine_on_this_machine() -> None:
    """Like all the others; as a module of its own it is Vast's null worker's client."""
    seen: list[Options] = []

    def take(**values: Any) -> None:
        seen.append(Options(**values))

    group = click.Group(commands=[click.Command("reserve", params=reserve.command.params, callback=take)])
    result = CliRunner().invoke(group, ["reserve", "--endpoint", "e"])
    assert result.exit_code == 0, result.output
    assert seen[0].instance == "local"


def test_every_flag_can_be_given() -> None:
    """And arrives as what it is."""
    flags = ("--endpoint", "e", "--count", "3", "--hold", "0", "--interval", "0.5", "--cost", "1e2")
    rest = ("--instance", "http://127.0.0.1:1", "--deadline", "9", "--payload", '{"job": 17}', "--json")
    assert form(*flags, *rest) == Options(
        endpoint="e",
        count=3,
        hold=0.0,
        interval=0.5,
        cost=100.0,
        instance="http://127.0.0.1:1",
        deadline=9.0,
        payload={"job": 17},
        json=True,
    )


@pytest.mark.parametrize(
    "flags",
    [
        *(("--count", text) for text in ("0", "-1", "1.5", "x", "10001", "")),
        *(("--hold", text) for text in ("-1", "nan", "inf", "x")),
        *(("--interval", text) for text in ("-0.1", "inf")),
        *(("--cost", text) for text in ("0", "-1", "nan")),
        *(("--deadline", text) for text in ("0", "x")),
        *(("--instance", text) for text in ("beta", "ftp://e")),
        *(("--payload", text) for text in ("17", "[]", "{", "")),
        ("--endpoint", " "),
    ],
)
def test_values_without_sense_are_refused(flags: tuple[str, str]) -> None:
    """With exit code 2, the flag's name, and what it should be."""
    result = CliRunner().invoke(reserve.command, ["--endpoint", "e", *flags])
    assert result.exit_code == 2
    assert flags[0] in result.output


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs ``python -m workers.null.client``: exit code, output, complaints."""

    def run(*flags: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["client.py", *flags])
        code = client.main()
        return code, *capsys.readouterr()

    return run


def test_help_tells_of_every_flag_and_gives_examples(module: Callable[..., tuple[int, str, str]]) -> None:
    """In both forms, under their own names."""
    help_of = {"python -m workers.null.client": module("--help")[1]}
    group = click.Group("nullworker", commands=[reserve.command])
    help_of["nullworker reserve"] = CliRunner().invoke(group, ["reserve", "--help"], prog_name="nullworker").output
    for name, wrapped in help_of.items():
        text = " ".join(wrapped.split())
        assert f"Usage: {name}" in text
        assert f" {name} --endpoint my-endpoint" in text
        assert all(f"--{flag}" in text for flag in FLAGS)
        assert all(f"default: {default}" in text for default in ("1", "180", "30", "100", "local; prod for"))
        assert f"\n    {name} --endpoint my-endpoint --count 3" in wrapped, "examples are not folded"


def test_flags_and_options_are_the_same() -> None:
    """Each flag has its option, in that order."""
    assert [parameter.name for parameter in reserve.command.params] == list(FLAGS)
    assert list(Options.__dataclass_fields__) == list(FLAGS)


@pytest.mark.parametrize("name", ["aiohttp", "click"])
def test_the_module_says_what_it_misses(
    module: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """In a clone where nothing is installed."""

    def fail(*_: object, **__: object) -> int:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr("nullworker.cli.main.run", fail)
    code, _, complaint = module("--endpoint", "e")
    assert code == 1
    assert complaint.startswith(f"error: {name} is not installed; run: pip install nullworker")
