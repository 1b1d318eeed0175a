"""Requests for real models that the gateway passes through, on the ledger and the other hooks: one step, arm `relay`.

    recorder.begin(model, body) ─> Relayed         before the request is sent
    relayed.before_call() ─> what must be durable first (`durability: commit`)
    relayed.ended(RelayEnd)                        after the response has been passed on

They are recorded under a policy of their own, `relay`, so that no policy's budget or saving counts them. Texts are never
stored, whatever `ledger.content` says: the gateway does not read them.

A model without a price cannot be priced exactly, and free it is not. It gets the price of the most expensive Claude model
of the price table, marked as an estimate, and the step's detail says so.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cascade.core import prices
from cascade.core.bound_policy import BoundPolicy
from cascade.core.errors import AllRungsFailed, CascadeError, UpstreamRejected
from cascade.core.messages import Request, Usage
from cascade.core.policy import Policy, Rung
from cascade.core.policy.operations import Ledger
from cascade.core.signals import Signals
from cascade.core.trail import Answer, Degraded, Step, Verdict, VerdictKind
from cascade.hooks import Begun, Calling, Ended, Hook, Tracks, Wait, begin
from cascade.ledger.hook import LedgerHook
from cascade.ledger.opening import open_ledger
from cascade.logs import log_event
from cascade.policy.patterns import compile_blind
from cascade.policy.pricing import NoPrice, rates_of

__all__ = ["RELAY", "RelayEnd", "RelayRecorder", "Relayed"]

RELAY = "relay"
"""The name of the policy and of the rung that relayed requests are recorded under."""

_DEAREST = "claude-opus-4-1"  # its price stands in for one that is not known
_UNPRICED = f"no price is known for this model: the price of {_DEAREST} is an estimate"
_OTHER_MODEL = "other"
_MOST_UNKNOWN = 100  # names of models without a price that are kept apart: a caller may send any
_MOST_PLANS = 1_000
_DEGRADED: Mapping[str, tuple[VerdictKind, Degraded]] = {
    "max_tokens": ("truncated", "truncated"),
    "model_context_window_exceeded": ("truncated", "truncated"),
    "refusal": ("refused", "refused"),
}


@dataclass(frozen=True, slots=True)
class RelayEnd:
    """How a relayed request ended.

    `status`: of the HTTP response, None if there was none. `detail`: in a few words what went wrong, without any text of the
    endpoint. `cancelled`: the caller went away. `usage` is marked as an estimate where the endpoint did not report it.
    """

    status: int | None
    usage: Usage = Usage()
    stop_reason: str = ""
    upstream_id: str | None = None
    detail: str = ""
    cancelled: bool = False


@dataclass(frozen=True, slots=True)
class _Priced:
    """A model, as its requests are recorded."""

    plan: BoundPolicy
    rung: Rung
    is_known: bool


class RelayRecorder:
    """Notifies the ledger and the hooks of relayed requests. Used on one event loop.

    `ladders`: rungs whose own `price` or `discount` applies to their model. `settings`: of the ledger; `enabled: false` and
    `ledger="off"` both mean no ledger. `clock`: seconds from any origin; `wall`: Unix seconds.
    """

    def __init__(
        self,
        settings: Ledger,
        *,
        ledger: str | None = None,
        hooks: Sequence[Hook] = (),
        ladders: Sequence[Rung] = (),
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        settings = settings.model_copy(update={"content": False, "redact": None})
        self._writer = open_ledger(ledger, settings) if settings.enabled and ledger != "off" else None
        self._hooks: tuple[Hook, ...] = tuple(hooks)
        if self._writer is not None:
            self._hooks = (LedgerHook(self._writer, settings, clock=wall), *self._hooks)
        self._clock, self._wall = clock, wall
        self._own = {rung.model: rung for rung in ladders if rung.price is not None or rung.discount}
        self._plans: dict[str, _Priced] = {}
        self._unknown: set[str] = set()
        self._failed: set[str] = set()

    @property
    def commits(self) -> bool:
        """Whether a call must be on the ledger before it is made."""
        return self._writer is not None and self._writer.commits

    def begin(
        self, model: str, body: Mapping[str, Any], *, metadata: Mapping[str, str], task: str = "other"
    ) -> Relayed:
        """A request for `model` begins. Of `body`, only the hash of system prompt and messages is recorded."""
        return Relayed(self, self.priced(model), body, metadata, task)

    def rates(self, model: str) -> prices.Rates:
        """The prices that requests for `model` are recorded at."""
        return self.priced(model).plan.rates[0]

    def flush(self) -> None:
        """Write what waits. It may wait for a slow disk, for a bounded time."""
        if self._writer is not None:
            self._writer.flush()

    def priced(self, model: str) -> _Priced:
        """How a model's requests are recorded."""
        found = self._plans.get(model)
        if found is None:
            found = self._price(model)
            if len(self._plans) < _MOST_PLANS:
                self._plans[model] = found
        return found

    def _price(self, model: str) -> _Priced:
        rung = self._own.get(model) or Rung.model_construct(model=model, max_tokens=1)
        try:
            rates, is_known = rates_of(rung), True
        except NoPrice:
            rates, is_known = rates_of(Rung.model_construct(model=_DEAREST, max_tokens=1)), False
            if model not in self._unknown:
                if len(self._unknown) < _MOST_UNKNOWN:
                    self._unknown.add(model)
                else:
                    model = _OTHER_MODEL
        rung = Rung.model_construct(rung=RELAY, model=model, max_tokens=1)
        policy = Policy.model_construct(None, version=1, name=RELAY, ladder=(rung,))
        vars(policy)["hash"] = RELAY  # there is no document to hash
        return _Priced(BoundPolicy(policy, (rates,), Signals(policy, compile_blind), {}, ()), rung, is_known)

    def notify_begin(self, begun: Begun) -> Tracks:
        """Notify all hooks that a request begins."""
        return begin(self._hooks, begun, self._log_failure)

    def _log_failure(self, name: str, problem: Exception) -> None:
        if name not in self._failed:
            self._failed.add(name)
            hint = "requests go on without this hook; logged once"
            log_event("error", "hook_failed", hook=name, error=type(problem).__name__, hint=hint)

    def now(self) -> float:
        """Seconds on the recorder's clock."""
        return self._clock()

    def wall(self) -> float:
        """Unix seconds."""
        return self._wall()


