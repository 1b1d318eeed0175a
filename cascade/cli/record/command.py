"""`cascade record`: make a corpus by asking every rung."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from cascade.cli.output import pairs, print_json, stderr, stdout, usd
from cascade.cli.reading import reading_behind
from cascade.cli.record.running import progress_bar, record_spread, say_what_follows
from cascade.cli.stopping import stop_on_signals
from cascade.core.errors import ConfigurationError
from cascade.core.policy import Policy
from cascade.engine import default_policy
from cascade.policy.binding import bind_policy
from cascade.policy.loading import load_policy
from cascade.recording.from_ledger import read_observations
from cascade.recording.inputs import Inputs, read_inputs
from cascade.recording.journal import journal_path, part_journals
from cascade.recording.opening import is_complete
from cascade.recording.progress import Report, Settings, StopKind
from cascade.recording.recorder import Recorder
from cascade.recording.samples import SampleOptions, parse_counts, with_samples
from cascade.replay.reviews import has_reviews

__all__ = ["RecordOptions", "run_record"]

_SHOWN = 5  # ids in a line for people; --json has them all
_UPSTREAM = 4
_STOPPED: dict[StopKind, int] = {"cap": 5, "interrupted": 130}


@dataclass(frozen=True, slots=True)
class RecordOptions:
    """The command's arguments."""

    inputs: Path | None
    target: Path
    policy: str | None
    rungs: str | None
    baseline: str | None
    grader: str | None
    max_usd: float | None
    concurrency: int
    name: str | None
    baseline_twice: int
    from_ledger: str | None = None
    maps: tuple[str, ...] = ()
    samples: tuple[str, ...] = ()
    variants: str | None = None
    same: str | None = None
    batch: bool = False
    poll_s: float = 30.0
    workers: int = 1
    scheduler: str | None = None

    @property
    def is_spread(self) -> bool:
        """Whether several processes record, or those of a cluster."""
        return self.workers > 1 or self.scheduler is not None


def run_record(options: RecordOptions, *, as_json: bool) -> int:
    """Record, and print the result. Exit code if items are missing: 5 for the cap, 130 for Ctrl-C, else 4."""
    if options.max_usd is not None and not 0 <= options.max_usd < float("inf"):
        raise ConfigurationError(
            f"--max-usd: {options.max_usd} must be an amount in USD, 0 or more (as in --max-usd 2.50)"
        )
    refuse_spreading(options)
    policy = with_samples(load_policy(options.policy or default_policy()), _sample_options(options))
    inputs, known = _inputs(options, policy)
    settings = Settings(
        policy=policy,
        target=options.target,
        rungs=_names(options.rungs),
        baseline=policy.baseline if options.from_ledger is not None else options.baseline,
        grader=options.grader,
        cap=None if options.max_usd is None else int(Decimal(str(options.max_usd)) * 1_000_000_000),
        concurrency=options.concurrency,
        name=options.name,
        baseline_twice=options.baseline_twice,
        asks_samples=options.from_ledger is None,
        batch=options.batch,
        poll_s=options.poll_s,
    )
    if is_complete(settings, inputs):
        count = len(inputs.items)
        if as_json:
            print_json({"corpus": str(settings.target), "items": count, "complete": count, "final": True, "calls": 0})
        else:
            stdout.print(f"{settings.target!s} holds this recording, complete: no call was made")
        return 0
    try:
        if options.is_spread:
            report = asyncio.run(record_spread(settings, inputs, options.workers, options.scheduler))
        else:
            report = asyncio.run(_recorded(settings, inputs, known))
    except asyncio.CancelledError:
        lost = "calls in flight are made again, and count toward --max-usd at the most that they may have cost"
        if settings.batch:
            lost = "it collects the batches that are under way"
        stderr.print(f"cascade: stopped at once; {_go_on(settings)}; {lost}")
        return _STOPPED["interrupted"]
    if as_json:
        print_json(_fields(report, settings.target))
    else:
        _print(report, settings)
    if report.is_final:
        return 0
    return _STOPPED.get(report.stop.kind, _UPSTREAM) if report.stop is not None else _UPSTREAM


def refuse_spreading(options: RecordOptions) -> None:
    """Raise ConfigurationError for what workers have no part in."""
    for name, is_given in (("--batch", options.batch), ("--from-ledger", options.from_ledger is not None)):
        if options.is_spread and is_given:
            why = "one process sends its batches" if options.batch else "its replies are recorded already"
            raise ConfigurationError(f"{name}: {why}; leave out --workers and --scheduler")


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(filter(None, (name.strip() for name in (text or "").split(","))))


def _sample_options(options: RecordOptions) -> SampleOptions:
    if options.same not in (None, "judge"):
        raise ConfigurationError(
            f"--same {options.same}: only judge is recorded; other ways to compare answers are computed from the recorded"
            " answers (set samples.same in the policy)"
        )
    found = SampleOptions(parse_counts(options.samples), _names(options.variants), options.same == "judge")
    rungs = _names(options.rungs)
    for rung in filter(None, found.counts if rungs else ()):
        if rung not in rungs:
            raise ConfigurationError(
                f"--samples {rung}={found.counts[rung]}: --rungs leaves this rung out (name it there too)"
            )
    if options.from_ledger is not None and found != SampleOptions():
        raise ConfigurationError("--from-ledger: the samples are those that were recorded in the ledger")
    return found


