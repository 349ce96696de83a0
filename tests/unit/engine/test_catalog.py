"""What an engine serves, and what becomes of an endpoint that its file no longer has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nullworker.core.parameters import TESTED_PARAMETERS
from nullworker.engine.catalog import Catalog
from nullworker.engine.config import EndpointConfig, WorkergroupConfig

if TYPE_CHECKING:
    import pytest


def named(*names: str) -> tuple[EndpointConfig, ...]:
    return tuple(EndpointConfig(name, TESTED_PARAMETERS, (WorkergroupConfig(),)) for name in names)


def catalog() -> Catalog:
    handled: list[Any] = []
    return Catalog(handled.append, lambda: 0.0)


def test_an_endpoint_that_was_renamed_in_the_file_goes_on_and_that_is_said(caplog: pytest.LogCaptureFixture) -> None:
    served = catalog()
    served.apply_file(named("old", "other"))
    assert served.left_over == set()
    served.apply_file(named("new", "other"))
    assert sorted(served.by_name) == ["new", "old", "other"]
    assert served.left_over == {served.by_name["old"].endpoint_id}
    [record] = caplog.records
    assert "the endpoint old is no longer in the configuration" in record.getMessage()
    assert f"vastai delete endpoint {served.by_name['old'].endpoint_id}" in record.getMessage()


def test_one_that_is_put_back_or_was_never_in_a_file_is_not_left_over() -> None:
    served = catalog()
    served.apply_file(named("old"))
    served.apply_file(named("new"))
    served.apply_file(named("old", "new"))
    assert served.left_over == set()
    served._add_endpoint("by-call", TESTED_PARAMETERS)
    served.apply_file(named("old", "new"))
    assert served.left_over == set()
