"""What a recording is to do, how far it is, and what a run of it came to. Money in nano-USD; all but `State` is frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from cascade.core.errors import CascadeError
from cascade.core.policy import Policy
from cascade.corpora.grading import Graded
from cascade.recording.judge import JudgeReport
from cascade.recording.noise_floor import NoiseFloor

__all__ = ["Report", "Settings", "Standing", "State", "Stop", "StopKind"]

StopKind = Literal["cap", "interrupted", "refused", "outage"]
"""Why no further call is made: --max-usd, Ctrl-C, an endpoint that refuses all calls, one that fails them all."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What to record, how, and where. `cap` is in nano-USD over all runs of this recording; None: no limit.

    `baseline_twice`: on so many items the baseline is asked a second time (see `noise`).
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


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a recording stopped early, for people."""

    kind: StopKind
    message: str


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a recording is: items, calls made in this run and money of all runs, in nano-USD."""

    items: int
    complete: int
    reused: int
    calls: int
    spent: int


@dataclass(frozen=True, slots=True)
class Report:
    """What a run came to.

    `complete` of `items` are in the corpus; `failed` says of each item that was tried in vain why. `ungraded`: (item,
    who answered, why). `spent`: nano-USD of all runs, the judge's share included; `judge` tells that apart.
    `unanswered`: calls that killed runs left without an outcome; `unanswered_cost`: the most that they may have cost,
    which counts toward the cap but is not in `spent`. `overshoot`: the most that the cap may have been passed by.
    `grader` None: nothing was graded. `by_definition`: answers of the baseline that are right because they are what the
    others are graded against; `noise`: how often it disagrees with itself, None where that was not measured. `anew`: a corpus that was whole was graded once more, and was replaced only if
    all of it could be: else it is as it was.
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
    anew: bool = False
    noise: NoiseFloor | None = None
    by_definition: int = 0

    @property
    def is_final(self) -> bool:
        """Whether the corpus is whole and nothing is left to ask, control items included."""
        return self.complete == self.items and not (self.judge and self.judge.unasked)


@dataclass
class State:
    """What changes while a recording runs."""

    complete: set[str] = field(default_factory=set[str])
    failed: dict[str, str] = field(default_factory=dict[str, str])
    grades: dict[tuple[str, str], Graded] = field(default_factory=dict[tuple[str, str], Graded])
    calls: int = 0
    in_flight: int = 0
    reused: int = 0
    in_a_row: int = 0
    by_definition: int = 0
    judge: JudgeReport | None = None
    written: int = 0
    stop: Stop | None = None
    error: CascadeError | None = None
