"""The tutorial, step by step, as it stands in the page: its files, its commands, in one folder and one shell."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e.follower import HANG_S, Follower, blocks
from tests.integration.queues.redis_server import redis_server

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = (Path(__file__).parents[2] / "docs/tutorial.md").read_text()
_PARTS = re.split(r"^## (\d+)\. .*$", PAGE, flags=re.MULTILINE)[1:]
STEPS = {int(number): blocks(text) for number, text in zip(_PARTS[::2], _PARTS[1::2], strict=True)}


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Follower]:
    """At step 2, with a Redis; the first step installs, as ``make fresh`` does."""
    (tmp_path / "redis").mkdir()
    with redis_server(tmp_path / "redis", "--notify-keyspace-events", "KA") as broker:
        own = {"redis://localhost/0": f"redis://127.0.0.1:{broker.port}/3", "/tmp/gpu": f"{tmp_path}/gpu"}
        reader = Follower(tmp_path, own)
        yield reader
        reader.end()


def test_the_steps_lead_from_nothing_to_a_celery_queue_with_a_worker_for_each_task(reader: Follower) -> None:
    assert list(STEPS) == list(range(1, 11))
    assert "make demo" in STEPS[1][0][1]
    for found in STEPS.values():
        reader.files(found)
    [said] = reader.commands(STEPS[2])
    assert "'waiting': 4" in said
    [said] = reader.commands(STEPS[3])
    assert said == "rendering frame 0 on GPU (any)\n"
    [said] = reader.commands(STEPS[4])
    assert "3 waiting, 0 in flight; want 2" in said
    [said] = reader.commands(STEPS[5])
    assert re.findall(r"rendering (frame \d)", said) == ["frame 2"]
    _, said = reader.commands(STEPS[6])
    assert "2 in flight; want 2, 2 held" in said
    assert set(re.findall(r"on GPU (\d)", printed(reader))) == {"0", "1"}
    [said] = reader.commands(STEPS[8], codes=(1,))  # the engine is not there yet
    assert "celery gpu" in said
    assert "warning" not in said
    _, status, story = reader.commands(STEPS[9])
    assert "gpu (endpoint " in status
    assert "gpu" in story
    reader.until_said("0 waiting, 0 in flight; want 0, 0 held")
    give_up_at = time.monotonic() + HANG_S
    while not all(f"rendering frame {number} on GPU" in printed(reader) for number in range(4)):
        assert time.monotonic() < give_up_at, printed(reader)
        time.sleep(0.1)
    unit = (reader.folder / "nullworker.service").read_text()
    assert "bin/nullworker up --config nullworker.toml --leave-jobs\n" in unit


def printed(reader: Follower) -> str:
    """All that consumers of workers that are gone have printed."""
    return "\n".join(file.read_text() for file in (reader.folder / "state").rglob("worker-*.log"))
