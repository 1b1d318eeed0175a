"""`cascade savings`: today's bill from a usage export, and the bill under a policy. Asks no model, spends nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from cascade.cli.outlooks import Outlook, headline_of, outlook_fields, show_outlook
from cascade.cli.output import print_json
from cascade.core.errors import UsageExportError
from cascade.core.policy import Policy
from cascade.corpora import open_corpus
from cascade.engine import default_policy
from cascade.loading import load_policy
from cascade.plans import make_plan
from cascade.savings import (
    Case,
    Mix,
    PriceBook,
    UsageExport,
    advise,
    make_bill,
    observe,
    project,
    read_map,
    read_mix,
    read_prices,
    read_usage,
)
from cascade.shipped import shipped

__all__ = ["Sought", "run_savings"]

_ASSUMED_DAYS = 30


@dataclass(frozen=True, slots=True)
class Sought:
    """The command's arguments. `routed`: the headline is the routed bill, not the climb's."""

    usage: Path
    policy: str | None = None
    corpus: str | None = None
    mix: str | None = None
    routed: bool = False
    period_days: float | None = None
    requests: int | None = None
    cached: float | None = None
    columns: tuple[str, ...] = ()
    prices: tuple[str, ...] = ()


def run_savings(sought: Sought, *, as_json: bool) -> None:
    """Print what the policy would do to the bill. Raises UsageExportError, PolicyError and CorpusError."""
    result = _work_out(sought)
    if as_json:
        print_json(outlook_fields(result))
    else:
        show_outlook(result)


def _work_out(sought: Sought) -> Outlook:
    if sought.mix is not None and sought.corpus is not None:
        raise UsageExportError("both were given", where="--mix, --corpus", mend="give one of them")
    policy = load_policy(sought.policy or default_policy())
    book = PriceBook(read_prices(sought.prices), policy)
    export = _with_requests(read_usage(sought.usage, read_map(sought.columns)), sought.requests)
    mix = _mix(sought, policy)
    cached = _cached_share(sought.cached)
    bill = make_bill(export.slices, book, cached)
    projection = project(export.slices, policy, book, mix, bill.cost, cached)
    days, days_from = _period(sought, export)
    headline = headline_of(projection.as_today, routed=sought.routed)
    advice = advise(Case(bill, projection, policy, mix, headline, export.requests, days))
    return Outlook(export, policy, bill, mix, projection, advice, days, days_from, sought.routed)


def _mix(sought: Sought, policy: Policy) -> Mix | None:
    if sought.mix is not None:
        return read_mix(sought.mix, [rung.rung for rung in policy.ladder])
    if sought.corpus is None:
        return None
    with open_corpus(shipped("corpora", sought.corpus) or sought.corpus) as reader:
        return observe(reader, make_plan(policy))


def _with_requests(export: UsageExport, requests: int | None) -> UsageExport:
    """The export with the number of requests that the user knows, spread over its slices by their tokens."""
    if requests is None or export.requests is not None:
        return export
    usage = [part.usage.prompt_tokens + part.usage.output_tokens for part in export.slices]
    total, given = sum(usage) or 1, 0
    slices = list(export.slices)
    for place, part in enumerate(slices):
        upto = requests * sum(usage[: place + 1]) // total
        slices[place] = replace(part, requests=upto - given)
        given = upto
    return replace(export, slices=tuple(slices))


def _period(sought: Sought, export: UsageExport) -> tuple[Fraction, str]:
    if sought.period_days is not None:
        if not 0 < sought.period_days < 100_000:
            raise UsageExportError("must be above 0", where="--period-days", mend="the days that the export covers")
        return Fraction(str(sought.period_days)), "given"
    if export.days is not None:
        return Fraction(export.days), "the export's dates"
    return Fraction(_ASSUMED_DAYS), "assumed, the export has no dates: --period-days N"


def _cached_share(share: float | None) -> Fraction | None:
    if share is not None and not 0 <= share <= 1:
        raise UsageExportError("must be from 0 to 1", where="--cached", mend="a share of the input tokens")
    return None if share is None else Fraction(str(share))
