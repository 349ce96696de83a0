"""A worker that cannot start: one sentence, exit code 1, an error report, and nothing left running."""

from __future__ import annotations

import contextlib
import socket
import sys
from typing import TYPE_CHECKING

import pytest

from tests.integration import null_worker_kit as kit
from tests.integration.instance_files import no_instance_certificate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

#: For a sitecustomize.py: the interpreter finds no vastai, whatever is installed.
WITHOUT_VASTAI = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name == "vastai":
            raise ModuleNotFoundError("No module named 'vastai'", name="vastai")

sys.meta_path.insert(0, Missing())
"""


@pytest.fixture
async def engine() -> AsyncIterator[kit.StubEngine]:
    async with kit.StubEngine().running() as stub:
        yield stub


async def ended(env: dict[str, str], directory: Path) -> tuple[int, str]:
    """Exit code and output of a worker that is expected to end by itself."""
    async with kit.worker(env, directory) as worker:
        code = await worker.exit_code()
        assert kit.session_pids(worker.process.pid) == []
        return code, worker.log


def is_one_sentence(output: str) -> bool:
    lines = [line for line in output.splitlines() if line.startswith("null worker: ")]
    return len(lines) == 1 and "Traceback" not in output


@pytest.mark.parametrize("name", ["CONTAINER_ID", "REPORT_ADDR", "WORKER_PORT", "PUBLIC_IPADDR", "VAST_TCP_PORT_"])
async def test_an_unset_variable_is_named(engine: kit.StubEngine, tmp_path: Path, name: str) -> None:
    full = kit.worker_env(engine.url)
    env = {key: value for key, value in full.items() if not key.startswith(name)}
    code, output = await ended(env, tmp_path)
    assert code == 1
    assert is_one_sentence(output), output
    assert output.startswith(f"null worker: {name}")
    if name not in ("CONTAINER_ID", "REPORT_ADDR"):  # without them it has no engine to report to, or no id to report
        [report] = engine.reports
        assert report.path == "/worker_status/"
        assert report.body["error_msg"] == output.removeprefix("null worker: ").strip()
        assert set(report.body) == {"id", "mtoken", "version", "error_msg", "url"}


@pytest.mark.parametrize("name", ["WORKER_PORT", "WORKER_HTTP_PORT", "NULL_CONTROL_PORT"])
async def test_a_port_that_is_taken_is_named(engine: kit.StubEngine, tmp_path: Path, name: str) -> None:
    env = kit.worker_env(engine.url)
    with socket.create_server(("127.0.0.1", int(env[name]))):
        code, output = await ended(env, tmp_path)
    assert code == 1
    assert is_one_sentence(output), output
    assert f"Port {env[name]} is taken" in output
    assert name in output
    assert [report.body["error_msg"] in output for report in engine.reports] == [True]


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ({"NULL_CONSUMER": "no-such-program --flag"}, "no program 'no-such-program'"),
        ({"BACKEND_HEALTH_URL": "/health"}, "BACKEND_HEALTH_URL"),
        ({"MASTER_TOKEN": ""}, "MASTER_TOKEN is not set"),
        ({"WORKER_HOST": "203.0.113.7"}, "no address of this machine"),
    ],
)
async def test_what_cannot_work_is_said_and_reported(
    engine: kit.StubEngine, tmp_path: Path, own: dict[str, str], words: str
) -> None:
    await said_and_reported(engine, tmp_path, own, words)


async def test_a_certificate_that_is_missing_is_said_and_reported(engine: kit.StubEngine, tmp_path: Path) -> None:
    with no_instance_certificate():
        await said_and_reported(engine, tmp_path, {"USE_SSL": "true"}, "start_server.sh makes them")


async def said_and_reported(engine: kit.StubEngine, tmp_path: Path, own: dict[str, str], words: str) -> None:
    code, output = await ended(kit.worker_env(engine.url, **own), tmp_path)
    assert code == 1
    assert is_one_sentence(output), output
    assert words in output
    told = engine.reports + engine.refused  # without its token it is not believed
    assert [words in report.body["error_msg"] for report in told] == [True]


async def test_a_second_worker_on_the_same_ports_leaves_the_first_alone(engine: kit.StubEngine, tmp_path: Path) -> None:
    env = kit.worker_env(engine.url)
    other = tmp_path / "other"
    other.mkdir()
    async with contextlib.AsyncExitStack() as stack:
        first = await stack.enter_async_context(kit.worker(env, tmp_path))
        await engine.ready()
        code, _ = await ended(env, other)
        assert code == 1
        assert (await kit.create(first, engine.auth_data(first.url))).status == 201


async def test_an_interpreter_without_vastai_is_named_with_what_to_install(
    engine: kit.StubEngine, tmp_path: Path
) -> None:
    """An engine without the extra 'worker' starts its process fleet's workers with its own interpreter."""
    (tmp_path / "sitecustomize.py").write_text(WITHOUT_VASTAI)
    code, output = await ended(kit.worker_env(engine.url, PYTHONPATH=f"{tmp_path}:{kit.ROOT}"), tmp_path)
    assert code == 1
    assert is_one_sentence(output), output
    assert f"vastai is not installed for {sys.executable}" in output
    assert "pip install 'nullworker[worker]'" in output
    assert [report.body["error_msg"] in output for report in engine.reports] == [True]
