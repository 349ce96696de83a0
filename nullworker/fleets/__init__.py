"""Fleets: the places where workers run. The engine decides how many there are; a fleet creates, stops and lists them.

In reading order:

- ``base``: the protocol `Fleet`, whose docstrings are the rules, and what its verbs take and return;
- ``registry``: finds a fleet by name among the installed entry points;
- ``keyed_queue``: keeps the verbs for one worker in their order, for fleets to use;
- ``processes``: the default fleet, workers as processes of this machine;
- ``ssh``: workers on machines of one's own, which are reached by SSH;
- ``slurm``: workers as jobs of a Slurm cluster;
- ``ray``: workers as jobs of a Ray cluster.

`nullworker.testing.fleets.check_fleet` checks whether a fleet keeps the rules.
"""
