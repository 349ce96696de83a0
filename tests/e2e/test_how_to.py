"""The pages of docs/how-to: their files and commands, as they stand there, do what the pages say."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nullworker.queues import sqlite_jobs
from tests.e2e.follower import HANG_S, Follower, blocks

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGES = Path(__file__).parents[2] / "docs/how-to"
TESTED = {
    "install.md",
    "one-gpu-for-each-worker.md",
    "service.md",
    "upgrade.md",
    "move-the-engine.md",
    "secrets.md",
    "limit-spending.md",
    "what-it-cost.md",
    "why-not-starting.md",
    "ci.md",
}


@pytest.fixture
def follower(tmp_path: Path) -> Iterator[Follower]:
    """Has the consumer and the queue that the first page shows."""
    follower = Follower(tmp_path, {"/tmp/gpu": f"{tmp_path}/gpu", "sleep(1)": "sleep(0.3)"})
    follower.files(blocks(PAGES / "README.md"))
    yield follower
    follower.close()


def followed(follower: Follower, page: str, *, codes: tuple[int, ...] = (0,)) -> list[str]:
    found = blocks(PAGES / page)
    follower.files(found)
    return follower.commands(found, codes=codes)


def done(follower: Follower) -> dict[str, int]:
    return {state: count for state, count in sqlite_jobs.counts(follower.folder / "jobs.db").items() if count}


def test_every_page_is_listed_and_run() -> None:
    pages = {path.name for path in PAGES.glob("*.md")} - {"README.md"}
    listed = (PAGES / "README.md").read_text()
    assert pages == TESTED
    assert all(f"]({page})" in listed for page in pages)


def test_it_is_a_tool_with_a_version_help_and_completion(follower: Follower) -> None:
    version, shown, _ = followed(follower, "install.md")
    assert version.startswith("nullworker")
    assert "reserve" in shown
    [completed] = follower.commands(
        [("console", '$ eval "$(_NULLWORKER_COMPLETE=bash_source nullworker)" && complete -p\n')]
    )
    assert "nullworker" in completed


def test_each_consumer_has_a_gpu_of_its_own(follower: Follower) -> None:
    """Each job waits until one has begun on each GPU, so that two consumers run at once for certain."""
    begun = "len([name for name in os.listdir('.') if name.startswith('gpu-')])"
    on_both = f"[time.sleep(0.05) for _ in iter(lambda: {begun} == 2, True)]"
    follower.swaps["time.sleep(0.3)"] = f"(open('gpu-' + os.environ['CUDA_VISIBLE_DEVICES'], 'w').close(), {on_both})"
    follower.files(blocks(PAGES / "README.md"))
    followed(follower, "one-gpu-for-each-worker.md")
    assert done(follower) == {"done": 4}
    assert sorted(path.name for path in follower.folder.glob("gpu-*")) == ["gpu-0", "gpu-1"]
    printed = "\n".join(file.read_text() for file in (follower.folder / "state").rglob("worker-*.log"))
    assert {f"on GPU {gpu}" in printed for gpu in (0, 1)} == {True}


def test_what_the_service_runs(follower: Follower) -> None:
    followed(follower, "service.md")
    assert done(follower) == {"done": 1}
    unit = (follower.folder / "nullworker.service").read_text()
    assert "bin/nullworker up --config nullworker.toml --leave-jobs\n" in unit
    assert "KillMode=process" in unit


def test_jobs_outlive_an_upgrade(follower: Follower) -> None:
    follower.swaps["time.sleep(0.3)"] = "[time.sleep(0.05) for _ in iter(lambda: os.path.exists('go'), True)]"
    follower.files(blocks(PAGES / "README.md"))
    found = blocks(PAGES / "upgrade.md")
    follower.files(found)
    first, again = [block for block in found if block[0] == "console"]
    follower.commands([first])
    follower.until_said("2 held")
    assert "left running: 2 jobs" in follower.end()
    follower.commands([again])
    follower.until_said("taken over from an earlier run: 2 jobs")
    (follower.folder / "go").touch()
    follower.until_said("0 waiting, 0 in flight; want 0, 0 held")
    assert done(follower) == {"done": 3}


def test_an_engine_is_moved_with_its_directory(follower: Follower) -> None:
    before, _, after = followed(follower, "move-the-engine.md")
    assert "null-local (endpoint 1" in before
    assert after == before


def test_a_consumer_has_the_variable_that_is_named(follower: Follower) -> None:
    said = followed(follower, "secrets.md")
    assert "there is a token of 15 characters" in said[-1]
    assert "not-in-any-file" not in "".join(said)


def test_money_limits_how_many_are_held(follower: Follower) -> None:
    _, said = followed(follower, "limit-spending.md")
    assert "want 1, 1 held" in said
    assert "2 held" not in said
    assert done(follower) == {"done": 3}


def test_it_is_told_what_each_job_has_cost(follower: Follower) -> None:
    *_, days, jobs = followed(follower, "what-it-cost.md")
    assert done(follower) == {"done": 3}
    assert re.search(r"^  20\d\d-\d\d-\d\d .* 0\.00\d\d +$", days, re.MULTILINE)
    assert {row.split()[0] for row in jobs.splitlines()[1:-1]} == {"1", "2", "3", "all"}


def test_it_is_said_why_a_job_waits(follower: Follower) -> None:
    first, *others = [block for block in blocks(PAGES / "why-not-starting.md") if block[0] == "console"]
    follower.commands([first])
    follower.until_said("1 held")
    give_up_at = time.monotonic() + HANG_S
    while "2 waiting" not in (status := follower.commands(others[:1])[0]):  # of the queue, which is told once a second
        assert time.monotonic() < give_up_at, status
    endpoint, worker, _ = follower.commands(others[1:])
    assert "up (endpoint " in status
    assert "up" in endpoint
    assert "create" in worker


def test_a_run_in_ci_says_what_came_of_the_jobs(follower: Follower) -> None:
    *_, result = followed(follower, "ci.md")
    assert "'done': 3" in result
