from __future__ import annotations

import json
import re
import string
import time
import traceback

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nullworker.engine.auth.keys import Keys
from nullworker.wire import redaction
from nullworker.wire.redaction import SECRET_NAMES, hide, redact, redacted
from nullworker.wire.secret import Secret

#: What a key may be made of: anything printable without spaces, as `Keys` takes it, that no quoting has to escape.
KEY_CHARACTERS = string.ascii_letters + string.digits + "-_.~+/="
keys = st.text(KEY_CHARACTERS, min_size=12, max_size=80).map(lambda text: "k" + text)
names = st.sampled_from(sorted(SECRET_NAMES))


def ways_to_say(name: str, key: str) -> list[str]:
    """Texts that logs have been seen to have."""
    body = {"id": 7, name: key, "url": "http://h:1"}
    return [
        json.dumps(body),
        json.dumps(json.dumps(body)),
        json.dumps(body, indent=4),
        json.dumps(body, separators=(",", ":")),
        repr(body),
        repr({"body": json.dumps(body)}),
        str(json.dumps(body).encode()),
        f"{name}={key}",
        f"{name.upper()}={key} and more",
        f"sent {name}='{key}', refused",
        f"RouteRequest(endpoint='a', {name}={key!r})",
        f"http://h:1/api/v0/endptjobs/?client_id=me&{name}={key}",
        f"GET /api/v0/endptjobs/?{name}={key}&x=1 HTTP/1.1",
        f"Authorization: Bearer {key}",
        f"{{'Authorization': 'Bearer {key}'}}",
        f"<CIMultiDictProxy('Host': 'h', 'Authorization': 'Bearer {key}')>",
        f"authorization:Basic {key}",
        f"{name}: the header was Bearer {key}",
    ]


@given(name=names, key=keys)
@example(name="api_key", key="k=&?==kkkkkkkkk")
def test_a_secret_in_a_known_place_is_masked_in_every_text(name: str, key: str) -> None:
    for text in ways_to_say(name, key):
        assert key not in redact(text), text


@given(name=names, key=keys)
def test_a_secret_in_a_field_of_a_known_name_is_masked(name: str, key: str) -> None:
    value = redacted({"a": [{name: key}, {name.upper(): (key,)}], "b": Secret(key), "c": {"d": {name: {"x": key}}}})
    assert key not in json.dumps(value)


@given(st.integers(0, 2**53), st.binary(min_size=32, max_size=32))
def test_our_own_keys_are_masked_wherever_they_stand(number: int, secret: bytes) -> None:
    """Also in an unexpected place, and in the middle of a traceback."""
    own = Keys("a-key-of-the-users", secret)
    for key in (own.worker_token(number), own.endpoint_key(number), own.join_token(number, number)):
        text = f"worker 7 said {key.reveal()}!"
        assert key.reveal() not in redact(text)
        error = "".join(traceback.format_exception(ValueError(text)))
        assert key.reveal() not in redact(error)


def test_signatures_grants_and_private_keys_are_masked_wherever_they_stand() -> None:
    import jwt

    signature = "Ab3/" * 86
    grant = jwt.encode({"sub": "7"}, "k" * 32, algorithm="HS256")
    private = "-----BEGIN PRIVATE KEY-----\nMIIabc\n-----END PRIVATE KEY-----"
    for secret in (signature, grant, private):
        assert redact(f"it was {secret} indeed") == "it was *** indeed"


def test_a_key_of_the_users_own_is_masked_once_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "_hidden", set())
    hide(Secret("my-own-plain-key"))
    hide(Secret("of"))
    assert redact("one of my-own-plain-key's") == "one of ***'s"


@pytest.mark.parametrize(
    "text",
    [
        "worker 7 is ready at http://127.0.0.1:3000",
        "request 12 is granted worker 7: free since 3.5 s, and the most recently freed of 4",
        "grant expired: no session after 30 s",
        "the token is not worker 7's; is it Ready? 2=2",
        "needed 200 = (held 100 + urgent 100) / target_util 1.0",
        "1a2b3c4d5e6f",
        "",
    ],
)
def test_what_is_no_secret_is_left_as_it_is(text: str) -> None:
    assert redact(text) == text


def test_plain_values_stay_what_they_are() -> None:
    value = {"worker_id": 7, "ready": True, "load": 1.5, "url": None, "names": ["a", ("b",)], "api_key": None}
    assert redacted(value) == {**value, "names": ["a", ["b"]]}


def test_bottomless_values_have_a_bottom() -> None:
    value: list[object] = []
    value.append(value)
    assert "…" in str(redacted(value))


def test_a_very_long_text_is_cut_and_no_secret_with_it() -> None:
    for shift in range(80):
        text = "x " * 9_960 + " " * shift + "a1" * 32 + " y" * 20_000
        shown = redact(text)
        assert len(shown) <= redaction.TEXT_CHARACTERS_MAX + 1
        assert "a1a1" not in shown


HOSTILE = ["\\", '"', "?", "a", "eyJ-", "x_", "?a", "bearer ", "api_key=", '"api_key":"', "A1"]
#: Eight times the text takes eight times as long where the work grows with the length, and 64 times with its square.
SHORT, LONG, RATIO_MAX = 2_500, 20_000, 24.0


def growth(hostile: str, short: int = SHORT, long: int = LONG) -> float:
    """How much longer a long text takes than a short one, by the processor time of the fastest of several tries."""

    def cost_s(characters: int) -> float:
        text = (hostile * characters)[:characters]
        tries = []
        for _ in range(7):
            began = time.process_time()
            redact(text)
            tries.append(time.process_time() - began)
        return min(tries)

    return cost_s(long) / cost_s(short)


@pytest.mark.parametrize("hostile", HOSTILE)
def test_a_hostile_text_costs_no_more_than_its_length(hostile: str) -> None:
    assert growth(hostile) < RATIO_MAX


@pytest.mark.parametrize("pattern", [r"\w+=", r"(?:a|b)*c"])
def test_a_pattern_whose_work_grows_with_the_square_is_noticed(pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The measure of the test above tells a bad pattern: one that looks on to the end of the text from each place."""
    monkeypatch.setattr(redaction, "_PATTERNS", (*redaction._PATTERNS, re.compile(f"({pattern})")))
    assert growth("a", SHORT // 10, LONG // 10) > RATIO_MAX
