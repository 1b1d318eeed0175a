"""The trail: what was made of each reply (Verdict), one rung's try (Step), and what the caller gets (Answer)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias

from pydantic_core import to_jsonable_python
from typing_extensions import TypeVar  # typing's has no defaults before Python 3.13

from cascade.core.arms import Arm
from cascade.core.messages import Message, Usage
from cascade.core.prepared import Assessment, AuxiliaryKind, Handed, Prepared
from cascade.core.text.suggestions import no_attribute
from cascade.core.text.tables import html_table
from cascade.core.trail_table import trail_rows, trail_text
from cascade.core.verification import Review
from cascade.core.voting import Vote

__all__ = [
    "NATURAL",
    "Answer",
    "CheckResult",
    "ConfidenceSource",
    "Degraded",
    "MaybeNone",
    "Reason",
    "Review",
    "Sample",
    "Step",
    "Verdict",
    "VerdictKind",
]

VerdictKind = Literal["answered", "declined", "malformed", "truncated", "refused", "overflow", "failed"]
ConfidenceSource = Literal["self_reported", "agreement", "calibrated", "tool_use"]

Reason = Literal[
    "error", "overflow", "refused", "truncated", "malformed", "declined", "check_failed", "disagreement",
    "low_confidence", "floor", "storm",
]  # fmt: skip
"""Why a step did not ship: the first of these that holds."""

Degraded = Literal[
    "error", "overflow", "refused", "truncated", "malformed", "declined", "check_failed",
    "ceiling", "deadline", "budget", "storm",
]  # fmt: skip
"""What stopped the climb, so that the best held answer was shipped, or none."""

MaybeNone: TypeAlias = Any
"""An optional type whose None is rare: type checkers demand no check for None, and editors complete it as X."""

_Data_co = TypeVar("_Data_co", covariant=True, default=Any)

NATURAL: frozenset[str] = frozenset(
    {"refused", "truncated", "malformed", "declined", "check_failed", "disagreement", "low_confidence"}
)
"""The reasons that depend on the traffic. Only these count for the storm guard and the quality statistics."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What an external check said of an answer.

    `passed` None: it could not say, for the reason in `detail`; `blocks`: the answer then does not stand. `seconds`: the
    time that it took.
    """

    name: str
    passed: bool | None
    blocks: bool = True
    seconds: float = 0.0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What we make of a reply.

    `confidence`: 0..1 with its named `source`; None from the last rung, which is not asked for one, and for a failure.
    `text` and `data` are set if `kind` is "answered"; `data` is the parsed value if the request has a schema.
    `repaired`: the JSON was broken and has been repaired, see `core.text.parsing`. `detail`: in a few words what was wrong,
    without the prompt's or the answer's text. `self_reported`: the model's own number, if a score replaced it.
    `vote`: how the samples agreed. `checks`: the results of external checks.
    `unknown_stop`: the text is complete, but its stop reason, named in `detail`, is unknown to this version; such an
    answer may be held, but never stands by itself. `message`: what a caller of the Messages API gets, where it is more than
    one block of text that ended by itself. `closed`: the reply's stream was closed at its confidence, so there is no text
    and nothing to hold. `begun`: it was decided at the reply's first tokens that it ships, whatever came after them. `assessment`: what an
    executor says of its own result (`core.assessment`).
    """

    kind: VerdictKind
    confidence: float | None = None
    source: ConfidenceSource | None = None
    text: str | None = None
    data: Any = None
    failed_checks: tuple[str, ...] = ()
    repaired: bool = False
    detail: str = ""
    self_reported: float | None = None
    unknown_stop: bool = False
    vote: Vote | None = None
    checks: tuple[CheckResult, ...] = ()
    message: Message | None = None
    closed: bool = False
    begun: bool = False
    assessment: Assessment | None = None

    @property
    def is_unchecked(self) -> bool:
        """Whether an external check that must pass could not say."""
        return any(result.passed is None and result.blocks for result in self.checks)

    @property
    def stated(self) -> float | None:
        """The confidence that the model itself gave; of a vote, the mean of those that agree."""
        return self.self_reported if self.source in ("calibrated", "agreement") else self.confidence


@dataclass(frozen=True, slots=True)
class Sample:
    """One call of a rung that is asked more than once. `cost_nanousd` is exact.

    `number` counts from 0. `is_judge`: not a sample, but the call that grouped the answers of those before it. `is_review`: the
    review of a step, as one of its calls (`review.calls_of`). `auxiliary`: not a sample either, but a call beside the rung's own.
    """

    number: int
    variant: str
    model: str
    verdict: Verdict
    usage: Usage = Usage()
    cost_nanousd: int = 0
    attempts: int = 1
    latency_s: float = 0.0
    request_id: str | None = None
    is_judge: bool = False
    is_review: bool = False
    auxiliary: AuxiliaryKind | None = None

    def to_dict(self) -> dict[str, Any]:
        """The sample as JSON values, without its text."""
        return {
            "number": self.number,
            "variant": self.variant,
            "model": self.model,
            "judge": self.is_judge,
            "verdict": self.verdict.kind,
            "confidence": self.verdict.confidence,
            "detail": self.verdict.detail,
            "failed_checks": list(self.verdict.failed_checks),
            **_check_fields(self.verdict),
            "cost_nanousd": self.cost_nanousd,
            "usage": asdict(self.usage),
            "attempts": self.attempts,
            "latency_s": round(self.latency_s, 4),
            "request_id": self.request_id,
        }


