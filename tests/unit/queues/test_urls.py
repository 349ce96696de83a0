"""A queue's URL is read in full or refused, and its password is shown nowhere."""

from __future__ import annotations

import pytest

from nullworker.queues.base import QueueError
from nullworker.queues.urls import parse_url

NAMES = ("queue", "seconds")


def test_every_part_is_decoded() -> None:
    url = parse_url("Some+TLS://us%40er:p%2Fw%3A@Host:6379/a%20b?queue=x%26y", parameters=NAMES)
    assert (url.scheme, url.host, url.port, url.path) == ("some+tls", "host", 6379, "/a b")
    assert (url.username, url.password, url.text("queue")) == ("us@er", "p/w:", "x&y")


def test_a_missing_parameter_has_its_default_or_is_asked_for() -> None:
    url = parse_url("some://host/", parameters=NAMES)
    assert url.text("queue", "celery") == "celery"
    assert url.seconds("seconds", 3.0) == 3.0
    with pytest.raises(QueueError, match=r"^some://host/: the URL needs queue=… after the question mark\.$"):
        url.text("queue")


@pytest.mark.parametrize("value", ["", "soon", "0", "-1", "inf", "nan"])
def test_seconds_are_a_positive_number(value: str) -> None:
    url = parse_url(f"some://host/?seconds={value}", parameters=NAMES)
    with pytest.raises(QueueError, match="seconds should be a positive number of seconds"):
        url.seconds("seconds", 3.0)


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("some://host/?quue=x", r"unknown parameter 'quue' \(known: queue, seconds\)"),
        ("some://host/?queue=x&queue=y", "'queue' is there twice"),
        ("some://host/?queue", "this is not a URL"),
        ("some://host:port/", "this is not a URL"),
        ("some://host:99999/", "this is not a URL"),
        ("some://[::1/", "this is not a URL"),
        ("some://host/?queue=x#y", "must be written %23"),
    ],
)
def test_what_is_wrong_is_named(url: str, complaint: str) -> None:
    with pytest.raises(QueueError, match=complaint):
        parse_url(url, parameters=NAMES)


def test_what_is_shown_is_the_url_but_for_the_password() -> None:
    for url in ("some://host/?queue=a@b", "some://user@host:1/0?queue=a@b"):
        assert parse_url(url, parameters=NAMES).shown == url
    assert parse_url("some://:pw@host/?queue=a@b", parameters=NAMES).shown == "some://:***@host/?queue=a@b"


@pytest.mark.parametrize(
    "url",
    [
        "some://:s3cret@host/?queue=x",
        "some://user:s3cret@host:6379/0",
        "some://user:s3cret@host/?quue=x",
        "some://user:s3cret@host:port/",
        "some://user:s3cret@host/?queue=x#fragment",
        "some://user:s3cret%zz@host:99999/?queue",
        "some://user:12/s3cret@host/?queue=x",  # as if 12 were a port
        "some://user:12#s3cret@host/?queue=x",
        "some://user:12?s3cret@host/?queue=x",
    ],
)
def test_the_password_is_shown_nowhere(url: str) -> None:
    try:
        parsed = parse_url(url, parameters=NAMES)
    except QueueError as error:
        shown = str(error)
    else:
        shown = parsed.shown + repr(parsed)
        assert "***@host" in parsed.shown
    assert "s3cret" not in shown
