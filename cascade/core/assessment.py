"""An executor's self-assessment: asked for beside its result, in one JSON object, and taken off before the result is checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from cascade.core.changing import changed
from cascade.core.messages import Request
from cascade.core.prepared import Assessment
from cascade.core.trail import Verdict

__all__ = ["LEVELS", "assessed", "assessed_schema"]

LEVELS = ("high", "medium", "low")
_DEFINITIONS = ("$defs", "definitions")
_LONGEST_REASON = 1_000  # characters that are kept


def assessed_schema(schema: Mapping[str, Any] | None) -> dict[str, Any]:
    """The schema of a reply with its self-assessment. `schema`: of the result; None: text.

    Definitions move to the root, where references start; other references to the schema's own root are led to where it now stands.
    """
    shared: dict[str, Any] = {}
    result: dict[str, Any] = {"type": "string"}
    if schema is not None:
        shared = {key: _moved(schema[key]) for key in _DEFINITIONS if key in schema}
        result = {key: _moved(value) for key, value in schema.items() if key not in {*_DEFINITIONS, "$schema", "$id"}}
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


def _moved(part: Any) -> Any:
    """A part of the result's schema with references that hold in the wrapper."""
    if isinstance(part, list):
        return [_moved(one) for one in cast("list[Any]", part)]
    if not isinstance(part, Mapping):
        return part
    made = {key: _moved(value) for key, value in cast("Mapping[str, Any]", part).items()}
    reference = made.get("$ref")
    if isinstance(reference, str) and (reference == "#" or reference.startswith("#/")):
        inside = not reference.startswith(tuple(f"#/{key}/" for key in _DEFINITIONS))
        made["$ref"] = f"#/properties/result{reference[1:]}" if inside else reference
    return made


def assessed(verdict: Verdict, request: Request) -> Verdict:
    """The verdict on the result alone, with the self-assessment beside it; unchanged where the request asks for none.

    A reply without a usable result is malformed. One without a usable assessment counts as assessed low.
    """
    if not request.assessed or verdict.kind != "answered" or verdict.source == "tool_use":
        return verdict
    structured = request.result_schema is not None
    data: Any = verdict.data
    value = cast("dict[str, Any]", data) if isinstance(data, dict) else {}
    result = value.get("result")
    if "result" not in value or not (structured or isinstance(result, str)):
        return replace(verdict, kind="malformed", text=None, data=None, message=None, detail="result is missing")
    text = json.dumps(result, ensure_ascii=False) if structured else cast("str", result)
    level, reason = value.get("assessment"), value.get("reason")
    said = Assessment("low", "no assessment was given")
    if level in LEVELS and isinstance(reason, str):
        said = Assessment(level, reason[:_LONGEST_REASON])
    return changed(verdict, text=text, data=result if structured else None, message=None, assessment=said)
