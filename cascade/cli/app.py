"""The commands and their options. What they do stands in a module each, imported when it is called.

Commands of one family (`policy …`, `ledger …`) have a module of their own beside this one: `policy_app`, `money_app`, `ledger_app`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cascade.cli.costs.app import money_app
from cascade.cli.ledger.app import ledger_app
from cascade.cli.options import JSON, LEDGER, LOOKS, POLICY, SEED, SKIP, TUNE
from cascade.cli.policy.app import policy_app

__all__ = ["UsageProblem", "app"]

# What every problem with the command line derives from; typer carries it but does not export it.
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
    system: Annotated[str | None, typer.Option(help="Your system prompt.")] = None,
    task: Annotated[str | None, typer.Option(help="The class of input, where you know it.")] = None,
    flag: Annotated[list[str] | None, typer.Option(help="A flag for the policy's signals; may be repeated.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Bounds the answer.")] = None,
    deadline_s: Annotated[float | None, typer.Option("--deadline", help="Seconds for the whole climb.")] = None,
    metadata: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE for your books (workflow, customer, key …); may be repeated.")
    ] = None,
    ledger: Annotated[str | None, LEDGER] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Show the trail: what each rung said and cost.")] = False,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Answer one request."""
    from cascade.cli.ask import Wish, run_ask  # noqa: PLC0415

    run_ask(
        Wish(
            text, policy, system, task, tuple(flag or ()), max_tokens, deadline_s, tuple(metadata or ()), ledger
        ),
        explain=explain, as_json=as_json,
    )  # fmt: skip


