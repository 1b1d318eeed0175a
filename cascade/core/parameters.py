"""Reads what a caller of the Messages API sends into a request: a JSON body, or the keywords of `messages.create`.

Nothing is dropped. A parameter is read, or sent on as it is, or named in an error:
- RequestError: it is invalid, so no model could take it;
- CannotClimb: the API may take it, but the ladder cannot. A policy may send such a request to its baseline (`bypass`).

The values may come from outside: whatever their types, nothing else is raised.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast, get_args

from cascade.core.errors import RequestError
from cascade.core.messages import Block, Request
from cascade.core.models import Effort, Thinking, rules_of
from cascade.core.shapes import list_at, object_at, shown, text_at, type_at, unicode_at

__all__ = ["CannotClimb", "check_top", "read_parameters", "split_keywords"]

_DIRECT = "call the model itself for such a request, or set bypass: baseline in the policy"
_SAMPLING = (
    "it would change how sure a rung says it is, and Claude models from 5 on refuse it (leave it out; its default, 1, is"
    f" accepted; or {_DIRECT})"
)

_UNCLIMBABLE = {
    "temperature": _SAMPLING,
    "top_p": _SAMPLING,
    "top_k": f"it would change how sure a rung says it is, and Claude models from 5 on refuse it (leave it out, or {_DIRECT})",
    "prefill": f"a prefill cannot be combined with the triage's JSON format (leave it out, or {_DIRECT})",
    "thread": f"the server would hold the conversation of one model, and a climb asks several ({_DIRECT})",
    "fallbacks": "the ladder decides which model answers, at a price that is known (leave it out, or set bypass: baseline)",
    "fallback_credit_token": "the ladder decides which model answers (leave it out, or set bypass: baseline)",
}
"""What no climb can honour, and why."""

_IN_HEADERS = {"user_profile_id": "anthropic-user-profile-id", "workspace_id": "anthropic-workspace-id"}
_OF_A_CLIENT = frozenset({"authorization", "x-api-key", "host", "content-length", "content-type", "connection"})
_OF_THE_SDK = ("extra_body", "extra_headers", "extra_query", "betas", *_IN_HEADERS)
_OWN = "x-cascade-"
_ROLES = ("user", "assistant", "system")
_NEEDED = {"text": "text", "tool_use": "id", "tool_result": "tool_use_id"}
"""The text that these blocks need."""
_CHOICES = ("auto", "any", "tool", "none")


class CannotClimb(RequestError):
    """A request that the API may take but the ladder cannot. The message names every parameter and says why.

    `request`: the same request with its body in `raw`, to be sent to the baseline unchanged.
    """

    def __init__(self, message: str, request: Request) -> None:
        self.request = request
        super().__init__(message)


@dataclass(slots=True)
class _Read:
    """What has been read so far: the fields of the request, and why it cannot climb."""

    values: dict[str, Any] = field(default_factory=dict[str, Any])
    extra: dict[str, Any] = field(default_factory=dict[str, Any])
    top_extra: dict[str, Any] = field(default_factory=dict[str, Any])
    headers: dict[str, str] = field(default_factory=dict[str, str])
    reasons: list[str] = field(default_factory=list[str])


def read_parameters(body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Request:
    """The request of this body, without an id. `headers`, by lower-case name, go with every call.

    `thinking` and `output_config.effort` go to the top rung alone; below it the policy's own hold. `output_config.format`
    becomes the answer's schema. `metadata` may hold more than `user_id`: strings, for budgets, rollouts and the ledger.
    Parameters that are not known here are sent to every rung. `model` and `stream` are the caller's to read. Of our own
    headers, `x-cascade-task`, `-flags` (separated by commas) and `-metadata-NAME` become parts of the request; the caller
    reads `-session` and `-cache`. Raises RequestError for what is invalid, and CannotClimb for what cannot climb.
    """
    read = _Read()
    for name in ("messages", "max_tokens"):
        if name not in body:
            raise RequestError(f"{name}: it is missing (the Messages API requires it)")
    for name, value in body.items():
        reader = _READERS.get(name)
        if reader is not None:
            reader(value, read)
        elif name in _UNCLIMBABLE:
            _refuse(name, value, read)
        elif name not in ("model", "stream"):
            read.extra[name] = value
    for name, value in (headers or {}).items():
        _read_header(name, value, read)
    _check_tools(read)
    if read.reasons:
        raw = {name: value for name, value in body.items() if name not in ("model", "stream")}
        raise CannotClimb("; ".join(read.reasons), Request(**read.values, headers=read.headers, raw=raw))
    return Request(**read.values, extra=read.extra, top_extra=read.top_extra, headers=read.headers)


def split_keywords(keywords: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The body and the headers that these keywords of the SDK's `messages.create` make. Raises RequestError."""
    headers: dict[str, str] = {}
    for name, value in _optional_object("extra_headers", keywords).items():
        if name.lower() in _OF_A_CLIENT:
            raise RequestError(
                f"extra_headers: {name} belongs to the client (pass it there: Anthropic(default_headers=…))"
            )
        headers[name.lower()] = _header_at(f"extra_headers.{name}", value)
    for name, header in _IN_HEADERS.items():
        if name in keywords:
            headers[header] = _header_at(name, keywords[name])
    betas = () if keywords.get("betas") is None else list_at("betas", keywords["betas"], of="strings")
    named = [headers.get("anthropic-beta", ""), *(_header_at("betas", one) for one in betas)]
    if joined := ",".join(filter(None, named)):
        headers["anthropic-beta"] = joined
    if keywords.get("extra_query"):
        raise RequestError(
            "extra_query: a climb has no query of its own (pass it to the client: Anthropic(default_query=…))"
        )
    body = {name: value for name, value in keywords.items() if name not in _OF_THE_SDK}
    return {**body, **_optional_object("extra_body", keywords)}, headers


