"""The output of `cascade savings`: JSON, and tables for people."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

from cascade.cli.output import stdout, table
from cascade.cli.savings.amounts import percent_text, usage_fields, usd_text
from cascade.cli.savings.parts import parts_fields, parts_table
from cascade.core.policy import Policy
from cascade.policy.certificates import certificate_text, changed_parts
from cascade.savings import Advice, Basis, Bill, Mix, Observed, Parts, Period, Projection, UsageExport, Variant
from cascade.savings.advice import FEW_ITEMS
from cascade.savings.periods import DAYS_A_MONTH

__all__ = ["SavingsReport", "headline_of", "report_fields", "show_report"]

_PRICES: Final = "list prices, unless the policy or --price sets them"


@dataclass(frozen=True, slots=True)
class SavingsReport:
    """The command's result. `period`: what the export covers; `most_requests`: see `savings.Case`.

    `seen`: the ledger that the mix is of. `parts`: of the saving on the export's traffic, with all that was observed there; None
    without a ledger, or a number of requests.
    """

    export: UsageExport
    policy: Policy
    bill: Bill
    mix: Mix | None
    projection: Projection
    advice: Advice
    period: Period
    routed: bool
    most_requests: int | None = None
    seen: Observed | None = None
    parts: Parts | None = None

    @property
    def headline(self) -> int | None:
        """The reported bill under the policy, in nano-USD."""
        return headline_of(self.projection.as_today, routed=self.routed)


def headline_of(variant: Variant, *, routed: bool) -> int | None:
    """The routed bill if `routed`, else the climb's, with triage tokens if they are known."""
    return variant.routed if routed else variant.full_climb


def report_fields(result: SavingsReport) -> dict[str, Any]:
    """The fields of `--json`: each figure with its basis."""
    bill, projection, period = result.bill, result.projection, result.period
    today = bill.cost

    def money(nano: int | None, basis: Basis) -> dict[str, Any] | None:
        return None if nano is None else _money(nano, period, basis)

    def under(nano: int | None) -> dict[str, Any] | None:
        if nano is None:
            return None
        alone = zip(projection.rungs, projection.as_today.alone, strict=True)
        saved = {"today": _saved(nano, today), **{rung: _saved(nano, cost) for rung, cost in alone}}
        return {**_money(nano, period, "estimate"), "saved_against": saved}

    def variant(one: Variant) -> dict[str, Any]:
        return {
            "caching": one.caching,
            "all_batch": one.all_batch,
            "today": money(bill.otherwise[one.caching, one.all_batch], "estimate"),
            "alone": {rung: money(cost, "estimate") for rung, cost in zip(projection.rungs, one.alone, strict=True)},
            "routed": money(one.routed, "estimate"),
            "climb": money(one.climb, "estimate"),
            "climb_with_triage": money(one.climb_with_triage, "estimate"),
        }

    now = projection.as_today
    return {
        "usage": {
            "source": result.export.source,
            "rows": result.export.rows,
            "skipped_rows": result.export.skipped,
            "total_rows": result.export.totals,
            "unread_columns": list(result.export.unread),
            "columns": dict(result.export.columns),
            "requests": result.export.requests,
            "days": {"value": float(period.days), "from": period.source},
        },
        "policy": result.policy.name,
        "certificate": _certificate_text(result.policy),
        "today": {
            **_money(today, period, bill.basis),
            "prices": _PRICES,
            "models": [
                {
                    "model": line.model,
                    "batch": line.batch,
                    "requests": line.requests,
                    "usage": usage_fields(line.usage),
                    **_money(line.cost, period, line.basis),
                }
                for line in bill.lines
            ],
        },
        "mix": _mix_fields(result),
        "under_policy": {
            "alone": {rung: under(cost) for rung, cost in zip(projection.rungs, now.alone, strict=True)},
            "routed": under(now.routed),
            "climb": under(now.climb),
            "climb_with_triage": under(now.climb_with_triage),
            "headline": "routed" if result.routed else "climb",
            "triage_tokens": {"input": projection.triage[0], "output": projection.triage[1], "basis": "estimate"},
        },
        "parts": result.parts and parts_fields(result.parts, period.months, paid="estimate"),
        "variants": [variant(one) for one in projection.variants],
        "at_escalation_rate": [
            {"rate": float(rate), **_money(cost, period, "estimate"), "saved_against_today": _saved(cost, today)}
            for rate, cost in projection.at_rate
        ],
        "break_even": {
            "requests": result.most_requests,
            "today": _rate(projection.break_even_today),
            **{
                f"single:{rung}": _rate(rate)
                for rung, rate in zip(projection.rungs[1:], projection.break_even, strict=True)
            },
        },
        "advice": {
            "routing_pays": result.advice.pays,
            "verdict": result.advice.verdict,
            "instead": result.advice.instead and f"single:{result.advice.instead}",
            "findings": [
                {"code": one.code, "against": one.against, "message": one.message, "basis": one.basis}
                for one in result.advice.findings
            ],
        },
    }  # fmt: skip


