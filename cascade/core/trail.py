"""The trail: what each rung's reply was made of (Verdict), its record (Step), and what the caller gets (Answer)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeAlias

from typing_extensions import TypeVar  # the standard library's knows no default before Python 3.13

from cascade.core.messages import Usage

__all__ = ["NATURAL", "Answer", "Arm", "ConfidenceSource", "Degraded", "Reason", "Step", "Verdict", "VerdictKind"]

VerdictKind = Literal["answered", "declined", "malformed", "truncated", "refused", "overflow", "failed"]
ConfidenceSource = Literal["self_reported", "calibrated", "tool_use"]

Reason = Literal[
    "error", "overflow", "refused", "truncated", "malformed", "declined", "check_failed", "low_confidence",
    "floor", "storm",
]  # fmt: skip
"""Why a step did not ship: the first of these that holds."""

Degraded = Literal[
    "error", "overflow", "refused", "truncated", "malformed", "declined", "check_failed",
    "ceiling", "deadline", "budget", "storm",
]  # fmt: skip
"""Why the best held was shipped, or nothing could be: what stopped the climb."""

MaybeNone: TypeAlias = Any
"""Marks `X | None` where None is rare: `X | MaybeNone` does not make every caller check for it, and completes as X."""

_Data_co = TypeVar("_Data_co", covariant=True, default=Any)

Arm = Literal["cascade", "holdout", "observe", "shadow", "bypass"]
"""Who answered, and why: the ladder; the baseline, as the rollout's other side; the baseline, while the ladder is watched (and
the ladder beside it, whose answers nobody gets: "shadow", in the books only); the baseline, because the mode is off."""

NATURAL: frozenset[str] = frozenset({"refused", "truncated", "malformed", "declined", "check_failed", "low_confidence"})
"""The reasons that say something about the traffic; only they count for the storm guard and for statistics."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What we make of a reply.

    `confidence` is 0..1 with its named `source`, or None (the last rung answers plainly; a failure has none).
    `text` and `data` are set when `kind` is "answered"; `data` is the parsed value where a schema was asked for.
    `repaired`: the JSON was broken and was mended, see `core.triage`. `unknown_stop`: the text is complete, but stopped for
    a reason that this version does not know, which `detail` names: it is held, and never stands by itself. `detail` says in a few words what was wrong;
    it never quotes the prompt or the answer. `self_reported`: the model's own number, where a score took its place.
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

    @property
    def stated(self) -> float | None:
        """The confidence that the model itself gave."""
        return self.self_reported if self.source == "calibrated" else self.confidence


@dataclass(frozen=True, slots=True)
class Step:
    """One rung's try. `cost` is exact, in nano-USD; `reason` says why it did not ship (None: it did, or was held)."""

    index: int
    rung: str
    model: str
    verdict: Verdict
    usage: Usage = Usage()
    cost: int = 0
    attempts: int = 1
    latency_s: float = 0.0
    request_id: str | None = None
    reason: Reason | None = None

    @property
    def cost_usd(self) -> float:
        """The cost in USD."""
        return self.cost / 1e9

    def sent_up(self, reason: Reason) -> Step:
        """The same step, with the reason why it did not ship."""
        return Step(
            self.index,
            self.rung,
            self.model,
            self.verdict,
            self.usage,
            self.cost,
            self.attempts,
            self.latency_s,
            self.request_id,
            reason,
        )


@dataclass(frozen=True, slots=True)
class Answer(Generic[_Data_co]):
    """What `ask` returns; `str(answer)` is its text.

    `text` is never empty unless the policy says `exhausted: abstain`: then it is None and `abstained` says why. `data` is
    the instance of the request's `response_model`; None without one, and where `text` is None.
    `degraded`: not an answer that stood, but the best held; it says what stopped the climb. `confidence` is None where
    the last rung answered (it is not asked for one). `usage`, `cost_usd` and `attempts` count every step, also those
    that failed. `certificate` is "certified: false_confident <= 0.02 at 0.95" where that bound on the rate of a loss was
    proved of the policy's thresholds, with that probability; "uncertified" where nothing proves them, where what was
    proved has changed since, and on an answer that an error, the deadline, a budget or a storm made degraded. `arm` says
    who answered: "cascade", or else the baseline, asked plainly ("holdout", "observe", "bypass").
    """

    text: str | MaybeNone
    data: _Data_co | None
    rung: str | None
    model: str | None
    confidence: float | None
    confidence_source: ConfidenceSource | None
    steps: tuple[Step, ...]
    usage: Usage
    cost: int
    degraded: Degraded | None
    abstained: Degraded | None
    attempts: int
    latency_s: float
    request_id: str
    task: str
    flags: frozenset[str]
    metadata: Mapping[str, str]
    policy: str
    policy_hash: str
    certificate: str = "uncertified"
    arm: Arm = "cascade"

    @property
    def bypass(self) -> bool:
        """Whether the ladder was passed by: the mode is off, and the baseline answered."""
        return self.arm == "bypass"

    @property
    def cost_usd(self) -> float:
        """What the whole climb cost, in USD; `cost` is the same in nano-USD, exact."""
        return self.cost / 1e9

    def __str__(self) -> str:
        return self.text if self.text is not None else ""
