"""How many workers a queue calls for: pure functions and state, without a clock, a queue or an engine.

In reading order:

- ``depth``: what an adapter reads of a queue;
- ``limits``: what an operator allows a queue, and how late its readings may be;
- ``reservations``: a dispatcher's reservations as far as demand needs them, and what each is believed to do;
- ``evidence``: what successive readings show: which reservations took a job, which jobs have no live
  consumer, progress;
- ``plan``: how many reservations a reading calls for, with the reason;
- ``round``: one round of a dispatcher for one queue: a reading in, what to open, withdraw and end out.

`nullworker.dispatch` does what is decided here; `nullworker.simulation.queueing` tries it on simulated brokers.
"""
