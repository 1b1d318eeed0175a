"""The share of the requests that each rung answers: given by the user, or from a corpus replayed under the policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from cascade.core.errors import CorpusError, UsageExportError
from cascade.core.policy import Policy
from cascade.corpora import CorpusReader, Manifest
from cascade.replay.arrays import np
from cascade.replay.building import read_columns
from cascade.replay.columns import ANSWERED, NO_COST, UNRECORDED, Columns, MappedColumns, PolicyMapping
from cascade.replay.discrimination import auroc_of_replies
from cascade.replay.figures import Figures
from cascade.replay.mapping import mapping_for, other_models
from cascade.replay.outcomes import singles_of, tally, total
from cascade.replay.vectorised import evaluate
from cascade.savings.bill import Basis

__all__ = ["Mix", "ReplayedCorpus", "mix_of_corpus", "mix_of_figures", "read_mix"]


@dataclass(frozen=True, slots=True)
class ReplayedCorpus:
    """The figures of a corpus replayed under the policy, as `cascade replay` has them; rates are over all items.

    singles       by rung alone: mean score and share wrong; None if some item has no graded, priced reply of the rung
    cost          nano-USD for all answers, as recorded, or at the policy's prices if only usage was; None if neither was
    single_costs  the same for each rung alone
    auroc         the chance that a right answer of the first rung has a higher confidence than a wrong one; None if it
                  cannot be computed
    others        descriptions of the rungs for which another model was recorded
    """

    corpus: str
    items: int
    synthetic: bool
    quality: float
    wrong: float
    singles: tuple[tuple[float, float] | None, ...]
    cost: int | None
    single_costs: tuple[int | None, ...]
    auroc: float | None
    tasks: int
    others: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Mix:
    """`shares`: of the requests, by the rung that answers. `reached`: of the requests, by rung they reach (first: all)."""

    shares: tuple[Fraction, ...]
    reached: tuple[Fraction, ...]
    basis: Basis
    observed: ReplayedCorpus | None = None

    @property
    def escalation(self) -> tuple[Fraction, ...]:
        """By rung below the top: of the requests that reach it, the share that climbs to the next one."""
        pairs = zip(self.reached[:-1], self.reached[1:], strict=True)
        return tuple(above / here if here else Fraction(0) for here, above in pairs)


def read_mix(text: str, rungs: Sequence[str]) -> Mix:
    """Read `--mix 80/15/5`: a share for each rung, adding up to 100 or to 1. Raises UsageExportError."""
    try:
        parts = [Fraction(part.strip().removesuffix("%")) for part in text.split("/")]
    except (ValueError, ZeroDivisionError):
        parts = []
    if len(parts) != len(rungs) or any(part < 0 for part in parts) or sum(parts) not in (1, 100):
        hint = f"give a share for each of {', '.join(rungs)} that add up to 100, e.g. 80/15/5"
        raise UsageExportError(f"{text!r} is not a mix", where="--mix", hint=hint)
    shares = tuple(part / sum(parts) for part in parts)
    return Mix(shares, tuple(sum(shares[k:], Fraction(0)) for k in range(len(shares))), "estimate")


def mix_of_corpus(reader: CorpusReader, policy: Policy) -> Mix:
    """The mix of a corpus replayed under a policy, as by `cascade replay`, storm guard included.

    An abstained request counts as answered by the top rung, which is what it would cost without a cascade. Raises
    CorpusError if the corpus lacks a rung of the policy or a reply that it needs, or has no items.
    """
    manifest = reader.manifest
    mapping = mapping_for(policy, manifest, reader.source)
    mappings = (mapping, replace(mapping, cost_of="policy"))
    columns, views = read_columns(reader, manifest, mappings, source=reader.source)
    if not len(columns):
        raise CorpusError("has no items", where=reader.source, hint="record some first: cascade record")
    view, priced = _priced(views)
    tasks = tally(columns, view, evaluate(columns, view))
    figures = total(tasks, singles_of(columns, view))
    return mix_of_figures(figures, view.mapping, manifest, priced=priced, auroc=_auroc(columns, view), tasks=len(tasks))


def mix_of_figures(
    figures: Figures, mapping: PolicyMapping, manifest: Manifest, *, priced: bool, auroc: float | None, tasks: int
) -> Mix:
    """The mix that a replay's figures are; `priced`: whether their costs are known. The rest is as `ReplayedCorpus` has it."""
    n, rungs = figures.items, mapping.names
    singles = [figures.singles.get(rung) for rung in rungs]
    answered = {**figures.shipped, rungs[-1]: figures.shipped[rungs[-1]] + figures.abstained}
    observed = ReplayedCorpus(
        corpus=manifest.name,
        items=n,
        synthetic=manifest.synthetic,
        quality=figures.quality,
        wrong=figures.wrong / n,
        singles=tuple(single and (single.quality, single.wrong / n) for single in singles),
        cost=figures.cost if priced else None,
        single_costs=tuple(single.cost if single and priced else None for single in singles),
        auroc=auroc,
        tasks=tasks,
        others=tuple(other_models(mapping, manifest)),
    )
    shares = tuple(Fraction(answered[rung], n) for rung in rungs)
    return Mix(shares, tuple(Fraction(figures.reached[rung], n) for rung in rungs), "measured", observed)


def _priced(views: Sequence[MappedColumns]) -> tuple[MappedColumns, bool]:
    """The first view with costs: as recorded, else at the policy's prices; else with costs of 0, and False."""
    for view in views:
        if any((cost != NO_COST).any() for cost in view.cost):
            return view, True
    free = tuple(np.zeros_like(cost) for cost in views[0].cost)
    return replace(views[0], cost=free, alone_cost=free, climb_cost=()), False


def _auroc(columns: Columns, view: MappedColumns) -> float | None:
    """Of the first rung's confidence, over its graded answers."""
    first = columns.rungs[view.mapping.rungs[0]]
    there = np.isin(first.answer, (ANSWERED, UNRECORDED)) & ~np.isnan(first.confidence) & ~np.isnan(first.score)
    return auroc_of_replies(first.confidence[there], first.score[there] >= columns.manifest.right_at)
