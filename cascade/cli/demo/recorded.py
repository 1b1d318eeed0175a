"""The recorded replies of the plan that `cascade demo --plan` runs: a script for the emulator.

A reply is found by who is asked (the model) and for what (the subtask's instruction, in the prompt's JSON), never by the whole prompt: the
words around it may change. What is asked for is read from the form that the request demands: a plan, a review, a result with its
self-assessment, or a result alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from cascade.core.planning.controls import CONTROLS
from cascade.core.planning.graph import Plan, Subtask
from cascade.core.policy import Policy
from cascade.policy.plan_files import load_plan

if TYPE_CHECKING:
    from cascade.emulator import ScriptedReply

__all__ = ["FOLDER", "Recorded", "landscape"]

FOLDER = Path(__file__).parent / "landscape"

_CHARACTERS_PER_TOKEN = 4
_SYSTEM_TOKENS = {"subtasks": 1_000, "verdict": 450, "assessment": 700, "": 220}
"""Tokens of a system prompt, about, by what the form of the reply has: the demo's figures do not change with a prompt's words."""


class _Said(NamedTuple):
    """A reply. `thought`: tokens that the model thinks before it answers. `confidence`: below the top rung."""

    value: object
    thought: int = 0
    confidence: float | None = None


def landscape() -> tuple[Plan, dict[str, str]]:
    """The plan, and the texts that it is given, by name."""
    plan = load_plan(FOLDER / "plan.yaml")
    return plan, {name: (FOLDER / f"{name}.txt").read_text(encoding="utf-8") for name in plan.inputs}


class Recorded:
    """Answers what a run of the plan asks; what it does not know is left to the emulator, which refuses it. `policy`: names the rungs."""

    def __init__(self, plan: Plan, policy: Policy) -> None:
        self._plan = plan
        self._rungs = {rung.model: rung.rung for rung in policy.ladder}
        self._replies: Any = json.loads((FOLDER / "replies.json").read_text(encoding="utf-8"))

    def __call__(self, body: dict[str, Any], _headers: Mapping[str, str]) -> ScriptedReply | None:
        """The reply to a request of the Messages API; None if there is none."""
        text = _last_text(body)
        form = next((key for key in _SYSTEM_TOKENS if key and _demands(body, key)), "")
        said = self._said(form, self._rungs.get(body["model"], ""), _json_in(text), text)
        if said is None:
            return None
        prompt = len(text) // _CHARACTERS_PER_TOKEN + (_SYSTEM_TOKENS[form] if body.get("system") else 0)
        return _reply(said, prompt)

    def _said(self, form: str, rung: str, asked: Mapping[str, Any], text: str) -> _Said | None:
        if form == "subtasks":
            return _Said(self._planned(), self._replies["planner"]["thought"])
        subtask = self._subtask(asked.get("instruction"), text)
        if form == "verdict":
            verdict = self._review(subtask, asked)
            return None if verdict is None else _Said({"verdict": verdict[0], "reason": verdict[1]})
        if subtask is None:
            whole = self._replies["goal"]
            return _Said(self._result(*whole["result"]), whole["thought"]) if "goal" in asked else None
        reply = self._replies["subtasks"][subtask.id]["replies"].get(rung)
        if reply is None:
            return None
        result = self._result(subtask.id, reply["result"])
        if form == "assessment":
            result = {"result": result, "assessment": reply["assessment"], "reason": reply["reason"]}
        return _Said(result, reply["thought"], reply["confidence"])

    def flaws(self, answers: Mapping[str, str]) -> tuple[str, ...]:
        """What is wrong in these answers, by subtask, as far as it is recorded."""
        own = {subtask: known.get("flaws", {}) for subtask, known in self._replies["subtasks"].items()}
        names = {subtask: self._name(subtask, answers[subtask]) for subtask, flaws in own.items() if flaws}
        return tuple(own[subtask][name] for subtask, name in names.items() if name in own[subtask])

    def _subtask(self, instruction: object, text: str) -> Subtask | None:
        """The subtask with this instruction; in a prompt of another form, the one whose instruction stands in it."""
        for one in self._plan.subtasks:
            if instruction == one.instruction:
                return one
        if instruction is not None:
            return None
        return next((one for one in self._plan.subtasks if one.instruction in text), None)

    def _planned(self) -> dict[str, Any]:
        """The plan as a planner writes it: a result's schema is a text of JSON."""
        listed = [
            {
                "id": one.id,
                "instruction": one.instruction,
                "inputs": list(one.inputs),
                "task": one.kind,
                "schema": "" if one.schema is None else json.dumps(one.schema),
                "why": one.why,
                "rung": one.rung,
            }
            for one in self._plan.subtasks
        ]
        return {"subtasks": listed, "result": self._plan.final}

    def _review(self, subtask: Subtask | None, asked: Mapping[str, Any]) -> tuple[str, str] | None:
        """The verdict on a result of the plan, or on a control item."""
        text = str(asked.get("result", ""))
        if subtask is None:
            known = {(one.instruction, one.result): one.is_right for one in CONTROLS}
            right = known.get((str(asked.get("instruction")), text))
            if right is None:
                return None
            return ("accept", "The sources bear it out.") if right else ("retry", "The sources do not bear it out.")
        name = self._name(subtask.id, text)
        return None if name is None else tuple(self._replies["subtasks"][subtask.id]["reviews"][name])

    def _name(self, subtask: str, text: str) -> str | None:
        """The name of a recorded result, as a text or as JSON."""
        names = self._replies["subtasks"][subtask]["results"]
        return next((name for name in names if self._result(subtask, name) in (text, _json_in(text))), None)

    def _result(self, subtask: str, name: str) -> Any:
        return self._replies["subtasks"][subtask]["results"][name]


def _reply(said: _Said, prompt: int) -> ScriptedReply:
    """`prompt`: its tokens."""
    from cascade.emulator import ScriptedReply  # noqa: PLC0415 - needs an extra

    value = said.value
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    usage: dict[str, Any] = {
        "input_tokens": prompt,
        "output_tokens": said.thought + -(-len(text) // _CHARACTERS_PER_TOKEN),
    }
    if said.thought:
        usage["output_tokens_details"] = {"thinking_tokens": said.thought}
    return ScriptedReply([{"type": "text", "text": text}], usage=usage, confidence=said.confidence)


def _demands(body: Mapping[str, Any], key: str) -> bool:
    """Whether the form of the reply has this key: as the API enforces it, or as the prompt describes it."""
    form = json.dumps([body.get("output_config"), body.get("system")])
    return re.search(rf'\\*"{key}\\*": ?{{', form) is not None


def _last_text(body: Mapping[str, Any]) -> str:
    content: Any = body["messages"][-1]["content"]
    if isinstance(content, str):
        return content
    return "\n".join(block.get("text", "") for block in content)


def _json_in(text: str) -> dict[str, Any]:
    try:
        value: Any = json.loads(text)
    except ValueError:
        return {}
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
