"""What a worker is started with: its command, its environment, its ports."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from nullworker.fleets.base import FleetError, InstanceSpec
from nullworker.fleets.processes import launch
from nullworker.fleets.processes.records import Ports, Record
from nullworker.fleets.processes.settings import ProcessSettings, read_settings
from nullworker.worker.consumer_process import without_interpreter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeAlias

SPEC = InstanceSpec(
    worker_id=7, endpoint="e", workergroup_id=1, backend="null", report_addr="http://r", worker_token="t"
)


@pytest.fixture
def settings(tmp_path: Path) -> ProcessSettings:
    return read_settings({"state_dir": tmp_path, "consumer_dir": "/jobs"})


def make_backend(root: Path, name: str, *files: str) -> None:
    folder = root / "workers" / name
    folder.mkdir(parents=True)
    for file in files:
        (folder / file).touch()


def test_a_backend_with_a_worker_is_run_as_a_module(settings: ProcessSettings, tmp_path: Path) -> None:
    """Also when it has a backend.py as well."""
    make_backend(tmp_path, "null", "worker.py", "backend.py")
    assert launch.command(settings, [str(tmp_path)], "null") == [sys.executable, "-m", "workers.null.worker"]


def test_a_backend_of_the_classic_guide_is_run_by_the_classic_runtime(
    settings: ProcessSettings, tmp_path: Path
) -> None:
    """Its folder may have a name that no module can have."""
    make_backend(tmp_path, "hello-world", "backend.py")
    expected = [sys.executable, "-m", "nullworker.classic", "hello-world"]
    assert launch.command(settings, [str(tmp_path)], "hello-world") == expected


def test_the_first_root_that_has_a_backend_wins(settings: ProcessSettings, tmp_path: Path) -> None:
    make_backend(tmp_path / "mine", "null", "backend.py")
    make_backend(tmp_path / "installed", "null", "worker.py")
    roots = [str(tmp_path / "mine"), str(tmp_path / "installed")]
    assert launch.command(settings, roots, "null")[-2:] == ["nullworker.classic", "null"]


@pytest.mark.parametrize("name", ["absent", "empty", "", ".", "..", "../null", "a/b", "-m", "nul\0l"])
def test_a_backend_that_is_not_there_is_refused(settings: ProcessSettings, tmp_path: Path, name: str) -> None:
    make_backend(tmp_path, "null", "worker.py")
    make_backend(tmp_path, "empty")
    with pytest.raises(FleetError, match="backend"):
        launch.command(settings, [str(tmp_path)], name)


def test_the_workers_of_this_package_are_found_behind_ones_own(tmp_path: Path) -> None:
    (tmp_path / "workers").mkdir()
    roots = launch.workers_roots([str(tmp_path), "/absent"])
    assert roots[0] == str(tmp_path)
    assert any((Path(root) / "workers" / "null").is_dir() for root in roots[1:])
    assert "/absent" not in roots


def test_site_packages_are_not_put_before_the_standard_library() -> None:
    """An interpreter finds its own; the others' would shadow what it brings itself."""
    path = launch.module_path(["/mine", "/venv/lib/python3.11/site-packages", "/mine"], "/own:/mine:").split(":")
    assert path[0] == "/mine"
    assert path[-1] == "/own"
    assert len(set(path)) == len(path)
    assert not [each for each in path if each.endswith("site-packages")]


def test_the_engines_secrets_stay_with_it(settings: ProcessSettings) -> None:
    own = {"PATH": "/bin", "HOME": "/home/me", "LC_ALL": "C", "VAST_API_KEY": "k", "LD_LIBRARY_PATH": "/l", "LCX": "1"}
    base = launch.base_environment(settings, ["/root"], own)
    own_python = {"PYTHONPATH", "PYTHONUNBUFFERED", "SETUPTOOLS_USE_DISTUTILS", "NULL_ORIGINAL_VARIABLES"}
    assert set(base) - own_python == {"PATH", "HOME", "LC_ALL"}
    assert base["HOME"] == "/home/me"


@pytest.mark.parametrize(
    ("engines", "groups", "consumers"),
    [
        ({}, {}, {}),
        ({"PYTHONPATH": "/mine", "SETUPTOOLS_USE_DISTUTILS": "local"}, {}, None),
        ({"PYTHONPATH": "/mine"}, {"PYTHONPATH": "/groups"}, {"PYTHONPATH": "/groups"}),
    ],
    ids=["nothing", "the engine's", "the workergroup's"],
)
def test_a_consumer_has_nothing_of_the_workers_interpreter(
    settings: ProcessSettings, engines: dict[str, str], groups: dict[str, str], consumers: dict[str, str] | None
) -> None:
    base = launch.base_environment(settings, ["/root"], {"PATH": "/bin", **engines})
    record = Record.of(InstanceSpec(7, "e", 1, "null", "http://r", "t", env=groups), Ports(1001, 1002, 1003))
    found = without_interpreter(launch.environment(settings, base, record, "/d"))
    names = ("PYTHONPATH", "SETUPTOOLS_USE_DISTUTILS", "NULL_ORIGINAL_VARIABLES")
    assert {name: found[name] for name in names if name in found} == (engines if consumers is None else consumers)


def test_what_is_named_in_pass_env_is_passed(tmp_path: Path) -> None:
    settings = read_settings({"state_dir": tmp_path, "pass_env": ["LD_LIBRARY_PATH", "NVIDIA_*"]})
    own = {"LD_LIBRARY_PATH": "/l", "NVIDIA_VISIBLE_DEVICES": "0", "NVIDI": "x"}
    base = launch.base_environment(settings, ["/root"], own)
    assert base["LD_LIBRARY_PATH"] == "/l"
    assert base["NVIDIA_VISIBLE_DEVICES"] == "0"
    assert "NVIDI" not in base