def _optional_object(name: str, keywords: Mapping[str, Any]) -> Mapping[str, Any]:
    return {} if keywords.get(name) is None else object_at(name, keywords[name])


def _read_header(name: str, value: str, read: _Read) -> None:
    own = name.removeprefix(_OWN)
    if own == name:
        read.headers[name] = value
    elif own == "task":
        read.values["task"] = value
    elif own == "flags":
        read.values["flags"] = frozenset(flag.strip() for flag in value.split(",") if flag.strip())
    elif own.startswith("metadata-"):
        read.values["metadata"] = {**read.values.get("metadata", {}), own.removeprefix("metadata-"): value}
    elif own not in ("session", "cache"):
        raise RequestError(
            f"{shown(name)}: there is no such header (task, flags, session, cache and metadata-NAME may follow {_OWN})"
        )


def check_top(request: Request, model: str) -> None:
    """Raises RequestError if the top rung's model would refuse the caller's thinking or effort: before anything is paid."""
    rules = rules_of(model)
    if rules is None:
        return
    thinking, effort = request.top_extra.get("thinking"), request.top_extra.get("output_config", {}).get("effort")
    if thinking is not None and thinking["type"] not in rules.thinking:
        accepted = " or ".join(sorted(rules.thinking))
        raise RequestError(
            f"thinking.type: {thinking['type']} is refused by {model}, the only rung that the parameter is sent to (use"
            f" {accepted}, or leave it out: the policy sets each rung's own)"
        )
    if effort is not None and effort not in rules.efforts:
        accepted = f"use {', '.join(sorted(rules.efforts))}, or leave it out" if rules.efforts else "leave it out"
        raise RequestError(f"output_config.effort: {effort} is refused by {model}, the top rung ({accepted})")


def _header_at(where: str, value: object) -> str:
    text = text_at(where, value)
    if not text.isascii() or not text.isprintable():
        raise RequestError(f"{where}: a header holds printable ASCII characters only")
    return text


