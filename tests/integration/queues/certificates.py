"""Certificates for brokers that speak TLS: an authority of the tests' own, a server's certificate and a client's."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.kit.authority import Authority

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Certificates:
    """Files in PEM form. The server's certificate is for ``localhost`` and ``::1``, and not for 127.0.0.1."""

    directory: Path
    authority: Path
    server: Path
    server_key: Path
    client: Path
    client_key: Path
    #: Of another authority, which signed nothing here.
    stranger: Path


def make_certificates(directory: Path, *, user: str) -> Certificates:
    """Makes all files.

    Args:
        directory: where to.
        user: the common name of the client's certificate, which brokers may take for the user's name.
    """
    authority, stranger = Authority(), Authority()
    localhost = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("::1"))]
    made = Certificates(directory, *(directory / f"{name}.pem" for name in NAMES))
    made.authority.write_bytes(authority.pem)
    made.stranger.write_bytes(stranger.pem)
    _sign(authority, "localhost", localhost, made.server, made.server_key)
    _sign(authority, user, [x509.DNSName(user)], made.client, made.client_key)
    return made


NAMES = ("ca", "server", "server-key", "client", "client-key", "other-ca")


def _sign(
    authority: Authority, common_name: str, names: list[x509.GeneralName], certificate: Path, key_path: Path
) -> None:
    key = rsa.generate_private_key(65_537, 2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    request = builder.sign(key, hashes.SHA256())
    certificate.write_bytes(authority.sign(request.public_bytes(Encoding.PEM)))
    key_path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
    key_path.chmod(0o600)
