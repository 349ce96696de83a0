from __future__ import annotations

import pytest

from nullworker.wire.errors import (
    ForbiddenError,
    NotFoundError,
    TooLargeError,
    UnauthorizedError,
    WireError,
)


def test_a_refusal_names_its_field_and_says_what_is_wrong() -> None:
    error = WireError("cost", "cost is missing.")
    assert (error.status, error.message) == (400, "cost is missing.")
    assert error.body() == {"success": False, "error": "invalid_args", "msg": "cost is missing.", "field": "cost"}


@pytest.mark.parametrize(
    ("kind", "status"), [(UnauthorizedError, 401), (ForbiddenError, 403), (NotFoundError, 404), (TooLargeError, 413)]
)
def test_a_refusal_of_the_whole_request_blames_no_field(
    kind: type[UnauthorizedError | ForbiddenError | NotFoundError | TooLargeError], status: int
) -> None:
    error = kind("There is no such thing here.")
    assert error.status == status
    assert "field" not in error.body()
    assert error.body()["msg"] == "There is no such thing here."


def test_every_refusal_is_caught_as_a_wire_error() -> None:
    with pytest.raises(WireError, match="no such"):
        raise NotFoundError("no such endpoint")
