"""The ``[dispatch]`` table and ``[[dispatch.queue]]`` of the configuration file, which the engine may share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from nullworker.dispatch.binding import BindingSettings
from nullworker.dispatch.budget import Budget
from nullworker.dispatch.settings import DispatchSettings, DispatchSettingsError, check_binding, check_settings

if TYPE_CHECKING:
    from pathlib import Path


class QueueTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The keys of ``[[dispatch.queue]]``."""

    endpoint: str
    queue: str
    max: int = 16
    jobs_per_worker: int = 1
    poll_s: float = 1.0
    cost: float = 100.0
    lifetime_s: float = 600.0
    claim_s: float = 30.0
    end_idle_s: float | None = None
    max_idle_hold_s: float | None = None
    price_per_hour: float = 0.0
    priority: int = 0


class DispatchTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The keys of ``[dispatch]``."""

    queue: list[QueueTable] = msgspec.field(default_factory=list)
    instance: str = "local"
    cap: int | None = None
    max_hourly: float | None = None
    max_daily: float | None = None
    history: str = ""


def load_settings(file: Path) -> DispatchSettings:
    """Reads the file's ``[dispatch]``; its other tables are the engine's.

    Raises:
        DispatchSettingsError: it cannot be read, or something in ``[dispatch]`` is unknown or wrong.
    """
    try:
        tree: dict[str, Any] = msgspec.toml.decode(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise DispatchSettingsError(
            f"The file {file} cannot be read ({(error.strerror or str(error)).lower()})."
        ) from None
    except UnicodeDecodeError:
        raise DispatchSettingsError(f"The file {file} is not UTF-8.") from None
    except msgspec.DecodeError as error:
        raise DispatchSettingsError(f"The file {file} is not TOML: {error}.") from None
    try:
        table = msgspec.convert(tree.get("dispatch", {}), DispatchTable)
    except msgspec.ValidationError as error:
        raise DispatchSettingsError(f"In {file}, [dispatch]: {error}.") from None
    if not table.queue:
        raise DispatchSettingsError(f"In {file} there is no [[dispatch.queue]]: name an endpoint and a queue there.")
    bindings = tuple(
        check_binding(
            BindingSettings(
                endpoint=q.endpoint,
                queue=q.queue,
                most=q.max,
                jobs_per_worker=q.jobs_per_worker,
                poll_s=q.poll_s,
                cost=q.cost,
                lifetime_s=q.lifetime_s,
                claim_s=q.claim_s,
                end_idle_s=q.end_idle_s,
                max_idle_hold_s=q.max_idle_hold_s,
                price_per_hour=q.price_per_hour,
                priority=q.priority,
            ),
            f"In {file}, queue {number}: ",
        )
        for number, q in enumerate(table.queue, 1)
    )
    if table.cap is not None and table.cap < 0:
        raise DispatchSettingsError(f"In {file}, [dispatch]: cap is {table.cap}, and must not be negative.")
    budget = Budget(table.max_hourly, table.max_daily)
    settings = DispatchSettings(bindings, table.instance, table.cap, budget, table.history)
    return check_settings(settings, f"In {file}: ")
