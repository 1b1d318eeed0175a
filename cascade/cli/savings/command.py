"""`cascade savings`: a bill, from a usage export, a workload or the ledger, and the bill under a policy. Calls no model."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from cascade.cli.engines import EngineOptions, Engines
from cascade.cli.output import print_json, stderr
from cascade.cli.reading import reading_behind
from cascade.cli.savings import ledger as ledger_view
from cascade.cli.savings import workload as workload_view
from cascade.cli.savings.output import SavingsReport, headline_of, report_fields, show_report
from cascade.core.errors import LedgerError, PolicyError, UsageExportError
from cascade.core.handoff.passing import carries_plans
from cascade.core.policy import Policy
from cascade.costs import read_since
from cascade.engine import default_policy
from cascade.ledger.requests import gather
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
    load_workload,
    make_bill,
    observe,
    price_workload,
    project,
    read_map,
    read_mix,
    read_prices,
    with_requests,
)

__all__ = ["SavingsOptions", "run_savings"]

_ASSUMED_DAYS = 30
_SINCE = "30d"


@dataclass(frozen=True, slots=True)
class SavingsOptions:
    """The command's arguments. `routed`: the headline is the routed bill, not the climb's."""

    usage: Path | None = None
    policy: str | None = None
    corpus: str | None = None
    mix: str | None = None
    routed: bool = False
    period_days: float | None = None
    requests: int | None = None
    cached: float | None = None
    columns: tuple[str, ...] = ()
    prices: tuple[str, ...] = ()
    workload: str | None = None
    ledger: str | None = None
    since: str | None = None
    engine: EngineOptions = field(default_factory=EngineOptions)

    @property
    def with_ledger(self) -> bool:
        """Whether the ledger is to be read beside an export or a workload."""
        return self.ledger is not None or self.since is not None

    @property
    def of_an_export(self) -> tuple[str, ...]:
        """The options given that say something of a usage export."""
        named = {
            "USAGE": self.usage, "--corpus": self.corpus, "--mix": self.mix, "--period-days": self.period_days,
            "--requests": self.requests, "--cached": self.cached, "--map": self.columns or None,
        }  # fmt: skip
        said = (name for name, value in named.items() if value is not None)
        return (*said, *self.engine.changed)


def run_savings(
    options: SavingsOptions, *, more: bool = False, as_json: bool, now: Callable[[], float] = time.time
) -> None:
    """Print the bill today and under the policy, with all tables if `more`; or a workload's; or what the ledger shows.

    `now` gives Unix seconds. Raises UsageExportError, PolicyError, CorpusError, and LedgerError if the ledger cannot be read.
    """
    if options.usage is None:
        _run_without_export(options, as_json=as_json, now=now)
        return
    with Engines(options.engine) as engines:
        result = _compute(options, engines, now)
    for note in engines.notes:
        stderr.print(f"note: {note}", style="dim")
    if as_json:
        print_json(report_fields(result) | ({"engine": engines.used} if engines.used is not None else {}))
    else:
        show_report(result, more=more or options.cached is not None)  # --cached asks for the table of variants


def _run_without_export(options: SavingsOptions, *, as_json: bool, now: Callable[[], float]) -> None:
    if options.of_an_export:
        where = ", ".join(options.of_an_export)
        raise UsageExportError("there is no usage export", where=where, hint="name one, or leave the option out")
    if options.workload is not None:
        workload = load_workload(options.workload)
        policy, book = _policy_and_prices(options, options.policy or workload.policy)
        _refuse_reviews(policy)
        priced = price_workload(workload, policy, book, options.workload)
        seen = _observe(options, policy, book, now).observed if options.with_ledger else None
        show = workload_view.make_report(priced, book, seen, routed=options.routed)
        print_json(workload_view.report_fields(show)) if as_json else workload_view.show_report(show)
        return
    if options.routed:
        raise UsageExportError("a ledger holds climbs", where="--routed", hint="leave it out")
    policy, book = _policy_and_prices(options, options.policy or default_policy())
    try:
        report = _observe(options, policy, book, now)
    except LedgerError as error:
        if options.with_ledger:
            raise
        raise LedgerError(f"{error}; without a ledger, name a usage export or a --workload") from None
    print_json(ledger_view.report_fields(report)) if as_json else ledger_view.show_report(report)


def _observe(
    options: SavingsOptions, policy: Policy, book: PriceBook, now: Callable[[], float]
) -> ledger_view.LedgerReport:
    """What the ledger shows of the policy in the period."""
    period = read_since(options.since or _SINCE, now())
    with reading_behind(options.ledger) as reader:
        observed = observe(gather(reader, period.since, period.until), policy, book)
        return ledger_view.LedgerReport(reader.where, policy, observed, period)


def _policy_and_prices(options: SavingsOptions, name: str) -> tuple[Policy, PriceBook]:
    policy = load_policy(name)
    return policy, PriceBook(read_prices(options.prices), policy)


def _compute(options: SavingsOptions, engines: Engines, now: Callable[[], float]) -> SavingsReport:
    assert options.usage is not None
    mixes = {"--mix": options.mix, "--corpus": options.corpus, "--ledger": options.ledger or options.since}
    if len(given := [name for name, value in mixes.items() if value is not None]) > 1:
        raise UsageExportError("both were given", where=", ".join(given[:2]), hint="each gives the mix: give only one")
    if options.workload is not None:
        raise UsageExportError("both were given", where="USAGE, --workload", hint="give only one")
    policy, book = _policy_and_prices(options, options.policy or default_policy())
    _refuse_reviews(policy)
    _refuse_plans(policy)
    export = engines.usage(options.usage, read_map(options.columns), required=options.corpus is None)
    if options.requests is not None:
        export = with_requests(export, options.requests)
    seen = _observe(options, policy, book, now).observed if options.with_ledger else None
    mix = seen.mix if seen is not None else _mix(options, policy, engines)
    cached = _cached_share(options.cached)
    bill = make_bill(export.slices, book, cached)
    projection = project(export.slices, policy, book, mix, bill.cost, cached)
    period = _period(options, export)
    headline = headline_of(projection.as_today, routed=options.routed)
    certified = policy.certificate is not None and not changed_parts(policy)
    case = Case(bill, projection, policy, mix, headline, export.requests, period, certified, not options.routed)
    projected = seen.projected(export.usage, export.requests, policy, book) if seen and export.requests else None
    parts = projected.parts(routed=False) if projected is not None else None
    return SavingsReport(
        export, policy, bill, mix, projection, advise(case), period, options.routed, case.most_requests, seen, parts
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


def _mix(options: SavingsOptions, policy: Policy, engines: Engines) -> Mix | None:
    if options.mix is not None:
        return read_mix(options.mix, [rung.rung for rung in policy.ladder])
    return None if options.corpus is None else engines.mix(find_corpus(options.corpus), policy)


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
