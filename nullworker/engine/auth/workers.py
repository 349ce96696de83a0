"""Which worker a message is from: by its own token, or by the join token that it was invited with."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

from nullworker.core import views
from nullworker.core.events import WorkerJoined
from nullworker.engine.auth.certificates import worker_of
from nullworker.wire.errors import ForbiddenError, NotFoundError, UnauthorizedError

if TYPE_CHECKING:
    from aiohttp import web

    from nullworker.core.views import WorkerRef
    from nullworker.engine.auth.keys import Keys
    from nullworker.engine.catalog import Catalog
    from nullworker.engine.driver import AsyncDriver

#: Tokens kept, so that a report costs one comparison; more than there are workers.
_TOKENS_MAX = 200_000


class WorkerGoneError(NotFoundError):
    """The message is from a worker of ours, by its token, that is not known (any more)."""


class WorkerAuth:
    """Identifies workers by their tokens."""

    def __init__(self, driver: AsyncDriver, catalog: Catalog, keys: Keys, *, demands_certificates: bool) -> None:
        """Takes what its handlers use.

        Args:
            driver: feeds the core.
            catalog: endpoints and workergroups.
            keys: checks and makes keys.
            demands_certificates: whether a worker shows a certificate of its own beside its token.
        """
        self._demands_certificates = demands_certificates
        self._driver = driver
        self._catalog = catalog
        self._keys = keys
        self._tokens: dict[int, str] = {}

    def authentic(self, worker_id: int, token: str) -> WorkerRef:
        """The worker that a token proves; one that presents its endpoint's join token joins first.

        Raises:
            UnauthorizedError: the token is not the worker's, nor one to join by.
            ForbiddenError: it is to join by, and the worker is another endpoint's.
            WorkerGoneError: the worker is gone.
            NotFoundError: there is nothing to join.
        """
        worker = views.worker_ref(self._driver.engine, worker_id)
        if worker is not None and self._is_token_of(worker, token):
            return worker
        joining = None if worker is not None and worker.owned else self.joining(worker_id, token)
        if joining is not None:
            if worker is not None:
                raise ForbiddenError(f"Worker {worker_id} belongs to another endpoint.")
            return self._join(worker_id, joining)
        if worker is None and self._keys.is_worker(worker_id, token):
            raise WorkerGoneError(f"Worker {worker_id} is gone; it may end.")
        raise UnauthorizedError(f"The mtoken is not worker {worker_id}'s.")

    def check_certificate(self, request: web.BaseRequest, worker_id: int) -> None:
        """Where certificates are demanded: a message comes over a connection of the worker that it is from.

        Raises:
            UnauthorizedError: it does not.
        """
        if not self._demands_certificates:
            return
        shown = None if request.transport is None else request.transport.get_extra_info("peercert")
        if worker_of(shown) != worker_id:
            raise UnauthorizedError(
                f"The connection is not worker {worker_id}'s: it must show the certificate that this engine gave "
                "its worker (NULL_CLIENT_CERTIFICATE)."
            )

    def joining(self, worker_id: int, token: str) -> int | None:
        """The id of the endpoint that the worker joins by this token, if any."""
        endpoint_id = self._keys.joins(worker_id, token)
        return endpoint_id if endpoint_id in self._catalog.endpoints else None

    def _join(self, worker_id: int, endpoint_id: int) -> WorkerRef:
        groups = (g.workergroup_id for g in self._catalog.workergroups.values() if g.endpoint_id == endpoint_id)
        group_id = next(groups, None)
        if group_id is not None:
            self._driver.handle(WorkerJoined(worker_id, group_id))
        worker = views.worker_ref(self._driver.engine, worker_id)
        if worker is None:
            raise NotFoundError("The endpoint has no workergroup that a worker could join.")
        return worker

    def token_of(self, worker: WorkerRef) -> str:
        """The token that the worker authenticates with; grants for it are signed with it, too."""
        if not worker.owned:
            return self._keys.join_token(worker.endpoint_id, worker.worker_id).reveal()
        token = self._tokens.get(worker.worker_id)
        if token is None:
            token = self._keys.worker_token(worker.worker_id).reveal()
            if len(self._tokens) >= _TOKENS_MAX:
                self._tokens.clear()
            self._tokens[worker.worker_id] = token
        return token

    def _is_token_of(self, worker: WorkerRef, token: str) -> bool:
        return token.isascii() and hmac.compare_digest(token, self.token_of(worker))  # all tokens of ours are ASCII
