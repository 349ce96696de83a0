"""What client, engine, worker and command line have in common: the calls between them.

In reading order:

- `paths`: the path of every call;
- `types`: the messages as msgspec Structs, with bounds; `decoding`: from bytes to them, or one sentence;
- `errors`: refusals, as status, code and sentence; `headers`: what an engine can do beyond Vast's wire;
- `signature`, `grant`: how a worker knows that the engine has sent a client; `worker_clock`: until when;
- `backoff`: the pause before another attempt; `timeouts`: a time limit that never loses a cancellation;
  `tasks`: starts every task, so that none fails unseen; `importing`: of much at once, in less time;
- `output`: lines for a reader that may stall;
- `redaction`, with `secret`: what no log, page or answer shows; `printable`: text of others, fit for a terminal;
- `worker_side`: what every worker does alike.

`types` and `decoding` need msgspec, `grant` needs PyJWT, `worker_side.engine_trust` needs pycryptodome; the others need
the standard library alone (`timeouts`, on Python 3.10, async-timeout).
"""
