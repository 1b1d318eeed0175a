"""`cascade audit run`: grade the sampled requests, and look for drift."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from typing import Any

from cascade.audit.alarms import AuditNotice, DriftWatch
from cascade.audit.controls import Standing, known_controls, withheld_judges
from cascade.audit.drift import Drift, Rate
from cascade.audit.grading import judges_of
from cascade.audit.worker import AuditRun, AuditSettings, AuditWorker
from cascade.audit.workers import check_spread
from cascade.cli.audit.workers import audit_spread
from cascade.cli.output import print_json, stderr, stdout, usd
from cascade.cli.stopping import stop_on_signals
from cascade.core.errors import ConfigurationError
from cascade.core.policy import Policy
from cascade.engine import default_policy
from cascade.ledger.audit import AuditTables
from cascade.ledger.reading import reading
from cascade.ledger.stores import LedgerDown
from cascade.logs import log_event
from cascade.policy.loading import load_policy

__all__ = ["RunOptions", "run_audit"]

_UPSTREAM, _OUT_OF_BUDGET = 4, 5
_LONG_LEASE_S = 7_200
_REASONS = {
    "no_content": "its texts are not kept",
    "tool_use": "it shipped a tool call",
    "no_answer_text": "the answer's text is not kept",
    "shadow_failed": "the top rung could not be asked",
    "shadow_unusable": "the top rung gave no whole answer",
    "too_long": "it does not fit the context window",
    "too_costly": "with this prompt one call may cost more than audit.daily_usd",
    "judge_unusable": "the judge said nothing usable",
    "unreadable": "what the ledger kept of it cannot be asked again",
}


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The command's options. `max_usd`: of this run; None: no limit beside the policy's. `batch_poll_s`: None: not in batches."""

    policy: str | None
    watch: bool
    max_usd: float | None
    ledger: str | None
    batch_poll_s: float | None = None
    workers: int = 1
    scheduler: str | None = None


def run_audit(options: RunOptions, *, as_json: bool) -> int:
    """Run the audit, and print what it did.

    Exit code 4 if the endpoint refuses all calls or fails on all, 5 if a cap stopped it and samples are left open, 130 for Ctrl-C.
    """
    if options.max_usd is not None and not 0 <= options.max_usd < float("inf"):
        raise ConfigurationError(
            f"--max-usd: {options.max_usd} must be an amount in USD, 0 or more (as in --max-usd 2.50)"
        )
    policy = load_policy(options.policy or default_policy())
    cap = None if options.max_usd is None else int(Decimal(str(options.max_usd)) * 1_000_000_000)
    settings = AuditSettings(policy, options.ledger, cap, watches=options.watch)
    if options.batch_poll_s is not None:
        settings = replace(settings, batch=True, poll_s=options.batch_poll_s)
    check_spread(settings, options.workers, options.scheduler)
    watching = _Watching(policy, AuditTables(options.ledger))
    worker = AuditWorker(settings, on_graded=watching.look)
    if not options.watch:
        with reading(options.ledger):
            pass  # says so if there is no ledger; a watch waits for its first sample
    if not policy.ledger.content:
        stderr.print(
            "cascade: the ledger keeps no texts, so only answers of the top rung and reported outcomes count (ledger: {content: true}"
            " keeps those of later requests)"
        )
    try:
        run = asyncio.run(_graded(worker, settings, options, watching))
    except asyncio.CancelledError:
        stderr.print("cascade: stopped at once; what was being graded is free again when its leases run out")
        return 130
    if as_json:
        print_json(_fields(run, watching))
    else:
        _print(run, watching)
    if run.stop is not None and run.stop.kind == "interrupted":
        return 0 if options.watch else 130
    if run.stop is not None and run.stop.kind in ("daily_usd", "max_usd") and run.counts.get("open"):
        return _OUT_OF_BUDGET
    return _UPSTREAM if run.stop is not None and run.stop.kind in ("refused", "outage") else 0


class _Watching:
    """Looks for drift after each batch. A look that fails is logged: the gradings stand, and the next look sees them."""

    def __init__(self, policy: Policy, tables: AuditTables) -> None:
        self._policy, self._tables = policy, tables
        try:
            self._watch = DriftWatch(policy, tables)
        except LookupError as problem:
            raise ConfigurationError(f"audit.notify: {problem.args[0] if problem.args else problem}") from None
        self.drift: Drift | None = None
        self._is_elsewhere = False

    @property
    def alarms(self) -> list[AuditNotice]:
        """Those of this run."""
        return [one for one in self._watch.notices if one.event == "audit_alarm"]

    @property
    def steps(self) -> list[AuditNotice]:
        """Those that this run has taken."""
        return [one for one in self._watch.notices if one.event == "audit_ratchet"]

    def look(self) -> None:
        now = time.time()
        try:
            controls = known_controls(self._policy, self._tables, now)
            self.drift = self._watch.look(now, withheld_judges(controls, judges_of(self._policy)))
        except LedgerDown as down:
            log_event("warning", "audit_drift_unread", policy=self._policy.name, error=str(down))
            return
        elsewhere = self.drift.elsewhere
        if elsewhere is not None and not self._is_elsewhere:
            log_event("warning", "audit_other_version", policy=self._policy.name, why=elsewhere)
        self._is_elsewhere = elsewhere is not None


