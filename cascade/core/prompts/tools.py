"""What a rung is told of the caller's tools, and the tool by which a rung below the top hands a request on."""

from __future__ import annotations

from typing import Any

from cascade.core.prompts import version_of

__all__ = ["ESCALATE", "ESCALATE_TOOL", "FORCED_ANY", "FORCED_ONE", "RULE", "VERSION"]

ESCALATE = "cascade_escalate"
ESCALATE_TOOL: dict[str, Any] = {
    "name": ESCALATE,
    "description": "Hands this request to a stronger model, which takes over at once. Call it, and nothing else, when you are"
    " not sure which tool to call or with what input, when the tools keep failing, or when you cannot answer well. It is"
    " always acceptable. A confident mistake is the worst outcome.",
    "input_schema": {
        "type": "object",
        "properties": {"reason": {"type": "string", "description": "Why, in a few words."}},
        "required": ["reason"],
        "additionalProperties": False,
    },
}

RULE = f"""You may call the tools you are given. When the next step is a call, make the call and leave the JSON object out;
when you have the final answer, reply with the JSON object. If you are not sure of the next step, call {ESCALATE}."""

FORCED_ANY = "The caller requires that this turn calls one of the tools: reply with a call, not with text."
FORCED_ONE = "The caller requires that this turn calls the tool {}: reply with that call, not with text."

VERSION = version_of(RULE, ESCALATE_TOOL, FORCED_ANY, FORCED_ONE)
