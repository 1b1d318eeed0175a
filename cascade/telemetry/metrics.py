"""Prometheus: what a driver does, as counters and histograms. No label holds what a caller can make up without bound."""

from __future__ import annotations

import threading
from asyncio import CancelledError
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from cascade.core.errors import MissingExtra
from cascade.core.policy import OTHER
from cascade.core.trail import Step
from cascade.forks import renew_in_children
from cascade.hooks import Begun, Calling, Ended

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Counter, Histogram

__all__ = ["Prometheus"]

_MOST_TASKS = 200
_BUCKETS_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0)


class Prometheus:
    """A hook that counts: `Cascade(policy, hooks=[Prometheus()])`. Several may share a registry.

        cascade_requests_total{policy,task,arm,outcome}    outcome: answered, degraded, abstained, failed, cancelled
        cascade_request_seconds{policy,arm}                a histogram
        cascade_steps_total{policy,rung,model,verdict,reason}    reason: why it went up; "" where it did not
        cascade_step_seconds{policy,rung,model}            a histogram
        cascade_escalations_total{policy,task,rung,reason}
        cascade_degraded_total{policy,task,why}            what stopped the climb
        cascade_cost_usd_total{policy,rung,model,arm}
        cascade_tokens_total{policy,rung,model,kind}       kind: input, output, cache_write, cache_read

    A caller may name any task: beside the policy's own, the first 200 are told apart, the rest are "other". `registry`:
    the process's own where none is given. Raises MissingExtra where prometheus-client is not installed.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        try:
            from prometheus_client import REGISTRY  # noqa: PLC0415 - an extra
        except ImportError:
            raise MissingExtra("Prometheus", "prometheus") from None
        self._metrics = _books.of(registry or REGISTRY)

    def begin(self, begun: Begun) -> _Track:
        """Nothing is counted before the end."""
        policy = begun.plan.policy
        is_own = any(task.name == begun.task for task in policy.tasks)
        task = begun.task if is_own else self._metrics.tasks.label(begun.task)
        return _Track(self._metrics, policy.name, task, begun.arm)


class _Tasks:
    """The names that are told apart."""

    def __init__(self) -> None:
        self._known = {OTHER}

    def label(self, task: str) -> str:
        """The task's own name while there is room for it."""
        if task not in self._known:
            if len(self._known) > _MOST_TASKS:
                return OTHER
            self._known.add(task)
        return task


@dataclass(frozen=True, slots=True)
class _Metrics:
    """A registry's; made once, for it takes no name twice."""

    requests: Counter
    seconds: Histogram
    steps: Counter
    step_seconds: Histogram
    escalations: Counter
    degraded: Counter
    cost: Counter
    tokens: Counter
    tasks: _Tasks


def _made(registry: CollectorRegistry) -> _Metrics:
    from prometheus_client import Counter, Histogram  # noqa: PLC0415 - an extra

    call = ("policy", "rung", "model")
    return _Metrics(
        Counter("cascade_requests_total", "Requests that are over.", ("policy", "task", "arm", "outcome"), registry=registry),
        Histogram("cascade_request_seconds", "What a request took.", ("policy", "arm"), registry=registry, buckets=_BUCKETS_S),
        Counter("cascade_steps_total", "Rungs that were asked.", (*call, "verdict", "reason"), registry=registry),
        Histogram("cascade_step_seconds", "What a rung took.", call, registry=registry, buckets=_BUCKETS_S),
        Counter("cascade_escalations_total", "Steps that did not ship.", ("policy", "task", "rung", "reason"), registry=registry),
        Counter("cascade_degraded_total", "Climbs that were stopped.", ("policy", "task", "why"), registry=registry),
        Counter("cascade_cost_usd_total", "What calls cost, in USD.", (*call, "arm"), registry=registry),
        Counter("cascade_tokens_total", "Billed tokens.", (*call, "kind"), registry=registry),
        _Tasks(),
    )  # fmt: skip


class _Books:
    """The metrics of each registry in use."""

    def __init__(self) -> None:
        self._made: WeakKeyDictionary[CollectorRegistry, _Metrics] = WeakKeyDictionary()
        self.renew_lock()
        renew_in_children(self)

    def renew_lock(self) -> None:
        """For `forks`."""
        self._lock = threading.Lock()

    def of(self, registry: CollectorRegistry) -> _Metrics:
        """A registry's metrics, made when first asked for."""
        with self._lock:
            if registry not in self._made:
                self._made[registry] = _made(registry)
            return self._made[registry]


_books = _Books()


class _Track:
    """One request's."""

    __slots__ = ("_arm", "_metrics", "_policy", "_task")

    def __init__(self, metrics: _Metrics, policy: str, task: str, arm: str) -> None:
        self._metrics, self._policy, self._task, self._arm = metrics, policy, task, arm

    def calling(self, call: Calling) -> None:
        """What it comes to is told at the end."""

    def ended(self, end: Ended) -> None:
        """Count the request, and each of its steps."""
        metrics, answer = self._metrics, end.answer
        outcome, why = "answered", None
        if answer is None:
            cancelled = end.error is None or isinstance(end.error, CancelledError)
            outcome = "cancelled" if cancelled else "failed"
        elif answer.abstained is not None:
            outcome, why = "abstained", answer.abstained
        elif answer.degraded is not None:
            outcome, why = "degraded", answer.degraded
        metrics.requests.labels(self._policy, self._task, self._arm, outcome).inc()
        metrics.seconds.labels(self._policy, self._arm).observe(end.latency_s)
        if why is not None:
            metrics.degraded.labels(self._policy, self._task, why).inc()
        for step in end.steps:
            self._count(step)

    def _count(self, step: Step) -> None:
        metrics, usage = self._metrics, step.usage
        call = (self._policy, step.rung, step.model)
        metrics.steps.labels(*call, step.verdict.kind, step.reason or "").inc()
        metrics.step_seconds.labels(*call).observe(step.latency_s)
        metrics.cost.labels(*call, self._arm).inc(step.cost_nanousd / 1e9)
        if step.reason is not None:
            metrics.escalations.labels(self._policy, self._task, step.rung, step.reason).inc()
        kinds = {
            "input": usage.input_tokens,
            "output": usage.output_tokens,
            "cache_write": usage.cache_write_5m + usage.cache_write_1h,
            "cache_read": usage.cache_read,
        }
        for kind, count in kinds.items():
            if count:
                metrics.tokens.labels(*call, kind).inc(count)
