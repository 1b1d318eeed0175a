"""Hints: how a planner's earlier assignments have fared, as `cascade plan hints` writes them and the planner is told them.

They are figures of one wording: of the planner, which wrote the instructions, of the executor, and of the reviewer. Once one of these words
changes they are stale: the planner is not told them, and `cascade policy check` says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, Strict, model_validator

from cascade.core.policy.base import Frozen, Name, Text

__all__ = ["HintRow", "Hints", "hints_block", "read_hints", "stale_roles"]

_Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class HintRow(Frozen):
    """One kind of work at one assigned rung."""

    task: Name
    rung: Name
    """The rung that was assigned."""
    subtasks: Annotated[int, Strict(), Field(ge=1)]
    failed: Annotated[int, Strict(), Field(ge=0)]
    """Results of that rung that did not stand: they climbed, or the reviewer sent them back."""
    interval: tuple[_Share, _Share]
    """Of their rate, at 95 %."""
    advice: Name
    """The rung to assign: the next one, or the same where that is enough."""
    since: Text | None = None
    """The day on which these figures were made, where they were taken over from an earlier file."""

    @model_validator(mode="after")
    def _consistent(self) -> HintRow:
        if self.failed > self.subtasks:
            raise ValueError("more subtasks failed than there are")
        if self.interval[0] > self.interval[1]:
            raise ValueError("the interval's lower end is above its upper end")
        return self


class Hints(Frozen):
    """A file of hints."""

    version: Literal[1]
    policy: Name
    made: Text
    """The day, such as 2026-11-29."""
    limit: _Share
    """The rate of failures above which a rung counts as too low."""
    prompts: dict[Name, Text] = Field(default_factory=dict[str, str])
    """The versions of the words that planner, executor and reviewer were asked in, as far as they were on record."""
    rows: tuple[HintRow, ...] = ()

    @model_validator(mode="after")
    def _distinct(self) -> Hints:
        keys = [(row.task, row.rung) for row in self.rows]
        if twice := next((key for key in keys if keys.count(key) > 1), None):
            raise ValueError(f"{twice[0]} at {twice[1]} is there twice")
        return self

    def to_dict(self) -> dict[str, Any]:
        """As JSON values: what the file holds."""
        return self.model_dump(mode="json", exclude_none=True)

    def to_text(self) -> str:
        """As the text that `plan.hints` is in a policy made in code (`read_hints`)."""
        return self.model_dump_json(exclude_none=True)


def read_hints(text: str) -> Hints:
    """The hints in `plan.hints` of a policy, which are JSON there, whatever they were in the file. Raises ValueError."""
    return Hints.model_validate_json(text)


def stale_roles(hints: Hints, in_force: Mapping[str, str]) -> tuple[str, ...]:
    """The roles that are asked in other words now than when the figures were made. `in_force`: the versions by role."""
    return tuple(role for role, version in hints.prompts.items() if in_force.get(role, version) != version)


def hints_block(hints: Hints) -> str:
    """What the planner is told; "" if there is nothing to tell."""
    lines = [*_told(hints)]
    if not lines:
        return ""
    head = "How the results of earlier plans fared, by kind of work and assigned rung (in brackets the 95 % interval of the rate):"
    return "\n".join((head, *lines))


def _told(hints: Hints) -> Iterator[str]:
    for row in hints.rows:
        low, high = (f"{share:.0%}".replace("%", " %") for share in row.interval)
        fared = f"- {row.task} at {row.rung}: {row.failed} of {row.subtasks} results did not stand ({low} to {high})"
        yield f"{fared}: {row.rung} is enough" if row.advice == row.rung else f"{fared}: assign {row.advice}"
