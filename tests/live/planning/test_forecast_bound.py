"""What a plan costs at most, as a dry run tells it, holds for the most expensive run there can be."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from cascade import Plan, Subtask
from cascade.emulator.scripting import ScriptedReply
from cascade.engine.planning.forecasting import forecast
from cascade.policy.binding import bind_policy
from tests.live.conftest import Asking, Emulate
from tests.live.planning.fleet import CONTROLS_KNOWN, RUNG_OF, planning

GIVEN = {"notes": "b, a, c"}


def dear(body: dict[str, Any], _: Mapping[str, str]) -> ScriptedReply:
    """All that may be billed is billed. The top rung is cut off, every other one is unsure, and the reviewer sends each result back."""
    asked, rung = json.loads(body["messages"][0]["content"]), RUNG_OF[body["model"]]
    prompt = json.dumps([body[key] for key in ("messages", "system", "output_config")], ensure_ascii=False)
    usage = {"input_tokens": len(prompt.encode()), "output_tokens": body["max_tokens"]}
    if "result" in asked:
        is_right = CONTROLS_KNOWN.get((asked["instruction"], asked["result"]), False)
        said = json.dumps({"reason": "no", "verdict": "accept" if is_right else "retry"})
        return ScriptedReply([{"type": "text", "text": said}], usage=usage)
    said = json.dumps({"result": "a, b, c", "assessment": "low", "reason": "so it is"})
    stop = "max_tokens" if rung == "opus" else None
    return ScriptedReply([{"type": "text", "text": said}], usage=usage, confidence=0.3, stop_reason=stop)


@pytest.mark.parametrize("retries", [0, 1, 2])
@pytest.mark.parametrize("assigned", ["haiku", "sonnet", "opus"])
def test_a_rung_that_is_called_again_is_counted_again(
    assigned: str, retries: int, asking: Asking, emulate: Emulate
) -> None:
    """A climb that ends degraded has called rungs above its answer; sent back, it calls them once more."""
    policy = planning(plan={"reviewer": "haiku", "max_retries": retries})
    plan = Plan("Sort them.", (Subtask("one", "Sort the letters.", ("notes",), assigned),), ("notes",))
    most = forecast(plan, GIVEN, bind_policy(policy))["one"].most
    result = asking(policy, emulate(script=dear), ledger="off").run(plan, inputs=GIVEN)
    called = [rung for attempt in result.subtasks["one"].attempts for rung, _ in attempt.rungs]
    assert called.count("opus") == 1 + min(retries, 1)
    assert result.cost_nanousd <= most
