"""Every state of a small world: breadth first over the real `Engine.handle`, with the promises checked in each.

Where the simulator runs long worlds with random faults, this looks at all orders of a few events: one endpoint, two
workers, two or three clients, and at most two things that go wrong. Read it in this order:

1. `scope`: the worlds that are walked through.
2. `model`: instances, clients and messages as they truly are, as immutable values.
3. `snapshot`, `fingerprint`: an engine saved and brought back in microseconds; which states are one.
4. `promises`, `world`: what is checked after each event; the engine and what surrounds it.
5. `moves`, `operators`: what can happen next. `roots`: what has happened before the first move.
6. `settle`: what must come in the end when the faults are over.
7. `walk`, `scenario`: breadth first through all of it; what was found, as a journal.

`nullworker simulate --exhaustive` runs it; docs/exhaustive.md says what it has found.
"""
