"""What the command line and the console call: endpoints and workergroups are made, shown, changed and deleted."""

from __future__ import annotations

import secrets
from dataclasses import fields
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from aiohttp import web

from nullworker.core import views
from nullworker.core.limits import JOINED_IDS_FROM
from nullworker.core.parameters import Parameters
from nullworker.engine.api.http import LONG_BODY_BYTES_MAX, read, reply
from nullworker.engine.api.listening import prove
from nullworker.engine.auth.account import bearer
from nullworker.engine.auth.certificates import CertificateAuthority, CertificateError
from nullworker.engine.auth.keys import Role
from nullworker.wire.decoding import decode
from nullworker.wire.errors import ForbiddenError, UnauthorizedError, WireError
from nullworker.wire.types import (
    Credentials,
    EndpointBody,
    EndpointCreated,
    EndpointList,
    EndpointResult,
    EndpointRow,
    GetWorkers,
    Invitation,
    Removal,
    Success,
    UpdateWorkers,
    WorkergroupBody,
    WorkergroupCreated,
    WorkergroupList,
    WorkergroupRow,
    WorkerRow,
    WorkersUpdating,
)
from nullworker.wire.worker_side.engine_tls import encoded_chain

if TYPE_CHECKING:
    from nullworker.engine.auth.account import AccountAuth
    from nullworker.engine.auth.clients import Client, ClientAuth
    from nullworker.engine.auth.keys import Keys
    from nullworker.engine.auth.workers import WorkerAuth
    from nullworker.engine.catalog import Catalog, EndpointEntry, WorkergroupEntry
    from nullworker.engine.driver import AsyncDriver

#: There is one account; Vast's rows have a user.
USER_ID = 1
_CSR_BYTES_MAX = 64 << 10
_PARAMETERS = tuple(field.name for field in fields(Parameters) if field.name != "state")


