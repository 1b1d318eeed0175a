"""Read corpora and measure their signals."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

from cascade.calibration.objectives import Objective
from cascade.calibration.proof.preconditions import joint_manifest
from cascade.calibration.scored import targets_of
from cascade.calibration.signal_table.collecting import SignalCollector
from cascade.calibration.signal_table.figures import SignalTable
from cascade.calibration.signal_table.measuring import measure_signals
from cascade.core.errors import ConfigurationError
from cascade.core.policy import Policy
from cascade.core.policy.samples import Same
from cascade.core.policy.scorer import ScoringTarget
from cascade.corpora.items import Item
from cascade.corpora.reading import open_corpus
from cascade.corpora.splits import Split
from cascade.replay.arrays import np
from cascade.replay.building import read_columns
from cascade.replay.columns import PolicyMapping
from cascade.replay.mapping import Asked, asking, mapping_for

__all__ = ["SignalOptions", "signals_of"]


@dataclass(frozen=True, slots=True)
class SignalOptions:
    """How to measure. `policy` None: the ladder recorded in the corpus. `objective`: it may forbid a score of the gain.

    `same_as`: how answers are compared; None: as the policy's first rung with samples does, by `normalized` without one.
    """

    policy: Policy | None = None
    objective: Objective | None = None
    split: Split = field(default_factory=Split)
    skip_bad: bool = False
    same_as: Same | None = None

    @property
    def same(self) -> Same:
        """How answers are compared. Raises ConfigurationError for a judge, whose groups are of one vote only."""
        if self.same_as is not None:
            if self.same_as.kind == "judge":
                raise ConfigurationError(
                    "--signals --same judge: a judge's groups are of one vote (compare in another way)"
                )
            return self.same_as
        rungs = self.policy.ladder if self.policy is not None else ()
        found = [rung.samples.same for rung in rungs if rung.samples is not None]
        return next((same for same in found if same.kind != "judge"), Same())

    @property
    def targets(self) -> tuple[ScoringTarget, ...]:
        """What scores may predict under the objective."""
        try:
            targets_of("gain", self.objective)
        except ConfigurationError:
            return ("right",)
        return ("right", "gain")


def signals_of(paths: Sequence[Path], options: SignalOptions) -> SignalTable:
    """Read the corpora as one and measure every signal on their tune half.

    Raises CorpusError, PolicyError and MissingExtra; ConfigurationError if the tune half is empty.
    """
    with ExitStack() as stack:
        readers = [stack.enter_context(open_corpus(path, skip_bad=options.skip_bad)) for path in paths]
        manifest = joint_manifest(readers)
        mapping = replace(_asked_once(mapping_for(options.policy, manifest, readers[0].source)), same=options.same)
        collector, tunes = SignalCollector(mapping), list[bool]()

        def each(items: Sequence[Item]) -> None:
            tunes.extend(options.split.part_of(item) == "tune" for item in items)
            collector.add(items)

        columns, (view,) = read_columns(
            chain.from_iterable(readers),
            manifest,
            [mapping],
            source=", ".join(reader.source for reader in readers),
            on_bad_item=readers[0].skip,
            complete=options.skip_bad,
            on_items=each,
        )
    is_tune = np.array(tunes, np.bool_)
    return measure_signals(columns, view, is_tune, collector, targets=options.targets, seed=options.split.seed)


def _asked_once(mapping: PolicyMapping) -> PolicyMapping:
    """The mapping with every rung asked once, of all tasks, and its replies whole.

    What features a scorer has does not depend on the policy's votes, and signals are compared at the cost of whole replies.
    """
    policy = mapping.plan.policy
    tasks = tuple(task.model_copy(update={"samples": {}}) if task.samples else task for task in policy.tasks)
    plan = replace(mapping.plan, policy=policy.model_copy(update={"tasks": tasks, "early_stop": False}))
    sampled = {rung.rung: Asked(None) for rung in policy.ladder[:-1] if rung.samples is not None}
    return asking(replace(mapping, plan=plan), sampled)
