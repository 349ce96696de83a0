"""Every path that the engine serves: the request, the answer, the handler, and which key it takes."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from nullworker.engine.api.http import reply
from nullworker.engine.api.openapi import Route, openapi
from nullworker.wire import key_types, paths
from nullworker.wire import types as wire

if TYPE_CHECKING:
    from aiohttp import web

    from nullworker.engine.api.app import Handler

_VIEW_QUERY = (
    ("view", "overview, lanes, waiting, queues, cost, decisions, worker or reservation"),
    ("endpoint", "the name of an endpoint; all, where it is missing"),
    ("id", "of a worker or reservation"),
    ("level", "of decisions: 0 to 3"),
    ("by", "what is in a row of costs: endpoint, queue, job, day or worker"),
    ("since", "of costs: Unix time"),
)

ROUTES: tuple[Route, ...] = (
    # What clients call.
    Route(
        "POST", paths.ROUTE, "route", "Ask for a worker; held until there is one, some seconds at most", "key",
        wire.RouteRequest, (wire.RouteReady, wire.RouteWaiting),
    ),
    Route(
        "POST", paths.GET_ENDPOINT_WORKERS, "endpoint_workers", "The workers of an endpoint", "endpoint",
        wire.GetWorkers, list[wire.WorkerRow],
    ),
    Route(
        "GET", paths.ROOT_CERTIFICATE, "root_certificate", "The authority that signs workers' certificates", "none",
        media="application/x-pem-file",
    ),
    # What workers call.
    Route("GET", paths.PUBKEY, "pubkey", "The key that signatures are checked with", "none", media="text/plain"),
    Route(
        "POST", paths.WORKER_STATUS, "worker_status", "A worker reports", "worker", wire.WorkerStatus, wire.Success,
    ),
    Route(
        "POST", paths.DELETE_REQUESTS, "delete_requests", "A worker is done with requests", "worker",
        wire.DeleteRequests, wire.Success,
    ),
    Route(
        "POST", paths.SIGN_CERT, "sign_certificate", "Sign a worker's certificate request (PEM in, PEM out)", "worker",
        media="application/x-pem-file", query=(("instance_id", "the worker's id"),),
    ),
    # What the command line and the console call.
    Route(
        "GET", paths.ENDPOINTS, "list_endpoints", "All endpoints", "key", wire.Credentials, wire.EndpointList,
    ),
    Route(
        "POST", paths.ENDPOINTS, "create_endpoint", "Make an endpoint", "account",
        wire.EndpointBody, wire.EndpointCreated, act="create an endpoint",
    ),
    Route(
        "GET", paths.ENDPOINT, "show_endpoint", "One endpoint", "key", wire.Credentials, wire.EndpointResult,
    ),
    Route(
        "PUT", paths.ENDPOINT, "update_endpoint", "Change an endpoint, at once", "operator",
        wire.EndpointBody, wire.Success, act="change an endpoint",
    ),
    Route(
        "DELETE", paths.ENDPOINT, "delete_endpoint", "Delete an endpoint when its workers are released", "account",
        wire.Removal, wire.Success, query=(("force", "true: at once"),), act="delete an endpoint",
    ),
    *(
        route
        for many, one, suffix in (
            (paths.WORKERGROUPS, paths.WORKERGROUP, ""),
            (paths.WORKERGROUPS_SDK, paths.WORKERGROUP_SDK, "_sdk"),
        )
        for route in (
            Route(
                "GET", many, f"list_workergroups{suffix}", "All workergroups", "operator",
                wire.Credentials, wire.WorkergroupList,
            ),
            Route(
                "POST", many, f"create_workergroup{suffix}", "Make a workergroup", "account",
                wire.WorkergroupBody, wire.WorkergroupCreated, act="create a workergroup",
            ),
            Route(
                "PUT", one, f"update_workergroup{suffix}", "Change a workergroup", "account",
                wire.WorkergroupBody, wire.Success, act="change a workergroup",
            ),
            Route(
                "DELETE", one, f"delete_workergroup{suffix}", "Delete a workergroup", "account",
                wire.Removal, wire.Success, act="delete a workergroup",
            ),
        )
    ),
    Route(
        "POST", paths.UPDATE_WORKERS, "update_workers", "Begin or cancel a rolling update", "operator",
        wire.UpdateWorkers, wire.WorkersUpdating, act="replace the workers of a workergroup",
    ),
    Route(
        "POST", paths.GET_ENDPOINT_LOGS, "endpoint_logs", "The decisions about an endpoint", "reader",
        wire.GetLogs, wire.Logs,
    ),
    Route(
        "POST", paths.GET_WORKERGROUP_LOGS, "workergroup_logs", "The decisions about a workergroup", "reader",
        wire.GetLogs, wire.Logs,
    ),
    # The engine's own.
    Route("GET", paths.HEALTH, "health", "Whether the engine runs", "none"),
    Route("GET", paths.OPENAPI, "document", "This document", "none"),
    Route(
        "GET", paths.INVITE, "invite", "What a worker needs that joins an endpoint by itself", "account",
        response=wire.Invitation, query=(("endpoint", "the endpoint's name"),),
    ),
    Route("GET", paths.METRICS, "metrics", "Metrics for Prometheus", "reader", media="text/plain"),
    Route("GET", paths.STATUS, "status", "Everything in numbers", "reader"),
    Route(
        "GET", paths.STORY, "story", "What happened to an endpoint, a worker or a request, and why", "reader",
        query=(("about", "an endpoint's name, `worker ID` or `request ID`"),),
    ),
    # The page's, and the command line's.
    Route("GET", paths.VIEW, "view", "A view of the page", "reader", query=_VIEW_QUERY),
    Route(
        "GET", paths.LIVE, "live", "A view of the page, as it changes", "reader",
        media="text/event-stream", query=_VIEW_QUERY,
    ),
    Route(
        "GET", paths.MOMENT, "at", "Why something was as it was at a past time", "reader",
        query=(("about", "`endpoint ID`, `worker ID` or `request ID`"), ("at", "Unix time")),
    ),
    Route(
        "POST", paths.SIGN_IN, "sign_in", "Sign a page in: the answer sets a cookie", "none",
        wire.SignInBody, wire.SignedInBody, act="sign in",
    ),
    Route("GET", paths.SIGN_IN, "signed_in", "What the caller is signed in as", "none", None, wire.SignedInBody),
    Route("POST", paths.SIGN_OUT, "sign_out", "Sign a page out", "none", None, wire.Success),
    Route("GET", paths.KEYS, "list_keys", "All keys with a name", "account", None, key_types.KeyList),
    Route(
        "POST", paths.KEYS, "create_key", "Make a key", "account", key_types.KeyBody, key_types.KeyMade,
        act="make a key",
    ),
    Route(
        "POST", paths.REVOKE_KEY, "revoke_key", "End a key at once", "account",
        key_types.KeyRevoked, wire.Success, act="revoke a key",
    ),
    Route(
        "POST", paths.ROTATE_KEY, "rotate_key", "Have another key take a key's place", "account",
        key_types.KeyRotation, key_types.KeyMade, act="rotate a key",
    ),
    Route("GET", paths.AUDIT, "audit", "The latest acts", "reader", query=(("tail", "how many"),)),
    Route(
        "POST", paths.PREVIEW, "preview", "What a change of an endpoint would do at once", "reader",
        wire.PreviewBody, wire.Preview,
    ),
    Route(
        "POST", paths.DRAIN, "drain", "Drain a worker, or cancel that", "operator",
        wire.DrainBody, wire.Success, act="drain a worker",
    ),
    Route(
        "POST", paths.WITHDRAW, "withdraw", "End a request, whether it waits or holds a worker", "operator",
        wire.WithdrawBody, wire.Success, act="end a request",
    ),
    Route(
        "POST", paths.EXTEND, "extend", "Have a worker held for longer", "operator",
        wire.ExtendBody, wire.Success, act="extend a request",
    ),
    Route(
        "POST", paths.REPLACE, "replace", "Drain a worker, and say what comes in its place", "operator",
        wire.ReplaceBody, wire.Replaced, act="replace a worker",
    ),
    Route(
        "POST", paths.DISPATCHERS, "heard_dispatcher", "A dispatcher tells of its queues", "key",
        wire.DispatcherReport, wire.Success,
    ),
    Route(
        "POST", paths.LABELS, "label", "What reservations are for: their queue and their job", "key",
        wire.Labels, wire.Success,
    ),
)  # fmt: skip


def handlers(*parts: object) -> dict[str, Handler]:
    """What serves each route, by the name that the route gives: a method of one of ``parts``."""
    document = openapi(ROUTES, version("nullworker"))

    async def show_document(_request: web.BaseRequest) -> web.Response:
        return reply(document)

    served: dict[str, Handler] = {"document": show_document}
    for route in ROUTES:
        name = route.handler.removesuffix("_sdk")
        for part in parts:
            found = getattr(part, name, None)
            if found is not None:
                served[route.handler] = found
    return served
