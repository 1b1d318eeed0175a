"""Replay a whole corpus: read it once, decide each item (`vectorised` or `exact`), and count.

The result is a `Replay`; `replay.fields` gives its JSON. `warnings` and `notes` name the limits of the figures.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cascade.core.context import not_recorded
from cascade.core.errors import ConfigurationError, CorpusError
from cascade.core.handoff.passing import unrecorded
from cascade.core.policy import Policy
from cascade.core.policy.samples import Same
from cascade.core.text.suggestions import did_you_mean, listed
from cascade.corpora.grading import judge_rung
from cascade.corpora.items import Item, Manifest
from cascade.corpora.reading import CorpusReader, open_corpus
from cascade.corpora.splits import Part, Split
from cascade.replay.arrays import Bools, Codes, Ints, np
from cascade.replay.building import read_columns
from cascade.replay.cold import cold_notes
from cascade.replay.columns import UNRECORDED, Columns, MappedColumns, PolicyMapping
from cascade.replay.comparison import Comparison, Difference, compare
from cascade.replay.early import NO_EFFECT, EarlyStop, early_stop_of, has_effect, saved_at, unsaid_beginnings
from cascade.replay.exact import ExactRun
from cascade.replay.figures import Figures
from cascade.replay.intervals import GroupSums, Interval, interval_of_scores
from cascade.replay.mapping import (
    OWN_LADDER,
    Override,
    mapping_of,
    other_models,
    overridden_tasks,
    own_mapping,
    undefined_tasks,
)
from cascade.replay.outcomes import (
    REASONS,
    STOPS,
    Outcomes,
    cold_writes,
    review_cost_at,
    reviews_of,
    scores_of,
    singles_of,
    tally,
    total,
)
from cascade.replay.reviews import Reviews
from cascade.replay.rule import ALL
from cascade.replay.samples import SamplesOverride, recorded_cycles, samples_fields, samples_from
from cascade.replay.sums import on_grid, sums_by
from cascade.replay.vectorised import evaluate

__all__ = [
    "MOST_BESIDE",
    "Replay",
    "ReplayOptions",
    "notes_of",
    "refuse_unknown_tasks",
    "replay_corpus",
    "storms_of",
    "warnings_of",
]

MOST_BESIDE = 10_000
"""Items; above this no bootstrap for single models: two intervals each would take longer than the replay."""

Progress = Callable[[int, int | None], object]
"""Called with the number of items read so far, and the number in the manifest (None: not given)."""


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """How to replay. `policy` None: the corpus's own ladder. `overrides`, `samples` and `early_stop` change it, not `against`.

    `same`: how the samples' answers are compared; None: as the policy says, else normalized.
    """

    policy: Policy | None = None
    overrides: tuple[Override, ...] = ()
    part: Part = "all"
    split: Split = field(default_factory=Split)
    reprice: bool = False
    exact: bool = False
    against: Policy | None = None
    skip_bad: bool = False
    samples: tuple[SamplesOverride, ...] = ()
    same: Same | None = None
    early_stop: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Replay:
    """The result of a replay. `tasks`: figures by task. `intervals`: of the quality, by task; "" is the whole corpus.

    `beside`: for each single model the interval of its quality, and the cascade's quality minus its own, paired.
    `samples`: of each rung that is asked more than once, how, and what came of it. `early_stop`: what it closed and saved; None
    without it. `reviews`: by rung what the review gate did; empty without one. `cold`: see `cold_writes`.
    """

    manifest: Manifest
    options: ReplayOptions
    mapping: PolicyMapping
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
    samples: dict[str, dict[str, Any]]
    early_stop: EarlyStop | None = None
    reviews: Mapping[str, Reviews] = field(default_factory=dict[str, Reviews])
    cold: int | None = None


def replay_corpus(path: str | os.PathLike[str], options: ReplayOptions, progress: Progress | None = None) -> Replay:
    """Replay the corpus at `path`. Raises CorpusError, PolicyError, ConfigurationError and MissingExtra."""
    with open_corpus(path, skip_bad=options.skip_bad) as reader:
        try:
            mappings = _mappings(reader, options)
        except CorpusError as problem:  # a mapping does not know the corpus's path
            raise CorpusError(problem.problem, where=reader.source, hint=problem.hint) from None
        runs = [ExactRun(mapping, reader.source) for mapping in mappings] if options.exact else []

        def on_items(items: Sequence[Item]) -> None:
            for run in runs:
                run.take(items)

        items = options.split.only(options.part, _with_progress(reader, progress) if progress else reader)
        columns, by_mapping = read_columns(
            items,
            reader.manifest,
            mappings,
            source=reader.source,
            on_bad_item=reader.skip,
            complete=options.skip_bad,
            on_items=on_items if runs else None,
        )
        if not len(columns):
            which = "" if options.part == "all" else f" in its {options.part} part"
            raise CorpusError(f"has no items{which}", where=reader.source, hint="give another --split, or record items")
        outcomes = [run.outcomes() for run in runs] or [evaluate(columns, mapped) for mapped in by_mapping]
        return _replay(columns, list(zip(by_mapping, outcomes, strict=True)), options, reader)


def _mappings(reader: CorpusReader, options: ReplayOptions) -> list[PolicyMapping]:
    manifest, policy, reprice = reader.manifest, options.policy, options.reprice
    cycles = recorded_cycles(reader.source) if options.samples else {}
    samples = samples_from(options.samples, policy, cycles, options.same)
    if policy is None:
        mappings = [
            own_mapping(manifest, options.overrides, reprice=reprice, samples=samples, early_stop=options.early_stop)
        ]
    else:
        mappings = [
            mapping_of(
                policy, manifest, options.overrides, reprice=reprice, samples=samples, early_stop=options.early_stop
            )
        ]
    return [*mappings, mapping_of(options.against, manifest, reprice=reprice)] if options.against else mappings


def _with_progress(reader: CorpusReader, progress: Progress) -> Iterator[Item]:
    for number, item in enumerate(reader, 1):
        if not number % 1024:
            progress(number, reader.manifest.items)
        yield item


def _replay(
    columns: Columns, runs: list[tuple[MappedColumns, Outcomes]], options: ReplayOptions, reader: CorpusReader
) -> Replay:
    mapped, outcomes = runs[0]
    refuse_unknown_tasks(mapped, options, reader.source)
    scores = scores_of(columns, mapped, outcomes)
    tasks = tally(columns, mapped, outcomes, scores)
    rows = [np.flatnonzero(mapped.task == code) for code in range(len(mapped.tasks))] if len(mapped.tasks) > 1 else []
    grid = on_grid(scores)
    sums = _sums_of(grid, columns.group)
    intervals = {"": interval_of_scores(sums)}
    for task, own in zip(mapped.tasks, rows or [ALL], strict=True):
        intervals[task] = (
            interval_of_scores(_sums_of((grid[0][own], grid[1][own]), columns.group[own])) if rows else intervals[""]
        )
    figures = total(tasks, singles_of(columns, mapped))
    silent = sum(int(np.count_nonzero(columns.rungs[rung].answer == UNRECORDED)) for rung in mapped.mapping.rungs)
    beside: dict[str, tuple[Interval | None, Difference]] = {}
    for name, single in figures.singles.items():
        alone = _sums_of(on_grid(columns.rungs[single.recorded_as or name].score), columns.group)
        ci95 = interval_of_scores(sums.less(alone), MOST_BESIDE)
        difference = Difference(figures.quality - single.quality, ci95)
        beside[name] = interval_of_scores(alone, MOST_BESIDE), difference
    return Replay(
        columns.manifest,
        options,
        mapped.mapping,
        figures,
        tasks,
        intervals,
        beside,
        storms_of(mapped, outcomes),
        compare(columns, runs[0], runs[1]) if len(runs) > 1 else None,
        tuple(warnings_of(columns, mapped)),
        tuple(notes_of(columns, mapped, outcomes, figures, options, silent)),
        reader.skipped,
        reader.problems,
        _samples(mapped, outcomes),
        early_stop_of(mapped, outcomes),
        reviews_of(mapped, outcomes),
        cold_writes(mapped, outcomes),
    )


def _sums_of(grid: tuple[Ints, Ints], group: Codes) -> GroupSums:
    counts, (high, low) = sums_by(group, *grid)
    return GroupSums(counts, high, low)


def _samples(mapped: MappedColumns, outcomes: Outcomes) -> dict[str, dict[str, Any]]:
    """By rung that is asked more than once: its samples, calls an item that reached it, and the share that agreed."""
    made: dict[str, dict[str, Any]] = {}
    for index, rung in enumerate(mapped.mapping.plan.policy.ladder):
        ballot = mapped.vote(index)
        if ballot is None:
            continue
        here = outcomes.last >= index
        here = here if ballot.rows is None else here & ballot.rows
        reached = int(np.count_nonzero(here))
        made[rung.rung] = {
            **(samples_fields(rung.samples, mapped.mapping.plan.policy) if rung.samples else {}),
            "by_agreement": mapped.mapping.plan.policy.route("").by_agreement[index],
            "items": reached,
            "calls_per_item": float(ballot.asked[here].mean()) if reached else 0.0,
            "agreed_rate": float((ballot.reason[here] == 0).mean()) if reached else 0.0,
        }
    return made


def refuse_unknown_tasks(mapped: MappedColumns, options: ReplayOptions, source: str) -> None:
    """Raises ConfigurationError for a threshold of a task that neither the corpus nor the policy has."""
    known = {*mapped.tasks, *(task.name for task in (options.policy.tasks if options.policy else ()))}
    for task in overridden_tasks(options.overrides, mapped.mapping):
        if task not in known:
            meant = did_you_mean(task, known)
            raise ConfigurationError(
                f"--threshold {task}:…: {source} has no item of task {task!r} ({meant}it has {listed(sorted(known))})"
            )


def storms_of(mapped: MappedColumns, outcomes: Outcomes) -> dict[str, Any]:
    """What the storm guard did, as `Replay.storms`."""
    storms = outcomes.storms
    if storms.off is not None:
        return {"off": storms.off}
    escalated = [reasons == REASONS.index("storm") for reasons in outcomes.reasons]
    kinds = [change.kind for _, change in storms.changes if change.what == "storm"]
    return {
        "tripped": kinds.count("tripped"),
        "released": kinds.count("released"),
        "limit_wrong": kinds.count("limit_wrong"),
        "escalated": int(np.count_nonzero(np.any(escalated, axis=0))),
        "held": int(np.count_nonzero(outcomes.stopped == STOPS.index("storm"))),
        "cost_usd": _storm_cost(mapped, outcomes, escalated) / 1e9,
        "unwatched": storms.unwatched,
        "changes": [
            {"item": item, "event": change.kind, "task": change.task, "rung": change.rung, "rate": change.rate,
             "limit": change.limit, "samples": change.samples}
            for item, change in storms.changes
        ],
    }  # fmt: skip


def _storm_cost(mapped: MappedColumns, outcomes: Outcomes, escalated: Sequence[Bools]) -> int:
    """Nano-USD of the steps that follow an escalation by the storm guard: without it there would be none of them."""
    cost, after = 0, np.zeros(len(outcomes.last), np.bool_)
    for index, rows in enumerate(escalated):
        after |= rows
        if index + 1 < len(mapped.cost):
            asked = after & (outcomes.last > index)
            cost += int(mapped.cost[index + 1][asked].sum()) - saved_at(mapped, outcomes, index + 1, asked)
            cost += review_cost_at(mapped, outcomes, index + 1, asked)
    return cost


def warnings_of(columns: Columns, mapped: MappedColumns) -> Iterator[str]:
    """The warnings."""
    manifest = columns.manifest
    if others := other_models(mapped.mapping, manifest):
        yield f"these are other models' replies: {'; '.join(others)}"
    policy = mapped.mapping.plan.policy
    if policy.name != OWN_LADDER and (differ := undefined_tasks(policy, mapped.tasks)) is not None:
        yield differ
    if (estimated := manifest.estimated) is not None:
        yield estimated
    if policy.early_stop and not has_effect(mapped.mapping.plan, mapped.tasks):
        yield NO_EFFECT
    if (unsaid := unsaid_beginnings(columns, mapped)) is not None:
        yield unsaid


def notes_of(
    columns: Columns, mapped: MappedColumns, outcomes: Outcomes, figures: Figures, options: ReplayOptions, silent: int
) -> Iterator[str]:
    """The notes. `silent`: how many replies of the policy's rungs were recorded without their text."""
    given = {"--threshold": options.overrides, "--early-stop": options.early_stop}
    if options.against and (flags := [flag for flag, value in given.items() if value]):
        verb = "changes" if len(flags) == 1 else "change"
        yield f"{' and '.join(flags)} {verb} {mapped.mapping.plan.policy.name} only, not {options.against.name}"
    yield from not_recorded(mapped.mapping.plan.policy)
    if "recorded" in (columns.manifest.extra or {}):
        below = ", ".join(mapped.mapping.names[:-1])
        yield f"{below} alone: as asked by triage, whose prompt is part of the cost (record --baseline asks one plainly)"
    if (known := columns.manifest.right_by_definition) is not None:
        whose = "the" if judge_rung(columns.manifest.grader or "") is None else "the judge's"
        yield f"{known[0]} is right by definition on {known[1]} items: it was {whose} reference"
    if outcomes.storms.off == "no arrival times":
        yield "the storm guard is off here: the items have no arrival times (`at`)"
    elif outcomes.storms.unwatched:
        yield f"the storm guard leaves out {outcomes.storms.unwatched} items without an arrival time (`at`)"
    if silent and any(failed is not None for failed in mapped.failed):
        yield f"{silent} replies were recorded without their text: they count as passing every check"
    unknown = [name for name in (*mapped.mapping.names, *columns.rungs) if name not in figures.singles]
    unknown = [
        name for name in dict.fromkeys(unknown) if name in mapped.mapping.names or name not in mapped.mapping.rungs
    ]
    if unknown:
        yield f"no figures for {', '.join(unknown)} alone: not every item has a graded, priced reply of it"
    yield from (*unrecorded(mapped.mapping.plan.policy), *cold_notes(mapped.mapping))
    if not options.reprice and options.policy is not None:
        yield "costs are the recorded ones; --reprice takes the policy's prices"
