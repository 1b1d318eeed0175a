"""Calibrate: choose thresholds on one half of the data, certify them on the other, compare them with every single model.

    read → code levels → split by group → frontier of the tune half → an objective's point → figures of the certify half

With a scorer, thresholds on the models' own confidences stay a candidate; `candidates` picks on the tune half alone.

Only a `Target` is certified. For a quality or a budget, thresholds are chosen on the tune half, and their figures on the
certify half are reported without a test. `calibrate_counts` starts from tables of counts, which replace the first three
steps.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cascade.calibration.candidates import Candidate, Comparison, Way, pick
from cascade.calibration.choice import Choice, SingleModel, choose, only_frontier
from cascade.calibration.gate import worth_of_gate
from cascade.calibration.halves import CountedHalf, HalfFigures, ItemHalf, JointHalf, SplitHalf
from cascade.calibration.proof.pareto_testing import (
    Target,
    hash_of_corpus,
)
from cascade.calibration.proof.preconditions import joint_manifest, refuse_in_sample_scorer, refuse_recheck
from cascade.calibration.proof.recheck import Recheck, recheck_corpus
from cascade.calibration.result import Calibration, CalibrationOptions
from cascade.calibration.sampling import (
    mapping_with_samples,
    refuse_by_task,
    refuse_together,
    refuse_unjudged,
    sampled_ways,
    with_thresholds,
)
from cascade.calibration.scored import ScorerTarget, scored_ways, targets_of
from cascade.calibration.scorer import FeatureCollector
from cascade.calibration.search.by_task import FEWEST, large_tasks
from cascade.calibration.search.frontier import Point
from cascade.calibration.search.levels import CodedCorpus, code_columns
from cascade.calibration.signal import counted_signals, signals
from cascade.calibration.tables.parquet import CountsTable, counted_as, read_counts, refuse_uncountable
from cascade.core.errors import ConfigurationError, CorpusError
from cascade.core.policy import Policy
from cascade.core.policy.ladder import NAME
from cascade.corpora.items import Item, LadderEntry, Manifest
from cascade.corpora.reading import open_corpus
from cascade.replay.arrays import np
from cascade.replay.building import read_columns
from cascade.replay.columns import PolicyMapping
from cascade.replay.early import unsaid_beginnings
from cascade.replay.mapping import mapping_for

if TYPE_CHECKING:
    from cascade.replay.arrays import Bools

__all__ = [
    "Calibration",
    "CalibrationOptions",
    "HalfFigures",
    "ScorerTarget",
    "SingleModel",
    "calibrate",
    "calibrate_counts",
    "recheck",
]


def calibrate(paths: Sequence[Path], options: CalibrationOptions) -> Calibration:
    """Read the corpora as one, and calibrate.

    Raises CorpusError, PolicyError and MissingExtra; ConfigurationError if a half of the split is empty, if no task is large
    enough for its own thresholds, or if a scorer does not suit the objective or has too little to learn from.
    """
    targets_of(options.scorer, options.objective)  # raises before anything is read
    if options.samples.auto:
        refuse_together(scorer=options.scorer is not None, per_task=options.per_task)
    with ExitStack() as stack:
        readers = [stack.enter_context(open_corpus(path, skip_bad=options.skip_bad)) for path in paths]
        manifest = joint_manifest(readers)
        mapping, sought = mapping_with_samples(
            options.samples,
            options.policy,
            manifest,
            [reader.source for reader in readers],
            early_stop=options.early_stop,
            reprice=options.reprice,
        )
        if options.scorer is not None:  # a score is compared with a threshold, so agreement alone cannot decide
            mapping = with_thresholds(mapping)
        if options.per_task:
            refuse_by_task(mapping)
        tunes: list[bool] = []
        collector = FeatureCollector(mapping) if options.scorer else None

        def each(items: Sequence[Item]) -> None:
            tunes.extend(options.split.part_of(item) == "tune" for item in items)
            if collector is not None:
                collector.add(items)

        source = readers[0].source if len(readers) == 1 else ", ".join(reader.source for reader in readers)
        refuse_in_sample_scorer(
            options.policy if options.objective is not None and not options.scorer else None,
            [reader.source for reader in readers],
        )
        columns, (view,) = read_columns(
            chain.from_iterable(readers),
            manifest,
            [mapping],
            source=source,
            on_bad_item=readers[0].skip,
            complete=options.skip_bad,
            on_items=each,
        )
        if not len(columns):
            raise CorpusError("has no items", where=source, hint="record some")
        is_tune = np.array(tunes, np.bool_)
        if options.objective is not None:
            refuse_unjudged(columns, view)
        ways: Iterable[Way]
        ways, not_judged = [Way("raw", view)], tuple[str, ...]()
        if collector is not None and options.scorer is not None:
            table, seed = collector.table(view), options.split.seed
            ways = scored_ways(options.scorer, options.objective, table, (columns, view), is_tune, seed)
        elif sought.same is not None:
            ways, not_judged = sampled_ways(
                columns, view, sought, is_tune if options.objective is not None else np.ones_like(is_tune)
            )
        made = [(code_columns(columns, way.view), way) for way in ways]
    own_tasks = _own_tasks(made[0][0], options)
    candidates = [_candidate(coded, way, is_tune, options) for coded, way in made]
    is_joint = sought.same is not None and len(made) > 1
    found = (_chosen_jointly if is_joint else _chosen)(candidates, options, made[0][1].mapping or mapping, own_tasks)
    (coded, way), chosen = made[found.place], candidates[found.place]
    return Calibration(
        tuple(reader.source for reader in readers),
        manifest,
        way.mapping or mapping,
        options,
        chosen.tune,
        chosen.held_out,
        found.choice,
        signals(coded),
        chosen.learned,
        found.compared,
        own_tasks,
        coded.tasks,
        skipped=sum(reader.skipped for reader in readers),
        problems=tuple(problem for reader in readers for problem in reader.problems),
        not_judged=not_judged,
        ways=tuple(one for _, one in made) if is_joint else (),
        joint_tune=found.joint,
        unsaid=unsaid_beginnings(columns, view),
        gate=worth_of_gate(columns, way.view, is_tune, options.objective, found.choice.chosen),
    )


class _Found(NamedTuple):
    """The choice, the place of the candidate that it is of, and how the candidates were compared."""

    choice: Choice
    place: int
    compared: Comparison | None = None
    joint: JointHalf | None = None


def _chosen(
    candidates: Sequence[Candidate], options: CalibrationOptions, mapping: PolicyMapping, own_tasks: frozenset[str]
) -> _Found:
    """Pick a candidate on the tune half, and choose its thresholds."""
    compared, place = None, 0
    if options.objective is not None and len(candidates) > 1:
        compared = pick(candidates, options.objective, own_tasks if options.per_task else None)
        place = compared.chosen
    chosen = candidates[place]
    return _Found(_choice(chosen.tune, chosen.held_out, options, mapping, own_tasks), place, compared)


def _chosen_jointly(
    candidates: Sequence[Candidate], options: CalibrationOptions, mapping: PolicyMapping, own_tasks: frozenset[str]
) -> _Found:
    """Choose on the union of the candidates' frontiers; the point names its candidate."""
    tunes, held_out = zip(*map(_items_of, candidates), strict=True)
    joint = JointHalf(tunes)
    choice = _choice(joint, JointHalf(held_out), options, mapping, own_tasks)
    return _Found(choice, choice.chosen.way if isinstance(choice.chosen, Point) else 0, None, joint)


