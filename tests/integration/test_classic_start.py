"""How a classic backend is started, and what stands in its way: one sentence, an exit code, no traceback."""

from __future__ import annotations

import socket
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.integration.classic_kit import CLONE, Certificate, ClassicProcess, get, write_backend
from tests.kit.waiting import HANG_S
from tests.ports import free_port

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("source", "code", "message"),
    [
        ("", 1, "defines no class Backend"),
        ("class Backend: pass", 1, "defines no dictionary flask_dict"),
        ("import nothing_like_it", 1, "could not be imported: ModuleNotFoundError"),
        (
            "class Backend:\n    def __init__(self):\n        open('/none')\nflask_dict = {'GET': {'x': print}}",
            1,
            "could not be made: FileNotFoundError: [Errno 2] No such file or directory: '/none' (backend.py, line 3)",
        ),
    ],
)
def test_a_backend_that_is_no_good_ends_with_one_sentence(source: str, code: int, message: str, tmp_path: Path) -> None:
    root = write_backend(tmp_path, "bad", backend=source)
    with ClassicProcess("bad", "--path", str(root)) as server:
        assert server.wait() == code
        assert message in server.said
        assert "Traceback" not in server.said


def test_a_folder_without_backend_py_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with ClassicProcess("empty", "--path", str(tmp_path)) as server:
        assert server.wait() == 1
        assert (
            server.said == f"nullworker.classic: backend 'empty' has no backend.py: there is none in {tmp_path}/empty\n"
        )


def test_a_port_that_is_taken_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with ClassicProcess("helloworld", "--port", str(port)) as server:
            assert server.wait() == 1
            assert f"port {port} on 127.0.0.1 cannot be listened on" in server.said
            assert "Traceback" not in server.said


@pytest.mark.parametrize(
    ("arguments", "env", "message"),
    [
        ((), {}, "No backend is named"),
        (("../helloworld",), {}, "no folder's name"),
        (("helloworld",), {"WORKER_PORT": "many"}, "WORKER_PORT is 'many'"),
        (("helloworld",), {"REPORT_ADDR": "http://127.0.0.1:1"}, "CONTAINER_ID, MASTER_TOKEN,"),
    ],
)
def test_wrong_settings_end_with_two(arguments: tuple[str, ...], env: dict[str, str], message: str) -> None:
    with ClassicProcess(*arguments, env=env) as server:
        assert server.wait() == 2
        assert message in server.said


def test_the_environment_names_the_backend_as_well(tmp_path: Path) -> None:
    with ClassicProcess(env={"BACKEND": "helloworld"}, cwd=tmp_path).wait_until_up() as server:
        assert get(f"{server.url}/value").json() == {"value": 0}


def test_the_current_directorys_workers_come_first(tmp_path: Path) -> None:
    source = "class Backend: pass\nflask_dict = {'GET': {'mine': lambda b, r: 'mine'}}"
    write_backend(tmp_path / "workers", "helloworld", backend=source)
    with ClassicProcess("helloworld", cwd=tmp_path).wait_until_up() as server:
        assert get(f"{server.url}/mine").text == "mine"


@pytest.mark.parametrize("missing", ["certificate", "key"])
def test_with_ssl_and_no_certificate_it_says_so(missing: str, tmp_path: Path) -> None:
    files = Certificate.make(tmp_path)
    getattr(files, missing).unlink()
    env = {"USE_SSL": "true", "INSTANCE_CERTIFICATE": str(files.certificate), "INSTANCE_KEY": str(files.key)}
    with ClassicProcess("helloworld", env=env) as server:
        assert server.wait() == 1
        assert f"there is no {getattr(files, missing)}" in server.said


def test_the_launch_script_says_when_the_clone_is_not_where_it_was_told(tmp_path: Path) -> None:
    done = subprocess.run(
        [CLONE / "workers/helloworld/launch.sh", tmp_path], capture_output=True, text=True, check=False, timeout=HANG_S
    )
    assert done.returncode == 1
    assert done.stderr == (
        f"launch.sh: there is no start_server.sh in {tmp_path}: give the path of the clone as the first argument\n"
    )


def test_a_port_may_be_given_as_the_guide_did() -> None:
    port = free_port()
    with ClassicProcess("helloworld", "--port", str(port)).wait_until_up():
        assert get(f"http://127.0.0.1:{port}/value").json() == {"value": 0}
