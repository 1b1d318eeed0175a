"""A simulated fleet of planned runs: `python benchmarks/plan_fleet.py [--ledgers N] [--runs N] [--processes N]`.

A planner assigns kinds of work their rungs, and one kind, edge_cases, too low a one: of its Haiku results 45 % do not stand. Half of them say so
by a low confidence and climb, the other half are sent back by the reviewer. Subtasks of one run resemble each other: some of them draw their luck together.

1. A ledger of so many runs, written by the real hook and writer: the report names edge_cases at haiku, and no other kind. Its hints go to the planner,
   which follows them, and a second ledger shows what then fails.
2. Many ledgers, drawn without writing them: how often a report names the kind, by the number of runs; and how often one names any kind
   where every kind fails exactly as often as the limit allows, the worst case for false alarms. For comparison, the same without care for
   runs (every subtask by itself) and for the number of kinds (each at 95 %).

Exits with 1 if the kind is not named within the given runs, if another one is, if false alarms are more frequent than stated beyond chance, or if
the failures do not fall.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random

from cascade.core import prices
from cascade.core.bound_policy import BoundPolicy
from cascade.core.messages import Request, Usage
from cascade.core.planning.hints import Hints
from cascade.core.planning.part import Part, Role
from cascade.core.policy import Policy, Rung
from cascade.core.policy.operations import Ledger
from cascade.core.prepared import Assessment
from cascade.core.trail import Answer, Step, Verdict
from cascade.costs.plans.bounds import interval, lower_bound
from cascade.costs.plans.hints import hints_of
from cascade.costs.plans.report import ALPHA, LIMIT, PlanReport, plan_report
from cascade.costs.plans.subtasks import RunRecord, runs_of
from cascade.hooks import Begun, Calling, Ended, wait
from cascade.ledger.hook import LedgerHook
from cascade.ledger.opening import open_ledger, open_reader
from cascade.ledger.records import OutcomeBody, PlanBody, RequestBody, StepBody
from cascade.ledger.requests import RequestRecord, gather
from cascade.policy.binding import bind_policy, bind_single
from cascade.policy.loading import parse_policy
from cascade.policy.roles import plan_roles

POLICY = """\
version: 1
name: fleet
ladder:
  - {rung: haiku, model: claude-haiku-5-5, threshold: 0.80, max_tokens: 2048, thinking: disabled}
  - {rung: sonnet, model: claude-sonnet-5-5, threshold: 0.80, max_tokens: 4096, effort: low}
  - {rung: opus, model: claude-opus-5-5, max_tokens: 8192}
tasks: [{name: extract}, {name: classify}, {name: edge_cases}, {name: compare}, {name: write}]
plan: {planner: sonnet, reviewer: sonnet}
"""
RUNGS = ("haiku", "sonnet", "opus")
START, BETWEEN_S = 1_795_000_500.0, 600.0
_BASELINE = 8_800_000  # what the top rung takes for the tokens of a subtask, in nano-USD
VERSIONS: Mapping[str, str] = plan_roles(parse_policy(POLICY, environment={}))


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of work. `each`: subtasks of it in a run; `fails`: how often a rung's result does not stand, by rung."""

    name: str
    assigned: str
    each: int
    fails: tuple[float, float, float]

    def doubts(self, index: int, luck: Sequence[float]) -> bool:
        """Whether the rung says itself that its result may not stand: it does of half of those that fail. The last one is not asked."""
        return index + 1 < len(RUNGS) and luck[index] < self.fails[index] / 2

    def is_wrong(self, index: int, luck: Sequence[float]) -> bool:
        """Whether the rung is sure of a result that is wrong."""
        return self.fails[index] / 2 <= luck[index] < self.fails[index]


KINDS = (
    Kind("extract", "haiku", 3, (0.06, 0.02, 0.0)),
    Kind("classify", "haiku", 1, (0.10, 0.04, 0.0)),
    Kind("edge_cases", "haiku", 1, (0.45, 0.08, 0.0)),
    Kind("compare", "sonnet", 2, (0.40, 0.08, 0.0)),
    Kind("write", "sonnet", 1, (0.50, 0.12, 0.0)),
)
AT_THE_LIMIT = tuple(
    Kind(name, assigned, each, (LIMIT, LIMIT, 0.0))
    for name, assigned, each in (
        ("extract", "haiku", 3), ("classify", "haiku", 1), ("edge_cases", "haiku", 1), ("compare", "sonnet", 2), ("write", "sonnet", 1),
    )
)  # fmt: skip
"""Every kind fails as often as the limit allows: a finding is a false alarm."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """What is simulated. `alike`: how often a subtask shares its run's luck with others of its kind. `hints`: what the planner follows."""

    kinds: tuple[Kind, ...] = KINDS
    alike: float = 0.5
    review_high: float = 0.1
    hints: Hints | None = None

    def assigned(self, kind: Kind) -> str:
        """The rung that the planner assigns: its own idea, or what it is told."""
        rung = kind.assigned
        for row in self.hints.rows if self.hints is not None else ():
            if (row.task, row.rung) == (kind.name, rung):
                rung = row.advice
        return rung


