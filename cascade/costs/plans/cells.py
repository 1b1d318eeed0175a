"""Figures by kind of work and assigned rung: how often the rung's first answer did not stand, and what that cost.

Each run counts once in a rate, by the share of its subtasks of the kind that failed: results of one run resemble each other. Figures are
kept apart by the versions of the words that planner, executor and reviewer were asked in.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import NamedTuple

from cascade.costs.plans.bounds import interval, lower_bound
from cascade.costs.plans.subtasks import ROLES, ControlSaid, RunRecord, SubtaskRecord

__all__ = ["Added", "Cell", "CellKey", "Rate", "Versions", "add_up"]


_MOST_CONTROLS = 500  # of a reviewer, the newest; fewer of them decide whether it is believed


class Versions(NamedTuple):
    """Of the words that a run's roles were asked in; "" where none is on record."""

    planner: str = ""
    executor: str = ""
    reviewer: str = ""


class CellKey(NamedTuple):
    """A kind of work (the policy's task) and the rung that the plan assigns."""

    kind: str
    assigned: str


@dataclass(slots=True)
class Rate:
    """Runs, and the sum of their shares of failures. `is_single`: no run has several results."""

    runs: int = 0
    failed: float = 0.0
    is_single: bool = True

    @property
    def value(self) -> float | None:
        """From 0 to 1; None without runs."""
        return self.failed / self.runs if self.runs else None

    def add_run(self, failed: int, of: int) -> None:
        """Count a run with `of` results."""
        self.runs += 1
        self.failed += failed / of
        self.is_single = self.is_single and of == 1

    def add(self, other: Rate) -> None:
        """Count the runs of another."""
        self.runs += other.runs
        self.failed += other.failed
        self.is_single = self.is_single and other.is_single

    def interval(self, delta: float = 0.05) -> tuple[float, float]:
        """At 1 - delta (`bounds`)."""
        return interval(self.failed, self.runs, single=self.is_single, delta=delta)

    def at_least(self, delta: float) -> float:
        """The lower bound alone, at 1 - delta."""
        return lower_bound(self.failed, self.runs, delta, single=self.is_single)

    def at_most(self, delta: float) -> float:
        """The upper bound alone, at 1 - delta."""
        return 1 - lower_bound(self.runs - self.failed, self.runs, delta, single=self.is_single)


@dataclass(slots=True)
class Cell:
    """The subtasks of one kind that were assigned one rung. Money in nano-USD.

    subtasks    of which the fate of the assigned rung's answer is known
    climbed     of them: that answer did not stand by the ladder's rule
    sent_back   it stood, and the reviewer sent it to the rung above (retry)
    unsettled   it stood, and the reviewer says that no model can settle it (escalate): no fault of the assignment
    reviewed    of them: with a usable verdict on the first result
    unknown     beside them: an error, a budget, the deadline or a storm came first, or no end is on record
    escalated   of them: the first attempt went above the assigned rung
    cost        of them, reviews included; `below`: of that, of the rungs below the assigned one
    failed_after, stood_after   what was paid after the assigned rung's first answer, where it failed and where it stood
    higher, asked_higher        what the calls of the rung above cost, and how many there were
    below_stood, asked_below    where the rung below was asked: whether it would have stood by its own confidence
    """

    subtasks: int = 0
    climbed: int = 0
    sent_back: int = 0
    unsettled: int = 0
    reviewed: int = 0
    unknown: int = 0
    escalated: int = 0
    cost: int = 0
    below: int = 0
    failed_after: int = 0
    stood_after: int = 0
    higher: int = 0
    asked_higher: int = 0
    below_stood: int = 0
    asked_below: int = 0
    rate: Rate = field(default_factory=Rate)
    """Of failures: climbed or sent back."""
    by_rule: Rate = field(default_factory=Rate)
    """Of those that climbed alone: what is left where the reviewer is not believed."""

    def add(self, other: Cell) -> None:
        """Add another's figures."""
        for one in fields(self):
            mine, more = getattr(self, one.name), getattr(other, one.name)
            if isinstance(mine, Rate):
                mine.add(more)
            else:
                setattr(self, one.name, mine + more)

    def add_subtask(self, one: SubtaskRecord) -> None:
        """Count a subtask, without its run's rate."""
        if one.fate == "unknown":
            self.unknown += 1
            return
        climbed = one.fate == "climbed"
        sent_back = not climbed and one.review == "retry"
        self.subtasks += 1
        self.climbed += climbed
        self.sent_back += sent_back
        self.unsettled += not climbed and one.review == "escalate"
        self.reviewed += one.review in ("accept", "retry", "escalate")
        self.escalated += one.escalated
        self.cost += one.spent.whole
        self.below += one.spent.below
        if climbed or sent_back:
            self.failed_after += one.after
        else:
            self.stood_after += one.after
        if one.higher is not None:
            self.higher += one.higher
            self.asked_higher += 1
        if one.below_stood is not None:
            self.below_stood += one.below_stood
            self.asked_below += 1


@dataclass(slots=True)
class Added:
    """Everything that is kept of the runs read so far. `latest`: the versions of the last run in which each role has one."""

    cells: dict[Versions, dict[CellKey, Cell]] = field(default_factory=dict[Versions, "dict[CellKey, Cell]"])
    latest: dict[str, tuple[float, str]] = field(default_factory=dict[str, "tuple[float, str]"])
    controls: dict[str, list[ControlSaid]] = field(default_factory=dict[str, "list[ControlSaid]"])
    runs: int = 0
    began_before: int = 0
    others: dict[str, int] = field(default_factory=dict[str, int])


def add_up(runs: Iterable[RunRecord], policy: str) -> Added:
    """The figures of one policy's runs. `others`: subtasks of other policies, by name; `began_before`: those that began before the period."""
    found = Added()
    for run in runs:
        if run.policy != policy:
            found.others[run.policy] = found.others.get(run.policy, 0) + len(run.subtasks)
            continue
        versions = Versions(*(run.versions.get(role, "") for role in ROLES))
        for role, version in run.versions.items():
            if run.last >= found.latest.get(role, (0.0, ""))[0]:
                found.latest[role] = run.last, version
        if run.controls:
            items = found.controls.setdefault(versions.reviewer, [])
            items.extend(one for one in run.controls if one.verdict is not None)
            if len(items) > 2 * _MOST_CONTROLS:
                items.sort()
                del items[:-_MOST_CONTROLS]
        if not run.subtasks:
            continue
        found.runs += 1
        found.began_before += _add_run(found.cells.setdefault(versions, {}), run)
    return found


def _add_run(cells: dict[CellKey, Cell], run: RunRecord) -> int:
    """Count a run's subtasks; returns how many began before the period."""
    began_before, shares = 0, dict[CellKey, list[tuple[bool, bool]]]()
    for one in run.subtasks.values():
        if not one.began:
            began_before += 1
            continue
        key = CellKey(one.kind, one.assigned)
        cells.setdefault(key, Cell()).add_subtask(one)
        if one.fate != "unknown":
            climbed = one.fate == "climbed"
            shares.setdefault(key, []).append((climbed or one.review == "retry", climbed))
    for key, known in shares.items():
        cells[key].rate.add_run(sum(failed for failed, _ in known), len(known))
        cells[key].by_rule.add_run(sum(climbed for _, climbed in known), len(known))
    return began_before