def _inputs(options: RecordOptions, policy: Policy) -> tuple[Inputs, tuple[dict[str, Any], ...]]:
    """The inputs to record, and the replies that the ledger already holds."""
    if options.from_ledger is None:
        if options.inputs is None:
            raise ConfigurationError("record: give INPUTS, or --from-ledger for what `mode: observe` recorded")
        inputs = read_inputs(options.inputs, maps=pairs(options.maps, "--map"))
        if inputs.unused:
            stderr.print(f"cascade: unused columns: {', '.join(inputs.unused)} (--map FIELD=COLUMN uses one)")
        return inputs, ()
    if options.batch:
        raise ConfigurationError(
            "--from-ledger: the replies are those that were recorded, so --batch has nothing to ask"
        )
    if options.inputs is not None or options.maps or options.rungs or options.baseline or options.baseline_twice:
        raise ConfigurationError(
            "--from-ledger: the inputs, rungs and baseline are those that were recorded in the ledger"
        )
    with reading_behind(options.from_ledger or None) as reader:
        found = read_observations(reader, policy)
    if has_reviews(bind_policy(policy)):
        stderr.print(
            "cascade: the ledger holds no reviews of observed answers: a replay of the review gate needs them"
            " (`cascade record INPUTS` asks for them)"
        )
    if found.left_out:
        why = "; ".join(f"{reason} ({count})" for reason, count in found.left_out.items())
        stderr.print(f"cascade: {sum(found.left_out.values())} observed requests were left out: {why}")
    return found.inputs, found.entries


async def _recorded(settings: Settings, inputs: Inputs, known: tuple[dict[str, Any], ...]) -> Report:
    bar, show_progress = progress_bar(len(inputs.items))
    recorder = Recorder.open(settings, inputs, on_progress=show_progress, known=known)
    say_what_follows(recorder, inputs, is_known=bool(known))

    def what_follows(name: str) -> str:
        out = recorder.in_flight
        if settings.batch:  # they go on at the endpoint, and are not waited for
            under_way = f"{_calls(out)} go on in batches, and the same command collects them"
            return f"nothing further is sent; {under_way if out else 'writing the corpus'}"
        waits = f"waiting for {_calls(out)}, at most {settings.policy.deadline_s:g} s" if out else "writing the corpus"
        return f"no further call is made; {waits}. {name} again stops at once, and loses their replies"

    stop_on_signals(recorder, what_follows)
    with bar:
        return await recorder.run()


def _calls(count: int) -> str:
    return "1 paid call in flight" if count == 1 else f"{count} paid calls in flight"


def _fields(report: Report, target: Path) -> dict[str, Any]:
    judge = report.judge
    return {
        "corpus": str(target),
        "items": report.items,
        "complete": report.complete,
        "final": report.is_final,
        "graded_anew": report.regraded,
        "calls": report.calls,
        "replies_reused": report.reused,
        "spent_usd": report.spent / 1e9,
        "unanswered": {"calls": report.unanswered, "at_most_usd": report.unanswered_cost / 1e9, "basis": "estimate"},
        "grader": report.grader,
        "failed": {"count": len(report.failed), "items": dict(report.failed)},
        "ungraded": {
            "count": len(report.ungraded),
            "answers": [{"item": item, "rung": rung, "reason": reason} for item, rung, reason in report.ungraded],
        },
        "judge": judge
        and {
            "rung": judge.rung,
            "model": judge.model,
            "spent_usd": judge.cost / 1e9,
            "judged": judge.judged,
            "right_by_definition": judge.by_definition,
            "controls": judge.controls,
            "too_low": judge.too_low,
            "too_high": judge.too_high,
            "error": judge.error,
            "mean_deviation": judge.deviation,
            "controls_unasked": judge.unasked,
        },
        "right_by_definition": report.by_definition,
        "samples": dict(report.samples),
        "same_judge": report.same
        and {
            **report.same.fields(),
            "spent_usd": report.same.cost / 1e9,
            "groupings": report.same.groupings,
            "controls_unasked": report.same.unasked,
        },
        "checks": {
            name: {"passed": one.passed, "failed": one.failed, "unknown": one.unknown}
            for name, one in report.checks.items()
        },
        "reviews": report.reviews
        and {
            "accepted": report.reviews.accepted,
            "rejected": report.reviews.rejected,
            "unusable": report.reviews.unusable,
            "spent_usd": report.reviews.cost / 1e9,
        },
        "noise_floor": report.noise and {**report.noise.fields(), "rate": report.noise.rate},
        "stopped": report.stop and {"kind": report.stop.kind, "message": report.stop.message},
        "cap_overshoot_at_most_usd": report.overshoot / 1e9,
        "seconds": round(report.seconds, 3),
    }


