"""The replay driver: the climb of `core.climb`, answered from a corpus. No clock but the items' own, no network.

A recorded reply is judged by the words a live one is judged by (`core.triage.verdict_on`), so a threshold means the same in
both. Its cost is the recorded one, or its usage at the policy's prices.
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
from cascade.core.triage import verdict_on
from cascade.corpora.items import Item, RecordedReply

__all__ = ["CostOf", "Tell", "recorded_verdict", "replay_item", "request_of"]

CostOf = Literal["recorded", "policy"]
"""Where a reply's cost comes from: its `cost_usd`, or its usage at the policy's prices."""

Tell = Callable[[Change], object]
"""Hears what changes at a storm guard."""

_CALM = Situation()


def request_of(item: Item) -> Request:
    """The request that an item records; its key `system` is the system prompt. Raises RequestError where it is none."""
    system = _system(item.extra["system"]) if item.extra and "system" in item.extra else None
    return Request(messages=read_messages(item.input), system=system, task=item.task, id=item.id)


def _system(said: object) -> str | tuple[Block, ...] | None:
    """A system prompt as a request has it: a text, or text blocks; texts in a list are a block each."""
    if said is None or isinstance(said, str):
        return said or None
    if not isinstance(said, list):
        raise RequestError("system: must be a text, or a list of text blocks")
    return tuple(_blocks(cast("list[object]", said))) or None


def _blocks(parts: list[object]) -> Iterator[Block]:
    for part in parts:
        if isinstance(part, str):
            yield {"type": "text", "text": part}
        elif isinstance(part, list):  # the blocks of one turn, where there were several
            yield from _blocks(cast("list[object]", part))
        else:
            block = cast("dict[str, Any]", part) if isinstance(part, dict) else {}
            if block.get("type") != "text" or not isinstance(block.get("text"), str):
                raise RequestError("system: must be a text, or a list of text blocks")
            yield block


def recorded_verdict(reply: RecordedReply, *, triage: bool) -> Verdict:
    """What the rule makes of a recorded reply. `triage`: the rung was asked for its confidence (not the last one)."""
    if (failed := reply.failed) is not None:
        return Verdict(failed, detail="recorded")
    if not triage:
        return Verdict("answered", text=_plain(reply))
    if not reply.has_answer:  # its text is not known, but it was graded: it counts as answered
        verdict = verdict_on(reply.confidence, "", structured=False)
        return Verdict("answered", verdict.confidence, verdict.source) if verdict.kind == "answered" else verdict
    if isinstance(reply.answer, str) or reply.answer is None:
        return verdict_on(reply.confidence, reply.answer, structured=False)
    return verdict_on(reply.confidence, reply.answer, structured=True)


def replay_item(
    plan: Plan,
    item: Item,
    *,
    cost_of: CostOf = "recorded",
    guard: Guard | None = None,
    request: Request | None = None,
    rungs: Sequence[str] | None = None,
    tell: Tell | None = None,
) -> Answer:
    """Climb for one item. `guard` is told each step at the item's `at`; `request` replaces the item's own.

    `rungs` names the corpus's rung for each of the plan's (None: they have the same names); `tell` hears what changes
    at the guard. Raises CorpusError where the rule reaches a rung that was not recorded, and what the climb itself
    raises.
    """
    steps = climb(plan, request or request_of(item))
    ladder, top = plan.policy.ladder, plan.policy.top
    watch = guard if item.at is not None else None
    try:
        wanted = next(steps)
        while True:
            if isinstance(wanted, Ask):
                index = wanted.index
                reply = item.reply(rungs[index] if rungs is not None else ladder[index].rung)
                usage = reply.tokens
                cost = _cost(plan, index, reply, usage, cost_of)
                wanted = steps.send(Recorded(recorded_verdict(reply, triage=index != top), usage, cost))
            elif watch is None:
                wanted = steps.send(_CALM)
            else:
                wanted = steps.send(_situation(watch, wanted, item.at or 0.0, tell))
    except StopIteration as done:
        return done.value


def _situation(guard: Guard, step: Observation, now: float, tell: Tell | None) -> Situation:
    action, changes = guard.observe(
        step.task, step.rung, natural=step.natural, failed=step.failed, storm_cost=step.storm_cost, now=now
    )
    if tell is not None:
        for change in changes:
            tell(change)
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
