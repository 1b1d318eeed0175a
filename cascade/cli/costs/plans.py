"""The tables of `cascade costs --by assigned` and `--by role`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from cascade.cli.costs.figures import percent
from cascade.cli.output import stdout, table, usd
from cascade.costs.plans.roles import PlanCosts

__all__ = ["PLAN_COLUMNS", "plan_rows", "show_plans"]

PLAN_COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "role": ("role", "requests", "cost_usd", "share"),
    "assigned": (
        "assigned", "final", "subtasks", "requests", "cost_usd", "below_usd", "escalated", "sent_back", "accepted", "unsettled", "failed",
        "pending",
    ),
}  # fmt: skip


def plan_rows(found: PlanCosts) -> Iterator[dict[str, Any]]:
    """The rows for JSON and CSV, by their columns."""
    for row in _values(found):
        yield dict(zip(PLAN_COLUMNS[found.by], row, strict=True))


def _values(found: PlanCosts) -> Iterator[tuple[Any, ...]]:
    if found.by == "role":
        for line in found.roles:
            yield line.role, line.requests, line.cost / 1e9, line.cost / found.cost if found.cost else 0.0
        return
    for one in found.assigned:
        statuses = (one.statuses[name] for name in ("accepted", "unsettled", "failed", "pending"))
        yield (
            one.assigned, one.final, one.subtasks, one.requests, one.cost / 1e9, one.below / 1e9, one.escalated, one.sent_back, *statuses,
        )  # fmt: skip


def show_plans(found: PlanCosts) -> None:
    """Print the table."""
    if not found.runs and not found.cost:
        stdout.print("no plan was run in this period")
        return
    head, *columns = PLAN_COLUMNS[found.by]
    named = [_HEADS.get(name, name) for name in columns]
    right = [name for name in named if name != "final"]
    shown = table(
        head, *named, title=f"{found.runs} runs of plans, {found.subtasks} subtasks, by {found.by}", right=right
    )
    for row in plan_rows(found):
        shown.add_row(*(_text(name, value) for name, value in row.items()))
    stdout.print(shown)


_HEADS: Final = {"cost_usd": "USD", "below_usd": "below it", "sent_back": "sent back"}


def _text(name: str, value: Any) -> str:
    if value is None:
        return "-" if name == "final" else ""
    if name.endswith("_usd"):
        return usd(round(value * 1e9))
    return percent(value) if name == "share" else str(value)
