"""A queue's URL is read in full or refused, and its password is shown nowhere."""

from __future__ import annotations

import pytest

from nullworker.queues.base import QueueError
from nullworker.queues.connections import Connections, Way
from nullworker.queues.urls import Host, parse_url, place, shown_url

NAMES = ("queue", "seconds")
SEVERAL = Connections(
    "Some",
    several=True,
    ways=(
        Way("plain", "", "", transports=("", "redis"), parameters=("password",), unused=("socket_timeout",)),
        Way("authority", "", "", transports=("tls",), parameters=("tls_ca",), also={"ssl_ca_certs": "tls_ca"}),
    ),
)


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
    assert parse_url("some://host/?queue=a@b", parameters=NAMES).shown == "some://host/?queue=a@b"
    # A name without a password may be a token, as with NATS.
    assert parse_url("some://user@host:1/0?queue=a", parameters=NAMES).shown == "some://***@host:1/0?queue=a"
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


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("some://h1,H2:2/0", [("h1", None), ("h2", 2)]),
        ("some://u:pw@[::1]:1,[fe80::1%25eth0],h/0", [("::1", 1), ("fe80::1%25eth0", None), ("h", None)]),
        ("some://%2Frun%2FSocket/0", [("/run/Socket", None)]),
        # As Celery writes several servers, and NATS.
        ("some://u:pw@h1:1/0;redis://u:pw@h2:2/0", [("h1", 1), ("h2", 2)]),
        ("some://h1:1,nats://h2:2?queue=x", [("h1", 1), ("h2", 2)]),
        ("some:///0", [("", None)]),
    ],
)
def test_several_servers_and_ipv6_addresses(url: str, hosts: list[tuple[str, int | None]]) -> None:
    parsed = parse_url(url, parameters=NAMES, connections=SEVERAL)
    assert list(parsed.hosts) == hosts
    assert (parsed.host, parsed.port) == hosts[0]
    assert parsed.path in {"/0", ""}


def test_several_servers_are_refused_where_one_is_read_from() -> None:
    with pytest.raises(QueueError, match=r"^some://h1,h2/0: write one host, for this adapter reads from one server\.$"):
        parse_url("some://h1,h2/0", parameters=NAMES)


def test_servers_with_different_users_are_refused_and_neither_is_shown() -> None:
    with pytest.raises(QueueError) as caught:
        parse_url("some://a:s3cret@h1/0;redis://b:s3cret@h2/0", parameters=NAMES, connections=SEVERAL)
    assert "s3cret" not in str(caught.value)


def test_libraries_names_of_parameters_are_known_and_settings_of_their_clients_change_nothing() -> None:
    url = "some+tls://h/0?ssl_ca_certs=/ca.pem&socket_timeout=5&queue=x"
    assert parse_url(url, parameters=NAMES, connections=SEVERAL).parameters == {"tls_ca": "/ca.pem", "queue": "x"}
    with pytest.raises(QueueError, match="'tls_ca' is there twice"):
        parse_url(url + "&tls_ca=/ca.pem", parameters=NAMES, connections=SEVERAL)
    known = r"\(known: password, queue, seconds, tls_ca; docs/queues\.md has libraries' names for more\)"
    with pytest.raises(QueueError, match=rf"^some://h/0: unknown parameter 'socket' {known}\.$"):
        parse_url("some://h/0?queue=x&socket=1", parameters=NAMES, connections=SEVERAL)


def test_what_follows_the_plus_is_known_or_refused() -> None:
    """It was passed over: with a misspelt name for TLS, the password went over the net in clear."""
    with pytest.raises(QueueError, match=r"^some\+ssl://…: .* write one of some, some\+redis, some\+tls\.$"):
        parse_url("some+ssl://h/0", parameters=NAMES, connections=SEVERAL)


def test_secrets_among_the_parameters_are_shown_nowhere() -> None:
    url = "some://h/0?password=s3cret%2F&queue=x&sentinel_password=s3cret"
    assert shown_url(url) == "some://h/0?password=***&queue=x&sentinel_password=***"
    with pytest.raises(QueueError) as caught:
        parse_url(url, parameters=NAMES, connections=SEVERAL)
    assert "s3cret" not in str(caught.value)
    for inner in ("http://me:s3cret@host/", "http%3A%2F%2Fme%3As3cret%40host/"):
        assert shown_url(f"some://h/0?queue={inner}&seconds=1") == "some://h/0?queue=http://***@host/&seconds=1"
    parsed = parse_url("some://me:s3cret%2F@h/0?password=0ther", parameters=NAMES, connections=SEVERAL)
    said = parsed.hidden("cannot log in with s3cret/ (s3cret%2F), 0ther or t0ken", "t0ken", None)
    assert said == "cannot log in with *** (***), *** or ***"


def test_a_place_is_written_as_a_url_has_it() -> None:
    assert [place("h", None), place("::1", 5), place(*Host("h", 5))] == ["h", "[::1]:5", "h:5"]
