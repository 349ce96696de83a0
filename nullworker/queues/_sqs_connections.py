"""How a URL says where an SQS queue is: by region and name, or by its own URL; and TLS to other services."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from nullworker.queues._tls import CHAIN, NONE, TlsSettings, tls_settings, tls_ways
from nullworker.queues.base import QueueUrlError
from nullworker.queues.connections import Connections, Way
from nullworker.queues.urls import place

if TYPE_CHECKING:
    from nullworker.queues.urls import QueueUrl

NAME = re.compile(r"[A-Za-z0-9_-]{1,80}(\.fifo)?")
#: Hosts that have the region in their name: AWS's own, those in a private network, and localstack's.
REGION_IN_HOST = re.compile(r"(?:^|\.)sqs(?:-fips)?\.([a-z]+-[a-z-]+-\d)\.")
#: Hosts of an older form, which have given way to others for the same queues.
OLD_HOST = re.compile(r"(?:([a-z]+-[a-z-]+-\d)\.)?queue\.amazonaws\.com(?:\.cn)?")

CONNECTIONS = Connections(
    "SQS",
    ways=(
        Way(
            "plain",
            "region and name",
            "`sqs://eu-west-1/renders`, `sqs://eu-west-1/123456789012/renders`",
            "Keys come from where AWS tools find them, never from the URL.",
            transports=("",),
        ),
        Way(
            "queue-url",
            "the queue's own URL",
            "`sqs+https://sqs.eu-west-1.amazonaws.com/123456789012/renders`",
            "`region=` where the host's name does not have it.",
            transports=("http", "https"),
            parameters=("region",),
        ),
        Way(
            "endpoint",
            "other services with its interface, endpoints in a private network",
            "`sqs://eu-west-1/renders?endpoint_url=http://127.0.0.1:4566`",
            parameters=("endpoint_url",),
        ),
        Way(
            "profile",
            "a profile of the AWS tools",
            "`sqs://eu-west-1/renders?profile=staging`",
            parameters=("profile",),
        ),
        *tls_ways(
            (),
            scheme="sqs://eu-west-1/renders?",
            written="always, but to an endpoint with `http://`",
            names=("ca_bundle", "client_cert", "client_key"),
            verify=("no_verify_ssl",),
        ),
        Way("ipv6", "IPv6 address", "`sqs+http://[2001:db8::1]:4566/000000000000/renders?region=eu-west-1`"),
    ),
)


@dataclass(frozen=True, slots=True)
class SqsPlace:
    """Where a queue is, and how to get there."""

    region: str
    name: str
    #: Of the queue's owner; empty: the user's own.
    account: str
    #: As AWS names the queue, where the URL says it.
    queue_url: str | None
    endpoint_url: str | None
    profile: str | None
    tls: TlsSettings | None

    @classmethod
    def of(cls, url: QueueUrl) -> SqsPlace:
        """Checks what the URL says.

        Raises:
            QueueUrlError: it names no queue or no region, has keys in it, or what it says of TLS cannot be used.
        """
        endpoint_url = url.parameters.get("endpoint_url")
        region, queue_url = url.host, url.path.strip("/") if "://" in url.path else None
        if url.username is not None or (endpoint_url and "@" in endpoint_url.partition("?")[0]):
            raise QueueUrlError("sqs://…: keys do not belong into the URL; AWS tools find them in the environment.")
        if url.transport:
            base = f"{url.transport}://{place(url.host, url.port)}"
            queue_url, endpoint_url = base + url.raw_path, endpoint_url or base
            region = url.parameters.get("region") or ""
            if old := OLD_HOST.fullmatch(url.host):
                region, endpoint_url = region or old[1] or "us-east-1", None
            elif found := REGION_IN_HOST.search(url.host):
                region = region or found[1]
            if not region:
                raise QueueUrlError(f"{url.shown}: add region=… to the URL, for the host's name has none in it.")
        account, _, name = url.path.strip("/").rpartition("/")
        if not region or not NAME.fullmatch(name):
            raise QueueUrlError(
                f"{url.shown}: write sqs://region/queue-name (letters, digits, - and _, or with .fifo)."
            )
        if "region" in url.parameters and not url.transport:
            raise QueueUrlError(f"{url.shown}: the region is the URL's host: sqs://{url.parameters['region']}/{name}.")
        is_tls = urlsplit(endpoint_url or "https://").scheme != "http"
        tls = tls_settings(url, is_tls=is_tls)
        if tls and tls.verify == CHAIN:
            raise QueueUrlError(
                f"{url.shown}: tls_verify is full or none for SQS, whose library knows nothing between."
            )
        if tls:
            tls.context(url)  # a file that cannot be used is known at once
        return cls(region, name, account, queue_url, endpoint_url, url.parameters.get("profile"), tls)

    @property
    def verify(self) -> bool | str | None:
        """As boto3 wants it: whether to verify, or the authority's file; None for its own default."""
        if self.tls is None:
            return None
        return False if self.tls.verify == NONE else self.tls.authority

    @property
    def client_cert(self) -> str | tuple[str, str] | None:
        """As botocore wants it."""
        if self.tls is None or self.tls.certificate is None:
            return None
        return (self.tls.certificate, self.tls.key) if self.tls.key else self.tls.certificate
