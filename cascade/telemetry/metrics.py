"""Prometheus: counters and histograms of a driver's requests and steps. The number of values of each label is bounded."""

from __future__ import annotations

import threading
from asyncio import CancelledError
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from cascade.core.errors import MissingExtra
from cascade.core.policy import OTHER
from cascade.core.step_calls import calls_of
from cascade.core.trail import Sample, Step
from cascade.forks import renew_in_children
from cascade.hooks import Begun, Calling, Ended, unfinished_calls

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Counter, Histogram

__all__ = ["Prometheus"]

_MAX_TASKS = 200
_BUCKETS_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0)


class Prometheus:
    """A hook that counts: `Cascade(policy, hooks=[Prometheus()])`. Several drivers may share a registry.

        cascade_requests_total{policy,task,arm,outcome}    outcome: answered, degraded, abstained, failed, cancelled
        cascade_request_seconds{policy,arm}                a histogram
        cascade_steps_total{policy,rung,model,verdict,reason}    reason: why it escalated; "" if it did not
        cascade_step_seconds{policy,rung,model}            a histogram
        cascade_calls_total{policy,rung,model,verdict}     more than steps, where a rung is asked more than once
        cascade_escalations_total{policy,task,rung,reason}
        cascade_degraded_total{policy,task,why}            what stopped the climb
        cascade_cost_usd_total{policy,rung,model,arm}
        cascade_tokens_total{policy,rung,model,kind}       kind: input, output, cache_write, cache_read

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
        is_own = any(task.name == begun.task for task in policy.tasks)
        task = begun.task if is_own else self._metrics.tasks.label(begun.task)
        rungs = tuple(rung.rung for rung in policy.ladder)
        return _Track(self._metrics, policy.name, task, begun.arm, rungs)


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


@dataclass(frozen=True, slots=True)
class _Metrics:
    """The metrics of one registry. They are made once, because a registry takes no name twice."""

    requests: Counter
    seconds: Histogram
    steps: Counter
    step_seconds: Histogram
    calls: Counter
    escalations: Counter
    degraded: Counter
    cost: Counter
    tokens: Counter
    tasks: _Tasks
    bound: dict[tuple[str, ...], Any] = field(default_factory=dict[tuple[str, ...], Any])
    """Metrics with their labels, by the metric's field and the labels: prometheus-client's own look-up takes ten times as long."""

    def of(self, *key: str) -> Any:
        """A metric, by the name of its field, with these labels."""
        found = self.bound.get(key)
        if found is None:
            found = self.bound[key] = getattr(self, key[0]).labels(*key[1:])
        return found


def _create_metrics(registry: CollectorRegistry) -> _Metrics:
    from prometheus_client import Counter, Histogram  # noqa: PLC0415 - an extra

    call = ("policy", "rung", "model")
    return _Metrics(
        Counter("cascade_requests_total", "Requests that have ended.", ("policy", "task", "arm", "outcome"), registry=registry),
        Histogram("cascade_request_seconds", "Duration of a request.", ("policy", "arm"), registry=registry, buckets=_BUCKETS_S),
        Counter("cascade_steps_total", "Rungs that were called.", (*call, "verdict", "reason"), registry=registry),
        Histogram("cascade_step_seconds", "Duration of a rung's step.", call, registry=registry, buckets=_BUCKETS_S),
        Counter("cascade_calls_total", "Calls of models: each sample, too.", (*call, "verdict"), registry=registry),
        Counter("cascade_escalations_total", "Steps that did not ship.", ("policy", "task", "rung", "reason"), registry=registry),
        Counter("cascade_degraded_total", "Requests whose climb was stopped.", ("policy", "task", "why"), registry=registry),
        Counter("cascade_cost_usd_total", "Cost of calls, in USD.", (*call, "arm"), registry=registry),
        Counter("cascade_tokens_total", "Billed tokens.", (*call, "kind"), registry=registry),
        _Tasks(),
    )  # fmt: skip


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
                self._metrics[registry] = _create_metrics(registry)
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
