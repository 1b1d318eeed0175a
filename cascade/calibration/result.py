"""What a calibration is asked, and what comes of it: the choice, the policy it makes, and its certificate."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from math import ceil
from typing import Any

from cascade.calibration.candidates import Comparison, Way
from cascade.calibration.choice import Choice
from cascade.calibration.gate import GateWorth
from cascade.calibration.halves import ItemHalf, JointHalf, OperatingPoint, SplitHalf
from cascade.calibration.objectives import Objective, loss_of
from cascade.calibration.proof.pareto_testing import (
    Certificate,
    Certified,
    NotCertified,
    Target,
    escalation_of,
    hash_of_corpus,
    loss_limits,
)
from cascade.calibration.proof.stored_path import stored_path
from cascade.calibration.sampling import Bought, SampleSearch, what_samples_buy
from cascade.calibration.scored import ScorerTarget
from cascade.calibration.scorer import LearnedScorer
from cascade.calibration.search.by_task import ByTask
from cascade.calibration.search.frontier import Point
from cascade.calibration.signal import Signal
from cascade.core.policy import Policy, Samples
from cascade.core.policy.certificate import Escalation, PathStep
from cascade.corpora.items import Manifest
from cascade.corpora.splits import Split
from cascade.policy.certificates import hash_of, hashes_of
from cascade.policy.pricing import NoPrice
from cascade.policy.roles import climb_roles
from cascade.replay.columns import PolicyMapping
from cascade.replay.early import EarlyStop
from cascade.replay.mapping import Override, mapping_of, other_models, own_mapping
from cascade.replay.samples import samples_fields

__all__ = ["Calibration", "CalibrationOptions"]


@dataclass(frozen=True, slots=True)
class CalibrationOptions:
    """How to calibrate.

    objective  None: compute the frontier of all items and choose nothing
    policy     None: the ladder recorded in the corpus
    per_task   give each task with at least `by_task.FEWEST` items its own thresholds
    scorer     first learn a confidence on the tune half; thresholds are then tuned on its out-of-fold scores, unless those
               on the models' own confidences do better there. `gain` is not for a bound on confident mistakes
    skip_bad   leave out items that cannot be used, and count them, instead of raising
    samples    ask rungs more than once: as given, or searched beside the thresholds
    early_stop price replies that are closed at their confidence, whatever the policy says
    reprice    compute costs from the recorded usage, at the policy's prices
    """

    objective: Objective | None
    policy: Policy | None = None
    split: Split = field(default_factory=Split)
    per_task: bool = False
    scorer: ScorerTarget | None = None
    skip_bad: bool = False
    samples: SampleSearch = field(default_factory=SampleSearch)
    early_stop: bool = False
    reprice: bool = False


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
    not_judged      by rung: why its recorded samples are no evidence on agreement
    unsaid          what early stop cannot know of replies that ended badly, if there are any
    ways            the samples that were compared, one way to vote each; empty if none were. A point of the frontier names its way
    joint_tune      the tune half in all of these ways
    gate            what the policy's review gate is worth; None without a gate or an objective
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
    not_judged: tuple[str, ...] = ()
    ways: tuple[Way, ...] = ()
    joint_tune: JointHalf | None = None
    unsaid: str | None = None
    gate: GateWorth | None = None

    @property
    def samples(self) -> dict[str, Samples]:
        """By rung that is asked more than once: its samples."""
        ladder = self.mapping.plan.policy.ladder[:-1]
        return {rung.rung: rung.samples for rung in ladder if rung.samples is not None}

    @property
    def early_stop(self) -> EarlyStop | None:
        """What early stop closes and saves on the certify half at the chosen thresholds; None without it."""
        chosen, half = self.choice.chosen, self.held_out
        if isinstance(half, JointHalf) and chosen is not None:
            half = half.way_of(chosen)
        if chosen is None or not isinstance(half, ItemHalf) or half.coded.left is None:
            return None
        coded, closed = half.coded, half.coded.closed(half.at(chosen))
        counts: list[int] = closed.sum(axis=0).tolist()
        saved = int(((coded.cost[:, :-1] - half.coded.left) * closed).sum())
        return EarlyStop(dict(zip(coded.rungs, counts, strict=False)), saved)

    @property
    def by_agreement(self) -> frozenset[str]:
        """The rungs where the agreement of the samples alone decides. Their threshold is a label, or None for `never`."""
        return self.mapping.by_agreement

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
        return {} if self.choice.chosen is None else self._ladder_at(self.choice.chosen)

    @property
    def task_thresholds(self) -> dict[str, dict[str, float | None]]:
        """By task, then rung. Tasks of the policy that have no thresholds of their own get the ladder's."""
        return {} if self.choice.chosen is None else self._tasks_at(self.choice.chosen)

    def _ladder_at(self, point: OperatingPoint) -> dict[str, float | None]:
        rungs, shared = self.held_out.rungs[:-1], point.shared if isinstance(point, ByTask) else point
        # Every item belonged to a large task. Nothing is known of other tasks, so they ship at the top rung only.
        values = shared.thresholds if shared is not None else (None,) * len(rungs)
        return dict(zip(rungs, values, strict=True))

    def _tasks_at(self, point: OperatingPoint) -> dict[str, dict[str, float | None]]:
        ladder, tasks = self._ladder_at(point), self.mapping.plan.policy.tasks
        made = {task.name: {rung: ladder[rung] for rung in task.thresholds} for task in tasks if task.thresholds}
        if isinstance(point, ByTask):
            made |= {task: dict(zip(ladder, own.thresholds, strict=True)) for task, own in point.tasks.items()}
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
    def as_good_as_chosen(self) -> str:
        """In which respect `further_samples` are as good as what was chosen."""
        return "no more losses" if isinstance(self.options.objective, Target) else "no lower quality"

    def further_samples(self) -> list[Bought]:
        """What each further sample buys on the tune half; empty if no samples were compared or nothing was chosen."""
        chosen, objective = self.choice.chosen, self.options.objective
        if self.joint_tune is None or not isinstance(chosen, Point) or objective is None:
            return []
        loss = loss_of(objective) if isinstance(objective, Target) else None
        return what_samples_buy(self.ways, self.joint_tune, chosen, loss)

    @property
    def policy(self) -> Policy:
        """The policy with the chosen thresholds in it, not yet with a certificate."""
        alone, samples = self.by_agreement, self.samples
        overrides = [
            Override(rung, value) for rung, value in self.thresholds.items() if rung not in alone or value is None
        ]
        for task, own in self.task_thresholds.items():
            overrides += [Override(f"{task}:{rung}", value) for rung, value in own.items()]
        if self.options.policy is None:
            return own_mapping(
                self.manifest, overrides, samples=samples, early_stop=self.options.early_stop
            ).plan.policy
        changes: dict[str, Any] = {"certificate": None}
        if self.options.scorer is not None:
            changes["scorer"] = None if self.learned is None else dict(self.learned.scorer)
        asked = {rung.rung: samples.get(rung.rung) for rung in self.options.policy.ladder if rung.samples is not None}
        chosen = self.options.policy.model_copy(update=changes)
        return mapping_of(
            chosen, self.manifest, overrides, samples=asked | samples, early_stop=self.options.early_stop
        ).plan.policy

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
        never = PathStep(
            thresholds=dict.fromkeys(self.thresholds),
            tasks={task: dict.fromkeys(own) for task, own in self.task_thresholds.items()},
        )
        limits = None
        if isinstance(held_out, ItemHalf):
            limits = loss_limits(held_out.coded, held_out.at(proof.point), proof.target)
        hashes, roles = self._hashes()
        certificate = proof.certificate(
            {"corpus": hash_of_corpus(self.sources), **hashes},
            right_at=held_out.right_at,
            escalation=self._escalation_at(proof.point),
            grader=self.manifest.grader,
            grader_error=self.manifest.judge_error and self.manifest.judge_error[0],
            path=stored_path(proof, held_out, never, self._step),
            loss_by_task=limits,
        )
        return certificate.model_copy(update={"roles": roles})

    def _step(self, point: OperatingPoint) -> PathStep | None:
        """A point as a step of the path; None if agreement would have to decide at a rung that never ships as certified."""
        ladder, alone = self._ladder_at(point), self.by_agreement
        if any(self.thresholds[rung] is None and ladder[rung] is not None for rung in alone):
            return None
        # A rung that is left out stays as it is in the policy: the agreement of its samples decides.
        thresholds = {rung: value for rung, value in ladder.items() if rung not in alone or value is None}
        escalation = dict(self._escalation_at(point).rungs)
        return PathStep(thresholds=thresholds, tasks=self._tasks_at(point), escalation=escalation)

    def _escalation_at(self, point: OperatingPoint) -> Escalation:
        """The escalation rates on the certify half; from counts without tasks, floors and ceilings, which they do not hold."""
        held_out = self.held_out
        if isinstance(held_out, ItemHalf):
            return escalation_of(held_out.coded, held_out.at(point))
        rates, shipped = dict[str, float](), held_out.figures(point, "false_confident").shipped
        reached = len(held_out)
        for rung, threshold in self._ladder_at(point).items():
            climbed = reached - shipped[rung]
            if threshold is not None and reached:
                rates[rung] = round(climbed / reached, 4)
            reached = climbed
        return Escalation(rates)

    def _hashes(self) -> tuple[dict[str, str], dict[str, str] | None]:
        """The hashes, and the versions of the words by role; None where the policy's own words are not known to be the recorded ones."""
        try:
            return hashes_of(self.policy), climb_roles(self.policy)
        except NoPrice:  # the corpus's own ladder, with models that have no list price: recorded costs were used
            ladder = {"ladder": self.held_out.rungs, "models": [entry.name for entry in self.manifest.ladder]}
            thresholds: list[Any] = [list(self.thresholds.values()), self.task_thresholds]
            if self.samples:
                policy = self.mapping.plan.policy
                thresholds.append({rung: samples_fields(one, policy) for rung, one in self.samples.items()})
            rest = {"prompts": "as recorded", "prices": "as recorded", "thresholds": thresholds}
            return {part: hash_of(json.dumps(value).encode()) for part, value in {**ladder, **rest}.items()}, None