@dataclass(frozen=True, slots=True)
class Step:
    """One rung's try. `cost_nanousd` is exact. `reason`: why it escalated; None for the last step.

    `samples`: its calls, if the rung is asked more than once; usage, cost, attempts and latency are their sums. `review`: what a
    rung above said of the answer, if it was asked. `auxiliaries`: calls made beside the rung's own. Usage, cost, attempts and latency
    of both are in the step's too. `prepared`: how the conversation was shortened for this rung. `handed`: what passed between rungs.
    """

    index: int
    rung: str
    model: str
    verdict: Verdict
    usage: Usage = Usage()
    cost_nanousd: int = 0
    attempts: int = 1
    latency_s: float = 0.0
    request_id: str | None = None
    reason: Reason | None = None
    samples: tuple[Sample, ...] = ()
    review: Review | None = None
    auxiliaries: tuple[Sample, ...] = ()
    prepared: Prepared | None = None
    handed: Handed | None = None

    @property
    def cost_usd(self) -> float:
        """The cost in USD."""
        return self.cost_nanousd / 1e9

    def to_dict(self) -> dict[str, Any]:
        """The step as JSON values, without its text, which only the answer carries."""
        return {
            "rung": self.rung,
            "model": self.model,
            "verdict": self.verdict.kind,
            "confidence": self.verdict.confidence,
            "detail": self.verdict.detail,
            "failed_checks": list(self.verdict.failed_checks),
            **_check_fields(self.verdict),
            "repaired": self.verdict.repaired,
            "unknown_stop": self.verdict.unknown_stop,
            "closed": self.verdict.closed,
            "reason": self.reason,
            "cost_nanousd": self.cost_nanousd,
            "cost_usd": self.cost_usd,
            "usage": asdict(self.usage),
            "attempts": self.attempts,
            "latency_s": round(self.latency_s, 4),
            "request_id": self.request_id,
            **({"vote": _vote_fields(self)} if self.samples else {}),
            **({"review": self.review.to_dict()} if self.review is not None else {}),
            **(
                {"auxiliary": [{"kind": one.auxiliary, **one.to_dict()} for one in self.auxiliaries]}
                if self.auxiliaries
                else {}
            ),
            **({"prepared": self.prepared.to_dict()} if self.prepared is not None else {}),
            **({"handed": self.handed.to_dict()} if self.handed is not None else {}),
            **_level(self.verdict.assessment),
        }

    if not TYPE_CHECKING:  # hidden from type checkers, which would accept any attribute

        def __getattr__(self, name: str) -> Any:
            raise no_attribute(self, name)


