"""What the audit says of each policy. To look is to read all its samples, so it is read again only when something of it has changed."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from typing import Any, Final, Literal

from cascade.audit.controls import known_controls, withheld_judges
from cascade.audit.drift import Drift, Rate, read_drift
from cascade.audit.grading import judges_of
from cascade.core.policy import Policy
from cascade.dashboard.values import AuditState
from cascade.ledger.audit import AuditTables
from cascade.ledger.stores import Reader
from cascade.policy.pricing import NoPrice

__all__ = ["KnownAudits", "audit_states"]

KnownAudits = MutableMapping[str, tuple[object, AuditState]]
"""By policy's name: what was read, and of which state of the tables."""

_FEWEST: Final = 50  # newest results, before their rate says that it drifts


def audit_states(
    reader: Reader, address: str, policies: Sequence[Policy], now: float, known: KnownAudits
) -> tuple[AuditState, ...]:
    """The state of each policy at hand. `now`: Unix seconds. `known`: kept between calls. Raises LedgerDown."""
    tables = AuditTables(address)
    found: list[AuditState] = []
    for policy in policies:
        if policy.audit is None:
            found.append(AuditState(policy.name, "off", "nothing is sampled: the policy has no `audit` block"))
            continue
        stamp = (policy.hash, *_stamp(reader, policy.name), int(now // 86_400))
        held = known.get(policy.name)
        if held is None or held[0] != stamp:
            held = known[policy.name] = stamp, _state(policy, tables, now)
        found.append(held[1])
    return tuple(found)


def _stamp(reader: Reader, policy: str) -> tuple[Any, ...]:
    """What changes when anything does that the state is computed from."""
    question = (
        "SELECT (SELECT count(*) FROM audit_samples WHERE policy = :policy AND state = 'open'),"
        " (SELECT count(*) FROM audit_samples WHERE policy = :policy AND state = 'graded'),"
        " (SELECT count(*) FROM audit_samples WHERE policy = :policy AND state = 'skipped'),"
        " (SELECT max(id) FROM audit_marks), (SELECT max(id) FROM audit_controls), (SELECT max(id) FROM feedback),"
        " (SELECT max(at) FROM audit_ratchets WHERE policy = :policy)"
    )
    return tuple(next(iter(tuple(reader.select(question, {"policy": policy})))))


def _state(policy: Policy, tables: AuditTables, now: float) -> AuditState:
    counts = tables.counts(policy.name, now)
    try:
        drift = read_drift(policy, tables, withheld_judges(known_controls(policy, tables, now), judges_of(policy)))
    except NoPrice as problem:
        return AuditState(policy.name, "no_data", str(problem), counts["graded"], counts["open"])
    rate = drift.rates[0]
    alarms = tuple(one.task or policy.name for one in drift.alarms)
    state, text = _said(drift, rate, alarms, counts["open"])
    return AuditState(policy.name, state, text, counts["graded"], counts["open"], rate.rate, rate.interval, alarms)


def _said(
    drift: Drift, rate: Rate, alarms: Sequence[str], waiting: int
) -> tuple[Literal["no_data", "holding", "drifting", "alarmed"], str]:
    certified = "certified" if drift.is_certified else "not certified"
    if alarms:
        losses, results = rate.losses, rate.counted
        return (
            "alarmed",
            f"more wrong answers than {drift.alpha:.3g} ({certified}): {losses} of {results} results; {', '.join(alarms)}",
        )
    if rate.withheld is not None:
        return "no_data", f"the rate is withheld: {rate.withheld}"
    if rate.rate is None:
        hint = f", {waiting} samples wait for `cascade audit run`" if waiting else ""
        return "no_data", f"nothing is graded yet{hint}"
    losses, results = rate.recent
    if results >= _FEWEST and losses / results > drift.alpha:
        return (
            "drifting",
            f"{losses} of the newest {results} results are wrong, above {drift.alpha:.3g} ({certified}); no alarm yet",
        )
    return (
        "holding",
        f"{rate.losses} of {rate.counted} results are wrong; right is up to {drift.alpha:.3g} ({certified})",
    )
