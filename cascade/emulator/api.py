"""Validate requests as the Messages API does. Pure: JSON in, an `ApiRequest` or `ApiError` out.

A model's rules come from `core.models`. Of a model that is not in that table nothing is assumed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NoReturn, cast, get_args

from cascade.core.messages import Request
from cascade.core.models import Effort, Thinking, rules_of
from cascade.core.triage import KEYS
from cascade.corpora import text_of
from cascade.emulator.messages import encode
from cascade.emulator.prompts import NAMES, answers_to_group, variant_of
from cascade.emulator.requests import ApiError, ApiRequest
from cascade.emulator.schemas import check_schema

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

__all__ = ["check_headers", "read_count", "read_request"]

_COUNTED = frozenset(
    {"messages", "model", "cache_control", "output_config", "speed", "system", "thinking", "tool_choice", "tools"}
)
_CREATED = _COUNTED | {
    "max_tokens",
    "container",
    "diagnostics",
    "inference_geo",
    "metadata",
    "service_tier",
    "stop_sequences",
    "stream",
}
_BETA = frozenset(
    {
        "billing_policy",
        "compaction",
        "context_management",
        "fallback_credit_token",
        "fallbacks",
        "mcp_servers",
        "thread",
    }
)
_THINKING_KEYS: Final = {
    "adaptive": {"type", "display"},
    "between_tools": {"type"},
    "disabled": {"type"},
    "enabled": {"type", "display", "budget_tokens"},
}
_BLOCKS = frozenset(
    {
        "text",
        "image",
        "document",
        "search_result",
        "thinking",
        "redacted_thinking",
        "tool_use",
        "tool_result",
        "server_tool_use",
        "web_search_tool_result",
        "web_fetch_tool_result",
        "code_execution_tool_result",
        "bash_code_execution_tool_result",
        "text_editor_code_execution_tool_result",
        "tool_search_tool_result",
        "container_upload",
        "compaction",
        "mcp_tool_use",
        "mcp_tool_result",
    }
)
_VERDICT_KEYS = frozenset(key for keys in KEYS.values() for key in keys)
_MAX_CACHE_MARKS = 4
_MIN_BUDGET = 1024


def check_headers(headers: Mapping[str, str]) -> None:
    """Raise 401 without credentials and 400 without a version; `headers` have lower-case names."""
    bearer = headers.get("authorization", "").lower().startswith("bearer ")
    if not bearer and not headers.get("x-api-key"):
        raise ApiError(401, "authentication_error", "x-api-key header is required")
    if not headers.get("anthropic-version"):
        _refuse("anthropic-version: header is required")


def read_request(body: object, *, beta: bool, names: Mapping[str, str] = NAMES) -> ApiRequest:
    """Check the body of POST /v1/messages as the API does. `beta`: accept the beta fields too.

    `names`: of the triage prompts that are recognised, by their text.
    """
    fields = _object(body, "body")
    _check_fields(fields, _CREATED | _BETA if beta else _CREATED, "")
    model = _check_shared(fields)
    _check_limits(fields, model)
    text = text_of(cast("list[dict[str, Any]]", fields["messages"]))
    form, triage = _schema(fields), _triage_keys(fields)
    if triage:
        shared = {key: form[key] for key in ("$defs",) if key in form}
        form = {"anyOf": [form["properties"]["answer"]], **shared}
    system = fields.get("system")
    return ApiRequest(
        model,
        text,
        fields.get("stream") is True,
        triage,
        _estimate(fields),
        form or None,
        variant_of(system, names) if triage else None,
        answers_to_group(system, text),
        fields,
    )


def read_count(body: object, *, beta: bool) -> int:
    """Check the body of POST /v1/messages/count_tokens and estimate its tokens, at four characters each."""
    fields = _object(body, "body")
    _check_fields(fields, _COUNTED | _BETA if beta else _COUNTED, "")
    _check_shared(fields)
    return _estimate(fields)


def _check_shared(fields: dict[str, Any]) -> str:
    model = fields.get("model")
    if not isinstance(model, str) or not model:
        _refuse("model: Field required" if model is None else "model: Input should be a valid string")
    _check_messages(fields.get("messages"))
    if isinstance(system := fields.get("system"), list):
        for index, block in enumerate(_list(cast("object", system), "system")):
            _check_block(block, f"system.{index}", {"text"})
    elif system is not None and not isinstance(system, str):
        _refuse("system: Input should be a valid string or a list of text blocks")
    if (marks := _count_marks(fields)) > _MAX_CACHE_MARKS:
        _refuse(f"A maximum of {_MAX_CACHE_MARKS} blocks with cache_control may be provided. Found {marks}.")
    has_format = _check_output_config(fields.get("output_config"), model)
    _check_prefill(fields["messages"], model, has_format=has_format)
    _check_thinking(fields.get("thinking"), model, fields.get("max_tokens"))
    _check_tools(fields, model)
    return model


def _check_limits(fields: dict[str, Any], model: str) -> None:
    limit = fields.get("max_tokens")
    if limit is None:
        _refuse("max_tokens: Field required")
    if type(limit) is not int or limit < 0:
        _refuse("max_tokens: Input should be greater than or equal to 0")
    if limit == 0:
        _refuse(f"max_tokens: 0, which only warms the cache of {model}, is not emulated")
    rules = rules_of(model)
    if rules and limit > rules.max_output:
        _refuse(
            f"max_tokens: {limit} > {rules.max_output}, which is the maximum allowed number of output tokens for {model}"
        )
    if not isinstance(fields.get("stream", False), bool):
        _refuse("stream: Input should be a valid boolean")
    stops = _list(fields.get("stop_sequences") or [], "stop_sequences")
    if any(not isinstance(stop, str) or not stop.strip() for stop in stops):
        _refuse("stop_sequences: each stop sequence must contain non-whitespace")
    _check_fields(_object(fields.get("metadata", {}), "metadata"), {"user_id"}, "metadata.")
    if fields.get("service_tier", "auto") not in ("auto", "standard_only"):
        _refuse("service_tier: Input should be 'auto' or 'standard_only'")


def _check_messages(messages: object) -> None:
    if messages is None:
        _refuse("messages: Field required")
    turns = _list(messages, "messages")
    if not turns:
        _refuse("messages: at least one message is required")
    for index, raw in enumerate(turns):
        where = f"messages.{index}"
        message = _object(raw, where)
        _check_fields(message, {"role", "content"}, f"{where}.")
        if message.get("role") not in ("user", "assistant", "system"):
            _refuse(f"{where}.role: Input should be 'user', 'assistant' or 'system'")
        content = message.get("content")
        if isinstance(content, list):
            for number, block in enumerate(_list(cast("object", content), where)):
                _check_block(block, f"{where}.content.{number}", _BLOCKS)
        elif not isinstance(content, str):
            _refuse(f"{where}.content: {'Field required' if content is None else 'Input should be a valid string'}")
        if not content:
            _refuse(f"{where}: all messages must have non-empty content")


def _check_block(raw: object, where: str, kinds: Collection[str]) -> None:
    block = _object(raw, where)
    if _tag(block, kinds, where) == "text":
        _check_fields(block, {"type", "text", "cache_control", "citations"}, f"{where}.text.")
        if not isinstance(block.get("text"), str):
            _refuse(f"{where}.text.text: Field required")
        if not block["text"].strip():
            _refuse(f"{where}.text.text: text content blocks must be non-empty")


def _check_prefill(messages: list[dict[str, Any]], model: str, *, has_format: bool) -> None:
    if messages[-1]["role"] != "assistant":
        return
    if has_format:
        _refuse("output_config.format: prefilling the assistant message is incompatible with a JSON format")
    rules = rules_of(model)
    if rules and not rules.prefill:
        _refuse("This model does not support assistant message prefill. The conversation must end with a user message.")


def _check_thinking(raw: object, model: str, max_tokens: object) -> None:
    if raw is None:
        return
    thinking = _object(raw, "thinking")
    kind = _tag(thinking, get_args(Thinking), "thinking")
    _check_fields(thinking, _THINKING_KEYS[kind], f"thinking.{kind}.")
    rules = rules_of(model)
    if rules and kind not in rules.thinking:
        _refuse(f"thinking.type: {kind!r} is not supported by this model (it takes {_join(rules.thinking)})")
    if kind == "enabled":
        budget = thinking.get("budget_tokens")
        if type(budget) is not int or budget < _MIN_BUDGET:
            _refuse(f"thinking.enabled.budget_tokens: Input should be greater than or equal to {_MIN_BUDGET}")
        if isinstance(max_tokens, int) and budget >= max_tokens:
            _refuse("`max_tokens` must be greater than `thinking.budget_tokens`")


def _check_output_config(raw: object, model: str) -> bool:
    config = _object({} if raw is None else raw, "output_config")
    _check_fields(config, {"effort", "format"}, "output_config.")
    effort = config.get("effort")
    if effort is not None:
        rules = rules_of(model)
        if effort not in get_args(Effort):
            _refuse(f"output_config.effort: Input should be {_join(get_args(Effort))}")
        if rules and not rules.efforts:
            _refuse("output_config.effort: this model does not support the effort parameter")
        if rules and effort not in rules.efforts:
            _refuse(f"output_config.effort: this model takes {_join(rules.efforts)}, not {effort!r}")
    if config.get("format") is None:
        return False
    form = _object(config["format"], "output_config.format")
    _check_fields(form, {"type", "schema"}, "output_config.format.")
    if form.get("type") != "json_schema":
        _refuse("output_config.format.type: Input should be 'json_schema'")
    check_schema(_object(form.get("schema"), "output_config.format.schema"))
    return True


def _check_tools(fields: dict[str, Any], model: str) -> None:
    tools = _list(fields.get("tools") or [], "tools")
    names = [str(_object(tool, f"tools.{index}").get("name")) for index, tool in enumerate(tools)]
    if len(set(names)) != len(names):
        _refuse("tools: Tool names must be unique.")
    if fields.get("tool_choice") is None:
        return
    choice = _object(fields["tool_choice"], "tool_choice")
    kind = _tag(choice, ("auto", "any", "tool", "none"), "tool_choice")
    allowed = {"type", "disable_parallel_tool_use", "name"} if kind == "tool" else {"type", "disable_parallel_tool_use"}
    _check_fields(choice, allowed, f"tool_choice.{kind}.")
    if not tools:
        _refuse("tool_choice: may only be specified while providing tools")
    rules = rules_of(model)
    if kind in ("any", "tool") and rules and not rules.forced_tool_choice:
        _refuse(f"tool_choice.type: {kind!r} forces tool use, which this model does not support (use 'auto')")
    if kind == "tool" and choice.get("name") not in names:
        _refuse(f"tool_choice: Tool {_brief(choice.get('name'))} not found in provided tools")


def _schema(fields: dict[str, Any]) -> dict[str, Any]:
    config: dict[str, Any] = fields.get("output_config") or {}
    form: dict[str, Any] = config.get("format") or {}
    return form.get("schema") or {}


def _triage_keys(fields: dict[str, Any]) -> tuple[str, ...]:
    schema = _schema(fields)
    properties: dict[str, Any] = schema.get("properties") or {}
    required: list[Any] = schema.get("required") or []
    if not {"confidence", "answer"} <= properties.keys():
        return ()
    # The API puts required properties first, each part in the schema's order.
    ordered = sorted(properties, key=lambda name: name not in required)
    return tuple(name for name in ordered if name in _VERDICT_KEYS)


def _count_marks(fields: dict[str, Any]) -> int:
    return sum(isinstance(part, dict) and "cache_control" in part for part in _walk(fields))


def _estimate(fields: dict[str, Any]) -> int:
    request = Request(tuple(fields["messages"]), system=fields.get("system"))
    tools = fields.get("tools")
    return max(1, (request.characters() + (len(encode(tools)) if tools else 0)) // 4)


def _walk(value: object) -> Iterator[object]:
    # `value` and every value nested in it.
    left = [value]
    while left:
        part = left.pop()
        yield part
        if isinstance(part, dict):
            left.extend(cast("dict[str, object]", part).values())
        elif isinstance(part, list):
            left.extend(cast("list[object]", part))


def _check_fields(value: dict[str, Any], known: Collection[str], where: str) -> None:
    for key in value:
        if key not in known:
            _refuse(f"{where}{key[:80]}: Extra inputs are not permitted")


def _tag(value: dict[str, Any], known: Collection[str], where: str) -> str:
    tag = value.get("type")
    if isinstance(tag, str) and tag in known:
        return tag
    _refuse(f"{where}: Input tag {_brief(tag)} found using 'type' does not match any of the expected tags")
    return None


def _object(value: object, where: str) -> dict[str, Any]:
    if isinstance(value, dict):
        return cast("dict[str, Any]", value)
    _refuse(f"{where}: Input should be an object")
    return None


def _list(value: object, where: str) -> list[object]:
    if isinstance(value, list):
        return cast("list[object]", value)
    _refuse(f"{where}: Input should be a valid list")
    return None


def _brief(value: object) -> str:
    return repr(value)[:80]


def _join(names: Collection[str]) -> str:
    return ", ".join(repr(name) for name in sorted(names))


def _refuse(message: str) -> NoReturn:
    raise ApiError(400, "invalid_request_error", message)
