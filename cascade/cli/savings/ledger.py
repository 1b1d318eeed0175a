"""The output of `cascade savings` for a ledger: what was saved, and by what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

from cascade.cli.output import stdout
from cascade.cli.savings.amounts import percent_text, usage_fields, usd_text
from cascade.cli.savings.parts import parts_fields, parts_table
from cascade.core.policy import Policy
from cascade.costs import Period
from cascade.policy.binding import baseline_rung
from cascade.savings import DAYS_A_MONTH, Observed

__all__ = ["LedgerReport", "observed_fields", "report_fields", "show_report"]

_NANO: Final = 1_000_000_000
_DAY_S: Final = 86_400


@dataclass(frozen=True, slots=True)
class LedgerReport:
    """What the command shows. `where`: the ledger; `period`: what was read of it."""

    where: str
    policy: Policy
    observed: Observed
    period: Period

    @property
    def days(self) -> Fraction:
        """From the first counted request, or the period's start, to its end: at least a second."""
        first = self.observed.first
        since = self.period.since if first is None else max(first, self.period.since)
        return Fraction(max(1, round(self.period.until - since)), _DAY_S)

    @property
    def months(self) -> Fraction:
        """The factor from the period's amount to a month's."""
        return DAYS_A_MONTH / self.days


def report_fields(report: LedgerReport) -> dict[str, Any]:
    """The fields of `--json`."""
    seen = report.observed
    return {
        "ledger": report.where,
        "policy": report.policy.name,
        "period": {"since": report.period.since, "until": report.period.until, "days": float(report.days)},
        "baseline": baseline_rung(report.policy).model,
        **observed_fields(seen),
        "parts": parts_fields(seen.parts, report.months, paid="measured"),
        "not_counted": {
            "unanswered": seen.unanswered,
            "unanswered_usd": seen.unanswered_cost / _NANO,
            "without_estimate": seen.unknown,
            "other_policies_or_arms": seen.others,
        },
        "beside_requests": {"count": seen.beside, "cost_usd": seen.beside_cost / _NANO},
        "estimated_calls": seen.estimated,
        "notes": list(_notes(report)),
    }


def observed_fields(seen: Observed) -> dict[str, Any]:
    """Counts and shares. All were observed."""
    mix = seen.mix
    return {
        "requests": seen.requests,
        "answered_by_ladder": seen.answered,
        "in_batches": seen.batched,
        "from_response_cache": seen.hits,
        "tokens": usage_fields(seen.tokens),
        "shares": {key: float(share) for key, share in seen.shares.items()},
        "mix": mix and {rung: float(share) for rung, share in zip(seen.rungs, mix.shares, strict=True)},
        "reached": mix and {rung: float(share) for rung, share in zip(seen.rungs, mix.reached, strict=True)},
    }


def show_report(report: LedgerReport) -> None:
    """Print the parts of the saving, the shares, and what was not counted."""
    seen = report.observed
    stdout.print(_verdict(report), style="bold")
    stdout.print(
        f"policy {report.policy.name} in {report.where}, {report.period.label}: {seen.answered:,} requests answered by the ladder"
        f" ({seen.batched:,} in batches), {seen.hits:,} from the response cache; {float(report.days):.3g} days from the first one on"
    )
    if seen.requests:
        reference = f"{baseline_rung(report.policy).model} alone, live, uncached"
        if seen.hits:
            reference += "; for the response cache, the spared climbs"
        stdout.print(parts_table(seen.parts, report.months, reference, paid="measured"))
    if seen.shares and (mix := seen.mix) is not None:
        by_rung = ", ".join(
            f"{rung} {percent_text(float(share))}" for rung, share in zip(seen.rungs, mix.shares, strict=True)
        )
        shares = {key: percent_text(float(share)) for key, share in seen.shares.items()}
        stdout.print(
            f"observed: answered by {by_rung}; of the input {shares['cache_read_share']} read from the prompt cache and"
            f" {shares['cache_write_share']} written; {shares['batch_share']} of the climbs in batches;"
            f" {shares['response_cache_share']} of the requests from the response cache"
        )
    for note in _notes(report):
        stdout.print(f"note: {note}", style="dim")


def _verdict(report: LedgerReport) -> str:
    parts, seen = report.observed.parts, report.observed
    if not seen.requests or not parts.reference:
        return "nothing was saved or lost yet: the period has no answered request with an estimate"
    saved = parts.saved / parts.reference
    how = f"saved {percent_text(saved)}" if saved >= 0 else f"cost {percent_text(-saved)} more"
    return f"{how} against {baseline_rung(report.policy).model} alone: {usd_text(Fraction(abs(parts.saved)))} USD (estimate)"


def _notes(report: LedgerReport) -> Iterator[str]:
    seen = report.observed
    if seen.parts.prompt_caching < 0:
        lost = usd_text(Fraction(-seen.parts.prompt_caching))
        yield f"prompt caching costs {lost} USD more than it saves: what is written is not read often enough"
    if seen.parts.climbing < 0:
        yield "climbing costs more than the baseline alone would have: see `cascade calibrate`"
    if seen.beside:
        cost = usd_text(Fraction(seen.beside_cost))
        yield f"{seen.beside:,} calls that planned and reviewed runs, and climbs that repeated a subtask, cost {cost} USD, which is counted"
    if seen.unanswered:
        cost = usd_text(Fraction(seen.unanswered_cost))
        yield f"{seen.unanswered:,} failed or abstained requests are not counted (they cost {cost} USD)"
    if seen.unknown:
        yield f"{seen.unknown:,} requests without an estimate of the baseline's cost are not counted"
    if seen.others:
        yield f"{seen.others:,} requests of other policies, or that the ladder did not answer, are not counted"
    if seen.estimated:
        yield f"{seen.estimated:,} calls were not billed at today's prices: their parts are proportional"
