"""Who grades a sampled request, what of it needs no call, and how a plain grader compares it with the shadow answer.

A grader is the task's, else the audit's, else the certificate's if it can be used here, else the judge. It is given the shadow answer as
what is expected, as `record` gives it an item's. If the request had a schema, both answers are compared as JSON values.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from cascade.core.errors import ConfigurationError
from cascade.core.messages import Request
from cascade.core.policy import Policy
from cascade.core.prompts import audit_judge
from cascade.corpora.grading import Grade, Grader, bind_grader, is_grader, judge_rung
from cascade.corpora.items import Item
from cascade.ledger.audit import Grading, Sample
from cascade.ledger.naming import text_part
from cascade.ledger.records import ASKED_PART, StepBody
from cascade.ledger.stores import Reader
from cascade.policy.roles import RolePrompt

__all__ = [
    "Shipped",
    "audit_prompts",
    "compare",
    "grader_names",
    "grader_of",
    "graders_of",
    "grading_without_call",
    "judges_of",
    "read_shipped",
]

_JUDGE = "judge"
_SLACK_S = 60.0  # a request's entries lie within its deadline; clocks and a slow disk may add to it


@dataclass(frozen=True, slots=True)
class Shipped:
    """A sampled request as the ledger kept it: what was asked, as the top rung is asked it, and the text that was shipped."""

    request: Request
    text: str


def grader_of(policy: Policy, task: str) -> str:
    """The name of the grader of a task's answers, as it goes on record; a judge's with its rung ("judge:opus").

    Raises ConfigurationError for a judge that is not on the ladder.
    """
    audit = policy.audit
    own = next((one.grader for one in policy.tasks if one.name == task), None)
    name = own or (audit.grader if audit is not None else None)
    if name is None and policy.certificate is not None and is_grader(policy.certificate.grader or ""):
        name = policy.certificate.grader
    name = name or _JUDGE
    rung = judge_rung(name)
    if rung is None:
        return name
    rung = rung or (audit.judge if audit is not None else None) or policy.ladder[policy.top].rung
    names = [one.rung for one in policy.ladder]
    if rung not in names:
        raise ConfigurationError(f"grader {name}: there is no rung {rung!r} on the ladder (it has {', '.join(names)})")
    return f"{_JUDGE}:{rung}"


def grader_names(policy: Policy) -> tuple[str, ...]:
    """The graders that the audit of this policy may need, each once."""
    return tuple(dict.fromkeys(grader_of(policy, task) for task in (*(one.name for one in policy.tasks), "")))


def judges_of(policy: Policy) -> tuple[str, ...]:
    """Those of them that are judges."""
    return tuple(name for name in grader_names(policy) if judge_rung(name) is not None)


def audit_prompts(policy: Policy) -> tuple[RolePrompt, ...]:
    """The roles in which the audit asks models, beside those of the climb; none without an audit, or if no judge grades."""
    if policy.audit is None or not (judges := judges_of(policy)):
        return ()
    use = f"the audit compares what was shipped with the top rung's answer ({', '.join(judges)})"
    return (RolePrompt("audit_judge", audit_judge.VERSION, "built in", use),)


def graders_of(policy: Policy) -> Mapping[str, Grader]:
    """The plain graders by name. Imports the modules of those that are functions; raises as `bind_grader` does."""
    return {name: bind_grader(name) for name in grader_names(policy) if judge_rung(name) is None}


def grading_without_call(sample: Sample) -> Grading | None:
    """The grading of a request that needs no call: its real outcome is known, the top rung answered, or nobody did."""
    if sample.outcome is not None:
        return Grading("outcome", sample.outcome)
    if sample.is_top and not sample.is_below:
        return Grading("top", 1.0)
    if not sample.rung:
        return Grading("top")
    if not sample.has_content:
        return Grading("", skipped="no_content")
    if sample.source == "tool_use":
        return Grading("", skipped="tool_use")
    return None


def compare(name: str, grader: Grader, sample: Sample, shipped: Shipped, shadow: str) -> Grading:
    """Grade the shipped answer against the shadow answer; one that cannot be graded is graded as `cannot_tell`."""
    answer, expected = shipped.text, shadow
    request = shipped.request
    if request.schema is not None or request.prompt_schema is not None:
        answer, expected = _value(answer), _value(expected)
    messages = [dict(one) for one in request.messages]
    plain = len(messages) == 1 and isinstance(messages[0]["content"], str)
    asked = messages[0]["content"] if plain else messages
    extra = None if request.system is None else {"system": request.system}
    item = Item(sample.request, asked, {}, task=sample.task, expected=expected, extra=extra)
    found = grader(answer, item)
    if isinstance(found, Grade):
        return Grading(name, found.score)
    return Grading(name, relation="cannot_tell", reason=found.reason)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def read_shipped(reader: Reader, sample: Sample, longest_s: float) -> Shipped | str:
    """What the ledger kept of a sampled request; a code if that cannot be graded. `longest_s`: the longest that a request takes.

    Raises LedgerDown.
    """
    texts = {one.part: one.text for one in reader.contents((sample.request,))}
    if "prompt" not in texts:
        return "no_content"
    text = texts.get(text_part(sample.index))
    if text is None and text_part(sample.index, 0) in texts:
        text = texts.get(_voted_part(reader, sample, longest_s))
    if not text:
        return "no_answer_text"
    prompt, asked = json.loads(texts["prompt"]), json.loads(texts.get(ASKED_PART, "{}"))
    asked |= {name: tuple(asked[name]) for name in ("tools", "stop_sequences") if name in asked}
    system: Any = prompt.get("system")
    request = Request(
        messages=tuple(prompt["messages"]),
        system=tuple(system) if isinstance(system, list) else system,  # pyright: ignore[reportUnknownArgumentType]
        task=sample.task,
        **asked,
    )
    return Shipped(request, text)


def _voted_part(reader: Reader, sample: Sample, longest_s: float) -> str:
    """The name of the text that a vote shipped: that of the first sample that agrees."""
    steps = list(_steps(reader, sample, longest_s))
    members = [number for step in steps if step.vote is not None for number in step.vote.members]
    first = members[0] if members else 0
    return next((step.part for step in steps if step.sample == first), "")


def _steps(reader: Reader, sample: Sample, longest_s: float) -> Iterator[StepBody]:
    since = sample.at - longest_s - _SLACK_S
    for entry in reader.entries(since=since, until=sample.at + _SLACK_S):
        if entry.kind == "step" and entry.request == sample.request:
            step = msgspec.json.decode(entry.body, type=StepBody)
            if step.index == sample.index:
                yield step
