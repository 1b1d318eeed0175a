"""The report as sections of words and tables, which the terminal and the page both show."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from cascade.audit.drift import Rate
from cascade.audit.rates import RateLine
from cascade.audit.report.build import AuditReport
from cascade.audit.report.profit import Profit
from cascade.audit.report.thresholds import Alternative
from cascade.audit.routing import TOP_SHARE, Cause, EscalationLine, TopShare, TrustLine
from cascade.cli.audit.report_fields import iso
from cascade.cli.costs.output import saved_text
from cascade.cli.output import one_line
from cascade.ledger.audit import Mark

__all__ = ["Fact", "Section", "sections_of"]

_MOST_MARKS = 20


class Fact(NamedTuple):
    """A line. `warns`: somebody should do something about it."""

    label: str
    text: str
    warns: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the report. `columns` and `rows` make its table; those in `right` hold numbers."""

    title: str
    facts: tuple[Fact, ...] = ()
    columns: tuple[str, ...] = ()
    right: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    hint: str = ""


def sections_of(report: AuditReport) -> Iterator[Section]:
    """Everything but the disagreements. Callers name tasks and flags, so each text is escaped into one line."""
    for one in _sections(report):
        facts = tuple(Fact(one_line(fact.label), one_line(fact.text), fact.warns) for fact in one.facts)
        rows = tuple(tuple(map(one_line, row)) for row in one.rows)
        yield replace(one, facts=facts, rows=rows)


def _sections(report: AuditReport) -> Iterator[Section]:
    yield Section("Shipped and wrong", tuple(_summary(report)))
    yield Section("Drift", tuple(_drift(report)))
    if report.audited:
        yield _by_task(report.lines[1:])
        yield _by_grader(report.total)
    yield Section("Faults found", tuple(_faults(report.faults)))
    yield _routing(report)
    if report.profit is not None:
        yield Section("Profit and loss", tuple(_profit(report.profit)), hint=_PROFIT_HINT)
    if report.alternatives:
        yield _thresholds(report.alternatives)


_PROFIT_HINT = (
    "Wrong answers are the audited rate of the answered requests, times those that the saving counts. The top rung's answer is"
    " taken to be right where no real outcome is known, so the baseline's own mistakes are not counted."
)


def _summary(report: AuditReport) -> Iterator[Fact]:
    total = report.total
    yield Fact("requests", f"{report.requests}, {report.audited} of them in the uniform sample")
    yield Fact("graded", _counts(total))
    yield Fact("rate", _rate(total))
    if report.epochs > 1:
        yield Fact("", f"over {report.epochs} sets of thresholds, which were in force one after the other")


def _counts(line: RateLine) -> str:
    others = (
        (line.open, "open"),
        *((count, f"skipped ({reason})") for reason, count in sorted(line.skipped.items())),
        (line.cannot_tell, "cannot be told"),
        (line.withheld, "by a judge that is not believed"),
    )
    more = "".join(f", {count} {what}" for count, what in others if count)
    return f"{line.known} of the {line.below} that were answered below the top rung{more}"


def _rate(line: RateLine) -> str:
    if line.why is not None:
        return f"withheld: {line.why}"
    if line.rate is None or line.interval is None:
        return "not known: nothing is graded"
    return f"{_percent(line.rate)} ({_ends(line.interval)}; 95 %, at all times) of all requests"


def _drift(report: AuditReport) -> Iterator[Fact]:
    drift = report.drift
    basis = "certified" if drift.is_certified else "uncertified"
    yield Fact("compared", f"with {_percent(drift.alpha)}, {basis}, since what decides last changed")
    for rate in drift.rates:
        yield Fact(f"task {rate.task}" if rate.task else "all", _drift_text(rate), rate.is_alarming)
    for note in drift.notes:
        yield Fact("note", note)
    if drift.step:
        since = f", since {iso(drift.ratchet.at)}" if drift.ratchet is not None else ""
        yield Fact("ratchet", f"step {drift.step} is in force{since} (`cascade audit reset` undoes it)")
    for mark in report.marks[-_MOST_MARKS:]:
        yield Fact(mark.kind, f"{iso(mark.at)} {_mark_text(mark)}".rstrip(), mark.kind == "alarm")


