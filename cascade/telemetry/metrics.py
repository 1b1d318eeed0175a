"""Prometheus: counters and histograms of a driver's requests and steps. The number of values of each label is bounded."""

from __future__ import annotations

import threading
from asyncio import CancelledError
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, ref

from cascade.core.errors import MissingExtra
from cascade.core.policy import OTHER
from cascade.core.step_calls import calls_of
from cascade.core.trail import Sample, Step
from cascade.forks import renew_in_children
from cascade.hooks import Begun, Calling, Ended, unfinished_calls
from cascade.logs import observe_events
from cascade.telemetry.declared import BUCKETS_S, EVENTS, METRICS, OTHER_EVENT, Metric, metric

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

__all__ = ["Prometheus"]

_MAX_TASKS = 200


class Prometheus:
    """A hook that counts: `Cascade(policy, hooks=[Prometheus()])`. Several drivers may share a registry.

    `declared.METRICS` lists the metrics. Those of a gateway alone are made when it sets them (`set`, `add`).

    A caller may name any task. Besides the policy's own, the first 200 keep their names, the rest are "other". `registry`:
    default: the process's own. Raises MissingExtra if prometheus-client is not installed.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        try:
            from prometheus_client import REGISTRY  # noqa: PLC0415 - an extra
        except ImportError:
            raise MissingExtra("Prometheus", "prometheus") from None
        self._metrics = _registries.metrics(registry or REGISTRY)

    def begin(self, begun: Begun) -> _Track:
        """Requests are counted when they end."""
        policy = begun.plan.policy
        self._metrics.know(policy.name)
        is_own = any(task.name == begun.task for task in policy.tasks)
        task = begun.task if is_own else self._metrics.tasks.label(begun.task)
        rungs = tuple(rung.rung for rung in policy.ladder)
        return _Track(self._metrics, policy.name, task, begun.arm, rungs)

    def know(self, policy: str) -> None:
        """Events of this policy are counted by its name, from 0."""
        self._metrics.know(policy)

    def set(self, field: str, values: Mapping[tuple[str, ...], float]) -> None:
        """Set a gauge (by its field in `declared`), by its labels. What it had for other labels becomes 0: that is over.

        A task is the first 200 names', then "other", of which the largest value counts.
        """
        labels = metric(field).labels
        at = labels.index("task") if "task" in labels else None
        told: dict[tuple[str, ...], float] = dict.fromkeys(self._metrics.labels_of(field), 0.0)
        for key, value in values.items():
            name = key if at is None else (*key[:at], self._metrics.tasks.label(key[at]), *key[at + 1 :])
            told[name] = max(told.get(name, value), value)
        for name, value in told.items():
            self._metrics.of(field, *name).set(value)

    def add(self, field: str, amount: float) -> None:
        """Add to a counter without labels."""
        self._metrics.of(field).inc(amount)


class _Tasks:
    """The tasks that keep their names."""

    def __init__(self) -> None:
        self._known = {OTHER}

    def label(self, task: str) -> str:
        """The task's label: its name, or "other" once there are too many."""
        if task not in self._known:
            if len(self._known) > _MAX_TASKS:
                return OTHER
            self._known.add(task)
        return task


