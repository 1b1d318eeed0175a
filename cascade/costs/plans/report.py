"""Which kinds of work planners assign a rung that is too low, beyond chance.

A kind is named where the lower bound of its rate of failures is above the limit. The bounds hold together: each at 1 - ALPHA / m, where m
counts the cells that are tested (Bonferroni). So a report names a kind whose rate is within the limit with probability at most ALPHA,
whatever the kinds have in common. That is per report: who makes a new one each morning sees more, if seldom, since periods overlap.

The limit is a choice, and the default a fourth. Money alone seldom asks for it: by the law every climb starts at the first rung, so assigning the
rung above costs its call always, and a failure costs that call and the reviews that it takes, only then. From what rate on that is dearer stands
beside each kind (`PlanLine.pays_from`), and what following the advice would cost (`PlanLine.change`). But failures that were found are not
all: results that their executor is sure of are read by sample, one that passes on spoils what rests on it, and a result that is made again
delays everything after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from cascade.core.planning.controls import ControlDone, standing_of
from cascade.core.planning.result import ReviewerStanding
from cascade.costs.plans.cells import Added, Cell, CellKey, Rate, Versions, add_up
from cascade.costs.plans.subtasks import ROLES, RunRecord

__all__ = ["ALPHA", "LIMIT", "Finding", "PlanLine", "PlanReport", "plan_report"]

ALPHA: Final = 0.05
"""The probability of a false alarm in a report, at most."""
LIMIT: Final = 0.25
"""The rate of failures above which a kind is assigned too low a rung."""

Finding = Literal["under_routed", "within_limit", "open", "top"]
"""under_routed: failures are beyond the limit. within_limit: they are not. open: neither is shown. top: there is no rung above."""


@dataclass(frozen=True, slots=True)
class PlanLine:
    """One kind at one assigned rung. `rate`: of failures, with its 95 % `interval`; `above`: the next rung, None at the top.

    `at_least`, `at_most`: the bounds that decide, at 1 - ALPHA / m. Money in nano-USD, None where there is nothing to take it from.
    """

    kind: str
    assigned: str
    cell: Cell
    rate: Rate
    failed: int
    above: str | None
    finding: Finding
    interval: tuple[float, float]
    at_least: float
    at_most: float

    @property
    def advice(self) -> str | None:
        """The rung that the planner should assign; None where the figures do not say."""
        return (
            self.above if self.finding == "under_routed" else self.assigned if self.finding == "within_limit" else None
        )

    @property
    def per_subtask(self) -> float | None:
        """What a subtask costs, reviews included."""
        return self.cell.cost / self.cell.subtasks if self.cell.subtasks else None

    @property
    def a_failure(self) -> float | None:
        """What a failure costs more than a first answer that stands: the rungs above, and reviews."""
        cell = self.cell
        failed, stood = cell.climbed + cell.sent_back, cell.subtasks - cell.climbed - cell.sent_back
        if not failed:
            return None
        return cell.failed_after / failed - (cell.stood_after / stood if stood else 0.0)

    @property
    def a_rung_higher(self) -> float | None:
        """What the rung above costs a subtask, as it did where it was asked."""
        return self.cell.higher / self.cell.asked_higher if self.cell.asked_higher else None

    @property
    def pays_from(self) -> float | None:
        """The rate of failures from which on assigning the rung above is cheaper; above 1: never, by money alone."""
        higher, failure = self.a_rung_higher, self.a_failure
        return higher / failure if higher is not None and failure is not None and failure > 0 else None

    @property
    def change(self) -> float | None:
        """What a subtask would cost more with the rung above assigned, if that never failed; below 0: less."""
        higher, failure, rate = self.a_rung_higher, self.a_failure, self.rate.value
        return None if higher is None or failure is None or rate is None else higher - rate * failure


@dataclass(frozen=True, slots=True)
class PlanReport:
    """One policy's report. `lines`: by kind, then in the order of the ladder; `tested`: how many of them the bounds hold for at once.

    `versions`: the words in force; subtasks of other words are left out (`other_versions`), `without_version` of them have none on record
    for a role, and are counted. `reviewer`: by its control items. `began_before`: subtasks that began before the period; `others`:
    subtasks of other policies, by name.
    """

    policy: str
    ladder: tuple[str, ...]
    limit: float
    lines: tuple[PlanLine, ...]
    tested: int
    runs: int
    versions: Mapping[str, str]
    reviewer: ReviewerStanding
    other_versions: int = 0
    without_version: Mapping[str, int] = field(default_factory=dict[str, int])
    began_before: int = 0
    others: Mapping[str, int] = field(default_factory=dict[str, int])

    @property
    def under_routed(self) -> tuple[PlanLine, ...]:
        """The findings."""
        return tuple(line for line in self.lines if line.finding == "under_routed")


def plan_report(
    runs: Iterable[RunRecord],
    policy: str,
    ladder: Sequence[str],
    *,
    in_force: Mapping[str, str] | None = None,
    limit: float = LIMIT,
) -> PlanReport:
    """The report of one policy's runs. `ladder`: its rungs, in order.

    `in_force`: the versions of the words that the roles are asked in now; for a role that it lacks, those of its last run.
    """
    added = add_up(runs, policy)
    versions = {role: version for role, (_, version) in added.latest.items()} | dict(in_force or {})
    versions = {role: versions[role] for role in ROLES if versions.get(role)}
    cells, left_out, unknown = _of_versions(added, versions)
    standing = _standing(added, versions.get("reviewer", ""))
    chosen = {key: cell.rate if standing.believed else cell.by_rule for key, cell in cells.items()}
    place = {rung: index for index, rung in enumerate(ladder)}
    tested = sum(chosen[key].runs > 0 and place.get(key.assigned, len(ladder)) + 1 < len(ladder) for key in cells)
    lines = [
        _line(key, cell, chosen[key], ladder, limit, ALPHA / max(1, tested), believed=standing.believed)
        for key, cell in cells.items()
    ]
    lines.sort(key=lambda line: (line.kind, place.get(line.assigned, len(ladder)), line.assigned))
    return PlanReport(
        policy, tuple(ladder), limit, tuple(lines), tested, added.runs, versions, standing, left_out, unknown,
        added.began_before, added.others,
    )  # fmt: skip


def _of_versions(added: Added, versions: Mapping[str, str]) -> tuple[dict[CellKey, Cell], int, dict[str, int]]:
    """The cells of the words in force; how many subtasks are left out; how many are counted without a version, by role."""
    cells, left_out, unknown = dict[CellKey, Cell](), 0, dict[str, int]()
    for own, some in added.cells.items():
        count = sum(cell.subtasks + cell.unknown for cell in some.values())
        if not _is_in_force(own, versions):
            left_out += count
            continue
        for role in ("planner", "executor"):  # a run without a review has none of the reviewer
            if not getattr(own, role):
                unknown[role] = unknown.get(role, 0) + count
        for key, cell in some.items():
            cells.setdefault(key, Cell()).add(cell)
    return cells, left_out, unknown


def _is_in_force(own: Versions, versions: Mapping[str, str]) -> bool:
    """Whether no role is known to have been asked in other words."""
    return all(version in ("", versions.get(role, version)) for role, version in zip(ROLES, own, strict=True))


def _standing(added: Added, version: str) -> ReviewerStanding:
    """Whether the reviewer is believed, by the control items on record of the words in force."""
    items = sorted(one for own in {version, ""} for one in added.controls.get(own, ()))
    return standing_of([ControlDone(is_right=one.is_right, verdict=one.verdict) for one in items])


def _line(
    key: CellKey, cell: Cell, rate: Rate, ladder: Sequence[str], limit: float, delta: float, *, believed: bool
) -> PlanLine:
    index = ladder.index(key.assigned) if key.assigned in ladder else len(ladder)
    above = ladder[index + 1] if index + 1 < len(ladder) else None
    at_least, at_most = rate.at_least(delta), rate.at_most(delta)
    finding: Finding = (
        "top" if above is None
        else "under_routed" if at_least > limit
        else "within_limit" if at_most <= limit
        else "open"
    )  # fmt: skip
    failed = cell.climbed + (cell.sent_back if believed else 0)
    return PlanLine(key.kind, key.assigned, cell, rate, failed, above, finding, rate.interval(), at_least, at_most)
