"""The certificate in a policy: the finite-sample bound that `calibrate` proved, and the hashes of what it holds for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field, Strict, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from cascade.core.policy.base import Fault
from cascade.core.policy.ladder import Frozen, Name, Text, Threshold

__all__ = [
    "UNCERTIFIED",
    "Certificate",
    "Escalation",
    "Hash",
    "Hashes",
    "Loss",
    "PathStep",
    "Units",
    "Version",
    "certificate_faults",
    "weighting_of",
]

UNCERTIFIED = "uncertified"
"""The certificate of an answer whose thresholds nothing proves."""

Loss = Literal["false_confident", "regression", "disagreement"]
"""What is bounded, over all requests. `false_confident`: shipped below the top, and wrong. `regression`: wrong where the
top rung is right. `disagreement`: shipped below the top, and materially other than the baseline's plain answer."""

Units = Literal["items", "groups"]
"""What was counted: single items, each weighted equally; or groups of items, each group weighted equally."""

Hash = Annotated[str, Strict(), StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
_Share = Annotated[float, Strict(), Field(gt=0, lt=1, allow_inf_nan=False)]
_Rate = Annotated[float, Strict(), Field(ge=0, le=1, allow_inf_nan=False)]
Version = Annotated[str, Strict(), StringConstraints(pattern=r"^[0-9a-f]{12}$")]
_Role = Annotated[str, Strict(), StringConstraints(min_length=1, max_length=128)]
_Task = Annotated[str, Strict(), StringConstraints(min_length=1, max_length=128)]  # a caller may name any


@dataclass(frozen=True, slots=True)
class Escalation:
    """The certified rates of natural escalation: by rung, and by task and rung where they are known."""

    rungs: Mapping[str, float] = field(default_factory=dict[str, float])
    tasks: Mapping[str, Mapping[str, float]] = field(default_factory=dict[str, "Mapping[str, float]"])

    def rate(self, task: str, rung: str) -> float | None:
        """The task's rate at this rung, else the rate of all tasks; None if neither is certified."""
        return self.tasks.get(task, {}).get(rung, self.rungs.get(rung))


class Hashes(Frozen):
    """SHA-256 of what the certificate holds for. If one no longer matches, the answers are uncertified."""

    corpus: Hash
    """The labelled cases it was proved on."""
    ladder: Hash
    """The rungs, their order, and how each is asked (max_tokens, thinking, effort, endpoint)."""
    models: Hash
    """The rungs' models."""
    prompts: Hash
    """The words that the climb is asked in: the triage's rules and their order, and those of the other roles that the policy uses."""
    prices: Hash
    """The rungs' prices, after discounts."""
    thresholds: Hash
    """What decides shipping: thresholds, tasks with their tests, floors and ceilings, checks, the scorer, early stop."""


class PathStep(Frozen):
    """Thresholds with fewer losses than those before them on the path that was certified. `cascade audit` ratchets along it."""

    thresholds: dict[Name, Threshold]
    """By rung below the top, for the ladder."""
    tasks: dict[_Task, dict[Name, Threshold]] = Field(default_factory=dict[str, "dict[str, float | None]"])
    """The same for tasks with thresholds of their own."""
    escalation: dict[Name, _Rate] = Field(default_factory=dict[str, float])
    """The escalation rates on the certified corpus at these thresholds, as in the certificate."""


class Certificate(Frozen):
    """With probability 1 - delta, the rate of the loss is at most alpha on traffic like the corpus."""

    loss: Loss
    right_at: Annotated[float, Strict(), Field(allow_inf_nan=False)]
    """A score below it was counted as wrong."""
    alpha: _Share
    """The proved bound on the rate of the loss, over all requests."""
    delta: _Share
    """The probability that the proof is wrong."""
    units: Units
    n: Annotated[int, Strict(), Field(ge=1)]
    """How many units it was proved on."""
    errors: Annotated[int, Strict(), Field(ge=0)] | None = None
    """How many of them showed the loss; none where groups or graded losses were counted."""
    upper_bound: _Rate
    """The upper confidence limit of the rate at 1 - delta for these thresholds by themselves; at most alpha."""
    escalation: dict[Name, _Rate] = Field(default_factory=dict[str, float])
    """For each rung below the top: of the requests that reached it, the share whose reply did not stand by itself. The storm
    guard expects this rate of tasks that `escalation_by_task` does not list."""
    escalation_by_task: dict[_Task, dict[Name, _Rate]] | None = None
    """The same for single tasks, of which enough reached the rung."""
    grader: Text | None = None
    """Who judged what is wrong."""
    grader_error: _Rate | None = None
    """Of a judge: the share of control items, whose score is known, that it got wrong."""
    path: tuple[PathStep, ...] = Field(default=(), max_length=64)
    """Steps toward fewer losses, each with fewer than the one before. The last ships nothing below the top, but for tasks whose
    ceiling is below it."""
    loss_by_task: dict[_Task, _Rate] | None = None
    """By task, of which there were enough: the upper confidence limit of its own rate of the loss. The audit expects it of the task."""
    hashes: Hashes
    roles: dict[_Role, Version] | None = None
    """The versions of the words that the climb was asked in, by role, so that a change of them is told by name. Absent in older ones."""

    @model_validator(mode="after")
    def _adds_up(self) -> Certificate:
        if self.errors is not None and self.errors > self.n:
            raise PydanticCustomError("certificate", "there are more errors than units")
        if self.upper_bound > self.alpha:
            raise PydanticCustomError("certificate", "the upper bound is above alpha: this proves nothing")
        return self

    @property
    def expected(self) -> Escalation:
        """The escalation rates that the storm guard expects."""
        return Escalation(self.escalation, self.escalation_by_task or {})

    @property
    def summary(self) -> str:
        """One line, as answers carry it."""
        over = ", mean over groups" if self.units == "groups" else ""
        return f"certified: {self.loss} <= {self.alpha:g} at {1 - self.delta:g}{over}"

    @property
    def weighting(self) -> str:
        """What is weighted equally, in words."""
        return weighting_of(self.units)


def weighting_of(units: Units) -> str:
    """What is weighted equally in the mean loss, in words."""
    return "each item weighted equally" if units == "items" else "each group weighted equally"


def certificate_faults(certificate: Certificate | None, below: list[str], tasks: set[str]) -> Iterator[Fault]:
    """What a certificate says of rungs and tasks that the policy does not have, and a path that does not end at the top."""
    if certificate is None:
        return
    by_task = (certificate.escalation_by_task or {}).items()
    for at, rates in (
        (("escalation",), certificate.escalation),
        *((("escalation_by_task", task), rates) for task, rates in by_task),
    ):
        for rung in rates:
            if rung not in below:
                hint = f"use one of {', '.join(below)}, or calibrate again"
                yield Fault(("certificate", *at, rung), f"there is no rung {rung!r} below the top", hint)
    yield from _path_faults(certificate.path, below, tasks)


def _path_faults(path: tuple[PathStep, ...], below: list[str], tasks: set[str]) -> Iterator[Fault]:
    hint = "calibrate again, or remove the path"
    for number, step in enumerate(path):
        at = ("certificate", "path", number)
        own = ((("tasks", task), thresholds) for task, thresholds in step.tasks.items())
        for key, rates in ((("thresholds",), step.thresholds), (("escalation",), step.escalation), *own):
            for rung in rates:
                if rung not in below:
                    yield Fault((*at, *key, rung), f"there is no rung {rung!r} below the top", hint)
        for task in step.tasks:
            if task not in tasks:
                yield Fault((*at, "tasks", task), f"there is no task {task!r}", hint)
    if not path:
        return
    last = path[-1]
    given = [*last.thresholds.values(), *(one for own in last.tasks.values() for one in own.values())]
    if any(one is not None for one in given) or not last.thresholds.keys() >= set(below):
        problem = "the path's last step must not ship below the top"
        yield Fault(("certificate", "path", len(path) - 1), problem, hint)
