"""`cascade mode`: its argument and options."""

from __future__ import annotations

from typing import Annotated

import typer

from cascade.cli.options import JSON

__all__ = ["mode"]


def mode(
    word: Annotated[
        str | None,
        typer.Argument(metavar="off|observe|enforce|clear", help="The mode to set. Default: show the mode in force."),
    ] = None,
    policy: Annotated[
        str | None, typer.Option("--policy", "-p", help="Only this policy: a file or a name. Default: all policies.")
    ] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Show or set the mode on this machine; it applies from the next request on.

    off sends every request to the baseline. The order of precedence: the policy's own switch, the switch for all,
    CASCADE_MODE, the policy file. clear removes the policy's own switch, or all switches.
    """
    from cascade.cli.mode.command import run_mode  # noqa: PLC0415

    run_mode(word, policy, as_json=as_json)
