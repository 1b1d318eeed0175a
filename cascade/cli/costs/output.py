"""The output of `cascade costs`: JSON, CSV, and tables and bars for people."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from cascade.cli.costs.caches import cache_fields, show_caches
from cascade.cli.costs.figures import in_usd, money, percent
from cascade.cli.costs.plans import PLAN_COLUMNS, plan_rows, show_plans
from cascade.cli.output import stdout, table, usd
from cascade.core.arms import PLAN_ARMS
from cascade.costs import Caches, Costs, Interval, Large, Line, Period, Saving
from cascade.costs.plans.roles import PlanCosts
from cascade.ledger.records import AUXILIARY

__all__ = ["CostsReport", "report_fields", "saved_text", "saving_fields", "show_report", "write_csv"]

_BAR: Final = 24  # columns of the longest bar
_EIGHTHS: Final = " ▏▎▍▌▋▊▉"
_LISTED: Final = 10
_APART: Final[Mapping[str, Callable[[Line], int]]] = {
    "shadow steps": lambda line: line.shadow_steps,
    "audit steps": lambda line: line.audit_steps,
    "planning calls": lambda line: line.planning_steps,
    "reviews": lambda line: line.reviews,
}
"""Calls whose answers are returned to nobody: a column each, where there are any."""
_UNASKED: Final = {"shadow", "audit", *PLAN_ARMS}
"""The arms of such calls: they have no requests."""


@dataclass(frozen=True, slots=True)
class CostsReport:
    """The figures to print. `where`: the ledger; `policy`: the only policy counted, None for all; `caches`: with --cache; `plans`: with --by assigned or role, in the place of the lines."""

    costs: Costs
    period: Period
    where: str
    policy: str | None
    large: Large | None
    caches: Caches | None = None
    plans: PlanCosts | None = None


def report_fields(report: CostsReport) -> dict[str, Any]:
    """The fields of `--json`. Money in USD, rates from 0 to 1, changes of rates in percentage points."""
    found, period = report.costs, report.period
    head = found.workflows
    large = report.large
    return {
        "since": _iso(period.since),
        "until": _iso(period.until),
        "before_since": _iso(period.before.since),
        "ledger": report.where,
        "policy": report.policy,
        "by": found.by if report.plans is None else report.plans.by,
        **_line_fields(found.total),
        "lines": [{found.by: line.name, **_line_fields(line)} for line in found.lines] if report.plans is None
        else list(plan_rows(report.plans)),
        "arms": [{"arm": line.name, **_line_fields(line)} for line in found.arms],
        "rungs": {
            line.name: {
                "steps": line.climbs,
                "escalated": line.escalated,
                "errors": line.errors,
                "escalation_rate": line.escalation,
                "escalation_rate_before": line.escalation_before,
                "escalation_change_points": line.escalation_change,
            }
            for line in found.rungs
        },
        "workflows": None if head is None else {
            "of": head.of,
            "share": head.share,
            "top": [{"workflow": line.name, "cost_usd": in_usd(line.cost), "share": line.share} for line in head.lines],
        },
        "saved": None if found.saving is None else saving_fields(found.saving),
        "saved_by_policy": [saving_fields(one) for one in found.savings],
        "large": None if large is None else {
            "call_usd": in_usd(large.limit),
            "requests": [{"request": request, "cost_usd": in_usd(cost)} for request, cost in large.requests],
            "more": large.more,
        },
        "response_cache": None if found.response_cache is None else {
            "hits": found.response_cache.hits,
            "misses": found.response_cache.misses,
            "hit_rate": found.response_cache.rate,
            "saved_usd": in_usd(found.response_cache.saved),
        },
        "cache": None if report.caches is None else {
            **cache_fields(report.caches.total),
            "rungs": {line.rung: cache_fields(line) for line in report.caches.lines},
            "estimated_calls": report.caches.estimated,
            "unpriced_calls": report.caches.unpriced,
        },
    }  # fmt: skip


def _line_fields(line: Line) -> dict[str, Any]:
    return {
        "cost_usd": in_usd(line.cost),
        "cost_usd_before": in_usd(line.cost_before),
        "share": line.share,
        "shadow_usd": in_usd(line.shadow),
        "audit_usd": in_usd(line.audit),
        "planning_usd": in_usd(line.planning),
        "review_usd": in_usd(line.review),
        "steps": line.steps,
        "shadow_steps": line.shadow_steps,
        "audit_steps": line.audit_steps,
        "planning_steps": line.planning_steps,
        "reviews": line.reviews,
        "errors": line.errors,
        "input_tokens": line.input,
        "output_tokens": line.output,
        "requests": line.requests,
        "answers": line.answers,
        "resolved": line.resolved,
        "cost_per_answer_usd": in_usd(line.cost_per_answer),
        "cost_per_resolved_usd": in_usd(line.cost_per_resolved),
        "escalated": line.escalated,
        "escalated_of": line.climbs,
        "escalation_rate": line.escalation,
        "escalation_rate_before": line.escalation_before,
        "escalation_change_points": line.escalation_change,
    }


def saving_fields(saving: Saving) -> dict[str, Any]:
    """A saving's fields of `--json`."""
    return {
        "policy": saving.policy,
        "basis": saving.basis,
        "saved_usd": in_usd(saving.saved),
        "saved_usd_ci95": _ends(saving.interval, 1e9),
        "relative": saving.relative,
        "relative_ci95": _ends(saving.relative_interval, 1),
        "baseline_usd": in_usd(saving.baseline),
        "cost_usd": in_usd(saving.cost),
        "requests": saving.requests,
        "holdout_requests": saving.holdout,
        "estimated_requests": saving.requests if saving.basis == "estimate" else 0,
        "notes": list(saving.notes),
    }


