"""Workers on machines of your own that are reached by SSH: a login and Python suffice there, and no root.

In reading order:

- ``settings``: what can be set, for the fleet and for each host;
- ``bundle``: the code that a host gets, as one archive that is named by its content;
- ``bootstrap``: the first thing that runs on a host: takes the archive, installs what workers lack;
- ``agent``: runs on a host as long as the engine is connected: the process fleet's verbs, over one SSH connection;
- ``connection``: that connection from the engine's side, made again when it breaks, with the reason in a sentence;
- ``placement``: which worker is on which host, and which host is next;
- ``fleet``: the verbs.
"""

from nullworker.fleets.ssh.fleet import SshFleet

__all__ = ["SshFleet"]
