"""A recording's settings, progress, state and report. Money is in nano-USD. All but `State` are frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from cascade.core.errors import CascadeError
from cascade.core.policy import Policy
from cascade.corpora.grading import Graded
from cascade.recording.calls import Key
from cascade.recording.checking import CheckCounts
from cascade.recording.grouping import SameJudgeReport
from cascade.recording.judge import JudgeReport
from cascade.recording.noise_floor import NoiseFloor
from cascade.recording.reviewing import ReviewCounts

__all__ = ["RecordingProgress", "Report", "Settings", "State", "Stop", "StopKind"]

StopKind = Literal["cap", "interrupted", "refused", "outage"]
"""Why no further call is made: --max-usd reached, a signal, an endpoint that refuses all calls or fails on all."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What to record, how, and where. `cap`: nano-USD over all runs of this recording; None: no limit.

    `baseline_twice`: how many items the baseline answers a second time (see `noise_floor`). `asks_samples`: whether a rung with
    samples is asked for them; without it only what is there already is recorded. `batch`: the calls are made through the
    Message Batches API, with `poll_s` seconds between two looks at the batches.
    """

    policy: Policy
    target: Path
    rungs: tuple[str, ...] = ()
    baseline: str | None = None
    grader: str | None = None
    cap: int | None = None
    concurrency: int = 4
    name: str | None = None
    baseline_twice: int = 0
    asks_samples: bool = True
    batch: bool = False
    poll_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a recording stopped early. `message` is for people."""

    kind: StopKind
    message: str


@dataclass(frozen=True, slots=True)
class RecordingProgress:
    """How far a recording is. `calls` and `reused` count this run; `spent` is of all runs."""

    items: int
    complete: int
    reused: int
    calls: int
    spent: int


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a run.

    `complete` of `items` are in the corpus. `failed`: the reason for each item that failed. `ungraded`: (item, respondent,
    reason). `spent`: nano-USD of all runs, including the judge's calls, which `judge` lists by themselves. `unanswered`:
    calls that killed runs left without an outcome. `unanswered_cost`: an upper bound of what those cost; it counts toward
    the cap and is not in `spent`. `overshoot`: an upper bound of how far the cap was passed. `grader` None: nothing was
    graded. `by_definition`: answers of the baseline that score 1 because the others are graded against them. `noise`: None
    if it was not measured. `regraded`: a complete corpus was graded again; it was replaced only if every item could be.
    `samples`: by rung the most samples of an item that are in the corpus, for rungs asked more than once. `same`: of the judge
    that groups answers by meaning. `checks`: the results of external checks, by name. `reviews`: of the answers, None without a review gate.
    """

    items: int
    complete: int
    calls: int
    reused: int
    spent: int
    unanswered: int
    unanswered_cost: int
    failed: Mapping[str, str]
    ungraded: tuple[tuple[str, str, str], ...]
    grader: str | None
    judge: JudgeReport | None
    stop: Stop | None
    overshoot: int
    seconds: float
    regraded: bool = False
    noise: NoiseFloor | None = None
    by_definition: int = 0
    samples: Mapping[str, int] = field(default_factory=dict[str, int])
    same: SameJudgeReport | None = None
    checks: Mapping[str, CheckCounts] = field(default_factory=dict[str, "CheckCounts"])
    reviews: ReviewCounts | None = None

    @property
    def is_final(self) -> bool:
        """Whether the corpus is complete and no call is left to make, control items included."""
        unasked = (self.judge and self.judge.unasked) or (self.same and self.same.unasked)
        return self.complete == self.items and not unasked


@dataclass
class State:
    """The counts and results that change while a recording runs."""

    complete: set[str] = field(default_factory=set[str])
    failed: dict[str, str] = field(default_factory=dict[str, str])
    grades: dict[Key, Graded] = field(default_factory=dict[Key, Graded])
    calls: int = 0
    in_flight: int = 0
    reused: int = 0
    failures_in_a_row: int = 0
    by_definition: set[str] = field(default_factory=set[str])
    judge: JudgeReport | None = None
    same: SameJudgeReport | None = None
    samples: dict[str, int] = field(default_factory=dict[str, int])
    written: int = 0
    stop: Stop | None = None
    error: CascadeError | None = None
