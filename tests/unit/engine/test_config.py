from __future__ import annotations

import dataclasses
import pathlib
import re
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nullworker.core.parameters import TESTED_PARAMETERS, EndpointState, Parameters
from nullworker.engine.config import (
    ConfigError,
    EndpointTable,
    EngineConfig,
    EngineTable,
    WorkergroupConfig,
    WorkergroupTable,
    load_config,
)
from nullworker.fleets.base import Resources

if TYPE_CHECKING:
    from pathlib import Path

FILE = """
[engine]
host = "127.0.0.1"
port = 8080
state = "state"

[[endpoint]]
name = "null-prod"
min_load = 0
target_util = 1.0
cold_workers = 0
max_workers = 4
inactivity_timeout = 10

[[endpoint.workergroup]]
fleet = "processes"
backend = "null"
consumer = "python consumer.py"
env = { LOG_LEVEL = "info", THREADS = 2, FAST = true }
price_per_hour = 0.40

[[endpoint]]
name = "classic"

[[endpoint.workergroup]]
backend = "helloworld"

[fleet.processes]
dir = "/tmp/x"
"""


def load(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> EngineConfig:
    (tmp_path / "nullworker.toml").write_text(text)
    return load_config(tmp_path / "nullworker.toml", environ)


def refusal(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, environ)
    return str(caught.value).replace(f"{tmp_path}/", "")


def test_with_no_file_there_is_one_endpoint_on_local_processes() -> None:
    config = load_config()
    assert (config.host, config.port) == ("127.0.0.1", 8080)
    assert config.state.is_absolute()
    assert config.state.parts[-3:] == (".local", "state", "nullworker")
    (endpoint,) = config.endpoints
    assert (endpoint.name, endpoint.parameters) == ("null-local", TESTED_PARAMETERS)
    assert endpoint.workergroups == (WorkergroupConfig(fleet="processes", backend="null", occupancy=1),)


def test_a_whole_file_is_read(tmp_path: Path) -> None:
    config = load(tmp_path, FILE)
    assert config.state == tmp_path / "state"
    prod, classic = config.endpoints
    assert prod.parameters == Parameters(
        min_load=0, target_util=1.0, cold_workers=0, max_workers=4, inactivity_timeout=10
    )
    (group,) = prod.workergroups
    assert group.env == {"LOG_LEVEL": "info", "THREADS": "2", "FAST": "true"}
    assert (group.consumer, group.price_per_hour) == ("python consumer.py", 0.40)
    assert config.fleets == {"processes": {"dir": "/tmp/x"}}
    assert classic.parameters == Parameters()


def test_what_is_not_given_has_the_cores_default(tmp_path: Path) -> None:
    (endpoint,) = load(tmp_path, '[[endpoint]]\nname = "a"\n').endpoints
    assert endpoint.parameters == Parameters()
    assert endpoint.workergroups == ()


def test_a_null_worker_takes_one_reservation_and_others_are_unknown(tmp_path: Path) -> None:
    config = load(tmp_path, FILE)
    assert config.endpoints[0].workergroups[0].to_core(3, 1).occupancy == 1
    assert config.endpoints[1].workergroups[0].to_core(4, 2).occupancy is None


def test_what_a_worker_needs_of_its_machine_is_given_to_its_fleet(tmp_path: Path) -> None:
    needs = 'gpus = 2\ncpus = 4\nmemory_gb = 16\nlabels = { disk = "fast" }\n'
    (group,) = load(tmp_path, GROUP + needs).endpoints[0].workergroups
    assert group.resources == Resources(2, 4, 16, {"disk": "fast"})
    (group,) = load(tmp_path, GROUP).endpoints[0].workergroups
    assert group.resources == Resources()


def test_min_workers_is_another_name_of_cold_workers(tmp_path: Path) -> None:
    (endpoint,) = load(tmp_path, '[[endpoint]]\nname = "a"\nmin_workers = 3\n').endpoints
    assert endpoint.parameters.cold_workers == 3
    assert "min_workers is 3, but cold_workers is 4" in refusal(
        tmp_path, '[[endpoint]]\nname = "a"\nmin_workers = 3\ncold_workers = 4\n'
    )


def test_an_endpoint_may_start_suspended(tmp_path: Path) -> None:
    (endpoint,) = load(tmp_path, '[[endpoint]]\nname = "a"\nendpoint_state = "suspended"\n').endpoints
    assert endpoint.parameters.state is EndpointState.SUSPENDED


GROUP = '[[endpoint]]\nname = "a"\n[[endpoint.workergroup]]\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[engine]\nprot = 1\n", "nullworker.toml, line 2, [engine]: prot is no key here; did you mean port?"),
        ("[engin]\nport = 1\n", "nullworker.toml, line 1: engin is no key here; did you mean engine?"),
        ("zzz = 1\n", "nullworker.toml, line 1: zzz is no key here."),
        (
            '[[endpoint]]\nname = "a"\n[[endpoint]]\nname = "b"\n\nmin_laod = 1\n',
            "nullworker.toml, line 6, [[endpoint]] of b: min_laod is no key here; did you mean min_load?",
        ),
        (
            f"{GROUP}flet = 1\n",
            "nullworker.toml, line 4, [[endpoint.workergroup]] of a: flet is no key here; did you mean fleet?",
        ),
        ('[engine]\nport = "x"\n', "nullworker.toml, line 2, [engine]: port must be a whole number, not text."),
        ("[engine]\nport = 70000\n", "nullworker.toml, line 2, [engine]: port is 70000, and must be from 0 to 65535."),
        ('[engine]\nhost = ""\n', "nullworker.toml, line 2, [engine]: host is empty; 127.0.0.1 is this machine alone."),
        (
            '[engine]\nlog_level = "loud"\n',
            "nullworker.toml, line 2, [engine]: log_level must be one of debug, info, warning, error.",
        ),
        (
            '[engine]\npublic_url = "host:1"\n',
            "nullworker.toml, line 2, [engine]: public_url must start with http:// or https://.",
        ),
        ("[[endpoint]]\nmin_load = 1\n", "nullworker.toml, line 1, [[endpoint]]: name is missing."),
        ('[[endpoint]]\nname = ""\n', "nullworker.toml, line 2, [[endpoint]]: name is no usable name."),
        (
            '[[endpoint]]\nname = "a"\n[[endpoint]]\nname = "a"\n',
            "nullworker.toml, line 4, [[endpoint]] of a: name is the name of another endpoint, too.",
        ),
        (
            '[[endpoint]]\nname = "a"\ntarget_util = 2\n',
            "nullworker.toml, line 3, [[endpoint]] of a: target_util is 2, and must be from 0.01 to 1.",
        ),
        (
            '[[endpoint]]\nname = "a"\nmin_load = nan\n',
            "nullworker.toml, line 3, [[endpoint]] of a: min_load must be a number from 0 to 1e+09.",
        ),
        (
            '[[endpoint]]\nname = "a"\nendpoint_state = "off"\n',
            "nullworker.toml, line 3, [[endpoint]] of a: endpoint_state must be one of active, suspended, stopped.",
        ),
        (
            '[endpoint]\nname = "a"\n',
            "nullworker.toml, line 1: endpoint tables are written with two brackets: [[endpoint]].",
        ),
        (
            f"{GROUP}price_per_hour = -1\n",
            "nullworker.toml, line 4, [[endpoint.workergroup]] of a: price_per_hour is -1, and must be from 0 to 1e6.",
        ),
        (f"{GROUP}gpus = -1\n", "[[endpoint.workergroup]] of a: gpus is -1, and must be from 0 to 1024."),
        (f"{GROUP}cpus = 0.0\n", "[[endpoint.workergroup]] of a: cpus is 0.0, and must be over 0."),
        (f"{GROUP}memory_gb = -2.0\n", "[[endpoint.workergroup]] of a: memory_gb is -2.0, and must be over 0."),
        (
            f'{GROUP}backend = "a/b"\n',
            "of a: backend must be letters, digits and _, as in python -m workers.BACKEND.worker.",
        ),
        (f'{GROUP}env = {{ "A=B" = 1 }}\n', "nullworker.toml, line 4, [[endpoint.workergroup]] of a: env has the "),
        (f"{GROUP}env = {{ A = [1] }}\n", "nullworker.toml, line 4, [[endpoint.workergroup]] of a: env must be"),
        (f'{GROUP}fleet = ""\n', "nullworker.toml, line 4, [[endpoint.workergroup]] of a: fleet is empty"),
        (
            f'{GROUP}fleet = "zzz"\n',
            "line 4, [[endpoint.workergroup]] of a: fleet is 'zzz', and no fleet of that name is installed; give one",
        ),
        (
            f'{GROUP}backend = "zzz"\n',
            "nullworker.toml, line 4, [[endpoint.workergroup]] of a: backend is refused by the fleet processes",
        ),
        ("[engine\n", "The configuration file nullworker.toml is not TOML: Expected ']' at the end of a table"),
        ("port = \n", "(at line 1, column 8)."),
    ],
)
def test_what_is_wrong_is_named_with_file_line_table_and_key(tmp_path: Path, text: str, message: str) -> None:
    assert message in refusal(tmp_path, text)


