"""What is said of Vast's answers and of its market, as sentences and ends of sentences. No code reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nullworker.wire.printable import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nullworker.fleets.vast.offers import Offer, Wanted

#: A message quotes at most so much of what Vast says.
CHARACTERS_MAX = 200
_KEY_ADVICE = "put the account's key into api_key_file of [fleet.vast]"


def quoted(text: object) -> str:
    """What Vast says, as the end of a sentence: one line, not too long, without a full stop."""
    line = one_line(str(text or "")).rstrip(". ")
    line = line if len(line) <= CHARACTERS_MAX else line[:CHARACTERS_MAX] + "…"
    return line or "it does not say why"


def reason_in(answer: Any, status: int) -> str:
    """Why Vast refused, out of its answer.

    Args:
        answer: the body as JSON, or whatever it was.
        status: of HTTP.
    """
    if isinstance(answer, dict):
        said = answer.get("msg") or answer.get("message") or answer.get("error")
        if said:
            return quoted(said)
    return f"HTTP {status}"


def refused_key(reason: str) -> str:
    """The key is wrong, or may not do this."""
    return f"Vast refuses the key ({reason}): {_KEY_ADVICE}, with the rights to read and write instances."


def refused(what: str, reason: str) -> str:
    """Vast says no to something else."""
    return f"Vast refused to {what}: {reason}."


def unreachable(url: str, why: str) -> str:
    """Nothing was sent."""
    return f"Vast at {url} cannot be reached ({quoted(why)})."


def unanswered(url: str, what: str, why: str) -> str:
    """Something was sent, and may have been done."""
    return f"Vast at {url} did not answer when asked to {what} ({quoted(why)})."


def not_as_documented(what: str) -> str:
    """A place that lies."""
    return f"Vast's answer to {what} is not as documented."


def asked_for(wanted: Wanted) -> str:
    """What kind of machine is looked for."""
    gpu = wanted.gpu_name or "GPU of any kind"
    parts = [f"{wanted.gpus} x {gpu}"]
    parts += [f"{wanted.gpu_ram_gb:g} GB on each GPU"] if wanted.gpu_ram_gb else []
    parts += [f"{wanted.cpus:g} CPUs"] if wanted.cpus else []
    parts += [f"{wanted.memory_gb:g} GB of memory"] if wanted.memory_gb else []
    parts += [f"{wanted.disk_gb:g} GB of disk"]
    parts += [f"in {', '.join(wanted.regions)}"] if wanted.regions else []
    parts += [f"reliability {wanted.reliability_min:g} or more"] if wanted.reliability_min else []
    return ", ".join(parts)


def no_such_gpu(wanted: Wanted) -> str:
    """Vast shows no machine with such a GPU at all."""
    return f"Vast has no offer of a GPU called {wanted.gpu_name!r}: correct gpu_name, as in RTX_4090, or wait for one."


def nothing_offered(wanted: Wanted, dropped: Mapping[str, int], cheapest: float | None, price_max: float) -> str:
    """There are no offers to take.

    Args:
        wanted: what was looked for.
        dropped: why offers that there are were left out, and how many for each reason.
        cheapest: of those over the price cap, in dollars an hour; None: there are none.
        price_max: the price cap.
    """
    why = [f"{count} {reason}" for reason, count in dropped.items() if count]
    why += [f"the cheapest costs ${cheapest:.3f}/h, over price_per_hour_max ${price_max:g}"] if cheapest else []
    because = f" ({'; '.join(why)})" if why else ""
    return f"Vast has no offer of {asked_for(wanted)}{because}."


def quota_of_searches(until: str) -> str:
    """A day's searches are used up."""
    return f"Vast takes no more searches of this account until {until}, when its daily quota begins again."


def spend_cap(spent: float, cap: float, rate: float) -> str:
    """The day's money is used up.

    Args:
        spent: today, in dollars.
        cap: ``spend_per_day_max``.
        rate: what runs costs in an hour, with the one that is refused.
    """
    return (
        f"Nothing more is rented today: ${spent:.2f} of spend_per_day_max ${cap:g} are spent, and ${rate:.2f} "
        "an hour would run with it (days are UTC's)."
    )


def would_rent(wanted: Wanted, best: Offer, offers: int, cap: float) -> str:
    """What the next worker would run on.

    Args:
        wanted: what was looked for.
        best: the offer that would be taken.
        offers: how many there are.
        cap: ``spend_per_day_max``.
    """
    how = f"a bid of ${best.bid_per_hour:.3f}/h for" if best.bid_per_hour else "on demand"
    where = f"machine {best.machine_id} ({one_line(best.region) or 'somewhere'}, reliability {best.reliability:.3f})"
    return (
        f"Vast would rent {best.gpus} x {best.gpu_name}, {how}{'' if best.bid_per_hour else ':'} {where}, for "
        f"${best.price_per_hour:.3f} an hour with {wanted.disk_gb:g} GB of disk; {offers} offers fit, and "
        f"spend_per_day_max ${cap:g} pays for {cap / best.price_per_hour:.0f} hours of the best; nothing was rented."
    )
