"""Prometheus: what a driver did, read back from a registry; its labels are bounded."""

from __future__ import annotations

import gc
import sys
from typing import Any
from weakref import ref

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from cascade.core.errors import AllRungsFailed, MissingExtra
from cascade.core.messages import Usage
from cascade.core.trail import Step, Verdict
from cascade.logs import log_event
from cascade.telemetry import Prometheus
from tests.telemetry.scenes import ANSWERED, FAILED, UNSURE, answer_of, begun, told


def read(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    """One sample."""
    return registry.get_sample_value(name, {"policy": "test", **labels})


def test_a_request_is_counted_with_all_its_steps() -> None:
    """Requests, steps, escalations, money and tokens; what took how long."""
    registry = CollectorRegistry()
    told(Prometheus(registry), UNSURE, ANSWERED, answer=answer_of(UNSURE, ANSWERED))
    low, high = {"rung": "r0", "model": "model-0"}, {"rung": "r1", "model": "model-1"}
    found = [
        read(registry, "cascade_requests_total", task="refund", arm="cascade", outcome="answered"),
        read(registry, "cascade_request_seconds_sum", arm="cascade"),
        read(registry, "cascade_steps_total", **low, verdict="answered", reason="low_confidence"),
        read(registry, "cascade_steps_total", **high, verdict="answered", reason=""),
        read(registry, "cascade_step_seconds_sum", **low),
        read(registry, "cascade_escalations_total", task="refund", rung="r0", reason="low_confidence"),
        read(registry, "cascade_cost_usd_total", **high, arm="cascade"),
        read(registry, "cascade_tokens_total", **low, kind="input"),
        read(registry, "cascade_tokens_total", **low, kind="cache_write"),
        read(registry, "cascade_tokens_total", **low, kind="cache_read"),
        read(registry, "cascade_tokens_total", **high, kind="output"),
        read(registry, "cascade_tokens_total", **high, kind="cache_read"),
    ]
    assert found == [1, 0.75, 1, 1, 0.25, 1, 0.0003, 100, 7, 5, 20, None]
    assert b"SECRET" not in generate_latest(registry)


ENDS: list[tuple[dict[str, Any], str, str | None]] = [
    ({"answer": answer_of(UNSURE, degraded="budget")}, "degraded", "budget"),
    ({"answer": answer_of(UNSURE, text=None, rung=None, model=None, abstained="declined")}, "abstained", "declined"),
    ({"error": AllRungsFailed("SECRET", steps=())}, "failed", None),
    ({}, "cancelled", None),
]


@pytest.mark.parametrize(("end", "outcome", "why"), ENDS)
def test_each_way_to_end_has_a_name(end: dict[str, Any], outcome: str, why: str | None) -> None:
    """And where the climb was stopped, by what."""
    registry = CollectorRegistry()
    told(Prometheus(registry), FAILED, **end)
    assert read(registry, "cascade_requests_total", task="refund", arm="cascade", outcome=outcome) == 1
    assert (why is None) == (b"cascade_degraded_total{" not in generate_latest(registry))
    assert why is None or read(registry, "cascade_degraded_total", task="refund", why=why) == 1


def test_a_caller_cannot_fill_the_registry_with_tasks() -> None:
    """Past 200 names the rest are "other"; the policy's own are always told apart."""
    registry = CollectorRegistry()
    hook = Prometheus(registry)
    for number in range(300):
        told(hook, answer=answer_of(ANSWERED), begin=begun(f"made-up-{number}"))
    told(hook, answer=answer_of(ANSWERED), begin=begun("refund"))
    told(hook, answer=answer_of(ANSWERED), begin=begun("made-up-7"))
    counted = {
        sample.labels["task"]: sample.value
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name == "cascade_requests_total"
    }
    assert len(counted) == 202
    assert (counted["other"], counted["refund"], counted["made-up-7"]) == (100, 1, 2)


def test_drivers_may_share_a_registry() -> None:
    """Two hooks on one count together."""
    registry = CollectorRegistry()
    for _ in range(2):
        told(Prometheus(registry), ANSWERED, answer=answer_of(ANSWERED))
    assert read(registry, "cascade_requests_total", task="refund", arm="cascade", outcome="answered") == 2


def test_a_step_without_tokens_has_none_counted() -> None:
    """A call that failed costs nothing and is a step all the same."""
    registry = CollectorRegistry()
    step = Step(0, "r0", "model-0", Verdict("failed", detail="timeout"), Usage(), reason="error")
    told(Prometheus(registry), step, error=AllRungsFailed("no", steps=()))
    assert b"cascade_tokens_total{" not in generate_latest(registry)
    labels = {"rung": "r0", "model": "model-0", "verdict": "failed", "reason": "error"}
    assert read(registry, "cascade_steps_total", **labels) == 1


def test_events_of_the_log_are_counted_by_name_and_policy() -> None:
    """From 0, once a policy is known: an increase from nothing shows in no rate. Names and policies are bounded."""
    registry = CollectorRegistry()
    hook = Prometheus(registry)
    told(hook, ANSWERED, answer=answer_of(ANSWERED))
    assert read(registry, "cascade_events_total", event="storm_tripped") == 0
    log_event("warning", "storm_tripped", policy="test", task="SECRET")
    log_event("info", "ledger_back", rows=3)
    log_event("info", "made_up", policy="made up")
    assert read(registry, "cascade_events_total", event="storm_tripped") == 1
    assert registry.get_sample_value("cascade_events_total", {"event": "ledger_back", "policy": ""}) == 1
    assert registry.get_sample_value("cascade_events_total", {"event": "other", "policy": ""}) == 1
    assert b"SECRET" not in generate_latest(registry)
    assert b"made up" not in generate_latest(registry)


def test_a_registry_that_is_gone_observes_nothing() -> None:
    """Events are not kept for it, and it is not kept alive by them."""
    registry = CollectorRegistry()
    gone = ref(registry)
    Prometheus(registry)
    del registry
    gc.collect()
    assert gone() is None
    log_event("info", "ledger_back")


def test_a_gauge_says_what_is_now() -> None:
    """What it had for other labels is over; a task that is one too many counts as "other", by the largest value."""
    registry = CollectorRegistry()
    hook = Prometheus(registry)
    hook.set("storm", {("test", "refund", "r0"): 1.0})
    hook.set("storm", {("test", "claims", "r0"): 1.0})
    found = [read(registry, "cascade_storm_tripped", task=task, rung="r0") for task in ("refund", "claims")]
    assert found == [0.0, 1.0]
    hook.set("storm", {("test", f"made-up-{number}", "r0"): float(number) for number in range(300)})
    assert read(registry, "cascade_storm_tripped", task="other", rung="r0") == 299.0
    hook.add("ledger_dropped", 3)
    hook.add("ledger_dropped", 2)
    assert registry.get_sample_value("cascade_ledger_dropped_entries_total") == 5


def test_without_the_package_it_says_which_extra_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one line, where the hook is made."""
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(MissingExtra, match=r"cascade-ladder\[prometheus\]"):
        Prometheus()
