"""What stands with a step beside its verdict: a shortened context (Prepared), a handoff (Handed), a self-assessment. Values for the trail."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

__all__ = ["Assessment", "AuxiliaryKind", "Handed", "Prepared"]

AuxiliaryKind = Literal["summary", "execution", "plain"]
"""What an auxiliary call is made for. `summary`: of the conversation, before the climb. `execution`: an answer by the plan that a
rung above wrote. `plain`: the top rung's own answer, after its plan did not lead to one."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """How the conversation was shortened before a rung was asked.

    `tool_results`: results that stand without their content. `turns`: turns that were dropped, or stand in the summary. `characters`:
    by how many characters the prompt is shorter. `over_tokens`: it is still above its limit by so many (characters / 4), since the rest
    must stay.
    """

    kind: Literal["summary", "trim"]
    tool_results: int = 0
    turns: int = 0
    characters: int = 0
    over_tokens: int = 0

    @property
    def said(self) -> str:
        """In a few words: "trimmed: 3 tool results, 4 turns", "summary of 9 turns"."""
        turns = f"{self.turns} turn{'' if self.turns == 1 else 's'}"
        if self.kind == "summary":
            return f"summary of {turns}"
        results = f"{self.tool_results} tool result{'' if self.tool_results == 1 else 's'}"
        gone = [text for count, text in ((self.tool_results, results), (self.turns, turns)) if count]
        gone = gone or (["thinking"] if self.characters else ["nothing could go"])
        return f"trimmed: {', '.join(gone)}" + (
            f"; about {self.over_tokens} tokens too long" if self.over_tokens else ""
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Handed:
    """What passed between rungs at a step. `doubt`: the rung was told why the one below did not ship. `artifact`: it wrote a plan.

    `version`: names the words by which the doubt was told, or a plan asked for. `executed_by`: the rung that answered by the plan, with
    its `model`; None if none did. `artifact`: the plan itself, which may quote the request; it is kept where answers are. `is_open`: the
    step has no answer yet, but at most a plan.
    """

    kind: Literal["doubt", "artifact"]
    version: str = ""
    executed_by: str | None = None
    artifact: Mapping[str, Any] | None = None
    model: str | None = None
    is_open: bool = False

    def to_dict(self) -> dict[str, Any]:
        """As JSON values, without the plan, which may quote the request."""
        said = {"kind": self.kind, "version": self.version}
        return said if self.kind == "doubt" else {**said, "executed_by": self.executed_by, "model": self.model}


@dataclass(frozen=True, slots=True)
class Assessment:
    """What the executor of a subtask says of its own result. `reason`: in its words, which may quote the request."""

    level: Literal["high", "medium", "low"]
    reason: str = ""
