"""A corpus from one's own traffic: what `mode: observe` put to the whole ladder beside the baseline's answer.

ledger → requests that were observed, with their shadow → items and replies, as a recording has them → graded by `recording`

It needs `ledger: {content: true}`: without the texts there is nothing to grade. No model is asked again.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from cascade.core.errors import CorpusError
from cascade.core.messages import Usage
from cascade.core.policy import Policy
from cascade.corpora.items import Item
from cascade.ledger.records import RequestBody, StepBody
from cascade.ledger.stores import Reader
from cascade.recording.calls import Roster, make_roster, usage_fields
from cascade.recording.inputs import Inputs

__all__ = ["Observations", "read_observations"]

_AT_ONCE = 500  # requests whose texts are fetched together


@dataclass(frozen=True, slots=True)
class Observations:
    """What was observed: `inputs` and, as lines of a journal, the `entries` with every rung's reply to them.

    `left_out`: why observed requests are not among them, and how many.
    """

    inputs: Inputs
    entries: tuple[dict[str, Any], ...]
    left_out: Mapping[str, int]


@dataclass(slots=True)
class _Seen:
    """One request as the ledger tells it."""

    at: float
    body: RequestBody
    steps: list[StepBody] = field(default_factory=list[StepBody])
    texts: dict[str, str] = field(default_factory=dict[str, str])


def read_observations(
    reader: Reader, policy: Policy, *, since: float | None = None, until: float | None = None
) -> Observations:
    """What was observed of a policy in [since, until), Unix seconds.

    Raises CorpusError where nothing was, or where no texts were kept of it.
    """
    roster = make_roster(policy, (), policy.baseline)
    seen = _read(reader, policy, since, until)
    shadows = {one.body.observed_as: name for name, one in seen.items() if one.body.observed_as is not None}
    left_out: Counter[str] = Counter()
    items: list[Item] = []
    entries: list[dict[str, Any]] = []
    begun = min((one.at for one in seen.values()), default=0.0)
    for name, one in seen.items():
        shadow = shadows.get(name)
        if shadow is None:
            continue
        replies = _replies(roster, policy, one, seen[shadow])
        why = _flaw(roster, one, replies)
        if why is not None:
            left_out[why] += 1
            continue
        items.append(_item(policy, name, one, one.at - begun))
        entries += ({**reply, "item": name} for reply in replies)
    if not items:
        told = "; ".join(f"{why} ({count})" for why, count in left_out.most_common()) or "no request was"
        hint = "run with mode: observe and ledger: {content: true}"
        raise CorpusError(f"nothing that was observed of policy {policy.name!r} makes an item: {told}", where=reader.where, hint=hint)  # fmt: skip
    return Observations(Inputs(tuple(items)), tuple(entries), dict(left_out))


def _read(reader: Reader, policy: Policy, since: float | None, until: float | None) -> dict[str, _Seen]:
    seen: dict[str, _Seen] = {}
    for entry in reader.entries(since=since, until=until):
        if entry.kind == "request":
            body = msgspec.json.decode(entry.body, type=RequestBody)
            if body.policy == policy.name and body.arm in ("observe", "shadow"):
                seen[entry.request] = _Seen(entry.at, body)
        elif entry.kind == "step" and (one := seen.get(entry.request)) is not None:
            one.steps.append(msgspec.json.decode(entry.body, type=StepBody))
    wanted = [name for name, one in seen.items() if one.body.content or any(step.content for step in one.steps)]
    for first in range(0, len(wanted), _AT_ONCE):
        for content in reader.contents(wanted[first : first + _AT_ONCE]):
            seen[content.request].texts[content.part] = content.text
    return seen


def _replies(roster: Roster, policy: Policy, answered: _Seen, shadow: _Seen) -> list[dict[str, Any]]:
    """Every rung's reply, and the baseline's, as a journal has them; those of other models than today's are not."""
    replies: list[dict[str, Any]] = []
    for place, step in enumerate(shadow.steps):
        if step.index < len(policy.ladder) and step.model == policy.ladder[step.index].model:
            replies.append(_reply(policy.ladder[step.index].rung, step, shadow.texts.get(f"step:{place}")))
    for place, step in enumerate(answered.steps[-1:], start=len(answered.steps) - 1):
        if step.model == _model(roster):
            replies.append(_reply(roster.baseline, step, answered.texts.get(f"step:{place}")))
    return [reply for reply in replies if reply["verdict"] != "failed"]


def _reply(ask: str, step: StepBody, text: str | None) -> dict[str, Any]:
    usage = Usage(
        step.input_tokens, step.output_tokens, step.cache_write_5m, step.cache_write_1h, step.cache_read,
        step.thinking_tokens, step.is_estimate,
    )  # fmt: skip
    return {
        "ask": ask,
        "verdict": step.verdict,
        "confidence": step.confidence if step.self_reported is None else step.self_reported,
        "answer": text,
        "usage": usage_fields(usage),
        "cost": step.cost,
    }


def _flaw(roster: Roster, one: _Seen, replies: list[dict[str, Any]]) -> str | None:
    """Why it cannot be an item; None where it can."""
    if "prompt" not in one.texts:
        return "its text was not kept"
    said = {reply["ask"] for reply in replies}
    missing = [asked.name.removeprefix("@") for asked in roster.asked if asked.name not in said]
    if missing:
        return f"no reply of {', '.join(missing)}"
    if any(reply["verdict"] == "answered" and reply["answer"] is None for reply in replies):
        return "an answer's text was not kept"
    return None


def _item(policy: Policy, name: str, one: _Seen, at: float) -> Item:
    prompt = json.loads(one.texts["prompt"])
    messages: Any = prompt["messages"]
    plain = len(messages) == 1 and isinstance(messages[0]["content"], str)
    by = policy.rollout.by if policy.rollout is not None else "customer"
    return Item(
        name,
        messages[0]["content"] if plain else messages,
        {},
        task=one.body.task,
        group=one.body.metadata.get(by),
        at=round(at, 3),
        extra=None if prompt.get("system") is None else {"system": prompt["system"]},
    )


def _model(roster: Roster) -> str:
    return next(asked.rung.model for asked in roster.asked if asked.name == roster.baseline)
