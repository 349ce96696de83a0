"""Runs a backend of the classic guide: a folder with ``backend.py``, served by Flask and seen by the engine.

``python -m nullworker.classic helloworld`` serves ``workers/helloworld``. Where to look:

- `settings`: what the environment and the command line say; `loading`: the folder and its modules;
- `app`: the Flask application made of ``flask_dict``; `turns`: one handler at a time;
- `gate`: in front of it, who may call, and the client's message unwrapped (`envelope`);
- `work`, `readiness`: what is being done, and whether more may be asked for;
- `components`, `logtail`, `hearsay`: ``metrics.py`` and ``logwatch.py`` beside the backend;
- `status`, `reporting`: what the engine is told, and telling it;
- `web`, `tls`: the WSGI server; `service`: all of it put together.

Nothing here needs our own engine: it speaks to Vast's as well, and with none it is a server and no more.
"""
