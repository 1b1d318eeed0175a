"""The competitive-landscape plan on recorded replies: from the goal to the page, and killed on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import pytest

from cascade import Cascade, Policy, Result
from cascade.claude import connect
from cascade.cli.demo.planned import planning_policy
from cascade.cli.demo.recorded import Recorded, landscape
from cascade.cli.run.page import costs_by_rung
from cascade.core.policy.planning import PlanPrompts
from cascade.emulator import ScriptedReply
from tests.live.conftest import Asking, Emulate
from tests.live.operation.test_books import bodies, entries
from tests.live.planning.fleet import ledger_costs

PLAN, TEXTS = landscape()
RUNGS = ("haiku", "sonnet", "opus")
NAMES = {one.instruction: one.id for one in PLAN.subtasks}


def fates(result: Result) -> dict[str, tuple[str, str | None, str, int]]:
    """By subtask: assigned and final rung, status, attempts."""
    return {name: (one.assigned, one.rung, one.status, len(one.attempts)) for name, one in result.subtasks.items()}


FATES = {
    "names": ("haiku", "haiku", "accepted", 1),
    "features": ("haiku", "sonnet", "accepted", 2),
    "pricing": ("haiku", "haiku", "unsettled", 1),
    "segments": ("haiku", "haiku", "accepted", 1),
    "edge_cases": ("sonnet", "sonnet", "accepted", 1),
    "themes": ("sonnet", "opus", "accepted", 1),
    "draft": ("sonnet", "sonnet", "accepted", 1),
    "review": ("opus", "opus", "accepted", 1),
}


def test_the_landscape_is_planned_run_and_reviewed(asking: Asking, emulate: Emulate) -> None:
    """A retry for a missing company, a climb for a low confidence, a contradiction for a person; costs by role are the ledger's."""
    policy = planning_policy()
    result = asking(policy, emulate((), script=Recorded(PLAN, policy))).run(PLAN.goal, inputs=TEXTS)
    assert replace(result.plan, planner="", prompt="") == PLAN
    assert result.plan.planner == "sonnet"
    assert fates(result) == FATES
    first, second = result.subtasks["features"].attempts
    assert first.review is not None
    assert (first.review.verdict, second.rungs[0][0]) == ("retry", "sonnet")
    assert "Polwarden" in first.review.reason
    assert "Polwarden" not in (first.text or "")
    assert "Polwarden" in (second.text or "")
    assert "somebody must ask Kelvanta" in result.subtasks["pricing"].why
    assert [name for name, one in result.subtasks.items() if one.rests_on == ("pricing",)] == [
        "themes",
        "draft",
        "review",
    ]
    assert result.text is not None
    assert "no calibration offered" in result.text
    assert result.costs == ledger_costs()
    assert set(result.costs) == {"planner", "executor", "reviewer"}
    assert sum(row.cost for row in costs_by_rung(result, RUNGS)) == result.costs["executor"]


@pytest.mark.parametrize("role", ["planner", "executor", "reviewer"])
def test_the_recorded_replies_do_not_hang_on_the_words_of_a_prompt(asking: Asking, emulate: Emulate, role: str) -> None:
    """With other words for a role the run is the same: replies are found by instruction, rung and the form that is asked for."""
    policy = planning_policy()
    assert policy.plan is not None
    prompts = PlanPrompts.model_validate({role: "Do as the JSON says."})
    changed = policy.model_copy(update={"plan": policy.plan.model_copy(update={"prompts": prompts})})
    result = asking(changed, emulate((), script=Recorded(PLAN, changed))).run(PLAN.goal, inputs=TEXTS)
    assert fates(result) == FATES


def test_the_reviewer_says_the_same_of_what_is_only_drawn(asking: Asking, emulate: Emulate) -> None:
    """With every result reviewed no fate is another: a recorded review is of the result, not of a source with the same text."""
    policy = planning_policy()
    assert policy.plan is not None
    reviewed = policy.model_copy(update={"plan": policy.plan.model_copy(update={"review_high": 1.0})})
    result = asking(reviewed, emulate((), script=Recorded(PLAN, reviewed))).run(PLAN, inputs=TEXTS)
    assert fates(result) == FATES
    assert all(attempt.review for one in result.subtasks.values() for attempt in one.attempts)


RUN = """
import sys
from cascade import Cascade, Policy
from cascade.claude import connect
from cascade.cli.demo.recorded import landscape
plan, texts = landscape()
policy = Policy.model_validate_json(sys.argv[2])
with connect(sys.argv[1], "demo") as client:
    Cascade(policy, client=client).run(plan.goal, inputs=texts, run="landscape", concurrency=1)
"""
"""One request at a time, so that all that was answered before the kill had ended; each is on the ledger's disk before that."""


class Counting:
    """The recorded replies, counted by model and by what was asked. Kills the process that asks for `subtask`, before it is answered."""

    def __init__(self, policy: Policy, subtask: str = "", child: Future[int] | None = None) -> None:
        self._recorded, self._subtask, self._child = Recorded(PLAN, policy), subtask, child
        self._lock = threading.Lock()
        self.answered: Counter[tuple[str, str, bool]] = Counter()

    def __call__(self, body: dict[str, Any], headers: Mapping[str, str]) -> ScriptedReply | None:
        """As a script."""
        asked = json.loads(body["messages"][-1]["content"])
        name = NAMES.get(asked.get("instruction", ""), "")  # "": the planner, and control items
        with self._lock:
            if self._child is not None and name == self._subtask:
                child, self._child = self._child.result(), None
                os.kill(child, signal.SIGKILL)
                os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
            elif name or "instruction" not in asked:
                self.answered[body["model"], name, "result" in asked] += 1
        return self._recorded(body, headers)


def test_a_killed_run_goes_on_without_paying_for_what_was_finished(emulate: Emulate) -> None:
    """After a kill -9 as the fifth subtask is asked for, both processes together asked what an undisturbed run asks, each thing once."""
    values = planning_policy().model_dump(mode="json", by_alias=True, exclude_unset=True)
    given = json.dumps({**values, "ledger": {"durability": "commit"}})
    policy = Policy.model_validate_json(given)
    child: Future[int] = Future()
    script, undisturbed = Counting(policy, "edge_cases", child), Counting(policy)
    emulator, other = emulate((), script=script), emulate((), script=undisturbed)
    with subprocess.Popen([sys.executable, "-W", "ignore", "-c", RUN, emulator.base_url, given]) as process:
        child.set_result(process.pid)
    assert process.returncode == -signal.SIGKILL
    with connect(emulator.base_url, "demo") as client:
        result = Cascade(policy, client=client).run(PLAN.goal, inputs=TEXTS, run="landscape")
    assert fates(result) == FATES
    assert {one["plan"]["run"] for one in bodies(entries(), "request")} == {result.id}
    assert result.costs == ledger_costs()
    with connect(other.base_url, "demo") as client:
        assert fates(Cascade(policy, client=client).run(PLAN.goal, inputs=TEXTS)) == FATES
    assert script.answered == undisturbed.answered
