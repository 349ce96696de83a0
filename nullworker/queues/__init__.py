"""Queue adapters: read how deep a broker's queue is, and never take anything from it.

In reading order:

- ``base``: the protocol `Queue`, its `Depth` and `QueueInfo`, and the errors that adapters raise;
- ``registry``: finds an adapter by the scheme of a URL among the installed entry points; ``urls`` takes URLs apart;
- one module for each kind of queue: ``sqlite`` is the simplest; ``redis_list``, ``redis_stream``, ``celery``, ``rq``,
  ``arq``, ``dramatiq`` and ``bullmq`` share ``_redis*``; ``procrastinate``, ``graphile_worker`` and ``pgboss`` share
  ``_postgres*``; ``rabbitmq`` and ``amqp`` share ``_rabbitmq``; ``nats`` and ``sqs`` stand alone;
- ``sqlite_jobs``: a small job table for producers and consumers, in the file that ``sqlite`` reads.

`nullworker.testing.queues.check_queue` checks whether an adapter tells the truth about a queue.
"""
