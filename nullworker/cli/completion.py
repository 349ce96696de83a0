"""``nullworker completion``: what a shell needs to complete commands and options."""

from __future__ import annotations

import click

EPILOG = """\b
Examples:
  nullworker completion bash > ~/.local/share/bash-completion/completions/nullworker
  nullworker completion zsh > "${fpath[1]}/_nullworker"
  nullworker completion fish > ~/.config/fish/completions/nullworker.fish

A shell that is started after that completes them."""

VARIABLE = "_NULLWORKER_COMPLETE"


@click.command("completion", epilog=EPILOG)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print a script that has SHELL complete nullworker's commands and options."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None, "click has all three"
    completes = kind(ctx.find_root().command, {}, "nullworker", VARIABLE)
    print(completes.source_template % completes.source_vars())
