"""The settings of the Vast fleet: the keys of ``[fleet.vast]``, checked when the fleet is opened."""

from __future__ import annotations

import ipaddress
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import msgspec

from nullworker.fleets.base import FleetError

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Has the account's key, if no file is named. ``VAST_API_KEY`` is the engine's own key for its clients, and never read.
KEY_VARIABLE = "NULLWORKER_VAST_KEY"
_COUNTRY = re.compile(r"[A-Z]{2}")

_Money = Annotated[float, msgspec.Meta(gt=0, le=1e6)]
_Amount = Annotated[float, msgspec.Meta(ge=0, le=1e6)]


class VastSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The settings with their defaults."""

    #: The engine's state directory; the engine gives it.
    state_dir: str
    #: A git repository with ``start_server.sh``, as the rented machines reach it, and a branch or tag.
    repository: str
    ref: str = ""
    #: The most that one machine may cost, in dollars an hour, and all of them, in dollars a day (UTC).
    price_per_hour_max: _Money
    spend_per_day_max: _Money
    #: A file with the account's key; "": the environment variable `KEY_VARIABLE`.
    api_key_file: str = ""
    #: The GPU, as Vast names it; "": any.
    gpu_name: str = ""
    gpus_per_worker: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 1
    #: Of each GPU, and of the machine for the worker, in gigabytes; 0: any.
    gpu_ram_gb: _Amount = 0.0
    memory_gb: _Amount = 0.0
    cpus: _Amount = 0.0
    #: Cannot be changed later, and is paid for as long as the instance exists.
    disk_gb: Annotated[float, msgspec.Meta(ge=1, le=1e6)] = 20.0
    #: Two-letter codes of countries; none: anywhere.
    regions: list[str] = []
    #: How likely a host is to be there, as Vast measures it, from 0 to 1.
    reliability_min: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.95
    #: Whether only hosts that Vast has verified are rented.
    verified: bool = True
    image: str = "vastai/base-image:@vastai-automatic-tag"
    #: Where consumers start on the machine; "": where the repository was cloned.
    consumer_dir: str = ""
    #: The port that workers listen on inside the machine.
    worker_port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 3000
    #: Interruptible machines: cheaper, and taken back when another bids more. The bid, in dollars an hour; 0: a fifth
    #: over what the host asks for at least.
    interruptible: bool = False
    bid_per_hour: _Amount = 0.0
    #: A stopped instance pays for its disk: it is destroyed after so long.
    stopped_age_max_s: Annotated[float, msgspec.Meta(ge=60, le=1e9)] = 7 * 86_400.0
    #: A machine that has not heard of the engine for so long, and holds nothing, destroys itself.
    silence_s: Annotated[float, msgspec.Meta(ge=120, le=1e7)] = 3600.0
    #: How old a search for offers, and a list of the account's instances, may be.
    offers_s: Annotated[float, msgspec.Meta(ge=30, le=3600)] = 60.0
    instances_s: Annotated[float, msgspec.Meta(ge=0.1, le=3600)] = 30.0
    #: Of Vast's interface.
    url: str = "https://console.vast.ai"


def read_settings(settings: Mapping[str, object]) -> VastSettings:
    """The settings out of a configuration's table, with absolute paths.

    Raises:
        FleetError: a key is unknown, missing or of a wrong type, or has no sense.
    """
    plain = {key: os.fspath(value) if isinstance(value, os.PathLike) else value for key, value in settings.items()}
    try:
        read = msgspec.convert(plain, VastSettings)
    except msgspec.ValidationError as error:
        raise FleetError(f"The settings of the Vast fleet are wrong ({error}): correct [fleet.vast].") from error
    wrong = next((each for each in read.regions if not _COUNTRY.fullmatch(each)), None)
    if wrong is not None:
        raise FleetError(f"{wrong!r} is no two-letter code of a country: correct regions of [fleet.vast].")
    if not read.repository.strip() or read.repository.startswith("-"):
        raise FleetError("repository of [fleet.vast] is no URL that git could clone: correct it.")
    if not _is_safe(read.url):
        raise FleetError(f"{read.url!r} is no https:// address: the account's key is sent to url of [fleet.vast].")
    if read.bid_per_hour > read.price_per_hour_max:
        raise FleetError("bid_per_hour of [fleet.vast] is over price_per_hour_max: lower it.")
    return msgspec.structs.replace(
        read, state_dir=str(Path(read.state_dir).expanduser().resolve()), url=read.url.rstrip("/")
    )


def _is_safe(url: str) -> bool:
    """Whether a key may be sent to an address: over TLS, or within this machine."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        if parts.scheme == "https":
            return bool(host)
        return parts.scheme == "http" and (host == "localhost" or ipaddress.ip_address(host).is_loopback)
    except ValueError:
        return False


def read_key(settings: VastSettings, environ: Mapping[str, str]) -> str:
    """The account's key.

    Args:
        settings: of the fleet.
        environ: the engine's environment.

    Raises:
        FleetError: there is none, or its file cannot be read.
    """
    if not settings.api_key_file:
        key = environ.get(KEY_VARIABLE, "").strip()
        if not key:
            raise FleetError(f"The Vast fleet has no key: name its file in api_key_file, or set {KEY_VARIABLE}.")
        return _checked(key, KEY_VARIABLE)
    try:
        key = Path(settings.api_key_file).expanduser().read_text().strip()
    except (OSError, UnicodeDecodeError, RuntimeError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise FleetError(
            f"Vast's key cannot be read from {settings.api_key_file} ({why}): correct api_key_file."
        ) from error
    return _checked(key, settings.api_key_file)


def _checked(key: str, where: str) -> str:
    if not re.fullmatch(r"[!-~]+", key):
        raise FleetError(f"What {where} holds is no key of Vast: copy the key from the console's page of keys.")
    return key