def _items_of(candidate: Candidate) -> tuple[ItemHalf, ItemHalf]:
    assert isinstance(candidate.tune, ItemHalf)
    assert isinstance(candidate.held_out, ItemHalf)  # counts have no samples
    return candidate.tune, candidate.held_out


def _candidate(coded: CodedCorpus, way: Way, is_tune: Bools, options: CalibrationOptions) -> Candidate:
    if options.objective is None:
        whole = ItemHalf(coded)
        return Candidate(way.name, whole, whole, way.learned)
    return Candidate(way.name, ItemHalf(coded.rows(is_tune)), ItemHalf(coded.rows(~is_tune)), way.learned)


def calibrate_counts(paths: Sequence[Path], options: CalibrationOptions) -> Calibration:
    """Read tables of counts, add them up, and calibrate. `options.split` is ignored: the tables are already split.

    Raises as `calibrate`. Also raises CorpusError for a target if groups had several items, and ConfigurationError for
    options that counts do not support: thresholds by task, a scorer, the loss `disagreement`.
    """
    _check_counts_suffice(options)
    if len({hash_of_corpus([path]) for path in paths}) < len(paths):
        where = ", ".join(map(str, paths))
        raise CorpusError("the same table is given twice", where=where, hint="give each table once")
    table = read_counts(paths[0])
    for path in paths[1:]:
        table += read_counts(path)
    where = ", ".join(map(str, paths))
    if not table.whole.n:
        raise CorpusError("has no items", where=where, hint="count a corpus that has items")
    if isinstance(options.objective, Target) and table.grouped:
        problem = "a group may have several items, and counts do not keep the groups that a certificate needs"
        hint = "calibrate the corpora themselves, or choose with --min-quality, --budget or --frontier"
        raise CorpusError(problem, where=where, hint=hint)
    manifest = _manifest_of(table)
    refuse_uncountable(options.policy)
    mapping = mapping_for(options.policy, manifest, where)
    if mapping.rungs != table.rungs or table.counted_as not in (None, counted_as(mapping.plan.policy)):
        problem = f"was counted under another policy, for the ladder {' → '.join(table.rungs)}"
        raise CorpusError(problem, where=where, hint="give the same --policy as to `cascade tabulate`, or none")
    if options.objective is None:
        tune = held_out = CountedHalf(table.whole)
    else:
        tune, held_out = (CountedHalf(table.parts[part]) for part in ("tune", "certify"))
    choice = _choice(tune, held_out, options, mapping, frozenset())
    sources = tuple(map(str, paths))
    signal = counted_signals(table.whole)
    return Calibration(sources, manifest, mapping, options, tune, held_out, choice, signal, counted=True)


