"""What a worker knows of its engine before it has asked it anything: its authority, and whether it issues grants.

Both come in the worker's environment, from the fleet or from ``nullworker join``. So an attacker between the two can
neither pass for the engine nor take the demand for grants out of its answer.
"""

from __future__ import annotations

import base64
import binascii
import os
import ssl
import tempfile
from typing import TYPE_CHECKING, Any

from nullworker.wire.worker_side.environment import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

#: The certificate of the authority that the engine's own must be of: DER in base64url.
CA_VARIABLE = "NULL_ENGINE_CA"
#: The worker's own certificate and its key, which it shows to an engine that asks for them: PEM in base64url.
CERTIFICATE_VARIABLE = "NULL_CLIENT_CERTIFICATE"
#: ``required``: no session without a grant, whatever answers in the engine's place.
GRANTS_VARIABLE = "NULL_GRANTS"
#: Where OpenSSL, and with it Python and aiohttp, looks for authorities; and where requests does.
_FILE_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
_BEFORE = "NULL_BEFORE_"
#: The file with the worker's own certificate and key, once it is installed.
_OWN_FILE = "NULL_OWN_CERTIFICATE_FILE"
#: What no program of others is given.
OWN_VARIABLES = (CERTIFICATE_VARIABLE, _OWN_FILE)


def encoded(pem: str) -> str:
    """A certificate as `CA_VARIABLE` has it."""
    return base64.urlsafe_b64encode(ssl.PEM_cert_to_DER_cert(pem)).decode()


def encoded_chain(pem: bytes) -> str:
    """A certificate and its key as `CERTIFICATE_VARIABLE` has them."""
    return base64.urlsafe_b64encode(pem).decode()


def context(environ: Mapping[str, str]) -> ssl.SSLContext | None:
    """What an engine's certificate is checked with; None: as any other's.

    Raises:
        SettingsError: `CA_VARIABLE` holds no certificate.
    """
    pem = _pem(environ)
    return None if pem is None else ssl.create_default_context(cadata=pem)


def install(environ: MutableMapping[str, str]) -> None:
    """Has this process trust the engine's authority and no other, in all that is loaded after it.

    It shows the worker's own certificate from then on, where there is one. What it starts for others gets the
    environment of `without`.

    Raises:
        SettingsError: `CA_VARIABLE` or `CERTIFICATE_VARIABLE` holds no certificate.
    """
    _show_own(environ)
    pem = _pem(environ)
    if pem is None:
        return
    path = _file_of(pem)
    for name in _FILE_VARIABLES:
        if name in environ:
            environ[_BEFORE + name] = environ[name]
        environ[name] = path


def files(environ: Mapping[str, str]) -> tuple[str | None, str | None]:
    """The files of the authority and of the own certificate, after `install`, for a library with its own contexts."""
    return environ.get(_FILE_VARIABLES[1]) if CA_VARIABLE in environ else None, environ.get(_OWN_FILE)


def without(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment as it was before `install`: a consumer trusts what it did."""
    if CA_VARIABLE not in environ:
        return dict(environ)
    found = {name: value for name, value in environ.items() if not name.startswith(_BEFORE)}
    for name in _FILE_VARIABLES:
        found.pop(name, None)
        if _BEFORE + name in environ:
            found[name] = environ[_BEFORE + name]
    return found


def context_of_others(environ: Mapping[str, str]) -> ssl.SSLContext | None:
    """What the certificate of a host that is not the engine is checked with, after `install`; None: as ever."""
    if CA_VARIABLE not in environ:
        return None
    paths = ssl.get_default_verify_paths()
    usual = environ.get(_BEFORE + "SSL_CERT_FILE") or paths.openssl_cafile
    found = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    found.load_verify_locations(
        usual if os.path.isfile(usual) else None,  # noqa: PTH113 - a text is what it takes
        paths.openssl_capath if os.path.isdir(paths.openssl_capath) else os.devnull,  # noqa: PTH112 - likewise
    )
    return found


def demands_grants(environ: Mapping[str, str]) -> bool:
    """Whether grants are required without the engine's saying so.

    Raises:
        SettingsError: `GRANTS_VARIABLE` has another value than ``required``.
    """
    value = environ.get(GRANTS_VARIABLE, "")
    if value not in ("", "required"):
        raise SettingsError(f"{GRANTS_VARIABLE} is {value!r}, but must be required, or not set.")
    return value == "required"


def _pem(environ: Mapping[str, str]) -> str | None:
    text = environ.get(CA_VARIABLE, "")
    if not text:
        return None
    try:
        pem = ssl.DER_cert_to_PEM_cert(base64.b64decode(text, altchars=b"-_", validate=True))
        ssl.create_default_context(cadata=pem)
    except (binascii.Error, ValueError, ssl.SSLError):
        raise SettingsError(f"{CA_VARIABLE} holds no certificate; take it as the engine gave it.") from None
    return pem


def _show_own(environ: MutableMapping[str, str]) -> None:
    """Has every context for calls that is made from now on show the worker's own certificate where it is asked for."""
    text = environ.get(CERTIFICATE_VARIABLE, "")
    if not text:
        return
    make = ssl.create_default_context
    try:
        path = _file_of(base64.b64decode(text, altchars=b"-_", validate=True).decode())
        make().load_cert_chain(path)
    except (binascii.Error, ValueError, ssl.SSLError):
        raise SettingsError(
            f"{CERTIFICATE_VARIABLE} holds no certificate with its key; take it as the engine gave it."
        ) from None

    environ[_OWN_FILE] = path

    def make_with_own(purpose: ssl.Purpose = ssl.Purpose.SERVER_AUTH, **options: Any) -> ssl.SSLContext:
        made = make(purpose, **options)
        if purpose is ssl.Purpose.SERVER_AUTH:
            made.load_cert_chain(path)
        return made

    ssl.create_default_context = make_with_own


def _file_of(pem: str) -> str:
    """A file with the certificate: in memory, so that nothing is left of it, where the system has that."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("engine-ca")
        path = f"/proc/self/fd/{descriptor}"
    else:
        descriptor, path = tempfile.mkstemp(prefix="engine-ca-", suffix=".pem")
    os.write(descriptor, pem.encode())
    return path
