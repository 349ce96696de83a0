"""What happens, taken in: each event goes to the module that knows its kind, which changes the tables by it.

- `clients`: clients ask, leave, and fall silent
- `reports`: workers say how they are, what they hold and what they are done with
- `fleet_events`: fleets say what became of orders, and what there is
- `admin`: endpoints and workergroups are defined, changed and deleted; workers join and are updated

What follows of it (who gets a worker, how many there are to be) is decided afterwards, in `routing` and `scaling`.
"""
