"""A planner for the emulator, in front of a fleet: it replies to a goal with the plans that it was given, one after the other."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import Any

from cascade.emulator.scripting import ScriptedReply
from tests.live.conftest import USAGE
from tests.live.planning.fleet import Fleet

NAMES = {"type": "array", "items": {"type": "string"}}


def written(name: str, *inputs: str, **more: Any) -> dict[str, Any]:
    """A subtask as a planner writes it."""
    return {
        "id": name, "instruction": f"do {name}", "inputs": list(inputs), "task": "other", "schema": "", "why": f"{name} is easy",
        "rung": "haiku", **more,
    }  # fmt: skip


def reply_of(*subtasks: Any, result: str = "") -> str:
    """A plan as a planner's reply."""
    return json.dumps({"subtasks": subtasks, "result": result})


GOOD = reply_of(written("names", "report"), written("table", "names", rung="sonnet"), result="table")
BAD = reply_of(written("names", "reprot"), written("names", rung="fable"))


class Planner:
    """A script of the emulator. `replies`: to its requests in turn, the last one again and again. `asked`: their bodies."""

    def __init__(self, *replies: str | ScriptedReply, fleet: Fleet | None = None) -> None:
        self.replies, self.fleet = list(replies) or [GOOD], fleet or Fleet()
        self.asked: list[dict[str, Any]] = []
        self._lock = threading.Lock()

    def __call__(self, body: dict[str, Any], headers: Mapping[str, str]) -> ScriptedReply:
        """As a script."""
        if "instruction" in json.loads(body["messages"][0]["content"]):
            return self.fleet(body, headers)
        with self._lock:
            self.asked.append(body)
            said = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        return said if isinstance(said, ScriptedReply) else ScriptedReply([{"type": "text", "text": said}], usage=USAGE)