def _money(nano: int, period: Period, basis: Basis) -> dict[str, Any]:
    """An amount over the export's period (with `basis`), per day and per month, each with its own basis."""
    a_day = Fraction(nano) / period.days / 1_000_000_000
    return {
        "usd": nano / 1e9,
        "usd_per_day": float(a_day),
        "usd_per_month": float(a_day * DAYS_A_MONTH),
        "basis": basis,
        "per_day_basis": basis if basis == "estimate" else period.day_basis,
        "per_month_basis": basis if basis == "estimate" else period.month_basis,
    }


def _saved(cost: int, against: int) -> float | None:
    """The share that `cost` saves, negative if it costs more; None if `against` is 0."""
    return float(1 - Fraction(cost, against)) if against else None


def _rate(rate: Fraction | None) -> dict[str, Any]:
    return {"rate": None if rate is None else float(rate), "basis": "estimate"}


def _mix_fields(result: SavingsReport) -> dict[str, Any] | None:
    mix = result.mix
    if mix is None:
        return None
    rungs = result.projection.rungs
    fields: dict[str, Any] = {
        "shares": {rung: float(share) for rung, share in zip(rungs, mix.shares, strict=True)},
        "escalation_rate": {rung: float(rate) for rung, rate in zip(rungs, mix.escalation, strict=False)},
        "basis": mix.basis,
    }
    if (seen := mix.observed) is not None:
        fields["corpus"] = {
            "corpus": seen.corpus,
            "items": seen.items,
            "synthetic": seen.synthetic,
            "quality": seen.quality,
            "wrong": seen.wrong,
            "singles": {
                rung: single
                and {"quality": single[0], "wrong": single[1], "cost_usd": None if cost is None else cost / 1e9}
                for rung, single, cost in zip(rungs, seen.singles, seen.single_costs, strict=True)
            },
            "cost_usd": None if seen.cost is None else seen.cost / 1e9,
            "auroc": seen.auroc,
            "basis": "measured",
        }
    return fields


# --- tables -----------------------------------------------------------------------------------------------------------

_CACHING = {"as_exported": "as in the export", "none": "none", "assumed": "as assumed"}


def show_report(result: SavingsReport, *, more: bool) -> None:
    """Print the verdict, its reasons, and both bills; with `more` also caching, batch and escalation rates."""
    _show_advice(result)
    stdout.print()
    export, usage = result.export, result.export.usage
    requests = "number of requests not known" if export.requests is None else f"{export.requests:,} requests"
    stdout.print(
        f"{export.source}: {export.rows:,} rows, {requests}, {usage.prompt_tokens:,} tokens in"
        f" ({usage.cache_read:,} read from cache), {usage.output_tokens:,} out; {float(result.period.days):g} days ({result.period.source})"
    )
    if export.totals:
        stdout.print(f"note: total rows, not counted again: {export.totals:,}", style="dim")
    if export.unread:
        stdout.print(f"note: columns not read: {', '.join(export.unread)} (--map FIELD=COLUMN)", style="dim")
    _show_today(result)
    _show_policy(result)
    if result.parts is not None:
        title = "where a saving comes from, with the mix, the caches and the batches of the ledger"
        reference = f"{result.projection.rungs[-1]} alone, live, uncached"
        stdout.print(parts_table(result.parts, result.period.months, reference, paid="estimate", title=title))
    if more:
        _show_variants(result)
        _show_rates(result)
    else:
        stdout.print("note: --more shows prompt caching, batch, and other escalation rates", style="dim")


def _show_today(result: SavingsReport) -> None:
    title = f"today's bill ({_PRICES})"
    scaled = [
        name if basis == "measured" else f"{name} (estimate)"
        for name, basis in (("USD/day", result.period.day_basis), ("USD/month", result.period.month_basis))
    ]
    heads = ("tokens in", "out", "USD", *scaled)
    rows = table("model", "", *heads, "basis", title=title, right=heads)
    for line in result.bill.lines:
        size = (f"{line.usage.prompt_tokens:,}", f"{line.usage.output_tokens:,}")
        rows.add_row(line.model, "batch" if line.batch else "", *size, *_amounts(line.cost, result), line.basis)
    rows.add_row("all", "", "", "", *_amounts(result.bill.cost, result), result.bill.basis)
    stdout.print(rows)


_NUMBERS = ("USD", "USD/day", "USD/month")


def _certificate_text(policy: Policy) -> str:
    return certificate_text(policy, changed_parts(policy))


