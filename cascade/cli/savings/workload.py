"""The output of `cascade savings --workload`: the bills, every assumption, and what they would be without it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final, cast

from cascade.cli.output import stdout, table
from cascade.cli.savings.amounts import percent_text, usd_text
from cascade.cli.savings.ledger import observed_fields
from cascade.cli.savings.parts import parts_fields, parts_table
from cascade.savings import (
    Alternative,
    Month,
    Observed,
    PriceBook,
    PricedWorkload,
    Way,
    alternatives,
    ways_to,
)

__all__ = ["WorkloadReport", "make_report", "report_fields", "show_report"]

_NANO: Final = 1_000_000_000
_ASSUMED: Final = (
    "tickets", "calls_per_ticket", "input_tokens", "output_tokens", "mix", "policy", "alone", "router_tokens",
    "router_output_tokens", "router_per", "router", "cache_read_share", "cache_write_share", "batch_share",
    "response_cache_share",
)  # fmt: skip
_SHARES: Final = {
    "cache_read_share": "of the input read from the prompt cache, on every model",
    "batch_share": "of the calls to Claude models in batches, which a waiting customer does not get",
    "response_cache_share": "of the calls answered from the response cache",
}


@dataclass(frozen=True, slots=True)
class WorkloadReport:
    """The command's result. `observed`: the same workload with the ledger's shares, and what those were taken from."""

    priced: PricedWorkload
    month: Month
    routed: bool
    alternatives: tuple[Alternative, ...]
    ways: tuple[Way, ...]
    observed: tuple[PricedWorkload, Observed] | None = None

    @property
    def headline(self) -> int:
        """The reported bill: the routed one, if that was asked for, else the climb's."""
        return self.month.routed if self.routed else self.month.climb


def make_report(priced: PricedWorkload, book: PriceBook, seen: Observed | None, *, routed: bool) -> WorkloadReport:
    """Compute all that is shown. `seen`: what a ledger shows, whose shares are set beside the described ones."""
    published = priced.workload.published
    ways = () if published is None else tuple(ways_to(priced, int(published.usd * _NANO)))
    observed = None if seen is None or not seen.answered else (seen.applied_to(priced), seen)
    return WorkloadReport(priced, priced.month(), routed, tuple(alternatives(priced, book)), ways, observed)


def report_fields(report: WorkloadReport) -> dict[str, Any]:
    """The fields of `--json`. Every amount is in USD a month, and an estimate."""
    priced, work = report.priced, report.priced.workload
    published = work.published
    return {
        "workload": work.name,
        "policy": priced.policy.name,
        "calls": float(work.calls),
        "basis": "estimate",
        **_month_fields(report.month),
        "headline": "routed" if report.routed else "climb",
        "published": None
        if published is None
        else {
            "usd_per_month": float(published.usd),
            "alone_usd_per_month": None if published.alone_usd is None else float(published.alone_usd),
            "states": list(published.states),
            "ways": [
                {
                    "assumption": way.assumption,
                    "names": list(way.names),
                    "share": None if way.share is None else float(way.share),
                    "routed_usd_per_month": way.amount / _NANO,
                }
                for way in report.ways
            ],
        },
        "models": [
            {
                "name": name,
                "model": model,
                "share": float(work.shares.get(name, 0)),
                "usd_per_million_tokens": {"input": read / _NANO, "output": out / _NANO},
            }
            for name, model, (read, out) in _models(priced)
        ],
        "assumptions": [
            {"assumption": key, "value": _plain(value), "published": is_published}
            for key, value, is_published in _assumptions(priced)
        ],
        "alternatives": [
            {"assumption": one.assumption, "given": one.given, "value": one.value, **_month_fields(one.month)}
            for one in report.alternatives
        ],
        "parts": parts_fields(priced.parts(routed=report.routed), Fraction(1), paid="estimate"),
        "observed": None
        if report.observed is None
        else {**observed_fields(report.observed[1]), **_month_fields(report.observed[0].month())},
    }


def _month_fields(month: Month) -> dict[str, Any]:
    return {
        "usd_per_month": {
            "alone": month.alone / _NANO,
            "routed": month.routed / _NANO,
            "climb": month.climb / _NANO,
            "router": month.router / _NANO,
            "triage": month.triage / _NANO,
        }
    }


def _models(priced: PricedWorkload) -> Iterator[tuple[str, str, tuple[int, int]]]:
    """Name, model, and its prices in nano-USD per million tokens."""
    for one in (*priced.ladder, *priced.others.values()):
        tier = one.rates.live.tiers[0][1]
        yield one.name, one.model, (tier.input, tier.output)


def _assumptions(priced: PricedWorkload) -> Iterator[tuple[str, Any, bool]]:
    """Each input: its key, its value, and whether it was published."""
    work = priced.workload
    stated = work.published.states if work.published else ()
    effective = {"alone": priced.alone, "router": work.router or priced.ladder[0].name, "policy": priced.policy.name}
    for key in _ASSUMED:
        value: Any = work.shares if key == "mix" else effective.get(key, getattr(work, key))
        yield key, value, key in stated
    for name in work.models:
        yield f"models.{name}", priced.models[name], f"models.{name}" in stated


def _plain(value: Any) -> Any:
    """As a JSON value."""
    if isinstance(value, Mapping):
        return {name: float(share) for name, share in cast("Mapping[str, Fraction]", value).items()}
    return float(value) if isinstance(value, Decimal) else value


def _text(key: str, value: Any) -> str:
    if key == "mix":
        return " / ".join(f"{name} {percent_text(float(share), 0)}" for name, share in value.items())
    if key.endswith("_share"):
        return percent_text(float(value))
    return f"{value:,}" if isinstance(value, int) else str(value)


