"""An executor's self-assessment: asked for beside its result, in one JSON object, and taken off before the result is checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from cascade.core.changing import changed
from cascade.core.prepared import Assessment
from cascade.core.trail import Verdict

__all__ = ["LEVELS", "assessed", "assessed_schema"]

LEVELS = ("high", "medium", "low")
_LONGEST_REASON = 1_000  # characters that are kept


def assessed_schema(schema: Mapping[str, Any] | None) -> dict[str, Any]:
    """The schema of a reply with its self-assessment. `schema`: of the result; None: text.

    Definitions move to the root, where references start.
    """
    shared: dict[str, Any] = {}
    result: dict[str, Any] = {"type": "string"}
    if schema is not None:
        shared = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
        result = {key: value for key, value in schema.items() if key not in shared}
    return {
        "type": "object",
        "properties": {
            "result": result,
            "assessment": {"type": "string", "enum": list(LEVELS)},
            "reason": {"type": "string"},
        },
        "required": ["result", "assessment", "reason"],
        "additionalProperties": False,
        **shared,
    }


def assessed(verdict: Verdict, *, structured: bool) -> Verdict:
    """The verdict on the result alone, with the self-assessment beside it. `structured`: the result has a schema; else it is text.

    A reply without a usable result is malformed. One without a usable assessment counts as assessed low.
    """
    if verdict.kind != "answered" or verdict.source == "tool_use":
        return verdict
    data: Any = verdict.data
    value: Mapping[str, Any] = data if isinstance(data, dict) else {}
    result = value.get("result")
    if "result" not in value or not (structured or isinstance(result, str)):
        return replace(verdict, kind="malformed", text=None, data=None, message=None, detail="result is missing")
    text = json.dumps(result, ensure_ascii=False) if structured else cast("str", result)
    level, reason = value.get("assessment"), value.get("reason")
    said = Assessment("low", "no assessment was given")
    if level in LEVELS and isinstance(reason, str):
        said = Assessment(level, reason[:_LONGEST_REASON])
    return changed(verdict, text=text, data=result if structured else None, message=None, assessment=said)
