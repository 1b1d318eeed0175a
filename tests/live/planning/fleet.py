"""A fleet for the emulator: executors whose results and self-assessments follow from instruction and rung, and a reviewer."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from cascade import Plan, Policy, Subtask
from cascade.core.planning.controls import CONTROLS
from cascade.emulator.requests import ApiError
from cascade.emulator.scripting import ScriptedReply
from tests.live.conftest import MODELS, USAGE, ladder
from tests.live.operation.test_books import bodies, entries

CONTROLS_KNOWN = {(item.instruction, item.result): item.is_right for item in CONTROLS}
RUNG_OF = {model: rung for rung, model in MODELS.items()}

Says = Callable[[str, str], "str | None"]
"""What an executor says of its own result, by instruction and rung: high, medium, low; "unsure" climbs, "refused" is a 400."""
Reviews = Callable[[str, str], str]
"""What the reviewer says, by instruction and result; "prose" is no review."""


def sure(instruction: str, rung: str) -> str:
    """Every executor is sure."""
    return "high"


def accepts(instruction: str, result: str) -> str:
    """Accepts every result of a run, and knows the control items."""
    return "accept" if CONTROLS_KNOWN.get((instruction, result), True) else "retry"


class Fleet:
    """A script of the emulator. `plan`: the planner's. `made`: how often each (instruction, rung) was asked; `reviewed` by (instruction, result).

    `seen`: of each request, in order, its instruction, rung (or "reviewer") and body. `on_request` is called with how many there were.
    """

    def __init__(self, says: Says = sure, reviews: Reviews = accepts, plan: Plan | None = None) -> None:
        self.says, self.reviews, self.plan = says, reviews, plan
        self.made: Counter[tuple[str, str]] = Counter()
        self.reviewed: Counter[tuple[str, str]] = Counter()
        self.controls = self.planned = 0
        self.seen: list[tuple[str, str, Any]] = []
        self.on_request: Callable[[int], object] = lambda _: None
        self._lock = threading.Lock()

    @property
    def calls(self) -> int:
        """How many there were."""
        return self.made.total() + self.reviewed.total() + self.controls + self.planned

    def __call__(self, body: dict[str, Any], _: Mapping[str, str]) -> ScriptedReply:
        """As a script."""
        asked, rung = json.loads(body["messages"][-1]["content"]), RUNG_OF[body["model"]]
        if "instruction" not in asked:
            self.seen.append(("", "planner", body))
            return self._plan()
        instruction = asked["instruction"]
        with self._lock:
            is_review = "result" in asked
            self.seen.append((instruction, "reviewer" if is_review else rung, body))
            reply = self._review(instruction, asked["result"]) if is_review else self._make(instruction, rung)
        self.on_request(self.calls)
        return reply

    def _plan(self) -> ScriptedReply:
        assert self.plan is not None, "a plan is asked for"
        self.planned += 1
        subtasks = [
            {"why": "it is easy", "task": "other", "schema": "", **one.to_dict(), "inputs": list(one.inputs)}
            for one in self.plan.subtasks
        ]
        said = json.dumps({"subtasks": subtasks, "result": self.plan.final})
        return ScriptedReply([{"type": "text", "text": said}], usage=USAGE)

    def _make(self, instruction: str, rung: str) -> ScriptedReply:
        self.made[instruction, rung] += 1
        level = self.says(instruction, rung)
        if level == "refused":
            raise ApiError(400, "invalid_request_error", "no")
        said = {"result": f"{instruction} by {rung}", "assessment": level, "reason": "so it is"}
        confidence = 0.3 if level == "unsure" else 0.9
        return ScriptedReply([{"type": "text", "text": json.dumps(said)}], usage=USAGE, confidence=confidence)

    def _review(self, instruction: str, result: str) -> ScriptedReply:
        if (instruction, result) in CONTROLS_KNOWN:
            self.controls += 1
        else:
            self.reviewed[instruction, result] += 1
        verdict = self.reviews(instruction, result)
        said = (
            "It is fine." if verdict == "prose" else json.dumps({"reason": f"{verdict}: {result}", "verdict": verdict})
        )
        return ScriptedReply([{"type": "text", "text": said}], usage=USAGE)


def planning(review_high: float = 0.0, **more: Any) -> Policy:
    """The ladder with a `plan` block. Without drawn reviews, unless the test says so."""
    plan = {"review_high": review_high, **more.pop("plan", {})}
    return ladder(plan=plan, **more)


DIAMOND = Plan(
    "compare the companies",
    (
        Subtask("names", "list the names", ("report",), "haiku"),
        Subtask("prices", "find the prices", ("names", "report"), "sonnet"),
        Subtask("staff", "find the staff", ("names",), "haiku"),
        Subtask("table", "make a table", ("prices", "staff"), "haiku"),
    ),
    ("report",),
)
TWO = Plan("g", (Subtask("a", "do a"), Subtask("b", "do b")))
GIVEN = {"report": "Acme sells anvils."}


def ledger_costs() -> Counter[str]:
    """What the ledger has of each arm, in nano-USD. The ledger is sound."""
    costs: Counter[str] = Counter()
    for outcome in bodies(entries(), "outcome"):
        costs[outcome["arm"]] += outcome["cost"]
    return +costs
