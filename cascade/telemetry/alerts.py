"""Prometheus's alert rules, as values: `docs/generate.py` writes them to docs/deploy/alerts.yaml. A rule names metrics of `declared` alone.

`{field}` in an expression is the name of the metric that is called so there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from string import Formatter
from typing import Any, Literal

from cascade.telemetry.declared import EVENTS, metric

__all__ = ["RULES", "Rule", "rule_file"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One alert. `lasts`: how long the expression must hold, such as "5m". `to_do`: what who is woken does first."""

    name: str
    expression: str
    lasts: str
    severity: Literal["page", "ticket"]
    summary: str
    to_do: str

    @property
    def promql(self) -> str:
        """The expression with the metrics' names in it. Raises StopIteration where there is no such metric, ValueError for an event that is not counted."""
        for event in re.findall(r'event="(\w+)"', self.expression):
            if event not in EVENTS:
                raise ValueError(f"{self.name}: {event} is not counted")
        return self.expression.format_map({field: metric(field).name for field in self.fields})

    @property
    def fields(self) -> tuple[str, ...]:
        """The metrics that it reads, as `declared` calls them."""
        return tuple(dict.fromkeys(name for _, name, _, _ in Formatter().parse(self.expression) if name))


def _happened(event: str, window: str = "15m") -> str:
    return f'sum by (policy) (increase({{events}}{{{{event="{event}"}}}}[{window}])) > 0'


