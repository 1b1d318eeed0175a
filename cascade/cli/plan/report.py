"""`cascade plan report`: how assigned rungs have fared, from the ledger's entries."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from cascade.cli.output import print_json, stdout, table, usd
from cascade.cli.reading import reading_behind
from cascade.core.policy import Policy
from cascade.costs import Period, read_since
from cascade.costs.plans.report import ALPHA, LIMIT, PlanLine, PlanReport, plan_report
from cascade.costs.plans.subtasks import runs_of
from cascade.engine import default_policy
from cascade.ledger.requests import gather
from cascade.policy.binding import bind_policy
from cascade.policy.loading import load_policy

__all__ = ["PlanReading", "ReportOptions", "read_report", "run_report"]


@dataclass(frozen=True, slots=True)
class ReportOptions:
    """The command's options."""

    policy: str | None = None
    since: str = "30d"
    limit: float | None = None
    ledger: str | None = None


@dataclass(frozen=True, slots=True)
class PlanReading:
    """A report, and what it was read from."""

    report: PlanReport
    policy: Policy
    period: Period
    where: str


def run_report(options: ReportOptions, *, as_json: bool, now: Callable[[], float] = time.time) -> None:
    """Print the report. `now` gives Unix seconds. Raises ConfigurationError, PolicyError, LedgerError."""
    read = read_report(options, now())
    if as_json:
        print_json(_fields(read))
    else:
        _show(read)


def read_report(options: ReportOptions, at: float) -> PlanReading:
    """Read the ledger. `at`: now, in Unix seconds. Raises as `run_report`."""
    policy = load_policy(options.policy or default_policy())
    period = read_since(options.since, at)
    ladder = [rung.rung for rung in policy.ladder]
    in_force = bind_policy(policy).plan_prompts
    limit = LIMIT if options.limit is None else options.limit
    with reading_behind(options.ledger) as reader:
        runs = runs_of(gather(reader, period.since, period.until))
        report = plan_report(runs, policy.name, ladder, in_force=in_force, limit=limit)
        return PlanReading(report, policy, period, reader.where)


def _show(read: PlanReading) -> None:
    report = read.report
    stdout.print(f"{read.period.label} · {read.where} · policy {report.policy}")
    if not report.lines:
        stdout.print(
            f"no subtask of a plan was run by policy {report.policy!r} in this period (--since goes further back)"
        )
        for note in _notes(report):
            stdout.print(f"note: {note}")
        return
    for line in report.under_routed:
        stdout.print(_found(line, report), style="bold")
    if not report.under_routed:
        stdout.print("no kind is shown to be assigned too low a rung", style="bold")
    stdout.print(_meaning(report))
    stdout.print()
    _show_lines(report)
    stdout.print()
    _show_costs(report)
    for note in _notes(report):
        stdout.print(f"note: {note}")


def _found(line: PlanLine, report: PlanReport) -> str:
    return (
        f"under-routed: {line.kind} at {line.assigned}: {line.failed} of {line.cell.subtasks} results did not stand, at least"
        f" {_percent(line.at_least)} (limit {_percent(report.limit)}): assign {line.above}{_price(line)}"
    )


def _price(line: PlanLine) -> str:
    """What following the advice costs."""
    change = line.change
    if change is None:
        return ""
    return f", at {'most' if change < 0 else 'least'} {usd(round(abs(change)))} USD {'less' if change < 0 else 'more'} a subtask"


def _meaning(report: PlanReport) -> str:
    return (
        f"{report.runs} runs; {report.tested} kinds and rungs tested at once: a report names one whose rate is within the limit with a"
        f" probability of at most {_percent(ALPHA)}"
    )


_WORDS = {
    "under_routed": "too low a rung",
    "within_limit": "within the limit",
    "open": "not shown either way",
    "top": "no rung above",
}


def _show_lines(report: PlanReport) -> None:
    columns = ("subtasks", "failed", "rate", "95 %", "escalated", "reviewed", "sent back")
    shown = table("kind", "assigned", *columns, "finding", title="failures at the assigned rung", right=columns)
    for line in report.lines:
        cell = line.cell
        low, high = line.interval
        rate = "" if line.rate.value is None else _percent(line.rate.value)
        shown.add_row(
            line.kind, line.assigned, str(cell.subtasks), str(line.failed), rate, f"{_percent(low)} to {_percent(high)}",
            _share(cell.escalated, cell.subtasks), str(cell.reviewed), str(cell.sent_back), _WORDS[line.finding],
        )  # fmt: skip
    stdout.print(shown)


