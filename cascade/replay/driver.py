"""The replay driver: runs `core.climb` with replies from a corpus. Time is the items' arrival; there is no network.

Recorded replies are judged by the function that judges live ones (`core.triage.judge`), so a threshold means the same
in both. A reply's cost is the recorded one, or its usage at the policy's prices.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, cast

from cascade.core import prices
from cascade.core.climb import Ask, Observation, Plan, Recorded, climb
from cascade.core.decision import Situation
from cascade.core.errors import RequestError
from cascade.core.messages import Block, Request, Usage
from cascade.core.requests import read_messages
from cascade.core.storm import Change, Guard
from cascade.core.trail import Answer, Verdict
from cascade.core.triage import judge
from cascade.corpora.items import Item, RecordedReply

__all__ = ["CostOf", "OnChange", "recorded_verdict", "replay_item", "request_of"]

CostOf = Literal["recorded", "policy"]
"""Where a reply's cost comes from: its `cost_usd`, or its usage at the policy's prices."""

OnChange = Callable[[Change], object]
"""Called for each change of a storm guard."""

_NO_GUARD = Situation()


def request_of(item: Item) -> Request:
    """The request that an item records; its key `system` is the system prompt. Raises RequestError if invalid."""
    system = _system(item.extra["system"]) if item.extra and "system" in item.extra else None
    return Request(messages=read_messages(item.input), system=system, task=item.task, id=item.id)


def _system(value: object) -> str | tuple[Block, ...] | None:
    """A request's system prompt: text, or text blocks. A string in a list becomes a block."""
    if value is None or isinstance(value, str):
        return value or None
    if not isinstance(value, list):
        raise RequestError("system: must be a text, or a list of text blocks")
    return tuple(_blocks(cast("list[object]", value))) or None


def _blocks(parts: list[object]) -> Iterator[Block]:
    for part in parts:
        if isinstance(part, str):
            yield {"type": "text", "text": part}
        elif isinstance(part, list):  # the blocks of one of several system turns
            yield from _blocks(cast("list[object]", part))
        else:
            block = cast("dict[str, Any]", part) if isinstance(part, dict) else {}
            if block.get("type") != "text" or not isinstance(block.get("text"), str):
                raise RequestError("system: must be a text, or a list of text blocks")
            yield block


def recorded_verdict(reply: RecordedReply, *, triage: bool) -> Verdict:
    """The verdict on a recorded reply. `triage`: the rung was asked for its confidence (every rung but the last)."""
    if (failed := reply.failed) is not None:
        return Verdict(failed, detail="recorded")
    if not triage:
        return Verdict("answered", text=_plain(reply))
    if not reply.has_answer:  # the text was not recorded, but it was graded: it counts as answered
        verdict = judge(reply.confidence, "", structured=False)
        return Verdict("answered", verdict.confidence, verdict.source) if verdict.kind == "answered" else verdict
    if isinstance(reply.answer, str) or reply.answer is None:
        return judge(reply.confidence, reply.answer, structured=False)
    return judge(reply.confidence, reply.answer, structured=True)


def replay_item(
    plan: Plan,
    item: Item,
    *,
    cost_of: CostOf = "recorded",
    guard: Guard | None = None,
    request: Request | None = None,
    rungs: Sequence[str] | None = None,
    on_change: OnChange | None = None,
) -> Answer:
    """Climb for one item. `guard` observes each step at the item's `at`; `request` replaces the item's own.

    `rungs` names the corpus's rung for each rung of the plan (None: the names are equal). `on_change` is called for
    each change of the guard. Raises CorpusError if the rule reaches a reply that was not recorded, and whatever
    `climb` raises.
    """
    steps = climb(plan, request or request_of(item))
    ladder, top = plan.policy.ladder, plan.policy.top
    active = guard if item.at is not None else None
    try:
        wanted = next(steps)
        while True:
            if isinstance(wanted, Ask):
                index = wanted.index
                reply = item.reply(rungs[index] if rungs is not None else ladder[index].rung)
                usage = reply.tokens
                cost = _cost(plan, index, reply, usage, cost_of)
                wanted = steps.send(Recorded(recorded_verdict(reply, triage=index != top), usage, cost))
            elif active is None:
                wanted = steps.send(_NO_GUARD)
            else:
                wanted = steps.send(_situation(active, wanted, item.at or 0.0, on_change))
    except StopIteration as done:
        return done.value


def _situation(guard: Guard, step: Observation, now: float, on_change: OnChange | None) -> Situation:
    action, changes = guard.observe(
        step.task, step.rung, natural=step.natural, failed=step.failed, storm_cost=step.storm_cost, now=now
    )
    if on_change is not None:
        for change in changes:
            on_change(change)
    return Situation(None if action == "alert" else action)


def _plain(reply: RecordedReply) -> str | None:
    if not reply.has_answer:
        return None
    if reply.answer is None:
        return ""
    return reply.answer if isinstance(reply.answer, str) else json.dumps(reply.answer, ensure_ascii=False)


def _cost(plan: Plan, index: int, reply: RecordedReply, usage: Usage, cost_of: CostOf) -> int:
    if cost_of == "recorded" and reply.cost_usd is not None:
        return round(reply.cost_usd * 1e9)
    return prices.cost(plan.rates[index], usage)
