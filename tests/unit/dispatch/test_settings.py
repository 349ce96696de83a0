"""What a dispatcher is told is checked before anything is opened, and refused in one sentence that names it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from nullworker.dispatch.binding import BindingSettings, without_password
from nullworker.dispatch.budget import Budget
from nullworker.dispatch.settings import DispatchSettings, DispatchSettingsError, check_binding, check_settings
from nullworker.dispatch.settings_file import load_settings
from nullworker.engine.config import load_config

if TYPE_CHECKING:
    from pathlib import Path

BINDING = BindingSettings("gpu", "sqlite:///tmp/jobs.db")

FILE = """
[engine]
port = 0

[[endpoint]]
name = "gpu"

[dispatch]
cap = 8
max_daily = 20
history = "past.csv"

[[dispatch.queue]]
endpoint = "gpu"
queue = "rq://localhost/0?queue=high"
max = 4
priority = 1
price_per_hour = 0.4

[[dispatch.queue]]
endpoint = "gpu"
queue = "rq://localhost/0?queue=low"
end_idle_s = 60
price_per_hour = 0.4
"""


def test_a_file_may_serve_engine_and_dispatcher(tmp_path: Path) -> None:
    file = tmp_path / "nullworker.toml"
    file.write_text(FILE)
    settings = load_settings(file)
    assert [(p.queue[-4:], p.most, p.priority, p.end_idle_s) for p in settings.bindings] == [
        ("high", 4, 1, None),
        ("=low", 16, 0, 60.0),
    ]
    assert (settings.cap, settings.budget, settings.trace_file) == (8, Budget(None, 20.0), "past.csv")
    assert [each.name for each in load_config(file).endpoints] == ["gpu"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("max = 4", "maximum = 4", "maximum"),
        ("max = 4", "max = -4", "queue 1: max is -4"),
        ("max = 4", 'max = "4"', r"Expected `int`, got `str`"),
        ("cap = 8", "cap = -1", "cap is -1"),
        ("max_daily = 20", "max_daily = -1", "max_daily is -1"),
        ("price_per_hour = 0.4", "", "a limit on money needs the price"),
        ("queue=low", "queue=high", "is listed twice"),
        ("rq://localhost/0?queue=low", "rabbit://localhost/0", "No queue adapter is installed for rabbit://"),
        ("end_idle_s = 60", "end_idle_s = 0.5", "end_idle_s is 0.5"),
        ('endpoint = "gpu"', 'endpoint = ""', "endpoint is empty"),
        ("[dispatch]", "[dispatch", "is not TOML"),
        ("[[dispatch.queue]]", "[[dispatch.row]]", "row"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path: Path, old: str, new: str, said: str) -> None:
    file = tmp_path / "nullworker.toml"
    file.write_text(FILE.replace(old, new))
    with pytest.raises(DispatchSettingsError, match=said) as error:
        load_settings(file)
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_without_a_queue_is_no_use(tmp_path: Path) -> None:
    file = tmp_path / "nullworker.toml"
    file.write_text("[engine]\nport = 0\n")
    with pytest.raises(DispatchSettingsError, match=r"no \[\[dispatch.queue\]\]"):
        load_settings(file)
    with pytest.raises(DispatchSettingsError, match="cannot be read"):
        load_settings(tmp_path / "absent.toml")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("most", -1),
        ("jobs_per_worker", 0),
        ("poll_s", 0.0),
        ("poll_s", float("nan")),
        ("cost", 0.0),
        ("lifetime_s", 1.0),
        ("lifetime_s", float("inf")),
        ("claim_s", 0.0),
        ("end_idle_s", 1.0),
        ("price_per_hour", -1.0),
    ],
)
def test_a_number_out_of_bounds_is_named(name: str, value: float) -> None:
    with pytest.raises(DispatchSettingsError, match=f"{name.replace('most', 'max')} is"):
        check_binding(replace(BINDING, **{name: value}))  # type: ignore[arg-type]  # each field has a type of its own


@pytest.mark.parametrize("queue", ["", "jobs", "redis-list//x", "http://[::1/x", "amqp://user:pa/ss@host/q"])
def test_what_is_no_url_of_a_queue_is_refused_without_repeating_it(queue: str) -> None:
    with pytest.raises(DispatchSettingsError) as error:
        check_binding(replace(BINDING, queue=queue))
    assert "ss@host" not in str(error.value)


def test_a_limit_on_money_needs_prices() -> None:
    settings = DispatchSettings((BINDING,), budget=Budget(hourly=1.0))
    with pytest.raises(DispatchSettingsError, match="needs the price"):
        check_settings(settings)
    assert check_settings(replace(settings, bindings=(replace(BINDING, price_per_hour=0.4),)))


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite:///tmp/jobs.db", "sqlite:///tmp/jobs.db"),
        ("rq://localhost:6379/0?queue=a@b", "rq://localhost:6379/0?queue=a@b"),
        ("rq://:secret@localhost/0?queue=q", "rq://localhost/0?queue=q"),
        ("rq://me:secret@localhost/0", "rq://me@localhost/0"),
        ("rq://me:sec@ret@localhost/0", "rq://me@localhost/0"),
        ("nats://token@host/stream/consumer", "nats://host/stream/consumer"),
        ("rq://me:12/secret@localhost/0", "rq://…"),
        ("rq://me:12?secret@localhost/0?queue=q", "rq://…"),
        ("rq+sentinel://me:secret@h1:1,h2:2/0", "rq+sentinel://me@h1:1,h2:2/0"),
        ("celery+redis://:secret@h1/0;redis://:secret@h2/0", "celery+redis://h1,h2/0"),
        ("rq://localhost/0?password=secret&queue=q", "rq://localhost/0?password=***&queue=q"),
    ],
)
def test_a_name_has_no_password_in_it(url: str, shown: str) -> None:
    assert without_password(url) == shown