@dataclass(frozen=True, slots=True, repr=False)
class Answer(Generic[_Data_co]):
    """What `ask` returns; `str(answer)` is its text.

    `text` is None only if the policy says `exhausted: abstain`; `abstained` then says why. `data`: the value of the
    request's `response_model`; None without one, or without text. `degraded`: what stopped the climb, if this is the best
    held answer and not one that stood. `confidence` is None if the last rung answered, which is not asked for one.
    `usage`, `cost_usd` and `attempts` include every step, failed ones too. `certificate`: for example
    "certified: false_confident <= 0.02 at 0.95", a proved bound on the rate of a loss with its probability; "uncertified"
    if nothing proves the policy's thresholds, if the policy has changed since, or if an error, the deadline, a budget or a
    storm made the answer degraded. `arm`: who answered, "cascade" or the baseline ("holdout", "observe", "bypass"). `cache`: "hit" if
    the response cache returned it, "miss" if it was asked; None where it is not used.
    `notes`: what else the caller should know, such as why the climb began above the first rung. `stored`: of an answer from the
    response cache, its message, if that is more than one block of text.
    """

    text: str | MaybeNone
    data: _Data_co | None
    rung: str | None
    model: str | None
    confidence: float | None
    confidence_source: ConfidenceSource | None
    steps: tuple[Step, ...]
    usage: Usage
    cost_nanousd: int
    degraded: Degraded | None
    abstained: Degraded | None
    attempts: int
    latency_s: float
    request_id: str
    task: str
    flags: tuple[str, ...]
    metadata: Mapping[str, str]
    policy: str
    policy_hash: str
    certificate: str = "uncertified"
    arm: Arm = "cascade"
    notes: tuple[str, ...] = ()
    cache: Literal["hit", "miss"] | None = None
    stored: Message | None = None

    @property
    def bypass(self) -> bool:
        """Whether the baseline answered because the mode is off, or because the request cannot climb."""
        return self.arm == "bypass"

    @property
    def shipped(self) -> Step | None:
        """The step whose answer this is; None without one."""
        return next((step for step in reversed(self.steps) if step.rung == self.rung), None)

    @property
    def assessment(self) -> Assessment | None:
        """What the executor of a subtask says of its own result; None for any other request."""
        shipped = self.shipped
        return shipped.verdict.assessment if shipped is not None else None

    @property
    def message(self) -> Message:
        """The answer as a message of the Messages API: a truncated or refused one says so in its `stop_reason`."""
        shipped = self.shipped
        message = shipped.verdict.message if shipped is not None else self.stored
        if message is not None:
            return message
        content = ({"type": "text", "text": self.text},) if self.text else ()
        return Message("", content, "end_turn")

    @property
    def cost_usd(self) -> float:
        """The cost of the whole climb in USD; `cost_nanousd` is the exact value in billionths of a dollar."""
        return self.cost_nanousd / 1e9

    def to_dict(self) -> dict[str, Any]:
        """The answer and its trail as JSON values: `data` as pydantic serialises it, money in nano-USD and USD."""
        return {
            "text": self.text,
            "data": to_jsonable_python(self.data, inf_nan_mode="null", fallback=str),
            "rung": self.rung,
            "model": self.model,
            "confidence": self.confidence,
            "confidence_source": self.confidence_source,
            "degraded": self.degraded,
            "abstained": self.abstained,
            "cost_nanousd": self.cost_nanousd,
            "cost_usd": self.cost_usd,
            "usage": asdict(self.usage),
            "attempts": self.attempts,
            "latency_s": round(self.latency_s, 4),
            "request_id": self.request_id,
            "arm": self.arm,
            "task": self.task,
            "flags": list(self.flags),
            "metadata": dict(self.metadata),
            "policy": self.policy,
            "policy_hash": self.policy_hash,
            "certificate": self.certificate,
            "notes": list(self.notes),
            **({"cache": self.cache} if self.cache is not None else {}),
            **_level(self.assessment),
            "steps": [step.to_dict() for step in self.steps],
        }

    def to_json(self, *, indent: int | None = None) -> str:
        """`to_dict` as JSON text."""
        return json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False, indent=indent)

    def __str__(self) -> str:
        return self.text if self.text is not None else ""

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)

    def __repr__(self) -> str:
        text = self.text
        if text is not None and len(text) > _SHORT:
            text = text[: _SHORT - 1] + "…"
        shown = [repr(text), *(f"{name}={value!r}" for name, value in self._facts())]
        return f"Answer({', '.join(shown)}, cost_usd={self.cost_usd:.6f}, steps={len(self.steps)})"

    def _facts(self) -> Iterator[tuple[str, object]]:
        """The main fields that have a value."""
        for name in ("rung", "confidence", "degraded", "abstained"):
            value = getattr(self, name)
            if value is not None:
                yield name, value
        if self.arm != "cascade":
            yield "arm", self.arm

    def _summary(self) -> str:
        facts = ", ".join(f"{name} {value}" for name, value in self._facts())
        return f"{facts}; {self.cost_usd:.6f} USD, {self.latency_s:.2f} s; policy {self.policy}, {self.certificate}"

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        """For `rich.print`: the text, the trail and a summary, without interpreting markup."""
        table = trail_text(self.steps, self.rung, options.max_width)
        shown = "\n".join((str(self), "", table, self._summary()))
        yield console.render_str(shown, markup=False, emoji=False, highlight=False)

    def _repr_html_(self) -> str:
        """For Jupyter: the text, the trail and a summary, escaped."""
        return html_table(trail_rows(self.steps, self.rung), above=str(self), below=self._summary())

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            raise no_attribute(self, name)


def _vote_fields(step: Step) -> dict[str, Any]:
    vote = step.verdict.vote
    return {
        "agreed": len(vote.members) if vote else 0,
        "agree": vote.agree if vote else None,
        "max": vote.most if vote else None,
        "asked": vote.asked if vote else 0,
        "members": list(vote.members) if vote else [],
        "samples": [sample.to_dict() for sample in step.samples],
    }


def _check_fields(verdict: Verdict) -> dict[str, Any]:
    return {"checks": [asdict(result) for result in verdict.checks]} if verdict.checks else {}


def _level(assessment: Assessment | None) -> dict[str, Any]:
    """A self-assessment without its reason, which may quote the request."""
    return {} if assessment is None else {"assessment": assessment.level}


_SHORT = 60  # characters of an answer in its repr
