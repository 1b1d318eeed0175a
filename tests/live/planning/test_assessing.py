"""An executor's reply is a result with a self-assessment, wherever it is asked: below the top and at it, as text and as a value."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from cascade import AllRungsFailed, Answer, Policy
from cascade.claude import schema_of
from cascade.core.decision import Start
from cascade.core.planning.executor import Source, executor_request
from cascade.core.planning.graph import Plan, Subtask
from cascade.core.planning.part import Part
from cascade.emulator import ScriptedReply
from cascade.engine.arguments import Arguments, new_id
from cascade.policy.checks import schema_check
from tests.live.conftest import MODELS, USAGE, Asking, Emulate
from tests.live.planning.fleet import planning

RUNG_OF = {model: rung for rung, model in MODELS.items()}
NAMES = {"type": "array", "items": {"type": "string"}, "minItems": 1}
OPEN = {"type": "object"}


def said(result: Any, level: Any = "high", reason: Any = "checked") -> str:
    """An executor's reply."""
    return json.dumps({"result": result, "assessment": level, "reason": reason})


def executed(
    asking: Asking,
    emulate: Emulate,
    replies: Callable[[str], tuple[str, float]],
    schema: Any = None,
    policy: Policy | None = None,
) -> Answer[Any]:
    """The answer to a subtask that is assigned Haiku. `replies`: what a rung says, and how sure it is."""

    def script(body: Any, _headers: Any) -> ScriptedReply:
        text, confidence = replies(RUNG_OF[body["model"]])
        return ScriptedReply([{"type": "text", "text": text}], usage=USAGE, confidence=confidence)

    plan = Plan("goal", (Subtask("names", "List them.", ("notes",), "haiku", schema=schema),), ("notes",))
    driver = asking(policy or planning(), emulate(script=script))
    request = executor_request(plan, plan["names"], {"notes": Source("Ada")}, planning(), enforce=schema_of)
    arguments = Arguments(
        replace(request, id=new_id()),
        checks=() if schema is None else (schema_check(schema),),
        is_message=False,
        part=Part("run_1", "executor", "names", assigned="haiku"),
        start=Start(0, 0),
    )
    answer = driver.respond(arguments)
    driver.close()
    return answer


@pytest.mark.parametrize(
    ("schema", "result", "text"),
    [(None, "Ada é", "Ada é"), (NAMES, ["Ada é"], '["Ada é"]'), (OPEN, {"a": [1]}, '{"a": [1]}')],
)
@pytest.mark.parametrize("top", [False, True])
def test_the_result_is_the_answer(
    schema: Any, result: Any, text: str, top: bool, asking: Asking, emulate: Emulate
) -> None:
    """Its assessment stands beside it, on the answer and on each step; its reason, which may quote the request, is not in the JSON."""
    confidence = 0.1 if top else 0.9
    answer = executed(
        asking, emulate, lambda rung: (said(result, "low" if rung == "haiku" and top else "medium"), confidence), schema
    )
    assert (answer.text, answer.data) == (text, result if schema is not None else None)
    assert answer.rung == ("opus" if top else "haiku")
    assert answer.assessment is not None
    assert (answer.assessment.level, answer.assessment.reason) == ("medium", "checked")
    shown = answer.to_dict()
    assert shown["assessment"] == "medium"
    assert [step["assessment"] for step in shown["steps"]] == (["low", "medium", "medium"] if top else ["medium"])
    assert "checked" not in json.dumps(shown)


@pytest.mark.parametrize("schema", [None, NAMES, OPEN])
@pytest.mark.parametrize("broken", ["Ada", '["Ada"]', '{"assessment": "high", "reason": ""}', '{"result": {"x"'])
def test_a_reply_without_a_result_climbs(broken: str, schema: Any, asking: Asking, emulate: Emulate) -> None:
    """Its text is never taken for the result; at the top there is no answer."""
    good = said({"a": 1} if schema is OPEN else ["Ada"] if schema else "Ada")
    answer = executed(asking, emulate, lambda rung: (broken if rung == "haiku" else good, 0.9), schema)
    assert [(step.rung, step.reason) for step in answer.steps] == [("haiku", "malformed"), ("sonnet", None)]
    with pytest.raises(AllRungsFailed):
        executed(asking, emulate, lambda _: (broken, 0.9), schema)


def test_a_result_that_breaks_its_schema_climbs(asking: Asking, emulate: Emulate) -> None:
    """Also where the API enforces only a part of the schema."""
    answer = executed(asking, emulate, lambda rung: (said([] if rung == "haiku" else ["Ada"]), 0.9), NAMES)
    assert [(step.rung, step.reason, step.verdict.failed_checks) for step in answer.steps] == [
        ("haiku", "check_failed", ("result_schema",)),
        ("sonnet", None, ()),
    ]


@pytest.mark.parametrize(
    ("check", "schema", "wrong", "right"),
    [
        ({"max_chars": 8}, None, "Ada and Bob", "Ada"),
        ({"pattern": "^[A-Z][a-z]+$"}, None, "ada", "Ada"),
        ({"json_schema": {"type": "array", "maxItems": 1}}, NAMES, ["a", "b"], ["a"]),
        ({"function": "tests.live.planning.test_assessing:is_short"}, None, "Ada and Bob", "Ada"),
    ],
)
def test_the_policys_checks_see_the_result(
    check: dict[str, Any], schema: Any, wrong: Any, right: Any, asking: Asking, emulate: Emulate
) -> None:
    """And not what it is wrapped in."""
    policy = planning(checks=["not_empty", check])
    answer = executed(
        asking, emulate, lambda rung: (said(wrong if rung == "haiku" else right, reason="x" * 99), 0.9), schema, policy
    )
    assert [(step.rung, step.reason) for step in answer.steps] == [("haiku", "check_failed"), ("sonnet", None)]


def is_short(text: str) -> bool:
    """A check of a policy."""
    return len(text) <= 8


def test_samples_are_compared_by_their_results(asking: Asking, emulate: Emulate) -> None:
    """However sure each of them is, and whatever its reason."""
    levels = iter(["high", "low", "medium"])
    policy = planning()
    rungs = [policy.ladder[0].model_dump(exclude_unset=True) | {"samples": {"max": 3, "agree": 2}}, *policy.ladder[1:]]
    policy = Policy.model_validate({**policy.model_dump(exclude_unset=True), "ladder": rungs})
    answer = executed(
        asking, emulate, lambda _: (said("Ada", level := next(levels), f"because {level}"), 0.9), None, policy
    )
    (step,) = answer.steps
    assert (answer.text, len(step.samples)) == ("Ada", 2)
    assert answer.assessment is not None


def test_a_plan_of_a_handoff_is_no_result(asking: Asking, emulate: Emulate) -> None:
    """Where a rung plans the answer, the answer by it is a result with its assessment; what the reviewer said is told to both."""
    artifact = json.dumps(
        {"intent": "List Ada.", "tone": "plain", "must_mention": ["Ada"], "forbidden": [], "next_action": ""}
    )
    asked: list[str] = []

    def replies(rung: str) -> tuple[str, float]:
        asked.append(rung)
        return (artifact, 0.9) if rung == "sonnet" else (said("Ada", "medium"), 0.1)

    answer = executed(asking, emulate, replies, policy=planning(handoff="artifact"))
    assert asked == ["haiku", "sonnet", "haiku"]
    assert (answer.text, answer.rung) == ("Ada", "sonnet")
    assert answer.assessment is not None
    assert answer.assessment.level == "medium"
