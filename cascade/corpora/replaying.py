"""The replay driver: the climb of `core.climb`, answered from a corpus. No clock but the items' own, no network.

A recorded reply is judged by the words a live one is judged by (`core.triage.judge`), so a threshold means the same in
both. Its cost is the recorded one, or its usage at the policy's prices.
"""

from __future__ import annotations

import json
from typing import Literal

from cascade.core import prices
from cascade.core.climb import Ask, Plan, Recorded, climb
from cascade.core.decision import Situation
from cascade.core.messages import Request, Usage, read_messages
from cascade.core.storm import Guard
from cascade.core.trail import Answer, Verdict
from cascade.core.triage import judge, wants_triage
from cascade.corpora.items import Item, RecordedReply

__all__ = ["CostOf", "recorded_verdict", "replay_item", "request_of"]

CostOf = Literal["recorded", "policy"]
"""Where a reply's cost comes from: its `cost_usd`, or its usage at the policy's prices."""


def request_of(item: Item) -> Request:
    """The request that an item records."""
    return Request(messages=read_messages(item.input), task=item.task, id=item.id)


def recorded_verdict(reply: RecordedReply, *, triage: bool) -> Verdict:
    """What the rule makes of a recorded reply. `triage`: the rung was asked for its confidence (not the last one)."""
    if not triage:
        return Verdict("answered", text=_plain(reply))
    if not reply.has_answer:  # its text is not known, but it was graded: it counts as answered
        verdict = judge(reply.confidence, "", structured=False)
        return Verdict("answered", verdict.confidence, verdict.source) if verdict.kind == "answered" else verdict
    if isinstance(reply.answer, str) or reply.answer is None:
        return judge(reply.confidence, reply.answer, structured=False)
    return judge(reply.confidence, reply.answer, structured=True)


def replay_item(
    plan: Plan, item: Item, *, cost_of: CostOf = "recorded", guard: Guard | None = None, request: Request | None = None
) -> Answer:
    """Climb for one item. `guard` is told each step at the item's `at`; `request` replaces the item's own.

    Raises CorpusError where the rule reaches a rung that was not recorded, and what the climb itself raises.
    """
    steps = climb(plan, request or request_of(item))
    policy = plan.policy
    try:
        wanted = next(steps)
        while True:
            if isinstance(wanted, Ask):
                rung = policy.ladder[wanted.index]
                reply = item.reply(rung.rung)
                verdict = recorded_verdict(reply, triage=wants_triage(policy, wanted.index))
                wanted = steps.send(Recorded(verdict, reply.tokens, _cost(plan, wanted.index, reply, cost_of)))
                continue
            action = None
            if guard is not None and item.at is not None:
                action, _ = guard.observe(
                    wanted.task,
                    wanted.rung,
                    natural=wanted.natural,
                    failed=wanted.failed,
                    storm_cost=wanted.storm_cost,
                    now=item.at,
                )
            wanted = steps.send(Situation(None if action == "alert" else action))
    except StopIteration as done:
        return done.value


def _plain(reply: RecordedReply) -> str | None:
    if not reply.has_answer:
        return None
    if reply.answer is None:
        return ""
    return reply.answer if isinstance(reply.answer, str) else json.dumps(reply.answer, ensure_ascii=False)


def _cost(plan: Plan, index: int, reply: RecordedReply, cost_of: CostOf) -> int:
    if cost_of == "recorded" and reply.cost_usd is not None:
        return round(reply.cost_usd * 1e9)
    return prices.cost(plan.rates[index], reply.tokens if reply.usage else Usage())
