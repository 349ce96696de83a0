"""``nullworker reserve``: the demo client, with the demo client's flags."""

from __future__ import annotations

from typing import Any

import click

from nullworker.client.flags import DESCRIPTION, EXAMPLES, FLAGS, Flag, Options


def _option(flag: Flag) -> click.Option:
    parse = flag.parse
    if parse is None:
        return click.Option([f"--{flag.name}"], is_flag=True, help=flag.help)

    def value_of(ctx: click.Context, parameter: click.Parameter, text: str | None) -> Any:
        try:
            return None if text is None else parse(text)
        except ValueError as error:
            raise click.BadParameter(str(error), ctx, parameter) from None

    # To click, a default of None is a value, by which the flag is not missing any more.
    default: dict[str, Any] = {} if flag.default is None else {"default": flag.default}
    return click.Option(
        [f"--{flag.name}"],
        callback=value_of,
        metavar=flag.metavar,
        show_default=True,
        required=flag.required,
        help=flag.help,
        **default,
    )


def _reserve(**values: Any) -> int:
    from nullworker.client.demo import run

    return run(Options(**values))


command = click.Command(
    "reserve",
    callback=_reserve,
    params=[_option(flag) for flag in FLAGS],
    help=DESCRIPTION,
    epilog="\b\n" + EXAMPLES.format(prog="nullworker reserve").replace("\n\n", "\n\n\b\n"),
)
