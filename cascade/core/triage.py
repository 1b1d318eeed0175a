"""Triage: what a rung is asked. `core.verdicts` reads what it replies.

A rung below the top is asked for an envelope, `{"confidence": 0..1, "answer": … | null}`; the top rung answers plainly.
The caller's system prompt stays first and byte-identical, which keeps its prompt cache. The triage rules follow in a
block of their own. They never contain the threshold, since tuning it must not change the replies it was tuned on.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from cascade.core.errors import RequestError
from cascade.core.messages import Block, Request
from cascade.core.models import ModelRules, rules_of
from cascade.core.policy import Budget, Policy, Rung, Variant
from cascade.core.policy.ladder import asked_as
from cascade.core.prompts import version_of
from cascade.core.prompts.form import FORM, FORM_IN_ENVELOPE
from cascade.core.prompts.triage import KEYS, RULES
from cascade.core.text.parsing import is_unicode
from cascade.core.tools import history_for, is_pause, lacks_thinking, lines_for, tools_for

__all__ = [
    "Prompt",
    "build_prompt",
    "check_request",
    "room_for",
    "rules_for",
    "triage_name",
    "triage_tokens",
    "triage_version",
    "wants_triage",
]

_ENVELOPE_ALLOWANCE = 64  # tokens, well above what the envelope takes
_ENVELOPE_TOKENS = 14  # {"confidence": 0.95, "answer": "…"}
_NOTES_TOKENS = {"steps": 512, "doubt": 256}  # room for what a prompt asks to be written before the answer
_CHARACTERS_PER_TOKEN = 4
_ESCAPING_SHARE = 8  # JSON escapes lengthen a text; an eighth covers many line breaks and quotes
_OTHERS = ModelRules(
    frozenset(), thinks_by_default=True, efforts=frozenset()
)  # room for those that reason costs the others nothing
_THINKING_TOKENS = {"low": 2_048, "medium": 4_096, "high": 8_192, "xhigh": 16_384, "max": 32_768}


@dataclass(frozen=True, slots=True)
class Prompt:
    """What one rung is asked. `schema` None: plain text. `max_tokens` includes all allowances.

    `user_id` goes to the API as `metadata.user_id`. `extra`: further parameters, as the caller gave them. `headers` go with
    the call. `raw`: the whole request as the caller gave it; only its model is the rung's. `structured`: the answer has a
    schema of the caller's.
    """

    rung: Rung
    messages: tuple[Block, ...]
    system: str | tuple[Block, ...] | None
    schema: Mapping[str, Any] | None
    max_tokens: int
    user_id: str | None = None
    tools: tuple[Block, ...] = ()
    tool_choice: Block | None = None
    stop_sequences: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    raw: Mapping[str, Any] | None = None
    structured: bool = False


def wants_triage(policy: Policy, index: int) -> bool:
    """Whether the rung at `index` is asked for its confidence: all but the top are."""
    return index != policy.top


def triage_name(policy: Policy) -> str:
    """The name of the policy's own triage prompt, as a variant: its order, or "prompt" for a text of its own."""
    return "prompt" if policy.triage.prompt is not None else policy.triage.order


def rules_for(policy: Policy, variant: Variant | None = None) -> tuple[str, str]:
    """The rules that a rung below the top is given, and the order of the reply's keys. `variant` None: the policy's own."""
    if variant is None or variant.prompt is None:
        return policy.triage.prompt or RULES[policy.triage.order], policy.triage.order
    if variant.order is not None:
        return RULES[variant.order], variant.order
    return variant.prompt, policy.triage.order


def triage_version(policy: Policy, variant: Variant | None = None) -> str:
    """Names the rules and the form of the reply that a rung below the top is asked in. `variant` None: the policy's own."""
    rules, order = rules_for(policy, variant)
    return version_of(rules, _text_envelope(order))