def write_csv(report: CostsReport) -> None:
    """Write the table of the chosen dimension, one row per name; unknown values are empty."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    if report.plans is not None:
        lines = [*plan_rows(report.plans)]
        writer.writerow(PLAN_COLUMNS[report.plans.by])
        writer.writerows(["" if value is None else value for value in row.values()] for row in lines)
        return
    rows = [{report.costs.by: line.name, **_line_fields(line)} for line in report.costs.lines]
    writer.writerow([report.costs.by, *_line_fields(report.costs.total)])
    writer.writerows(["" if value is None else value for value in row.values()] for row in rows)


def show_report(report: CostsReport) -> None:
    """Print the report as text and tables."""
    found, total = report.costs, report.costs.total
    of = f" · policy {report.policy}" if report.policy is not None else ""
    stdout.print(f"{report.period.label} · {report.where}{of}")
    if not total.steps and not total.requests:
        whose = "" if report.policy is None else f" by policy {report.policy!r}"
        stdout.print(f"nothing was spent{whose} in this period (--since goes further back)")
        return
    _show_total(total, found.reviewers)
    _show_saving(found)
    _show_response_cache(found)
    stdout.print()
    if report.plans is None:
        _show_lines(found)
    else:
        show_plans(report.plans)
    if len(found.arms) > 1 or any(line.name != "cascade" for line in found.arms):
        stdout.print()
        _show_arms(found.arms)
    if found.rungs:
        stdout.print()
        _show_rungs(found.rungs)
    head = found.workflows
    if head is not None and head.of > 1:
        names = ", ".join(f"{line.name} {percent(line.share)}" for line in head.lines)
        stdout.print(
            f"\n{len(head.lines)} of {head.of} workflows account for {percent(head.share)} of the spend: {names}"
        )
    if report.large is not None:
        _show_large(report.large, report.policy)
    if report.caches is not None:
        stdout.print()
        show_caches(report.caches)


def _show_total(total: Line, reviewers: Sequence[str]) -> None:
    notes = [f"{_change(total.cost, total.cost_before)} against the period before"] if total.cost_before else []
    for cost, steps, what in (
        (total.shadow, total.shadow_steps, "shadow steps"),
        (total.audit, total.audit_steps, "audit steps"),
        (total.planning, total.planning_steps, "calls that plan and review runs"),
    ):
        if cost:
            notes.append(f"{usd(cost)} of it for {steps} {what}")
    if total.reviews:
        count = "1 review" if total.reviews == 1 else f"{total.reviews} reviews"
        notes.append(f"{usd(total.review)} of it for {count} (by {' and '.join(reviewers)})")
    stdout.print(f"spend       {usd(total.cost)} USD" + (f" ({'; '.join(notes)})" if notes else ""))
    stdout.print(f"requests    {total.requests}, {total.answers} answered, {total.resolved} resolved")
    stdout.print(
        f"an answer   {money(total.cost_per_answer)} USD, a resolved request {money(total.cost_per_resolved)} USD"
    )
    if total.climbs:
        stdout.print(f"escalated   {_escalated(total)} answered requests{_points(total)}")
    if total.errors:
        stdout.print(f"errors      {total.errors} of {total.steps} steps failed")


def _show_saving(found: Costs) -> None:
    if found.saving is None:
        return
    stdout.print(f"saved       {saved_text(found.saving)}")
    for note in found.saving.notes:
        stdout.print(f"            {note}")
    if len(found.savings) > 1:
        for one in found.savings:
            stdout.print(f"  {one.policy}: {saved_text(one)}{''.join(f'; {note}' for note in one.notes)}")


def _show_response_cache(found: Costs) -> None:
    cache = found.response_cache
    if cache is not None:
        asked = cache.hits + cache.misses
        stdout.print(
            f"answered    {cache.hits} of {asked} requests ({percent(cache.rate)}) again from the response cache, which saved"
            f" {usd(cache.saved)} USD (not counted above)"
        )


def saved_text(saving: Saving) -> str:
    """A saving in words, with its basis."""
    if not saving.requests:
        return "not known: no answered request to compare"
    share = f", {percent(saving.relative)}" if saving.relative is not None else ""
    if saving.interval is None or saving.relative_interval is None:
        return f"{money(saving.saved)} USD{share} against the baseline (estimate, from the tokens of {saving.requests} requests)"
    saved, part = saving.interval, saving.relative_interval
    return (
        f"{money(saving.saved)} USD{share} against the baseline, measured on {saving.holdout} held-out requests; at 95 %"
        f" {money(saved.low)} to {money(saved.high)} USD, {percent(part.low)} to {percent(part.high)}"
    )


def _show_lines(found: Costs) -> None:
    by, lines = found.by, found.lines
    by_request = by not in ("rung", "model")
    figures = ("requests", "USD/resolved") if by_request else ("steps",)
    apart = tuple(name for name, steps_of in _APART.items() if any(steps_of(line) for line in lines))
    numbers = ("USD", "share", *figures, "escalated", "errors", *apart)
    shown = table(
        by,
        "",
        *numbers,
        title=f"by {by}",
        right=numbers,
    )
    most = max((line.cost for line in lines), default=0)
    for line in lines:
        own = (str(line.requests), money(line.cost_per_resolved)) if by_request else (str(line.steps),)
        more = [str(_APART[name](line)) for name in apart]
        shown.add_row(
            line.name, _bar(line.cost, most), usd(line.cost), percent(line.share), *own, _escalated(line),
            str(line.errors), *more,
        )  # fmt: skip
    stdout.print(shown)


def _show_arms(arms: Sequence[Line]) -> None:
    columns = ("requests", "resolved", "USD", "USD/answer")
    shown = table("arm", *columns, title="by arm", right=columns)
    for line in arms:
        own = ("", "") if line.name in _UNASKED else (str(line.requests), str(line.resolved))
        shown.add_row(line.name, *own, usd(line.cost), money(line.cost_per_answer))
    stdout.print(shown)


def _show_rungs(rungs: Sequence[Line]) -> None:
    columns = ("escalated", "errors", "before", "change")
    shown = table("rung", *columns, title="escalated, by rung (errors apart)", right=columns)
    for line in rungs:
        before = "" if line.escalation_before is None else percent(line.escalation_before)
        change = "" if line.escalation_change is None else f"{line.escalation_change:+.1f} points"
        climbs = "" if line.name.startswith(AUXILIARY) else _escalated(line)  # such a call decides nothing
        shown.add_row(line.name, climbs, str(line.errors), before, change)
    stdout.print(shown)


def _show_large(large: Large, policy: str | None) -> None:
    of = " (of all policies)" if policy is not None else ""
    count = f"more than {len(large.requests)}" if large.more else str(len(large.requests))
    stdout.print(f"\n{count} requests cost more than {usd(large.limit)} USD{of}")
    for request, cost in large.requests[:_LISTED]:
        stdout.print(f"  {request}  {usd(cost)}")


def _bar(value: int, most: int) -> str:
    """A bar in eighths of a column; any value above 0 is visible."""
    eighths = max(1, round(value / most * _BAR * 8)) if value and most else 0
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def _escalated(line: Line) -> str:
    """Such as "2 of 5 (40.0 %)"; empty if nothing was counted."""
    return "" if line.escalation is None else f"{line.escalated} of {line.climbs} ({percent(line.escalation)})"


def _points(line: Line) -> str:
    change = line.escalation_change
    return "" if change is None else f", {change:+.1f} points against the period before"


def _change(now: int, before: int) -> str:
    return f"{(now - before) / before:+.1%}".replace("%", " %")


def _ends(interval: Interval | None, by: float) -> list[float] | None:
    return None if interval is None else [interval.low / by, interval.high / by]


def _iso(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()
