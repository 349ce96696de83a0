"""The engine's metrics, for Prometheus: `docs/metrics.md` has them all.

Read it in this order:

- `histogram`: counts of durations by bucket;
- `measurements`: what is counted as it happens: waits, hand-overs, starts, calls of fleets, refusals;
- `sources`: what the two that follow read;
- `queues`: the families of queues, from what dispatchers told;
- `collector`: makes the families of a scrape, from the measurements, and from the core as it is then.

Between two scrapes a few sums are kept; a scrape takes some milliseconds at 10,000 workers.
"""
