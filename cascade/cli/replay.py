"""`cascade replay`: what a policy, or the corpus's own ladder at 0.80, would have done on recorded requests."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast, get_args

from cascade.cli.counting_bar import CountingBar
from cascade.cli.engines import EngineOptions, Engines
from cascade.cli.output import print_json, stderr, stdout, table
from cascade.core.errors import ConfigurationError
from cascade.core.policy import Policy, Rung
from cascade.core.text.suggestions import did_you_mean
from cascade.corpora.sources import is_sharded
from cascade.corpora.splits import Part, Split
from cascade.policy.loading import load_policy
from cascade.policy.shipped import find_corpus
from cascade.replay.early import EarlyStop
from cascade.replay.fields import fields_of
from cascade.replay.figures import Figures, Single
from cascade.replay.intervals import Interval
from cascade.replay.mapping import OWN_LADDER, parse_override
from cascade.replay.requirements import parse_requirement, require
from cascade.replay.run import Replay, ReplayOptions
from cascade.replay.samples import parse_same, parse_samples, samples_text

__all__ = ["CommandOptions", "count_and_share", "describe_storms", "early_stop_text", "per_thousand", "run_replay"]

_MOST_FLIPPED = 20  # ids shown to a person; --json has them all


@dataclass(frozen=True, slots=True)
class CommandOptions:
    """The command line's arguments."""

    corpora: tuple[Path, ...]
    policy: str | None
    thresholds: tuple[str, ...]
    split: str
    tune: float
    split_seed: int
    reprice: bool
    exact_engine: bool
    against: str | None
    requirements: tuple[str, ...]
    skip_bad: bool
    samples: tuple[str, ...] = ()
    same: str | None = None
    early_stop: bool = False
    engine: EngineOptions = field(default_factory=EngineOptions)

    def parse(self) -> ReplayOptions:
        """The options that they mean. Raises ConfigurationError and PolicyError."""
        if self.split not in get_args(Part):
            meant = did_you_mean(self.split, get_args(Part))
            raise ConfigurationError(f"--split {self.split}: there is no such part ({meant}use tune, certify or all)")
        return ReplayOptions(
            policy=load_policy(self.policy) if self.policy else None,
            overrides=tuple(parse_override(text) for text in self.thresholds),
            part=cast("Part", self.split),
            split=Split(self.tune, self.split_seed),
            reprice=self.reprice,
            exact=self.exact_engine,
            against=load_policy(self.against) if self.against else None,
            skip_bad=self.skip_bad,
            samples=tuple(parse_samples(text) for text in self.samples),
            same=parse_same(self.same),
            early_stop=self.early_stop,
        )


def run_replay(command: CommandOptions, *, as_json: bool) -> None:
    """Replay each corpus, print the result, then check the requirements."""
    requirements = [parse_requirement(text) for text in command.requirements]
    options = command.parse()
    results: list[tuple[str, dict[str, Any]]] = []
    bar = CountingBar("replaying")
    with Engines(command.engine, tell=bar.tell) as engines:
        for path in (find_corpus(path) for path in command.corpora):
            started = time.monotonic()
            with bar.over(path):
                replay = engines.replay(path, options, bar.show)
            seconds = time.monotonic() - started
            engine = {"engine": engines.used} if engines.used is not None and is_sharded(path) else {}
            results.append((str(path), fields_of(replay, seconds) | engine))
            if not as_json:
                if len(results) > 1:
                    stdout.print()
                _print(replay)
                stderr.print(f"{replay.figures.items:,} items in {seconds:.1f} s", style="dim")
    if as_json:
        print_json([fields for _, fields in results] if len(results) > 1 else results[0][1])
    for path, fields in results:
        require(requirements, fields, path)
    for requirement in requirements if not as_json else ():
        stderr.print(f"met: {requirement.text}", style="dim")


