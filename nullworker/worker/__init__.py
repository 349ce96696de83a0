"""The Null PyWorker: holds exactly one reservation on Vast's worker framework, and forwards nothing.

- ``main`` is what `python -m workers.null.worker` runs: it reads ``settings``, refuses what cannot work with one
  sentence (``failures``), and puts the parts together;
- ``framework`` is all that is said to `vastai`: its worker made, its perf pinned, its sessions observed (``leases``);
- ``door`` checks what comes from outside (``messages``, ``keys``, ``callbacks``) before the framework sees it;
- ``control`` is the local port for the consumer, ``consumer`` (and ``guard``) starts and ends that program;
- ``reports`` tells an engine that takes it at once what has changed.

Nothing here needs more than `vastai`, and PyJWT where an engine gives grants.
"""