def _check_counts_suffice(options: CalibrationOptions) -> None:
    if isinstance(options.objective, Target) and options.objective.loss == "disagreement":
        raise ConfigurationError(
            "--loss disagreement: tables of counts do not name the baseline (give the corpora themselves)"
        )
    sampled = bool(options.samples.overrides) or options.samples.auto
    for name, asked in (
        ("--per-task", options.per_task), ("--scorer", options.scorer is not None), ("--samples", sampled),
        ("--early-stop", options.early_stop), ("--reprice", options.reprice),
    ):  # fmt: skip
        if asked:
            raise ConfigurationError(f"{name}: tables of counts do not hold single items (give the corpora themselves)")


def recheck(paths: Sequence[Path], policy: Policy, *, skip_bad: bool = False) -> tuple[Manifest, Recheck]:
    """Test a policy's certificate on fresh corpora, read as one. Raises as `calibrate` and `recheck_corpus`."""
    with ExitStack() as stack:
        readers = [stack.enter_context(open_corpus(path, skip_bad=skip_bad)) for path in paths]
        manifest = joint_manifest(readers)
        mapping = mapping_for(policy, manifest, readers[0].source)
        refuse_recheck(policy, manifest, mapping, [reader.source for reader in readers])
        columns, (view,) = read_columns(
            chain.from_iterable(readers),
            manifest,
            [mapping],
            source=readers[0].source,
            on_bad_item=readers[0].skip,
            complete=skip_bad,
        )
        return manifest, recheck_corpus(code_columns(columns, view), policy)


def _choice(
    tune: SplitHalf, held_out: SplitHalf, options: CalibrationOptions, mapping: PolicyMapping, own_tasks: frozenset[str]
) -> Choice:
    if options.objective is None:
        return only_frontier(held_out)
    return choose(tune, held_out, options.objective, mapping.plan.policy, own_tasks if options.per_task else None)


def _own_tasks(coded: CodedCorpus, options: CalibrationOptions) -> frozenset[str]:
    if not options.per_task:
        return frozenset()
    found = large_tasks(coded)
    if options.policy is not None:  # a corpus may name tasks with anything, a policy may not
        found = frozenset(name for name in found if re.fullmatch(NAME, name))
    if found:
        return found
    sizes = dict(zip(coded.tasks, np.bincount(coded.task, minlength=len(coded.tasks)).tolist(), strict=True))
    most = max(sizes, key=lambda task: sizes[task])
    raise ConfigurationError(
        f"--per-task: no task has the {FEWEST} items that thresholds of its own need (the largest, {most!r}, has"
        f" {sizes[most]}; leave --per-task out)"
    )


def _manifest_of(table: CountsTable) -> Manifest:
    ladder = tuple(LadderEntry(rung, model) for rung, model in zip(table.rungs, table.models, strict=True))
    right_at, name = table.parts["tune"].right_at, " + ".join(dict.fromkeys(table.corpora))
    return Manifest(name, ladder, table.grader, right_at=right_at, synthetic=table.synthetic)
