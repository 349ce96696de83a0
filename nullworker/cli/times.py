"""Past times as people write them: ``14:05``, ``2026-11-27``, ``-10m``."""

from __future__ import annotations

import datetime as dt
import re

import click


def moment(text: str, now: dt.datetime, option: str = "--at") -> dt.datetime:
    """The time that ``text`` means.

    Args:
        text: ``14:05`` or ``14:05:30`` (the last such time), an ISO date, with or without a time, or ``-10m`` (s, m, h,
            d).
        now: the time now, with its zone.
        option: which is named in a refusal.

    Raises:
        click.BadParameter: it means none.
    """
    ago = re.fullmatch(r"-?(\d+(?:\.\d+)?)\s*([smhd])", text.strip())
    if ago:
        unit = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}[ago[2]]
        return now - dt.timedelta(**{unit: float(ago[1])})
    try:
        if re.fullmatch(r"\d{1,2}:\d{2}(:\d{2})?", text.strip()):
            hour, minute, second = (*map(int, text.strip().split(":")), 0)[:3]
            found = now.replace(hour=hour, minute=minute, second=second, microsecond=0)
            return found if found <= now else found - dt.timedelta(days=1)
        found = dt.datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
    except ValueError:
        raise click.BadParameter(
            f"{text} is no time; give 14:05, 2026-11-27T14:05:30, or -10m.", param_hint=option
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=now.tzinfo)
