"""What is said where an engine does not take the key."""

from __future__ import annotations

import pytest

from nullworker.cli import asking
from nullworker.cli.errors import UserError


@pytest.mark.parametrize(
    ("given", "variable", "named"), [(None, "other", True), ("given", "other", False), ("given", None, False)]
)
def test_a_refused_key_that_came_from_the_environment_is_named(
    monkeypatch: pytest.MonkeyPatch, given: str | None, variable: str | None, named: bool
) -> None:
    """It counts more than the key of the engine on this machine, which would have been taken."""

    async def refuse(*_: object) -> tuple[int, str]:
        return 401, '{"msg": "The API key is not this engine\'s account key."}'

    monkeypatch.setattr(asking, "_answer", refuse)
    monkeypatch.delenv("VAST_API_KEY", raising=False)
    if variable is not None:
        monkeypatch.setenv("VAST_API_KEY", variable)
    with pytest.raises(UserError, match="is not this engine's account key") as refused:
        asking.ask("http://127.0.0.1:1", given, "/status")
    assert ("It is the one in VAST_API_KEY: unset that" in str(refused.value)) is named