@dataclass(frozen=True, slots=True)
class Drawn:
    """One climb: each rung asked with its reason to escalate. `review`: what the reviewer said of the result; None: it was not asked."""

    steps: tuple[tuple[str, str | None], ...]
    assessment: str
    review: str | None


@dataclass(frozen=True, slots=True)
class DrawnSubtask:
    """A subtask and its climbs."""

    id: str
    kind: str
    assigned: str
    attempts: tuple[Drawn, ...]


def lucks(fleet: Fleet, seed: str) -> Iterator[tuple[Kind, str, tuple[float, ...]]]:
    """A run's subtasks: the kind, the id, and a number from 0 to 1 for each rung. It depends on nothing that is assigned or reviewed."""
    chance = Random(seed)
    for kind in fleet.kinds:
        shared = [chance.random() for _ in RUNGS]
        for number in range(kind.each):
            own = tuple(one if chance.random() < fleet.alike else chance.random() for one in shared)
            yield kind, f"{kind.name}_{number}", own


def draw_run(fleet: Fleet, seed: str) -> tuple[DrawnSubtask, ...]:
    """A run's subtasks, with what became of them."""
    return tuple(
        DrawnSubtask(name, kind.name, rung, tuple(_climbs(fleet, kind, rung, luck, Random(f"{seed}/{name}"))))
        for kind, name, luck in lucks(fleet, seed)
        for rung in (fleet.assigned(kind),)
    )


def _climbs(fleet: Fleet, kind: Kind, assigned: str, luck: Sequence[float], chance: Random) -> Iterator[Drawn]:
    """The first climb from Haiku, and one more from the rung above for each time the reviewer sends the result back."""
    floor, first = RUNGS.index(assigned), 0
    while True:
        steps: list[tuple[str, str | None]] = []
        for index in range(first, len(RUNGS)):
            reason = "low_confidence" if kind.doubts(index, luck) else "floor" if index < floor else None
            steps.append((RUNGS[index], reason))
            if reason is None:
                break
        last = RUNGS.index(steps[-1][0])
        wrong = kind.is_wrong(last, luck)
        assessment = "medium" if wrong or chance.random() < 0.2 else "high"
        is_read = assessment != "high" or chance.random() < fleet.review_high
        review = ("retry" if wrong else "accept") if is_read else None
        yield Drawn(tuple(steps), assessment, review)
        if review != "retry" or last + 1 == len(RUNGS):
            return
        first = floor = last + 1