def _print(replay: Replay) -> None:
    figures, manifest = replay.figures, replay.manifest
    policy = replay.mapping.plan.policy.name
    what = "its own ladder" if policy == OWN_LADDER else f"policy {policy}"
    what += f" at {_thresholds(replay)}"
    kind = "synthetic" if manifest.synthetic else "recorded"
    part = "" if replay.options.part == "all" else f", {replay.options.part} part"
    for warning in replay.warnings:
        stdout.print(f"warning: {warning}", style="bold")
    stdout.print(f"{_summary(replay)}", style="bold")
    stdout.print()
    rows = table(
        kind, "quality", "95 %", "USD", "USD per 1,000", "confidently wrong", "wrong",
        title=f"{manifest.name}: {figures.items:,} {kind} items{part}, {what}, {replay.mapping.plan.certificate}",
        right=("quality", "95 %", "USD", "USD per 1,000", "confidently wrong", "wrong"),
    )  # fmt: skip
    n = figures.items
    rows.add_row(
        "cascade", f"{figures.quality:.4f}", _interval(replay.intervals[""]),
        f"{figures.cost_usd:.4f}", per_thousand(figures.cost, n),
        count_and_share(figures.false_confident, n), count_and_share(figures.wrong, n),
    )  # fmt: skip
    for rung in figures.singles:
        rows.add_row(f"{rung} alone", *_single(figures, rung, replay.beside[rung][0]))
    if (mix := figures.random_mix) is not None:
        rows.add_row("random escalation", f"{mix[0]:.4f}", "", f"{mix[1] / 1e9:.4f}", per_thousand(mix[1], n), "", "")
    stdout.print(rows)
    _print_rest(replay)


def _print_rest(replay: Replay) -> None:
    figures = replay.figures
    shipped = ", ".join(f"{rung} {count:,}" for rung, count in figures.shipped.items())
    abstained = f", nobody {figures.abstained:,}" if figures.abstained else ""
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in figures.reasons.items())
    stdout.print(f"\nanswered by: {shipped}{abstained}\nclimbed because: {reasons or 'nothing climbed'}")
    for rung, sampled in replay.samples.items():
        stdout.print(
            f"samples of {rung}: {sampled['calls_per_item']:.2f} calls an item, agreed on {sampled['agreed_rate']:.1%}"
        )
    for rung, one in replay.reviews.items():
        stdout.print(
            f"reviews of {rung}: {one.asked:,} answers, {one.rejected:,} rejected, {one.unusable:,} could not be used;"
            f" {one.cost / 1e9:.4f} USD"
        )
    if replay.early_stop is not None:
        stdout.print(early_stop_text(replay.early_stop, figures.cost))
    if len(replay.tasks) > 1:
        stdout.print(_task_rows(replay))
    if "off" not in replay.storms:
        stdout.print(describe_storms(replay.storms))
    _print_comparison(replay)
    if replay.skipped:
        stdout.print(f"{replay.skipped:,} bad lines were skipped; the first: {replay.problems[0]}")
    for note in replay.notes:
        stdout.print(f"note: {note}", style="dim")


def early_stop_text(early_stop: EarlyStop, cost: int) -> str:
    """The cost with early stop (nano-USD) and without it, in one line."""
    without = cost + early_stop.saved
    closed = ", ".join(f"{rung} {count:,}" for rung, count in early_stop.closed.items())
    share = f", {early_stop.saved / without:.1%} saved" if without else ""
    return (
        f"early stop: {cost / 1e9:.4f} USD, without it {without / 1e9:.4f}{share}; closed at their confidence: {closed}"
    )


def _task_rows(replay: Replay) -> Any:
    rows = table(
        "task", "items", "quality", "95 %", "USD per 1,000", "confidently wrong", "climbed",
        right=("items", "quality", "95 %", "USD per 1,000", "confidently wrong", "climbed"),
    )  # fmt: skip
    for task, part in replay.tasks.items():
        first = next(iter(part.escalations.values()))
        rows.add_row(
            task, f"{part.items:,}", f"{part.quality:.4f}", _interval(replay.intervals[task]),
            per_thousand(part.cost, part.items), count_and_share(part.false_confident, part.items),
            f"{first / max(1, part.items):.1%}",
        )  # fmt: skip
    return rows


def describe_storms(storms: dict[str, Any]) -> str:
    """Describe what the storm guard did in a replay, in one line."""
    if "off" in storms:
        return f"storm guard: off ({storms['off']})"
    return (
        f"storm guard: tripped {storms['tripped']} times, released {storms['released']}; sent up"
        f" {storms['escalated']:,} and held {storms['held']:,} items, for {storms['cost_usd']:.6f} USD"
    )


