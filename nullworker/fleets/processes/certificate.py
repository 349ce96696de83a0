"""The certificate of workers that serve over TLS. vastai's framework reads it from two fixed files, so all workers of a
machine share one: it is valid for their common address, and the engine signs it when it is needed.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import http.client
import ipaddress
import os
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from nullworker.fleets.base import FleetError
from nullworker.wire.paths import ROOT_CERTIFICATE, SIGN_CERT
from nullworker.wire.worker_side import engine_tls

if TYPE_CHECKING:
    from nullworker.fleets.processes.records import Record

CERTIFICATE_FILE, KEY_FILE = Path("/etc/instance.crt"), Path("/etc/instance.key")
#: A certificate that expires sooner than this is replaced before another worker starts.
RENEW_BEFORE = dt.timedelta(days=30)
TIMEOUT_S = 10.0
_ANSWER_BYTES_MAX = 1 << 20


class MachineCertificate:
    """The machine's certificate for ``host``. Its methods block, and one thread at a time runs them."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._lock = threading.Lock()
        self._made = False

    def ensure(self, record: Record) -> None:
        """Returns when the files hold a certificate for `host` that the worker's engine has signed.

        Raises:
            FleetError: they cannot be written, hold a certificate of another issuer, or the engine signs none.
        """
        with self._lock:
            try:
                root = x509.load_pem_x509_certificate(self._call(record, "GET", ROOT_CERTIFICATE))
                found = _read()
                if found is not None and _is_good(found, root, self._host):
                    self._made = True  # by this engine: for another worker, or before a restart
                    return
                if found is not None and not _is_issued_by(found, root):
                    raise FleetError(
                        f"{CERTIFICATE_FILE} holds a certificate that this engine did not sign: remove it and "
                        f"{KEY_FILE} if they are not needed; otherwise leave use_ssl out."
                    )
                self._make(record)
            except (OSError, ValueError, http.client.HTTPException) as error:
                raise FleetError(
                    f"Worker {record.worker_id} was not started with use_ssl ({error}): {CERTIFICATE_FILE} and "
                    f"{KEY_FILE}, where vastai's framework looks, must be writable to the engine; or leave use_ssl out."
                ) from error

    def remove(self) -> None:
        """Removes the files that `ensure` made."""
        with self._lock:
            if self._made:
                self._made = False
                for path in (CERTIFICATE_FILE, KEY_FILE):
                    with contextlib.suppress(OSError):
                        path.unlink()

    def _make(self, record: Record) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        request = (
            x509.CertificateSigningRequestBuilder()
            .subject_name(x509.Name([]))
            .add_extension(x509.SubjectAlternativeName([_name(self._host)]), critical=False)
            .sign(key, hashes.SHA256())
        )
        pem = request.public_bytes(serialization.Encoding.PEM)
        certificate = self._call(record, "POST", f"{SIGN_CERT}?instance_id={record.worker_id}", pem)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        self._made = True
        _write(KEY_FILE, private)
        _write(CERTIFICATE_FILE, certificate)

    def _call(self, record: Record, method: str, path: str, body: bytes | None = None) -> bytes:
        """One call to the worker's engine, from the workers' address, by which the engine recognises them."""
        url = urlsplit(record.report_addr.partition(",")[0].strip())
        host, port, source = url.hostname or "", url.port, (self._host, 0)
        connection: http.client.HTTPConnection
        if url.scheme == "https":
            context = engine_tls.context(record.env)
            connection = http.client.HTTPSConnection(
                host, port, timeout=TIMEOUT_S, source_address=source, context=context
            )
        else:
            connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S, source_address=source)
        with contextlib.closing(connection):
            headers = {"Authorization": f"Bearer {record.worker_token}", "Content-Type": "application/x-pem-file"}
            connection.request(method, url.path.rstrip("/") + path, body, headers)
            response = connection.getresponse()
            answer = response.read(_ANSWER_BYTES_MAX)
        if response.status != http.client.OK:
            raise ValueError(f"the engine answered {response.status} to {method} {path.partition('?')[0]}")
        return answer


def _read() -> x509.Certificate | None:
    """The certificate, if its key is there as well; else None."""
    try:
        certificate = x509.load_pem_x509_certificate(CERTIFICATE_FILE.read_bytes())
        key = serialization.load_pem_private_key(KEY_FILE.read_bytes(), None)
    except FileNotFoundError:
        return None
    form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    is_its_key = certificate.public_key().public_bytes(*form) == key.public_key().public_bytes(*form)
    return certificate if is_its_key else None


def _is_good(certificate: x509.Certificate, root: x509.Certificate, host: str) -> bool:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    lasts = certificate.not_valid_after_utc - dt.datetime.now(dt.timezone.utc) > RENEW_BEFORE
    return lasts and _name(host) in names and _is_issued_by(certificate, root)


def _is_issued_by(certificate: x509.Certificate, root: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(root)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write(path: Path, content: bytes) -> None:
    """In one step, readable to its owner alone."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
