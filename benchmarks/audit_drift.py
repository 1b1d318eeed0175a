"""Drift: false alarms, delays, and the ratchet: `python benchmarks/audit_drift.py [--seeds N] [--streams N] [--engine-seeds N] [--no-engine]`.

Synthetic and seeded. First streams of graded results, for the detectors alone (a policy's and four tasks', alpha 0.02, run length
A = 10,000): how often they alarm while every rate is what was certified, and how many results after a rise of the rate they alarm.
Then the real engine on the emulator: `calibrate --write` certifies a policy at 2 %; its traffic becomes three times as often wrong as
was certified at one request; the audit samples every request, asks the top rung, grades, and ratchets, until the error shipped is below
2 % again. Exits with 1 if false alarms are more frequent than guaranteed, if the median delay at three times the rate is above 250
results, or if the error does not come down.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import anthropic

from cascade import Answer, AsyncCascade, Policy, load_policy
from cascade.audit.alarms import DriftWatch
from cascade.audit.detector import Detectors
from cascade.audit.drift import step_in_force
from cascade.audit.worker import AuditSettings, AuditWorker
from cascade.corpora import Item, LadderEntry, Manifest, RecordedReply
from cascade.corpora.writing import write_corpus
from cascade.emulator import Emulator
from cascade.emulator.scripting import ScriptedReply
from cascade.ledger.audit import AuditTables
from cascade.policy.binding import bind_policy
from cascade.policy.ratchet import ratcheted, steps_of

ALPHA, RUN_LENGTH, TASKS = 0.02, 10_000, ("refund", "billing", "returns", "other")
CHANGES = (0, 250, 1_000, 3_000)
"""After how many results the rate rises."""

Command = Callable[..., Any]


def detectors() -> Detectors:
    """The detectors of a policy and of four tasks, all certified at ALPHA."""
    return Detectors(ALPHA, dict.fromkeys(TASKS, ALPHA), RUN_LENGTH)


def false_alarms(streams: int, most: int) -> tuple[int, int]:
    """Alarms and results of so many streams at the certified rate, each stopped at its first alarm or after `most`."""
    alarms = results = 0
    for seed in range(streams):
        draws, watched = random.Random(f"calm/{seed}"), detectors()
        for _ in range(most):
            results += 1
            if watched.update(draws.choice(TASKS), float(draws.random() < ALPHA)):
                alarms += 1
                break
    return alarms, results


def delays(times: float, seeds: int, change: int) -> list[int]:
    """By seed: results from the rise of the rate to `times` ALPHA, which comes after `change` results, to the alarm.

    Streams with a false alarm before the rise start anew with it, as after a ratchet step.
    """
    found: list[int] = []
    for seed in range(seeds):
        draws, watched, after = random.Random(f"{times}/{change}/{seed}"), detectors(), 0
        for _ in range(change):
            if watched.update(draws.choice(TASKS), float(draws.random() < ALPHA)):
                watched = detectors()
        while True:
            after += 1
            if watched.update(draws.choice(TASKS), float(draws.random() < times * ALPHA)):
                break
        found.append(after)
    return found


LEVELS = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.99)
_WEIGHTS = (0.06, 0.06, 0.08, 0.12, 0.14, 0.2, 0.2, 0.14)
_WRONG = {
    "haiku": (0.35, 0.28, 0.20, 0.12, 0.08, 0.035, 0.015, 0.006),
    "sonnet": (0.20, 0.15, 0.10, 0.06, 0.03, 0.015, 0.006, 0.002),
}
_USAGE = {"input_tokens": 300, "output_tokens": 60}
_MODELS = {"haiku": "claude-haiku-5-5", "sonnet": "claude-sonnet-5-5", "opus": "claude-opus-5-5"}
_USD = {"haiku": 6e-5, "sonnet": 1.2e-3, "opus": 2.4e-3}  # of _USAGE, at list prices
_TICKET = re.compile(r"ticket (\d+) of (calm|bad) days")

POLICY = """\
version: 1
name: desk
ladder:
  - {rung: haiku, model: claude-haiku-5-5, threshold: 0.80, max_tokens: 512, thinking: disabled}
  - {rung: sonnet, model: claude-sonnet-5-5, threshold: 0.80, max_tokens: 512, effort: low}
  - {rung: opus, model: claude-opus-5-5, max_tokens: 512}
