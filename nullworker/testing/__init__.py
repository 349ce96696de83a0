"""Public test tools, free of pytest: conformance kits for adapters, and worlds in memory to test against.

- ``queues``: `check_queue` compares what a queue adapter reports with what a driver did to a real broker;
- ``fleets``: `check_fleet` checks that a fleet does what its verbs promise;
- ``memory_fleet``: a fleet in memory that passes `check_fleet`, and fails, stalls or lies on demand;
- ``clock``: an engine core whose clock is moved by hand; ``small_world``: that core with simple workers and clients.

docs/queues.md and docs/fleets.md show both kits in use.
"""
