"""Validate requests as the Messages API does. Pure: JSON in, an `ApiRequest` or `ApiError` out.

A model's rules come from `core.models`. Of a model that is not in that table nothing is assumed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast, get_args

from cascade.core.models import Effort, Thinking, rules_of
from cascade.core.prompts.triage import KEYS
from cascade.corpora import text_of
from cascade.emulator.caching import check_marks, prompt_tokens
from cascade.emulator.checks import check_fields, join_names, list_of, object_of, refuse, tag_of
from cascade.emulator.conversations import check_calls, check_thinking_blocks
from cascade.emulator.prompts import (
    NAMES,
    answer_to_review,
    answers_to_group,
    asks_for_plan,
    plan_to_execute,
    variant_of,
)
from cascade.emulator.requests import ApiError, ApiRequest
from cascade.emulator.schemas import check_schema
from cascade.emulator.tools import check_tools

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

__all__ = ["check_headers", "read_count", "read_request", "triage_keys"]

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
_NOTHING: Final[dict[str, str]] = {}


def check_headers(headers: Mapping[str, str]) -> None:
    """Raise 401 without credentials and 400 without a version; `headers` have lower-case names."""
    bearer = headers.get("authorization", "").lower().startswith("bearer ")
    if not bearer and not headers.get("x-api-key"):
        raise ApiError(401, "authentication_error", "x-api-key header is required")
    if not headers.get("anthropic-version"):
        refuse("anthropic-version: header is required")


def read_request(
    body: object,
    *,
    beta: bool,
    names: Mapping[str, str] = NAMES,
    signed: Mapping[str, str] = _NOTHING,
    prefix_check: bool = False,
) -> ApiRequest:
    """Check the body of POST /v1/messages as the API does. `beta`: accept the beta fields too.

    `names`: of the triage prompts that are recognised, by their text. `signed`: models by signatures that are not of the
    emulator's own making. `prefix_check`: refuse thinking where what stood before it has changed.
    """
    fields = object_of(body, "body")
    check_fields(fields, _CREATED | _BETA if beta else _CREATED, "")
    model = _check_shared(fields, beta=beta)
    _check_limits(fields, model)
    check_thinking_blocks(fields, model, signed, prefix=prefix_check and not _drops_blocks(fields))
    text = text_of(cast("list[dict[str, Any]]", fields["messages"]))
    form = _schema(fields)
    triage = triage_keys(form)
    if triage:
        shared = {key: form[key] for key in ("$defs",) if key in form}
        form = {"anyOf": [form["properties"]["answer"]], **shared}
    system = fields.get("system")
    return ApiRequest(
        model,
        text,
        fields.get("stream") is True,
        triage,
        prompt_tokens(fields),
        form or None,
        variant_of(system, names) if triage else None,
        answers_to_group(system, text),
        fields,
        answer_to_review(system, text),
        asks_for_plan(system),
        plan_to_execute(system),
    )


def read_count(body: object, *, beta: bool) -> int:
    """Check the body of POST /v1/messages/count_tokens and estimate its tokens, at four characters each."""
    fields = object_of(body, "body")
    check_fields(fields, _COUNTED | _BETA if beta else _COUNTED, "")
    _check_shared(fields, beta=beta)
    return prompt_tokens(fields)


def _check_shared(fields: dict[str, Any], *, beta: bool) -> str:
    model = fields.get("model")
    if not isinstance(model, str) or not model:
        refuse("model: Field required" if model is None else "model: Input should be a valid string")
    _check_messages(fields.get("messages"))
    check_calls(fields["messages"])
    if isinstance(system := fields.get("system"), list):
        for index, block in enumerate(list_of(cast("object", system), "system")):
            _check_block(block, f"system.{index}", {"text"})
    elif system is not None and not isinstance(system, str):
        refuse("system: Input should be a valid string or a list of text blocks")
    if (marks := _count_marks(fields)) > _MAX_CACHE_MARKS:
        refuse(f"A maximum of {_MAX_CACHE_MARKS} blocks with cache_control may be provided. Found {marks}.")
    has_format = _check_output_config(fields.get("output_config"), model)
    _check_prefill(fields["messages"], model, has_format=has_format)
    _check_thinking(fields, model, beta=beta)
    check_tools(fields, model)
    check_marks(fields)
    return model


def _check_limits(fields: dict[str, Any], model: str) -> None:
    limit = fields.get("max_tokens")
    if limit is None:
        refuse("max_tokens: Field required")
    if type(limit) is not int or limit < 0:
        refuse("max_tokens: Input should be greater than or equal to 0")
    if limit == 0:
        refuse(f"max_tokens: 0, which only warms the cache of {model}, is not emulated")
    rules = rules_of(model)
    if rules and limit > rules.max_output:
        refuse(
            f"max_tokens: {limit} > {rules.max_output}, which is the maximum allowed number of output tokens for {model}"
        )
    if not isinstance(fields.get("stream", False), bool):
        refuse("stream: Input should be a valid boolean")
    stops = list_of(fields.get("stop_sequences") or [], "stop_sequences")
    if any(not isinstance(stop, str) or not stop.strip() for stop in stops):
        refuse("stop_sequences: each stop sequence must contain non-whitespace")
    check_fields(object_of(fields.get("metadata", {}), "metadata"), {"user_id"}, "metadata.")
    if fields.get("service_tier", "auto") not in ("auto", "standard_only"):
        refuse("service_tier: Input should be 'auto' or 'standard_only'")


def _check_messages(messages: object) -> None:
    if messages is None:
        refuse("messages: Field required")
    turns = list_of(messages, "messages")
    if not turns:
        refuse("messages: at least one message is required")
    for index, raw in enumerate(turns):
        where = f"messages.{index}"
        message = object_of(raw, where)
        check_fields(message, {"role", "content"}, f"{where}.")
        if message.get("role") not in ("user", "assistant", "system"):
            refuse(f"{where}.role: Input should be 'user', 'assistant' or 'system'")
        content = message.get("content")
        if isinstance(content, list):
            for number, block in enumerate(list_of(cast("object", content), where)):
                _check_block(block, f"{where}.content.{number}", _BLOCKS)
        elif not isinstance(content, str):
            refuse(f"{where}.content: {'Field required' if content is None else 'Input should be a valid string'}")
        if not content:
            refuse(f"{where}: all messages must have non-empty content")


def _check_block(raw: object, where: str, kinds: Collection[str]) -> None:
    block = object_of(raw, where)
    if tag_of(block, kinds, where) == "text":
        check_fields(block, {"type", "text", "cache_control", "citations"}, f"{where}.text.")
        if not isinstance(block.get("text"), str):
            refuse(f"{where}.text.text: Field required")
        if not block["text"].strip():
            refuse(f"{where}.text.text: text content blocks must be non-empty")


def _check_prefill(messages: list[dict[str, Any]], model: str, *, has_format: bool) -> None:
    if messages[-1]["role"] != "assistant" or _is_paused(messages[-1]["content"]):
        return
    if has_format:
        refuse("output_config.format: prefilling the assistant message is incompatible with a JSON format")
    rules = rules_of(model)
    if rules and not rules.prefill:
        refuse("This model does not support assistant message prefill. The conversation must end with a user message.")


def _is_paused(content: object) -> bool:
    """Whether the last turn was paused by pause_turn, and is sent back as it was for the model to go on."""
    blocks = cast("list[dict[str, Any]]", content) if isinstance(content, list) else []
    return any(block["type"] == "server_tool_use" for block in blocks)


def _drops_blocks(fields: dict[str, Any]) -> bool:
    """Whether the request asks to drop thinking blocks that do not fit, instead of being refused."""
    thinking: dict[str, Any] = fields.get("thinking") or {}
    return "block_binding" in thinking and thinking["block_binding"].get("prefix_mismatch_behavior") == "drop_block"


def _check_thinking(fields: dict[str, Any], model: str, *, beta: bool) -> None:
    if fields.get("thinking") is None:
        return
    thinking = object_of(fields["thinking"], "thinking")
    kind = tag_of(thinking, get_args(Thinking), "thinking")
    known = _THINKING_KEYS[kind]
    check_fields(thinking, known | {"block_binding"} if beta else known, f"thinking.{kind}.")
    object_of(thinking.get("block_binding", {}), f"thinking.{kind}.block_binding")
    rules = rules_of(model)
    if rules and kind not in rules.thinking:
        refuse(f"thinking.type: {kind!r} is not supported by this model (it takes {join_names(rules.thinking)})")
    if kind == "enabled":
        budget = thinking.get("budget_tokens")
        if type(budget) is not int or budget < _MIN_BUDGET:
            refuse(f"thinking.enabled.budget_tokens: Input should be greater than or equal to {_MIN_BUDGET}")
        max_tokens = fields.get("max_tokens")
        if isinstance(max_tokens, int) and budget >= max_tokens:
            refuse("`max_tokens` must be greater than `thinking.budget_tokens`")


def _check_output_config(raw: object, model: str) -> bool:
    config = object_of({} if raw is None else raw, "output_config")
    check_fields(config, {"effort", "format"}, "output_config.")
    effort = config.get("effort")
    if effort is not None:
        rules = rules_of(model)
        if effort not in get_args(Effort):
            refuse(f"output_config.effort: Input should be {join_names(get_args(Effort))}")
        if rules and not rules.efforts:
            refuse("output_config.effort: this model does not support the effort parameter")
        if rules and effort not in rules.efforts:
            refuse(f"output_config.effort: this model takes {join_names(rules.efforts)}, not {effort!r}")
    if config.get("format") is None:
        return False
    form = object_of(config["format"], "output_config.format")
    check_fields(form, {"type", "schema"}, "output_config.format.")
    if form.get("type") != "json_schema":
        refuse("output_config.format.type: Input should be 'json_schema'")
    check_schema(object_of(form.get("schema"), "output_config.format.schema"))
    return True


def _schema(fields: dict[str, Any]) -> dict[str, Any]:
    config: dict[str, Any] = fields.get("output_config") or {}
    form: dict[str, Any] = config.get("format") or {}
    return form.get("schema") or {}


def triage_keys(schema: Mapping[str, Any]) -> tuple[str, ...]:
    """The keys of the verdict that a format asks for, in the order in which the API writes them; none if it is no verdict."""
    properties: dict[str, Any] = schema.get("properties") or {}
    required: list[Any] = schema.get("required") or []
    if not {"confidence", "answer"} <= properties.keys():
        return ()
    # The API puts required properties first, each part in the schema's order.
    ordered = sorted(properties, key=lambda name: name not in required)
    return tuple(name for name in ordered if name in _VERDICT_KEYS)


def _count_marks(fields: dict[str, Any]) -> int:
    return sum(isinstance(part, dict) and "cache_control" in part for part in _walk(fields))


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
