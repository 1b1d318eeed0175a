"""What became of a request on its way to a rung: a shortened context (Prepared), a handoff (Handed). Values for the trail."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

__all__ = ["AuxiliaryKind", "Handed", "Prepared"]

AuxiliaryKind = Literal["summary", "execution", "plain"]
"""What an auxiliary call is made for. `summary`: of the conversation, before the climb. `execution`: an answer by the plan that a
rung above wrote. `plain`: the top rung's own answer, after its plan did not lead to one."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """How the conversation was shortened before a rung was asked.

    `tool_results`: results whose content was dropped. `turns`: turns that were dropped, or stand in the summary. `characters`: by
    how many characters the prompt is shorter.
    """

    kind: Literal["summary", "trim"]
    tool_results: int = 0
    turns: int = 0
    characters: int = 0

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Handed:
    """What passed between rungs at a step. `doubt`: the rung was told why the one below did not ship. `artifact`: it wrote a plan.

    `version`: names the words by which a plan was asked for. `executed_by`: the rung that answered by the plan; None if none did.
    `artifact`: the plan itself, which may quote the request; it is kept where answers are.
    """

    kind: Literal["doubt", "artifact"]
    version: str = ""
    executed_by: str | None = None
    artifact: Mapping[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON values, without the plan, which only the answer carries."""
        return {"kind": self.kind, "version": self.version, "executed_by": self.executed_by}