class Relayed:
    """One relayed request. `id` names it on the ledger. `body` may be set until `ended`, or `before_call`, is called."""

    __slots__ = (
        "_at",
        "_end",
        "_metadata",
        "_priced",
        "_recorder",
        "_started",
        "_step",
        "_task",
        "_tracks",
        "body",
        "id",
    )

    def __init__(
        self, recorder: RelayRecorder, priced: _Priced, body: Mapping[str, Any], metadata: Mapping[str, str], task: str
    ) -> None:
        self.id = f"casc_{uuid.uuid4().hex}"
        self.body = body
        self._recorder, self._priced, self._metadata, self._task = recorder, priced, metadata, task
        self._started, self._at = recorder.now(), recorder.wall()
        self._tracks: Tracks | None = None
        self._step: Step | None = None
        self._end: RelayEnd | None = None

    @property
    def rates(self) -> prices.Rates:
        """The prices of its model."""
        return self._priced.plan.rates[0]

    def before_call(self) -> tuple[Wait, ...]:
        """What must be durable before the call is made."""
        return self._begin().calling(Calling(0, self._priced.rung, ()))

    def ended(self, end: RelayEnd) -> int:
        """Record how it ended; returns its cost in nano-USD. Nothing has to be waited for: the bytes have gone out."""
        priced, latency_s = self._priced, self._recorder.now() - self._started
        usage = end.usage
        if not priced.is_known and usage != Usage():
            usage = replace(usage, is_estimate=True)
        cost = prices.cost(priced.plan.rates[0], usage)
        detail = end.detail or ("" if priced.is_known else _UNPRICED)
        kind, degraded = _DEGRADED.get(end.stop_reason, ("answered", None))
        failed = end.cancelled or end.status is None or end.status >= 400 or bool(end.detail)
        verdict = Verdict("failed" if failed else kind, detail=detail)
        step = Step(0, RELAY, priced.rung.model, verdict, usage, cost, 1, latency_s, end.upstream_id)
        error = None if end.cancelled or not failed else _error(end)
        answer = None if failed else self._answer(step, degraded, latency_s)
        self._step, self._end = step, end
        self._begin().ended(Ended((step,), answer, error, latency_s))
        return cost

    def counts_as(self, bound: int) -> int:
        """What a budget counts: its cost; if its response was lost, which may have been billed, the most it may have cost."""
        if self._step is None or self._end is None:
            return bound
        is_lost = self._end.cancelled and self._end.status is None
        return max(self._step.cost_nanousd, bound) if is_lost else self._step.cost_nanousd

    def trail(self) -> dict[str, Any]:
        """The request as JSON values, once it has ended, with the names of `Answer.to_dict`."""
        step = self._step
        assert step is not None
        return {
            "request_id": self.id, "arm": RELAY, "model": step.model, "rung": None, "cost_nanousd": step.cost_nanousd,
            "cost_usd": step.cost_usd, "latency_s": round(step.latency_s, 4), "task": self._task, "steps": [step.to_dict()],
        }  # fmt: skip

    def _answer(self, step: Step, degraded: Degraded | None, latency_s: float) -> Answer:
        return Answer(
            text="", data=None, rung=RELAY, model=step.model, confidence=None, confidence_source=None, steps=(step,),
            usage=step.usage, cost_nanousd=step.cost_nanousd, degraded=degraded, abstained=None, attempts=1,
            latency_s=latency_s, request_id=self.id, task=self._task, flags=(), metadata=self._metadata, policy=RELAY,
            policy_hash=RELAY, arm=RELAY,
        )  # fmt: skip

    def _begin(self) -> Tracks:
        if self._tracks is None:
            system, messages = self.body.get("system"), self.body.get("messages")
            request = Request(
                messages=tuple(messages) if isinstance(messages, list) else (),  # pyright: ignore[reportUnknownArgumentType]
                system=tuple(system) if isinstance(system, list) else system,  # pyright: ignore[reportUnknownArgumentType]
                metadata=self._metadata,
                id=self.id,
            )
            begun = Begun(self._priced.plan, request, self._task, RELAY, self._at)
            self._tracks = self._recorder.notify_begin(begun)
        return self._tracks


def _error(end: RelayEnd) -> CascadeError:
    """Only its class is recorded."""
    if end.status is not None and 400 <= end.status < 500:
        return UpstreamRejected(end.detail, status=end.status)
    return AllRungsFailed(end.detail)