class _Metrics:
    """The metrics of one registry, as `declared` lists them. They are made once, because a registry takes no name twice.

    It observes the log's events, too, for as long as the registry lives.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        from prometheus_client import Counter, Gauge, Histogram  # noqa: PLC0415 - an extra

        self.tasks = _Tasks()
        self._registry, self._made = ref(registry), dict[str, Any]()
        self._bound: dict[tuple[str, ...], Any] = {}  # prometheus-client's own look-up takes ten times as long
        self._policies: set[str] = set()
        for one in METRICS:
            if one.where == "driver":
                kind = Counter if one.kind == "counter" else Histogram
                more: dict[str, Any] = {"buckets": BUCKETS_S} if one.kind == "histogram" else {}
                self._made[one.field] = kind(one.name, one.help, one.labels, registry=registry, **more)
        self._gauge, self._counter = Gauge, Counter
        self.know("")
        observe_events(self.count_event)

    def of(self, field: str, *labels: str) -> Any:
        """A metric, by the name of its field, with these labels. One of the gateway's is made at its first use."""
        key = (field, *labels)
        found = self._bound.get(key)
        if found is None:
            made = self._made.get(field) or self._add(metric(field))
            found = self._bound[key] = made.labels(*labels) if labels else made
        return found

    def labels_of(self, field: str) -> list[tuple[str, ...]]:
        """The labels that a metric was used with so far."""
        return [key[1:] for key in list(self._bound) if key[0] == field]

    def know(self, policy: str) -> None:
        """Events of this policy are counted from 0: an increase from nothing shows in no rate."""
        if policy not in self._policies:
            self._policies.add(policy)
            for event in (*EVENTS, OTHER_EVENT):
                self.of("events", event, policy).inc(0)

    def count_event(self, event: str, details: Mapping[str, Any]) -> None:
        """Count an event of the log. A policy that has not been seen counts as none: whoever logs it cannot add series."""
        policy = str(details.get("policy", ""))
        name = event if event in EVENTS else OTHER_EVENT
        self.of("events", name, policy if policy in self._policies else "").inc()

    def _add(self, one: Metric) -> Any:
        registry = self._registry()
        if one.kind == "counter":
            self._made[one.field] = self._counter(one.name, one.help, one.labels, registry=registry)
        else:
            how: Any = one.multiprocess
            self._made[one.field] = self._gauge(
                one.name, one.help, one.labels, registry=registry, multiprocess_mode=how
            )
        return self._made[one.field]


class _Registries:
    """The registries in use, and their metrics."""

    def __init__(self) -> None:
        self._metrics: WeakKeyDictionary[CollectorRegistry, _Metrics] = WeakKeyDictionary()
        self.renew_lock()
        renew_in_children(self)

    def renew_lock(self) -> None:
        """For `forks`."""
        self._lock = threading.Lock()

    def metrics(self, registry: CollectorRegistry) -> _Metrics:
        """A registry's metrics, made at its first use."""
        with self._lock:
            if registry not in self._metrics:
                self._metrics[registry] = _Metrics(registry)
            return self._metrics[registry]


_registries = _Registries()


class _Track:
    """The track of one request."""

    __slots__ = ("_arm", "_last", "_metrics", "_policy", "_rungs", "_task")

    def __init__(self, metrics: _Metrics, policy: str, task: str, arm: str, rungs: tuple[str, ...]) -> None:
        self._metrics, self._policy, self._task, self._arm, self._rungs = metrics, policy, task, arm, rungs
        self._last: Calling | None = None

    def calling(self, call: Calling) -> None:
        """Calls are counted at the end."""
        self._last = call

    def ended(self, end: Ended) -> None:
        """Count the request, each of its steps and each of its calls."""
        metrics, answer = self._metrics, end.answer
        outcome, why = "answered", None
        if answer is None:
            cancelled = end.error is None or isinstance(end.error, CancelledError)
            outcome = "cancelled" if cancelled else "failed"
        elif answer.abstained is not None:
            outcome, why = "abstained", answer.abstained
        elif answer.degraded is not None:
            outcome, why = "degraded", answer.degraded
        metrics.of("requests", self._policy, self._task, self._arm, outcome).inc()
        metrics.of("seconds", self._policy, self._arm).observe(end.latency_s)
        if why is not None:
            metrics.of("degraded", self._policy, self._task, why).inc()
        for step in end.steps:
            self._count_step(step)
            for call in calls_of(step):
                self._count_call(step.rung, call)
        for call in unfinished_calls(self._last, end):
            assert self._last is not None
            self._count_call(self._rungs[self._last.index], call)

    def _count_step(self, step: Step) -> None:
        metrics, labels = self._metrics, (self._policy, step.rung, step.model)
        metrics.of("steps", *labels, step.verdict.kind, step.reason or "").inc()
        metrics.of("step_seconds", *labels).observe(step.latency_s)
        if step.reason is not None:
            metrics.of("escalations", self._policy, self._task, step.rung, step.reason).inc()

    def _count_call(self, rung: str, call: Step | Sample) -> None:
        metrics, usage, labels = self._metrics, call.usage, (self._policy, rung, call.model)
        metrics.of("calls", *labels, call.verdict.kind).inc()
        metrics.of("cost", *labels, self._arm).inc(call.cost_nanousd / 1e9)
        kinds = {
            "input": usage.input_tokens,
            "output": usage.output_tokens,
            "cache_write": usage.cache_write_5m + usage.cache_write_1h,
            "cache_read": usage.cache_read,
        }
        for kind, count in kinds.items():
            if count:
                metrics.of("tokens", *labels, kind).inc(count)
