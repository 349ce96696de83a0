"""The dispatcher: reads the depth of queues, and keeps as many reservations as there is work.

In reading order:

- ``plan``: how many reservations a reading of a queue calls for, as one pure function;
- ``binding``: one queue and one endpoint; each round reads, plans, and opens or withdraws the difference;
- ``reservation_task``: one reservation from its request to its end; ``store`` keeps it for the next start;
- ``reading_history``: what successive readings show: progress, and for how long a queue was empty;
- ``dispatcher``: all bindings of a process, its start, and an exit that ends no held reservation;
- ``limits``: what all bindings share, by ``fair_share`` (a cap) and ``budget`` (money);
- ``close_webhook``: local workers announce the end of a session; ``trace``: what is written outside;
- ``settings``, ``settings_file``: what an operator configures, checked.

`nullworker.cli.dispatch` is its command.
"""
