"""Calibrate: choose thresholds on one half of the data, certify them on the other, compare them with every single model.

    read → code levels → split by group → frontier of the tune half → an objective's point → figures of the certify half

Only a `Target` is certified. For a quality or a budget thresholds are chosen on the tune half, and their figures on the
certify half are reported without a test. Tables of counts replace the first three steps.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Any

from cascade.calibration.choice import Choice, Rival, choose, only_frontier
from cascade.calibration.halves import Half, Items, Side, Tallied
from cascade.calibration.objectives import Objective
from cascade.calibration.proof.pareto_testing import (
    Certificate,
    Certified,
    NotCertified,
    Target,
    escalation_of,
    hash_of_corpus,
)
from cascade.calibration.proof.preconditions import joint_manifest, refuse_own_scorer, refuse_to_hold
from cascade.calibration.proof.recheck import Against, hold_against
from cascade.calibration.scorer import Gatherer, Learned, learn, rescored
from cascade.calibration.search.by_task import FEWEST, ByTask, large_tasks
from cascade.calibration.search.levels import Coded, code_columns
from cascade.calibration.signal import Signal, signals, tallied_signals
from cascade.calibration.tables.parquet import Tabulated, counted_as, read_counts
from cascade.core.errors import ConfigurationError, CorpusError
from cascade.core.policy import Policy
from cascade.core.policy.certificate import Escalation
from cascade.core.policy.ladder import NAME
from cascade.corpora.items import Item, LadderEntry, Manifest
from cascade.corpora.reading import CorpusReader, open_corpus
from cascade.corpora.splits import Split
from cascade.policy.certificates import hash_of, hashes_of
from cascade.policy.pricing import NoPrice
from cascade.replay.arrays import np
from cascade.replay.columns import PolicyMapping, read_columns
from cascade.replay.mapping import Override, mapping_of, other_models, own_mapping

__all__ = ["Calibration", "Half", "Rival", "Wish", "calibrate", "calibrate_counts", "hold"]


@dataclass(frozen=True, slots=True)
class Wish:
    """How to calibrate. `policy` None: the corpus's own ladder. `objective` None: the frontier of all, and no choice.

    `per_task`: tasks with many items get thresholds of their own. `scorer`: learn a better confidence first, on the tune
    half, whose thresholds are then tuned on the scores of models that had not seen the item's group.
    """

    objective: Objective | None
    policy: Policy | None = None
    split: Split = field(default_factory=Split)
    per_task: bool = False
    scorer: bool = False
    skip_bad: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """The result of a calibration: what was read, the two halves, and the `choice`.

    `tune` and `held` are the same object where nothing was to be chosen. `signal` describes each rung's confidence, on all
    items; a learned one's by out-of-fold scores on the tune half. `counted`: from tables of counts. `own_tasks`:
    those that were given thresholds of their own. `tasks`: those that items belong to; counts know none.
    """

    sources: tuple[str, ...]
    manifest: Manifest
    mapping: PolicyMapping
    wish: Wish
    tune: Side
    held: Side
    choice: Choice
    signal: dict[str, Signal]
    learned: Learned | None = None
    own_tasks: frozenset[str] = frozenset()
    tasks: tuple[str, ...] = ()
    counted: bool = False
    skipped: int = 0
    problems: tuple[str, ...] = ()

    @property
    def items(self) -> int:
        """How many items were read: those of both halves."""
        return len(self.held) if self.tune is self.held else len(self.tune) + len(self.held)

    @property
    def feasible(self) -> bool:
        """Whether thresholds were found that meet the objective."""
        return self.choice.chosen is not None

    @property
    def thresholds(self) -> dict[str, float | None]:
        """By the ladder's rungs below the top; empty where nothing was chosen."""
        chosen, rungs = self.choice.chosen, self.held.rungs[:-1]
        if chosen is None:
            return {}
        shared = chosen.shared if isinstance(chosen, ByTask) else chosen
        # Every item was of a large task: of any other nothing is known, so it ships at the top only.
        values = shared.thresholds if shared is not None else (None,) * len(rungs)
        return dict(zip(rungs, values, strict=True))

    @property
    def task_thresholds(self) -> dict[str, dict[str, float | None]]:
        """Each large task's own; those of the policy's other tasks are replaced by the ladder's."""
        chosen, ladder = self.choice.chosen, self.thresholds
        tasks = self.mapping.plan.policy.tasks if ladder else ()
        made = {task.name: {rung: ladder[rung] for rung in task.thresholds} for task in tasks if task.thresholds}
        if isinstance(chosen, ByTask):
            made |= {task: dict(zip(ladder, own.thresholds, strict=True)) for task, own in chosen.tasks.items()}
        return made

    @property
    def others(self) -> tuple[str, ...]:
        """In words, where another model was recorded than the policy asks."""
        return tuple(other_models(self.mapping, self.manifest))

    @property
    def further_units(self) -> int | None:
        """How many more graded units are needed, both halves together; None where none are, or where no number is enough."""
        proof, needed = self.choice.proof, self.choice.further_units_needed
        if isinstance(proof, NotCertified) and needed is None:
            needed = proof.further_units_needed
        if needed is None:
            return None
        return ceil(needed * (self.tune.units + self.held.units) / max(1, self.held.units))

    @property
    def policy(self) -> Policy:
        """The policy with the chosen thresholds in it, not yet with a certificate."""
        overrides = [Override(rung, value) for rung, value in self.thresholds.items()]
        for task, own in self.task_thresholds.items():
            overrides += [Override(f"{task}:{rung}", value) for rung, value in own.items()]
        if self.wish.policy is None:
            return own_mapping(self.manifest, overrides).plan.policy
        changes: dict[str, Any] = {"certificate": None}
        if self.learned is not None:
            changes["scorer"] = dict(self.learned.scorer)
        return mapping_of(self.wish.policy.model_copy(update=changes), self.manifest, overrides).plan.policy

    def policy_with(self, certificate: Certificate | None) -> Policy:
        """The same with its certificate, as `--write` leaves it. Only for a policy that was given, not a corpus's ladder."""
        values = self.policy.model_dump(by_alias=True, exclude_unset=True)
        return Policy.model_validate(values | ({"certificate": certificate.model_dump()} if certificate else {}))

    def certificate(self) -> Certificate | None:
        """The certificate with its hashes; None where nothing was certified. Reads the corpora again.

        None, too, where other models were recorded than the policy asks: a certificate does not carry over to other models.
        """
        proof, held = self.choice.proof, self.held
        if not isinstance(proof, Certified) or self.choice.certify is None or self.others:
            return None
        if isinstance(held, Items):
            escalation = escalation_of(held.coded, held.at(proof.point))
        else:
            escalation = _escalation(self.choice.certify, self.thresholds)
        return proof.certificate(
            {"corpus": hash_of_corpus(self.sources), **self._hashes()},
            right_at=held.right_at,
            escalation=escalation,
            grader=self.manifest.grader,
            grader_error=self.manifest.judge_error and self.manifest.judge_error[0],
        )

    def _hashes(self) -> dict[str, str]:
        try:
            return hashes_of(self.policy)
        except NoPrice:  # the corpus's own ladder, of models that have no list price: what was recorded was counted
            ladder = {"ladder": self.held.rungs, "models": [entry.name for entry in self.manifest.ladder]}
            thresholds = [list(self.thresholds.values()), self.task_thresholds]
            rest = {"prompts": "as recorded", "prices": "as recorded", "thresholds": thresholds}
            return {part: hash_of(json.dumps(value).encode()) for part, value in {**ladder, **rest}.items()}