# -- a ledger ----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Scribe:
    """Tells the ledger's hook of runs, as the engine does."""

    hook: LedgerHook
    bound: BoundPolicy
    now: float = START
    calls: dict[str, BoundPolicy] = field(default_factory=dict[str, BoundPolicy])

    def tell(self, number: int, drawn: tuple[DrawnSubtask, ...]) -> None:
        """One run: its plan, its climbs, its reviews."""
        run, self.now = f"run_{number:05d}", START + number * BETWEEN_S
        self._one_call(Part(run, "planner", rung="sonnet"), "other", Usage(1_500, 900), {})
        for subtask in drawn:
            for attempt, climb in enumerate(subtask.attempts):
                part = Part(run, "executor", subtask.id, subtask.kind, subtask.assigned, attempt)
                self._climb(part, climb)
                if climb.review is not None:
                    reviewing = Part(run, "reviewer", subtask.id, subtask.kind, subtask.assigned, attempt, "sonnet")
                    self._one_call(reviewing, subtask.kind, Usage(1_400, 80), {"verdict": climb.review})

    def _climb(self, part: Part, climb: Drawn) -> None:
        steps = tuple(
            Step(
                RUNGS.index(rung), rung, self._rung(rung).model,
                Verdict("answered", 0.5 if reason == "low_confidence" else 0.9, "self_reported", "a result",
                        assessment=Assessment(climb.assessment, "it seems so")),  # type: ignore[arg-type]
                Usage(1_200, 200), prices.cost(self.bound.rates[RUNGS.index(rung)], Usage(1_200, 200)),
                reason=reason,  # type: ignore[arg-type]
            )
            for rung, reason in climb.steps
        )  # fmt: skip
        self._tell(self.bound, part, part.kind, steps, None)

    def _one_call(self, part: Part, task: str, usage: Usage, data: dict[str, str]) -> None:
        rung = self._rung(part.rung)
        bound = self.calls.setdefault(part.rung, bind_single(self.bound, rung))
        verdict = Verdict("answered", text="{}", data=data)
        step = Step(0, rung.rung, rung.model, verdict, usage, prices.cost(bound.rates[0], usage))
        self._tell(bound, part, task, (step,), data)

    def _tell(self, bound: BoundPolicy, part: Part, task: str, steps: tuple[Step, ...], data: object) -> None:
        self.now += 1
        request = Request(({"role": "user", "content": "a subtask"},), id=f"casc_{round(self.now * 1000):x}{part.role}")
        last, policy = steps[-1], bound.policy
        answer = Answer(
            last.verdict.text, data, last.rung, last.model, last.verdict.confidence, last.verdict.source, steps, last.usage,
            sum(step.cost_nanousd for step in steps), None, None, len(steps), 1.0, request.id, task, (), {}, policy.name, policy.hash,
            arm=part.role,
        )  # fmt: skip
        begun = Begun(bound, request, task, part.role, self.now, part=part, prompts={part.role: VERSIONS[part.role]})
        track = self.hook.begin(begun)
        for at, step in enumerate(steps):
            if (wanted := track.calling(Calling(step.index, self._rung(step.rung), steps[:at], 1_000))) is not None:
                wait((wanted,))
        estimate = None if part.role != "executor" else 0 if part.attempt else _BASELINE
        if (wanted := track.ended(Ended(steps, answer, None, 1.0, estimate))) is not None:
            wait((wanted,))

    def _rung(self, name: str) -> Rung:
        return self.bound.policy.ladder[RUNGS.index(name)]


def write_ledger(path: Path | str, fleet: Fleet, runs: int, seed: int = 0) -> None:
    """A ledger of so many runs."""
    writer, bound = open_ledger(path, Ledger()), bind_policy(policy())
    scribe = Scribe(LedgerHook(writer, Ledger()), bound)
    scribe.hook = LedgerHook(writer, Ledger(), clock=lambda: scribe.now)
    for number in range(runs):
        scribe.tell(number, draw_run(fleet, f"{seed}/{number}"))
        if number % 50 == 49:
            writer.flush()
    writer.close()


def policy() -> Policy:
    """The fleet's policy."""
    return parse_policy(POLICY, environment={})


def report_of(path: Path | str) -> PlanReport:
    """The report of a ledger."""
    reader = open_reader(path)
    try:
        return plan_report(runs_of(gather(reader)), "fleet", RUNGS)
    finally:
        reader.close()


# -- many ledgers, not written -----------------------------------------------------------------------------------


def runs_drawn(fleet: Fleet, runs: int, seed: int = 0) -> Iterator[RunRecord]:
    """The same runs as in the ledger with this seed, without money."""
    return runs_of(one for number in range(runs) for one in _records(number, draw_run(fleet, f"{seed}/{number}")))


def _records(number: int, drawn: tuple[DrawnSubtask, ...]) -> Iterator[RequestRecord]:
    at = START + number * BETWEEN_S
    for subtask in drawn:
        for attempt, climb in enumerate(subtask.attempts):
            part = PlanBody(f"run_{number:05d}", subtask.id, subtask.assigned, attempt)
            steps = [
                (at, StepBody(RUNGS.index(rung), rung, rung, "answered", 0, reason=why)) for rung, why in climb.steps
            ]
            final = climb.steps[-1][0]
            ended = OutcomeBody(
                "executor", 0, len(steps), 1.0, final, final, resolved=True, assessment=climb.assessment
            )
            yield RequestRecord("", at, "w", _request(subtask, part, "executor"), steps, {}, ended, at)
            if climb.review is not None:
                said = OutcomeBody("reviewer", 0, 1, 1.0, "sonnet", "sonnet", resolved=True, review=climb.review)
                yield RequestRecord("", at, "w", _request(subtask, part, "reviewer"), [], {}, said, at)


def _request(subtask: DrawnSubtask, part: PlanBody, role: Role) -> RequestBody:
    return RequestBody("fleet", "h", "p", subtask.kind, role, prompts={role: VERSIONS[role]}, plan=part)


@dataclass(frozen=True, slots=True)
class Named:
    """What one ledger's report names: the kinds, and those that careless ways would name."""

    kinds: frozenset[str]
    by_subtasks: frozenset[str]
    one_by_one: frozenset[str]


