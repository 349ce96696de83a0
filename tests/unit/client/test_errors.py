"""What failures say."""

from __future__ import annotations

import inspect

import pytest

from nullworker.client import errors


def samples() -> list[errors.ClientError]:
    """One of each."""
    return [
        errors.InstanceInvalidError("beta"),
        errors.KeyMissingError("There is no key."),
        errors.KeyRefusedError("http://e", "Invalid key."),
        errors.KeyRefusedError("http://e", "Invalid key.", is_of_environment=True),
        errors.EndpointUnknownError("http://e", "x", ["a", "b"]),
        errors.EndpointUnknownError("http://e", "x", []),
        errors.EndpointUnknownError("http://e", "x"),
        errors.EngineUnreachableError("http://e", "connection refused", silent_s=61),
        errors.EngineRefusedError("http://e", "HTTP 400: cost is missing."),
        errors.CertificateUnavailableError("http://e/static", "HTTP 404"),
        errors.NoWorkerInTimeError("x", 30, "the cap is reached"),
        errors.NoWorkerInTimeError("x", 30, "all are held, and max_workers is 4"),
        errors.WorkerRefusedError("http://w", 401, "forged\n\tsignature"),
        errors.WorkerUnreachableError("http://w", "time-out"),
        errors.ReservationLostError("s-1", "http://w", "its worker is gone"),
        errors.ReleaseUnconfirmedError("s-1", "http://w", 60, "time-out"),
        errors.RecordInvalidError("url is missing"),
    ]


def test_every_failure_has_a_sample_here() -> None:
    """A new class cannot be forgotten by the tests below."""
    classes = {
        kind
        for _, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, errors.ClientError) and kind is not errors.ClientError
    }
    assert classes == {type(sample) for sample in samples()}


@pytest.mark.parametrize("error", samples(), ids=lambda error: type(error).__name__)
def test_a_failure_says_one_sentence_on_one_line(error: errors.ClientError) -> None:
    """It begins with a capital letter, ends with a full stop, and has neither line breaks nor a doubled stop."""
    text = str(error)
    assert text[0].isupper()
    assert text.endswith(".")
    assert not text.endswith("..")
    assert text.isprintable()
    assert ". " not in text


def test_foreign_text_is_cut_and_cleaned() -> None:
    """An answer of a megabyte with escape sequences becomes a few words."""
    text = str(errors.WorkerRefusedError("http://w", 500, "\x1b[31m" + "a\n" * 1_000_000))
    assert len(text) < 500
    assert text.isprintable()


def test_many_endpoints_are_counted_and_not_all_named() -> None:
    """A list that is too long to read is not printed."""
    text = str(errors.EndpointUnknownError("http://e", "x", [f"endpoint-{n:03}" for n in range(100)]))
    assert "endpoint-009 and 90 more" in text
    assert "endpoint-010" not in text
