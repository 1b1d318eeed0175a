"""Auxiliary calls of the climb: calls beside a rung's own, which are paid and recorded with the step that they belong to."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

from cascade.core import prices
from cascade.core.budgets import Refusal
from cascade.core.events import AskAuxiliary, Event, Sent, Taking
from cascade.core.messages import Failure, Reply
from cascade.core.prepared import AuxiliaryKind
from cascade.core.prices import Rates
from cascade.core.trail import Sample, Step, Verdict
from cascade.core.triage import Prompt

__all__ = ["Assisted", "ask_auxiliary", "auxiliary_call"]

_KINDS = {"max_tokens": "truncated", "refusal": "refused", "model_context_window_exceeded": "overflow"}


@dataclass(frozen=True, slots=True)
class Assisted:
    """What came of an auxiliary call. `call` is None if none was made; `refusal`: because no budget had room for it."""

    call: Sample | None
    reply: Reply | None = None
    refusal: Refusal | None = None
    failure: Failure | None = None


def ask_auxiliary(
    taking: Taking,
    index: int,
    kind: AuxiliaryKind,
    prompt: Prompt,
    rates: Rates,
    *,
    step: Step | None = None,
) -> Generator[Event, Sent, Assisted]:
    """Make one auxiliary call for the step of the rung at `index`. `step`: that step, if more than this call belongs to it by now.

    Its verdict is answered if the reply ended by itself; what its text is worth is for the asker to say.
    """
    number = len(step.auxiliaries) if step is not None else 0
    sent = yield AskAuxiliary(index, kind, prompt, rates, number, taking.task, taking.steps, step)
    if sent is None:
        return Assisted(None)
    if isinstance(sent, Refusal):
        return Assisted(None, refusal=sent)
    outcome: Reply | Failure = sent
    call = auxiliary_call(kind, prompt, rates, outcome)
    is_reply = isinstance(outcome, Reply)
    return Assisted(call, outcome if is_reply else None, failure=None if is_reply else outcome)


def auxiliary_call(kind: AuxiliaryKind, prompt: Prompt, rates: Rates, outcome: Reply | Failure) -> Sample:
    """An auxiliary call as it stands on the trail."""
    if isinstance(outcome, Failure):
        verdict = Verdict("overflow" if outcome.kind == "overflow" else "failed", detail=outcome.summary)
    elif outcome.stop_reason in ("end_turn", "stop_sequence"):
        verdict = Verdict("answered", text=outcome.text)
    else:
        kind_of = _KINDS.get(outcome.stop_reason, "malformed")
        verdict = Verdict(kind_of, detail=f"stop reason {outcome.stop_reason[:64]}")  # pyright: ignore[reportArgumentType]
    return Sample(
        0, f"{kind}:{prompt.rung.rung}", prompt.rung.model, verdict, sum(outcome.spent, outcome.usage),
        prices.total(rates, outcome.billed), outcome.attempts, outcome.latency_s, outcome.request_id, auxiliary=kind,
    )  # fmt: skip
