"""Dask workers under SIGKILL in the middle of `record` and of `audit run`: nothing is lost, nothing is paid twice, no budget is overspent.

    python benchmarks/workers_killed.py [--runs 4] [--kills 3] [--items 60] [--seed 0] [--postgres URL]

Needs redis-server on the path. Each run starts two workers, and kills one of them at random, so many times, a random moment after a
random number of calls. Dask starts another in its place.

`record`: part of the synthetic support corpus is recorded from the emulator, with --max-usd counted in Redis. Every other run has a cap
of about half of what it costs, and is then finished under a higher one. Then the corpus must equal that of an undisturbed single process,
byte for byte; replies paid beyond one per call must have been in flight at a kill; and what the emulator has billed must never pass the
cap by more than the most that one call may cost. `audit run`: as benchmarks/audit_killed.py. Exits with 1 if any of this does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.audit_killed import AT_ONCE, OPUS, POLICY, Result, Watched, _look, _ship, patched
from benchmarks.record_kill import different_inputs
from cascade.audit.run import AuditSettings
from cascade.audit.workers import AUDIT_MODULES, SpreadAudit
from cascade.cluster import open_cluster
from cascade.core import prices
from cascade.core.policy import Policy
from cascade.corpora import write_corpus
from cascade.emulator import Emulator
from cascade.policy.loading import load_policy
from cascade.policy.pricing import rates_of
from cascade.recording.inputs import read_inputs
from cascade.recording.progress import Report, Settings
from cascade.recording.recorder import Recorder
from cascade.recording.workers import RECORDING_MODULES, Spreading

CONCURRENCY = 3
LATENCY_S = 0.001  # per token: a reply takes about 10 to 60 ms, so that calls are in flight at a kill
WITHIN_S = 0.05
FAULTS = "rate_limit=0.03,overloaded=0.03,reset=0.03,retry_after=0.02"
# Calls that may cost little, so that many of them have room in a small cap.
RECORDED_BY = f"""
version: 1
name: killed
ladder:
  - {{rung: haiku, model: claude-haiku-5-5, threshold: 0.80, max_tokens: 128, thinking: disabled}}
  - {{rung: sonnet, model: claude-sonnet-5-5, threshold: 0.80, max_tokens: 128, effort: low}}
  - {{rung: opus, model: {OPUS}, max_tokens: 128, effort: low}}
retry: {{attempts: 12, max_wait_s: 0.02}}
"""


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a run of `record` did. Amounts in nano-USD."""

    killed: int
    calls: int
    paid: int
    billed: int
    cap: int
    overshoot: int
    faults: tuple[str, ...]


class Killer:
    """Kills one of this process's workers after a number of calls, again and again."""

    def __init__(self, kills: int, chance: random.Random, most_calls: int) -> None:
        self.left, self.killed, self._chance, self._most = kills, 0, chance, most_calls
        self._after = chance.randint(1, most_calls)
        self._lock = threading.Lock()

    def note(self) -> None:
        """A call was taken in."""
        with self._lock:
            self._after -= 1
            if self._after > 0 or not self.left:
                return
            self.left -= 1
            self._after = self._chance.randint(1, self._most)
            delay_s = self._chance.uniform(0, WITHIN_S)
        threading.Timer(delay_s, self._kill).start()

    def _kill(self) -> None:
        if found := worker_processes(os.getpid()):
            with suppress(ProcessLookupError):
                os.kill(self._chance.choice(found), signal.SIGKILL)
                self.killed += 1


def worker_processes(parent: int) -> list[int]:
    """The ids of the processes that `parent` has as workers: each is forked from its one process that has the imports."""
    found = list[tuple[int, int, bool]]()
    for process in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            told = (process / "stat").read_text().rpartition(")")[2].split()
            is_forked = b"forkserver" in (process / "cmdline").read_bytes()
            if told[0] != "Z":
                found.append((int(process.name), int(told[1]), is_forked))
    sources = {one for one, of, is_forked in found if of == parent and is_forked}
    return sorted(one for one, of, is_forked in found if of in sources and is_forked)


class Counting(Emulator):
    """Tells each call it takes in."""

    on_call: Callable[[], object] = staticmethod(lambda: None)

    def note(self, request: Any) -> None:
        """Count a call."""
        super().note(request)
        self.on_call()


