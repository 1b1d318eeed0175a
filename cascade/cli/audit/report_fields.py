"""The fields of `cascade audit report --json`: money in USD, rates from 0 to 1, times in UTC."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from cascade.audit.rates import RateLine, graded_by
from cascade.audit.report.build import AuditReport, Disagreement
from cascade.audit.report.profit import Profit
from cascade.audit.report.thresholds import Alternative
from cascade.audit.routing import Cause, Routing
from cascade.cli.costs.output import saving_fields

__all__ = ["iso", "report_fields"]


def report_fields(report: AuditReport, where: str) -> dict[str, Any]:
    """All of it. `where`: the ledger."""
    return {
        "policy": report.policy,
        "since": iso(report.period.since),
        "until": iso(report.period.until),
        "ledger": where,
        "requests": report.requests,
        "audited": report.audited,
        "right_at": report.right_at,
        "alpha": report.drift.alpha,
        "certified": report.drift.is_certified,
        "epochs": report.epochs,
        "lines": [_line(one) for one in report.lines],
        "lowest_confidence": _line(report.faults),
        "disagreements": [_disagreement(one) for one in report.disagreements],
        "disagreements_left_out": report.left_out,
        "profit": None if report.profit is None else _profit(report.profit),
        "thresholds": [_alternative(one) for one in report.alternatives],
        "routing": _routing(report.routing),
        "drift": report.drift.fields,
        "marks": [{"at": iso(one.at), "kind": one.kind, **one.details} for one in report.marks],
        "todo": list(report.todo),
    }


def iso(at: float) -> str:
    """A time in UTC."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")


def _line(line: RateLine) -> dict[str, Any]:
    return {
        "task": line.task,
        "rung": line.rung,
        "executed_by": line.executed_by or None,
        "audited": line.audited,
        "below_top": line.below,
        "graded": line.known,
        "wrong": None if line.why else line.wrong,
        "rate": line.rate,
        "interval95": line.interval,
        "open": line.open,
        "cannot_tell": line.cannot_tell,
        "withheld": line.withheld,
        "why_withheld": line.why,
        "skipped": dict(line.skipped),
        "graders": [
            {
                "grader": one.grader,
                "graded": one.graded,
                "wrong": one.wrong,
                "rate": one.rate,
                "interval95": one.interval,
                "why_withheld": one.why,
            }
            for one in line.graders
        ],
    }


def _disagreement(one: Disagreement) -> dict[str, Any]:
    sample, grading = one.sample, one.sample.grading
    return {
        "request": sample.request,
        "at": iso(sample.at),
        "why": sample.why,
        "task": sample.task,
        "rung": sample.rung,
        "executed_by": sample.executed_by or None,
        "confidence": sample.confidence,
        "source": sample.source,
        "score": sample.score,
        "grader": graded_by(sample),
        "relation": None if grading is None else grading.relation,
        "reason": None if grading is None else grading.reason,
        "question": one.question,
        "answer": one.answer,
        "shadow": sample.shadow,
    }


def _profit(profit: Profit) -> dict[str, Any]:
    return {
        "saved": saving_fields(profit.saving),
        "audit_usd": profit.audit / 1e9,
        "cost_of_error_usd": _usd(profit.price),
        "wrong_answers": profit.wrong,
        "wrong_answers_interval95": profit.wrong_interval,
        "net_usd": _usd(profit.net),
        "net_usd_range": _ends(profit.net_interval),
        "break_even_usd": _usd(profit.break_even),
        "break_even_usd_range": _ends(profit.break_even_interval),
    }


def _alternative(one: Alternative) -> dict[str, Any]:
    return {
        "rung": one.rung,
        "threshold": one.threshold,
        "present": one.is_present,
        "graded": one.n,
        "shipped": one.shipped,
        "rate": one.rate,
        "interval95": one.interval,
        "avoided": one.avoided,
        "extra_usd_per_request": _usd(one.extra_cost),
        "usd_per_avoided": _usd(one.cost_of_avoiding),
    }


def _routing(routing: Routing) -> dict[str, Any]:
    top = routing.top
    return {
        "escalation": [
            {
                "task": one.task,
                "rung": one.rung,
                "replies": one.replies,
                "escalated": one.escalated,
                "rate": one.rate,
                "bounds95": one.interval,
                "certified": one.certified,
                "certified_for_task": one.is_own,
                "stale": one.stale,
                "causes": _causes(one.causes),
            }
            for one in routing.escalation
        ],
        "top": None if top is None else {
            "rung": top.rung,
            "answered": top.answered,
            "requests": top.requests,
            "share": top.share,
            "cost_usd": _usd(top.cost),
            "cost_share": top.cost_share,
            "high": top.is_high,
            "cost_high": top.is_cost_high,
            "causes": _causes(top.causes),
        },
        "trust": [
            {
                "rung": one.rung,
                "graded": one.graded,
                "wrong": one.wrong,
                "rate": one.rate,
                "interval95": one.interval,
                "mean_confidence": one.confidence,
                "over_trusted": one.is_over_trusted,
                "causes": _causes(one.causes),
            }
            for one in routing.trust
        ],
    }  # fmt: skip


def _causes(causes: tuple[Cause, ...]) -> list[dict[str, Any]]:
    return [{"kind": one.kind, "name": one.name, "share": one.share} for one in causes]


def _usd(nano: float | None) -> float | None:
    return None if nano is None else nano / 1e9


def _ends(interval: tuple[float, float | None] | None) -> list[float | None] | None:
    return None if interval is None else [_usd(end) for end in interval]
