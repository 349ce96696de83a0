"""The simulator: the core and its driver in a made-up world with a virtual clock, where everything can go wrong.

Read it in this order:

1. `event_queue`, `faults`, `network`, `context`: virtual time, what can go wrong, messages between the parties, and
   what all parts of a world share.
2. `process`, `fleet`, `clients`: workers, instances and clients as they really are; they get callables and know no
   world.
3. `hooks`, `store`, `driver`: the engine's own driver, run on the virtual clock; killed, paused and restarted.
4. `fault_injector`: kills, crashes, cuts, operators' changes and forged messages, by the faults that are on.
5. `plan`, `scenarios`: what a seed draws.
6. `truth`, `observer`, `checkers`: what the promises are checked against, and one checker for each promise.
7. `world`, `run`, `shrink`, `variations`: the parts put together; one seed; a failing seed made short; one seed many
   times, with a crash at every place, or to find when a failure became inevitable.

`study`, `outcome`, `traces`, `rivals`, `rival_run` and `compare` are another world, without faults, for choosing an
endpoint's parameters: a trace of jobs through the core, beside other autoscalers' rules.

`exhaustive` is a world of its own, too: a small one, in which every order of a few events is tried.

It imports the core alone, which proves that the core is complete; no module imports one that comes after it.
"""
