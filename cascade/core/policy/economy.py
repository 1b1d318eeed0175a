"""What a policy says of the rest of the bill: caches, prepared contexts, and what a rung hands to the next one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, Strict, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from cascade.core.policy.base import Fault, Frozen, Name
from cascade.core.policy.ladder import Rung, model_faults

__all__ = [
    "Artifact",
    "Handoff",
    "HandoffKey",
    "Prepare",
    "PrepareKey",
    "PromptCache",
    "ResponseCache",
    "Summarize",
    "Trim",
    "economy_faults",
    "planning_faults",
]

_Tokens = Annotated[int, Strict(), Field(ge=1, le=10_000_000)]
_Turns = Annotated[int, Strict(), Field(ge=1, le=1_000)]


class ResponseCache(Frozen):
    """Returns an earlier answer to an equal request. Off when absent. It stores answers, so it needs a place of its own (`CASCADE_CACHE`)."""

    ttl_s: Annotated[float, Strict(), Field(gt=0, le=31_536_000, allow_inf_nan=False)] = 86_400.0
    """An answer is returned for so many seconds."""
    requests: Literal["marked", "all"] = "marked"
    """marked: those that the caller marks (`cache=True`), and those of tasks with `cache: true`. all: every request."""
    max_entries: Annotated[int, Strict(), Field(ge=1, le=100_000_000)] = 100_000
    """The oldest answers beyond so many are removed. Redis removes by age alone."""


def _off(value: object) -> object:
    return "off" if value is False else value  # YAML reads `off` as false


PromptCache = Annotated[Literal["off", "auto"], BeforeValidator(_off), WithJsonSchema({"enum": ["off", "auto"]})]
"""auto: the API's cache is used for the beginnings of prompts that come again soon enough."""


class Summarize(Frozen):
    """A long conversation is summarised once, and the rungs are asked with the summary."""

    by: Name | Rung | None = None
    """Who summarises: a rung of the ladder by its name, or a rung of its own. Default: the first rung."""
    above_tokens: _Tokens = 4_000
    """Conversations of fewer tokens (characters / 4) stay as they are."""
    keep_turns: _Turns = 2
    """The newest turns, which stay whole."""
    max_tokens: Annotated[int, Strict(), Field(ge=64, le=64_000)] = 1_024
    """Room for the summary."""
    original_for: tuple[Name, ...] = ()
    """The rungs that are given the original."""


class Trim(Frozen):
    """A long conversation is shortened for each rung: the oldest tool results go first, then the oldest turns."""

    max_tokens: _Tokens | None = None
    """The most tokens (characters / 4) of a prompt. Default: what the rung's context window holds."""
    keep_turns: _Turns = 4
    """The newest turns, which stay whole."""


def _named(value: object) -> object:
    if value == "none":
        return {}
    return {value: {}} if value in ("summarize", "trim") else value


class Prepare(Frozen):
    """What is done to a long conversation before a rung is asked. Neither of the two: nothing."""

    summarize: Summarize | None = None
    trim: Trim | None = None

    @model_validator(mode="after")
    def _one(self) -> Prepare:
        if self.summarize is not None and self.trim is not None:
            raise PydanticCustomError("prepare", "write none, summarize or {trim: {…}}: one of them")
        return self

    @property
    def settings(self) -> Summarize | Trim | None:
        """The one of the two; None: nothing is done."""
        return self.summarize or self.trim


PrepareKey = Annotated[
    Prepare, BeforeValidator(_named, json_schema_input_type=Literal["none", "summarize", "trim"] | Prepare)
]


class Artifact(Frozen):
    """A rung writes a short plan in place of the answer, and a cheaper one answers by it."""

    execute_on: Name | None = None
    """The rung that answers by the plan. Default: the first one."""
    planned_by: tuple[Name, ...] = ()
    """The rungs that plan. Default: all above the one that answers."""


def _kind(value: object) -> object:
    if value in ("none", "doubt"):
        return {"doubt": value == "doubt"}
    return {"artifact": {}} if value == "artifact" else value


class Handoff(Frozen):
    """What passes between rungs when a request climbs. Neither of the two: each rung is asked the original request."""

    doubt: Annotated[bool, Strict()] = False
    """The reason why the rung below did not ship, and the checks that its answer failed."""
    artifact: Artifact | None = None

    @model_validator(mode="after")
    def _one(self) -> Handoff:
        if self.doubt and self.artifact is not None:
            raise PydanticCustomError("handoff", "write none, doubt, artifact or {artifact: {…}}: one of them")
        return self


HandoffKey = Annotated[
    Handoff, BeforeValidator(_kind, json_schema_input_type=Literal["none", "doubt", "artifact"] | Handoff)
]


def economy_faults(
    at: tuple[str | int, ...], prepare: Prepare | None, handoff: Handoff | None, rungs: Sequence[str]
) -> Iterator[Fault]:
    """The broken invariants of `prepare` and `handoff`, on the policy or on the task at `at`. `rungs`: the ladder's names."""
    summarize = prepare.summarize if prepare is not None else None
    if summarize is not None:
        where = (*at, "prepare", "summarize")
        if isinstance(summarize.by, Rung):
            for key in ("threshold", "samples"):
                if key in summarize.by.model_fields_set:
                    yield Fault((*where, "by", key), "a rung that summarises does not decide", "remove it")
            yield from model_faults((*where, "by"), summarize.by)
        else:
            yield from _unknown((*where, "by"), (summarize.by,) if summarize.by else (), rungs)
        yield from _unknown((*where, "original_for"), summarize.original_for, rungs)
    artifact = handoff.artifact if handoff is not None else None
    if artifact is None:
        return
    where = (*at, "handoff", "artifact")
    yield from _unknown((*where, "execute_on"), (artifact.execute_on,) if artifact.execute_on else (), rungs)
    yield from _unknown((*where, "planned_by"), artifact.planned_by, rungs)
    executor = rungs.index(artifact.execute_on) if artifact.execute_on in rungs else 0
    if executor == len(rungs) - 1:
        yield Fault((*where, "execute_on"), "no rung stands above it to plan", "name a rung below the top")
    for number, name in enumerate(artifact.planned_by):
        if name in rungs and rungs.index(name) <= executor:
            problem = f"rung {name!r} does not stand above {rungs[executor]!r}, which answers by its plan"
            yield Fault((*where, "planned_by", number), problem, "name a rung above it")


def planning_faults(at: tuple[str | int, ...], handoff: Handoff | None, sampled: Mapping[str, bool]) -> Iterator[Fault]:
    """A rung that plans is asked once. `sampled`: by the ladder's names, in its order, whether a rung has samples here."""
    artifact = handoff.artifact if handoff is not None else None
    if artifact is None:
        return
    names = list(sampled)
    executor = next((at for at, name in enumerate(names) if name == artifact.execute_on), 0)
    above = names[executor + 1 :]
    for name in artifact.planned_by or above:
        if sampled.get(name):
            problem = f"rung {name!r} plans, and is asked for several samples: plans cannot be compared"
            yield Fault(
                (*at, "handoff", "artifact"), problem, "remove the rung's samples, or leave it out of planned_by"
            )


def _unknown(at: tuple[str | int, ...], names: Sequence[Any], rungs: Sequence[str]) -> Iterator[Fault]:
    for number, name in enumerate(names):
        if name not in rungs:
            where = at if len(names) == 1 and at[-1] in ("by", "execute_on") else (*at, number)
            yield Fault(where, f"there is no rung {name!r} on the ladder", f"use one of {', '.join(rungs)}")
