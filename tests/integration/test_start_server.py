"""start_server.sh brings a worker up, with and without TLS, and says in one sentence why it cannot."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import sys
import venv
from typing import TYPE_CHECKING

import aiohttp
import pytest
import vastai

from tests.integration import null_worker_kit as kit
from tests.integration.instance_files import CERTIFICATE, KEY, instance_certificate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

SCRIPT = kit.ROOT / "start_server.sh"


@pytest.fixture
async def engine() -> AsyncIterator[kit.StubEngine]:
    async with kit.StubEngine().running() as stub:
        yield stub


def script_env(engine_url: str, **own: str) -> dict[str, str]:
    """As on an instance, which starts no worker but by this script; the packages are those of this interpreter."""
    env = {**kit.worker_env(engine_url), "ENV_PATH": sys.prefix, "BACKEND": "null", **own}
    env.pop("SETUPTOOLS_USE_DISTUTILS", None)
    return env


async def ended(env: dict[str, str], directory: Path, *arguments: str, script: Path = SCRIPT) -> tuple[int, str]:
    async with kit.worker(env, directory, str(script), *arguments) as worker:
        code = await worker.exit_code()
        await kit.until(lambda: not kit.session_pids(worker.process.pid))
        return code, worker.log


def said(output: str) -> str:
    """The one sentence in the output."""
    [line] = [line for line in output.splitlines() if line.startswith("start_server: ")]
    return line.removeprefix("start_server: ")


@pytest.mark.parametrize("arguments", [(), ("null",)])
async def test_the_backend_comes_from_the_variable_or_the_argument(
    engine: kit.StubEngine, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    env = script_env(engine.url, PYWORKER_LOG=str(tmp_path / "copy"))
    if arguments:
        env["BACKEND"] = "no_such_thing"
    async with kit.worker(env, tmp_path, str(SCRIPT), *arguments) as worker:
        await engine.ready()
        assert (await kit.create(worker, engine.auth_data(worker.url))).status == 201
        await kit.until(lambda: "session opened" in (tmp_path / "copy").read_text())  # tee writes when it gets to it
        worker.process.terminate()  # reaches the worker itself: the script has become it
        assert await worker.exit_code() == 0


@pytest.mark.parametrize("name", ["CONTAINER_ID", "REPORT_ADDR", "PUBLIC_IPADDR", "VAST_TCP_PORT_"])
async def test_an_unset_variable_is_named_and_reported(engine: kit.StubEngine, tmp_path: Path, name: str) -> None:
    env = {key: value for key, value in script_env(engine.url).items() if not key.startswith(name)}
    code, output = await ended(env, tmp_path)
    assert code == 1
    assert said(output).startswith(name)
    if name not in ("CONTAINER_ID", "REPORT_ADDR"):
        [report] = engine.reports
        assert report.body["error_msg"] == said(output)
        assert (report.body["id"], report.body["mtoken"]) == (kit.WORKER_ID, kit.TOKEN)


@pytest.mark.parametrize("backend", ["", "nothing", "../null", "null; true", "$(true)"])
async def test_a_missing_backend_is_named_and_reported(engine: kit.StubEngine, tmp_path: Path, backend: str) -> None:
    code, output = await ended(script_env(engine.url, BACKEND=backend), tmp_path)
    assert code == 1
    assert "BACKEND" in said(output) or f"no backend '{backend}'" in said(output)
    assert [report.body["error_msg"] for report in engine.reports] == [said(output)]


async def test_of_the_folders_those_are_named_that_are_backends(engine: kit.StubEngine, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    for file in ("workers/mine/worker.py", "workers/classic/backend.py", "workers/empty/notes.txt", "requirements.txt"):
        (repository / file).parent.mkdir(parents=True, exist_ok=True)
        (repository / file).touch()
    shutil.copy(SCRIPT, repository)
    code, output = await ended(script_env(engine.url, BACKEND="empty"), tmp_path, script=repository / "start_server.sh")
    assert code == 1
    assert said(output).endswith("workers/empty has neither worker.py nor backend.py; there are: classic mine.")


async def test_a_failed_installation_is_said_and_reported(engine: kit.StubEngine, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    (repository / "workers" / "null").mkdir(parents=True)
    (repository / "workers" / "null" / "worker.py").touch()
    shutil.copy(SCRIPT, repository)
    shutil.copytree(kit.ROOT / "nullworker" / "wire", repository / "nullworker" / "wire")
    (repository / "requirements.txt").write_text("./no-such-package-here\n")
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=False)  # nothing is in it, and pip will not get far
    env = script_env(engine.url, ENV_PATH=str(environment), PYTHONPATH="")
    code, output = await ended(env, tmp_path, script=repository / "start_server.sh")
    assert code == 1
    assert [report.body["error_msg"] for report in engine.reports] == [output.splitlines()[-1].partition(": ")[2]]
    assert "could not be installed (pip install -r requirements.txt)" in output


@pytest.fixture
def instance_files() -> Iterator[None]:
    """The two files that the framework reads, which are not there before and after the test."""
    with instance_certificate():
        yield


@pytest.mark.usefixtures("instance_files")
async def test_with_ssl_the_engine_signs_and_the_sdk_verifies(
    engine: kit.StubEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vastai.Serverless, "SSL_CERT_URL", engine.url + "/static/jvastai_root.cer")
    env = script_env(engine.url, USE_SSL="true")
    async with kit.worker(env, tmp_path, str(SCRIPT)) as worker:
        ready = await engine.ready()
        url = ready.body["url"]
        assert url == worker.url.replace("http:", "https:")
        assert engine.signed_requests == [(str(kit.WORKER_ID), f"Bearer {kit.TOKEN}")]
        assert [path.stat().st_mode & 0o777 for path in (CERTIFICATE, KEY)] == [0o600, 0o600]
        async with vastai.Serverless("account-key", autoscaler_url=engine.url, webserver_url=engine.url) as client:
            endpoint = await client.get_endpoint(kit.ENDPOINT)
            async with await endpoint.session(cost=100, lifetime=60) as session:
                assert session.url == url
                released = await kit.post(worker.control_url + "/release")
                assert released.body["session_ids"] == [session.session_id]
        async with aiohttp.ClientSession() as http:
            with pytest.raises(aiohttp.ClientConnectorCertificateError):  # a client without the authority's root
                await http.get(url)
        strict = ssl.create_default_context(cadata=engine.authority.pem.decode())
        reader, writer = await asyncio.open_connection("127.0.0.1", int(env["WORKER_PORT"]), ssl=strict)
        writer.close()
        assert reader is not None


async def test_an_engine_that_signs_nothing_is_said_and_reported(engine: kit.StubEngine, tmp_path: Path) -> None:
    engine.signs = False
    code, output = await ended(script_env(engine.url, USE_SSL="true"), tmp_path)
    assert code == 1
    assert "signed no certificate" in said(output)
    assert "404" in said(output)
    assert [report.body["error_msg"] for report in engine.reports] == [said(output)]
