"""Explains entries whose digest does not match the chain: swapped, moved, copied, missing before them, or changed.

A digest covers the previous digest, the entry's place and its content. Other combinations of these are tried, as they may have been
before the tampering; the one that matches explains it. An entry that matches none was changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from cascade.ledger.chain import link
from cascade.ledger.records import Entry

__all__ = ["Explanation", "Mismatch", "Tampering", "explain"]

Tampering = Literal["changed", "swapped", "moved", "duplicate", "missing"]

_PAIRED = 200  # mismatches that are compared with each other: a renumbered chain has as many as entries
_SHIFTS = tuple(shift for far in range(1, 9) for shift in (far, -far))


@dataclass(frozen=True, slots=True)
class Mismatch:
    """An entry whose digest does not match. `before`: the digest of the entry before it; `earlier`: the one before that."""

    entry: Entry
    before: bytes
    earlier: bytes

    @property
    def seq(self) -> int:
        """Its present place."""
        return self.entry.seq


@dataclass(frozen=True, slots=True)
class Explanation:
    """What happened to the entries `entry` to `last`. `other`: the seq it was swapped with, copied from or moved from."""

    kind: Tampering
    entry: Entry
    last: int
    other: int | None = None


def explain(mismatches: Sequence[Mismatch], places: Mapping[bytes, Sequence[int]]) -> Iterator[Explanation]:
    """Explain one writer's mismatches, ordered by seq. `places`: where each of their digests occurs in the chain."""
    done: set[int] = set()
    for one, other in _swaps(mismatches[:_PAIRED], done):
        yield Explanation("swapped", one.entry, one.seq, other)
    rest = [mismatch for mismatch in mismatches if mismatch.seq not in done]
    shifts = {mismatch.seq: shift for mismatch in rest if (shift := _shift(mismatch)) is not None}
    run: Explanation | None = None
    for mismatch in rest:
        now = _single(mismatch, shifts, places)
        if run is not None and now.kind == run.kind == "moved" and now.entry.seq == run.last + 1 and _same(now, run):
            run = Explanation("moved", run.entry, now.last, run.other)
            continue
        if run is not None:
            yield run
        run = now
    if run is not None:
        yield run


def _same(now: Explanation, run: Explanation) -> bool:
    return (now.other or 0) - now.entry.seq == (run.other or 0) - run.entry.seq


def _single(mismatch: Mismatch, shifts: Mapping[int, int], places: Mapping[bytes, Sequence[int]]) -> Explanation:
    entry, seq = mismatch.entry, mismatch.seq
    if seq in shifts:
        return Explanation("moved", entry, seq, seq + shifts[seq])
    if copies := [place for place in places.get(entry.digest, ()) if place != seq]:
        return Explanation("duplicate", entry, seq, copies[0])
    if shifts.get(seq + 1, 0) > 0:  # what follows was renumbered, and the entry before this one is gone
        return Explanation("missing", entry, seq, shifts[seq + 1])
    return Explanation("changed", entry, seq)


def _fits(before: bytes, seq: int, entry: Entry, digest: bytes) -> bool:
    return link(before, seq, entry.at, entry.kind, entry.request, entry.body) == digest


def _shift(mismatch: Mismatch) -> int | None:
    for shift in _SHIFTS:
        for before in (mismatch.before, mismatch.earlier):
            if _fits(before, mismatch.seq + shift, mismatch.entry, mismatch.entry.digest):
                return shift
    return None


def _swaps(mismatches: Sequence[Mismatch], done: set[int]) -> Iterator[tuple[Mismatch, int]]:
    by_seq = {mismatch.seq: mismatch for mismatch in mismatches}
    for number, one in enumerate(mismatches):
        for other in mismatches[number + 1 :]:
            if {one.seq, other.seq} & done or not _swapped(one, other):
                continue
            done.update((one.seq, other.seq))
            for mismatch, stood in ((one, other), (other, one)):
                # With the rows swapped back, the next entry matches too.
                after = by_seq.get(mismatch.seq + 1)
                if after is not None and _fits(stood.entry.digest, after.seq, after.entry, after.entry.digest):
                    done.add(after.seq)
            yield one, other.seq


def _swapped(one: Mismatch, other: Mismatch) -> bool:
    first, second = one.entry, other.entry
    # Whole rows with their digests: swapped back, both match.
    before = second.digest if other.seq == one.seq + 1 else other.before
    if _fits(one.before, one.seq, second, second.digest) and _fits(before, other.seq, first, first.digest):
        return True
    # Everything but the digests, or the bodies alone: each matches the digest that stayed.
    if _fits(one.before, one.seq, second, first.digest) and _fits(other.before, other.seq, first, second.digest):
        return True
    return (
        link(one.before, one.seq, first.at, first.kind, first.request, second.body) == first.digest
        and link(other.before, other.seq, second.at, second.kind, second.request, first.body) == second.digest
    )
