"""Calibrate: choose thresholds on one half of the data, certify them on the other, compare them with every single model.

    read → code levels → split by group → frontier of the tune half → an objective's point → figures of the certify half

With a scorer, thresholds on the models' own confidences stay a candidate; `candidates` picks on the tune half alone.

Only a `Target` is certified. For a quality or a budget, thresholds are chosen on the tune half, and their figures on the
certify half are reported without a test. `calibrate_counts` starts from tables of counts, which replace the first three
steps.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import chain
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cascade.calibration.candidates import Candidate, Comparison, pick
from cascade.calibration.choice import Choice, SingleModel, choose, only_frontier
from cascade.calibration.halves import CountedHalf, HalfFigures, ItemHalf, SplitHalf
from cascade.calibration.objectives import Objective
from cascade.calibration.proof.pareto_testing import (
    Certificate,
    Certified,
    NotCertified,
    Target,
    escalation_of,
    hash_of_corpus,
)
from cascade.calibration.proof.preconditions import joint_manifest, refuse_in_sample_scorer, refuse_recheck
from cascade.calibration.proof.recheck import Recheck, recheck_corpus
from cascade.calibration.scored import ScorerTarget, scored_views, targets_of
from cascade.calibration.scorer import FeatureCollector, LearnedScorer
from cascade.calibration.search.by_task import FEWEST, ByTask, large_tasks
from cascade.calibration.search.levels import CodedCorpus, code_columns
from cascade.calibration.signal import Signal, counted_signals, signals
from cascade.calibration.tables.parquet import CountsTable, counted_as, read_counts
from cascade.core.errors import ConfigurationError, CorpusError
from cascade.core.policy import Policy
from cascade.core.policy.certificate import Escalation
from cascade.core.policy.ladder import NAME
from cascade.corpora.items import Item, LadderEntry, Manifest
from cascade.corpora.reading import open_corpus
from cascade.corpora.splits import Split
from cascade.policy.certificates import hash_of, hashes_of
from cascade.policy.pricing import NoPrice
from cascade.replay.arrays import np
from cascade.replay.building import read_columns
from cascade.replay.columns import MappedColumns, PolicyMapping
from cascade.replay.mapping import Override, mapping_for, mapping_of, other_models, own_mapping

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


@dataclass(frozen=True, slots=True)
class CalibrationOptions:
    """How to calibrate.

    objective  None: compute the frontier of all items and choose nothing
    policy     None: the ladder recorded in the corpus
    per_task   give each task with at least `by_task.FEWEST` items its own thresholds
    scorer     first learn a confidence on the tune half; thresholds are then tuned on its out-of-fold scores, unless those
               on the models' own confidences do better there. `gain` is not for a bound on confident mistakes
    skip_bad   leave out items that cannot be used, and count them, instead of raising
    """

    objective: Objective | None
    policy: Policy | None = None
    split: Split = field(default_factory=Split)
    per_task: bool = False
    scorer: ScorerTarget | None = None
    skip_bad: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """The result of a calibration: what was read, the two halves, and the `choice`.

    tune, held_out  the tune half and the certify half; the same object if there was no objective
    signal          how good each rung's confidence is, on all items; for a learned one, the tune half's scores are out of fold
    learned         the scorer that was chosen; None: the models' own confidences
    compared        how the candidates did on the tune half; None if there was one
    own_tasks       the tasks with their own thresholds
    tasks           all tasks of the items; empty for tables of counts
    counted         whether it comes from tables of counts
    skipped         how many items were left out, with the reasons of the first ones in `problems`
    """

    sources: tuple[str, ...]
    manifest: Manifest
    mapping: PolicyMapping
    options: CalibrationOptions
    tune: SplitHalf
    held_out: SplitHalf
    choice: Choice
    signal: dict[str, Signal]
    learned: LearnedScorer | None = None
    compared: Comparison | None = None
    own_tasks: frozenset[str] = frozenset()
    tasks: tuple[str, ...] = ()
    counted: bool = False
    skipped: int = 0
    problems: tuple[str, ...] = ()

    @property
    def items(self) -> int:
        """How many items were read, both halves together."""
        return len(self.held_out) if self.tune is self.held_out else len(self.tune) + len(self.held_out)

    @property
    def feasible(self) -> bool:
        """Whether thresholds were found that meet the objective."""
        return self.choice.chosen is not None

    @property
    def thresholds(self) -> dict[str, float | None]:
        """By rung below the top; empty if nothing was chosen."""
        chosen, rungs = self.choice.chosen, self.held_out.rungs[:-1]
        if chosen is None:
            return {}
        shared = chosen.shared if isinstance(chosen, ByTask) else chosen
        # Every item belonged to a large task. Nothing is known of other tasks, so they ship at the top rung only.
        values = shared.thresholds if shared is not None else (None,) * len(rungs)
        return dict(zip(rungs, values, strict=True))

    @property
    def task_thresholds(self) -> dict[str, dict[str, float | None]]:
        """By task, then rung. Tasks of the policy that have no thresholds of their own get the ladder's."""
        chosen, ladder = self.choice.chosen, self.thresholds
        tasks = self.mapping.plan.policy.tasks if ladder else ()
        made = {task.name: {rung: ladder[rung] for rung in task.thresholds} for task in tasks if task.thresholds}
        if isinstance(chosen, ByTask):
            made |= {task: dict(zip(ladder, own.thresholds, strict=True)) for task, own in chosen.tasks.items()}
        return made

    @property
    def others(self) -> tuple[str, ...]:
        """Descriptions of the rungs for which another model was recorded than the policy asks."""
        return tuple(other_models(self.mapping, self.manifest))

    @property
    def further_units(self) -> int | None:
        """How many more graded units are needed, both halves together; None if none are needed or no number is enough."""
        proof, needed = self.choice.proof, self.choice.further_units_needed
        if isinstance(proof, NotCertified) and needed is None:
            needed = proof.further_units_needed
        if needed is None:
            return None
        return ceil(needed * (self.tune.units + self.held_out.units) / max(1, self.held_out.units))

    @property
    def policy(self) -> Policy:
        """The policy with the chosen thresholds in it, not yet with a certificate."""
        overrides = [Override(rung, value) for rung, value in self.thresholds.items()]
        for task, own in self.task_thresholds.items():
            overrides += [Override(f"{task}:{rung}", value) for rung, value in own.items()]
        if self.options.policy is None:
            return own_mapping(self.manifest, overrides).plan.policy
        changes: dict[str, Any] = {"certificate": None}
        if self.options.scorer is not None:
            changes["scorer"] = None if self.learned is None else dict(self.learned.scorer)
        return mapping_of(self.options.policy.model_copy(update=changes), self.manifest, overrides).plan.policy

    def policy_with(self, certificate: Certificate | None) -> Policy:
        """The policy with the chosen thresholds and a certificate, as `--write` writes it.

        Only if a policy was given: a corpus's own ladder is not a complete policy.
        """
        values = self.policy.model_dump(by_alias=True, exclude_unset=True)
        return Policy.model_validate(values | ({"certificate": certificate.model_dump()} if certificate else {}))

    def certificate(self) -> Certificate | None:
        """The certificate with its hashes. Reads the corpora again to hash them.

        None if nothing was certified, or if the corpus holds other models' replies than the policy asks: a certificate
        does not carry over to other models.
        """
        proof, held_out = self.choice.proof, self.held_out
        if not isinstance(proof, Certified) or self.choice.certify is None or self.others:
            return None
        if isinstance(held_out, ItemHalf):
            escalation = escalation_of(held_out.coded, held_out.at(proof.point))
        else:
            escalation = _escalation(self.choice.certify, self.thresholds)
        return proof.certificate(
            {"corpus": hash_of_corpus(self.sources), **self._hashes()},
            right_at=held_out.right_at,
            escalation=escalation,
            grader=self.manifest.grader,
            grader_error=self.manifest.judge_error and self.manifest.judge_error[0],
        )

    def _hashes(self) -> dict[str, str]:
        try:
            return hashes_of(self.policy)
        except NoPrice:  # the corpus's own ladder, with models that have no list price: recorded costs were used
            ladder = {"ladder": self.held_out.rungs, "models": [entry.name for entry in self.manifest.ladder]}
            thresholds = [list(self.thresholds.values()), self.task_thresholds]
            rest = {"prompts": "as recorded", "prices": "as recorded", "thresholds": thresholds}
            return {part: hash_of(json.dumps(value).encode()) for part, value in {**ladder, **rest}.items()}