async def _graded(worker: AuditWorker, settings: AuditSettings, options: RunOptions, watching: _Watching) -> AuditRun:
    """Run it, here or by several workers."""
    if options.workers > 1 or options.scheduler is not None:
        return await audit_spread(settings, options.workers, options.scheduler, watching.look)
    return await _audited(worker, settings)


async def _audited(worker: AuditWorker, settings: AuditSettings) -> AuditRun:
    """Run it."""

    def what_follows(name: str) -> str | None:
        samples = f"{worker.in_flight} {'sample' if worker.in_flight == 1 else 'samples'}"
        if not worker.in_flight:
            return None
        if settings.batch:
            return f"{samples} wait for batches, which go on; the same command collects them"
        return f"finishing {samples}, at most {2 * settings.policy.deadline_s:g} s; {name} again stops at once"

    stop_on_signals(worker, what_follows)
    return await worker.run()


def _fields(run: AuditRun, watching: _Watching) -> dict[str, Any]:
    drift = watching.drift
    return {
        "graded": run.graded,
        "skipped": dict(run.skipped),
        "failed": run.failed,
        "waiting": dict(run.waiting),
        "control_items": run.controls,
        "spent_usd": run.spent / 1e9,
        "samples": dict(run.counts),
        "judges": {name: asdict(standing) for name, standing in run.standings.items()},
        "stopped": None if run.stop is None else {"by": run.stop.kind, "message": run.stop.message},
        "alarms": [asdict(one) for one in watching.alarms],
        "steps": [asdict(one) for one in watching.steps],
        "drift": None if drift is None else drift.fields,
    }


def _lease_text(seconds: float) -> str:
    """How long the longest lease lasts. Only those of batches last for hours."""
    if seconds < _LONG_LEASE_S:
        return f"{math.ceil(seconds)} s at most"
    return f"{math.ceil(seconds / 3600)} h at most; those of a stopped --batch are taken up by the same command"


def _print(run: AuditRun, watching: _Watching) -> None:
    drift, skipped = watching.drift, sum(run.skipped.values())
    stdout.print(f"graded {run.graded} sample{'' if run.graded == 1 else 's'}, skipped {skipped}; {usd(run.spent)} USD")
    for code, count in sorted(run.skipped.items()):
        stdout.print(f"  {code}: {count} ({_REASONS.get(code, code)})")
    for name, standing in run.standings.items():
        stdout.print(f"{name}: {_standing(standing)}")
    if (left := run.counts.get("open", 0)) > 0:
        leased = run.counts.get("leased", 0)
        later = f", {run.failed} of them failed now and are tried again later" if run.failed else ""
        are = "is" if leased == 1 else "are"
        others = f", {leased} {are} leased to other workers, or to one that ended (free in {_lease_text(run.leased_s)})"
        stdout.print(f"left open: {left}{later}{others if leased else ''}")
    for judge, count in run.waiting.items():
        stdout.print(
            f"{count} {'wait' if count > 1 else 'waits'} for a judge that is believed ({judge}: {run.standings[judge].why}): name another"
            " rung in audit.judge, or another audit.grader"
        )
    for one in watching.alarms:
        stdout.print(f"ALARM: {one.text}")
    for one in watching.steps:
        stdout.print(f"ratcheted: {one.text}")
    for rate in drift.rates if drift is not None else ():
        stdout.print(_rate(rate, drift, "since the thresholds changed" if watching.steps else "yet"))
    for note in drift.notes if drift is not None else ():
        stdout.print(f"note: {note}")
    if run.stop is not None:
        stderr.print(f"cascade: stopped: {run.stop.message}")


def _standing(standing: Standing) -> str:
    if not standing.controls:
        return "not asked yet"
    if not standing.is_believed:
        return f"not believed, its rates are withheld: {standing.why}"
    return (
        f"believed: of {standing.controls} control items it let {standing.false_agree or 0:.0%} of the wrong ones pass and refused"
        f" {standing.false_disagree or 0:.0%} of the right ones"
    )


def _rate(rate: Rate, drift: Drift | None, since: str) -> str:
    assert drift is not None
    whose = f"task {rate.task}" if rate.task else "all tasks"
    if rate.withheld is not None:
        return f"{whose}: the rate is withheld: {rate.withheld}"
    if rate.rate is None or rate.interval is None:
        return f"{whose}: nothing is known {since}"
    low, high = rate.interval
    against = (
        "" if rate.alpha is None else f", against {rate.alpha:.3g}{'' if drift.is_certified else ' (not certified)'}"
    )
    alarm = "; ALARM: more than that" if rate.is_alarming else ""
    return f"{whose}: {rate.losses} of {rate.counted} wrong below the top rung ({rate.rate:.1%}, 95 %: {low:.1%} to {high:.1%}{against}){alarm}"
