"""TLS as a queue's URL describes it: own authority, client certificate, and how much of the server is verified.

Verification is on. To switch it off takes a parameter, and `--check` warns of it.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nullworker.queues.base import QueueUrlError, QueueWarning
from nullworker.queues.connections import Way

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nullworker.queues.urls import QueueUrl

#: What ``tls_verify`` may be.
FULL, CHAIN, NONE = "full", "chain", "none"
_TRUE = frozenset(("1", "true", "yes", "on"))
_FALSE = frozenset(("0", "false", "no", "off"))
#: Libraries' names for the extent of verification: each value that they document, and what it is here.
_VERIFY: dict[str, dict[str, str]] = {
    "tls_verify": {name: name for name in (FULL, CHAIN, NONE)},
    "ssl_cert_reqs": {
        **dict.fromkeys(("none", "cert_none"), NONE),
        # To a client, Python's documentation says, optional is the same as required.
        **dict.fromkeys(("required", "optional", "cert_required", "cert_optional"), FULL),
    },
    "ssl_check_hostname": {**dict.fromkeys(_TRUE, FULL), **dict.fromkeys(_FALSE, CHAIN)},
    "no_verify_ssl": {**dict.fromkeys(_TRUE, NONE), **dict.fromkeys(_FALSE, FULL)},
    "verify": {"verify_peer": FULL, "verify_none": NONE},
}
_EXTENT = (FULL, CHAIN, NONE)


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """What a URL says of TLS; files are paths."""

    authority: str | None = None
    certificate: str | None = None
    key: str | None = None
    verify: str = FULL

    def context(self, url: QueueUrl) -> ssl.SSLContext:
        """A context for the client's side.

        Raises:
            QueueUrlError: a file cannot be read, or holds something else.
        """
        try:
            context = ssl.create_default_context(cafile=self.authority)
        except (OSError, ValueError) as error:
            raise _bad_file(url, "tls_ca", self.authority, error) from error
        if self.certificate:
            try:
                context.load_cert_chain(self.certificate, self.key, password="")  # asking on the terminal would hang
            except (OSError, ValueError) as error:
                shown = self.certificate if self.key is None else f"{self.certificate} and {self.key}"
                raise _bad_file(url, "tls_cert", shown, error) from error
        context.check_hostname = self.verify == FULL
        context.verify_mode = ssl.CERT_NONE if self.verify == NONE else ssl.CERT_REQUIRED
        return context

    def warnings(self) -> list[QueueWarning]:
        """What is not verified."""
        if self.verify == FULL:
            return []
        what = "the certificate of the server is not checked" if self.verify == NONE else "the server's name is not"
        return [unverified(f"The URL says that {what}", "give the authority's file instead (tls_ca)")]


def unverified(what: str, remedy: str) -> QueueWarning:
    """The warning of a connection whose other end may be anything.

    Args:
        what: the URL says.
        remedy: what to do instead.
    """
    return QueueWarning(
        "unverified-tls", f"{what}, so that another machine may pose as the broker and read the password: {remedy}."
    )


def tls_ways(
    transports: tuple[str, ...],
    *,
    scheme: str,
    written: str,
    names: tuple[str, str, str] = ("", "", ""),
    verify: tuple[str, ...] = (),
    also_authority: tuple[str, ...] = (),
) -> tuple[Way, ...]:
    """The rows on TLS that all adapters have that use Python's `ssl`.

    Args:
        transports: what follows the plus of a scheme for TLS.
        scheme: an example of a URL up to its parameters.
        written: the cell of the first row.
        names: the library's names for the files of the authority, the certificate and the key.
        verify: the library's parameters for the extent of verification.
        also_authority: further names for the authority's file.
    """
    ca, certificate, key = names
    own = {ours: theirs for ours, theirs in zip(("tls_ca", "tls_cert", "tls_key"), names, strict=True) if theirs}
    also = {theirs: ours for ours, theirs in own.items()}
    theirs = ", ".join(f"`{name}`" for name in (*own.values(), *also_authority, *verify))
    library = f" Libraries' names: {theirs}." if theirs else ""
    return (
        Way("tls", "TLS", written, "Certificate and name are verified, with the system's authorities.", transports),
        Way(
            "authority",
            "TLS, own authority",
            f"`{scheme}tls_ca=/path/ca.pem`",
            "The file replaces the system's authorities." + library,
            parameters=("tls_ca",),
            also=dict.fromkeys((*((ca,) if ca else ()), *also_authority), "tls_ca"),
        ),
        Way(
            "client-certificate",
            "TLS, client certificate",
            f"`{scheme}tls_cert=/path/cert.pem&tls_key=/path/key.pem`",
            "The key must not be encrypted.",
            parameters=("tls_cert", "tls_key"),
            also={name: ours for name, ours in also.items() if name in {certificate, key}},
        ),
        Way(
            "unverified",
            "TLS, not verified",
            f"`{scheme}tls_verify=none`; `tls_verify=chain` leaves out the name alone",
            "Warned of as `unverified-tls`.",
            parameters=("tls_verify", *verify),
        ),
    )


def tls_settings(url: QueueUrl, *, is_tls: bool) -> TlsSettings | None:
    """What the URL says of TLS; None without TLS.

    Args:
        url: taken apart.
        is_tls: whether its scheme asks for TLS.

    Raises:
        QueueUrlError: a value is not known, a key has no certificate, or there are parameters without TLS.
    """
    given = [name for name in ("tls_ca", "tls_cert", "tls_key", *_VERIFY) if name in url.parameters]
    if not is_tls:
        if given:
            raise QueueUrlError(f"{url.shown}: {given[0]} has no meaning without TLS: write the scheme for TLS.")
        return None
    if "tls_key" in given and "tls_cert" not in given:
        raise QueueUrlError(f"{url.shown}: tls_key is there without tls_cert, the certificate that belongs to it.")
    extents = list(_extents(url))
    return TlsSettings(
        authority=url.text("tls_ca") if "tls_ca" in given else None,
        certificate=url.text("tls_cert") if "tls_cert" in given else None,
        key=url.text("tls_key") if "tls_key" in given else None,
        verify=max(extents, key=_EXTENT.index, default=FULL),
    )


def _extents(url: QueueUrl) -> Iterator[str]:
    for name, values in _VERIFY.items():
        if name in url.parameters:
            value = url.parameters[name].lower()
            if value not in values:
                known = ", ".join(values)
                raise QueueUrlError(f"{url.shown}: {name} should be one of {known}, not {value!r}.")
            yield values[value]


def _bad_file(url: QueueUrl, name: str, path: str | None, error: Exception) -> QueueUrlError:
    why = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
    if isinstance(error, ssl.SSLError):
        why = "it is not in PEM form, or the key is encrypted or another certificate's"
    return QueueUrlError(f"{url.shown.partition('?')[0]}: {name}={path} cannot be used ({why}).")