def calibrate(paths: Sequence[Path], options: CalibrationOptions) -> Calibration:
    """Read the corpora as one, and calibrate.

    Raises CorpusError, PolicyError and MissingExtra; ConfigurationError if a half of the split is empty, if no task is large
    enough for its own thresholds, or if a scorer does not suit the objective or has too little to learn from.
    """
    targets_of(options.scorer, options.objective)  # raises before anything is read
    with ExitStack() as stack:
        readers = [stack.enter_context(open_corpus(path, skip_bad=options.skip_bad)) for path in paths]
        manifest = joint_manifest(readers)
        mapping = mapping_for(options.policy, manifest, readers[0].source)
        tunes: list[bool] = []
        collector = FeatureCollector(mapping) if options.scorer else None

        def each(items: Sequence[Item]) -> None:
            tunes.extend(options.split.part_of(item) == "tune" for item in items)
            if collector is not None:
                collector.add(items)

        source = ", ".join(reader.source for reader in readers)
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
        views: Iterable[tuple[MappedColumns, LearnedScorer | None]] = [(view, None)]
        if collector is not None and options.scorer is not None:
            table, seed = collector.table(view), options.split.seed
            views = scored_views(options.scorer, options.objective, table, (columns, view), is_tune, seed)
        made = [(code_columns(columns, one), learned) for one, learned in views]
    own_tasks = _own_tasks(made[0][0], options)
    candidates = [_candidate(coded, learned, is_tune, options) for coded, learned in made]
    compared, place = None, 0
    if options.objective is not None and len(candidates) > 1:
        compared = pick(candidates, options.objective, own_tasks if options.per_task else None)
        place = compared.chosen
    coded, chosen = made[place][0], candidates[place]
    return Calibration(
        tuple(reader.source for reader in readers),
        manifest,
        mapping,
        options,
        chosen.tune,
        chosen.held_out,
        _choice(chosen.tune, chosen.held_out, options, mapping, own_tasks),
        signals(coded),
        chosen.learned,
        compared,
        own_tasks,
        coded.tasks,
        skipped=sum(reader.skipped for reader in readers),
        problems=tuple(problem for reader in readers for problem in reader.problems),
    )