ledger: {content: true}
audit: {sample: 1.0, lowest_confidence: 0, daily_usd: null, on_alarm: ratchet}
"""


@dataclass(frozen=True, slots=True)
class Traffic:
    """Tickets, and what the rungs reply. `times`: how much more often the rungs below the top are wrong on bad days."""

    times: float = 1.0
    seed: int = 0

    def reply(self, number: int, rung: str, *, bad: bool) -> tuple[float, bool]:
        """A rung's confidence in its answer to a ticket, and whether that is right. The top rung's always is."""
        draws = random.Random(f"{rung}/{number}/{self.seed}")
        level = draws.choices(range(len(LEVELS)), _WEIGHTS)[0]
        if rung == "opus":
            return LEVELS[level], True
        return LEVELS[level], draws.random() >= min(1.0, _WRONG[rung][level] * (self.times if bad else 1.0))

    def error(self, policy: Policy, *, bad: bool) -> float:
        """The probability that the policy ships a wrong answer."""
        reaching, error = 1.0, 0.0
        for rung in policy.ladder[:-1]:
            threshold = 2.0 if rung.threshold is None else rung.threshold
            shipped = [at for at, level in enumerate(LEVELS) if level >= threshold]
            wrong = [min(1.0, _WRONG[rung.rung][at] * (self.times if bad else 1.0)) for at in shipped]
            error += reaching * sum(_WEIGHTS[at] * p for at, p in zip(shipped, wrong, strict=True))
            reaching *= 1 - sum(_WEIGHTS[at] for at in shipped)
        return error

    def script(self, body: dict[str, Any], _: Mapping[str, str]) -> ScriptedReply:
        """The emulator's reply."""
        found = _TICKET.search(json.dumps(body["messages"][-1]["content"]))
        assert found is not None
        rung = next(rung for rung, model in _MODELS.items() if model == body["model"])
        confidence, is_right = self.reply(int(found[1]), rung, bad=found[2] == "bad")
        text = f"the answer to {found[1]}" if is_right else f"something else than {found[1]}"
        return ScriptedReply([{"type": "text", "text": text}], confidence=confidence, usage=_USAGE)

    def corpus(self, path: Path, items: int) -> None:
        """Write recorded tickets of calm days."""
        ladder = tuple(LadderEntry(rung, model) for rung, model in _MODELS.items())
        manifest = Manifest("desk", ladder, "exact", right_at=0.5, synthetic=True)
        write_corpus(path, manifest, [self._item(10_000_000 + number) for number in range(items)])

    def _item(self, number: int) -> Item:
        replies: dict[str, RecordedReply] = {}
        for rung in _MODELS:
            confidence, is_right = self.reply(number, rung, bad=False)
            text = f"the answer to {number}" if is_right else f"something else than {number}"
            own = None if rung == "opus" else confidence
            replies[rung] = RecordedReply(own, text, float(is_right), usage=_USAGE, cost_usd=_USD[rung])
        return Item(f"t{number}", f"ticket {number} of calm days", replies, expected=f"the answer to {number}")


@dataclass(frozen=True, slots=True)
class Stretch:
    """Requests of one kind of days at one step of the ratchet. `wrong`: shipped, and wrong. `cost`: in USD; `error`: what to expect."""

    bad: bool
    step: int
    thresholds: str
    requests: int
    wrong: int
    cost: float
    error: float

    @property
    def rate(self) -> float:
        """The share of the requests that got a wrong answer."""
        return self.wrong / self.requests


@dataclass(frozen=True, slots=True)
class Run:
    """What the engine's run found. `alarms`: the results of each detector's epoch when it alarmed. `audit`: its spend, in USD."""

    stretches: tuple[Stretch, ...]
    alarms: tuple[int, ...]
    audit: float
    limit: float
    steps: int


@dataclass(frozen=True, slots=True)
class Plan:
    """How long to run: `change` calm requests, then bad ones, at most `most` in all.

    It ends when `calm_after` of them passed at a step whose expected error is below what was certified, or with `once` at the
    first alarm. `at_once`: requests, and samples that are audited, at a time; with 1 a run is the same each time.
    """

    change: int = 500
    most: int = 6_000
    calm_after: int = 800
    batch: int = 50
    at_once: int = 4
    once: bool = False


