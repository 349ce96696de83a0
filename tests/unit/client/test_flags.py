"""The demo client's flags, in both their forms."""

from __future__ import annotations

from typing import Any

import click
import pytest
from click.testing import CliRunner

from nullworker.cli import reserve
from nullworker.client.flags import FLAGS, Options, build_parser


def by_argparse(*flags: str) -> Options:
    """The options as ``python -m workers.null.client`` has them."""
    return Options(**vars(build_parser("client").parse_args(flags)))


def by_click(*flags: str) -> Options:
    """The options as ``nullworker reserve`` has them."""
    seen: list[Options] = []

    def take(**values: Any) -> None:
        seen.append(Options(**values))

    command = click.Command("reserve", params=reserve.command.params, callback=take)
    result = CliRunner().invoke(command, flags)
    assert result.exit_code == 0, result.output
    return seen[0]


FORMS = pytest.mark.parametrize("form", [by_argparse, by_click])


@FORMS
def test_the_defaults_are_one_worker_for_three_minutes_on_prod(form: Any) -> None:
    """Starts 30 s apart and a cost of 100 belong to them."""
    assert form("--endpoint", "e") == Options(
        endpoint="e", count=1, hold=180.0, interval=30.0, cost=100.0, instance="prod", deadline=None, json=False
    )


@FORMS
def test_every_flag_can_be_given(form: Any) -> None:
    """And arrives as what it is."""
    flags = ("--endpoint", "e", "--count", "3", "--hold", "0", "--interval", "0.5", "--cost", "1e2")
    rest = ("--instance", "http://127.0.0.1:1", "--deadline", "9", "--json")
    assert form(*flags, *rest) == Options(
        endpoint="e",
        count=3,
        hold=0.0,
        interval=0.5,
        cost=100.0,
        instance="http://127.0.0.1:1",
        deadline=9.0,
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
        ("--endpoint", " "),
    ],
)
def test_values_without_sense_are_refused_in_both(flags: tuple[str, str]) -> None:
    """With exit code 2, the flag's name, and what it should be."""
    with pytest.raises(SystemExit) as ended:
        by_argparse("--endpoint", "e", *flags)
    assert ended.value.code == 2
    result = CliRunner().invoke(reserve.command, ["--endpoint", "e", *flags])
    assert result.exit_code == 2
    assert flags[0] in result.output


def test_help_tells_of_every_flag_and_gives_examples(capsys: pytest.CaptureFixture[str]) -> None:
    """In both forms, under their own names."""
    with pytest.raises(SystemExit):
        build_parser("python -m workers.null.client").parse_args(["--help"])
    shown = {"python -m workers.null.client": capsys.readouterr().out}
    shown["nullworker reserve"] = CliRunner().invoke(reserve.command, ["--help"]).output
    for name, wrapped in shown.items():
        text = " ".join(wrapped.split())
        assert f"{name} --endpoint my-endpoint" in text
        assert all(f"--{flag.name}" in text for flag in FLAGS)
        assert all(f"default: {flag.default}" in text for flag in FLAGS if flag.default)


def test_flags_and_options_are_the_same() -> None:
    """Each flag has its option, in that order."""
    assert [flag.name for flag in FLAGS] == list(Options.__dataclass_fields__)
