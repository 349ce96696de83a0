"""``/metrics``: what Prometheus scrapes, with a key of role read or more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from nullworker.engine.auth.account import AccountAuth
    from nullworker.engine.metrics.sources import MetricSources


class MetricsApi:
    """The handler."""

    def __init__(self, account_auth: AccountAuth, sources: MetricSources) -> None:
        """Takes what its handler uses.

        Args:
            account_auth: checks the keys of calls.
            sources: what metrics are made of.
        """
        self._account_auth = account_auth
        self._sources = sources
        self._registry: CollectorRegistry | None = None

    async def metrics(self, request: web.BaseRequest) -> web.Response:
        """All metrics, in Prometheus's text format or in OpenMetrics, as the caller prefers."""
        from prometheus_client.exposition import choose_encoder  # noqa: PLC0415 - an engine that is not scraped

        from nullworker.engine.metrics.collector import registry_of  # noqa: PLC0415 - does without the library

        self._account_auth.check_reader(request)
        if self._registry is None:
            self._registry = registry_of(self._sources)
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(self._registry), headers={"Content-Type": content_type})
