"""The Null PyWorker: holds exactly one reservation on Vast's worker framework, and forwards nothing.

In reading order:

- `main`: what ``python -m workers.null.worker`` runs; it reads `settings`, refuses a bad one with one sentence
  (`failures`), and puts the parts together;
- `framework`: everything that touches `vastai`: its worker made, its perf pinned, its sessions observed (`sessions`);
- `request_checks`: what clients send, checked before the framework handles it (`messages`, `engine_auth`,
  `callbacks`);
- `control`, `release`, `health`: the local port for the consumer, and what it changes;
- `consumer_process`: starts and ends the consumer, through a `supervisor` process (`supervisor_main`, which finds
  all that belongs to it by `command_processes`; `stderr_tail`);
- `reports`: tells an engine that accepts prompt reports at once what has changed; `logs`: logging without secrets;
- `consume_command`: ``nullworker consume``, the same for a worker that was started separately (`control_client`,
  `idleness`).

Nothing here needs more than `vastai`, and PyJWT where an engine issues grants.
"""
