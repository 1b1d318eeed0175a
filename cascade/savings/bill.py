"""Today's bill: the export's tokens at today's prices, by model.

The tokens are measured, and so is the cost if it is certain. If a model's price depends on the prompt's length and a row is a
sum of many requests, the average prompt decides the price, and the line is an `estimate`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Final, Literal

from cascade.core.messages import Usage
from cascade.savings.rates import PriceBook, cost_of
from cascade.savings.sums import Slice

__all__ = ["CACHE_HITS", "Basis", "Bill", "BillLine", "Caching", "make_bill", "uncached", "with_caching"]

Basis = Literal["measured", "estimate"]
"""Whether a figure was observed. Everything that depends on something unobserved is an estimate."""

Caching = Literal["as_exported", "none", "assumed"]
"""Prompt caching: as in the export, none, or with an assumed share of the export's uncached input cached."""

CACHE_HITS: Final = 0.9
"""The share of the assumed cached tokens that is read; the rest is written (5m). A guess."""


@dataclass(frozen=True, slots=True)
class BillLine:
    """One model's share, in nano-USD. `requests` None: not known."""

    model: str
    batch: bool
    requests: int | None
    usage: Usage
    cost: int
    basis: Basis


@dataclass(frozen=True, slots=True)
class Bill:
    """Today's bill for the whole export. `otherwise`: the cost by (caching, all in batch), always an estimate."""

    lines: tuple[BillLine, ...]
    otherwise: Mapping[tuple[Caching, bool], int]

    @property
    def cost(self) -> int:
        """Nano-USD."""
        return sum(line.cost for line in self.lines)

    @property
    def basis(self) -> Basis:
        """Measured only if every line is."""
        return "measured" if all(line.basis == "measured" for line in self.lines) else "estimate"


def make_bill(slices: Sequence[Slice], book: PriceBook, cached_share: Fraction | None = None) -> Bill:
    """The bill, dearest model first. Raises UsageExportError for a model without a price."""
    groups: dict[tuple[str, bool], list[Slice]] = {}
    for part in slices:
        groups.setdefault((part.model, part.batch), []).append(part)
    lines = [_line(model, batch, group, book) for (model, batch), group in groups.items()]
    otherwise: dict[tuple[Caching, bool], int] = {
        (caching, all_batch): sum(
            cost_of(book.rates(model, batch=batch or all_batch), with_it)
            for (model, batch), group in groups.items()
            for with_it in [with_caching(group, cached_share)[caching]]
        )
        for caching in with_caching((), cached_share)
        for all_batch in (False, True)
    }
    return Bill(tuple(sorted(lines, key=lambda line: (-line.cost, line.model, line.batch))), otherwise)


def with_caching(slices: Sequence[Slice], share: Fraction | None) -> dict[Caching, Sequence[Slice]]:
    """The traffic as exported, without prompt caching, and (with a `share`) with that share of uncached input cached."""
    ways: dict[Caching, Sequence[Slice]] = {
        "as_exported": slices,
        "none": [replace(part, usage=uncached(part.usage)) for part in slices],
    }
    if share is not None:
        ways["assumed"] = [_cached(part, share) for part in slices]
    return ways


def uncached(usage: Usage) -> Usage:
    """The same tokens, none of them cached."""
    return Usage(input_tokens=usage.prompt_tokens, output_tokens=usage.output_tokens)


def _cached(part: Slice, share: Fraction) -> Slice:
    moved = int(part.usage.input_tokens * share)
    written = moved - int(moved * Fraction(str(CACHE_HITS)))
    usage = replace(part.usage, input_tokens=part.usage.input_tokens - moved)
    return replace(part, usage=usage + Usage(cache_read=moved - written, cache_write_5m=written))


def _line(model: str, batch: bool, group: list[Slice], book: PriceBook) -> BillLine:
    listed = book.rates(model, group[0].where)
    rates = book.rates(model, group[0].where, batch=batch)
    usage, counts = Usage(), [part.requests for part in group]
    for part in group:
        usage += part.usage
    certain = len(listed.tiers) == 1 or all(part.single for part in group)
    return BillLine(
        model,
        batch,
        None if None in counts else sum(count or 0 for count in counts),
        usage,
        cost_of(rates, group),
        "measured" if certain else "estimate",
    )
