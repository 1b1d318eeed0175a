"""Replay a whole corpus: read once, decided by the vectorised rule or by the engine's own, and counted.

The result is a `Replay`; `fields_of` is its JSON. `warnings` and `notes` say what limits the figures.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from cascade.core.errors import ConfigurationError, CorpusError
from cascade.core.policy import Policy
from cascade.core.suggestions import did_you_mean, listed
from cascade.corpora.grading import judge_rung
from cascade.corpora.items import Item, Manifest
from cascade.corpora.reading import CorpusReader, open_corpus
from cascade.corpora.splits import Part, Split
from cascade.replay.arrays import Truths, np
from cascade.replay.columns import UNRECORDED, Columns, PolicyMapping, View, read_columns
from cascade.replay.comparison import Comparison, Difference, compare
from cascade.replay.exact import ExactRun
from cascade.replay.figures import Figures, Single
from cascade.replay.intervals import Interval, interval_of
from cascade.replay.mapping import (
    OWN_LADDER,
    Override,
    mapping_of,
    other_models,
    overridden_tasks,
    own_mapping,
    undefined_tasks,
)
from cascade.replay.outcomes import REASONS, STOPS, Outcomes, scores_of, singles_of, tally, total
from cascade.replay.vectorised import evaluate

__all__ = ["Replay", "Wish", "fields_of", "replay_corpus"]

_MOST_BESIDE = 10_000  # items bootstrapped for the single models: two intervals each would take longer than the replay

Progress = Callable[[int, int | None], object]
"""Told how many items were read so far, and how many the manifest says there are."""


@dataclass(frozen=True, slots=True)
class Wish:
    """How to replay. `policy` None: the corpus's own ladder. `overrides` are of its thresholds, not of `against`'s."""

    policy: Policy | None = None
    overrides: tuple[Override, ...] = ()
    part: Part = "all"
    split: Split = field(default_factory=Split)
    reprice: bool = False
    exact: bool = False
    against: Policy | None = None
    skip_bad: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Replay:
    """What a replay came to. `tasks` are the figures of each task, `intervals` the quality's; "" is of all of them.

    `beside`, for each single model: its quality's interval, and the paired difference of the cascade's quality to it.
    """

    manifest: Manifest
    wish: Wish
    lens: PolicyMapping
    figures: Figures
    tasks: dict[str, Figures]
    intervals: dict[str, Interval | None]
    beside: dict[str, tuple[Interval | None, Difference]]
    storms: dict[str, Any]
    comparison: Comparison | None
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    skipped: int
    problems: tuple[str, ...]


def replay_corpus(path: str | os.PathLike[str], wish: Wish, progress: Progress | None = None) -> Replay:
    """Replay the corpus at `path`. Raises CorpusError, PolicyError, ConfigurationError and MissingExtra."""
    with open_corpus(path, skip_bad=wish.skip_bad) as reader:
        try:
            lenses = _lenses(reader.manifest, wish)
        except CorpusError as problem:  # the lens does not know where the corpus is from
            raise CorpusError(problem.problem, where=reader.source, hint=problem.hint) from None
        runs = [ExactRun(lens, reader.source) for lens in lenses] if wish.exact else []

        def each(items: Sequence[Item]) -> None:
            for run in runs:
                run.take(items)

        items = wish.split.only(wish.part, _counted(reader, progress) if progress else reader)
        columns, views = read_columns(
            items,
            reader.manifest,
            lenses,
            source=reader.source,
            refuse=reader.skip,
            whole=wish.skip_bad,
            each=each if runs else None,
        )
        if not len(columns):
            which = "" if wish.part == "all" else f" in its {wish.part} part"
            raise CorpusError(f"has no items{which}", where=reader.source, hint="give another --split, or record items")
        outcomes = [run.outcomes() for run in runs] or [evaluate(columns, view) for view in views]
        return _replay(columns, list(zip(views, outcomes, strict=True)), wish, reader)


def _lenses(manifest: Manifest, wish: Wish) -> list[PolicyMapping]:
    if wish.policy is None:
        lenses = [own_mapping(manifest, wish.overrides, reprice=wish.reprice)]
    else:
        lenses = [mapping_of(wish.policy, manifest, wish.overrides, reprice=wish.reprice)]
    return [*lenses, mapping_of(wish.against, manifest, reprice=wish.reprice)] if wish.against else lenses


def _counted(items: Iterable[Item], progress: Progress) -> Iterator[Item]:
    said = getattr(getattr(items, "manifest", None), "items", None)
    for number, item in enumerate(items, 1):
        if not number % 1024:
            progress(number, said)
        yield item


def _replay(columns: Columns, runs: list[tuple[View, Outcomes]], wish: Wish, reader: CorpusReader) -> Replay:
    view, outcomes = runs[0]
    _refuse_unknown_tasks(view, wish, reader.source)
    scores = scores_of(columns, view, outcomes)
    tasks = tally(columns, view, outcomes, scores)
    intervals = {"": interval_of(scores, columns.group)}
    for code, task in enumerate(view.tasks if len(view.tasks) > 1 else ()):
        rows = np.flatnonzero(view.task == code)
        intervals[task] = interval_of(scores[rows], columns.group[rows])
    if len(view.tasks) == 1:
        intervals[view.tasks[0]] = intervals[""]
    figures = total(tasks, singles_of(columns, view))
    beside: dict[str, tuple[Interval | None, Difference]] = {}
    for name, single in figures.singles.items():
        alone = columns.rungs[single.recorded_as or name].score
        ci95 = interval_of(scores - alone, columns.group, _MOST_BESIDE)
        difference = Difference(figures.quality - single.quality, ci95)
        beside[name] = interval_of(alone, columns.group, _MOST_BESIDE), difference
    return Replay(
        columns.manifest,
        wish,
        view.lens,
        figures,
        tasks,
        intervals,
        beside,
        _storms(view, outcomes),
        compare(columns, runs[0], runs[1]) if len(runs) > 1 else None,
        tuple(_warnings(columns.manifest, view)),
        tuple(_notes(columns, view, outcomes, figures, wish)),
        reader.skipped,
        reader.problems,
    )


def _refuse_unknown_tasks(view: View, wish: Wish, source: str) -> None:
    known = {*view.tasks, *(task.name for task in (wish.policy.tasks if wish.policy else ()))}
    for task in overridden_tasks(wish.overrides, view.lens):
        if task not in known:
            meant = did_you_mean(task, known)
            raise ConfigurationError(
                f"--threshold {task}:…: {source} has no item of task {task!r} ({meant}it has {listed(sorted(known))})"
            )


def _storms(view: View, outcomes: Outcomes) -> dict[str, Any]:
    storms = outcomes.storms
    if storms.off is not None:
        return {"off": storms.off}
    sent_up = [reasons == REASONS.index("storm") for reasons in outcomes.reasons]
    kinds = [change.kind for _, change in storms.changes if change.what == "storm"]
    return {
        "tripped": kinds.count("tripped"),
        "released": kinds.count("released"),
        "limit_wrong": kinds.count("limit_wrong"),
        "escalated": int(np.count_nonzero(np.any(sent_up, axis=0))),
        "held": int(np.count_nonzero(outcomes.stopped == STOPS.index("storm"))),
        "cost_usd": _storm_cost(view, outcomes, sent_up) / 1e9,
        "unwatched": storms.unwatched,
        "changes": [
            {"item": item, "event": change.kind, "task": change.task, "rung": change.rung, "rate": change.rate,
             "limit": change.limit, "samples": change.samples}
            for item, change in storms.changes
        ],
    }  # fmt: skip


def _storm_cost(view: View, outcomes: Outcomes, sent_up: Sequence[Truths]) -> int:
    """Nano-USD of every step after one that only a storm sent up: without it none of them would have been taken."""
    cost, after = 0, np.zeros(len(outcomes.last), np.bool_)
    for index, up in enumerate(sent_up):
        after |= up
        if index + 1 < len(view.cost):
            cost += int(view.cost[index + 1][after & (outcomes.last > index)].sum())
    return cost


def _warnings(manifest: Manifest, view: View) -> Iterator[str]:
    if others := other_models(view.lens, manifest):
        yield f"these are other models' replies: {'; '.join(others)}"
    policy = view.lens.plan.policy
    if policy.name != OWN_LADDER and (differ := undefined_tasks(policy, view.tasks)) is not None:
        yield differ
    if (estimated := manifest.estimated) is not None:
        yield estimated


def _notes(columns: Columns, view: View, outcomes: Outcomes, figures: Figures, wish: Wish) -> Iterator[str]:
    if wish.against and wish.overrides:
        yield f"--threshold changes {view.lens.plan.policy.name} only, not {wish.against.name}"
    if "recorded" in (columns.manifest.extra or {}):
        below = ", ".join(view.lens.names[:-1])
        yield f"{below} alone: as asked by triage, whose prompt is part of the cost (record --baseline asks one plainly)"
    if (known := columns.manifest.right_by_definition) is not None:
        whose = "the" if judge_rung(columns.manifest.grader or "") is None else "the judge's"
        yield f"{known[0]} is right by definition on {known[1]} items: it was {whose} reference"
    if outcomes.storms.off == "no arrival times":
        yield "the storm guard is off here: the items have no arrival times (`at`)"
    elif outcomes.storms.unwatched:
        yield f"the storm guard leaves out {outcomes.storms.unwatched} items without an arrival time (`at`)"
    if any(failed is not None for failed in view.failed):
        silent = sum(int(np.count_nonzero(columns.rungs[rung].answer == UNRECORDED)) for rung in view.lens.rungs)
        if silent:
            yield f"{silent} replies were recorded without their text: they count as passing every check"
    unknown = [name for name in (*view.lens.names, *columns.rungs) if name not in figures.singles]
    unknown = [name for name in dict.fromkeys(unknown) if name in view.lens.names or name not in view.lens.rungs]
    if unknown:
        yield f"no figures for {', '.join(unknown)} alone: not every item has a graded, priced reply of it"
    if not wish.reprice and wish.policy is not None:
        yield "costs are the recorded ones; --reprice takes the policy's prices"


def fields_of(replay: Replay, seconds: float) -> dict[str, Any]:
    """A replay as `--json` prints it."""
    figures, manifest = replay.figures, replay.manifest
    singles = {rung: figures.singles.get(rung) for rung in dict.fromkeys((*figures.shipped, *figures.singles))}
    mix = figures.random_mix
    fields: dict[str, Any] = {
        "corpus": manifest.name,
        "policy": replay.lens.plan.policy.name,
        "thresholds": {rung.rung: rung.threshold for rung in replay.lens.plan.policy.ladder[:-1]},
        **_figures_fields(figures, replay.intervals[""]),
        "reasons": dict(figures.reasons),
        "storms": replay.storms,
        "baselines": {
            **{f"single:{rung}": _single_fields(figures, rung, single) for rung, single in singles.items()},
            "random_mix": {"quality": mix[0], "cost_usd": mix[1] / 1e9} if mix else None,
        },
        "beside": {f"single:{rung}": _beside_fields(*beside) for rung, beside in replay.beside.items()},
        "savings_vs_top": figures.savings_vs_top,
        "tasks": {task: _figures_fields(part, replay.intervals[task]) for task, part in replay.tasks.items()},
        "seconds": round(seconds, 3),
    }
    if manifest.synthetic:
        fields["synthetic"] = True
    if replay.wish.part != "all":
        split = replay.wish.split
        fields["split"] = {"part": replay.wish.part, "tune": split.tune, "seed": split.seed}
    if replay.comparison is not None:
        fields["against"] = _comparison_fields(replay.comparison)
    if replay.wish.skip_bad:
        fields["skipped"] = replay.skipped
        fields["problems"] = list(replay.problems)
    return fields | {"notes": [*replay.warnings, *replay.notes]}


def _figures_fields(figures: Figures, interval: Interval | None) -> dict[str, Any]:
    return {
        "items": figures.items,
        "quality": figures.quality,
        "quality_ci95": list(interval) if interval else None,
        "cost_usd": figures.cost_usd,
        "cost_per_request_usd": figures.cost_per_request_usd,
        "shipped": dict(figures.shipped),
        "escalation_rate": figures.escalation_rates,
        "false_confident_rate": figures.false_confident_rate,
        "abstained": figures.abstained,
    }


def _single_fields(figures: Figures, rung: str, single: Single | None) -> dict[str, float | None] | None:
    if single is None:
        return None
    count = figures.single_false_confident(rung)
    rate = None if count is None else count / figures.items
    return {"quality": single.quality, "cost_usd": single.cost / 1e9, "false_confident_rate": rate}


def _beside_fields(interval: Interval | None, difference: Difference) -> dict[str, Any]:
    return {
        "quality_ci95": list(interval) if interval else None,
        "cascade_less_it": {
            "quality": difference.value,
            "ci95": list(difference.ci95) if difference.ci95 else None,
        },
    }


def _comparison_fields(comparison: Comparison) -> dict[str, Any]:
    fields = {
        key: {"difference": value.value, "ci95": list(value.ci95) if value.ci95 else None}
        if isinstance(value, Difference)
        else list(value)
        for key in ("quality", "cost_per_request_usd", "false_confident_rate", "to_right", "to_wrong")
        for value in (getattr(comparison, key),)
    }
    return {"policy": comparison.against, **fields}
