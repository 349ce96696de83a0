"""What ``nullworker up`` serves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nullworker.dispatch.settings import DispatchSettings
    from nullworker.engine.config import EngineConfig


@dataclass(frozen=True, slots=True)
class Plan:
    """The settings of the engine and of the dispatcher."""

    engine: EngineConfig
    dispatch: DispatchSettings
