"""Every path of an HTTP call between client, engine, worker and command line, each written here and nowhere else.

``{id}`` stands for a number. Vast's own names are kept where Vast names a thing: *endptjobs* are endpoints, *autojobs*
are workergroups (``vastai.Serverless`` calls the same list ``workergroups``).
"""

from __future__ import annotations

# Called by clients.
ROUTE = "/route/"
GET_ENDPOINT_WORKERS = "/get_endpoint_workers/"
ROOT_CERTIFICATE = "/static/jvastai_root.cer"

# Called by workers.
PUBKEY = "/pubkey/"
WORKER_STATUS = "/worker_status/"
DELETE_REQUESTS = "/delete_requests/"
SIGN_CERT = "/api/v0/sign_cert/"

# Called by Vast's command line and console.
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
HEALTH = "/healthz"
METRICS = "/metrics"
OPENAPI = "/openapi.json"
INVITE = "/api/v0/invite/"
STATUS = "/api/v0/status/"
STORY = "/api/v0/story/"
VIEW = "/api/v0/view/"
MOMENT = "/api/v0/moment/"
LIVE = "/api/v0/live/"
SIGN_IN = "/api/v0/sign-in/"
SIGN_OUT = "/api/v0/sign-out/"
KEYS = "/api/v0/keys/"
REVOKE_KEY = "/api/v0/keys/revoke/"
ROTATE_KEY = "/api/v0/keys/rotate/"
AUDIT = "/api/v0/audit/"
PREVIEW = "/api/v0/preview/"
DRAIN = "/api/v0/drain/"
WITHDRAW = "/api/v0/withdraw/"
EXTEND = "/api/v0/extend/"
REPLACE = "/api/v0/replace/"
DISPATCHERS = "/api/v0/dispatchers/"
LABELS = "/api/v0/labels/"

# The engine's page: each view has an address of its own, and all are served the same file.
PAGES = ("/", "/lanes", "/waiting", "/worker", "/reservation", "/queues", "/cost", "/decisions", "/audit")
PAGE_FILES = "/page/"

# Answered by workers.
SESSION_CREATE = "/session/create"
SESSION_END = "/session/end"
SESSION_GET = "/session/get"
PING = "/ping"