class AdminApi:
    """The handlers of the command line's and the console's calls."""

    def __init__(
        self,
        driver: AsyncDriver,
        catalog: Catalog,
        keys: Keys,
        account_auth: AccountAuth,
        client_auth: ClientAuth,
        authority: CertificateAuthority,
        worker_auth: WorkerAuth,
        report_addr: str,
        engine_ca: str = "",
        *,
        certifies_workers: bool = False,
    ) -> None:
        """Takes what its handlers use.

        Args:
            driver: feeds the core.
            catalog: endpoints and workergroups.
            keys: checks and makes keys.
            account_auth: checks the keys of calls.
            client_auth: tells clients by their keys.
            authority: signs workers' certificates.
            worker_auth: identifies workers.
            report_addr: where workers reach this engine.
            engine_ca: the authority of its certificate, as workers are given it; "": it is one of the usual ones.
            certifies_workers: whether workers that join are given a certificate to show.
        """
        self._driver = driver
        self._catalog = catalog
        self._keys = keys
        self._authority = authority
        self._worker_auth = worker_auth
        self._report_addr = report_addr
        self._engine_ca = engine_ca
        self._certifies_workers = certifies_workers
        self._account_auth = account_auth
        self._client_auth = client_auth

    # ------------------------------------------------------------------------------------------------------- endpoints

    async def list_endpoints(self, request: web.BaseRequest) -> web.Response:
        """All endpoints that the key routes to."""
        client = await self._client(request)
        shown = [entry for entry in self._catalog.endpoints.values() if client.routes_to(entry.endpoint_id)]
        return reply(EndpointList([self._endpoint_row(entry, client) for entry in shown]))

    async def show_endpoint(self, request: web.BaseRequest) -> web.Response:
        """One endpoint."""
        client = await self._client(request)
        if not client.is_for_all and not client.routes_to(_id(request)):
            raise ForbiddenError(f"The key is not for endpoint {_id(request)}.")
        return reply(EndpointResult(self._endpoint_row(self._catalog.endpoint(_id(request)), client)))

    async def create_endpoint(self, request: web.BaseRequest) -> web.Response:
        """Makes an endpoint."""
        body = decode(EndpointBody, await read(request))
        self._account_auth.check(request, body.api_key)
        return reply(EndpointCreated(self._catalog.create_endpoint(body).endpoint_id))

    async def update_endpoint(self, request: web.BaseRequest) -> web.Response:
        """Changes an endpoint, at once."""
        body = decode(EndpointBody, await read(request))
        self._account_auth.check(request, body.api_key, Role.OPERATE)
        self._catalog.update_endpoint(_id(request), body)
        return reply(Success())  # and not its row: the command line prints the answer, and the row has a key in it

    async def delete_endpoint(self, request: web.BaseRequest) -> web.Response:
        """Deletes an endpoint when it is drained, or at once with ``force``."""
        body = await self._removal(request)
        force = body.force or request.query.get("force", "").lower() in ("1", "true")
        self._catalog.delete_endpoint(_id(request), force=force)
        return reply(Success())

    async def _client(self, request: web.BaseRequest) -> Client:
        """Whose key a request has; Vast's command line sends it in the header, and in a body even with GET."""
        key = bearer(request)
        if key:
            prove(request, self._client_auth.client(key).owner)  # before the body is read
        text = await read(request) if request.can_read_body else b""
        client = self._client_auth.client(key or (decode(Credentials, text).api_key if text else None) or "")
        prove(request, client.owner)
        return client

    def _endpoint_row(self, entry: EndpointEntry, client: Client) -> EndpointRow:
        """An endpoint, with the key that the client is to ask with: its own, unless it may see all."""
        key = self._keys.endpoint_key(entry.endpoint_id).reveal() if client.is_admin else client.key
        values = {name: getattr(entry.parameters, name) for name in _PARAMETERS}
        return EndpointRow(
            id=entry.endpoint_id,
            endpoint_name=entry.name,
            api_key=key,
            user_id=USER_ID,
            created_at=entry.created_at_s,
            endpoint_state=entry.parameters.state.value,
            **values,
        )

    # ---------------------------------------------------------------------------------------------------- workergroups

    async def list_workergroups(self, request: web.BaseRequest) -> web.Response:
        """All workergroups."""
        await self._account_only(request, Role.OPERATE)
        return reply(WorkergroupList([self._workergroup_row(g) for g in self._catalog.workergroups.values()]))

    async def create_workergroup(self, request: web.BaseRequest) -> web.Response:
        """Makes a workergroup."""
        body = decode(WorkergroupBody, await read(request, LONG_BODY_BYTES_MAX))
        self._account_auth.check(request, body.api_key)
        return reply(WorkergroupCreated(self._catalog.create_workergroup(body).workergroup_id))

    async def update_workergroup(self, request: web.BaseRequest) -> web.Response:
        """Changes a workergroup."""
        body = decode(WorkergroupBody, await read(request, LONG_BODY_BYTES_MAX))
        self._account_auth.check(request, body.api_key)
        self._catalog.update_workergroup(_id(request), body)
        return reply(Success())

    async def delete_workergroup(self, request: web.BaseRequest) -> web.Response:
        """Deletes a workergroup."""
        await self._removal(request)
        self._catalog.delete_workergroup(_id(request))
        return reply(Success())

    def _workergroup_row(self, entry: WorkergroupEntry) -> WorkergroupRow:
        config = entry.config
        return WorkergroupRow(
            id=entry.workergroup_id,
            endpoint_id=entry.endpoint_id,
            endpoint_name=self._catalog.endpoint(entry.endpoint_id).name,
            user_id=USER_ID,
            created_at=entry.created_at_s,
            max_workers=config.max_workers,
            fleet=config.fleet,
            backend=config.backend,
            consumer=config.consumer,
            price_per_hour=config.price_per_hour,
            **{"template_hash": config.backend, **entry.vast},
        )

    async def update_workers(self, request: web.BaseRequest) -> web.Response:
        """Begins or cancels a rolling update of a workergroup."""
        body = decode(UpdateWorkers, await read(request))
        self._account_auth.check(request, body.api_key, Role.OPERATE)
        if body.workergroup_id not in self._catalog.workergroups:
            return reply(WorkersUpdating(success=False, error_msg=f"there is no workergroup {body.workergroup_id}"))
        workers = views.worker_refs(self._driver.engine)
        mine = [w for w in workers if w.workergroup_id == body.workergroup_id and w.owned]
        self._catalog.update_workers(body.workergroup_id, cancel=body.cancel_update)
        if body.cancel_update:
            return reply(WorkersUpdating(success=True, cancelled=True))
        return reply(WorkersUpdating(success=True, workers_to_update=len(mine)))

    # --------------------------------------------------------------------------------------------------------- workers

    async def endpoint_workers(self, request: web.BaseRequest) -> web.Response:
        """The workers of an endpoint, for its own key or the account's."""
        body = decode(GetWorkers, await read(request))
        key = body.api_key or bearer(request)
        if not (key and self._may_see_workers(key, body.id)):
            self._account_auth.check(request, body.api_key, Role.READ)
        self._catalog.endpoint(body.id)
        return reply([_worker_row(row) for row in views.workers(self._driver.engine, body.id)])

    def _may_see_workers(self, key: str, endpoint_id: int) -> bool:
        if endpoint_id in self._catalog.endpoints and self._keys.is_endpoint(endpoint_id, key):
            return True
        holder = self._keys.holder(key)
        return holder is not None and holder.routes_to(endpoint_id)

    async def invite(self, request: web.BaseRequest) -> web.Response:
        """What a worker that is started outside the engine needs to join an endpoint."""
        self._account_auth.check(request, None)
        entry = self._catalog.by_name.get(request.query.get("endpoint", ""))
        if entry is None:
            raise WireError("endpoint", "endpoint is missing or names none; `vastai show endpoints` lists them.")
        taken = views.worker_ids(self._driver.engine)
        worker_id = _random_worker_id()
        while worker_id in taken:
            worker_id = _random_worker_id()
        token = self._keys.join_token(entry.endpoint_id, worker_id).reveal()
        certificate = encoded_chain(self._authority.for_worker(worker_id)) if self._certifies_workers else ""
        return reply(Invitation(worker_id, self._report_addr, token, self._engine_ca, certificate))

    # ----------------------------------------------------------------------------------------------------- certificates

    async def root_certificate(self, _request: web.BaseRequest) -> web.Response:
        """The certificate that workers' certificates are signed by."""
        return web.Response(body=self._authority.ca_pem, content_type="application/x-pem-file")

    async def sign_certificate(self, request: web.BaseRequest) -> web.Response:
        """Signs a worker's certificate request; the worker's token or the account key is asked for."""
        text = await read(request)
        try:
            instance_id = int(request.query.get("instance_id", ""))
        except ValueError:
            raise WireError("instance_id", "instance_id is missing or no number.") from None
        key = bearer(request)
        if not key:
            raise UnauthorizedError("There is no key in the request; send the worker's token as Authorization: Bearer.")
        joins = self._worker_auth.joining(instance_id, key) is not None
        if not (joins or self._keys.is_worker(instance_id, key) or self._is_admin(key)):
            raise UnauthorizedError(f"The key is not worker {instance_id}'s.")
        if not text or len(text) > _CSR_BYTES_MAX:
            raise WireError("", "The body must be a certificate request (CSR) in PEM.")
        try:
            certificate = self._authority.sign(text, self._addresses(instance_id, request))
        except CertificateError as error:
            raise WireError("", str(error)) from None
        return web.Response(body=certificate, content_type="application/x-pem-file")

    def _is_admin(self, key: str) -> bool:
        holder = self._keys.holder(key)
        return holder is not None and holder.may(Role.ADMIN)

    def _addresses(self, worker_id: int, request: web.BaseRequest) -> list[str]:
        """Where the engine itself knows the worker: the address that it calls from, and the one that its fleet has.

        What a worker reports of itself is not among them: a certificate would be good for any name that it claims.
        """
        known = [request.remote] if request.remote else []
        address = self._driver.addresses.get(worker_id, "")
        if address:
            known.append(urlsplit(f"//{address}").hostname or "")
        if request.remote in ("127.0.0.1", "::1"):
            known.append("localhost")
        return [name for name in known if name]

    # ----------------------------------------------------------------------------------------------------------- common

    async def _account_only(self, request: web.BaseRequest, needs: Role = Role.ADMIN) -> None:
        """Lets keys of a role pass; Vast's command line sends them in the header, and in a body even with GET."""
        text = await read(request) if request.can_read_body else b""
        self._account_auth.check(request, decode(Credentials, text).api_key if text else None, needs)

    async def _removal(self, request: web.BaseRequest) -> Removal:
        text = await read(request) if request.can_read_body else b""
        body = decode(Removal, text) if text else Removal()
        self._account_auth.check(request, body.api_key)
        return body


def _random_worker_id() -> int:
    """A number for a worker that joins, from a range so large that two invited at once hardly ever get the same."""
    return JOINED_IDS_FROM + secrets.randbelow(JOINED_IDS_FROM)


def _id(request: web.BaseRequest) -> int:
    return int(request.path.split("/")[-2])  # the pattern of each such path ends with digits and a slash


#: Vast's names of our states.
_STATUS = {"asked": "creating", "held": "ready", "draining": "ready"}


def _worker_row(worker: views.WorkerView) -> WorkerRow:
    return WorkerRow(
        id=worker.id,
        status=_STATUS.get(worker.state, worker.state),
        cur_load=worker.load,
        new_load=worker.load,
        cur_load_rolling_avg=worker.load,
        perf=worker.perf,
        measured_perf=worker.measured_perf,
        reliability=1.0,
        reqs_working=len(worker.request_idxs),
        url=worker.url,
        workergroup_id=worker.workergroup_id,
        error_msg=worker.error,
    )