def _print_comparison(replay: Replay) -> None:
    comparison = replay.comparison
    if comparison is None:
        return
    title = f"{replay.mapping.plan.policy.name} less {comparison.against}, on the same items"
    rows = table("difference", "value", "95 %", title=title, right=("value", "95 %"))
    quality, cost, lost = comparison.quality, comparison.cost_per_request_usd, comparison.false_confident_rate
    rows.add_row("quality", f"{quality.value:+.4f}", _interval(quality.ci95))
    thousandfold = (1e3 * cost.ci95[0], 1e3 * cost.ci95[1]) if cost.ci95 else None
    rows.add_row("USD per 1,000", f"{1e3 * cost.value:+.4f}", _interval(thousandfold))
    rows.add_row("confidently wrong", f"{lost.value:+.4f}", _interval(lost.ci95))
    stdout.print(rows)
    stdout.print(f"turned right: {_some(comparison.to_right)}\nturned wrong: {_some(comparison.to_wrong)}")


def _some(ids: Sequence[str]) -> str:
    shown = ", ".join(ids[:_MOST_FLIPPED])
    more = " … (all with --json)" if len(ids) > _MOST_FLIPPED else ""
    return f"{len(ids):,}{': ' if ids else ''}{shown}{more}"


def _thresholds(replay: Replay) -> str:
    ladder = replay.mapping.plan.policy.ladder[:-1]
    thresholds = ", ".join(_of_rung(rung, replay.mapping.plan.policy) for rung in ladder)
    varies = any(task.thresholds for task in replay.mapping.plan.policy.tasks)
    return f"{thresholds} (and others by task)" if varies else thresholds


def _of_rung(rung: Rung, policy: Policy) -> str:
    """What a rung ships: its samples and its threshold."""
    parts = [] if rung.samples is None else [samples_text(rung.samples, policy)]
    if rung.samples is None or "threshold" in rung.model_fields_set:
        parts.append("never" if rung.threshold is None else format(rung.threshold, "g"))
    return f"{rung.rung} {' at '.join(parts)}"


def _summary(replay: Replay) -> str:
    """Cost and quality against the top model, the cheapest as good, and the nearest in quality."""
    figures = replay.figures
    top = list(figures.shipped)[-1]
    rivals = dict.fromkeys(rung for rung in (top, figures.cheapest_as_good, figures.nearest) if rung in figures.singles)
    sentences = [_against(replay, rung) for rung in rivals if rung is not None]
    beaten = [rung for rung in figures.singles if _is_beaten(figures, figures.singles[rung])]
    if beaten:
        sentences.append(f"{' and '.join(beaten)} alone is no worse and no dearer: do not cascade here.")
    share = figures.false_confident_rate
    return " ".join([*sentences, f"Confidently wrong: {share:.1%} of all answers."])


def _is_beaten(figures: Figures, single: Single) -> bool:
    return single.quality >= figures.quality and single.cost <= figures.cost


def _against(replay: Replay, rung: str) -> str:
    figures, single, difference = replay.figures, replay.figures.singles[rung], replay.beside[rung][1]
    quality = (
        f"{abs(difference.value):.4f} {'lower' if difference.value < 0 else 'higher'} quality"
        if difference.value
        else "equal quality"
    )
    if difference.ci95 is not None:
        quality += f" ({difference.ci95[0]:+.4f} to {difference.ci95[1]:+.4f})"
    if not single.cost:
        return f"Against {rung} alone: {quality}."
    ratio = figures.cost / single.cost - 1
    return f"Against {rung} alone: {abs(ratio):.0%} {'cheaper' if ratio < 0 else 'dearer'}, {quality}."


def _single(figures: Figures, rung: str, interval: Interval | None) -> tuple[str, ...]:
    single, n = figures.singles[rung], figures.items
    below_top = figures.single_false_confident(rung)
    return (
        f"{single.quality:.4f}",
        _interval(interval),
        f"{single.cost / 1e9:.4f}",
        per_thousand(single.cost, n),
        "not a rung" if below_top is None else count_and_share(below_top, n),
        count_and_share(single.wrong, n),
    )


def _interval(interval: Interval | None) -> str:
    return f"{interval[0]:.4f}–{interval[1]:.4f}" if interval else "not known"


def per_thousand(cost: int, n: int) -> str:
    """The cost per 1,000 requests in USD, from nano-USD for `n`."""
    return f"{cost / 1e6 / max(1, n):.4f}"


def count_and_share(count: int, n: int) -> str:
    """Such as "12 (2.0%)"."""
    return f"{count:,} ({count / max(1, n):.1%})"
