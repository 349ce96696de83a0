from __future__ import annotations

import datetime as dt
import ipaddress
import shutil
import ssl
import subprocess
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nullworker.engine.auth.certificates import CA_FILE, CertificateAuthority, CertificateError
from nullworker.engine.state_dir import StateError

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes

KEY = ec.generate_private_key(ec.SECP256R1())


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return CertificateAuthority.open(tmp_path_factory.mktemp("state"))


def request(*names: str, key: CertificateIssuerPrivateKeyTypes = KEY) -> bytes:
    """A certificate request that asks for ``names``."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "asks-for-the-moon.example")])
    )
    if names:
        general: list[x509.GeneralName] = []
        for name in names:
            try:
                general.append(x509.IPAddress(ipaddress.ip_address(name)))
            except ValueError:
                general.append(x509.DNSName(name))
        builder = builder.add_extension(x509.SubjectAlternativeName(general), critical=False)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, algorithm).public_bytes(serialization.Encoding.PEM)


def private_pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def names_of(certificate_pem: str) -> list[str]:
    certificate = x509.load_pem_x509_certificate(certificate_pem.encode())
    san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [str(name.value) for name in san]


def handshake(tmp_path: Path, ca_pem: str, certificate: str, key: bytes, host: str) -> None:
    """A whole TLS handshake in memory, the client strict in all that OpenSSL can be strict in."""
    (tmp_path / "leaf.pem").write_bytes(key + certificate.encode())
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(tmp_path / "leaf.pem")
    client_context = ssl.create_default_context()
    client_context.load_verify_locations(cadata=ca_pem)
    client_context.verify_flags |= ssl.VERIFY_X509_STRICT
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    client = client_context.wrap_bio(to_client, to_server, server_hostname=host)
    done = {"client": False, "server": False}
    for _ in range(10):
        for name, end in (("client", client), ("server", server)):
            if not done[name]:
                try:
                    end.do_handshake()
                    done[name] = True
                except ssl.SSLWantReadError:
                    continue
    assert all(done.values())


@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_a_strict_client_accepts_the_worker_at_its_own_address_alone(
    authority: CertificateAuthority, tmp_path: Path, kind: str
) -> None:
    key = rsa.generate_private_key(65_537, 2048) if kind == "rsa" else KEY
    certificate = authority.sign(request("10.1.2.3", key=key), ["10.1.2.3"])
    handshake(tmp_path, authority.ca_pem, certificate, private_pem(key), "10.1.2.3")
    with pytest.raises(ssl.SSLCertVerificationError, match="IP address mismatch"):
        handshake(tmp_path, authority.ca_pem, certificate, private_pem(key), "10.1.2.4")


def test_a_host_name_is_certified_as_well(authority: CertificateAuthority, tmp_path: Path) -> None:
    certificate = authority.sign(request(), ["localhost", "127.0.0.1", "::1"])
    for host in ("localhost", "127.0.0.1", "::1"):
        handshake(tmp_path, authority.ca_pem, certificate, private_pem(KEY), host)


def test_another_engines_root_is_not_trusted(authority: CertificateAuthority, tmp_path: Path) -> None:
    other = CertificateAuthority.open(tmp_path)
    certificate = authority.sign(request(), ["127.0.0.1"])
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(tmp_path, other.ca_pem, certificate, private_pem(KEY), "127.0.0.1")


@pytest.mark.parametrize(
    ("asked", "allowed", "expected"),
    [
        ([], ["10.0.0.1"], ["10.0.0.1"]),
        (["0.0.0.0"], ["10.0.0.1", "localhost"], ["10.0.0.1", "localhost"]),
        (["10.0.0.1"], ["10.0.0.1", "10.0.0.2"], ["10.0.0.1"]),
        (["10.0.0.1", "bank.example"], ["10.0.0.1"], ["10.0.0.1"]),
        (["10.0.0.1"], ["10.0.0.1", "10.0.0.1"], ["10.0.0.1"]),
    ],
)
def test_a_certificate_is_for_nothing_but_the_workers_own_addresses(
    authority: CertificateAuthority, asked: list[str], allowed: list[str], expected: list[str]
) -> None:
    assert names_of(authority.sign(request(*asked), allowed)) == expected


def test_a_request_for_somebody_elses_address_is_refused(authority: CertificateAuthority) -> None:
    with pytest.raises(CertificateError, match=r"asks for bank\.example, which is not this worker's\."):
        authority.sign(request("bank.example"), ["10.0.0.1"])
    with pytest.raises(CertificateError, match="knows no address of this worker"):
        authority.sign(request("10.0.0.1"), [])


def test_nothing_of_the_request_but_its_key_and_addresses_is_taken_over(authority: CertificateAuthority) -> None:
    """A request that asks to be an authority, under somebody's name, gets a plain server's certificate."""
    now = dt.datetime(2030, 1, 1, tzinfo=dt.timezone.utc)
    certificate = x509.load_pem_x509_certificate(authority.sign(request("10.0.0.1"), ["10.0.0.1"], now).encode())
    extensions = certificate.extensions
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    usage = extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.digital_signature
    assert not usage.key_cert_sign
    assert list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert "moon" not in certificate.subject.rfc4514_string()
    assert certificate.not_valid_before_utc == now - dt.timedelta(hours=1)
    assert certificate.not_valid_after_utc == now + dt.timedelta(days=397)


def test_no_certificate_outlives_its_root(authority: CertificateAuthority) -> None:
    root = x509.load_pem_x509_certificate(authority.ca_pem.encode())
    late = root.not_valid_after_utc - dt.timedelta(days=10)
    certificate = x509.load_pem_x509_certificate(authority.sign(request(), ["10.0.0.1"], late).encode())
    assert certificate.not_valid_after_utc == root.not_valid_after_utc


def test_weak_keys_are_refused(authority: CertificateAuthority) -> None:
    for key in (
        rsa.generate_private_key(65_537, 1024),
        ec.generate_private_key(ec.SECP192R1()),
        ed25519.Ed25519PrivateKey.generate(),
    ):
        with pytest.raises(CertificateError, match="needs an RSA key of 2048"):
            authority.sign(request(key=key), ["10.0.0.1"])


def test_a_request_that_its_key_did_not_sign_is_refused(authority: CertificateAuthority) -> None:
    csr = x509.load_pem_x509_csr(request())
    der = bytearray(csr.public_bytes(serialization.Encoding.DER))
    spot = der.index(b"asks-for-the-moon")
    der[spot : spot + 4] = b"ASKS"
    forged = x509.load_der_x509_csr(bytes(der)).public_bytes(serialization.Encoding.PEM)
    with pytest.raises(CertificateError, match="not signed by its own key"):
        authority.sign(forged, ["10.0.0.1"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=300), cut=st.integers(0, 400))
def test_any_bytes_are_refused_with_a_sentence(authority: CertificateAuthority, body: bytes, cut: int) -> None:
    whole = request("10.0.0.1")
    for text in (body, whole[: min(cut, len(whole) - 40)], whole[:cut] + body + whole[cut:]):
        try:
            authority.sign(text, ["10.0.0.1"])
        except CertificateError as error:
            assert str(error).endswith(".")  # noqa: PT017 - some mutations leave the request whole


def test_a_request_that_is_too_large_is_refused(authority: CertificateAuthority) -> None:
    with pytest.raises(CertificateError, match="larger than"):
        authority.sign(b"x" * 65_537, ["10.0.0.1"])


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl command")
def test_a_request_made_by_openssl_is_signed(authority: CertificateAuthority, tmp_path: Path) -> None:
    """The way in which a start script makes it: by the command line, with a placeholder for the address."""
    command = [
        *("openssl", "req", "-newkey", "rsa:2048", "-nodes", "-sha256", "-subj", "/CN=worker"),
        *("-addext", "subjectAltName=IP:0.0.0.0", "-keyout", "key.pem", "-out", "csr.pem"),
    ]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=60)
    certificate = authority.sign((tmp_path / "csr.pem").read_bytes(), ["127.0.0.1"])
    handshake(tmp_path, authority.ca_pem, certificate, (tmp_path / "key.pem").read_bytes(), "127.0.0.1")


def test_the_authority_survives_a_restart_and_its_file_is_its_owners_alone(tmp_path: Path) -> None:
    first = CertificateAuthority.open(tmp_path)
    assert CertificateAuthority.open(tmp_path).ca_pem == first.ca_pem
    assert (tmp_path / CA_FILE).stat().st_mode & 0o777 == 0o600


def test_a_damaged_authority_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    CertificateAuthority.open(tmp_path / "a")
    CertificateAuthority.open(tmp_path / "b")
    mine = (tmp_path / "a" / CA_FILE).read_text()
    key = mine[: mine.index("-----BEGIN CERTIFICATE")]
    theirs = (tmp_path / "b" / CA_FILE).read_text()
    for content in ("nonsense", key, key + theirs[theirs.index("-----BEGIN CERTIFICATE") :]):
        (tmp_path / "a" / CA_FILE).write_text(content)
        with pytest.raises(StateError, match="no usable certificate authority"):
            CertificateAuthority.open(tmp_path / "a")