def run(path: Path, traffic: Traffic, plan: Plan) -> Run:
    """Send the traffic through the policy at this path, and audit every request; the ledger is beside it."""
    return asyncio.run(_Running(path, traffic, plan).run())


class _Running:
    def __init__(self, path: Path, traffic: Traffic, plan: Plan) -> None:
        self._policy, self._traffic, self._plan = load_policy(path), traffic, plan
        self._path, self._ledger = path, str(path.with_name("ledger.db"))
        self._tables = AuditTables(self._ledger)
        self._watch = DriftWatch(self._policy, self._tables)
        self._stretches: dict[tuple[bool, int], list[Answer]] = {}
        self._alarms: list[int] = []
        self._quiet = self._sent = self._spent = 0
        self._limit = self._watch.look(time.time()).alpha

    async def run(self) -> Run:
        plan = self._plan
        with Emulator(script=self._traffic.script) as emulator:
            async with anthropic.AsyncAnthropic(base_url=emulator.base_url, api_key="test", max_retries=0) as client:
                while self._goes_on and not (plan.once and self._alarms):
                    await self._at_one_step(client)
        stretches = tuple(self._stretch(bad, step, found) for (bad, step), found in self._stretches.items())
        return Run(stretches, tuple(self._alarms), self._spent / 1e9, self._limit, steps_of(self._policy))

    @property
    def _goes_on(self) -> bool:
        return self._sent < self._plan.most and self._quiet < self._plan.calm_after

    async def _at_one_step(self, client: Any) -> None:
        """Send batches until a step is taken. A new driver reads the step when it is made; one that is at work does every 5 s."""
        step, plan = step_in_force(self._policy, self._tables.ratchet(self._policy.name)), self._plan
        ladder = ratcheted(bind_policy(self._policy), step).policy
        is_enough = self._traffic.error(ladder, bad=True) <= self._limit
        before = len(self._alarms)
        async with AsyncCascade(self._path, client=client, ledger=self._ledger) as driver:
            await asyncio.to_thread(_settle)
            while self._goes_on and len(self._alarms) == before:
                bad = self._sent >= plan.change
                answers = await self._batch(driver, "bad" if bad else "calm")
                self._stretches.setdefault((bad, step), []).extend(answers)
                self._quiet += len(answers) if bad and is_enough else 0
                settings = AuditSettings(self._policy, self._ledger, concurrency=plan.at_once)
                self._spent += (await AuditWorker(settings, client=client, on_graded=self._look).run()).spent

    async def _batch(self, driver: AsyncCascade, days: str) -> list[Answer]:
        slots = asyncio.Semaphore(self._plan.at_once)

        async def ask(number: int) -> Answer:
            async with slots:
                return await driver.ask(f"ticket {number} of {days} days")

        numbers = range(self._sent, self._sent + self._plan.batch)
        self._sent += self._plan.batch
        return await asyncio.gather(*map(ask, numbers))

    def _look(self) -> None:
        drift = self._watch.look(time.time())
        alarming = [rate.crossed_at or 0 for rate in drift.alarms]
        if alarming:
            self._alarms.append(alarming[0])
            self._quiet = 0

    def _stretch(self, bad: bool, step: int, answers: Sequence[Answer]) -> Stretch:
        ladder = ratcheted(bind_policy(self._policy), step).policy
        thresholds = ", ".join("never" if one.threshold is None else f"{one.threshold:g}" for one in ladder.ladder[:-1])
        wrong = sum(one.text is None or not one.text.startswith("the answer to") for one in answers)
        cost = sum(one.cost_nanousd for one in answers) / 1e9
        return Stretch(bad, step, thresholds, len(answers), wrong, cost, self._traffic.error(ladder, bad=bad))


def _settle() -> None:
    """Wait for drivers that read the step, however busy the machine is: they go on without it after 1 s."""
    for thread in threading.enumerate():
        if thread.name == "cascade-ratchet":
            thread.join(60)


def calibrated(folder: Path, items: int, command: Command) -> Path:
    """Write a policy and calibrate it, at ALPHA, on recorded tickets; its path."""
    path, corpus = folder / "desk.yaml", folder / "desk.jsonl"
    path.write_text(POLICY, encoding="utf-8")
    Traffic().corpus(corpus, items)
    command("calibrate", str(corpus), "-p", str(path), "--max-risk", str(ALPHA), "--write", str(path), "--force")
    return path