def _show_policy(result: SavingsReport) -> None:
    projection, now, mix = result.projection, result.projection.as_today, result.mix
    against = {"today": result.bill.cost, **dict(zip(projection.rungs[1:], now.alone[1:], strict=True))}
    heads = [f"saved: {name}" for name in against]
    title = f"under policy {result.policy.name} ({_certificate_text(result.policy)}), {_mix_title(result)}"
    rows = table("", "USD", "USD/day", "USD/month", *heads, "basis", title=title, right=(*_NUMBERS, *heads))
    bills = [(f"{rung} alone", cost) for rung, cost in zip(projection.rungs, now.alone, strict=True)]
    if mix is not None and now.routed is not None and now.climb is not None:
        bills += [
            ("routed: one model paid", now.routed),
            ("climb: every rung paid", now.climb),
        ]
        if now.climb_with_triage is not None:
            bills.append(("climb, with triage prompt", now.climb_with_triage))
    for name, cost in bills:
        saved = [percent_text(_saved(cost, other)) for other in against.values()]
        rows.add_row(name, *_amounts(cost, result), *saved, "estimate")
    stdout.print(rows)
    if mix is not None:
        stdout.print(
            "A cascade does not know in advance which model a request needs, so it pays every rung on the way up. Published savings"
            f" usually assume that it does (routed). Triage adds about {projection.triage[0]} tokens to a prompt and"
            f" {projection.triage[1]} to a reply, on every rung below the top (estimate)."
        )


def _mix_title(result: SavingsReport) -> str:
    mix = result.mix
    if mix is None:
        return "no mix given"
    shares = " / ".join(
        f"{rung} {float(share):.1%}" for rung, share in zip(result.projection.rungs, mix.shares, strict=True)
    )
    if result.seen is not None:
        return f"mix {shares} (observed in the ledger, {result.seen.answered:,} requests)"
    if (seen := mix.observed) is None:
        return f"mix {shares} (given: estimate)"
    made = "synthetic corpus" if seen.synthetic else "corpus"
    few = ", few: an estimate" if seen.items < FEW_ITEMS else ""
    return f"mix {shares} (measured on {made} {seen.corpus}, {seen.items:,} items{few})"


def _show_variants(result: SavingsReport) -> None:
    title = "with and without prompt caching and batch, USD/month (estimate)"
    top = result.projection.rungs[-1]
    columns = ("today", f"{top} alone", "under the policy")
    rows = table("prompt caching", "batch", *columns, title=title, right=columns)
    for one in result.projection.variants:
        costs = (
            result.bill.otherwise[one.caching, one.all_batch],
            one.alone[-1],
            headline_of(one, routed=result.routed),
        )
        rows.add_row(
            _CACHING[one.caching], "all" if one.all_batch else "as in the export",
            *("" if cost is None else _amounts(cost, result)[2] for cost in costs),
        )  # fmt: skip
    stdout.print(rows)
    if not result.export.usage.prompt_tokens - result.export.usage.input_tokens:
        stdout.print(
            "The export has no cached tokens; --cached SHARE shows the bill with that share of the input cached."
        )


def _show_rates(result: SavingsReport) -> None:
    projection = result.projection
    first, top = projection.rungs[0], projection.rungs[-1]
    above = "the rungs above it as in the mix" if result.mix else "the rungs above it the same"
    title = f"a climb, if {first} escalates x of its requests ({above}; estimate)"
    heads = ("USD/day", "USD/month", "saved against today", f"saved against {top}")
    rows = table("x", *heads, title=title, right=("x", *heads))
    for rate, cost in projection.at_rate:
        saved = (_saved(cost, result.bill.cost), _saved(cost, projection.as_today.alone[-1]))
        rows.add_row(f"{float(rate):.0%}", *_amounts(cost, result)[1:], *(percent_text(one) for one in saved))
    stdout.print(rows)
    limits = {"today's bill": projection.break_even_today}
    limits |= {f"{rung} alone": rate for rung, rate in zip(projection.rungs[1:], projection.break_even, strict=True)}
    limits_text = ", ".join(f"{name} {_limit(rate)}" for name, rate in limits.items())
    stdout.print(f"It breaks even (estimate) with: {limits_text}")


def _limit(rate: Fraction | None) -> str:
    if rate is None:
        return "at no x"
    return "at any x" if rate == 1 else f"at x = {float(rate):.2%}"


def _show_advice(result: SavingsReport) -> None:
    stdout.print(result.advice.verdict, style="bold")
    for finding in result.advice.findings:
        stdout.print(f"  {'against' if finding.against else 'note'}: {finding.message} ({finding.basis})")


def _amounts(nano: int, result: SavingsReport) -> tuple[str, str, str]:
    """An amount as text: over the period, per day, per month."""
    a_day = Fraction(nano) / result.period.days
    return usd_text(Fraction(nano)), usd_text(a_day), usd_text(a_day * DAYS_A_MONTH)
