"""The engine's own certificate authority: clients trust its root, workers have their certificates signed by it.

A worker that serves TLS sends a certificate request at its start and gets a certificate for its own address and nothing
else. Root and leaves pass OpenSSL's strict checks (``VERIFY_X509_STRICT``), which Python turns on from 3.13 on.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import secrets
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from nullworker.engine.state_dir import StateError, read_or_create

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

CA_FILE = "ca.pem"
CA_VALID = dt.timedelta(days=3650)
LEAF_VALID = dt.timedelta(days=397)  # workers live for days; strict clients accept no more
CLOCK_SKEW = dt.timedelta(hours=1)  # by which a worker's or client's clock may lag behind ours
CSR_BYTES_MAX = 65_536
#: What Vast's start script asks for, as it does not know its own address; it stands for "the address you know me by".
PLACEHOLDER = "0.0.0.0"  # noqa: S104 - nothing listens there

#: What a worker's number is followed by in its own certificate: no host has such a name (RFC 6761).
_WORKER_SUFFIX = ".worker.invalid"


class CertificateError(Exception):
    """A certificate request that is refused; the message is one sentence that says why."""


class CertificateAuthority:
    """Signs workers' certificates."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        """Takes what `open` read."""
        self._key = key
        self._certificate = certificate
        #: What ``GET /static/jvastai_root.cer`` answers: the root certificate as PEM.
        self.ca_pem = certificate.public_bytes(serialization.Encoding.PEM).decode()

    @classmethod
    def open(cls, state_dir: Path) -> CertificateAuthority:
        """Reads the authority of ``state_dir``, and makes it where it is missing.

        Raises:
            StateError: its file cannot be used.
        """
        path = state_dir / CA_FILE
        pem, _ = read_or_create(path, lambda: _new_authority(dt.datetime.now(dt.timezone.utc)))
        try:
            key = serialization.load_pem_private_key(pem, password=None)
            certificate = x509.load_pem_x509_certificate(pem)
        except (ValueError, TypeError):
            key = None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or certificate.public_key() != key.public_key():
            raise StateError(
                f"The file {path} holds no usable certificate authority; delete it, and a new one is made."
            )
        return cls(key, certificate)

    def sign(self, csr_pem: bytes, allowed: Iterable[str], now: dt.datetime | None = None) -> str:
        """Signs a worker's certificate request.

        Args:
            csr_pem: the request, PKCS#10 as PEM.
            allowed: the IP addresses and host names at which the engine knows the worker. The certificate is for those
                of them that the request asks for, and for all of them if it asks for none or for 0.0.0.0.
            now: the time; None: the clock's.

        Returns:
            The certificate as PEM.

        Raises:
            CertificateError: it is no request, its key is weak, or it asks for addresses that are not the worker's.
        """
        csr, public_key = _read_request(csr_pem)
        return self._signed(public_key, _names(csr, list(dict.fromkeys(allowed))), now)

    def own(self, names: Iterable[str], now: dt.datetime | None = None) -> bytes:
        """A new key with a certificate for the engine itself, as one PEM text.

        Args:
            names: the IP addresses and host names at which it is reached.
            now: the time; None: the clock's.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._signed(key.public_key(), [_general_name(name) for name in names], now)
        return _private(key) + certificate.encode()

    def for_worker(self, worker_id: int, now: dt.datetime | None = None) -> bytes:
        """A new key with a certificate by which a caller shows that it is this worker, as one PEM text.

        Args:
            worker_id: the worker's number.
            now: the time; None: the clock's.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        names: list[x509.GeneralName] = [x509.DNSName(f"{worker_id}{_WORKER_SUFFIX}")]
        certificate = self._signed(key.public_key(), names, now, ExtendedKeyUsageOID.CLIENT_AUTH)
        return _private(key) + certificate.encode()

    def _signed(
        self,
        public_key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey,
        names: list[x509.GeneralName],
        now: dt.datetime | None,
        usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.SERVER_AUTH,
    ) -> str:
        now = now or dt.datetime.now(dt.timezone.utc)
        issuer_key = self._certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, str(names[0].value)[:64])]))
            .issuer_name(self._certificate.subject)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - CLOCK_SKEW)
            .not_valid_after(min(now + LEAF_VALID, self._certificate.not_valid_after_utc))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(encipherment=isinstance(public_key, rsa.RSAPublicKey)), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_key), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM).decode()


def worker_of(certificate: Mapping[str, Any] | None) -> int:
    """The number of the worker that a certificate is for, as `ssl.SSLSocket.getpeercert` has it; 0: of none."""
    for kind, name in (certificate or {}).get("subjectAltName", ()):
        number = name.removesuffix(_WORKER_SUFFIX)
        if kind == "DNS" and name.endswith(_WORKER_SUFFIX) and number.isascii() and number.isdigit():
            return int(number)
    return 0


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _read_request(
    csr_pem: bytes,
) -> tuple[x509.CertificateSigningRequest, rsa.RSAPublicKey | ec.EllipticCurvePublicKey]:
    if len(csr_pem) > CSR_BYTES_MAX:
        raise CertificateError(f"The certificate request is larger than {CSR_BYTES_MAX} bytes.")
    try:
        csr = x509.load_pem_x509_csr(csr_pem)
        genuine = csr.is_signature_valid
        key = csr.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature):
        raise CertificateError("The body is no certificate request (PKCS#10 as PEM).") from None
    if not genuine:
        raise CertificateError("The certificate request is not signed by its own key.")
    if isinstance(key, rsa.RSAPublicKey) and 2048 <= key.key_size <= 8192:
        return csr, key
    curves = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, curves):
        return csr, key
    raise CertificateError("The certificate request needs an RSA key of 2048 to 8192 bits, or one of P-256 to P-521.")


def _names(csr: x509.CertificateSigningRequest, allowed: list[str]) -> list[x509.GeneralName]:
    """What the certificate is to be good for."""
    if not allowed:
        raise CertificateError("The engine knows no address of this worker yet, so it signs no certificate for it.")
    try:
        san = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        asked = [str(each.value) for each in san if isinstance(each, (x509.DNSName, x509.IPAddress))]
    except x509.ExtensionNotFound:
        asked = []
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        raise CertificateError("The certificate request's extensions cannot be read.") from None
    wanted = allowed if not asked or PLACEHOLDER in asked else [each for each in allowed if each in asked]
    if not wanted:
        raise CertificateError(f"The certificate request asks for {', '.join(asked[:3])}, which is not this worker's.")
    return [_general_name(each) for each in wanted]


def _general_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _key_usage(*, encipherment: bool = False, authority: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=encipherment,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _new_authority(now: dt.datetime) -> bytes:
    """A new key and its root certificate, as one PEM text, so that a file has either both or nothing."""
    key = ec.generate_private_key(ec.SECP256R1())
    # In one trust store, the roots of two engines are distinguished by their names.
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"nullworker engine {secrets.token_hex(6)}")])
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + CA_VALID)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
        .add_extension(identifier, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _private(key) + certificate.public_bytes(serialization.Encoding.PEM)
