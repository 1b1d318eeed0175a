"""`cascade calibrate`: its arguments and options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cascade.cli.options import CORPUS_POLICY, EARLY_STOP, JSON, REPRICE, SAME, SKIP_BAD, SPLIT_SEED, TUNE

__all__ = ["calibrate"]


def calibrate(  # noqa: PLR0913, PLR0917 - options
    corpora: Annotated[
        list[Path],
        typer.Argument(metavar="CORPUS...", help="Corpora, read as one, or a shipped corpus's name."),
    ],
    counts: Annotated[
        bool, typer.Option("--counts", help="The files are tables of counts from `cascade tabulate`.")
    ] = False,
    policy: Annotated[str | None, CORPUS_POLICY] = None,
    max_risk: Annotated[
        float | None, typer.Option(help="Minimise cost with a loss rate certified to be at most this.")
    ] = None,
    delta: Annotated[float, typer.Option(help="The probability that the certificate is wrong.")] = 0.05,
    loss: Annotated[
        str,
        typer.Option(
            help="The loss of --max-risk: false_confident, regression, or disagreement (by the corpus's scores)."
        ),
    ] = "false_confident",
    min_quality: Annotated[
        str | None,
        typer.Option(help="Minimise cost at this mean score, such as 0.9, or 95%top of the top rung's. Not certified."),
    ] = None,
    budget: Annotated[
        float | None, typer.Option(help="Maximise quality at this many USD per request. Not certified.")
    ] = None,
    frontier: Annotated[
        bool, typer.Option("--frontier", help="Show the whole corpus's frontier, and choose no thresholds.")
    ] = False,
    tune: Annotated[float, TUNE] = 0.5,
    split_seed: Annotated[int, SPLIT_SEED] = 0,
    per_task: Annotated[
        bool, typer.Option("--per-task", help="Choose separate thresholds for tasks of 500 items or more.")
    ] = False,
    scorer: Annotated[
        bool, typer.Option("--scorer", help="First learn a better confidence from the tuning half.")
    ] = False,
    scorer_target: Annotated[
        str | None,
        typer.Option(
            help="What --scorer (implied) predicts: right (the default), gain (of the best rung above; not for confident mistakes), or"
            " best (try both). The models' own confidences are used where they do better on the tuning half."
        ),
    ] = None,
    signals: Annotated[
        bool,
        typer.Option(
            "--signals",
            help="Measure on the tuning half what each signal (self-report, agreement, variants, checks, scorer) is worth, alone or"
            " beside an objective.",
        ),
    ] = False,
    samples: Annotated[
        list[str] | None,
        typer.Option(
            help="RUNG=M/N[:VARIANT,...]: ask the rung up to N times, until M answers are the same; RUNG=once; or auto: search the"
            " recorded samples and variants beside the thresholds. May be repeated."
        ),
    ] = None,
    same: Annotated[str | None, SAME] = None,
    early_stop: Annotated[bool, EARLY_STOP] = False,
    reprice: Annotated[bool, REPRICE] = False,
    against: Annotated[
        str | None,
        typer.Option(help="Only test whether this policy's certificate still holds on this fresh corpus."),
    ] = None,
    write: Annotated[
        str | None, typer.Option(help="Write thresholds and certificate into this policy file, in place.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="With --write: also where a single model is better.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --write: show the change without writing it.")
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option(help="Write an HTML report: frontier, reliability, flow, and sliders for the thresholds."),
    ] = None,
    skip_bad: Annotated[bool, SKIP_BAD] = False,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Choose thresholds on one half of a corpus and certify them on the other, beside every single model."""
    from cascade.cli.calibrate.command import CalibrateOptions, run_calibrate, run_signals  # noqa: PLC0415

    options = CalibrateOptions(
        corpora=tuple(corpora), policy=policy, max_risk=max_risk, delta=delta, loss=loss, min_quality=min_quality,
        budget=budget, frontier_only=frontier, tune=tune, split_seed=split_seed, per_task=per_task, scorer=scorer,
        scorer_target=scorer_target, signals=signals, counts=counts, against=against, write=write, force=force, dry_run=dry_run, report=report, skip_bad=skip_bad,
        samples=tuple(samples or ()), same=same, early_stop=early_stop, reprice=reprice,
    )  # fmt: skip
    run = run_signals if options.only_signals else run_calibrate
    run(options, as_json=as_json)
