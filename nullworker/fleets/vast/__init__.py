"""Workers on machines rented from Vast.ai, by the unmodified ``vastai`` package.

In reading order:

- ``settings``: what can be set, with the caps on money;
- ``offers``, ``blacklist``, ``spend``, ``rows``: which machines fit and in which order, which hosts are left out, what
  a day may cost, and what a listed instance means: pure functions;
- ``rest``: the calls of Vast's interface, each in one try;
- ``wording``: sentences about Vast's answers;
- ``records``, ``books``: what is kept of instances, money, hosts and labels, in the engine's state directory;
- ``market``, ``view``: one search for all workers of a kind, and one list of all instances;
- ``dead_mans_switch``, ``box``: what runs on a rented machine, and how it starts;
- ``renting``, ``settling``: one order, also when its answer is lost; and when a start or a stop is done;
- ``watching``: what becomes of instances that no one has told to;
- ``fleet``: the verbs, `VastFleet`. It is not imported here, as its package is an extra's.
"""
