"""The core: who gets which worker, and how many there are to be.

``Engine.handle(event, now) -> commands`` is the only way to change its state. It is pure and deterministic: no clock,
no sockets, no asyncio, no logging, no random numbers. Production, the simulator, the replay of a journal and the tests
call that one method. Read it in this order:

1. `events`, `commands`, `causes`: what can happen, what can be ordered, and why, as codes.
2. `parameters`, `limits`: what operators set, and every time and size that is fixed, with its reason.
3. `worker`, `reservation`: the two life cycles, as literal tables: what is not in them cannot happen.
4. `engine`: the one method: an event is taken in, then the endpoints that it changed are settled.
5. `intake` (`clients`, `reports`, `fleet_events`, `admin`): what happens, taken in.
6. `routing`, `scaling`, `failures`: what is decided of it. They ask whether a worker may be granted (`grantable`) and
   may be ended (`endable`), and nothing below that.
7. `state`, `endpoint`, `waiting_line`, `workergroup`, `timers`: the tables, and sums that are kept so that nothing
   scans the fleet.
8. `reconcile` (`report_order`, `deliveries`, `trust`): what is believed of workers whose reports come late, twice, out
   of order or not at all. Routing and scaling can be understood without it.
9. `recovery`: what outlives a restart, and how it is taken over.
10. `driver`: the loop around an engine that production and the simulator share.
11. `explain`, `views`, `journal`, `invariants`: reading it, recording it, and checking it.
"""
