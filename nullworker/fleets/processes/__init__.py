"""The default fleet: each worker is a process of its own on this machine.

- ``fleet`` has the verbs; ``settings`` what can be set; ``records`` what is kept on disk of an instance;
- ``launch`` starts a worker (which command, environment, ports); ``ending`` ends one with all that it started;
- ``proc`` reads the kernel's table of processes; ``logs`` keeps log files small.
"""

from nullworker.fleets.processes.fleet import ProcessFleet

__all__ = ["ProcessFleet"]
