"""A world for the dispatcher's decisions: a broker, consumers that come and die, and `nullworker.demand` in between.

In reading order:

- ``broker``: a queue as brokers have it: leases, early or late acknowledgement, who brings back what a dead consumer
  left, and what its counts show;
- ``consumers``: ours and others': they take jobs, work, stand still and die;
- ``plan``: what a seed draws: the broker's traits, the jobs, how long workers and consumers take, which faults occur;
- ``world``: all of them and a dispatcher that may be restarted, in virtual time;
- ``checkers``: what must hold, by what happened to each job, and what must occur in some of the worlds;
- ``run``: the world of a seed, and its outcome.
"""