def triage_tokens(policy: Policy) -> tuple[int, int]:
    """Estimates the tokens that triage adds to the prompt and to the reply (characters / 4)."""
    rules, _ = rules_for(policy)
    return -(-len(rules) // _CHARACTERS_PER_TOKEN), _ENVELOPE_TOKENS


def check_request(request: Request, ladder: Iterable[Rung] = ()) -> None:
    """Raises RequestError if a rung of the ladder cannot take the request: before anything is paid, nothing dropped."""
    if request.messages[-1]["role"] == "assistant" and not is_pause(request.messages[-1]):
        raise RequestError(
            "prompt: the last message is the assistant's; a prefill cannot be combined with the triage's JSON format"
            " (end with a user message)"
        )
    for number, message in enumerate(request.messages):
        content = message["content"]
        for block in () if isinstance(content, str) else _blocks_in(content):
            citations: Any = block.get("citations")
            if isinstance(citations, Mapping) and citations.get("enabled"):  # pyright: ignore[reportUnknownMemberType]
                raise RequestError(
                    f"prompt: message {number} asks for citations, which cannot be combined with the triage's JSON"
                    " format (turn them off, or ask the model directly)"
                )
    if not all(map(is_unicode, request.texts())):
        raise RequestError("prompt: it contains an unpaired surrogate (decode the text as UTF-8)")
    if request.max_tokens is not None and request.max_tokens < 1:
        raise RequestError(f"max_tokens: {request.max_tokens} is not a positive number")
    for rung in ladder:
        most = _max_output(rung)
        if request.max_tokens is not None and most is not None and request.max_tokens > most:
            raise RequestError(
                f"max_tokens: {request.max_tokens} is above the maximum of rung {rung.rung}: {rung.model} answers"
                f" with at most {most} tokens (give {most} or less)"
            )


def _blocks_in(content: Any) -> Iterator[Mapping[str, Any]]:
    """The blocks of a message, and those nested in them (a tool result may hold documents)."""
    for block in content if isinstance(content, (list, tuple)) else ():  # pyright: ignore[reportUnknownVariableType]
        if isinstance(block, Mapping):
            yield block
            yield from _blocks_in(block.get("content"))  # pyright: ignore[reportUnknownMemberType]


def build_prompt(
    policy: Policy,
    index: int,
    request: Request,
    variant: Variant | None = None,
    kept: frozenset[str] = frozenset(),
    *,
    triage: bool | None = None,
) -> Prompt:
    """What the rung at `index` is asked; as `variant`, if the rung is asked more than once.

    `kept`: ids of the tool calls that this rung made, beside which its thinking stays. `triage`: whether it is asked for its
    confidence; None: as its place on the ladder has it.
    """
    rung = policy.ladder[index] if variant is None else asked_as(policy.ladder[index], variant)
    answer_tokens = request.max_tokens or rung.max_tokens
    user_id, triage = request.metadata.get("user_id"), wants_triage(policy, index) if triage is None else triage
    if request.raw is not None:
        limit: Any = request.raw.get("max_tokens")
        max_tokens = limit if isinstance(limit, int) else rung.max_tokens
        return Prompt(
            rung, request.messages, request.system, None, max_tokens, user_id, headers=request.headers, raw=request.raw
        )
    messages = request.messages if policy.top == 0 else history_for(request.messages, kept)
    if isinstance(rung.thinking, Budget) and lacks_thinking(messages):
        rung = rung.model_copy(update={"thinking": "disabled"})
    tools, choice = tools_for(request, rung, triage=triage)
    lines = (*lines_for(request, rung, triage=triage), *request.handoff)
    shared: dict[str, Any] = {
        "rung": rung, "messages": messages, "user_id": user_id, "tools": tools,
        "tool_choice": choice, "extra": request.extra, "headers": request.headers, "structured": request.schema is not None,
    }  # fmt: skip
    if not triage:
        own = request.top_extra.get("thinking")
        max_tokens = answer_tokens if own is not None else answer_tokens + _thinking_allowance(rung)
        system = request.system
        if request.prompt_schema is not None:
            system = (*_blocks(system), _form(request.prompt_schema))
        if lines:
            system = (*_blocks(system), *lines)
        shared["extra"] = {**request.extra, **request.top_extra}
        return Prompt(
            system=system,
            schema=request.schema,
            max_tokens=_bounded(rung, max_tokens),
            stop_sequences=request.stop_sequences,
            **shared,
        )
    form = () if request.prompt_schema is None else (_form(request.prompt_schema, more=FORM_IN_ENVELOPE),)
    rules, order = rules_for(policy, variant)
    allowance = _ENVELOPE_ALLOWANCE + answer_tokens // _ESCAPING_SHARE + _thinking_allowance(rung)
    allowance += _NOTES_TOKENS.get(order, 0)
    return Prompt(
        system=(*_blocks(request.system), *form, {"type": "text", "text": rules}, *lines),
        schema=_envelope(request.schema, order) if request.schema is not None else _text_envelope(order),
        max_tokens=_bounded(rung, answer_tokens + allowance),
        **shared,
    )


def _blocks(system: str | tuple[Block, ...] | None) -> tuple[Block, ...]:
    if isinstance(system, str):
        return ({"type": "text", "text": system},) if system else ()
    return system or ()


def _form(schema: Mapping[str, Any], more: str = "") -> Block:
    """The block that asks for JSON under a schema that the API cannot enforce."""
    return {"type": "text", "text": f"{FORM}{more}\n\n{json.dumps(schema, ensure_ascii=False)}"}


def _max_output(rung: Rung) -> int | None:
    rules = rules_of(rung.model) if rung.provider == "anthropic" else None
    return rules.max_output if rules else None


def _bounded(rung: Rung, max_tokens: int) -> int:
    """max_tokens with its allowances, capped at the model's maximum."""
    most = _max_output(rung)
    return max_tokens if most is None else min(max_tokens, most)


def room_for(rung: Rung, tokens: int) -> int:
    """max_tokens with which a rung has this many for its reply, after it has thought."""
    return _bounded(rung, tokens + _thinking_allowance(rung))


def _thinking_allowance(rung: Rung) -> int:
    """Tokens added for thinking, which counts toward max_tokens: without them the JSON would be truncated."""
    if isinstance(rung.thinking, Budget):
        return rung.thinking.budget_tokens
    rules = rules_of(rung.model) if rung.provider == "anthropic" else _OTHERS
    thinks = rung.thinking != "disabled" if rung.thinking else rules is not None and rules.thinks_by_default
    if not thinks:
        return 0
    return _THINKING_TOKENS[rung.effort or (rules.default_effort if rules else None) or "medium"]


@cache
def _text_envelope(order: str) -> Mapping[str, Any]:
    """The schema of a triage reply whose answer is text: the same for every request."""
    return _envelope(None, order)


def _envelope(schema: Mapping[str, Any] | None, order: str) -> dict[str, Any]:
    """The schema of the triage reply. The API emits required properties in the schema's order, so it sets the order."""
    shared: dict[str, Any] = {}
    answer: dict[str, Any] = {"type": "string"}
    if schema is not None:
        # References start at the root ("#/$defs/…"), so the definitions move there.
        shared = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
        answer = {key: value for key, value in schema.items() if key not in shared}
    properties: dict[str, Any] = {
        "confidence": {"type": "number"},
        "answer": {"anyOf": [answer, {"type": "null"}]},
        "reasoning": {"type": "string"},
        "alternative": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "doubt": {"type": "string"},
    }
    names = list(KEYS[order])
    return {
        "type": "object",
        "properties": {name: properties[name] for name in names},
        "required": names,
        "additionalProperties": False,
        **shared,
    }
