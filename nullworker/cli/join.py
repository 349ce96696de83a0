"""``nullworker join``: what a worker needs that you start yourself, wherever it runs, to serve an endpoint."""

from __future__ import annotations

import json
import re
import shlex

import click

from nullworker.cli.asking import ask, engine_options
from nullworker.cli.errors import UserError
from nullworker.wire.paths import INVITE

EPILOG = """\b
Examples:
  nullworker join null-local --address 192.168.1.7
  env $(nullworker join null-local --address 192.168.1.7 --port 3000) ./start_server.sh null

The engine routes to such a worker and never starts, stops or destroys it. MASTER_TOKEN is a secret: it lets the worker
of this number join the endpoint. Run this once for each worker: CONTAINER_ID is its number."""

#: What a variable may consist of: with `env $(nullworker join …)` a shell splits what is printed into words.
_ONE_WORD = re.compile(r"[A-Za-z0-9_.,:/=\[\]-]+")


@click.command("join", epilog=EPILOG)
@click.argument("endpoint")
@engine_options
@click.option("--address", required=True, help="Where clients will reach the worker: an IP address or a host name.")
@click.option("--port", type=click.IntRange(1, 65534), default=3000, show_default=True, help="And at which port.")
@click.option("--json", "as_json", is_flag=True, help="Print the variables as one JSON object.")
def command(endpoint: str, instance: str, api_key: str | None, address: str, port: int, as_json: bool) -> None:
    """Print the variables by which a worker of your own joins ENDPOINT."""
    invitation = ask(instance, api_key, INVITE, endpoint=endpoint)
    variables = {
        "CONTAINER_ID": str(invitation["container_id"]),
        "REPORT_ADDR": str(invitation["report_addr"]),
        "MASTER_TOKEN": str(invitation["master_token"]),
        "NULL_GRANTS": "required",
        "PUBLIC_IPADDR": address,
        "WORKER_PORT": str(port),
        f"VAST_TCP_PORT_{port}": str(port),
    }
    if invitation.get("engine_ca"):
        variables["NULL_ENGINE_CA"] = str(invitation["engine_ca"])
    if invitation.get("client_certificate"):
        variables["NULL_CLIENT_CERTIFICATE"] = str(invitation["client_certificate"])
    for name, value in variables.items():
        if not _ONE_WORD.fullmatch(value):
            raise UserError(f"{name} would be {value!r}, which is no value that a worker takes; is that your engine?")
    if as_json:
        print(json.dumps(variables, indent=2))
        return
    for name, value in variables.items():
        print(f"{name}={shlex.quote(value)}")