def _print(report: Report, settings: Settings) -> None:
    stdout.print(
        f"{_status(report, settings.target)}; {report.calls} calls in this run,"
        f" {report.reused} replies taken from {'the corpus' if report.regraded else 'the journal'};"
        f" {usd(report.spent)} USD in all{'; not graded' if report.grader is None and report.complete else ''}"
    )
    if report.unanswered:
        stdout.print(
            f"{report.unanswered} calls were in flight when a run or a worker was killed, and may have been paid: they count"
            f" toward the cap at an upper bound of their cost, {usd(report.unanswered_cost)} USD"
            " (estimate: one token per byte, and all of max_tokens used)"
        )
    if report.grader is not None and report.ungraded:
        reasons = Counter(reason for _, _, reason in report.ungraded)
        why = "; ".join(f"{reason} ({count})" for reason, count in reasons.most_common(_SHOWN))
        ids = list(dict.fromkeys(item for item, _, _ in report.ungraded))
        stdout.print(
            f"{report.grader} could not grade {len(report.ungraded)} answers of {len(ids)} items, their scores are"
            f" null: {why}: {_listed(ids)}"
        )
    if judge := report.judge:
        text = f"judge {judge.rung} ({judge.model}): {judge.judged} judgements for {usd(judge.cost)} USD of it"
        if judge.error is None:
            text += "; its error rate is not known: there was no control item"
        else:
            text += (
                f"; on {judge.controls} control items it erred {judge.too_low + judge.too_high} times ({judge.error:.0%}:"
                f" {judge.too_low} too low, {judge.too_high} too high), mean deviation {judge.deviation:.3f}"
            )
        if judge.by_definition:
            text += f"; {judge.by_definition} answers of the baseline are right by definition"
        stdout.print(text)
    elif report.by_definition:
        stdout.print(
            "no expected answers: scores are agreement with the baseline's plain answers, of which"
            f" {report.by_definition} are right by definition"
        )
    if (noise := report.noise) is not None:
        stdout.print(
            f"noise floor: asked twice, the baseline disagrees with itself on {noise.disagreed} of {noise.items} items"
            f" ({noise.rate:.1%})"
        )
    _print_samples(report)
    if report.failed:
        why = "; ".join(f"{reason} ({count})" for reason, count in Counter(report.failed.values()).most_common(_SHOWN))
        stderr.print(f"cascade: {len(report.failed)} items failed: {why}: {_listed(list(report.failed))}")
    _print_stop(report, settings)


def _print_samples(report: Report) -> None:
    if report.samples:
        stdout.print("samples: " + ", ".join(f"{rung} {count}" for rung, count in report.samples.items()))
    if same := report.same:
        text = (
            f"answers grouped by meaning by {same.rung} ({same.model}): {same.groupings} groupings for {usd(same.cost)} USD"
            " of it"
        )
        if same.error is None or same.error_ci95 is None:
            text += "; its error rate is not known: there was no control item"
        else:
            low, high = same.error_ci95
            text += (
                f"; on {same.controls} pairs of known answers it erred {same.apart + same.together} times ({same.error:.0%},"
                f" 95 % interval {low:.0%} to {high:.0%}: {same.apart} the same put apart, {same.together} different put"
                " together)"
            )
        stdout.print(text)
    if (said := report.reviews) is not None:
        stdout.print(
            f"reviews: {said.accepted} answers accepted, {said.rejected} rejected, {said.unusable} could not be used;"
            f" {usd(said.cost)} USD of it"
        )
    for name, one in report.checks.items():
        stdout.print(
            f"check {name}: {one.passed} answers passed, {one.failed} failed, {one.unknown} it could not judge"
        )


def _status(report: Report, target: Path) -> str:
    if report.regraded and report.grader:
        text = f"{report.complete} of {report.items} items of {target!s} graded anew with {report.grader}"
        return text if report.complete == report.items else f"{text}, the file is unchanged"
    if not report.complete:
        return f"0 of {report.items} items recorded, {target!s} is not written yet"
    return f"{report.complete} of {report.items} items in {target!s}"


def _print_stop(report: Report, settings: Settings) -> None:
    if report.is_final:
        return
    go_on = _go_on(settings)
    if report.stop is None:
        what = f"{report.items - report.complete} items are missing"
        if report.complete == report.items:
            what = "the judge could not be asked for all control items"
        stderr.print(f"cascade: {what}; {go_on}")
    elif report.stop.kind == "cap":
        stderr.print(
            f"cascade: stopped at the cap of {usd(settings.cap or 0)} USD; one call may exceed it, here by at most"
            f" {usd(report.overshoot)} USD. Raise --max-usd, and {go_on}"
        )
    elif report.stop.kind == "interrupted":
        stderr.print(f"cascade: stopped by {report.stop.message}; {go_on}")
    else:
        stderr.print(f"cascade: stopped: {report.stop.message}; {go_on}")


def _go_on(settings: Settings) -> str:
    journal = journal_path(settings.target)
    if journal.exists() or part_journals(settings.target):
        return f"the same command continues from {journal!s}"
    return "the same command starts it"


def _listed(ids: list[str]) -> str:
    return ", ".join(ids[:_SHOWN]) + (f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else "")
