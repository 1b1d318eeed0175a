"""Which rung answers what share of the requests: given by the user, or taken from a corpus replayed under the policy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from cascade.core.errors import CorpusError, UsageExportError
from cascade.core.policy import Policy
from cascade.corpora import CorpusReader
from cascade.replay.arrays import np
from cascade.replay.columns import ANSWERED, NO_COST, UNRECORDED, Columns, MappedColumns, read_columns
from cascade.replay.mapping import mapping_of, other_models
from cascade.replay.outcomes import singles_of, tally, total
from cascade.replay.vectorised import evaluate
from cascade.savings.bill import Basis

__all__ = ["Mix", "Observed", "observe", "read_mix"]


@dataclass(frozen=True, slots=True)
class Observed:
    """What a replayed corpus says of the policy, beside its mix: the figures of `cascade replay`, rates over all items.

    `singles`: every rung alone, its mean score and the share that is wrong; None where some item lacks a graded, priced
    reply of it. `cost`: what the answers cost in nano-USD, and `single_costs` every rung's alone, as recorded, or at the
    policy's prices where only usage was; None where neither was. `auroc`: the chance that a right answer of the first
    rung has a higher confidence than a wrong one; None where it cannot be computed. `others`: where other models were recorded.
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
    """`shares`: of the requests, answered by each rung. `reached`: that ask each rung, the first one all of them."""

    shares: tuple[Fraction, ...]
    reached: tuple[Fraction, ...]
    basis: Basis
    observed: Observed | None = None

    @property
    def escalation(self) -> tuple[Fraction, ...]:
        """Of the requests that reach a rung (all but the last), the share that asks the next one."""
        pairs = zip(self.reached[:-1], self.reached[1:], strict=True)
        return tuple(above / here if here else Fraction(0) for here, above in pairs)


def read_mix(text: str, rungs: Sequence[str]) -> Mix:
    """What `--mix 80/15/5` says, a share for each rung, in per cent or adding up to 1. Raises UsageExportError."""
    try:
        parts = [Fraction(part.strip().removesuffix("%")) for part in text.split("/")]
    except (ValueError, ZeroDivisionError):
        parts = []
    if len(parts) != len(rungs) or any(part < 0 for part in parts) or sum(parts) not in (1, 100):
        hint = f"give a share for each of {', '.join(rungs)} that add up to 100, e.g. 80/15/5"
        raise UsageExportError(f"{text!r} is not a mix", where="--mix", hint=hint)
    shares = tuple(part / sum(parts) for part in parts)
    return Mix(shares, tuple(sum(shares[k:], Fraction(0)) for k in range(len(shares))), "estimate")


def observe(reader: CorpusReader, policy: Policy) -> Mix:
    """The mix of a corpus replayed under a policy, as `cascade replay` does it, storm guard and all.

    A request that nobody answered counts for the top rung: asking without a cascade would have paid that. Raises
    CorpusError where the corpus lacks a rung of the policy or a reply that it asks for, or has no items.
    """
    manifest = reader.manifest
    try:
        mapping = mapping_of(policy, manifest)
    except CorpusError as problem:  # the mapping does not know where the corpus is from
        raise CorpusError(problem.problem, where=reader.source, hint=problem.hint) from None
    mappings = (mapping, replace(mapping, cost_of="policy"))
    columns, views = read_columns(reader, manifest, mappings, source=reader.source)
    if not len(columns):
        raise CorpusError("has no items", where=reader.source, hint="record some first: cascade record")
    view, priced = _priced(views)
    tasks = tally(columns, view, evaluate(columns, view))
    figures = total(tasks, singles_of(columns, view))
    n, rungs = figures.items, view.mapping.names
    singles = [figures.singles.get(rung) for rung in rungs]
    answered = {**figures.shipped, rungs[-1]: figures.shipped[rungs[-1]] + figures.abstained}
    observed = Observed(
        corpus=manifest.name,
        items=n,
        synthetic=manifest.synthetic,
        quality=figures.quality,
        wrong=figures.wrong / n,
        singles=tuple(single and (single.quality, single.wrong / n) for single in singles),
        cost=figures.cost if priced else None,
        single_costs=tuple(single.cost if single and priced else None for single in singles),
        auroc=_auroc(_said(columns, view)),
        tasks=len(tasks),
        others=tuple(other_models(view.mapping, manifest)),
    )
    shares = tuple(Fraction(answered[rung], n) for rung in rungs)
    return Mix(shares, tuple(Fraction(figures.reached[rung], n) for rung in rungs), "measured", observed)


def _priced(views: Sequence[MappedColumns]) -> tuple[MappedColumns, bool]:
    """As recorded; where no cost was, at the policy's prices; where nothing can be priced, 0, and `cost` is None."""
    for view in views:
        if any((cost != NO_COST).any() for cost in view.cost):
            return view, True
    return replace(views[0], cost=tuple(np.zeros_like(cost) for cost in views[0].cost)), False


def _said(columns: Columns, view: MappedColumns) -> list[tuple[float, bool]]:
    """The first rung's confidence in each of its answers that was graded, and whether that was right."""
    first = columns.rungs[view.mapping.rungs[0]]
    there = np.isin(first.answer, (ANSWERED, UNRECORDED)) & ~np.isnan(first.confidence) & ~np.isnan(first.score)
    right = first.score[there] >= columns.manifest.right_at
    return list(zip(first.confidence[there].tolist(), right.tolist(), strict=True))


def _auroc(said: Sequence[tuple[float, bool]]) -> float | None:
    """Mann and Whitney's statistic over the levels, ties half; None where there are no right, or no wrong answers."""
    right, wrong = Counter(sure for sure, ok in said if ok), Counter(sure for sure, ok in said if not ok)
    pairs = right.total() * wrong.total()
    if not pairs:
        return None
    below = won = 0
    for level in sorted(right.keys() | wrong.keys()):
        won += right[level] * (2 * below + wrong[level])
        below += wrong[level]
    return won / (2 * pairs)
