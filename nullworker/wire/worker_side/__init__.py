"""What every worker on this wire does alike, whatever server it runs on: used by `nullworker.worker` and `.classic`.

In reading order:

- `environment`: the variables that a Vast instance sets, read and checked;
- `engine_trust`: whether a client was sent by the engine: its key, its signature of the worker's URL, its grants;
- `local_requests`: whether a request comes from a program on this machine, and not from a web page open on it;
- `messages`: the bodies of the worker's reports;
- `failure_report`: the one report of a worker that cannot start (the standard library alone).

`engine_trust` needs pycryptodome, and PyJWT where the engine issues grants; the others need nothing.
"""