def calibrate(paths: Sequence[Path], wish: Wish) -> Calibration:
    """Read the corpora as one, and calibrate.

    Raises CorpusError, PolicyError and MissingExtra; ConfigurationError where a half of the split is empty, or where no
    task is large enough for thresholds of its own.
    """
    with ExitStack() as stack:
        readers = [stack.enter_context(open_corpus(path, skip_bad=wish.skip_bad)) for path in paths]
        manifest, mapping = _seen_by(readers, wish.policy)
        tunes: list[bool] = []
        gatherer = Gatherer(mapping) if wish.scorer else None

        def each(items: Sequence[Item]) -> None:
            tunes.extend(wish.split.part_of(item) == "tune" for item in items)
            if gatherer is not None:
                gatherer.take(items)

        source = ", ".join(reader.source for reader in readers)
        refuse_own_scorer(
            wish.policy if wish.objective is not None and not wish.scorer else None,
            [reader.source for reader in readers],
        )
        columns, (view,) = read_columns(
            _chained(readers),
            manifest,
            [mapping],
            source=source,
            on_bad_item=readers[0].skip,
            complete=wish.skip_bad,
            on_items=each,
        )
        if not len(columns):
            raise CorpusError("has no items", where=source, hint="record some")
        halves, learned = np.array(tunes, np.bool_), None
        if gatherer is not None:
            material = gatherer.material(view)
            learned = learn(material, columns, view, halves, wish.split.seed)
            view = rescored(view, learned.scorer, material, learned.out_of_fold)
        coded = code_columns(columns, view)
        own_tasks = _own_tasks(coded, wish)
        told: dict[str, Any] = {
            "signal": signals(coded),
            "learned": learned,
            "own_tasks": own_tasks,
            "tasks": coded.tasks,
            "skipped": sum(reader.skipped for reader in readers),
            "problems": tuple(problem for reader in readers for problem in reader.problems),
        }
    if wish.objective is None:
        tune = held = Items(coded)
    else:
        tune, held = Items(coded.rows(halves)), Items(coded.rows(~halves))
    choice = _choice(tune, held, wish, mapping, own_tasks)
    sources = tuple(reader.source for reader in readers)
    return Calibration(sources, manifest, mapping, wish, tune, held, choice, **told)


