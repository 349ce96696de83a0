"""Workers as jobs of a Slurm cluster, where everything is in a directory that the nodes share with the engine.

In reading order:

- ``settings``: what can be set;
- ``instances``: what is kept of an instance in the shared directory, by the fleet and by its job;
- ``node_side``: runs on a node, as the job: starts the worker there, and writes down that it runs and how it ended;
- ``squeue``: Slurm's commands, and one view of its queue for all instances, at most every 30 s;
- ``fleet``: the verbs.
"""

from nullworker.fleets.slurm.fleet import SlurmFleet

__all__ = ["SlurmFleet"]
