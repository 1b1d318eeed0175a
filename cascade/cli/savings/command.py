"""`cascade savings`: today's bill from a usage export, and the bill under a policy. Asks no model, spends nothing."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from cascade.cli.output import print_json
from cascade.cli.savings.output import Outlook, headline_of, outlook_fields, show_outlook
from cascade.core.errors import UsageExportError
from cascade.core.policy import Policy
from cascade.corpora import open_corpus
from cascade.engine import default_policy
from cascade.policy.certificates import changed_parts
from cascade.policy.loading import load_policy
from cascade.policy.shipped import find_corpus
from cascade.savings import (
    Case,
    Mix,
    Period,
    PriceBook,
    UsageExport,
    advise,
    make_bill,
    mix_of_corpus,
    project,
    read_map,
    read_mix,
    read_prices,
    read_usage,
    with_requests,
)

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


def run_savings(sought: Sought, *, more: bool = False, as_json: bool) -> None:
    """Print what the policy would do to the bill, all of it with `more`. Raises UsageExportError, PolicyError and CorpusError."""
    result = _work_out(sought)
    if as_json:
        print_json(outlook_fields(result))
    else:
        show_outlook(result, more=more or sought.cached is not None)  # who gave a share wants to see it


def _work_out(sought: Sought) -> Outlook:
    if sought.mix is not None and sought.corpus is not None:
        raise UsageExportError("both were given", where="--mix, --corpus", hint="give one of them")
    policy = load_policy(sought.policy or default_policy())
    book = PriceBook(read_prices(sought.prices), policy)
    export = read_usage(sought.usage, read_map(sought.columns))
    if sought.requests is not None:
        export = with_requests(export, sought.requests)
    mix = _mix(sought, policy)
    cached = _cached_share(sought.cached)
    bill = make_bill(export.slices, book, cached)
    projection = project(export.slices, policy, book, mix, bill.cost, cached)
    period = _period(sought, export)
    headline = headline_of(projection.as_today, routed=sought.routed)
    certified = policy.certificate is not None and not changed_parts(policy)
    case = Case(bill, projection, policy, mix, headline, export.requests, period, certified, not sought.routed)
    return Outlook(export, policy, bill, mix, projection, advise(case), period, sought.routed, case.most_requests)


def _mix(sought: Sought, policy: Policy) -> Mix | None:
    if sought.mix is not None:
        return read_mix(sought.mix, [rung.rung for rung in policy.ladder])
    if sought.corpus is None:
        return None
    with open_corpus(find_corpus(sought.corpus)) as reader:
        return mix_of_corpus(reader, policy)


def _period(sought: Sought, export: UsageExport) -> Period:
    if sought.period_days is not None:
        if not 0 < sought.period_days < 100_000:
            raise UsageExportError(
                "must be above 0", where="--period-days", hint="give the number of days that the export covers"
            )
        return Period(Fraction(str(sought.period_days)), "given")
    if export.days is not None:
        return Period(Fraction(export.days), "the export's dates")
    return Period(Fraction(_ASSUMED_DAYS), "assumed: the export has no dates, --period-days N", assumed=True)


def _cached_share(share: float | None) -> Fraction | None:
    if share is not None and not 0 <= share <= 1:
        raise UsageExportError("must be from 0 to 1", where="--cached", hint="give a share of the input tokens")
    return None if share is None else Fraction(str(share))
