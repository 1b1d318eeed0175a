"""A caller in a conversation with tools, without a network: each turn is a climb with scripted replies and a state."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

from cascade.core.bound_policy import BoundPolicy
from cascade.core.decision import Start
from cascade.core.messages import Message, Reply, Request
from cascade.core.policy import Policy
from cascade.core.policy.certificate import Escalation
from cascade.core.trail import Answer
from cascade.engine.continuing import keep, lessons_of, read_place, recall, start_of
from cascade.policy.binding import bind_policy
from cascade.state.memory import MemoryState
from tests.core.builders import reply, run

__all__ = ["SURE", "UNSURE", "Conversation", "asks", "result"]

TOOLS = ({"name": "search", "input_schema": {"type": "object"}},)
SURE, UNSURE = 0.9, 0.1


def asks(*ids: str, thinks: bool = False, **more: Any) -> Reply:
    """A reply that calls a tool for each id."""
    thinking = ({"type": "thinking", "thinking": "hm", "signature": "…"},) if thinks else ()
    blocks = tuple({"type": "tool_use", "id": one, "name": "search", "input": {"q": one}} for one in ids)
    return reply(None, "", stop_reason="tool_use", message=Message("msg", (*thinking, *blocks), "tool_use"), **more)


def result(*ids: str, failed: bool = False) -> dict[str, Any]:
    """The caller's message with the results of these calls."""
    return {
        "role": "user",
        "content": [{"type": "tool_result", "tool_use_id": one, "content": "…", "is_error": failed} for one in ids],
    }


class Conversation:
    """A caller: says something or hands in results, and keeps what it is answered. Any worker may get its next turn."""

    def __init__(self, policy: Policy, *, key: str = "", session: str = "", state: Any = None) -> None:
        self.plan: BoundPolicy = bind_policy(policy)
        self.state = state if state is not None else MemoryState(policy, Escalation(), lambda: 0.0)
        self.key, self.session = key, session
        self.messages: list[dict[str, Any]] = []
        self.start = Start()

    def turn(self, message: dict[str, Any] | str, *outcomes: Any, endless: Iterator[Any] = iter(())) -> Answer:  # noqa: B008 - empty
        """One turn, whose rungs answer so; it uses up all the outcomes. `endless`: more of them than are needed."""
        self.messages.append({"role": "user", "content": message} if isinstance(message, str) else message)
        return self._go_on(*outcomes, endless=endless)

    def resume(self, *outcomes: Any) -> Answer:
        """The caller sends a paused turn back as it is."""
        return self._go_on(*outcomes)

    def _go_on(self, *outcomes: Any, endless: Iterator[Any] = iter(())) -> Answer:  # noqa: B008 - empty
        request = Request(tuple(self.messages), tools=TOOLS)
        place = read_place(request, self.plan.policy, self.key, self.session)
        recalled = recall(self.state, place)
        self.start = start_of(place, recalled, request, self.plan)
        left = iter(outcomes)
        answer = run(self.plan, chain(left, endless), request=request, start=self.start).answer
        assert answer is not None
        assert next(left, None) is None
        keep(self.state, lessons_of(place, recalled, self.start, answer, self.plan.policy))
        self.messages.append({"role": "assistant", "content": list(answer.message.content) or "so"})
        return answer

    def rungs(self, answer: Answer) -> list[str]:
        """The rungs that were asked."""
        return [step.rung for step in answer.steps]