def test_the_interpreters_programs_are_found_behind_all_others(settings: ProcessSettings) -> None:
    base = launch.base_environment(settings, ["/root"], {"PATH": "/usr/bin:/bin"})
    assert base["PATH"].split(os.pathsep) == ["/usr/bin", "/bin", str(Path(sys.executable).parent)]


def test_a_workergroup_changes_anything_but_the_workers_identity(settings: ProcessSettings) -> None:
    identity = {
        "CONTAINER_ID": "7",
        "REPORT_ADDR": "http://r",
        "MASTER_TOKEN": "t",
        "PUBLIC_IPADDR": "127.0.0.1",
        "WORKER_HOST": "127.0.0.1",
        "WORKER_PORT": "1001",
        "VAST_TCP_PORT_1001": "1001",
        "WORKER_HTTP_PORT": "1002",
        "NULL_CONTROL_PORT": "1003",
        "USE_SSL": "false",
        "NULLWORKER_INSTANCE": "/d",
    }
    others = {"PATH": "p", "MODEL_LOG": "m", "NULL_CONSUMER": "c", "NULL_CALLBACK_PRIVATE": "false", "MINE": "x"}
    spec = InstanceSpec(7, "e", 1, "null", "http://r", "t", env={**dict.fromkeys(identity, "stolen"), **others})
    record = Record.of(spec, Ports(1001, 1002, 1003))
    base = launch.base_environment(settings, ["/root"], {"PATH": "/bin"})
    environment = launch.environment(settings, base, record, "/d")
    assert {name: environment[name] for name in identity} == identity
    assert {name: environment[name] for name in others} == others


def test_the_user_of_consumers_is_the_fleets_to_say_and_no_workergroups(settings: ProcessSettings) -> None:
    spec = InstanceSpec(7, "e", 1, "null", "http://r", "t", env={"NULL_RUN_AS": "me", "NULL_CONTROL_TOKEN": "false"})
    record = Record.of(spec, Ports(1001, 1002, 1003))
    base = launch.base_environment(settings, ["/root"], {"PATH": "/bin"})
    environment = launch.environment(msgspec.structs.replace(settings, run_as="nobody"), base, record, "/d")
    assert (environment["NULL_RUN_AS"], environment["NULL_CONTROL_TOKEN"]) == ("nobody", "true")


def test_a_workergroups_consumer_becomes_its_variable(settings: ProcessSettings) -> None:
    """It is started where the settings say. Without one, there is no such variable."""
    spec = InstanceSpec(7, "e", 1, "null", "http://r", "t", consumer="run", use_ssl=True)
    environment = launch.environment(settings, {}, Record.of(spec, Ports(1, 2, 3)), "/d")
    assert environment["NULL_CONSUMER"] == "run"
    assert environment["NULL_CONSUMER_DIR"] == "/jobs"
    assert environment["USE_SSL"] == "true"
    without = launch.environment(settings, {}, Record.of(SPEC, Ports(1, 2, 3)), "/d")
    assert not [name for name in without if name.startswith("NULL_CONSUMER")]


Pools: TypeAlias = "Callable[[str], launch.PortPool]"


@pytest.fixture
def pools() -> Iterator[Pools]:
    """Makes pools, and closes them."""
    with contextlib.ExitStack() as stack:

        def make(host: str) -> launch.PortPool:
            return stack.enter_context(contextlib.closing(launch.PortPool(host)))

        yield make


def test_a_port_that_was_chosen_is_given_to_no_other_program_and_its_worker_can_have_it(pools: Pools) -> None:
    first, second = pools("127.0.0.1"), pools("127.0.0.1")  # as of two engines on one machine
    ports = [first.choose() for _ in range(30)]
    others = [second.choose() for _ in range(300)]
    assert not {each.worker for each in ports} & {port for o in others for port in (o.worker, o.http, o.control)}
    with socket.create_server(("127.0.0.1", ports[0].worker)) as server:
        assert server.getsockname()[1] == ports[0].worker


def test_chosen_ports_are_free_and_no_other_programs(pools: Pools) -> None:
    """A port that is held is not chosen, whether a program listens on it or not."""
    pool = pools("127.0.0.1")
    chosen = [pool.choose() for _ in range(200)]
    numbers = [port for ports in chosen for port in (ports.worker, ports.http, ports.control)]
    assert len(set(numbers)) == 600
    assert pool.are_free(chosen[0])
    assert pool.are_free(chosen[-1])


def test_a_port_that_is_listened_on_is_not_free(pools: Pools) -> None:
    pool = pools("127.0.0.1")
    ports = pool.choose()
    with socket.create_server(("127.0.0.1", ports.http)):
        assert not pool.are_free(ports)
    assert pool.are_free(ports)


def test_a_port_whose_last_connections_still_linger_is_free(pools: Pools) -> None:
    """As after every stop of a worker that was being talked to: its successor can listen there."""
    pool = pools("127.0.0.1")
    ports = pool.choose()
    with (
        socket.create_server(("127.0.0.1", ports.worker)) as server,
        socket.create_connection(("127.0.0.1", ports.worker)) as client,
    ):
        server.accept()[0].close()  # who closes first, lingers
        assert client.recv(1) == b""
    assert pool.are_free(ports)


def test_a_host_that_is_not_here_is_named(pools: Pools) -> None:
    with pytest.raises(FleetError, match=r"192\.0\.2\.1"):
        pools("192.0.2.1").choose()
