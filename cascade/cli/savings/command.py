"""`cascade savings`: today's bill from a usage export, and the bill under a policy. Calls no model."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from cascade.cli.output import print_json
from cascade.cli.savings.output import SavingsReport, headline_of, report_fields, show_report
from cascade.core.errors import PolicyError, UsageExportError
from cascade.core.handoff.passing import carries_plans
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

__all__ = ["SavingsOptions", "run_savings"]

_ASSUMED_DAYS = 30


@dataclass(frozen=True, slots=True)
class SavingsOptions:
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


def run_savings(options: SavingsOptions, *, more: bool = False, as_json: bool) -> None:
    """Print the bill today and under the policy, with all tables if `more`.

    Raises UsageExportError, PolicyError and CorpusError.
    """
    result = _compute(options)
    if as_json:
        print_json(report_fields(result))
    else:
        show_report(result, more=more or options.cached is not None)  # --cached asks for the table of variants


def _compute(options: SavingsOptions) -> SavingsReport:
    if options.mix is not None and options.corpus is not None:
        raise UsageExportError("both were given", where="--mix, --corpus", hint="give only one")
    policy = load_policy(options.policy or default_policy())
    _refuse_reviews(policy)
    _refuse_plans(policy)
    book = PriceBook(read_prices(options.prices), policy)
    export = read_usage(options.usage, read_map(options.columns))
    if options.requests is not None:
        export = with_requests(export, options.requests)
    mix = _mix(options, policy)
    cached = _cached_share(options.cached)
    bill = make_bill(export.slices, book, cached)
    projection = project(export.slices, policy, book, mix, bill.cost, cached)
    period = _period(options, export)
    headline = headline_of(projection.as_today, routed=options.routed)
    certified = policy.certificate is not None and not changed_parts(policy)
    case = Case(bill, projection, policy, mix, headline, export.requests, period, certified, not options.routed)
    return SavingsReport(
        export, policy, bill, mix, projection, advise(case), period, options.routed, case.most_requests
    )


def _refuse_reviews(policy: Policy) -> None:
    lists = {"checks": policy.checks} | {f"tasks[{n}].checks": task.checks for n, task in enumerate(policy.tasks)}
    for key, checks in lists.items():
        if any(check.kind == "review" for check in checks):
            raise PolicyError(
                "a bill is not projected for a policy with a review: a usage export does not tell what reviews would cost",
                where=f"policy {policy.name!r}",
                key=key,
                hint="record the reviews and run `cascade calibrate`, or project the bill of the policy without the review",
            )


def _refuse_plans(policy: Policy) -> None:
    if carries_plans(policy):
        raise PolicyError(
            "a bill is not projected for a policy with plans: a usage export does not tell how long they would be",
            where=f"policy {policy.name!r}",
            key="handoff",
            hint="project the bill of the policy with `handoff: none`",
        )


def _mix(options: SavingsOptions, policy: Policy) -> Mix | None:
    if options.mix is not None:
        return read_mix(options.mix, [rung.rung for rung in policy.ladder])
    if options.corpus is None:
        return None
    with open_corpus(find_corpus(options.corpus)) as reader:
        return mix_of_corpus(reader, policy)


def _period(options: SavingsOptions, export: UsageExport) -> Period:
    if options.period_days is not None:
        if not 0 < options.period_days < 100_000:
            raise UsageExportError(
                "must be above 0", where="--period-days", hint="give the number of days that the export covers"
            )
        return Period(Fraction(str(options.period_days)), "given")
    if export.days is not None:
        return Period(Fraction(export.days), "the export's dates")
    return Period(Fraction(_ASSUMED_DAYS), "assumed: the export has no dates, --period-days N", assumed=True)


def _cached_share(share: float | None) -> Fraction | None:
    if share is not None and not 0 <= share <= 1:
        raise UsageExportError("must be from 0 to 1", where="--cached", hint="give a share of the input tokens")
    return None if share is None else Fraction(str(share))
