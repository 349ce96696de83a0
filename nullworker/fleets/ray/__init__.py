"""Workers as jobs of a Ray cluster, by the HTTP interface of its dashboard; Ray itself is never imported here.

In reading order:

- ``settings``: what can be set;
- ``jobs_api``: the routes of the dashboard that are used, and one list of all jobs for all instances;
- ``wording``: what Ray says of a job or of the whole cluster, as the end of a sentence;
- ``records``: what is kept of an instance, in the engine's state directory;
- ``placeholders``: jobs that wait for a place, which Ray's autoscaler sees, and how they are taken back;
- ``node_side``: runs on a node, as the job: becomes the worker;
- ``fleet``: the verbs, `RayFleet`. It is not imported here: ``node_side`` runs without it.
"""
