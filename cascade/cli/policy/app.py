"""`cascade policy …`: the commands and their options."""

from __future__ import annotations

from typing import Annotated

import typer

from cascade.cli.options import JSON, POLICY

__all__ = ["policy_app"]

policy_app = typer.Typer(help="Check and inspect policies.", rich_markup_mode=None)


@policy_app.command("check")
def policy_check(
    name: Annotated[
        str | None, typer.Argument(metavar="POLICY", help="A policy file, or a shipped policy's name.")
    ] = None,
    policy: Annotated[str | None, POLICY] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Check a policy; errors name the file, line, column and key, and how to fix it."""
    from cascade.cli.policy.command import run_check  # noqa: PLC0415

    run_check(name or policy, as_json=as_json)


@policy_app.command("show")
def policy_show(
    name: Annotated[
        str | None, typer.Argument(metavar="POLICY", help="A policy file, or a shipped policy's name.")
    ] = None,
    policy: Annotated[str | None, POLICY] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Show a policy with its defaults filled in: rungs and prices, tasks, storm guard."""
    from cascade.cli.policy.command import run_show  # noqa: PLC0415

    run_show(name or policy, as_json=as_json)


@policy_app.command("schema")
def policy_schema(as_json: Annotated[bool, JSON] = True) -> None:  # noqa: ARG001 - it is JSON either way
    """Print the JSON Schema of the policy file, for editors."""
    from cascade.cli.policy.command import run_schema  # noqa: PLC0415

    run_schema()


@policy_app.command("explain")
def policy_explain(
    text: Annotated[str, typer.Argument(help="The request; - reads it from standard input.")],
    policy: Annotated[str | None, POLICY] = None,
    task: Annotated[str | None, typer.Option(help="The task that the caller would give.")] = None,
    flag: Annotated[list[str] | None, typer.Option(help="A flag that the caller would give; may be repeated.")] = None,
    corpus: Annotated[
        str | None,
        typer.Option(
            "--corpus", "-c", help="Also show how often the storm guard would trip on this corpus, and at what cost."
        ),
    ] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Show how a policy treats a request: its task, flags, floor and thresholds. Calls no model."""
    from cascade.cli.policy.command import ExplainOptions, run_explain  # noqa: PLC0415

    run_explain(ExplainOptions(text, policy, task, tuple(flag or ()), corpus), as_json=as_json)
