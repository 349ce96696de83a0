"""Runs a backend of the classic guide: a folder with ``backend.py``, served by Flask and seen by the engine.

``python -m nullworker.classic helloworld`` serves ``workers/helloworld``. In reading order:

- `service`: all parts put together, started and ended; ``__main__`` is the command;
- `settings`: the environment and the command line; `loading`: the folder and its modules;
- `app`: the Flask application made of ``flask_dict``; `fair_lock`: one handler at a time;
- `auth_middleware`: in front of it, checks that the engine sent the client, and unwraps its message (`envelope`);
- `request_context`: what belongs to one request; `in_flight`: the requests in progress, and their statistics;
- `readiness`: whether the engine may send clients;
- `hooks`, `logtail`, `legacy_log_watch`: ``metrics.py`` and ``logwatch.py`` beside the backend;
- `status`, `reporting`: the messages to the engine, and sending them;
- `wsgi_server`, `tls`: the WSGI server, and TLS in front of it.

It works with our engine, with Vast's, and without an engine as a plain server.
"""
