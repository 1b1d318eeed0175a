"""Every metric that this library has, declared once: the collectors, the dashboard of Grafana and the docs are made from this list.

`where`: "driver", of every driver that has the hook `Prometheus`; "gateway", of a gateway's `/metrics` alone. The number of values of
each label is bounded: policies, rungs and models are those of the policies, tasks see `Prometheus`, and the rest is listed here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["BUCKETS_S", "EVENTS", "METRICS", "OTHER_EVENT", "Metric", "metric"]

BUCKETS_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0)

EVENTS = (
    "storm_tripped", "storm_released", "storm_limit_wrong", "errors_tripped", "errors_released", "errors_continue",
    "budget_alert", "budget_refused", "key_budget", "budget_counters_full", "budget_seed_failed",
    "audit_alarm", "audit_ratchet", "certificate_stale",
    "ledger_down", "ledger_back", "ledger_dropped", "ledger_sweep_failed",
    "state_down", "state_back", "response_cache_down", "response_cache_back",
    "policy_not_reloaded", "policy_reloaded", "mode_changed", "mode_unreadable", "ratchet_changed", "ratchet_unreadable",
    "gateway_failed", "keys_not_read", "feedback_not_recorded", "models_not_listed",
    "hook_failed", "observe_failed", "observe_passed_over", "rollout_unit_missing",
)  # fmt: skip
"""The events of the log that are counted by name (`cascade_events_total`)."""

OTHER_EVENT = "other"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    `field`: what it is called in the code. `name`: as it is scraped. `help`: one sentence. `title`, `unit`: of its panel; the unit is one of
    Grafana's. `by`: the labels that the panel keeps; the others are added up. `section`: where the panel stands. `multiprocess`: how the
    gauges of several workers become one: "mostrecent", that of the worker that is scraped, which has just read it; "livesum", the sum over those that run.
    """

    field: str
    name: str
    kind: Literal["counter", "histogram", "gauge"]
    help: str
    labels: tuple[str, ...]
    section: Literal["Traffic", "Money", "Climbing", "Guards and audit", "Parts"]
    title: str
    by: tuple[str, ...] = ()
    unit: str = "short"
    where: Literal["driver", "gateway"] = "driver"
    multiprocess: Literal["mostrecent", "livesum"] = "mostrecent"


_CALL = ("policy", "rung", "model")

METRICS: tuple[Metric, ...] = (
    Metric("requests", "cascade_requests_total", "counter", "Requests that have ended.",
           ("policy", "task", "arm", "outcome"), "Traffic", "Requests by outcome", ("outcome",), "reqps"),
    Metric("seconds", "cascade_request_seconds", "histogram", "Duration of a request.",
           ("policy", "arm"), "Traffic", "Duration of a request", (), "s"),
    Metric("running", "cascade_requests_running", "gauge", "Requests that the gateway is answering now.",
           (), "Traffic", "Requests being answered", where="gateway", multiprocess="livesum"),
    Metric("degraded", "cascade_degraded_total", "counter", "Requests whose climb was stopped.",
           ("policy", "task", "why"), "Traffic", "Climbs that were stopped, by why", ("why",), "reqps"),
    Metric("cost", "cascade_cost_usd_total", "counter", "Cost of calls, in USD.",
           (*_CALL, "arm"), "Money", "Spend an hour, by rung", ("rung",), "currencyUSD"),
    Metric("tokens", "cascade_tokens_total", "counter", "Billed tokens.",
           (*_CALL, "kind"), "Money", "Billed tokens, by kind", ("kind",), "short"),
    Metric("budget_share", "cascade_budget_share", "gauge", "What the ledger says is spent of a policy's own budget, as a share of it; may exceed 1.",
           ("policy", "span"), "Money", "Budgets: the share that is spent", ("policy", "span"), "percentunit", "gateway"),
    Metric("steps", "cascade_steps_total", "counter", "Rungs that were called.",
           (*_CALL, "verdict", "reason"), "Climbing", "Steps by verdict", ("rung", "verdict"), "ops"),
    Metric("step_seconds", "cascade_step_seconds", "histogram", "Duration of a rung's step.",
           _CALL, "Climbing", "Duration of a step", ("rung",), "s"),
    Metric("calls", "cascade_calls_total", "counter", "Calls of models: each sample, too.",
           (*_CALL, "verdict"), "Climbing", "Calls by model", ("model",), "ops"),
    Metric("escalations", "cascade_escalations_total", "counter", "Steps that did not ship.",
           ("policy", "task", "rung", "reason"), "Climbing", "Escalations by reason", ("reason",), "ops"),
    Metric("storm", "cascade_storm_tripped", "gauge", "1 while the storm guard is tripped at a rung for a task.",
           ("policy", "task", "rung"), "Guards and audit", "Storms", ("policy", "task", "rung"), where="gateway"),
    Metric("failing", "cascade_rung_failing", "gauge", "1 while a rung's calls fail more often than is normal.",
           ("policy", "rung"), "Guards and audit", "Rungs that fail", ("policy", "rung"), where="gateway"),
    Metric("audit_alarms", "cascade_audit_alarms", "gauge", "Alarms of the audit that stand: shipped answers are wrong more often than is allowed.",
           ("policy",), "Guards and audit", "Alarms of the audit", ("policy",), where="gateway"),
    Metric("ratchet", "cascade_audit_ratchet_step", "gauge", "How many steps the audit has ratcheted the thresholds.",
           ("policy",), "Guards and audit", "Ratchet step", ("policy",), where="gateway"),
    Metric("stale_certificate", "cascade_certificate_stale", "gauge", "1 while a policy's certificate holds for something else than what runs.",
           ("policy",), "Guards and audit", "Certificates that do not hold", ("policy",), where="gateway"),
    Metric("ledger_up", "cascade_ledger_up", "gauge", "1 if the ledger can be read (or is off), 0 if not.",
           (), "Parts", "Ledger reachable", where="gateway"),
    Metric("ledger_waiting", "cascade_ledger_waiting_entries", "gauge", "Entries that wait in memory to be written to the ledger.",
           (), "Parts", "Entries waiting for the ledger", where="gateway", multiprocess="livesum"),
    Metric("ledger_dropped", "cascade_ledger_dropped_entries_total", "counter", "Entries that were never written, because too many waited.",
           (), "Parts", "Entries lost", where="gateway"),
    Metric("state_up", "cascade_state_up", "gauge", "1 if the shared state can be reached (or is this process's memory), 0 if not.",
           (), "Parts", "State reachable", where="gateway"),
    Metric("stale_policy", "cascade_policy_not_loaded", "gauge", "1 while a policy's file, as it is now, is not the one in force.",
           ("policy",), "Parts", "Policies that did not load", ("policy",), where="gateway"),
    Metric("events", "cascade_events_total", "counter", "Events of the log, by name; policy is empty where an event concerns none.",
           ("event", "policy"), "Parts", "Events of the log", ("event",)),
)  # fmt: skip
"""In the order of the dashboard."""


def metric(field: str) -> Metric:
    """The metric that the code calls so. Raises StopIteration for another."""
    return next(one for one in METRICS if one.field == field)
