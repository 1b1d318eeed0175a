"""`cascade policy …`: the commands and their options."""

from __future__ import annotations

from typing import Annotated

import typer

from cascade.cli.options import JSON, POLICY

__all__ = ["policy_app"]

policy_app = typer.Typer(help="Look at policies.", rich_markup_mode=None)


@policy_app.command("check")
def policy_check(
    name: Annotated[str | None, typer.Argument(metavar="[POLICY]", help="A path or a shipped name.")] = None,
    policy: Annotated[str | None, POLICY] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Is the policy usable? Names file:line:column, the key and how to fix it where it is not."""
    from cascade.cli.policy.command import run_check  # noqa: PLC0415

    run_check(name or policy, as_json=as_json)


@policy_app.command("show")
def policy_show(
    name: Annotated[str | None, typer.Argument(metavar="[POLICY]", help="A path or a shipped name.")] = None,
    policy: Annotated[str | None, POLICY] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """The policy as it is in force: rungs with their prices, tasks, guard, defaults filled in."""
    from cascade.cli.policy.command import run_show  # noqa: PLC0415

    run_show(name or policy, as_json=as_json)


@policy_app.command("schema")
def policy_schema(as_json: Annotated[bool, JSON] = True) -> None:  # noqa: ARG001 - it is JSON either way
    """The JSON Schema of the policy file, for editors."""
    from cascade.cli.policy.command import run_schema  # noqa: PLC0415

    run_schema()


@policy_app.command("explain")
def policy_explain(
    text: Annotated[str, typer.Argument(help="A request; - reads it from standard input.")],
    policy: Annotated[str | None, POLICY] = None,
    task: Annotated[str | None, typer.Option(help="The task the caller would name.")] = None,
    flag: Annotated[list[str] | None, typer.Option(help="A flag the caller would give; may be repeated.")] = None,
    corpus: Annotated[
        str | None,
        typer.Option("--corpus", "-c", help="Also: how often the storm guard would trip on it, and for what money."),
    ] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """What the policy makes of a request: its task, flags, floor and thresholds. Asks no model."""
    from cascade.cli.policy.command import Question, run_explain  # noqa: PLC0415

    run_explain(Question(text, policy, task, tuple(flag or ()), corpus), as_json=as_json)
