"""Every path that client, engine, worker and command line meet at, each written once.

``{id}`` stands for a number. Vast's own names are kept where Vast names a thing: *endptjobs* are endpoints, *autojobs*
are workergroups (``vastai.Serverless`` calls the same list ``workergroups``).
"""

from __future__ import annotations

# What clients call.
ROUTE = "/route/"
GET_ENDPOINT_WORKERS = "/get_endpoint_workers/"
ROOT_CERTIFICATE = "/static/jvastai_root.cer"

# What workers call.
PUBKEY = "/pubkey/"
WORKER_STATUS = "/worker_status/"
DELETE_REQUESTS = "/delete_requests/"
SIGN_CERT = "/api/v0/sign_cert/"

# What the command line and the console call.
ENDPOINTS = "/api/v0/endptjobs/"
ENDPOINT = "/api/v0/endptjobs/{id}/"
WORKERGROUPS = "/api/v0/autojobs/"
WORKERGROUP = "/api/v0/autojobs/{id}/"
WORKERGROUPS_SDK = "/api/v0/workergroups/"
WORKERGROUP_SDK = "/api/v0/workergroups/{id}/"
GET_ENDPOINT_LOGS = "/get_endpoint_logs/"
GET_WORKERGROUP_LOGS = "/get_autogroup_logs/"
UPDATE_WORKERS = "/update_workers/"

# The engine's own.
DASHBOARD = "/"
EVENTS = "/events"
METRICS = "/metrics"
HEALTH = "/healthz"
OPENAPI = "/openapi.json"
INVITE = "/api/v0/invite/"

# What a worker answers under.
SESSION_CREATE = "/session/create"
SESSION_END = "/session/end"
SESSION_GET = "/session/get"
SESSION_HEALTH = "/session/health"
PING = "/ping"
