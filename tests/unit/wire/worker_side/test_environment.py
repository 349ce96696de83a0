from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nullworker.wire.worker_side.environment import Environment, SettingsError, http_url, is_http_url

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(
    ("read", "value", "message"),
    [
        (lambda env: env.required("X"), "  ", "X is not set"),
        (lambda env: env.whole_number("X", 0, 9), "ten", "X is 'ten', but must be a whole number from 0 to 9."),
        (lambda env: env.whole_number("X", 0, 9), "10", "X is '10', but must be a whole number from 0 to 9."),
        (lambda env: env.whole_number("X", 0, 9), " 7", "X is ' 7', but"),
        (lambda env: env.whole_number("X", 0, 9), "-1", "X is '-1', but"),
        (lambda env: env.whole_number("X", 0, 9), "٣", "X is '٣', but"),
        (lambda env: env.whole_number("X", 0, 9), "9" * 5_000, "but must be a whole number"),
        (lambda env: env.port("X"), "0", "X is '0', but must be a whole number from 1 to 65535."),
        (lambda env: env.port("X", 3000), "65536", "X is '65536', but"),
        (lambda env: env.number("X", 1.0), "nan", "X is 'nan', but must be a number of at least 0."),
        (lambda env: env.number("X", 1.0), "inf", "X is 'inf', but must be a number of at least 0."),
        (lambda env: env.number("X", 1.0, at_most=2), "3", "but must be a number of at least 0 and at most 2."),
        (lambda env: env.number("X", 1.0, kind="a number of seconds"), "soon", "but must be a number of seconds of"),
        (lambda env: env.flag("X"), "perhaps", "X is 'perhaps', but must be true or false."),
    ],
)
def test_a_wrong_value_is_named_in_one_sentence(
    read: Callable[[Environment], object], value: str, message: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        read(Environment({"X": value}))
    assert message in str(caught.value)
    assert str(caught.value).endswith(".")


def test_what_is_not_set_has_its_default() -> None:
    env = Environment({"BLANK": "  "})
    assert (env.number("X", 2.5), env.port("X", 3000), env.flag("X"), env.text("X")) == (2.5, 3000, False, "")
    assert (env.number("BLANK", 2.5), env.port("BLANK", 3000), env.flag("BLANK")) == (2.5, 3000, False)


def test_yes_and_no_have_their_usual_spellings() -> None:
    assert all(Environment({"X": text}).flag("X") for text in ("1", "true", "YES", " on "))
    assert not any(Environment({"X": text}).flag("X") for text in ("0", "False", "no", "off", ""))


def test_the_public_port_is_that_of_the_workers_own() -> None:
    assert Environment({"WORKER_PORT": "3000", "VAST_TCP_PORT_3000": "40123"}).public_port() == 40_123
    with pytest.raises(SettingsError, match=r"^VAST_TCP_PORT_3001 is not set"):
        Environment({"WORKER_PORT": "3001", "VAST_TCP_PORT_3000": "40123"}).public_port()


def test_the_engines_addresses_have_no_slash_at_their_ends() -> None:
    env = Environment({"REPORT_ADDR": "http://a/, https://b/api ,"})
    assert env.report_addrs() == ("http://a", "https://b/api")


@pytest.mark.parametrize("value", ["engine:8080", ",", "", "http://[::1", "ftp://a", "http://"])
def test_an_address_that_is_no_url_is_refused(value: str) -> None:
    with pytest.raises(SettingsError, match="REPORT_ADDR"):
        Environment({"REPORT_ADDR": value}).report_addrs()


@pytest.mark.parametrize(
    ("text", "is_one"),
    [("http://a", True), ("https://a:1/b", True), ("http://a:0", False), ("http://a:99999", False), ("a:1", False)],
)
def test_what_an_http_url_is(text: str, *, is_one: bool) -> None:
    assert is_http_url(text) is is_one


def test_an_address_of_ip_version_6_is_bracketed() -> None:
    assert http_url("::1", 40_123) == "http://[::1]:40123"
    assert http_url("203.0.113.9", 40_123, use_ssl=True) == "https://203.0.113.9:40123"