def calibrate_counts(paths: Sequence[Path], wish: Wish) -> Calibration:
    """Read tables of counts, add them up, and calibrate; `wish.split` has no part in it, for the tables have theirs.

    Raises as `calibrate`, and ConfigurationError for what counts cannot give: a certificate where groups had several
    items, thresholds by task, a scorer, a loss that hangs on what the scores compare with.
    """
    _refuse_what_counts_lack(wish)
    if len({hash_of_corpus([path]) for path in paths}) < len(paths):
        where = ", ".join(map(str, paths))
        raise CorpusError("the same table is given twice", where=where, hint="give each table once")
    table = read_counts(paths[0])
    for path in paths[1:]:
        table += read_counts(path)
    where = ", ".join(map(str, paths))
    if not table.whole.n:
        raise CorpusError("has no items", where=where, hint="count a corpus that has items")
    if isinstance(wish.objective, Target) and table.grouped:
        problem = "a group may have several items, and counts do not keep the groups that a certificate needs"
        hint = "calibrate the corpora themselves, or choose with --min-quality, --budget or --frontier"
        raise CorpusError(problem, where=where, hint=hint)
    manifest = _manifest_of(table)
    try:
        mapping = own_mapping(manifest) if wish.policy is None else mapping_of(wish.policy, manifest)
    except CorpusError as problem:  # the mapping does not know where the table is from
        raise CorpusError(problem.problem, where=where, hint=problem.hint) from None
    if mapping.rungs != table.rungs or table.counted_as not in (None, counted_as(mapping.plan.policy)):
        problem = f"was counted under another policy, for the ladder {' → '.join(table.rungs)}"
        raise CorpusError(problem, where=where, hint="give the same --policy as to `cascade tabulate`, or none")
    if wish.objective is None:
        tune = held = Tallied(table.whole)
    else:
        tune, held = (Tallied(table.parts[part]) for part in ("tune", "certify"))
    choice = _choice(tune, held, wish, mapping, frozenset())
    sources = tuple(map(str, paths))
    signal = tallied_signals(table.whole)
    return Calibration(sources, manifest, mapping, wish, tune, held, choice, signal, counted=True)


