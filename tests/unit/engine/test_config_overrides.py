from __future__ import annotations

from pathlib import Path

import pytest

from nullworker.engine.config import ConfigError, load_config


def test_every_key_has_a_variable() -> None:
    config = load_config(
        environ={
            "NULLWORKER_PORT": "9000",
            "NULLWORKER_STATE": "here",
            "NULLWORKER_ENDPOINT_NULL_LOCAL_MAX_WORKERS": "3",
            "NULLWORKER_ENDPOINT_NULL_LOCAL_MIN_LOAD": "2.5",
            "NULLWORKER_ENDPOINT_NULL_LOCAL_WORKERGROUP_0_CONSUMER": "python consumer.py",
            "NULLWORKER_ENDPOINT_NULL_LOCAL_WORKERGROUP_0_USE_SSL": "true",
            "NULLWORKER_ENDPOINT_NULL_LOCAL_WORKERGROUP_0_ENV": '{ A = "b" }',
            "NULLWORKER_FLEET_PROCESSES_STOP_GRACE_S": "5",
            "NULLWORKER_FLEET_PROCESSES_DIR": "/tmp/x",
            "HOME_OF_SOMETHING_ELSE": "x",
        }
    )
    (endpoint,) = config.endpoints
    (group,) = endpoint.workergroups
    assert config.port == 9000
    assert config.state == Path.cwd() / "here"
    assert (endpoint.parameters.max_workers, endpoint.parameters.min_load) == (3, 2.5)
    assert (group.consumer, group.use_ssl, group.env) == ("python consumer.py", True, {"A": "b"})
    assert config.fleets == {"processes": {"stop_grace_s": 5, "dir": "/tmp/x"}}


def test_every_key_has_a_flag() -> None:
    config = load_config(
        flags=[
            ("engine.port", "9001"),
            ("host", "0.0.0.0"),
            ("insecure", "true"),
            ("endpoint.null-local.max_workers", "3"),
            ("endpoint.null-local.workergroup.0.price_per_hour", "0.5"),
            ("fleet.ray.address", "auto"),
        ]
    )
    assert (config.host, config.port) == ("0.0.0.0", 9001)
    assert config.endpoints[0].parameters.max_workers == 3
    assert config.endpoints[0].workergroups[0].price_per_hour == 0.5
    assert config.fleets == {"ray": {"address": "auto"}}


def test_flags_stand_over_variables_and_variables_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text('[engine]\nport = 1\nhost = "h1"\nstate = "s"\n')
    environ = {"NULLWORKER_PORT": "2", "NULLWORKER_HOST": "h2", "NULLWORKER_INSECURE": "true"}
    config = load_config(file, environ, [("port", "3")])
    assert (config.port, config.host, config.state) == (3, "h2", tmp_path / "s")


def test_an_optional_number_can_be_unset() -> None:
    config = load_config(environ={"NULLWORKER_ENDPOINT_NULL_LOCAL_INACTIVITY_TIMEOUT": "null"})
    assert config.endpoints[0].parameters.inactivity_timeout is None


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"NULLWORKER_PORT": "many"}, "The variable NULLWORKER_PORT: port must be a whole number, and 'many' is not."),
        ({"NULLWORKER_PORT": "99999"}, "The variable NULLWORKER_PORT: port is 99999, and must be from 0 to 65535."),
        ({"NULLWORKER_JOURNEL": "x"}, "The variable NULLWORKER_JOURNEL names no key; did you mean NULLWORKER_JOURNAL?"),
        (
            {"NULLWORKER_ENDPOINT_NULL_LOCAL_MAX_WORKER": "1"},
            "did you mean NULLWORKER_ENDPOINT_NULL_LOCAL_MAX_WORKERS?",
        ),
        ({"NULLWORKER_ENDPOINT_OTHER_X": "1"}, "names no key of an endpoint or fleet that the configuration has."),
        ({"NULLWORKER_FLEET_RAY_ADDRESS": "1"}, "names no key of an endpoint or fleet that the configuration has."),
        (
            {"NULLWORKER_ENDPOINT_NULL_LOCAL_TARGET_UTIL": "7"},
            "The variable NULLWORKER_ENDPOINT_NULL_LOCAL_TARGET_UTIL: target_util is 7, and must be from 0.01 to 1.",
        ),
        (
            {"NULLWORKER_ENDPOINT_NULL_LOCAL_WORKERGROUP_0_ENV": "A=b"},
            "The variable NULLWORKER_ENDPOINT_NULL_LOCAL_WORKERGROUP_0_ENV: env must be an object, not text.",
        ),
    ],
)
def test_a_wrong_variable_is_named(environ: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(environ=environ)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        (("prot", "1"), "There is no key prot; did you mean port?"),
        (("endpoint.other.min_load", "1"), "There is no key endpoint.other.min_load"),
        (("wholly.unknown", "1"), "There is no key wholly.unknown."),
        (("port", "1.5"), "The flag for port: port must be a whole number, and '1.5' is not."),
    ],
)
def test_a_wrong_flag_is_named(flag: tuple[str, str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(flags=[flag])
    assert message in str(caught.value)


def test_variables_of_other_programs_are_let_be() -> None:
    assert load_config(environ={"NULLWORKER_COST": "100", "NULLWORKER_QUEUE_URL": "x"}).port == 8080


def test_a_variable_that_means_two_keys_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text('[[endpoint]]\nname = "a-b"\n[[endpoint]]\nname = "a.b"\n')
    assert len(load_config(file).endpoints) == 2
    with pytest.raises(ConfigError, match="NULLWORKER_ENDPOINT_A_B_MIN_LOAD means keys of two endpoints"):
        load_config(file, {"NULLWORKER_ENDPOINT_A_B_MIN_LOAD": "1"})


def test_a_broken_file_is_refused_before_anything_stands_over_it(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text("engine = 5\nendpoint = 6\n")
    with pytest.raises(ConfigError, match="engine must be an object"):
        load_config(file, {"NULLWORKER_PORT": "1", "NULLWORKER_FLEET_X_Y": "1"})