def _mark_text(mark: Mark) -> str:
    told = mark.details
    if mark.kind == "alarm":
        whose = f"task {told['task']}" if told.get("task") else "all requests"
        return f"{whose}: {told.get('losses')} of {told.get('results')} wrong"
    if mark.kind == "step":
        return str(told.get("thresholds") or f"step {told.get('step')}")
    return f"from step {told.get('step', 0)}"


def _drift_text(rate: Rate) -> str:
    if rate.interval is None or rate.rate is None:
        return rate.withheld or "nothing is graded"
    text = f"{rate.losses} of {rate.counted} wrong, {_percent(rate.rate)} ({_ends(rate.interval)})"
    if rate.is_alarming:
        return (
            f"{text}; ALARM: the rate is above {_percent(rate.alpha)}" if rate.alpha is not None else f"{text}; ALARM"
        )
    if rate.value is None or rate.threshold is None:
        return text
    return f"{text}; the detector is at {rate.value:,.0f}, it alarms at {rate.threshold:,.0f}"


def _by_task(lines: Sequence[RateLine]) -> Section:
    return Section(
        "By task and rung",
        columns=("task", "rung", "audited", "graded", "wrong", "rate", "95 %", "open", "not graded"),
        right=("audited", "graded", "wrong", "rate", "95 %", "open", "not graded"),
        rows=tuple(
            (
                line.task or "", _who(line), str(line.audited), str(line.known),
                "" if line.why else str(line.wrong), "withheld" if line.why else "" if line.rate is None else _percent(line.rate),
                "" if line.interval is None else _ends(line.interval), str(line.open),
                str(sum(line.skipped.values()) + line.cannot_tell),
            )
            for line in lines
        ),
        hint="A task's rate is over all its requests, a rung's over its answers. The top rung's own answers never count as wrong.",
    )  # fmt: skip


def _who(line: RateLine) -> str:
    if line.rung is None:
        return "all"
    return f"{line.rung}, answered by {line.executed_by}" if line.executed_by else line.rung or "(no answer)"


def _by_grader(total: RateLine) -> Section:
    return Section(
        "By grader",
        columns=("grader", "graded", "wrong", "rate", "95 %"),
        right=("graded", "wrong", "rate", "95 %"),
        rows=tuple(
            (one.grader, str(one.graded), "", "withheld", "")
            if one.rate is None or one.interval is None
            else (one.grader, str(one.graded), str(one.wrong), _percent(one.rate), _ends(one.interval))
            for one in total.graders
        ),
        hint="Over the answers that were shipped below the top rung. A real outcome outranks the grader.",
    )


def _faults(line: RateLine) -> Iterator[Fact]:
    if line.audited:
        wrong = "withheld" if line.why else f"{line.wrong} wrong"
        yield Fact(
            "lowest", f"{wrong} of {line.known} graded, {line.audited} sampled for their low confidence: in no rate"
        )


def _routing(report: AuditReport) -> Section:
    routing = report.routing
    facts = [Fact("stale", text, warns=True) for line in routing.escalation if (text := _stale_text(line))]
    if routing.top is not None:
        facts.append(Fact("top rung", _top_text(routing.top), routing.top.is_high))
    facts += [Fact("trust", _trust_text(line, routing.alpha), line.is_over_trusted) for line in routing.trust]
    return Section(
        "Routing",
        tuple(facts),
        ("rung", "task", "replies", "escalated", "bounds", "certified", "stale"),
        ("replies", "escalated", "bounds", "certified"),
        tuple(
            (
                line.rung, line.task or "all", str(line.replies), _share(line.rate), _ends(line.interval), _certified(line),
                line.stale or "",
            )
            for line in routing.escalation
        ),
        "Stale: by more than 10 points above or below what is certified, chance aside. Below a floor and at a ceiling the reply does"
        " not decide, so such tasks are left out." if routing.escalation else "",
    )  # fmt: skip


def _certified(line: EscalationLine) -> str:
    if line.certified is None:
        return "-"
    return _share(line.certified) + ("" if line.is_own or line.task is None else " (all tasks)")


def _stale_text(line: EscalationLine) -> str:
    if line.stale is None or line.certified is None:
        return ""
    low, high = line.interval
    bound = f"at least {_share(low)}" if line.stale == "above" else f"at most {_share(high)}"
    of = f"of task {line.task}" if line.task else "of all tasks"
    text = f"the routing table is stale: {line.rung} escalates {bound} {of}, certified are {_share(line.certified)}"
    return text + _causes(line.causes, "the excess" if line.stale == "above" else "what is missing")


