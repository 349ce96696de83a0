"""`nullworker doctor --fleet vast`: what it would rent, and that it rents nothing."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from nullworker.cli import main as cli
from nullworker.fleets.vast import rest
from tests.integration.vast.fake_vast import KEY, FakeVast, offer

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


async def found_with(capsys: pytest.CaptureFixture[str], *flags: str) -> tuple[int, list[dict[str, Any]]]:
    code = await asyncio.to_thread(cli.run, cli.build(), ["doctor", "--json", *flags])
    return code, json.loads(capsys.readouterr().out)["findings"]


async def test_it_says_what_would_be_rented_and_rents_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rest, "SPACING_S", dict.fromkeys(rest.SPACING_S, 0.0))
    monkeypatch.setenv("NULLWORKER_VAST_KEY", KEY)
    async with FakeVast(tmp_path) as vast:
        vast.offers = [offer(1, dph_total=0.4), offer(2, dph_total=0.31), offer(3, num_gpus=2, dph_total=0.45)]
        file = tmp_path / "nullworker.toml"
        group = '[[endpoint.workergroup]]\nfleet = "vast"\n'
        file.write_text(
            f'[engine]\nstate = "{tmp_path}/state"\n[[endpoint]]\nname = "gpu"\n{group}{group}{group}gpus = 2\n'
            f'[fleet.vast]\nurl = "{vast.url}"\nrepository = "https://example.com/x.git"\n'
            "price_per_hour_max = 0.5\nspend_per_day_max = 10\n"
        )
        code, found = await found_with(capsys, "--config", str(file), "--fleet", "vast")
        assert (code, [each["level"] for each in found]) == (0, ["ok", "ok"]), "one for each kind of worker"
        assert found[0]["what"] == (
            "Vast would rent 1 x RTX 4090, on demand: machine 1002 (Sweden, SE, reliability 0.990), for $0.310 an hour "
            "with 20 GB of disk; 2 offers fit, and spend_per_day_max $10 pays for 32 hours of the best; nothing was "
            "rented."
        )
        assert found[1]["what"].startswith("Vast would rent 2 x RTX 4090")
        assert not (tmp_path / "state").exists()
        vast.offers = []
        code, found = await found_with(capsys, "--config", str(file), "--fleet", "vast")
        assert (code, found[0]["level"]) == (0, "warning")
        assert "Vast has no offer of 1 x GPU of any kind" in found[0]["what"]
        monkeypatch.setenv("NULLWORKER_VAST_KEY", "wrong")
        code, found = await found_with(capsys, "--config", str(file), "--fleet", "vast")
        assert (code, found[0]["level"]) == (1, "wrong")
        assert found[0]["what"].startswith("Vast refuses the key")
        assert "rent" not in vast.calls


async def test_what_cannot_be_asked_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = await found_with(capsys, "--fleet", "vast")
    assert (code, found[0]["what"]) == (1, "No configuration was named.")
    file = tmp_path / "nullworker.toml"
    file.write_text("")
    code, found = await found_with(capsys, "--config", str(file), "--fleet", "processes", "--fleet", "moon")
    assert code == 1
    assert found[0]["what"] == "The fleet processes cannot say what it would create."
    assert found[1]["what"].startswith("There is no fleet 'moon'")