@app.command()
def init(
    path: Annotated[Path, typer.Argument(metavar="[PATH]", help="The policy to write.")] = Path("policy.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Write over PATH where it exists.")] = False,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Write a commented policy to start from, and say what comes next."""
    from cascade.cli.init import run_init  # noqa: PLC0415

    run_init(path, force=force, as_json=as_json)


@app.command()
def demo(as_json: Annotated[bool, JSON] = False) -> None:
    """600 synthetic support tickets through the real SDK, offline and without a key."""
    from cascade.cli.demo import run_demo  # noqa: PLC0415

    run_demo(as_json=as_json)


@app.command()
def doctor(policy: Annotated[str | None, POLICY] = None, as_json: Annotated[bool, JSON] = False) -> int:
    """Check key, endpoint, models, prices and clock; says what is missing and what to do. Spends nothing."""
    from cascade.cli.doctor import run_doctor  # noqa: PLC0415

    return run_doctor(policy, as_json=as_json)


@app.command()
def emulate(  # noqa: PLR0913, PLR0917 - options
    corpus: Annotated[
        list[Path] | None,
        typer.Option("--corpus", "-c", help="Answer from this corpus; may be repeated. Default: support."),
    ] = None,
    host: Annotated[str, typer.Option(help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0: any free one.", min=0, max=65535)] = 8484,
    faults: Annotated[str | None, typer.Option(help="E.g. rate_limit=0.1,overloaded=0.05; see the README.")] = None,
    seed: Annotated[int, typer.Option(help="Makes the faults' chance repeat.")] = 0,
    token_latency_ms: Annotated[float, typer.Option(help="Time each output token takes.", min=0)] = 0.0,
    canned: Annotated[
        bool, typer.Option("--any", help="Give a canned answer, marked as one, to texts and models no corpus has.")
    ] = False,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """A Messages API on loopback that answers from a corpus. Ctrl-C stops it."""
    from cascade.cli.emulate import run_emulator  # noqa: PLC0415

    run_emulator(
        corpus or [], host=host, port=port, faults=faults, seed=seed, token_latency_s=token_latency_ms / 1e3,
        canned=canned, as_json=as_json,
    )  # fmt: skip


@app.command()
def replay(  # noqa: PLR0913, PLR0917 - options
    corpora: Annotated[
        list[Path],
        typer.Argument(
            metavar="CORPUS...", help="Recorded cases: .jsonl, .jsonl.gz, .parquet; or a shipped one's name."
        ),
    ],
    policy: Annotated[
        str | None,
        typer.Option(
            "--policy", "-p", help="A path, or a shipped policy's name. Default: the corpus's ladder at 0.80."
        ),
    ] = None,
    threshold: Annotated[
        list[str] | None, typer.Option(help="[TASK:]RUNG=X, X from 0 to 1 or never; may be repeated.")
    ] = None,
    split: Annotated[str, typer.Option(help="Which part: tune, certify or all.")] = "all",
    tune: Annotated[float, TUNE] = 0.5,
    split_seed: Annotated[int, SEED] = 0,
    reprice: Annotated[bool, typer.Option("--reprice", help="Costs from usage at the policy's prices.")] = False,
    exact_engine: Annotated[
        bool, typer.Option("--exact-engine", help="Item by item through the engine's own rule: the same, slower.")
    ] = False,
    against: Annotated[
        str | None, typer.Option(help="Another policy as it is, on the same items: paired differences.")
    ] = None,
    require: Annotated[
        list[str] | None,
        typer.Option(
            help="A figure of --json: 'quality>=0.9', 'quality_ci95.0>=0.85'. Exit 3 where it is not so; may be repeated."
        ),
    ] = None,
    skip_bad: Annotated[bool, SKIP] = False,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """What a policy would have done on recorded cases, against every single model. Asks no model."""
    from cascade.cli.replay import CommandOptions, run_replay  # noqa: PLC0415

    asked = CommandOptions(
        tuple(corpora), policy, tuple(threshold or ()), split, tune, split_seed, reprice, exact_engine, against,
        tuple(require or ()), skip_bad,
    )  # fmt: skip
    run_replay(asked, as_json=as_json)


@app.command()
def calibrate(  # noqa: PLR0913, PLR0917 - options
    corpora: Annotated[
        list[Path],
        typer.Argument(metavar="CORPUS...", help="Recorded cases, read as one; or a shipped one's name."),
    ],
    counts: Annotated[
        bool, typer.Option("--counts", help="The files are tables of counts, as `cascade tabulate` makes them.")
    ] = False,
    policy: Annotated[str | None, LOOKS] = None,
    max_risk: Annotated[
        float | None, typer.Option(help="The least cost whose rate of losses is certified to be at most this.")
    ] = None,
    delta: Annotated[float, typer.Option(help="The probability that the certificate is wrong.")] = 0.05,
    loss: Annotated[
        str, typer.Option(help="false_confident, regression, or disagreement (as the corpus's scores have it).")
    ] = "false_confident",
    min_quality: Annotated[
        str | None, typer.Option(help="The least cost at this mean score: 0.9, or 95%top. Not certified.")
    ] = None,
    budget: Annotated[float | None, typer.Option(help="The best for so many USD a request. Not certified.")] = None,
    frontier: Annotated[bool, typer.Option("--frontier", help="The whole corpus's frontier; chooses nothing.")] = False,
    tune: Annotated[float, TUNE] = 0.5,
    split_seed: Annotated[int, SEED] = 0,
    per_task: Annotated[
        bool, typer.Option("--per-task", help="Tasks of 500 items or more get thresholds of their own.")
    ] = False,
    scorer: Annotated[bool, typer.Option("--scorer", help="First learn a better confidence (tune half).")] = False,
    against: Annotated[
        str | None, typer.Option(help="Instead: does this policy's certificate still hold on this fresh corpus?")
    ] = None,
    write: Annotated[
        str | None, typer.Option(help="Put thresholds and certificate into this policy file, in place.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write also where a single model is better.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="With --write: show the change, write nothing.")] = False,
    report: Annotated[
        Path | None, typer.Option(help="A page to tune with, one file: frontier, reliability, flow, sliders.")
    ] = None,
    skip_bad: Annotated[bool, SKIP] = False,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Choose thresholds on one half of a corpus and prove them on the other, against every single model."""
    from cascade.cli.calibrate.command import CalibrateOptions, run_calibrate  # noqa: PLC0415

    asked = CalibrateOptions(
        tuple(corpora), policy, max_risk, delta, loss, min_quality, budget, frontier, tune, split_seed, per_task,
        scorer, counts, against, write, force, dry_run, report, skip_bad,
    )  # fmt: skip
    run_calibrate(asked, as_json=as_json)