def _show_costs(report: PlanReport) -> None:
    columns = ("USD/subtask", "below", "a failure", "a rung higher", "pays from", "would have stood below")
    shown = table("kind", "assigned", *columns, title="costs, in USD", right=columns)
    for line in report.lines:
        cell = line.cell
        below = cell.below / cell.subtasks if cell.subtasks else None
        pays = "" if line.pays_from is None else "never" if line.pays_from > 1 else _percent(line.pays_from)
        own_word = _share(cell.below_stood, cell.asked_below) if cell.asked_below else ""
        shown.add_row(
            line.kind, line.assigned, _money(line.per_subtask), _money(below), _money(line.a_failure), _money(line.a_rung_higher),
            pays, own_word,
        )  # fmt: skip
    stdout.print(shown)
    stdout.print(
        "below: of a subtask's cost, the rungs below the assigned one (every climb starts at the first); a failure: what it cost more than"
        " a result that stood; a rung higher: what the rung above costs; pays from: the rate of failures from which on assigning it is"
        " cheaper; would have stood below: how often the rung below would have, by its own confidence, which nobody has checked"
    )


def _notes(report: PlanReport) -> Iterator[str]:
    if not report.reviewer.believed:
        yield f"the reviewer is not believed, so its verdicts are left out: {report.reviewer.why}"
    if report.other_versions:
        yield f"{report.other_versions} subtasks of other wordings are left out: a role's figures start anew when its words change"
    for role, count in report.without_version.items():
        yield f"{count} subtasks have no version of the {role}'s words on record, and are counted"
    if unknown := sum(line.cell.unknown for line in report.lines):
        yield f"{unknown} subtasks are not counted: an error, a budget, the deadline or a storm came before the assigned rung's answer"
    if unsettled := sum(line.cell.unsettled for line in report.lines):
        yield f"of {unsettled} results the reviewer says that no model can settle them: no fault of the rung"
    if report.began_before:
        yield f"{report.began_before} subtasks began before the period and are not counted"
    if report.others:
        named = ", ".join(f"{name} ({count})" for name, count in sorted(report.others.items()))
        yield f"subtasks of other policies: {named}"


def _fields(read: PlanReading) -> dict[str, Any]:
    """The fields of `--json`. Money in USD, rates from 0 to 1."""
    report = read.report
    return {
        "ledger": read.where,
        "policy": report.policy,
        "period": {"since": read.period.since, "until": read.period.until},
        "runs": report.runs,
        "limit": report.limit,
        "false_alarms_at_most": ALPHA,
        "tested": report.tested,
        "prompts": dict(report.versions),
        "reviewer": {"believed": report.reviewer.believed, "why": report.reviewer.why, "controls": report.reviewer.controls},
        "under_routed": [{"task": line.kind, "assigned": line.assigned, "advice": line.above} for line in report.under_routed],
        "lines": [_line_fields(line) for line in report.lines],
        "left_out": {
            "other_versions": report.other_versions,
            "began_before": report.began_before,
            "other_policies": dict(report.others),
        },
        "without_version": dict(report.without_version),
        "notes": list(_notes(report)),
    }  # fmt: skip


def _line_fields(line: PlanLine) -> dict[str, Any]:
    cell = line.cell
    return {
        "task": line.kind,
        "assigned": line.assigned,
        "subtasks": cell.subtasks,
        "runs": line.rate.runs,
        "failed": line.failed,
        "climbed": cell.climbed,
        "sent_back": cell.sent_back,
        "unsettled": cell.unsettled,
        "not_told": cell.unknown,
        "rate": line.rate.value,
        "rate_ci95": list(line.interval),
        "at_least": line.at_least,
        "at_most": line.at_most,
        "finding": line.finding,
        "advice": line.advice,
        "escalated": cell.escalated,
        "reviewed": cell.reviewed,
        "cost_per_subtask_usd": _usd(line.per_subtask),
        "cost_below_usd": cell.below / 1e9,
        "cost_usd": cell.cost / 1e9,
        "a_failure_usd": _usd(line.a_failure),
        "a_rung_higher_usd": _usd(line.a_rung_higher),
        "pays_from": line.pays_from,
        "change_usd": _usd(line.change),
        "would_have_stood_below": cell.below_stood / cell.asked_below if cell.asked_below else None,
    }


def _usd(nano: float | None) -> float | None:
    return None if nano is None else nano / 1e9


def _money(nano: float | None) -> str:
    return "" if nano is None else usd(round(nano))


def _percent(share: float) -> str:
    return f"{share:.0%}".replace("%", " %")


def _share(count: int, of: int) -> str:
    return f"{count} ({_percent(count / of)})" if of else str(count)