RULES: tuple[Rule, ...] = (
    Rule("CascadeGatewayDown", 'up{{job=~"cascade.*"}} == 0', "2m", "page",
         "The gateway at {{ $labels.instance }} cannot be scraped.",
         "See whether its process runs, and GET /healthz; a scrape also fails where the key of Prometheus was revoked."),
    Rule("CascadeRequestsFail",
         'sum by (policy) (rate({requests}{{outcome="failed"}}[10m])) / sum by (policy) (rate({requests}[10m])) > 0.05'
         " and sum by (policy) (increase({requests}[10m])) >= 20", "5m", "page",
         "{{ $value | humanizePercentage }} of the requests by policy {{ $labels.policy }} fail.",
         "Look for steps with reason error: the endpoint, its key, or its rate limits."),
    Rule("CascadeRequestsSlow",
         "histogram_quantile(0.99, sum by (policy, le) (rate({seconds}_bucket[10m]))) > 40"
         " and sum by (policy) (increase({seconds}_count[10m])) >= 20", "10m", "ticket",
         "One request of a hundred by policy {{ $labels.policy }} takes longer than {{ $value | humanizeDuration }}.",
         "Compare the duration of steps by rung: a slow endpoint, long thinking, or climbs that became frequent."),
    Rule("CascadeGatewayFailed", _happened("gateway_failed"), "0m", "ticket",
         "The gateway has answered requests with 500, which is a fault of its own.",
         "Read the log's gateway_failed: it names the fault."),
    Rule("CascadeStorm", "max by (policy, task, rung) ({storm}) > 0", "0m", "page",
         "Escalation storm: task {{ $labels.task }} escalates from {{ $labels.rung }} far more often than policy {{ $labels.policy }} allows.",
         "See what changed in the traffic; the log's storm_tripped has the rate and the limit."),
    Rule("CascadeStormLimitWrong", _happened("storm_limit_wrong", "1h"), "0m", "ticket",
         "A storm of policy {{ $labels.policy }} has lasted so long that its limit must be wrong; the guard only alerts.",
         "Calibrate again on today's traffic, or raise storm_guard.rate."),
    Rule("CascadeRungFails", "max by (policy, rung) ({failing}) > 0", "2m", "page",
         "Calls of rung {{ $labels.rung }} of policy {{ $labels.policy }} fail: requests climb over it and cost more.",
         "Look at the endpoint's status, the key and the rate limits of this rung's model."),
    Rule("CascadeDrift", "max by (policy) ({audit_alarms}) > 0", "0m", "page",
         "Drift: answers that policy {{ $labels.policy }} has shipped are wrong more often than is allowed.",
         "Run `cascade audit report`; then calibrate again, or `cascade audit reset` where the cause is gone."),
    Rule("CascadeRatcheted", "max by (policy) ({ratchet}) > 0", "0m", "ticket",
         "The audit has raised the thresholds of policy {{ $labels.policy }} by {{ $value }} steps; it costs more since.",
         "Run `cascade audit report`, and calibrate again."),
    Rule("CascadeCertificateStale", "max by (policy) ({stale_certificate}) > 0", "0m", "ticket",
         "The certificate of policy {{ $labels.policy }} holds for something else than what runs.",
         "Run `cascade policy check`: it names what changed."),
    Rule("CascadeBudgetNearlySpent", "max by (policy, span) ({budget_share}) > 0.8 < 1", "0m", "ticket",
         "{{ $value | humanizePercentage }} of the {{ $labels.span }} budget of policy {{ $labels.policy }} is spent.",
         "See `cascade costs --by workflow` for who spends it."),
    Rule("CascadeBudgetSpent", "max by (policy, span) ({budget_share}) >= 1", "0m", "page",
         "The {{ $labels.span }} budget of policy {{ $labels.policy }} is spent ({{ $value | humanizePercentage }}).",
         "What happens now is the policy's on_exhausted: alert, hold or reject."),
    Rule("CascadeBudgetRefuses", _happened("budget_refused"), "0m", "page",
         "A budget of policy {{ $labels.policy }} had no room for a call.",
         "The log's budget_refused names the budget; with on_exhausted: reject callers get 429 until its period ends."),
    Rule("CascadeKeyBudget", _happened("key_budget"), "0m", "ticket",
         "A key of the gateway has spent most of its daily budget.",
         "The log's key_budget names it; `cascade serve keys list` shows what it may spend."),
    Rule("CascadeLedgerDown", "min({ledger_up}) == 0", "2m", "page",
         "The ledger cannot be reached. Requests are answered; their entries wait in memory, and are lost with the process.",
         "Run `cascade doctor --deep`; do not restart gateways before the ledger is back."),
    Rule("CascadeLedgerBehind", "max({ledger_waiting}) > 10000", "5m", "ticket",
         "{{ $value }} entries wait to be written to the ledger; past 100,000 they are dropped.",
         "See the database's load and its disk."),
    Rule("CascadeLedgerLoses", "increase({ledger_dropped}[15m]) > 0", "0m", "page",
         "Entries of the ledger were lost at {{ $labels.instance }}: spend is missing in its sums.",
         "Bring the database back; the log's ledger_dropped has the number."),
    Rule("CascadeStateDown", "min({state_up}) == 0", "2m", "page",
         "The shared state cannot be reached: each process guards and counts budgets alone.",
         "Run `cascade doctor --deep`; a hard budget is not overspent meanwhile, but may refuse early."),
    Rule("CascadeResponseCacheDown", _happened("response_cache_down"), "0m", "ticket",
         "The response cache cannot be used: equal requests are paid again.",
         "See the server or the file that CASCADE_CACHE names."),
    Rule("CascadePolicyNotLoaded", "max by (policy) ({stale_policy}) > 0", "5m", "ticket",
         "The file of policy {{ $labels.policy }} was changed and does not load; the one before stays in force.",
         "Run `cascade policy check` on the file."),
    Rule("CascadeHookFailed", _happened("hook_failed"), "0m", "ticket",
         "A hook fails: what it observes is incomplete.",
         "The log's hook_failed names the hook and the error."),
    Rule("CascadeClimbsStopped",
         "sum by (policy, why) (rate({degraded}[30m])) / on (policy) group_left sum by (policy) (rate({requests}[30m])) > 0.1"
         " and on (policy) sum by (policy) (increase({requests}[30m])) >= 20", "10m", "ticket",
         "{{ $value | humanizePercentage }} of the climbs by policy {{ $labels.policy }} were stopped by {{ $labels.why }}.",
         "Answers are shipped from lower rungs than the policy wants: see what stopped them."),
)  # fmt: skip


def rule_file() -> dict[str, Any]:
    """The rule file of Prometheus, as JSON values."""
    return {"groups": [{"name": "cascade", "rules": list(_rules())}]}


def _rules() -> Iterator[dict[str, Any]]:
    for one in RULES:
        yield {
            "alert": one.name,
            "expr": one.promql,
            "for": one.lasts,
            "labels": {"severity": one.severity},
            "annotations": {"summary": one.summary, "description": one.to_do},
        }
