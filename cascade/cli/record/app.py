"""`cascade record`: its options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cascade.cli.options import JSON, POLICY

__all__ = ["record"]


def record(  # noqa: PLR0913, PLR0917 - one for each option
    out: Annotated[Path, typer.Option("--out", "-o", help="The corpus to write (.jsonl, .jsonl.gz, .parquet).")],
    inputs: Annotated[
        Path | None,
        typer.Argument(
            help="The requests: a table with a header (.csv, .tsv), JSON lines, a JSON array, a corpus, or one text per line."
            " Columns or keys: input and, if known, id, expected (the right answer, for the grader), system, task, group."
        ),
    ] = None,
    from_ledger: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Instead of INPUTS: the requests that `mode: observe` recorded in this ledger ('' for the default one)."
            " Calls no model, except a judge.",
        ),
    ] = None,
    policy: Annotated[str | None, POLICY] = None,
    rungs: Annotated[
        str | None, typer.Option(help="The rungs to record (a,b), besides the top one. Default: all.")
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(help="The rung or model whose plain answers are the baseline. Default: the top rung."),
    ] = None,
    grader: Annotated[
        str | None,
        typer.Option(
            help="exact, normalized, choice, numeric:0.01, contains, pattern:REGEX, json_subset, module:function or"
            " judge:RUNG. Default: the one named in INPUTS. With another grader a finished recording is graded again; only"
            " a judge costs money then."
        ),
    ] = None,
    max_usd: Annotated[
        float | None,
        typer.Option(
            help="Maximum spend over all runs of this recording (exit 5); the last call may exceed it. A call in flight"
            " when a run was killed counts at the most that it may have cost."
        ),
    ] = None,
    baseline_twice: Annotated[
        int,
        typer.Option(help="Ask the baseline a second time on this many items, to measure its noise floor.", min=0),
    ] = 0,
    samples: Annotated[
        list[str] | None,
        typer.Option(
            help="N: ask every rung below the top N times. RUNG=N: this rung; may be repeated. Default: what the policy asks"
            " for, never curtailed. The top rung and the baseline are asked once."
        ),
    ] = None,
    variants: Annotated[
        str | None,
        typer.Option(
            help="The prompts of the samples in turn (a,b): confidence_first, answer_first, steps, doubt, a variant of the"
            " policy, or a text file. Default: the policy's."
        ),
    ] = None,
    same: Annotated[
        str | None,
        typer.Option(
            help="judge: have the first rung group the samples' answers by meaning, for votes on free text. Other ways to"
            " compare answers need no recording. Default: the policy's."
        ),
    ] = None,
    batch: Annotated[
        bool,
        typer.Option(
            "--batch",
            help="Ask through the Message Batches API, at half the price. --max-usd counts what is paid. The corpus's cost_usd is"
            " what a live call costs, so that a replay of it tells the price of live traffic.",
        ),
    ] = False,
    poll_s: Annotated[
        float, typer.Option(help="With --batch: seconds between two looks at the batches.", min=0.01)
    ] = 30.0,
    concurrency: Annotated[int, typer.Option(help="How many items to record at a time.", min=1, max=256)] = 4,
    name: Annotated[
        str | None, typer.Option(help="The corpus's name. Default: the name in INPUTS, else the file's.")
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            help="FIELD=COLUMN for a column or key of INPUTS with another name, as in --map input=question --map"
            " expected=answer; may be repeated.",
        ),
    ] = None,
    workers: Annotated[
        int,
        typer.Option(
            help="How many processes record, each --concurrency items at a time (extra dask).", min=1, max=512
        ),
    ] = 1,
    scheduler: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="The Dask scheduler (tcp://host:8786) whose workers record, --workers parts at a time. Default: processes of this"
            " machine.",
        ),
    ] = None,
    as_json: Annotated[bool, JSON] = False,
) -> int:
    """Make a corpus of your own: ask every rung for every input, and grade the answers.

    The same command continues a recording that was stopped. Each reply is written to CORPUS.journal before the next call
    of its item, so a kill loses no reply that arrived. The corpus file is rewritten when it has grown by a quarter, and at
    the end; it is complete and readable at any time.

    Each call may take the policy's deadline_s: a recording asks every rung, it does not climb.

    With --batch all rungs are asked in one round of batches, and what depends on replies (groupings, reviews, judgements) in
    further rounds; the corpus is the same. Ctrl-C leaves the batches under way; the same command collects them. --max-usd
    admits calls at the most that each may cost, so a cap well above the expected spend means fewer rounds.

    With --workers each part of the inputs is recorded by a process of its own, into CORPUS.journal.PART; a killed one's part is taken
    over by another. Then one process joins, grades and writes. --max-usd is then counted in Redis (CASCADE_STATE).

    A later run may ask for more samples or further variants: what is recorded is not asked again. A variant's samples are
    asked anew only if its prompt has changed.

    The corpus, and its journal until the corpus is complete, store your inputs and all answers, whatever the policy's
    ledger settings say.
    """
    from cascade.cli.record.command import RecordOptions, run_record  # noqa: PLC0415

    options = RecordOptions(
        inputs=inputs, target=out, policy=policy, rungs=rungs, baseline=baseline, grader=grader, max_usd=max_usd,
        concurrency=concurrency, name=name, baseline_twice=baseline_twice, from_ledger=from_ledger,
        maps=tuple(column or ()), samples=tuple(samples or ()), variants=variants, same=same,
        batch=batch, poll_s=poll_s, workers=workers, scheduler=scheduler,
    )  # fmt: skip
    return run_record(options, as_json=as_json)
