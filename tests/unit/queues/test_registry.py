"""Adapters are found by the scheme of a URL, among what is installed."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING

import pytest

from nullworker.queues import registry, sqlite
from nullworker.queues.base import QueueError

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes these the only adapters that are installed."""

    def install(**points: str) -> None:
        found = [EntryPoint(name.replace("_", "-"), value, registry.GROUP) for name, value in points.items()]
        monkeypatch.setattr(registry, "entry_points", lambda group: found if group == registry.GROUP else [])

    return install


def test_the_adapters_of_this_package_are_found_as_anyones() -> None:
    ours = {"sqlite", "redis-list", "redis-stream", "celery", "rq", "arq", "dramatiq", "bullmq"}
    assert ours <= set(registry.schemes())
    assert registry.adapter("SQLite:///x.db") is sqlite.SqliteQueue
    for scheme in ours:
        assert registry.adapter(f"{scheme}://host").__module__.startswith("nullworker.queues.")


def test_the_longest_part_of_a_scheme_that_is_known_counts(install: Callable[..., None]) -> None:
    install(a="nullworker.queues.sqlite:SqliteQueue")
    assert registry.adapter("a+b+tls://x") is sqlite.SqliteQueue
    with pytest.raises(QueueError, match=r"^No queue adapter is installed for b\+a:// \(there are a\)\.$"):
        registry.adapter("b+a://x")


def test_what_is_no_url_is_refused_with_the_schemes_there_are(install: Callable[..., None]) -> None:
    install(a="x:Y", b_c="x:Y")
    with pytest.raises(QueueError, match=r"^A queue's URL begins with one of a, b-c, each followed by ://\.$"):
        registry.adapter("jobs.db")


def test_a_library_that_is_missing_is_named_with_what_installs_it(install: Callable[..., None]) -> None:
    install(a="not_installed_anywhere:Queue [redis]")
    with pytest.raises(QueueError, match=r"\(No module named .*\): install what it needs, pip install .*\[redis\]"):
        registry.adapter("a://x")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("rediss://:s3cret@host/0", "whose queue it is: write arq+rediss, bullmq+rediss, celery+rediss, "),
        ("postgres://host/db", "write graphile-worker+postgres, pgboss+postgres or procrastinate+postgres in place of"),
        ("https://sqs.eu-west-1.amazonaws.com/1/renders", "write rabbitmq+https or sqs+https in place of https."),
        ("wss://host", "whose queue it is: write nats+wss in place of wss."),
        ("arn:aws:sqs:eu-west-1:123:renders", "An ARN is not a URL: write sqs://eu-west-1/123/renders."),
        ("sqs://arn:aws:sqs:eu-west-1:123:renders", "An ARN is not a URL: write sqs://eu-west-1/123/renders."),
    ],
)
def test_a_librarys_own_url_is_told_what_to_write_before_it(url: str, said: str) -> None:
    with pytest.raises(QueueError) as caught:
        registry.adapter(url)
    assert said in str(caught.value)
    assert "s3cret" not in str(caught.value)