def test_a_backend_of_ones_own_is_taken_where_workers_path_has_it(tmp_path: Path) -> None:
    text = f'{GROUP}backend = "mine"\n[fleet.processes]\nworkers_path = "{tmp_path}"\n'
    assert "There is no backend 'mine'" in refusal(tmp_path, text)
    (tmp_path / "workers/mine").mkdir(parents=True)
    (tmp_path / "workers/mine/worker.py").touch()
    assert load(tmp_path, text).endpoints[0].workergroups[0].backend == "mine"


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml cannot be read \(no such file or directory\)\."):
        load_config(tmp_path / "none.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="is not UTF-8"):
        load_config(tmp_path / "bytes.toml")


def test_the_file_can_be_named_by_a_variable(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("[engine]\nport = 9\n")
    assert load_config(environ={"NULLWORKER_CONFIG": str(tmp_path / "a.toml")}).port == 9


@given(st.dictionaries(st.sampled_from(["engine", "endpoint", "fleet", "x"]), st.integers() | st.text(max_size=3)))
def test_any_tree_of_values_is_refused_with_a_sentence(tree: dict[str, object]) -> None:
    """Whatever stands where a table should be, the answer is one sentence and no fault of ours."""
    from nullworker.engine import config
    from nullworker.engine.config_source import Source

    try:
        Source.of_default(dict(tree)).convert(config.ConfigTables)
    except ConfigError as error:
        assert str(error).endswith((".", "?"))  # noqa: PT017 - both outcomes are right


PAGE = (pathlib.Path(__file__).parents[3] / "docs" / "configuration.md").read_text()


def test_the_example_in_the_documentation_is_a_configuration(tmp_path: Path) -> None:
    config = load(tmp_path, re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)[0])
    assert config.endpoints[0].parameters == TESTED_PARAMETERS


@pytest.mark.parametrize("table", [EngineTable, EndpointTable, WorkergroupTable])
def test_every_key_is_documented_with_its_default(table: type[msgspec.Struct]) -> None:
    for field in msgspec.structs.fields(table):
        if field.name not in {"name", "workergroup"}:
            assert f"\n| `{field.name}` |" in PAGE, f"docs/configuration.md has no row for {field.name}"
    for name, default in [(f.name, f.default) for f in dataclasses.fields(Parameters) if f.name != "state"]:
        row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{name}` |"))
        assert row.split("|")[2].strip() == f"{10 if default is None else default:g}"