def _top_text(top: TopShare) -> str:
    cost = "" if top.cost_share is None else f", {_share(top.cost_share)} of the cost"
    text = f"{top.rung} answers {_share(top.share)} of the requests{cost}"
    if top.is_high:
        return f"{text}: above {_share(TOP_SHARE)}, something is miscategorised{_causes(top.causes, 'the excess')}"
    if top.is_cost_high:
        return f"{text}: above {_share(TOP_SHARE)}, as is usual where its answers cost many times the others'"
    return text


def _trust_text(line: TrustLine, alpha: float) -> str:
    said = "" if line.confidence is None else f", mean confidence {line.confidence:.2f}"
    text = f"{line.rung}: {line.wrong} of {line.graded} answers wrong, {_percent(line.rate)} ({_ends(line.interval)}){said}"
    if not line.is_over_trusted:
        return text
    return f"{text}: systematically over-trusted (above {_percent(alpha)}){_causes(line.causes, 'the excess')}"


def _causes(causes: Iterable[Cause], of: str) -> str:
    listed = ", ".join(f"{one.kind} {one.name} {_share(one.share)}" for one in causes)
    return f"; of {of}: {listed}" if listed else ""


def _profit(profit: Profit) -> Iterator[Fact]:
    yield Fact("saved", saved_text(profit.saving))
    for note in profit.saving.notes:
        yield Fact("", note)
    yield Fact("audit", f"{_usd(profit.audit)} USD for shadow answers and judgements")
    if profit.wrong is None or profit.wrong_interval is None:
        yield Fact("wrong", "not known: no rate")
        return
    fewest, most = profit.wrong_interval
    yield Fact(
        "wrong", f"{profit.wrong:.1f} answers estimated ({fewest:.1f} to {most:.1f}), of {profit.saving.requests}"
    )
    if profit.net is not None and profit.net_interval is not None and profit.price is not None:
        ends = " to ".join(f"{_usd(end)}" for end in profit.net_interval)
        yield Fact(
            "net",
            f"{_usd(profit.net)} USD ({ends}) at {_usd(profit.price)} USD a wrong answer (audit.cost_of_error_usd)",
        )
        return
    if profit.left <= 0:
        yield Fact("break-even", "none: nothing is left of the saving")
        return
    ends = profit.break_even_interval
    if ends is None:
        yield Fact("break-even", "none: no answer is wrong")
        return
    least, limit = ends
    price = "no limit" if profit.break_even is None else f"{_usd(profit.break_even)} USD"
    upper = f"to {_usd(limit)}" if limit is not None else "and more"
    yield Fact(
        "break-even",
        f"{price} a wrong answer ({_usd(least)} {upper}): what one may cost before the ladder does not pay",
    )
    yield Fact("", "with audit.cost_of_error_usd in the policy, the net is told")


def _thresholds(rows: Sequence[Alternative]) -> Section:
    columns = ("shipped", "rate", "95 %", "avoided", "USD/1,000 more", "USD/avoided")
    return Section(
        "Other thresholds",
        columns=("rung", "from", *columns),
        right=columns,
        rows=tuple(
            (
                one.rung, "as shipped" if one.is_present else "never" if one.threshold is None else f"{one.threshold:.4g}",
                _share(one.shipped), _percent(one.rate), _ends(one.interval), str(one.avoided),
                "-" if one.extra_cost is None else _usd(one.extra_cost * 1000),
                "-" if one.cost_of_avoiding is None else _usd(one.cost_of_avoiding),
            )
            for one in rows
        ),
        hint=(
            f"On the {rows[0].n} graded requests of the uniform sample since what decides last changed, one rung moved at a time. A"
            " request that a higher threshold sends up is counted as answered by the top rung at its shadow answer's cost: an"
            " assumption, since what the rungs between would have made of it is not known. Lower thresholds cannot be judged: what"
            " they would ship was not shipped."
        ),
    )  # fmt: skip


def _percent(share: float) -> str:
    return f"{share:.2%}".replace("%", " %")


def _share(share: float) -> str:
    return f"{share:.1%}".replace("%", " %")


def _ends(interval: tuple[float, float]) -> str:
    return f"{100 * interval[0]:.2f}–{100 * interval[1]:.2f} %"


def _usd(nano: float) -> str:
    return f"{nano / 1e9:.6f}"
