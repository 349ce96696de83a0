from __future__ import annotations

import contextlib
import gc

import pytest

from nullworker.wire.importing import uncollected


@pytest.mark.parametrize("enabled", [True, False])
def test_nothing_is_collected_meanwhile_and_what_is_there_is_set_aside(enabled: bool) -> None:
    before, was = gc.get_freeze_count(), gc.isenabled()
    loaded: list[object] = []
    (gc.enable if enabled else gc.disable)()
    try:
        with contextlib.suppress(ImportError), uncollected():
            meanwhile = gc.isenabled()
            loaded.extend([] for _ in range(100))
            raise ImportError
        assert meanwhile is False
        assert gc.isenabled() is enabled
        assert gc.get_freeze_count() >= before + 100
    finally:
        (gc.enable if was else gc.disable)()
