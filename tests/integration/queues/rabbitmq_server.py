"""RabbitMQ with its management API for the tests: a node of its own, with its own port mapper, on free ports."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

from tests.integration.queues.brokers import program, running
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.integration.queues.certificates import Certificates

USER = "worker"
PASSWORD = "s3cret-pass"
#: Where the Debian package keeps the script that its wrapper in ``/usr/sbin`` runs as another user.
SCRIPTS = "/usr/lib/rabbitmq/bin"


class RabbitmqServer:
    """A server; it keeps its ports and its durable messages when it is stopped and started."""

    def __init__(self, directory: Path, certificates: Certificates) -> None:
        self.port = free_port()
        self.tls_port = free_port("::")  # it listens on both loopback addresses, and with the next on all
        self.management_port = free_port()
        self.management_tls_port = free_port("::")
        self._certificates = certificates
        self._directory = directory
        self._running = contextlib.ExitStack()
        self._epmd_port = free_port()
        self._pid = 0
        server = program("rabbitmq-server")
        self._server = shutil.which("rabbitmq-server", path=SCRIPTS) or server
        self._epmd = program("epmd")
        self._env = self._configured()

    def start(self) -> None:
        """Starts it, which takes some seconds, and waits until it listens.

        To be called by a thread that stays: the system ends a broker with the thread that started it.
        """
        mapper = self._directory / "epmd"
        mapper.mkdir(exist_ok=True)
        with contextlib.ExitStack() as starting:
            # RabbitMQ would start a port mapper that outlives it; it finds this one, which does not.
            starting.enter_context(
                running([self._epmd, "-address", "127.0.0.1"], port=self._epmd_port, directory=mapper, env=self._env)
            )
            broker = starting.enter_context(
                running([self._server], port=self.port, directory=self._directory, ready=self._ready, env=self._env)
            )
            self._pid = broker.pid
            self._running = starting.pop_all()

    def stop(self, sign: signal.Signals = signal.SIGTERM) -> None:
        """Stops it: by SIGTERM it writes down what it has, by SIGKILL it is quick. Twice is no error."""
        if self._pid:
            os.kill(self._pid, sign)
        self._pid = 0
        self._running.close()

    def amqp(self, vhost: str = "") -> str:
        """For AMQP clients."""
        return f"amqp://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{vhost}"

    def management(self, path: str) -> str:
        """For the adapter that reads the management API."""
        return f"rabbitmq+http://{USER}:{PASSWORD}@127.0.0.1:{self.management_port}/{path}"

    def api(self, method: str, path: str, body: str = "{}") -> None:
        """Calls the management API, to change settings."""
        opener = urllib.request.build_opener(self._login())
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.management_port}/api/{path}",
            data=body.encode(),
            method=method,
            headers={"Content-Type": "application/json"},
        )
        opener.open(request, timeout=10).close()

    def _login(self) -> urllib.request.HTTPBasicAuthHandler:
        passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
        passwords.add_password(None, f"http://127.0.0.1:{self.management_port}/", USER, PASSWORD)
        return urllib.request.HTTPBasicAuthHandler(passwords)

    def _ready(self) -> bool:
        with contextlib.suppress(OSError, urllib.error.URLError):
            self.api("GET", f"health/checks/port-listener/{self.port}")
            return True
        return False

    def _tls(self, section: str) -> str:
        files = self._certificates
        return (
            f"{section}.cacertfile = {files.authority}\n{section}.certfile = {files.server}\n"
            f"{section}.keyfile = {files.server_key}\n"
            f"{section}.verify = verify_peer\n{section}.fail_if_no_peer_cert = false\n"
        )

    def _configured(self) -> dict[str, str]:
        directory = self._directory
        configuration = directory / "rabbitmq.conf"
        configuration.write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\n"
            "management.tcp.ip = 127.0.0.1\n"
            f"management.tcp.port = {self.management_port}\n"
            f"default_user = {USER}\n"
            f"default_pass = {PASSWORD}\n"
            f"listeners.ssl.1 = 127.0.0.1:{self.tls_port}\n"
            f"listeners.ssl.2 = ::1:{self.tls_port}\n"
            f"management.ssl.port = {self.management_tls_port}\n"
            f"{self._tls('ssl_options')}{self._tls('management.ssl')}"
            # A client's certificate is its user's, for those that log in by it.
            "auth_mechanisms.1 = PLAIN\nauth_mechanisms.2 = EXTERNAL\nssl_cert_login_from = common_name\n"
            "log.console = true\n"
            "log.console.level = warning\n"
        )
        plugins = directory / "enabled_plugins"
        plugins.write_text("[rabbitmq_management,rabbitmq_auth_mechanism_ssl].\n")
        for name in ("home", "mnesia", "log"):
            (directory / name).mkdir()
        return {
            "HOME": str(directory / "home"),
            "RABBITMQ_NODENAME": f"nullworker{self.port}@localhost",
            "RABBITMQ_CONFIG_FILE": str(configuration),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(plugins),
            "RABBITMQ_MNESIA_BASE": str(directory / "mnesia"),
            "RABBITMQ_LOG_BASE": str(directory / "log"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_PID_FILE": str(directory / "pid"),
            "RABBITMQ_DIST_PORT": str(free_port("::")),  # on all addresses: RabbitMQ looks before it starts
            "RABBITMQ_ALLOW_INPUT": "true",  # no shell around it that would answer SIGTERM by starting another Erlang
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-noinput +S 1:1 +sbwt none",
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
        }


@contextlib.contextmanager
def rabbitmq_server(directory: Path, certificates: Certificates) -> Iterator[RabbitmqServer]:
    """A server that runs until the end of the block."""
    server = RabbitmqServer(directory, certificates)
    try:
        server.start()
        yield server
    finally:
        server.stop(signal.SIGKILL)
