"""The commands and their options. What they do stands in a module each, imported when it is called."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["UsageProblem", "app"]

# What every problem with the command line derives from; typer carries it but does not export it.
UsageProblem: type[Exception] = typer.BadParameter.__mro__[2]

_JSON = typer.Option("--json", help="Print the result as JSON.")
_POLICY = typer.Option(
    "--policy", "-p", help="A path, or a shipped policy's name. Default: CASCADE_POLICY, else default."
)

app = typer.Typer(
    name="cascade",
    help="Answers every request with the cheapest Claude model that can be trusted with it.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
policy_app = typer.Typer(help="Look at policies.", rich_markup_mode=None)
app.add_typer(policy_app, name="policy")


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415

        typer.echo(f"cascade {version('cascade-ladder')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def ask(  # noqa: PLR0913, PLR0917 - options
    text: Annotated[str, typer.Argument(help="The request; - reads it from standard input.")],
    policy: Annotated[str | None, _POLICY] = None,
    system: Annotated[str | None, typer.Option(help="Your system prompt.")] = None,
    task: Annotated[str | None, typer.Option(help="The class of input, where you know it.")] = None,
    flag: Annotated[list[str] | None, typer.Option(help="A flag for the policy's signals; may be repeated.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Bounds the answer.")] = None,
    deadline_s: Annotated[float | None, typer.Option("--deadline", help="Seconds for the whole climb.")] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Show the trail: what each rung said and cost.")] = False,
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """Answer one request."""
    from cascade.cli.asking import Wish, run_ask  # noqa: PLC0415

    run_ask(
        Wish(text, policy, system, task, tuple(flag or ()), max_tokens, deadline_s), explain=explain, as_json=as_json
    )


@app.command()
def demo(as_json: Annotated[bool, _JSON] = False) -> None:
    """600 synthetic support tickets through the real SDK, offline and without a key."""
    from cascade.cli.demo import run_demo  # noqa: PLC0415

    run_demo(as_json=as_json)


@app.command()
def doctor(policy: Annotated[str | None, _POLICY] = None, as_json: Annotated[bool, _JSON] = False) -> int:
    """Check key, endpoint, models, prices and clock; says what is missing and what to do. Spends nothing."""
    from cascade.cli.doctor import run_doctor  # noqa: PLC0415

    return run_doctor(policy, as_json=as_json)


@app.command()
def emulate(
    corpus: Annotated[
        list[Path] | None,
        typer.Option("--corpus", "-c", help="Answer from this corpus; may be repeated. Default: support."),
    ] = None,
    host: Annotated[str, typer.Option(help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0: any free one.", min=0, max=65535)] = 8484,
    faults: Annotated[str | None, typer.Option(help="E.g. rate_limit=0.1,overloaded=0.05; see the README.")] = None,
    seed: Annotated[int, typer.Option(help="Makes the faults' chance repeat.")] = 0,
    token_latency_ms: Annotated[float, typer.Option(help="Time each output token takes.", min=0)] = 0.0,
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """A Messages API on loopback that answers from a corpus. Ctrl-C stops it."""
    from cascade.cli.emulating import run_emulator  # noqa: PLC0415

    run_emulator(
        corpus or [], host=host, port=port, faults=faults, seed=seed, token_latency_s=token_latency_ms / 1e3,
        as_json=as_json,
    )  # fmt: skip


@policy_app.command("check")
def policy_check(
    name: Annotated[str | None, typer.Argument(metavar="[POLICY]", help="A path or a shipped name.")] = None,
    policy: Annotated[str | None, _POLICY] = None,
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """Is the policy usable? Names file:line:column, the key and the mend where it is not."""
    from cascade.cli.policies import run_check  # noqa: PLC0415

    run_check(name or policy, as_json=as_json)


@policy_app.command("show")
def policy_show(
    name: Annotated[str | None, typer.Argument(metavar="[POLICY]", help="A path or a shipped name.")] = None,
    policy: Annotated[str | None, _POLICY] = None,
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """The policy as it is in force: rungs with their prices, tasks, guard, defaults filled in."""
    from cascade.cli.policies import run_show  # noqa: PLC0415

    run_show(name or policy, as_json=as_json)


@policy_app.command("schema")
def policy_schema(as_json: Annotated[bool, _JSON] = True) -> None:  # noqa: ARG001 - it is JSON either way
    """The JSON Schema of the policy file, for editors."""
    from cascade.cli.policies import run_schema  # noqa: PLC0415

    run_schema()


@policy_app.command("explain")
def policy_explain(
    text: Annotated[str, typer.Argument(help="A request; - reads it from standard input.")],
    policy: Annotated[str | None, _POLICY] = None,
    task: Annotated[str | None, typer.Option(help="The task the caller would name.")] = None,
    flag: Annotated[list[str] | None, typer.Option(help="A flag the caller would give; may be repeated.")] = None,
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """What the policy makes of a request: its task, flags, floor and thresholds. Asks no model."""
    from cascade.cli.policies import run_explain  # noqa: PLC0415

    run_explain(text, policy, task, tuple(flag or ()), as_json=as_json)