@app.command()
def tabulate(
    corpora: Annotated[
        list[Path], typer.Argument(metavar="CORPUS...", help="Recorded cases; or a shipped one's name.")
    ],
    out: Annotated[Path, typer.Option("--output", "-o", help="The table of counts to make (.parquet).")],
    policy: Annotated[str | None, LOOKS] = None,
    tune: Annotated[float, TUNE] = 0.5,
    split_seed: Annotated[int, SEED] = 0,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Count corpora into one small table, from which `calibrate --counts` chooses: tables of parts add up."""
    from cascade.cli.tabulate import run_tabulate  # noqa: PLC0415

    run_tabulate(tuple(corpora), out, policy, tune=tune, split_seed=split_seed, as_json=as_json)


@app.command()
def savings(  # noqa: PLR0913, PLR0917 - options
    usage: Annotated[Path, typer.Argument(help="A usage export: CSV, JSON lines or JSON.")],
    policy: Annotated[str | None, POLICY] = None,
    corpus: Annotated[
        str | None, typer.Option("--corpus", "-c", help="Measure the mix on this corpus, under the policy.")
    ] = None,
    mix: Annotated[
        str | None, typer.Option(help="A guess: per cent of the requests each rung answers: 80/15/5.")
    ] = None,
    routed: Annotated[
        bool, typer.Option("--routed/--climb", help="Which bill counts: one model a request, or every rung on the way.")
    ] = False,
    period_days: Annotated[float | None, typer.Option(help="Days the export covers. Default: from its dates.")] = None,
    requests: Annotated[int | None, typer.Option(help="How many, where the export does not say.", min=1)] = None,
    cached: Annotated[float | None, typer.Option(help="Also: with this share of the input cached, 0..1.")] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            help="FIELD=COLUMN where a column's name is not known; may be repeated. FIELD: model, requests, input (without"
            " cached tokens), prompt (with them), output, cache_read, cache_write, cache_write_5m, cache_write_1h, date,"
            " tier, request_id.",
        ),
    ] = None,
    price: Annotated[
        list[str] | None, typer.Option(help="MODEL=IN/OUT in USD per million tokens; may be repeated.")
    ] = None,
    more: Annotated[
        bool, typer.Option("--more", help="Also: with and without prompt caching and batch, and by escalation rate.")
    ] = False,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """What a policy would do to your bill: today's from a usage export, then under the policy. Asks no model."""
    from cascade.cli.savings.command import Sought, run_savings  # noqa: PLC0415

    sought = Sought(
        usage, policy, corpus, mix, routed, period_days, requests, cached, tuple(column or ()), tuple(price or ())
    )
    run_savings(sought, more=more, as_json=as_json)


@app.command()
def record(  # noqa: PLR0913, PLR0917 - options
    out: Annotated[Path, typer.Option("--out", "-o", help="The corpus to make (.jsonl, .jsonl.gz, .parquet).")],
    inputs: Annotated[
        Path | None,
        typer.Argument(
            help="What to ask: a table (.csv, .tsv) with a header; JSON lines or a JSON array; a corpus; or a text a line."
            " Columns or keys: input and, if known, id, expected (the right answer, for the grader), system, task, group."
        ),
    ] = None,
    from_ledger: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Instead of INPUTS: what `mode: observe` has seen, of this ledger ('' for the default one). Asks no model but"
            " a judge.",
        ),
    ] = None,
    policy: Annotated[str | None, POLICY] = None,
    rungs: Annotated[str | None, typer.Option(help="Only these (a,b), and the top one. Default: all.")] = None,
    baseline: Annotated[
        str | None, typer.Option(help="A rung or model to ask plainly. Default: the top rung, asked once.")
    ] = None,
    grader: Annotated[
        str | None,
        typer.Option(
            help="exact, normalized, choice, numeric:0.01, contains, pattern:REGEX, json_subset, module:function or"
            " judge:RUNG. Default: the one that INPUTS names. Another one grades a whole recording anew; only a judge is"
            " paid for that."
        ),
    ] = None,
    max_usd: Annotated[
        float | None,
        typer.Option(
            help="Stop at this (exit 5), over all runs of this recording; one call may pass it. A call that was in flight at a kill"
            " counts with the most it may have cost."
        ),
    ] = None,
    baseline_twice: Annotated[int, typer.Option(help="Ask it again on so many items: its noise floor.", min=0)] = 0,
    concurrency: Annotated[int, typer.Option(help="Items asked at a time.", min=1, max=256)] = 4,
    name: Annotated[str | None, typer.Option(help="The corpus's name. Default: that of INPUTS or of the file.")] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            help="FIELD=COLUMN where a column or key of INPUTS has another name, as in --map input=question --map"
            " expected=answer; may be repeated.",
        ),
    ] = None,
    as_json: Annotated[bool, JSON] = False,
) -> int:
    """Make a corpus of your own: ask every rung for every input, and grade. Run it again to go on after a stop.

    Each reply is on the disk, in CORPUS.journal, before the next call of its item: a kill loses none that arrived. The
    corpus is written anew when it has grown by a quarter and at the end, always as a whole: it can be read at any time.

    Each call may take the policy's deadline_s by itself: a recording asks every rung, and is no climb.

    The corpus and its journal (until the corpus is whole) store your inputs and all answers: that is what a corpus is,
    whatever the policy says of its ledger.
    """
    from cascade.cli.record import RecordOptions, run_record  # noqa: PLC0415

    wish = RecordOptions(
        inputs, out, policy, rungs, baseline, grader, max_usd, concurrency, name, baseline_twice,
        from_ledger, tuple(column or ()),
    )  # fmt: skip
    return run_record(wish, as_json=as_json)