# --- tables -----------------------------------------------------------------------------------------------------------


def show_report(report: WorkloadReport) -> None:
    """Print the bills beside the published ones, the ways to those, all assumptions, and the alternatives."""
    priced, work = report.priced, report.priced.workload
    stdout.print(_verdict(report), style="bold")
    stdout.print(
        f"{work.name}: {float(work.calls):,.0f} calls a month ({work.tickets:,} tickets, {work.calls_per_ticket:f} calls each), each"
        f" {work.input_tokens:,} tokens in and {work.output_tokens:,} out; policy {priced.policy.name}"
    )
    _show_bills(report)
    _show_ways(report)
    _show_assumptions(report)
    _show_alternatives(report)
    if work.cache_read_share or work.cache_write_share or work.batch_share or work.response_cache_share:
        parts = priced.parts(routed=report.routed)
        stdout.print(parts_table(parts, Fraction(1), f"{priced.alone} alone, live, uncached", paid="estimate"))
    stdout.print(
        "A router pays one model for each call. A climb pays the rungs below the one that answers, too, and the triage prompt, which"
        " stands in the router's place. Not included: retries, thinking, tools' tokens, summaries and plans. Nothing here"
        " says whether the answers are as good: record some of the traffic, and run `cascade calibrate`."
    )


def _verdict(report: WorkloadReport) -> str:
    published, name = report.priced.workload.published, "routed" if report.routed else "as a climb"
    text = f"{name} {_month_text(report.headline)} against {_month_text(report.month.alone)} USD a month (estimate)"
    if published is None:
        return text
    against = "" if published.alone_usd is None else f" against {float(published.alone_usd):,.2f}"
    return f"{text}; published: about {float(published.usd):,.2f}{against}"


def _show_bills(report: WorkloadReport) -> None:
    month, priced = report.month, report.priced
    published = priced.workload.published
    heads = ("USD/month", f"saved: {priced.alone} alone", "published")
    rows = table("", *heads[: 2 if published is None else 3], title="the bill (estimate)", right=heads)
    alone_usd = published.alone_usd if published else None

    def saved(cost: int) -> str:
        return percent_text(1 - cost / month.alone) if month.alone else ""

    lines: list[tuple[str, int, str, str]] = [
        (f"{priced.alone} alone", month.alone, "", "" if alone_usd is None else f"{float(alone_usd):,.2f}"),
        (
            "routed: one model paid", month.routed, saved(month.routed),
            "" if published is None else f"about {float(published.usd):,.2f}",
        ),
        ("  of it the router", month.router, "", ""),
        ("climb: every rung paid", month.climb, saved(month.climb), ""),
        ("  of it the triage prompt", month.triage, "", ""),
    ]  # fmt: skip
    if report.observed is not None:
        seen = report.observed[0].month()
        lines.append(("climb, with the ledger's shares", seen.climb, saved(seen.climb), ""))
    for what, amount, share, other in lines:
        rows.add_row(what, _month_text(amount), share, *(() if published is None else (other,)))
    stdout.print(rows)


def _show_ways(report: WorkloadReport) -> None:
    published = report.priced.workload.published
    if published is None:
        return
    wanted = f"{float(published.usd):,.2f}"
    stdout.print(f"What would make the routed bill {wanted} USD, one thing at a time:")
    states = published.states
    for way in report.ways:
        if way.assumption == "unpaid":
            share, names = percent_text(float(way.share or 0), 0), " and ".join(way.names)
            text = (
                f"{names} ({share} of the calls) cost nothing: {_month_text(way.amount)}"
                if names
                else "nothing: it is nearest as it is"
            )
        elif way.assumption == "mix":
            order = " / ".join(way.names)
            text = f"mix: its shares in the cheapest order, {order}, make {_month_text(way.amount)}"
        elif way.share is None:
            text = f"{way.assumption}: not by itself; all of it makes {_month_text(way.amount)}"
        else:
            text = f"{way.assumption}: {percent_text(float(way.share))} {_SHARES[way.assumption]}"
        stated = way.assumption in states and way.assumption != "mix"
        stdout.print(f"  {text}{'' if stated else '; not published'}")


def _show_assumptions(report: WorkloadReport) -> None:
    is_compared = report.priced.workload.published is not None
    rows = table("assumption", "value", *(("published",) if is_compared else ()), title="assumptions", right=())
    for key, value, is_published in _assumptions(report.priced):
        of_it = ("yes" if is_published else "no: open",) if is_compared else ()
        rows.add_row(key, _text(key, value), *of_it)
    stdout.print(rows)
    shares, heads = report.priced.workload.shares, ("share", "USD per million in", "out")
    rows = table(
        "",
        "model",
        *heads,
        title="models and prices (list prices, unless the policy or --price sets them)",
        right=heads,
    )
    for name, model, (read, out) in _models(report.priced):
        share = percent_text(float(shares.get(name, 0)), 0)
        rows.add_row(name, model, share, usd_text(Fraction(read)), usd_text(Fraction(out)))
    stdout.print(rows)


def _show_alternatives(report: WorkloadReport) -> None:
    heads, title = ("alone", "routed", "climb"), "with one assumption changed, USD/month (estimate)"
    rows = table("assumption", "value", *heads, title=title, right=heads)
    for assumption, value, month in (
        ("as described", "", report.month),
        *((one.assumption, one.value, one.month) for one in report.alternatives),
    ):
        rows.add_row(assumption, value, *map(_month_text, (month.alone, month.routed, month.climb)))
    stdout.print(rows)


def _month_text(nano: int) -> str:
    return f"{nano / _NANO:,.2f}"
