"""What prompt caches cost and were worth: tokens written to them and read from them, by rung.

The ledger's sums do not hold this, so its entries are read one by one. A write is cold where a request had just climbed: its step is
not the request's first one. The prefix that a lower rung may have had in its cache was then written again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import msgspec

from cascade.core.messages import Usage
from cascade.core.prices import Rates, cost
from cascade.ledger.records import Entry, RequestBody, StepBody

__all__ = ["LONGEST_REQUEST_S", "CacheLine", "Caches", "caches"]

LONGEST_REQUEST_S: Final = 3_600
"""Entries are read from so long before the period on, to know the requests that were running at its start."""

_MARK = b'"cache_'  # a step that used no cache does not name one
_RATE_TOKENS = 1_000_000


class _First(msgspec.Struct, frozen=True, gc=False):
    index: int


_read_request = msgspec.json.Decoder(RequestBody).decode
_read_step = msgspec.json.Decoder(StepBody).decode
_read_first = msgspec.json.Decoder(_First).decode


@dataclass(slots=True)
class CacheLine:
    """A rung's caches, in tokens and nano-USD. `cold`: of what was written, after a climb.

    `premium`: what the writes cost above the price of tokens that use no cache. `spared`: what the reads cost less than those.
    Both of the calls that a cache was used in alone.
    """

    rung: str
    written_5m: int = 0
    written_1h: int = 0
    written_cost: int = 0
    cold: int = 0
    cold_cost: int = 0
    read: int = 0
    read_cost: int = 0
    premium: int = 0
    spared: int = 0

    @property
    def written(self) -> int:
        """All tokens written."""
        return self.written_5m + self.written_1h

    @property
    def hit_rate(self) -> float | None:
        """Of the tokens that were to be found in a cache, the share that was: read / (read + written). None without any."""
        sought = self.read + self.written
        return self.read / sought if sought else None

    @property
    def saved(self) -> int:
        """What caching saved; below 0: what it lost, since writes cost more than reads saved."""
        return self.spared - self.premium

    def add(self, other: CacheLine) -> None:
        """Add another line's figures."""
        self.written_5m += other.written_5m
        self.written_1h += other.written_1h
        self.written_cost += other.written_cost
        self.cold += other.cold
        self.cold_cost += other.cold_cost
        self.read += other.read
        self.read_cost += other.read_cost
        self.premium += other.premium
        self.spared += other.spared


@dataclass(frozen=True, slots=True)
class Caches:
    """A period's caches: by rung, the dearest first, and together.

    `estimated`: calls whose cost is split by list prices that do not give it exactly, or whose tokens are an estimate.
    `unpriced`: calls of a model without a price; their tokens are counted, their money is not.
    """

    lines: tuple[CacheLine, ...]
    total: CacheLine
    estimated: int
    unpriced: int


@dataclass(slots=True)
class _Running:
    """A request whose outcome has not been read yet. `policy`: None if its first entry is older than what is read."""

    policy: str | None
    first: int | None = None


def caches(
    entries: Iterable[Entry], since: int, rates_of: Callable[[str, str, str], Rates | None], policy: str | None = None
) -> Caches:
    """The caches of the steps from `since` (Unix seconds) on, of one policy or of all.

    `entries`: in the order of storing, from LONGEST_REQUEST_S before `since` to the period's end. `rates_of`: the prices of a
    (policy, rung, model), None if there are none. A call's recorded cost is split in proportion to these prices: exactly, but for
    rounding, where they are the ones that it was billed at, or a discount on all of them lies between.
    """
    by_rung: dict[str, CacheLine] = {}
    total, estimated, unpriced = CacheLine(""), 0, 0
    for request_policy, step, is_climbed in _cached_steps(entries, since):
        if policy is not None and request_policy != policy:
            continue
        rates = rates_of(request_policy or "", step.rung, step.model)
        line, is_exact = _line(step, rates, is_climbed=is_climbed)
        by_rung.setdefault(step.rung, CacheLine(step.rung)).add(line)
        total.add(line)
        unpriced += rates is None
        estimated += rates is not None and not is_exact
    dearest = sorted(by_rung.values(), key=lambda line: (-line.written_cost - line.read_cost, line.rung))
    return Caches(tuple(dearest), total, estimated, unpriced)


def _cached_steps(entries: Iterable[Entry], since: int) -> Iterator[tuple[str | None, StepBody, bool]]:
    """Steps that used a cache: the request's policy, the step, and whether the request had climbed to it."""
    running: dict[str, _Running] = {}
    for entry in entries:
        if entry.kind == "request":
            running[entry.request] = _Running(_read_request(entry.body).policy)
        elif entry.kind == "outcome":
            running.pop(entry.request, None)
        elif entry.kind == "step":
            request = running.setdefault(entry.request, _Running(None))
            if request.first is None:
                request.first = _read_first(entry.body).index
            if entry.at >= since and _MARK in entry.body:
                step = _read_step(entry.body)
                yield request.policy, step, step.index > request.first


def _line(step: StepBody, rates: Rates | None, *, is_climbed: bool) -> tuple[CacheLine, bool]:
    """One call's figures, and whether its money is exact."""
    line = CacheLine("", step.cache_write_5m, step.cache_write_1h, read=step.cache_read)
    if rates is not None:
        usage = Usage(step.input_tokens, step.output_tokens, step.cache_write_5m, step.cache_write_1h, step.cache_read)
        tier, whole = rates.tier_of(usage), cost(rates, usage)
        written = step.cache_write_5m * tier.cache_write_5m + step.cache_write_1h * tier.cache_write_1h
        line.written_cost = _share(written, whole, step.cost)
        line.read_cost = _share(step.cache_read * tier.cache_read, whole, step.cost)
        plain = (step.cache_write_5m + step.cache_write_1h) * tier.input
        line.premium = line.written_cost - _share(plain, whole, step.cost)
        line.spared = _share(step.cache_read * tier.input, whole, step.cost) - line.read_cost
        is_exact = not step.is_estimate and whole == step.cost
    else:
        is_exact = False
    if is_climbed:
        line.cold, line.cold_cost = line.written, line.written_cost
    return line, is_exact


def _share(part: int, whole: int, billed: int) -> int:
    """`part` (nano-USD times a million) of what was billed, where `whole` is what it would cost at these prices; half up."""
    if not whole:
        return 0
    over = _RATE_TOKENS * whole
    return (part * billed + over // 2) // over
