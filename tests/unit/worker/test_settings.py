import re
import sys
from pathlib import Path

import pytest

from nullworker.wire.worker_side.environment import SettingsError
from nullworker.worker.settings import read

GOOD = {
    "CONTAINER_ID": "7",
    "REPORT_ADDR": "http://127.0.0.1:8080",
    "MASTER_TOKEN": "secret-token",
    "WORKER_PORT": "3000",
    "VAST_TCP_PORT_3000": "40123",
    "PUBLIC_IPADDR": "127.0.0.1",
    "PATH": str(Path(sys.executable).parent),
}


def test_what_a_vast_instance_sets_is_enough() -> None:
    settings = read(GOOD)
    assert (settings.worker_port, settings.http_port, settings.control_port) == (3000, 3001, 18_999)
    assert (settings.consumer, settings.backend_health_url, settings.host) == ((), "", None)
    assert (settings.consumer_grace_s, settings.create_wait_s) == (8, 9)  # in this order, and under the client's 10
    assert settings.max_lifetime_s == 7 * 86_400
    assert (settings.use_ssl, settings.unsecured, settings.callback_private) == (False, False, False)


@pytest.mark.parametrize("name", ["CONTAINER_ID", "REPORT_ADDR", "WORKER_PORT", "VAST_TCP_PORT_3000", "PUBLIC_IPADDR"])
@pytest.mark.parametrize("value", [None, "", "  "])
def test_a_missing_variable_is_named(name: str, value: str | None) -> None:
    env = {k: v for k, v in GOOD.items() if k != name} | ({name: value} if value is not None else {})
    with pytest.raises(SettingsError, match=f"^{name} is not set"):
        read(env)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CONTAINER_ID", "seven"),
        ("CONTAINER_ID", "-1"),
        ("CONTAINER_ID", "9" * 30),
        ("WORKER_PORT", "0"),
        ("WORKER_PORT", "70000"),
        ("WORKER_PORT", "65535"),
        ("NULL_CONTROL_PORT", "x"),
        ("REPORT_ADDR", "engine:8080"),
        ("REPORT_ADDR", ","),
        ("REPORT_ADDR", "http://[::1"),
        ("BACKEND_HEALTH_URL", "/health"),
        ("BACKEND_HEALTH_URL", "127.0.0.1:9090/health"),
        ("BACKEND_HEALTH_URL", "http://"),
        ("BACKEND_HEALTH_URL", "http://h:99999/"),
        ("NULL_CONSUMER", "no-such-program-anywhere --flag"),
        ("NULL_CONSUMER", "sh -c 'unclosed"),
        ("NULL_CONSUMER_DIR", "/no/such/directory"),
        ("NULL_CONSUMER_GRACE", "soon"),
        ("NULL_CONSUMER_GRACE", "-1"),
        ("NULL_CONSUMER_GRACE", "nan"),
        ("NULL_MAX_LIFETIME", "inf"),
        ("NULL_MAX_AGE", "0"),
        ("NULL_CALLBACK_PRIVATE", "maybe"),
        ("UNSECURED", "perhaps"),
        ("NULL_RUN_AS", "root"),
        ("NULL_RUN_AS", "no such user"),
        ("LOG_LEVEL", "loud"),
    ],
)
def test_a_wrong_variable_is_named_in_one_sentence(name: str, value: str) -> None:
    env = GOOD | {name: value} | ({f"VAST_TCP_PORT_{value}": "1"} if name == "WORKER_PORT" else {})
    with pytest.raises(SettingsError) as caught:
        read(env)
    message = str(caught.value)
    assert name in message or message.startswith("The consumer cannot be started")
    assert message.endswith(".")
    assert "\n" not in message


@pytest.mark.parametrize(("name", "value"), [("NULL_CONTROL_PORT", "3001"), ("WORKER_HTTP_PORT", "3000")])
def test_no_port_is_used_twice(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match="both"):
        read(GOOD | {name: value})


def test_a_consumer_is_split_as_a_shell_would_and_found_on_the_path() -> None:
    program = Path(sys.executable).name
    settings = read(GOOD | {"NULL_CONSUMER": f"{program} -c 'print(\"two words\")'"})
    assert settings.consumer == (sys.executable, "-c", 'print("two words")')


def test_a_consumer_is_found_from_where_it_starts(tmp_path: Path) -> None:
    """A path in its command means what it would mean in a shell there."""
    program = tmp_path / "run.sh"
    program.write_text("#!/bin/sh\n")
    with pytest.raises(SettingsError, match=r"\./run\.sh is a file that may not be run: chmod \+x \./run\.sh"):
        read(GOOD | {"NULL_CONSUMER": "./run.sh", "NULL_CONSUMER_DIR": str(tmp_path)})
    program.chmod(0o755)
    settings = read(GOOD | {"NULL_CONSUMER": "./run.sh", "NULL_CONSUMER_DIR": str(tmp_path)})
    assert settings.consumer_dir == str(tmp_path)
    assert program.samefile(settings.consumer[0])
    assert read(GOOD).consumer_dir == ""


def test_several_report_addresses_are_taken_apart() -> None:
    assert read(GOOD | {"REPORT_ADDR": "http://a/, https://b/api"}).report_addrs == ("http://a", "https://b/api")


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("", "http://127.0.0.1:3001"),
        ("0.0.0.0", "http://127.0.0.1:3001"),
        ("10.1.2.3", "http://10.1.2.3:3001"),
        ("::", "http://[::1]:3001"),
    ],
)
def test_the_worker_reaches_itself_where_it_listens(host: str, url: str) -> None:
    assert read(GOOD | {"WORKER_HOST": host}).own_http_url == url


def test_the_token_is_in_no_representation() -> None:
    assert "secret-token" not in repr(read(GOOD))


def test_the_control_ports_token_is_made_of_the_workers_and_the_same_after_a_restart() -> None:
    first, again = (read({**GOOD, "NULL_CONTROL_TOKEN": "true", "MASTER_TOKEN": "t" * 64}) for _ in range(2))
    assert first.control_url == again.control_url
    assert re.fullmatch(r"http://127\.0\.0\.1:18999/[0-9a-f]{64}", first.control_url)
    assert "t" * 64 not in first.control_url
    assert first.control_url != read({**GOOD, "NULL_CONTROL_TOKEN": "true", "MASTER_TOKEN": "u" * 64}).control_url
    assert read({**GOOD, "MASTER_TOKEN": "t" * 64}).control_url == "http://127.0.0.1:18999"
    with pytest.raises(SettingsError, match="MASTER_TOKEN"):
        read({**GOOD, "NULL_CONTROL_TOKEN": "true", "MASTER_TOKEN": ""})


def test_a_worker_that_checks_no_caller_listens_to_this_machine_alone() -> None:
    assert read({**GOOD, "UNSECURED": "true"}).host == "127.0.0.1"
    assert read({**GOOD, "UNSECURED": "true", "WORKER_HOST": "::1"}).host == "::1"
    assert read(GOOD).host is None
    for host in ("0.0.0.0", "::", "10.0.0.7", "worker.example"):
        with pytest.raises(SettingsError, match="UNSECURED is set"):
            read({**GOOD, "UNSECURED": "true", "WORKER_HOST": host})