def run_record(folder: Path, redis: str, *, items: int, kills: int, seed: int, capped: bool) -> Recorded:
    """Record with workers that are killed, and compare. `capped`: at first with half of the money."""
    (folder / "policy.yaml").write_text(RECORDED_BY, encoding="utf-8")
    chance, corpus, policy = random.Random(seed), different_inputs(items), load_policy(folder / "policy.yaml")
    source, target, calm = (folder / name for name in ("inputs.jsonl", "killed.jsonl", "calm.jsonl"))
    write_corpus(source, corpus.manifest, corpus.items)
    inputs = read_inputs(source)
    cost = sum(round((one.cost_usd or 0) * 1e9) for item in corpus.items for one in item.replies.values())
    settings = Settings(policy, target, concurrency=CONCURRENCY, name="corpus", cap=10_000 * cost)
    faults = list[str]()
    with (
        Counting(corpus, faults=FAULTS, seed=seed, token_latency_s=LATENCY_S) as emulator,
        patched(ANTHROPIC_BASE_URL=emulator.base_url, ANTHROPIC_API_KEY="emulator", CASCADE_STATE=redis),
    ):
        killer = Killer(kills, chance, max(2, 3 * items // (kills + 1)))
        emulator.on_call = killer.note
        billed = overshoot = 0
        if capped:
            report = _spread(replace(settings, cap=cost // 2), inputs)
            billed, overshoot = _billed(emulator, policy), report.overshoot
            if report.stop is None or report.stop.kind != "cap":
                faults.append(f"with half of the money it ended by {report.stop}")
            if billed > cost // 2 + overshoot:
                faults.append(f"{billed} nano-USD were billed, the cap is {cost // 2} and a call at most {overshoot}")
        report = _spread(settings, inputs)
        paid = emulator.billed.replies
        emulator.on_call = lambda: None
        emulator.token_latency_s = 0.0
        asyncio.run(Recorder.open(replace(settings, target=calm, cap=None), inputs).run())
    calls = 3 * items
    if not report.is_final:
        faults.append(f"it is not complete: {report.stop}, {dict(report.failed)}")
    if not 0 <= paid - calls <= killer.killed * CONCURRENCY:
        faults.append(f"{paid} replies were paid for {calls} calls and {killer.killed} kills")
    if target.exists() and target.read_bytes() != calm.read_bytes():
        faults.append("the corpus differs from that of an undisturbed run")
    if left := sorted(path.name for path in folder.iterdir() if "journal" in path.name):
        faults.append(f"left behind: {left}")
    return Recorded(
        killer.killed, calls, paid, billed, cost // 2 if capped else settings.cap or 0, overshoot, tuple(faults)
    )


def _billed(emulator: Emulator, policy: Policy) -> int:
    """What the emulator has billed, in nano-USD."""
    rates = {rung.model: rates_of(rung) for rung in policy.ladder}
    return sum(prices.total(rates[model], (tally.usage,)) for model, tally in emulator.billed.models.items())


def _spread(settings: Settings, inputs: Any) -> Report:
    spreading = Spreading(settings, inputs, 2)
    cluster = open_cluster(None, 2, modules=RECORDING_MODULES)
    try:
        spreading.spread(cluster)
        return asyncio.run(spreading.finish())
    finally:
        cluster.close()


class Heard(Watched):
    """As of the audit's benchmark, and tells each call it takes in."""

    on_call: Callable[[], object] = staticmethod(lambda: None)

    def note(self, request: Any) -> None:
        """Count a call."""
        super().note(request)
        self.on_call()


def run_audit(address: str, folder: Path, *, samples: int, kills: int, seed: int, workers: int = 2) -> Result:
    """Grade with workers that are killed, and look."""
    path = folder / "killed.yaml"
    path.write_text(POLICY.replace("DEADLINE", "60"), encoding="utf-8")
    policy, chance = load_policy(path), random.Random(seed)
    with (
        Heard() as emulator,
        patched(ANTHROPIC_BASE_URL=emulator.base_url, ANTHROPIC_API_KEY="emulator", CASCADE_HOME=str(folder)),
    ):
        shipped = _ship(policy, address, samples)
        emulator.token_latency_s = LATENCY_S
        killer = Killer(kills, chance, max(2, 2 * samples // (kills + 1)))
        emulator.on_call = killer.note
        cluster = open_cluster(None, workers, modules=AUDIT_MODULES)
        try:
            run = SpreadAudit(AuditSettings(policy, address), workers, cluster).run()
        finally:
            cluster.close()
        failed = [] if run.stop is None else [f"stopped by {run.stop}"]
        return _look(address, emulator, shipped, killer.killed, failed)


def main() -> int:
    """Run the benchmark, and print its results."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("runs", 4), ("kills", 3), ("items", 60), ("seed", 0)):
        options.add_argument(f"--{name}", type=int, default=default)
    options.add_argument(
        "--postgres", metavar="URL", help="an empty database's address: the audit's ledger is there too"
    )
    given = options.parse_args()
    from tests.servers import RedisServer  # noqa: PLC0415 - starts redis-server

    sound = True
    with RedisServer() as redis:
        for number in range(given.runs):
            with tempfile.TemporaryDirectory() as folder:
                one = run_record(
                    Path(folder), redis.url, items=given.items, kills=given.kills, seed=given.seed + number,
                    capped=number % 2 == 1,
                )  # fmt: skip
            sound &= not one.faults
            capped = (
                f"; under a cap of {one.cap / 1e9:.4f} USD {one.billed / 1e9:.4f} were billed" if one.billed else ""
            )
            print(f"record, run {number}: {one.killed} kills -9, {one.calls} calls, {one.paid} replies paid{capped}")
            print("\n".join(f"  {fault}" for fault in one.faults) or "  equals an undisturbed run, byte for byte")
    for number in range(given.runs):
        with tempfile.TemporaryDirectory() as folder:
            address = given.postgres if given.postgres and number == 0 else str(Path(folder) / "ledger.db")
            result = run_audit(address, Path(folder), samples=given.items, kills=given.kills, seed=given.seed + number)
        sound &= not result.faults
        calls = ", ".join(f"{kind} {count}" for kind, count in sorted(result.calls.items()))
        print(
            f"audit, run {number}: {result.killed} kills -9, {result.samples} samples, {AT_ONCE} at a time each; calls: {calls}"
        )
        print(
            "\n".join(f"  {fault}" for fault in result.faults)
            or "  every sample graded exactly once, none lost or skipped"
        )
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