def _candidate(
    coded: CodedCorpus, learned: LearnedScorer | None, is_tune: Bools, options: CalibrationOptions
) -> Candidate:
    name = "raw" if learned is None else learned.target
    if options.objective is None:
        whole = ItemHalf(coded)
        return Candidate(name, whole, whole, learned)
    return Candidate(name, ItemHalf(coded.rows(is_tune)), ItemHalf(coded.rows(~is_tune)), learned)


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
    for name, asked in (("--per-task", options.per_task), ("--scorer", options.scorer is not None)):
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


def _escalation(held_out: HalfFigures, thresholds: dict[str, float | None]) -> Escalation:
    """As `escalation_of`, but from shipped counts, without tasks, floors and ceilings: counts do not hold those."""
    rates: dict[str, float] = {}
    reached = held_out.items
    for rung, threshold in thresholds.items():
        climbed = reached - held_out.shipped[rung]
        if threshold is not None and reached:
            rates[rung] = round(climbed / reached, 4)
        reached = climbed
    return Escalation(rates)


def _manifest_of(table: CountsTable) -> Manifest:
    ladder = tuple(LadderEntry(rung, model) for rung, model in zip(table.rungs, table.models, strict=True))
    right_at, name = table.parts["tune"].right_at, " + ".join(dict.fromkeys(table.corpora))
    return Manifest(name, ladder, table.grader, right_at=right_at, synthetic=table.synthetic)
