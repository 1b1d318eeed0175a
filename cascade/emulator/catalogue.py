"""GET /v1/models: the models of the corpora, with their capabilities in `core.models`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from cascade.core.models import Effort, Thinking, identify, rules_of
from cascade.emulator.requests import ApiError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["describe_model", "list_models"]

_MAX_PAGE = 1000


def list_models(models: Sequence[str], query: Mapping[str, list[str]]) -> dict[str, Any]:
    """A page of models. `query`: `limit`, `after_id`, `before_id` and `lifecycle`, as in the API."""
    try:
        limit = int(query.get("limit", ["20"])[0])
    except ValueError:
        limit = 0
    if not 1 <= limit <= _MAX_PAGE:
        raise ApiError(400, "invalid_request_error", f"limit: Input should be from 1 to {_MAX_PAGE}")
    stages = query.get("lifecycle", []) + query.get("lifecycle[]", [])
    found = list(models) if not stages or "active" in stages else []
    if (after := query.get("after_id", [""])[0]) in found:
        found = found[found.index(after) + 1 :]
    if (before := query.get("before_id", [""])[0]) in found:
        earlier = found[: found.index(before)]
        shown, more = earlier[-limit:], len(earlier) > limit
    else:
        shown, more = found[:limit], len(found) > limit
    ends = {"first_id": shown[0], "last_id": shown[-1]} if shown else {"first_id": None, "last_id": None}
    return {"data": [describe_model(model) for model in shown], "has_more": more, **ends}


def describe_model(name: str) -> dict[str, Any]:
    """One model; unknown properties are null."""
    model, rules = identify(name), rules_of(name)
    return {
        "type": "model",
        "id": name,
        "display_name": name,
        "created_at": "1970-01-01T00:00:00Z",  # how the API says "unknown"
        "lifecycle": "active",
        "deprecated_at": None,
        "retires_at": None,
        "line": model.family if model else None,
        "max_input_tokens": None,
        "max_tokens": rules.max_output if rules else None,
        "capabilities": _capabilities(name),
    }


def _capabilities(name: str) -> dict[str, Any] | None:
    rules = rules_of(name)
    if rules is None:
        return None
    efforts = {level: _support(level in rules.efforts) for level in get_args(Effort)}
    thinking = {kind: _support(kind in rules.thinking) for kind in get_args(Thinking)}
    return {
        "batch": _support(True),
        "citations": _support(True),
        "code_execution": _support(False),
        "context_management": _support(False),
        "effort": {"supported": bool(rules.efforts), **efforts},
        "image_input": _support(True),
        "pdf_input": _support(True),
        "server_tools": {**_support(False), "code_execution": _support(False), "web_search": _support(False)},
        "structured_outputs": _support(True),
        "thinking": {"supported": bool(rules.thinking - {"disabled"}), "types": thinking},
    }


def _support(supported: bool) -> dict[str, bool]:
    return {"supported": supported}
