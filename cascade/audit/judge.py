"""The judge: a rung that says whether the shipped answer and the shadow answer materially differ.

It is given one JSON object, so that no text in it can pose as another part of it. The reference always stands first: the question is
not which of two answers is better, where a judge is known to prefer a place (Zheng et al., NeurIPS 2023, section 3.3), but whether one
departs from the other, and a fixed order is the same for the control items and for the traffic. The reason comes before the relation,
so that the model has written it when it decides.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast, get_args

from cascade.core.messages import Reply, Request
from cascade.core.policy import Policy
from cascade.core.prompts.audit_judge import RUBRIC, SCHEMA
from cascade.core.text.parsing import Repair
from cascade.core.trail import Verdict
from cascade.core.triage import Prompt, build_prompt
from cascade.core.verdicts import read_reply
from cascade.ledger.audit import Grading, Relation

__all__ = ["Judgement", "grading_of", "judge_prompt", "judge_request", "judgement_of", "read_judgement"]

_MAX_TOKENS = 1024  # room for the sentence, whatever the rung is given for its answers
_MEDIA = frozenset({"image", "document"})
_TEXTUAL = frozenset({"text", "content"})  # sources of a document
_SCORES: Mapping[Relation, float | None] = {"agree": 1.0, "disagree": 0.0, "cannot_tell": None}
_REASON_CHARACTERS = 500


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a judge said, and why, in its own words."""

    relation: Relation
    reason: str


def judge_request(question: object, reference: str, answer: str, *, system: object = None) -> Request:
    """What a judge is asked. `question`: a text, or messages; images and files in them are left out, and named."""
    asked: dict[str, Any] = {} if system is None else {"instructions": _shown(system)}
    text = json.dumps(
        {**asked, "question": _shown(question), "reference": reference, "answer": answer}, ensure_ascii=False
    )
    return Request(({"role": "user", "content": text},), RUBRIC, schema=SCHEMA, max_tokens=_MAX_TOKENS)


def _shown(value: Any) -> Any:
    """A question without the bytes of images and files, which would cost more than they tell as text."""
    if isinstance(value, Mapping):
        block = cast("Mapping[str, Any]", value)
        if (
            block.get("type") in _MEDIA
            and cast("Mapping[str, Any]", block.get("source") or {}).get("type") not in _TEXTUAL
        ):
            return {"type": block["type"], "left out": True}
        return {key: _shown(one) for key, one in block.items() if key != "cache_control"}
    if isinstance(value, (list, tuple)):
        return [_shown(one) for one in cast("list[Any]", value)]
    return value


def judge_prompt(policy: Policy, index: int, request: Request) -> Prompt:
    """The prompt of the rung at `index` as a judge: asked plainly, whatever its place."""
    # The top rung of a ladder is asked plainly. This ladder decides nothing, so it need not be a valid one.
    plain = policy.model_copy(update={"ladder": (*policy.ladder, policy.ladder[index])})
    return build_prompt(plain, plain.top, request)


def read_judgement(reply: Reply, repair: Repair | None) -> Verdict:
    """The verdict on a judge's reply, for the ledger; `judgement_of` reads what it says."""
    return read_reply(reply, triage=False, structured=True, repair=repair)


def judgement_of(verdict: Verdict) -> Judgement | None:
    """What the judge said; None if it is not usable: prose, another word, truncated or refused."""
    data: object = verdict.data
    said = cast("dict[str, object]", data) if isinstance(data, dict) else {}
    relation, reason = said.get("relation"), said.get("reason")
    if relation not in get_args(Relation) or not isinstance(reason, str):
        return None
    return Judgement(cast("Relation", relation), reason[:_REASON_CHARACTERS])


def grading_of(name: str, judgement: Judgement | None, cost: int) -> Grading:
    """The grading that a judgement is. `name`: the judge's; `cost` in nano-USD."""
    if judgement is None:
        return Grading(name, skipped="judge_unusable", cost=cost)
    return Grading(name, _SCORES[judgement.relation], judgement.relation, judgement.reason, cost=cost)
