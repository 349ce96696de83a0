"""HTTPS on the engine's own port: with a certificate of its own authority, or with files that the operator has.

Of its own authority a certificate is made at each start, for the addresses and names that the engine is reached by, and
renewed while it runs. The authority's root is in ``engine-ca.pem`` of the state directory for clients of this machine;
those of others are given it (``NULLWORKER_CA``), and workers get it from their fleet or with their invitation.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
import ssl
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from nullworker.engine.state_dir import StateError, replace_key_file

if TYPE_CHECKING:
    from pathlib import Path

    from nullworker.engine.auth.certificates import CertificateAuthority
    from nullworker.engine.config import EngineConfig

ROOT_FILE, CERTIFICATE_FILE = "engine-ca.pem", "engine-tls.pem"
log = logging.getLogger(__name__)

#: A certificate of the engine's own is renewed after so long; it is good for more than a year.
RENEW_AFTER_S = 30 * 86_400.0


class EngineTls:
    """What the engine serves TLS with."""

    def __init__(self, context: ssl.SSLContext, ca_pem: str | None) -> None:
        """Takes what `open` made."""
        self.context = context
        #: The root of the engine's own authority, which workers and clients pin; None: the operator's files are used.
        self.ca_pem = ca_pem

    @classmethod
    def open(cls, config: EngineConfig, state_dir: Path, authority: CertificateAuthority) -> EngineTls:
        """Makes or reads the certificate.

        Args:
            config: says which.
            state_dir: where the engine's own is kept.
            authority: signs it.

        Raises:
            StateError: the files cannot be used.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if config.worker_certificates:  # clients have none: each route says whether it takes one
            context.verify_mode = ssl.CERT_OPTIONAL
            context.load_verify_locations(cadata=authority.ca_pem)
        if config.tls_files is not None:
            certificate, key = config.tls_files
            try:
                context.load_cert_chain(certificate, key)
            except (OSError, ssl.SSLError) as error:
                why = getattr(error, "reason", None) or error.strerror or str(error)
                raise StateError(
                    f"tls_certificate {certificate} and tls_key {key} cannot be used ({why}); give a certificate and "
                    "its key in PEM."
                ) from None
            return cls(context, None)
        names = own_names(config.host, config.public_url)
        _renew(context, state_dir, authority, names)
        try:
            replace_key_file(state_dir / ROOT_FILE, authority.ca_pem.encode())
        except OSError as error:
            raise StateError(f"{state_dir / ROOT_FILE} cannot be written ({error.strerror}).") from None
        renewed_at_s = time.monotonic()

        def renewed_in_time(*_: object) -> None:  # called at each handshake that names a host
            nonlocal renewed_at_s
            if time.monotonic() - renewed_at_s > RENEW_AFTER_S:
                renewed_at_s = time.monotonic()
                try:
                    _renew(context, state_dir, authority, names)
                except StateError as error:
                    log.error("%s It is tried again in %d days.", error, RENEW_AFTER_S / 86_400)  # noqa: TRY400 - the disk

        context.sni_callback = renewed_in_time
        return cls(context, authority.ca_pem)


def own_names(host: str, public_url: str) -> list[str]:
    """At which addresses and names the engine is reached.

    Args:
        host: where it listens; 0.0.0.0 and :: are all addresses.
        public_url: where workers reach it, if that is elsewhere.
    """
    names = ["127.0.0.1", "::1", "localhost"]
    try:
        everywhere = ipaddress.ip_address(host).is_unspecified
    except ValueError:
        everywhere = False
    if everywhere:
        names += [socket.gethostname(), *_addresses()]
    else:
        names.append(host)
    names.append(urlsplit(public_url).hostname or "" if public_url else "")
    return list(dict.fromkeys(name for name in names if name and name.isascii()))


def _addresses() -> list[str]:
    """This machine's own addresses, as far as its name tells."""
    try:
        found = socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return [str(address[0]).partition("%")[0] for *_, address in found]


def _renew(context: ssl.SSLContext, state_dir: Path, authority: CertificateAuthority, names: list[str]) -> None:
    path = state_dir / CERTIFICATE_FILE
    try:
        replace_key_file(path, authority.own(names))
        context.load_cert_chain(path)
    except OSError as error:
        raise StateError(f"The certificate {path} cannot be written ({error.strerror or error}).") from None
