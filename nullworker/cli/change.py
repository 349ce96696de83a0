"""``nullworker change``: changes an endpoint's parameters, suspends and resumes it, and tells before what that does."""

from __future__ import annotations

import click

from nullworker.cli.asking import ask_view, engine_options, tell
from nullworker.cli.errors import UserError
from nullworker.wire.paths import ENDPOINT, PREVIEW

EPILOG = """\b
Examples:
  nullworker change null-prod max_workers=8 --preview
  nullworker change null-prod max_workers=8 --reason "a busy evening"
  nullworker change null-prod endpoint_state=suspended
  nullworker change null-prod endpoint_state=active"""


@click.command("change", epilog=EPILOG)
@click.argument("endpoint")
@click.argument("settings", nargs=-1, required=True, metavar="NAME=VALUE...")
@engine_options
@click.option("--preview", is_flag=True, help="Only say what the change would do at once.")
@click.option("--reason", default="", help="Why, for the audit log.")
def command(
    endpoint: str, settings: tuple[str, ...], instance: str, api_key: str | None, preview: bool, reason: str
) -> None:
    """Change parameters of ENDPOINT at once; endpoint_state is active, suspended or stopped."""
    from nullworker.views.types import Overview

    change: dict[str, object] = {}
    for text in settings:
        name, separator, value = text.partition("=")
        if not separator:
            raise click.BadParameter(f"{text} is not NAME=VALUE", param_hint="NAME=VALUE")
        change[name.strip()] = _value(value.strip())
    known = {each.name: each for each in ask_view(instance, api_key, Overview, "overview").endpoints}
    found = known.get(endpoint)
    if found is None:
        raise UserError(f"There is no endpoint called {endpoint}; `nullworker status` lists them.")
    unknown = [name for name in change if name not in found.parameters]
    if unknown:
        raise UserError(f"An endpoint has no parameter {unknown[0]}; it has {', '.join(found.parameters)}.")
    said = tell(instance, api_key, PREVIEW, {"id": found.id, "change": change})["text"]
    if not preview:
        tell(instance, api_key, ENDPOINT.format(id=found.id), change, reason, method="PUT")
        said = f"{endpoint} is changed."
    print(said)


def _value(text: str) -> object:
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return text