@app.command("import")
def import_(  # noqa: PLR0913, PLR0917 - options
    format_name: Annotated[
        str, typer.Argument(metavar="FORMAT", help="lm-eval, routerbench, promptfoo, inspect or csv.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="CORPUS: .jsonl, .jsonl.gz or .parquet.")],
    sources: Annotated[list[str] | None, typer.Argument(metavar="SRC", help="Files of that format.")] = None,
    rung: Annotated[
        list[str] | None,
        typer.Option(help="NAME=SRC, cheapest first; SRC: a file that is this rung's, or a model's name in the files."),
    ] = None,
    column: Annotated[
        list[str] | None, typer.Option("--map", help="csv: FIELD=COLUMN, e.g. id=qid or haiku.score=h_ok; repeated.")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="RUNG=MODEL: a rung's model, where the source does not name it; repeated.")
    ] = None,
    filter_name: Annotated[str | None, typer.Option("--filter", help="lm-eval: which filter's answers.")] = None,
    metric: Annotated[
        str | None, typer.Option(help="lm-eval, promptfoo, inspect: which metric or scorer is the score.")
    ] = None,
    confidence: Annotated[
        str | None,
        typer.Option(help="lm-eval: logprob, a multiple choice's softmax of the log-likelihoods, as the confidence."),
    ] = None,
    estimate_usage: Annotated[
        bool,
        typer.Option("--estimate-usage", help="Estimate missing usage (characters / 4) and costs (list prices)."),
    ] = False,
    name: Annotated[str | None, typer.Option(help="The corpus's name. Default: the file's.")] = None,
    keep_incomplete: Annotated[
        bool, typer.Option("--keep-incomplete", help="Keep items that lack a rung's reply; default: count, leave out.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Write over CORPUS where it exists.")] = False,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Make a corpus of what other tools recorded. What they did not record stays absent, and is told."""
    from cascade.cli.import_ import ImportOptions, run_import  # noqa: PLC0415

    wish = ImportOptions(
        format_name, tuple(sources or ()), output, tuple(rung or ()), tuple(column or ()), tuple(model or ()),
        filter_name, metric, confidence, estimate_usage, name, keep_incomplete, force,
    )  # fmt: skip
    run_import(wish, as_json=as_json)


app.add_typer(ledger_app, name="ledger")
app.add_typer(policy_app, name="policy")
app.add_typer(money_app)
