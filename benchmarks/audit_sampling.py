"""What sampling for the audit costs the caller: `python benchmarks/audit_sampling.py [--pairs N] [--folder DIR]`.

Each pair is one request recorded by the ledger's hook as a driver does, once with the policy's audit off and once with it on, in turn first,
each in a ledger of its own (`durability: batched`). Measured on the caller's thread, from `begin` until `ended` returns. What a sampled
request then waits for, until its row is on the disk, is reported by itself: only sampled requests wait. On a noisy machine only the
paired differences mean much. `decision` is the sampling alone, without the hook.

Exits with 1 if more than 50 µs are added to a request on average at the default shares (1 % and 5 %), waits aside.
"""

from __future__ import annotations

import argparse
import os
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from ledger import RequestEvents, disk_us, requests

from cascade.core.auditing import LowestConfidence, lowest_draw, why_sampled
from cascade.core.bound_policy import BoundPolicy
from cascade.core.policy import Policy
from cascade.core.policy.operations import Audit, Ledger
from cascade.hooks import wait
from cascade.ledger.hook import LedgerHook
from cascade.ledger.opening import open_ledger
from cascade.policy.binding import bind_policy
from cascade.policy.loading import load_policy

BOUND_US = 50.0
_WARM = 300
_LEVELS = (0.99, 0.97, 0.95, 0.95, 0.95, 0.92, 0.9, 0.88, 0.85)  # confidences clump


@dataclass(frozen=True, slots=True)
class SamplingCost:
    """In µs.

    `off`, `on`: a request, p50. `added`: the paired difference on average, without the tenth that is furthest away, which is the
    machine's noise. `added_p50`: its median. `waits`: of each sampled request.
    """

    off: float
    on: float
    added: float
    added_p50: float
    waits: tuple[float, ...]


def _events(plan: BoundPolicy) -> Iterator[RequestEvents]:
    """The ledger benchmark's requests, with confidences that differ."""
    chance = random.Random(2)
    for events in requests(plan):
        answer = events.end.answer
        assert answer is not None
        yield replace(events, end=replace(events.end, answer=replace(answer, confidence=chance.choice(_LEVELS))))


def _record(hook: LedgerHook, events: RequestEvents) -> tuple[float, float | None]:
    """Seconds on the caller's thread, and seconds of the wait at the end, None if there is nothing to wait for."""
    started = time.perf_counter()
    track = hook.begin(events.begun)
    for call in events.calls:
        track.calling(call)
    wanted = track.ended(events.end)
    took = time.perf_counter() - started
    if wanted is None:
        return took, None
    wait((wanted,))
    return took, time.perf_counter() - started - took


def sampling_cost(folder: Path, policy: Policy, audit: Audit, pairs: int) -> SamplingCost:
    """Measure in interleaved pairs, one request with `audit` and one without."""
    named = f"{audit.sample}-{audit.lowest_confidence}"
    sides: list[tuple[LedgerHook, Iterator[RequestEvents], list[float]]] = []
    writers = [open_ledger(folder / f"{named}-{side}.db", Ledger()) for side in ("off", "on")]
    for writer, own in zip(writers, (None, audit), strict=True):
        plan = bind_policy(policy.model_copy(update={"audit": own}))
        sides.append((LedgerHook(writer, Ledger()), islice(_events(plan), pairs + _WARM), []))
    waits: list[float] = []
    for number in range(pairs + _WARM):
        for hook, events, times in sides if number % 2 else reversed(sides):
            took, waited = _record(hook, next(events))
            if number >= _WARM:
                times.append(took * 1e6)
                if waited is not None:
                    waits.append(waited * 1e6)
        if number % 200 == 199:
            for writer in writers:
                writer.flush()
    for writer in writers:
        writer.close()
    off, on = (times for _, _, times in sides)
    differences = sorted(with_it - without for with_it, without in zip(on, off, strict=True))
    tail = len(differences) // 20
    return SamplingCost(
        statistics.median(off), statistics.median(on), statistics.mean(differences[tail : len(differences) - tail]),
        statistics.median(differences), tuple(waits),
    )  # fmt: skip


def decision_us(count: int) -> float:
    """The two decisions alone, µs a request."""
    chance, lowest, audit = random.Random(3), LowestConfidence(), Audit()
    names = [(f"casc_{number:032x}", chance.choice(_LEVELS)) for number in range(count)]
    started = time.perf_counter()
    for name, confidence in names:
        is_lowest = lowest.add(("haiku", "self_reported"), confidence, lowest_draw(name), audit.lowest_confidence)
        why_sampled(name, audit.sample, is_lowest)
    return (time.perf_counter() - started) / count * 1e6


def main() -> int:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=6_000, help="pairs for each setting (default: 6,000)")
    parser.add_argument("--folder", type=Path, help="folder for the ledgers (default: the system's temporary folder)")
    given = parser.parse_args()
    policy, added = load_policy("default", environment={}), 0.0
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        print(
            f"SQLite {sqlite3.sqlite_version}; the disk syncs 4 KB in {disk_us(folder):.0f} µs; {os.cpu_count()} cores;"
            f" {given.pairs} interleaved pairs; decision alone {decision_us(20_000):.1f} µs"
        )
        print(
            f"{'sample, lowest':16}{'off µs':>9}{'on µs':>9}{'ratio':>8}{'added µs':>10}{'p50':>8}   sampled, and waited"
        )
        for sample, lowest in ((0.0, 0.0), (0.01, 0.05)):
            audit = Audit(sample=sample, lowest_confidence=lowest)
            found = sampling_cost(folder, policy, audit, given.pairs)
            waited = "0"
            if found.waits:
                middle, most = statistics.median(found.waits), max(found.waits)
                waited = f"{len(found.waits)}, p50 {middle:,.0f} µs, longest {most:,.0f} µs"
            print(
                f"{f'{sample:g}, {lowest:g}':16}{found.off:>9.1f}{found.on:>9.1f}{found.on / found.off:>8.2f}"
                f"{found.added:>10.1f}{found.added_p50:>8.1f}   {waited}"
            )
            added = found.added
    print(f"added at the default shares, waits aside: {added:.1f} µs (bound: {BOUND_US:.0f})")
    return 0 if added <= BOUND_US else 1


if __name__ == "__main__":
    sys.exit(main())
