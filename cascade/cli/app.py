"""The command line program: its commands and their options. What a command does is imported when it is called.

A command with a folder of its own (`calibrate`, `costs`, …) has its options there, in `app.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cascade.cli.audit.app import audit_app
from cascade.cli.batch.app import batch_app
from cascade.cli.calibrate.app import calibrate
from cascade.cli.costs.app import costs
from cascade.cli.ledger.app import ledger_app
from cascade.cli.mode.app import mode
from cascade.cli.options import (
    CORPUS_POLICY,
    EARLY_STOP,
    ENGINE,
    JSON,
    LEDGER,
    MEMORY,
    POLICY,
    REPRICE,
    SAME,
    SCHEDULER,
    SKIP_BAD,
    SPLIT_SEED,
    TRUST_IDS,
    TUNE,
    WORKERS,
)
from cascade.cli.plan.app import plan_app
from cascade.cli.policy.app import policy_app
from cascade.cli.record.app import record
from cascade.cli.run.app import run
from cascade.cli.savings.app import savings
from cascade.cli.serve.app import serve_app

__all__ = ["UsageProblem", "app"]

# The base class of all errors in the command line's arguments; typer has it but does not export it.
UsageProblem: type[Exception] = typer.BadParameter.__mro__[2]

app = typer.Typer(
    name="cascade",
    help="Answers every request with the cheapest Claude model that can be trusted with it.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


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
    policy: Annotated[str | None, POLICY] = None,
    system: Annotated[str | None, typer.Option(help="The system prompt.")] = None,
    task: Annotated[str | None, typer.Option(help="The request's task. Default: by the policy's signals.")] = None,
    flag: Annotated[list[str] | None, typer.Option(help="A flag for the policy's signals; may be repeated.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Maximum output tokens of the answer.")] = None,
    deadline_s: Annotated[
        float | None, typer.Option("--deadline", help="Deadline of the whole climb, in seconds.")
    ] = None,
    metadata: Annotated[
        list[str] | None,
        typer.Option(help="NAME=VALUE, recorded in the ledger (workflow, customer, key …); may be repeated."),
    ] = None,
    ledger: Annotated[str | None, LEDGER] = None,
    cache: Annotated[
        bool | None,
        typer.Option(
            "--cache/--no-cache", help="Use the policy's response cache, or not. Default: as the policy says."
        ),
    ] = None,
    session: Annotated[
        str | None,
        typer.Option(
            help="The conversation's name: what `cascade run` decided in it is told (from one command to the next: CASCADE_STATE=redis://…)."
        ),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show the trail: each rung's verdict, confidence and cost.")
    ] = False,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Answer one request."""
    from cascade.cli.ask import AskOptions, run_ask  # noqa: PLC0415

    options = AskOptions(
        text=text, policy=policy, system=system, task=task, flags=tuple(flag or ()), max_tokens=max_tokens,
        deadline_s=deadline_s, metadata=tuple(metadata or ()), ledger=ledger, cache=cache, session=session,
    )  # fmt: skip
    run_ask(options, explain=explain, as_json=as_json)


@app.command()
def init(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="The policy file to write.")] = Path("policy.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite PATH if it exists.")] = False,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Write a commented starter policy, and list the next steps."""
    from cascade.cli.init import run_init  # noqa: PLC0415

    run_init(path, force=force, as_json=as_json)


@app.command()
def demo(
    plan: Annotated[
        bool, typer.Option("--plan", help="Plan and run one goal instead: subtasks, costs, reviews.")
    ] = False,
    html: Annotated[
        Path | None, typer.Option(help="With --plan: write the run with its graph as an HTML page.")
    ] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Run 600 synthetic support tickets, or with --plan one goal, through the real SDK, offline and without a key."""
    if plan:
        from cascade.cli.demo.planned import run_plan_demo  # noqa: PLC0415

        run_plan_demo(html, as_json=as_json)
        return
    if html is not None:
        raise typer.BadParameter("--html is the page of a plan's run (add --plan)")
    from cascade.cli.demo import run_demo  # noqa: PLC0415

    run_demo(as_json=as_json)


@app.command()
def doctor(policy: Annotated[str | None, POLICY] = None, as_json: Annotated[bool, JSON] = False) -> int:
    """Check key, endpoint, models, prices and clock, and say how to fix what is missing. Costs nothing."""
    from cascade.cli.doctor import run_doctor  # noqa: PLC0415

    return run_doctor(policy, as_json=as_json)


