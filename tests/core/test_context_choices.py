"""What a policy may choose of long conversations: to leave a task's alone, and to hand over a plan of what was shortened."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cascade.core.context import describe_prepare, not_recorded, trimmed_request
from cascade.core.context.measuring import characters
from cascade.core.handoff.words import execution_block
from cascade.core.messages import Request
from cascade.core.policy import Policy
from cascade.core.triage import build_prompt
from cascade.policy.certificates import hashes_of
from tests.core.builders import policy_of
from tests.core.test_context import SUMMARIZE, TALK, drive, plain
from tests.core.test_context_trimming import said, user


def test_a_task_may_leave_conversations_as_they_are() -> None:
    """`none` in place of the policy's; a policy that says nothing but `none` prepares nothing, says nothing, and has the same hashes."""
    tasks: list[Any] = [{"name": "chat", "prepare": "none"}]
    policy = policy_of(prepare={"summarize": SUMMARIZE}, tasks=tasks)
    run = drive(policy, 0.9, request=Request(TALK, task="chat"))
    assert run.summaries == []
    assert run.messages(0) is TALK
    assert len(drive(policy, 0.9, summary=plain()).summaries) == 1
    assert (describe_prepare(policy, "chat"), describe_prepare(policy, "other") is None) == (None, False)
    assert Policy.model_validate(policy.model_dump(exclude_unset=True)) == policy
    nothing, bare = (
        policy_of(prepare="none", handoff="none", tasks=[{**tasks[0], "handoff": "none"}]),
        policy_of(tasks=[{"name": "chat"}]),
    )
    assert drive(nothing, 0.9, request=Request(TALK, task="chat")).messages(0) is TALK
    assert not_recorded(nothing) == ()
    assert hashes_of(nothing) == hashes_of(bare)
    assert hashes_of(policy) != hashes_of(policy_of(prepare={"summarize": SUMMARIZE}, tasks=[{"name": "chat"}]))


def test_a_context_window_has_room_for_what_a_handoff_adds() -> None:
    """A plan, and the one before it, are put behind a conversation that was shortened before."""
    long = Request(
        (user("the task"), *(say("x" * 1_000) for _ in range(600) for say in (said, user)), user("the newest"))
    )
    plan = {
        "intent": '"' * 1_500,
        "tone": "",
        "must_mention": ['"' * 120] * 3,
        "forbidden": [],
        "next_action": '"' * 500,
    }
    models = ("claude-haiku-4-5", "claude-haiku-4-5", "claude-haiku-4-5")
    left: list[int] = []
    for handoff in ("artifact", "none"):
        policy = policy_of(models=models, prepare={"trim": {"keep_turns": 1}}, handoff=handoff)
        asked = replace(trimmed_request(policy, 0, long, "other"), handoff=(execution_block(plan, plan),))
        prompt = build_prompt(policy, 0, asked, triage=False)
        room = 3 * (200_000 - prompt.max_tokens)
        left.append(room - characters(prompt.system) - sum(characters(one["content"]) for one in prompt.messages))
    assert left[0] >= 0 > left[1]