def tripled(path: Path) -> Traffic:
    """Traffic whose bad days are as bad as makes this policy ship three times ALPHA."""
    policy, low, high = load_policy(path), 1.0, 100.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if Traffic(middle).error(policy, bad=True) < 3 * ALPHA else (low, middle)
    return Traffic(low)


def in_a_process(*arguments: str) -> None:
    """Run a command in a process of its own."""
    done = subprocess.run([sys.executable, "-m", "cascade", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"cascade {' '.join(arguments)}: exit {done.returncode}\n{done.stderr}")


def _streams(streams: int, seeds: int) -> list[str]:
    """Print what the detectors do by themselves; returns what does not hold."""
    faults: list[str] = []
    alarms, results = false_alarms(streams, 10 * RUN_LENGTH)
    each = results / max(alarms, 1)
    print(f"synthetic; alpha {ALPHA:g}, run length {RUN_LENGTH:,}, a policy's and {len(TASKS)} tasks' detectors")
    print(
        f"at the certified rate: {alarms} alarms in {results:,} graded results of {streams} streams, one in {each:,.0f}"
    )
    if each < RUN_LENGTH:
        faults.append("false alarms are more frequent than guaranteed")
    for times in (3.0, 2.0, 1.5):
        for change in CHANGES:
            found = delays(times, seeds, change)
            late = quantiles(found, n=10)[8]
            print(
                f"the rate rises to {times:g} times after {change:,} results: alarm after {median(found):,.0f} (median of {seeds};"
                f" 90 %: {late:,.0f})"
            )
            if times == 3.0 and median(found) > 250:
                faults.append(f"the median delay at 3 times the rate, after {change:,} results, is above 250")
    return faults


def engine_delays(path: Path, traffic: Traffic, seeds: int) -> list[int]:
    """By seed: audited requests from the change to the first alarm, through the engine. A false alarm before it does not count."""
    plan, found = Plan(change=200, most=3_000, once=True), list[int]()
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as folder:
            own = Path(folder) / path.name
            own.write_bytes(path.read_bytes())
            alarms = run(own, replace(traffic, seed=seed + 1), plan).alarms
        found += [alarm - plan.change for alarm in alarms if alarm > plan.change]
    return found


def _engine(items: int, seeds: int) -> list[str]:
    """Print what the engine does; returns what does not hold."""
    with tempfile.TemporaryDirectory() as folder:
        path = calibrated(Path(folder), items, in_a_process)
        found = run(path, tripled(path), Plan())
        late = engine_delays(path, tripled(path), seeds)
    if late:
        print(
            f"through the engine, tripled after 200 requests: alarm after {median(late):,.0f} more (median of {len(late)} seeds)"
        )
    print(
        f"through the engine: certified at {found.limit:g}; {found.steps} steps; alarms after {list(found.alarms)} results of their epochs"
    )
    for one in found.stretches:
        days = "bad" if one.bad else "calm"
        print(
            f"  {days} days, step {one.step} ({one.thresholds}): {one.requests:,} requests, {one.rate:.2%} wrong (expected"
            f" {one.error:.2%}), {one.cost / one.requests * 1000:.3f} USD per 1,000"
        )
    first, last = found.stretches[0], found.stretches[-1]
    print(
        f"the bill rises from {first.cost / first.requests * 1000:.3f} to {last.cost / last.requests * 1000:.3f} USD per 1,000 requests;"
        f" the audit of every request cost {found.audit:.3f} USD"
    )
    return [] if last.bad and last.error <= found.limit else ["the error did not come down below what was certified"]


def main() -> None:
    """Run the benchmark, and print its results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=50, help="streams for each delay (default: 50)")
    parser.add_argument("--streams", type=int, default=40, help="streams at the certified rate (default: 40)")
    parser.add_argument("--items", type=int, default=6_000, help="recorded tickets to calibrate on (default: 6,000)")
    parser.add_argument(
        "--engine-seeds", type=int, default=0, help="runs of the engine up to the first alarm (default: none)"
    )
    parser.add_argument("--no-engine", action="store_true", help="only the detectors")
    given = parser.parse_args()
    faults = _streams(given.streams, given.seeds)
    if not given.no_engine:
        faults += _engine(given.items, given.engine_seeds)
    if faults:
        raise SystemExit("; ".join(faults))


if __name__ == "__main__":
    main()