@app.command()
def emulate(  # noqa: PLR0913, PLR0917 - options
    corpus: Annotated[
        list[Path] | None,
        typer.Option("--corpus", "-c", help="A corpus to answer from; may be repeated. Default: support."),
    ] = None,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on; 0 takes a free one.", min=0, max=65535)] = 8485,
    faults: Annotated[
        str | None, typer.Option(help="Faults to inject, such as rate_limit=0.1,overloaded=0.05.")
    ] = None,
    seed: Annotated[int, typer.Option(help="The seed of the random faults.")] = 0,
    token_latency_ms: Annotated[float, typer.Option(help="Milliseconds per output token.", min=0)] = 0.0,
    canned: Annotated[
        bool,
        typer.Option(
            "--any", help="Answer texts and models that are in no corpus with a canned answer, marked as such."
        ),
    ] = False,
    caching: Annotated[
        bool, typer.Option("--caching", help="Cache prompts that carry cache_control, and bill them as the API does.")
    ] = False,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Serve the Messages API on loopback, with answers from a corpus. Ctrl-C stops it."""
    from cascade.cli.emulate import run_emulator  # noqa: PLC0415

    run_emulator(
        corpus or [], host=host, port=port, faults=faults, seed=seed, token_latency_s=token_latency_ms / 1e3,
        canned=canned, caching=caching, as_json=as_json,
    )  # fmt: skip


@app.command()
def replay(  # noqa: PLR0913, PLR0917 - options
    corpora: Annotated[
        list[Path],
        typer.Argument(
            metavar="CORPUS...",
            help="Corpora (.jsonl, .jsonl.gz, .parquet), folders or quoted patterns of Parquet shards, or a shipped corpus's name.",
        ),
    ],
    policy: Annotated[
        str | None,
        typer.Option(
            "--policy",
            "-p",
            help="A policy file, or a shipped policy's name. Default: the corpus's own ladder at 0.80.",
        ),
    ] = None,
    threshold: Annotated[
        list[str] | None,
        typer.Option(help="[TASK:]RUNG=X, a threshold from 0 to 1, or never; may be repeated."),
    ] = None,
    samples: Annotated[
        list[str] | None,
        typer.Option(
            help="RUNG=M/N[:VARIANT,...]: ask the rung up to N times, until M answers are the same; or RUNG=once. May be repeated."
        ),
    ] = None,
    same: Annotated[str | None, SAME] = None,
    split: Annotated[str, typer.Option(help="The part of the corpus to replay: tune, certify or all.")] = "all",
    tune: Annotated[float, TUNE] = 0.5,
    split_seed: Annotated[int, SPLIT_SEED] = 0,
    reprice: Annotated[bool, REPRICE] = False,
    exact_engine: Annotated[
        bool,
        typer.Option("--exact-engine", help="Replay item by item with the live rule: the same result, slower."),
    ] = False,
    against: Annotated[
        str | None, typer.Option(help="Another policy, to compare with on the same items (paired differences).")
    ] = None,
    early_stop: Annotated[bool, EARLY_STOP] = False,
    require: Annotated[
        list[str] | None,
        typer.Option(
            help="A condition on a figure of --json, such as 'quality>=0.9' or 'quality_ci95.0>=0.85'; exit 3 if it is not"
            " met. May be repeated."
        ),
    ] = None,
    skip_bad: Annotated[bool, SKIP_BAD] = False,
    engine: Annotated[str, ENGINE] = "auto",
    scheduler: Annotated[str | None, SCHEDULER] = None,
    workers: Annotated[int | None, WORKERS] = None,
    memory: Annotated[str, MEMORY] = "1GiB",
    trust_ids: Annotated[bool, TRUST_IDS] = False,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Show what a policy would have done on a corpus, beside every single model. Calls no model."""
    from cascade.cli.engines import EngineOptions  # noqa: PLC0415
    from cascade.cli.replay import CommandOptions, run_replay  # noqa: PLC0415

    options = CommandOptions(
        corpora=tuple(corpora), policy=policy, thresholds=tuple(threshold or ()), split=split, tune=tune,
        split_seed=split_seed, reprice=reprice, exact_engine=exact_engine, against=against,
        requirements=tuple(require or ()), skip_bad=skip_bad, samples=tuple(samples or ()), same=same,
        early_stop=early_stop, engine=EngineOptions(engine, scheduler, workers, memory, trust_ids),
    )  # fmt: skip
    run_replay(options, as_json=as_json)


app.command()(calibrate)


@app.command()
def tabulate(  # noqa: PLR0913, PLR0917 - options
    corpora: Annotated[
        list[Path],
        typer.Argument(
            metavar="CORPUS...",
            help="Corpora, folders or quoted patterns of Parquet shards, or a shipped corpus's name.",
        ),
    ],
    out: Annotated[Path, typer.Option("--output", "-o", help="The table of counts to write (.parquet).")],
    policy: Annotated[str | None, CORPUS_POLICY] = None,
    tune: Annotated[float, TUNE] = 0.5,
    split_seed: Annotated[int, SPLIT_SEED] = 0,
    engine: Annotated[str, ENGINE] = "auto",
    scheduler: Annotated[str | None, SCHEDULER] = None,
    workers: Annotated[int | None, WORKERS] = None,
    memory: Annotated[str, MEMORY] = "1GiB",
    trust_ids: Annotated[bool, TRUST_IDS] = False,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Count corpora into one small table for `calibrate --counts`, which adds several tables up."""
    from cascade.cli.engines import EngineOptions  # noqa: PLC0415
    from cascade.cli.tabulate import run_tabulate  # noqa: PLC0415

    options = EngineOptions(engine, scheduler, workers, memory, trust_ids)
    run_tabulate(tuple(corpora), out, policy, options, split=(tune, split_seed), as_json=as_json)


app.command()(savings)


app.command()(run)


app.command()(record)


@app.command("import")
def import_(  # noqa: PLR0913, PLR0917 - options
    format_name: Annotated[
        str, typer.Argument(metavar="FORMAT", help="lm-eval, routerbench, promptfoo, inspect or csv.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The corpus to write (.jsonl, .jsonl.gz, .parquet).")],
    sources: Annotated[list[str] | None, typer.Argument(metavar="SRC", help="Files of that format.")] = None,
    rung: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=SRC, cheapest first, where SRC is the rung's own file or a model's name in the files; may be repeated."
        ),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            help="csv: FIELD=COLUMN, such as id=qid or haiku.score=h_ok; may be repeated. Rows with one id are samples.",
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(help="RUNG=MODEL, where the source does not name the rung's model; may be repeated."),
    ] = None,
    filter_name: Annotated[
        str | None, typer.Option("--filter", help="lm-eval: the filter whose answers to import.")
    ] = None,
    metric: Annotated[
        str | None, typer.Option(help="lm-eval, promptfoo, inspect: the metric or scorer that gives the score.")
    ] = None,
    confidence: Annotated[
        str | None,
        typer.Option(
            help="lm-eval: logprob takes the softmax of a multiple choice's log-likelihoods as the confidence."
        ),
    ] = None,
    estimate_usage: Annotated[
        bool,
        typer.Option("--estimate-usage", help="Estimate missing usage (characters / 4) and costs (list prices)."),
    ] = False,
    grader: Annotated[
        str | None,
        typer.Option(
            help="Grade answers, those of further samples too, that have no score in the files: exact, normalized, choice, …"
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="The corpus's name. Default: the file's.")] = None,
    keep_incomplete: Annotated[
        bool,
        typer.Option(
            "--keep-incomplete", help="Keep items that lack a rung's reply. Default: they are counted and left out."
        ),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the corpus if it exists.")] = False,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Convert other tools' logs to a corpus. Values that the logs lack stay absent, and are reported."""
    from cascade.cli.import_ import ImportOptions, run_import  # noqa: PLC0415

    options = ImportOptions(
        format=format_name, sources=tuple(sources or ()), output=output, rungs=tuple(rung or ()),
        maps=tuple(column or ()), models=tuple(model or ()), filter=filter_name, metric=metric, confidence=confidence,
        estimate_usage=estimate_usage, grader=grader, name=name, keep_incomplete=keep_incomplete, force=force,
    )  # fmt: skip
    run_import(options, as_json=as_json)


app.command()(costs)
app.command()(mode)
app.add_typer(audit_app)
app.add_typer(batch_app)
app.add_typer(ledger_app, name="ledger")
app.add_typer(plan_app)
app.add_typer(policy_app, name="policy")
app.add_typer(serve_app, name="serve")