def _refuse_what_counts_lack(wish: Wish) -> None:
    if isinstance(wish.objective, Target) and wish.objective.loss == "disagreement":
        raise ConfigurationError(
            "--loss disagreement: tables of counts do not name the baseline (give the corpora themselves)"
        )
    for name, asked in (("--per-task", wish.per_task), ("--scorer", wish.scorer)):
        if asked:
            raise ConfigurationError(f"{name}: tables of counts do not hold single items (give the corpora themselves)")


def hold(paths: Sequence[Path], policy: Policy, *, skip_bad: bool = False) -> tuple[Manifest, Against]:
    """Hold a policy's certificate against fresh corpora, read as one. Raises as `calibrate` and `hold_against` do."""
    with ExitStack() as stack:
        readers = [stack.enter_context(open_corpus(path, skip_bad=skip_bad)) for path in paths]
        manifest, mapping = _seen_by(readers, policy)
        refuse_to_hold(policy, manifest, mapping, [reader.source for reader in readers])
        columns, (view,) = read_columns(
            _chained(readers),
            manifest,
            [mapping],
            source=readers[0].source,
            on_bad_item=readers[0].skip,
            complete=skip_bad,
        )
        return manifest, hold_against(code_columns(columns, view), policy)


def _choice(tune: Side, held: Side, wish: Wish, mapping: PolicyMapping, own_tasks: frozenset[str]) -> Choice:
    if wish.objective is None:
        return only_frontier(held)
    return choose(tune, held, wish.objective, mapping.plan.policy, own_tasks if wish.per_task else None)


def _own_tasks(coded: Coded, wish: Wish) -> frozenset[str]:
    if not wish.per_task:
        return frozenset()
    found = large_tasks(coded)
    if wish.policy is not None:  # a corpus may name tasks with anything, a policy may not
        found = frozenset(name for name in found if re.fullmatch(NAME, name))
    if found:
        return found
    sizes = dict(zip(coded.tasks, np.bincount(coded.task, minlength=len(coded.tasks)).tolist(), strict=True))
    most = max(sizes, key=lambda task: sizes[task])
    raise ConfigurationError(
        f"--per-task: no task has the {FEWEST} items that thresholds of its own need (the largest, {most!r}, has"
        f" {sizes[most]}; leave --per-task out)"
    )


def _escalation(held: Half, thresholds: dict[str, float | None]) -> Escalation:
    """As `escalation_of`, from how many were shipped where: counts know neither tasks nor which climbs were natural."""
    rates: dict[str, float] = {}
    reached = held.items
    for rung, threshold in thresholds.items():
        climbed = reached - held.shipped[rung]
        if threshold is not None and reached:
            rates[rung] = round(climbed / reached, 4)
        reached = climbed
    return Escalation(rates)


def _manifest_of(table: Tabulated) -> Manifest:
    ladder = tuple(LadderEntry(rung, model) for rung, model in zip(table.rungs, table.models, strict=True))
    right_at, name = table.parts["tune"].right_at, " + ".join(dict.fromkeys(table.corpora))
    return Manifest(name, ladder, table.grader, right_at=right_at, synthetic=table.synthetic)


def _seen_by(readers: Sequence[CorpusReader], policy: Policy | None) -> tuple[Manifest, PolicyMapping]:
    manifest = joint_manifest(readers)
    try:
        return manifest, own_mapping(manifest) if policy is None else mapping_of(policy, manifest)
    except CorpusError as problem:  # the mapping does not know where the corpus is from
        raise CorpusError(problem.problem, where=readers[0].source, hint=problem.hint) from None


def _chained(readers: Sequence[CorpusReader]) -> Iterator[Item]:
    for reader in readers:
        yield from reader
