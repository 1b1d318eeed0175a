"""Read a corpus's inputs and replies from the ledger of `mode: observe`, without calling a model again.

ledger → observed requests and their shadow requests → items and journal entries → `Recorder` grades and writes them

Needs `ledger: {content: true}`: without the texts there is nothing to grade.
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
from cascade.recording.calls import RecordingPlan, make_recording_plan, usage_fields
from cascade.recording.inputs import Inputs

__all__ = ["Observations", "read_observations"]

_BATCH = 500  # requests whose texts are fetched together


@dataclass(frozen=True, slots=True)
class Observations:
    """The observed requests as `inputs`, and every rung's reply to them as journal `entries`.

    `left_out`: how many observed requests are missing from them, by reason. Votes are: they end as soon as they are decided, and a
    corpus of samples must have them all.
    """

    inputs: Inputs
    entries: tuple[dict[str, Any], ...]
    left_out: Mapping[str, int]


@dataclass(slots=True)
class _LedgerRequest:
    """One request of the ledger, with its steps and its texts by part. `at`: Unix seconds."""

    at: float
    body: RequestBody
    steps: list[StepBody] = field(default_factory=list[StepBody])
    texts: dict[str, str] = field(default_factory=dict[str, str])


def read_observations(
    reader: Reader, policy: Policy, *, since: float | None = None, until: float | None = None
) -> Observations:
    """The observed requests of a policy in [since, until), Unix seconds.

    Raises CorpusError if there is none that can be an item, for example because the ledger kept no texts.
    """
    plan = make_recording_plan(policy, (), policy.baseline)
    requests = _read(reader, policy, since, until)
    shadows = {one.body.observed_as: name for name, one in requests.items() if one.body.observed_as is not None}
    left_out: Counter[str] = Counter()
    items: list[Item] = []
    entries: list[dict[str, Any]] = []
    first_at = min((one.at for one in requests.values()), default=0.0)
    for name, one in requests.items():
        shadow = shadows.get(name)
        if shadow is None:
            continue
        if any(step.in_vote for step in requests[shadow].steps):  # curtailed: its further samples were never asked
            left_out["a rung was asked more than once (`samples`): record such a policy with `cascade record`"] += 1
            continue
        replies = _replies(plan, policy, one, requests[shadow])
        reason = _exclusion(plan, one, replies)
        if reason is not None:
            left_out[reason] += 1
            continue
        items.append(_item(policy, name, one, one.at - first_at))
        entries += ({**reply, "item": name} for reply in replies)
    if not items:
        reasons = "; ".join(f"{why} ({count})" for why, count in left_out.most_common()) or "none was recorded"
        hint = "run with mode: observe and ledger: {content: true}"
        raise CorpusError(f"no observed request of policy {policy.name!r} can be recorded: {reasons}", where=reader.where, hint=hint)  # fmt: skip
    return Observations(Inputs(tuple(items)), tuple(entries), dict(left_out))


def _read(reader: Reader, policy: Policy, since: float | None, until: float | None) -> dict[str, _LedgerRequest]:
    requests: dict[str, _LedgerRequest] = {}
    for entry in reader.entries(since=since, until=until):
        if entry.kind == "request":
            body = msgspec.json.decode(entry.body, type=RequestBody)
            if body.policy == policy.name and body.arm in ("observe", "shadow"):
                requests[entry.request] = _LedgerRequest(entry.at, body)
        elif entry.kind == "step" and (one := requests.get(entry.request)) is not None:
            one.steps.append(msgspec.json.decode(entry.body, type=StepBody))
    wanted = [name for name, one in requests.items() if one.body.content or any(step.content for step in one.steps)]
    for first in range(0, len(wanted), _BATCH):
        for content in reader.contents(wanted[first : first + _BATCH]):
            requests[content.request].texts[content.part] = content.text
    return requests


def _replies(
    plan: RecordingPlan, policy: Policy, answered: _LedgerRequest, shadow: _LedgerRequest
) -> list[dict[str, Any]]:
    """The replies of every rung and the baseline as journal entries; replies of other models than the policy's are dropped."""
    replies = [
        _reply(policy.ladder[step.index].rung, step, shadow.texts.get(step.part))
        for step in shadow.steps
        if step.index < len(policy.ladder) and step.model == policy.ladder[step.index].model
    ]
    replies += [
        _reply(plan.baseline, step, answered.texts.get(step.part))
        for step in answered.steps[-1:]
        if step.model == plan.find(plan.baseline).rung.model
    ]
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


def _exclusion(plan: RecordingPlan, one: _LedgerRequest, replies: list[dict[str, Any]]) -> str | None:
    """Why a request cannot be an item; None if it can."""
    if "prompt" not in one.texts:
        return "its text was not kept"
    recorded = {reply["ask"] for reply in replies}
    missing = [one.name.removeprefix("@") for one in plan.respondents if one.name not in recorded]
    if missing:
        return f"no reply from {', '.join(missing)}"
    if any(reply["verdict"] == "answered" and reply["answer"] is None for reply in replies):
        return "an answer's text was not kept"
    return None


def _item(policy: Policy, name: str, one: _LedgerRequest, at: float) -> Item:
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