def _refuse(name: str, value: object, read: _Read) -> None:
    """A parameter that cannot climb, unless it says what is the case without it."""
    is_default = value is None or (
        name in ("temperature", "top_p") and isinstance(value, (int, float)) and type(value) is not bool and value == 1
    )
    if not is_default:
        read.reasons.append(f"{name}: {_UNCLIMBABLE[name]}")


def _read_messages(value: object, read: _Read) -> None:
    messages = list_at("messages", value)
    if not messages:
        raise RequestError("messages: the list is empty (give at least one user message)")
    for number, message in enumerate(messages):
        where = f"messages.{number}"
        known = object_at(where, message)
        if known.get("role") not in _ROLES:
            raise RequestError(f"{where}.role: must be user, assistant or system")
        if not known.get("content"):
            raise RequestError(f"{where}.content: it is missing or empty")
        _check_content(known["content"], f"{where}.content", read)
    if messages[-1]["role"] == "assistant" and not _is_paused(messages[-1]["content"]):
        read.reasons.append(
            "messages: the last one is the assistant's; a prefill cannot be combined with the triage's JSON format"
            f" (end with a user message, or {_DIRECT})"
        )
    read.values["messages"] = messages


def _is_paused(content: str | list[Block]) -> bool:
    """Whether a turn of the assistant is to be continued: a server tool was running when it paused."""
    running = ("server_tool_use", "mcp_tool_use")
    return not isinstance(content, str) and any(block["type"] in running for block in content)


def _check_content(content: object, where: str, read: _Read) -> None:
    if isinstance(content, str):
        unicode_at(where, content)
        return
    for number, block in enumerate(list_at(where, content, of="blocks, or a string")):
        inside = f"{where}.{number}"
        kind = type_at(inside, block)
        if kind in _NEEDED:
            unicode_at(f"{inside}.{_NEEDED[kind]}", block.get(_NEEDED[kind]))
        if _wants_citations(block):
            read.reasons.append(
                f"{inside}.citations: they cannot be combined with the triage's JSON format (turn them off, or {_DIRECT})"
            )


def _wants_citations(block: object) -> bool:
    """Whether a block asks for citations, or one inside it: a tool result may hold documents."""
    waiting = [block]
    while waiting:
        one = waiting.pop()
        if isinstance(one, Mapping):
            known = cast("Mapping[str, object]", one)
            citations = known.get("citations")
            if isinstance(citations, Mapping) and cast("Mapping[str, object]", citations).get("enabled"):
                return True
            if "content" in known:
                waiting.append(known["content"])
        elif isinstance(one, (list, tuple)):
            waiting.extend(cast("list[object]", one))
    return False


def _read_system(value: object, read: _Read) -> None:
    if isinstance(value, str):
        read.values["system"] = unicode_at("system", value)
        return
    blocks = list_at("system", value, of="text blocks, or a string")
    for number, block in enumerate(blocks):
        if type_at(f"system.{number}", block) == "text":
            unicode_at(f"system.{number}.text", block.get("text"))
    read.values["system"] = blocks


def _read_max_tokens(value: object, read: _Read) -> None:
    if type(value) is not int or value < 0:
        raise RequestError(f"max_tokens: must be a whole number of tokens above 0, not {shown(value)}")
    if value == 0:
        read.reasons.append(
            "max_tokens: 0 fills the prompt cache of one model without an answer, so there is nothing to climb with"
            f" (give 1 or more, or {_DIRECT})"
        )
        return
    read.values["max_tokens"] = value


def _read_metadata(value: object, read: _Read) -> None:
    metadata = object_at("metadata", value)
    for name, text in metadata.items():
        if text is not None or name != "user_id":
            text_at(f"metadata.{name}", text)
    read.values["metadata"] = {name: text for name, text in metadata.items() if text is not None}


