from __future__ import annotations

from pathlib import Path

import pytest

from nullworker.classic.settings import (
    BODY_BYTES_MAX_DEFAULT,
    GRACE_DEFAULT_S,
    PORT_DEFAULT,
    Settings,
    from_environment,
)
from nullworker.wire.worker_side.environment import SettingsError

ROOTS = (Path("/clone/workers"),)
INSTANCE = {
    "BACKEND": "helloworld",
    "REPORT_ADDR": "https://one.example/, http://two.example",
    "CONTAINER_ID": "17",
    "MASTER_TOKEN": "token-of-17",
    "WORKER_PORT": "3000",
    "VAST_TCP_PORT_3000": "40123",
    "PUBLIC_IPADDR": "203.0.113.9",
}


def read(env: dict[str, str], **given: object) -> Settings:
    return from_environment(env, default_roots=ROOTS, **given)  # type: ignore[arg-type]  # each test gives what it means


def test_without_an_engine_it_is_a_server_on_loopback() -> None:
    settings = read({"BACKEND": "helloworld"})
    assert settings.link is None
    assert (settings.host, settings.port) == ("127.0.0.1", PORT_DEFAULT)
    assert settings.is_loopback
    assert settings.roots == ROOTS
    assert settings.thread_safe is None
    assert settings.tls is None
    assert not settings.unsecured
    assert (settings.body_bytes_max, settings.grace_s) == (BODY_BYTES_MAX_DEFAULT, GRACE_DEFAULT_S)


def test_a_vast_instance_says_all_that_is_needed() -> None:
    settings = read(INSTANCE)
    assert settings.link is not None
    assert settings.link.report_addrs == ("https://one.example", "http://two.example")
    assert settings.link.identity.worker_id == 17
    assert settings.link.identity.url == "http://203.0.113.9:40123"
    assert (settings.host, settings.port) == ("0.0.0.0", 3000)
    assert not settings.is_loopback


def test_the_token_is_in_no_repr() -> None:
    assert "token-of-17" not in repr(read(INSTANCE))


def test_with_ssl_the_url_is_https_and_the_certificate_the_instances() -> None:
    settings = read({**INSTANCE, "USE_SSL": "true"})
    assert settings.link is not None
    assert settings.link.identity.url == "https://203.0.113.9:40123"
    assert settings.tls is not None
    assert settings.tls.certificate == Path("/etc/instance.crt")


def test_an_address_of_ip_version_6_is_bracketed() -> None:
    settings = read({**INSTANCE, "PUBLIC_IPADDR": "::1"})
    assert settings.link is not None
    assert settings.link.identity.url == "http://[::1]:40123"
    assert settings.host == "127.0.0.1", "clients are on this machine, so no other need reach it"


@pytest.mark.parametrize("name", ["CONTAINER_ID", "MASTER_TOKEN", "WORKER_PORT", "VAST_TCP_PORT_3000", "PUBLIC_IPADDR"])
def test_what_an_engine_needs_and_is_not_set_is_named(name: str) -> None:
    with pytest.raises(SettingsError, match=f"REPORT_ADDR is set and {name} is not"):
        read({key: value for key, value in INSTANCE.items() if key != name})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("CONTAINER_ID", "C.17", "CONTAINER_ID is 'C.17', but must be a whole number"),
        ("WORKER_PORT", "70000", "WORKER_PORT is '70000', but must be a whole number from 1 to 65535"),
        ("VAST_TCP_PORT_3000", "x", "VAST_TCP_PORT_3000 is 'x', but must be a whole number"),
        ("REPORT_ADDR", "engine:8080", "'engine:8080', but must be one or more http"),
        ("USE_SSL", "perhaps", "USE_SSL is 'perhaps', but must be true or false"),
        ("UNSECURED", "2", "UNSECURED is '2', but must be true or false"),
        ("BACKEND_THREADS", "0", "BACKEND_THREADS is '0', but must be a number of at least 1 and at most 1000"),
        (
            "BACKEND_GRACE_S",
            "nan",
            "BACKEND_GRACE_S is 'nan', but must be a number of seconds of at least 0 and",
        ),
        ("BACKEND_PERF", "-1", "BACKEND_PERF is '-1', but must be a number"),
        ("BACKEND_BODY_BYTES_MAX", "many", "BACKEND_BODY_BYTES_MAX is 'many', but must be a number"),
        ("BACKEND", "../secret", "'../secret', which is no folder's name"),
        ("BACKEND", "..", "which is no folder's name"),
        ("BACKEND", "", "No backend is named"),
    ],
)
def test_a_wrong_value_is_named_with_what_it_must_be(name: str, value: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read({**INSTANCE, name: value})
    assert message in str(caught.value)


def test_the_command_line_wins_over_the_environment() -> None:
    settings = read(
        {**INSTANCE, "BACKEND_PATH": "/else", "BACKEND_THREAD_SAFE": "false"},
        backend="other",
        path="/a:/b",
        host="127.0.0.2",
        port=0,
        thread_safe=True,
    )
    assert settings.backend == "other"
    assert settings.roots == (Path("/a"), Path("/b"))
    assert (settings.host, settings.port) == ("127.0.0.2", 0)
    assert settings.thread_safe is True


def test_the_environment_sets_every_bound() -> None:
    settings = read(
        {
            **INSTANCE,
            "BACKEND_PATH": "/mine",
            "BACKEND_THREAD_SAFE": "true",
            "BACKEND_THREADS": "4",
            "BACKEND_BODY_BYTES_MAX": "2048",
            "BACKEND_GRACE_S": "0.5",
            "BACKEND_PERF": "250",
            "MODEL_LOG": "/var/log/model.log",
            "UNSECURED": "true",
            "WORKER_HOST": "127.0.0.1",
        }
    )
    assert settings.roots == (Path("/mine"),)
    assert settings.thread_safe is True
    assert (settings.threads, settings.body_bytes_max, settings.grace_s) == (4, 2048, 0.5)
    assert settings.perf == 250
    assert settings.model_log == Path("/var/log/model.log")
    assert settings.unsecured
    assert settings.host == "127.0.0.1"


def test_the_model_log_is_where_the_classic_scripts_write_it() -> None:
    assert read({"BACKEND": "x", "SERVER_DIR": "/srv/fork"}).model_log == Path("/srv/fork/infer.log")
    assert read({"BACKEND": "x"}).model_log == Path.cwd() / "infer.log"
