"""`cascade batch`: its commands and their options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cascade.cli.options import JSON, LEDGER, POLICY

__all__ = ["batch_app"]

batch_app = typer.Typer(
    name="batch", help="Answer many inputs through the Message Batches API, at half the price.", no_args_is_help=True
)

_WAIT = typer.Option(
    "--wait", help="Wait for the batches, and drive every round to the end. Without it, go on with `resume`."
)
_POLL = typer.Option(help="With --wait: seconds between two looks at the batches.", min=0.01)
_RUN = typer.Argument(metavar="RUN", help="The run's name, as `submit` printed it.")


@batch_app.command("submit")
def submit(  # noqa: PLR0913, PLR0917 - options
    inputs: Annotated[
        Path,
        typer.Argument(
            help="The inputs: JSON lines with input (a text or messages) and, if wanted, id, system, task, flags, metadata,"
            " max_tokens; or whatever `record` reads."
        ),
    ],
    policy: Annotated[str | None, POLICY] = None,
    max_usd: Annotated[
        float | None,
        typer.Option(
            help="Spend at most so much in this run. Each call counts at the most that it may cost (all of max_tokens)"
            " until its result is read; what then has no room is refused for good (exit 5)."
        ),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            help="FIELD=COLUMN for a column or key of the inputs with another name, as in --map input=question; may be repeated.",
        ),
    ] = None,
    wait: Annotated[bool, _WAIT] = False,
    run: Annotated[
        str | None,
        typer.Option(
            "--run",
            help="A name for the run; if there is one of this name, go on with it. Default: the time and a random part.",
        ),
    ] = None,
    poll_s: Annotated[float, _POLL] = 30.0,
    ledger: Annotated[str | None, LEDGER] = None,
    as_json: Annotated[bool, JSON] = False,
) -> int:
    """Begin a run: round 1 asks the first rung for all inputs, round 2 the next one for those that climb, and so on."""
    from cascade.cli.batch.command import SubmitOptions, run_submit  # noqa: PLC0415

    return run_submit(
        SubmitOptions(inputs, policy, max_usd, run, tuple(column or ())), wait, poll_s, ledger, as_json=as_json
    )


@batch_app.command("resume")
def resume(
    run: Annotated[str, _RUN],
    wait: Annotated[bool, _WAIT] = False,
    poll_s: Annotated[float, _POLL] = 30.0,
    ledger: Annotated[str | None, LEDGER] = None,
    as_json: Annotated[bool, JSON] = False,
) -> int:
    """Go on with a run, after a stop at any moment: read the batches that have ended, and send the next round."""
    from cascade.cli.batch.command import run_resume  # noqa: PLC0415

    return run_resume(run, wait, poll_s, ledger, as_json=as_json)


@batch_app.command("status")
def status(
    run: Annotated[str | None, typer.Argument(metavar="[RUN]", help="The run's name. Default: list all runs.")] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """How far a run is; without a name, list the runs on this machine."""
    from cascade.cli.batch.status import run_list, run_status  # noqa: PLC0415

    if run is None:
        run_list(as_json=as_json)
    else:
        run_status(run, as_json=as_json)


@batch_app.command("results")
def results(
    run: Annotated[str, _RUN],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The file to write (.jsonl). Default: standard output.")
    ] = None,
    remove: Annotated[
        bool,
        typer.Option(
            "--remove", help="With --out: then remove the run's folder, with its prompts and answers. All must be done."
        ),
    ] = False,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Write what came of each input, a JSON line each, in the order of the inputs. Those that are not done yet are left out."""
    from cascade.cli.batch.results import run_results  # noqa: PLC0415

    run_results(run, out, remove=remove, as_json=as_json)
