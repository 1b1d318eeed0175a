"""What one step of the climb asks its driver for, and what it is sent back.

Ask         the reply of a rung that is asked once         an Outcome, a Refusal, or an Early
Finish      the rest of a reply that is known as an Early  an Outcome
AskSamples  some samples of a rung, at once                 a tuple with one of these for each, in their order
AskJudge    answers, grouped by meaning by the first rung  an Outcome, or a Refusal
Verify      external checks of one answer                  a tuple with one CheckResult for each
AskReview   what a rung above says of one answer            a Reply, a Failure or a Refusal; or a Review that was made before
AskAuxiliary  a call beside the rung's own                  a Reply, a Failure or a Refusal; or None where none is made (replay)

An event carries the request as its rung is asked: it may have been shortened for it. Drivers build prompts from that one.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, Literal

from cascade.core.bound_policy import BoundPolicy, Checks
from cascade.core.budgets import Refusal
from cascade.core.messages import Failure, Reply, Request, Usage
from cascade.core.policy import OTHER, Samples
from cascade.core.prepared import AuxiliaryKind
from cascade.core.prices import Rates
from cascade.core.trail import Sample, Step, Verdict
from cascade.core.triage import Prompt
from cascade.core.verification import Verifier

__all__ = [
    "Ask",
    "AskAuxiliary",
    "AskJudge",
    "AskReview",
    "AskSamples",
    "Early",
    "Event",
    "Finish",
    "Outcome",
    "Recorded",
    "Sent",
    "Stepping",
    "Taken",
    "Taking",
    "Verify",
]


@dataclass(frozen=True, slots=True)
class Ask:
    """Requests the reply of the rung at `index`. `steps`: those before it, each with its escalation reason.

    `early`: the driver may send an Early as soon as the reply's first tokens are there.
    """

    index: int
    task: str = field(default=OTHER, compare=False)
    steps: tuple[Step, ...] = field(default=(), compare=False)
    early: bool = field(default=False, compare=False)
    request: Request | None = field(default=None, compare=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class Early:
    """The first tokens of a reply: its confidence, and whether the answer is null. At the top rung: that it has begun."""

    confidence: float | None = None
    declined: bool = False


@dataclass(frozen=True, slots=True)
class Finish:
    """What becomes of a reply whose first tokens are known.

    ship: it is read to its end, and given to the caller as it comes. read: it is read to its end, and then judged. close:
    its stream is closed; the Outcome has the usage up to there.
    """

    index: int
    action: Literal["ship", "read", "close"]
    steps: tuple[Step, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class AskSamples:
    """Requests these samples of the rung at `index`, at once. `taken`: the calls of this step so far."""

    index: int
    numbers: tuple[int, ...]
    samples: Samples = field(compare=False)
    task: str = field(default=OTHER, compare=False)
    steps: tuple[Step, ...] = field(default=(), compare=False)
    taken: tuple[Sample, ...] = field(default=(), compare=False)
    request: Request | None = field(default=None, compare=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class AskJudge:
    """Requests that the first rung groups these answers by meaning: the samples of the rung at `index` so far.

    `numbers`: the samples whose answers these are.
    """

    index: int
    numbers: tuple[int, ...]
    answers: tuple[str, ...] = field(compare=False)
    task: str = field(default=OTHER, compare=False)
    steps: tuple[Step, ...] = field(default=(), compare=False)
    taken: tuple[Sample, ...] = field(default=(), compare=False)
    request: Request | None = field(default=None, compare=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class Verify:
    """Requests the results of external checks of one answer. `number`: of the sample, None for a rung asked once.

    `text` is None for a recorded answer whose text was not recorded. `steps`: the trail before its step. `step`: that step, as far as
    it was taken; of a vote None, and `taken` its calls so far, those that are still to be checked among them.
    """

    index: int
    verifiers: tuple[Verifier, ...]
    text: str | None = field(compare=False)
    number: int | None = None
    task: str = field(default=OTHER, compare=False)
    steps: tuple[Step, ...] = field(default=(), compare=False)
    step: Step | None = field(default=None, compare=False)
    taken: tuple[Sample, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class AskReview:
    """Requests that the rung at `reviewer` reviews the answer of the rung at `index`, which would ship.

    `text` is None for a recorded answer whose text was not recorded. `steps`: the trail, the last of which is the step under
    review. A Review that the driver sends is taken as it is: its `accepted`, usage, cost and latency (`rung` and `model` are the
    driver's to fill in).
    """

    index: int
    reviewer: int
    text: str | None = field(compare=False)
    task: str = field(default=OTHER, compare=False)
    steps: tuple[Step, ...] = field(default=(), compare=False)
    request: Request | None = field(default=None, compare=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class AskAuxiliary:
    """Requests a call beside the own one of the rung at `index`: `prompt`, which names the rung that is asked, at `rates`.

    `steps`: the trail before that rung's step. `step`: that step, as far as it was taken; None before it. `number`: how many auxiliary
    calls of its step came before. The climb goes on without it where the driver sends None.
    """

    index: int
    kind: AuxiliaryKind
    prompt: Prompt = field(compare=False)
    rates: Rates = field(compare=False)
    number: int = 0
    task: str = field(default=OTHER, compare=False)
    steps: tuple[Step, ...] = field(default=(), compare=False)
    step: Step | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Recorded:
    """A rung's reply from a corpus: its verdict, usage and cost in nano-USD."""

    verdict: Verdict
    usage: Usage = Usage()
    cost: int = 0


Outcome = Reply | Failure | Recorded
Event = Ask | AskSamples | AskJudge | Finish | Verify | AskReview | AskAuxiliary
Sent = Any
"""What a driver sends: an Outcome or a Refusal for Ask, AskJudge and Finish (for Ask also an Early), a tuple of them for AskSamples, for Verify a tuple of
CheckResult, for AskReview a Reply, a Failure, a Refusal or a Review, for AskAuxiliary one of the first three or None. For Ask and AskSamples it may also send a Step that was taken before."""


@dataclass(frozen=True, slots=True)
class Taking:
    """What one step is taken for. `steps`: those before it, each with its escalation reason.

    `early`: whether the step may be decided at the reply's first tokens.
    """

    plan: BoundPolicy
    request: Request
    task: str
    checks: Checks
    steps: tuple[Step, ...] = ()
    early: bool = False


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of asking a rung. `step` None: nothing was asked, because of `refusal`.

    `refusal`: a budget had no room for a call. `rejected`: the endpoint refused the request itself. `is_early`: the step is
    a reply's first tokens, to be finished (`sampling.finish_step`).
    """

    step: Step | None
    refusal: Refusal | None = None
    rejected: Failure | None = None
    is_early: bool = False


Stepping = Generator[Event, Sent, Taken]