def _read_stop_sequences(value: object, read: _Read) -> None:
    sequences = list_at("stop_sequences", value, of="strings")
    for number, text in enumerate(sequences):
        if not unicode_at(f"stop_sequences.{number}", text).strip():
            raise RequestError(f"stop_sequences.{number}: it is blank (give a text with a visible character)")
    read.values["stop_sequences"] = sequences


def _read_tools(value: object, read: _Read) -> None:
    tools = list_at("tools", value)
    names: set[str] = set()
    for number, tool in enumerate(tools):
        where = f"tools.{number}"
        known = object_at(where, tool)
        is_custom = known.get("type") is None or text_at(f"{where}.type", known["type"]) == "custom"
        if is_custom:
            object_at(f"{where}.input_schema", known.get("input_schema"))
        if not is_custom and "name" not in known:
            continue  # a set of tools, which has no name of its own
        name = unicode_at(f"{where}.name", known.get("name"))
        if name in names:
            raise RequestError(f"{where}.name: {shown(name)} is there twice (give every tool its own name)")
        names.add(name)
    read.values["tools"] = tools


def _read_tool_choice(value: object, read: _Read) -> None:
    choice = object_at("tool_choice", value)
    kind = choice.get("type")
    if kind not in _CHOICES:
        raise RequestError("tool_choice.type: must be auto, any, tool or none")
    if kind == "tool":
        text_at("tool_choice.name", choice.get("name"))
    read.values["tool_choice"] = choice


def _check_tools(read: _Read) -> None:
    """The choice of a tool needs the tools to choose from."""
    choice, tools = read.values.get("tool_choice"), read.values.get("tools", ())
    if choice is None:
        return
    if not tools:
        raise RequestError("tool_choice: there are no tools to choose from (give tools, or leave it out)")
    name = choice.get("name")
    if choice["type"] == "tool" and not any(tool.get("name", name) == name for tool in tools):
        raise RequestError(f"tool_choice.name: no tool is called {shown(name)}")


def _read_thinking(value: object, read: _Read) -> None:
    thinking = object_at("thinking", value)
    kinds = get_args(Thinking)
    if thinking.get("type") not in kinds:
        raise RequestError(f"thinking.type: must be one of {', '.join(kinds)}")
    if thinking["type"] == "enabled" and type(thinking.get("budget_tokens")) is not int:
        raise RequestError("thinking.budget_tokens: must be a whole number of tokens, with the type enabled")
    read.top_extra["thinking"] = thinking


def _read_output_config(value: object, read: _Read) -> None:
    config = object_at("output_config", value)
    for name, part in config.items():
        if part is None:
            continue
        if name == "effort":
            efforts = get_args(Effort)
            if part not in efforts:
                raise RequestError(f"output_config.effort: must be one of {', '.join(efforts)}")
            read.top_extra["output_config"] = {"effort": part}
        elif name == "format":
            _read_format("output_config.format", part, read)
        else:
            read.reasons.append(f"output_config.{name}: it is not known to this version ({_DIRECT})")


def _read_output_format(value: object, read: _Read) -> None:
    if value is not None:
        _read_format("output_format", value, read)


def _read_format(where: str, value: object, read: _Read) -> None:
    given = object_at(where, value)
    if given.get("type") != "json_schema":
        raise RequestError(f"{where}.type: must be json_schema")
    if "schema" in read.values:
        raise RequestError(f"{where}: a format is given twice (use output_config.format)")
    read.values["schema"] = object_at(f"{where}.schema", given.get("schema"))


_READERS = {
    "messages": _read_messages,
    "system": _read_system,
    "max_tokens": _read_max_tokens,
    "metadata": _read_metadata,
    "stop_sequences": _read_stop_sequences,
    "tools": _read_tools,
    "tool_choice": _read_tool_choice,
    "thinking": _read_thinking,
    "output_config": _read_output_config,
    "output_format": _read_output_format,
}