def named_in(seed: int, fleet: Fleet, runs: int) -> Named:
    """The report of one drawn ledger."""
    report = plan_report(runs_drawn(fleet, runs, seed), "fleet", RUNGS)
    each = [line for line in report.lines if line.above is not None]
    delta = ALPHA / max(1, report.tested)
    return Named(
        frozenset(line.kind for line in report.under_routed),
        frozenset(
            line.kind for line in each if lower_bound(line.failed, line.cell.subtasks, delta, single=True) > LIMIT
        ),
        frozenset(line.kind for line in each if line.rate.at_least(ALPHA) > LIMIT),
    )


def series(fleet: Fleet, runs: int, ledgers: int, processes: int = 1) -> list[Named]:
    """Many ledgers, a seed each."""
    work = partial(named_in, fleet=fleet, runs=runs)
    if processes == 1:
        return [work(seed) for seed in range(ledgers)]
    with ProcessPoolExecutor(processes) as pool:
        return list(pool.map(work, range(ledgers), chunksize=10))


def _percent(count: int, of: int) -> str:
    low, high = interval(count, of, single=True)
    return f"{count / of:6.1%} ({low:.1%} to {high:.1%})"


def main() -> int:
    """Simulate, print, judge."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--ledgers", type=int, default=1_000, help="drawn ledgers (default: 1,000)")
    parser.add_argument("--runs", type=int, default=200, help="runs of a ledger (default: 200)")
    parser.add_argument("--processes", type=int, default=2, help="worker processes (default: 2)")
    given = parser.parse_args()
    failed = False
    with tempfile.TemporaryDirectory() as name:
        before = _print_ledger(Path(name) / "before.db", Fleet(), given.runs, "the planner by itself")
        hints = hints_of(before, "2026-11-29")
        after = _print_ledger(Path(name) / "after.db", Fleet(hints=hints), given.runs, "the planner with the hints")
    rates = [_failures(one) for one in (before, after)]
    print(f"failures at the assigned rung: {rates[0]:.1%} of all subtasks by itself, {rates[1]:.1%} with the hints")
    failed |= {line.kind for line in before.under_routed} != {"edge_cases"} or rates[1] >= rates[0]
    print(f"\n{given.ledgers} drawn ledgers each; in brackets the 95 % interval")
    for runs in (25, 50, 100, given.runs):
        found = series(Fleet(), runs, given.ledgers, given.processes)
        alone = sum(one.kinds == {"edge_cases"} for one in found)
        others = sum(bool(one.kinds - {"edge_cases"}) for one in found)
        print(f"{runs:5} runs: edge_cases and no other named in {_percent(alone, len(found))}, another kind in {_percent(others, len(found))}")  # fmt: skip
    found = series(Fleet(AT_THE_LIMIT), given.runs, given.ledgers, given.processes)
    print(
        f"every kind at the limit of {LIMIT:.0%}, {given.runs} runs: reports with a false alarm (stated: at most {ALPHA:.0%})"
    )
    for words, own in (
        ("as reported", [one.kinds for one in found]),
        ("every subtask by itself", [one.by_subtasks for one in found]),
        ("every kind at 95 %", [one.one_by_one for one in found]),
    ):
        count = sum(map(bool, own))
        print(f"  {words:24} {_percent(count, len(own))}")
        if words == "as reported":
            failed |= lower_bound(count, len(own), ALPHA, single=True) > ALPHA
    return 1 if failed else 0


def _print_ledger(path: Path, fleet: Fleet, runs: int, words: str) -> PlanReport:
    write_ledger(path, fleet, runs)
    report = report_of(path)
    print(f"\n{words}, {report.runs} runs on a ledger")
    print(
        f"{'kind':12}{'assigned':10}{'subtasks':>9}{'failed':>8}{'rate':>8}{'95 %':>16}{'USD each':>11}{'pays from':>11}  finding"
    )
    for line in report.lines:
        low, high = line.interval
        pays = f"{line.pays_from:.0%}" if line.pays_from is not None else ""
        print(
            f"{line.kind:12}{line.assigned:10}{line.cell.subtasks:>9}{line.failed:>8}{line.rate.value or 0:>8.1%}"
            f"{f'{low:.1%} to {high:.1%}':>16}{(line.per_subtask or 0) / 1e9:>11.5f}{pays:>11}  {line.finding}"
        )
    return report


def _failures(report: PlanReport) -> float:
    return sum(line.failed for line in report.lines) / sum(line.cell.subtasks for line in report.lines)


if __name__ == "__main__":
    sys.exit(main())
