"""The engine's process: HTTP in, the core in the middle, the store and fleets out.

In reading order:

- `server`: an engine from its configuration to its end; what is opened, in which order, and closed.
- `driver`: feeds the core on an asyncio event loop (`nullworker.core.driver` says in which steps).
- `api`: what is served over HTTP. `api.client` has the calls of clients and workers, `api.admin` those that change
  endpoints and workergroups, `api.status` those that only read.
- `auth`: keys, worker tokens, signatures and certificates.
- `catalog`: endpoints and workergroups, with what the core need not know of them.
- `fleet_orders`: carries out what the core orders of fleets.
- `recorder`: writes down what the core does, in `store` (what a restart needs; `store_file` has its tables,
  `store_writer` its thread), `decisions` (what was decided and why), `usage` (how long workers were in each state) and,
  if asked, `journal_file` (every event). `crash_dump` is what is left when the core fails.
- `history_keeper`: keeps what workers and reservations went through, in memory and in `history_file`.
- `audit`: the log of operators' acts. `drains`: workers that go after their job. `preview`: what a change would do.
  `dispatchers`: what dispatchers tell of their queues.
- `config`, with `config_source` and `config_overrides`: the configuration file, variables and flags.
- `logs`: the log; `nullworker.wire.redaction` has no key get into it.
- `state_dir`: the directory that one engine owns.
"""
