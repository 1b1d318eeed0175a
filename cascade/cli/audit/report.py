"""`cascade audit report`: read the audit's tables and the ledger's sums, and print what they say."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cascade.audit.controls import judge_standing, known_controls, withheld_judges
from cascade.audit.drift import read_drift
from cascade.audit.grading import judges_of
from cascade.audit.rates import graded_by
from cascade.audit.report.build import MOST_DISAGREEMENTS, Evidence, disagreements_of, loss_of, report_of
from cascade.audit.report.texts import read_texts
from cascade.cli.audit.report_fields import report_fields
from cascade.cli.audit.report_page import write_page
from cascade.cli.audit.report_view import show_report
from cascade.cli.output import print_json, stderr
from cascade.core.policy import Policy
from cascade.core.policy.certificate import Escalation
from cascade.corpora.grading import judge_rung
from cascade.costs import Period, PeriodSums, read_since
from cascade.engine import default_policy
from cascade.ledger.audit import AuditTables
from cascade.ledger.reading import reading
from cascade.ledger.stores import Reader
from cascade.policy.certificates import certified_escalation, changed_parts
from cascade.policy.loading import load_policy

__all__ = ["ReportOptions", "run_report"]


@dataclass(frozen=True, slots=True)
class ReportOptions:
    """The command's options."""

    policy: str | None
    since: str
    html: Path | None
    ledger: str | None


def run_report(options: ReportOptions, *, as_json: bool, now: Callable[[], float] = time.time) -> None:
    """Print the report. `now` gives Unix seconds. Raises ConfigurationError, PolicyError, LedgerError; MissingExtra for `--html`."""
    policy = load_policy(options.policy or default_policy())
    period = read_since(options.since, now())
    with reading(options.ledger) as reader:
        evidence = _evidence(policy, period, reader, AuditTables(options.ledger))
        where = reader.where
    report = report_of(policy, evidence)
    if options.html is not None:
        write_page(options.html, report, where)
    if as_json:
        print_json(report_fields(report, where))
        return
    show_report(report, where)
    if options.html is not None:
        stderr.print(f"written: {options.html}")


def _evidence(policy: Policy, period: Period, reader: Reader, tables: AuditTables) -> Evidence:
    samples = tables.samples(policy.name, since=period.since, until=period.until)
    judges = {name for one in samples if judge_rung(name := graded_by(one)) is not None}
    controls = known_controls(policy, tables, period.until)
    withheld = withheld_judges(controls, (*judges_of(policy), *sorted(judges)))
    drift = read_drift(policy, tables, withheld)
    shown = disagreements_of(samples, loss_of(policy, withheld))[:MOST_DISAGREEMENTS]
    return Evidence(
        period,
        samples,
        PeriodSums.of(
            reader.spend(period.since, period.until), reader.traffic(period.since, period.until), policy.name
        ),
        drift,
        withheld,
        _certified(policy, drift.step),
        tables.marks(policy.name, since=period.since),
        read_texts(reader, [one for one in shown if one.has_content], policy.deadline_s),
        frozenset(name for name in withheld if judge_standing(controls, name).is_tested),
    )


def _certified(policy: Policy, step: int) -> Escalation:
    """The escalation rates that hold now: at a step of the ratchet, those of the certificate's path."""
    certified = certified_escalation(policy, changed_parts(policy))
    if not step or certified == Escalation() or policy.certificate is None:
        return certified
    path = policy.certificate.path
    return Escalation(path[step - 1].escalation if step <= len(path) else {})
