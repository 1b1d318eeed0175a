"""Reads what a caller of the Messages API sends into a request: keyword arguments of `messages.create`, or a JSON body.

Nothing is dropped. A parameter is read, or sent on as it is, or named in an error:
- RequestError: it is invalid, so no model could take it;
- CannotClimb: the API may take it, but the ladder cannot. A policy may send such a request to its baseline (`bypass`).

The values may come from outside: whatever their types, nothing else is raised.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast, get_args

from cascade.core.errors import RequestError
from cascade.core.messages import Block, Request
from cascade.core.models import Effort, Thinking
from cascade.core.text.parsing import is_unicode

__all__ = ["RESERVED", "CannotClimb", "read_parameters"]

RESERVED = "cascade_escalate"
"""The name of the tool by which a rung below the top declines; no tool of the caller's may have it."""

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
    "extra_query": "a query cannot be sent for one request (pass it to the client: Anthropic(default_query=…))",
}
"""What no climb can honour, and why. The last one is no part of a body."""

_IN_HEADERS = {"user_profile_id": "anthropic-user-profile-id", "workspace_id": "anthropic-workspace-id"}
_OF_A_CLIENT = frozenset({"authorization", "x-api-key", "host", "content-length", "content-type", "connection"})
_IGNORED_IN_BODY = frozenset({"model", "stream", "betas", "extra_body", "extra_headers", "extra_query", "timeout"})
_ROLES = ("user", "assistant", "system")
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


def read_parameters(params: Mapping[str, Any]) -> Request:
    """The request of these parameters, without an id.

    `thinking` and `output_config.effort` go to the top rung alone; below it the policy's own hold. `output_config.format`
    becomes the answer's schema. `metadata` may hold more than `user_id`: strings, for budgets, rollouts and the ledger.
    Parameters that are not known here are sent to every rung. `model` and `stream` are the caller's to read. Raises
    RequestError for what is invalid, and CannotClimb for what cannot climb.
    """
    body = _body_of(params)
    read = _Read()
    _read_headers(params, body, read)
    for name in ("messages", "max_tokens"):
        if name not in body:
            raise RequestError(f"{name}: it is missing (the Messages API requires it)")
    for name, value in body.items():
        reader = _READERS.get(name)
        if reader is not None:
            reader(value, read)
        elif name in _UNCLIMBABLE:
            _refuse(name, value, read)
        elif name not in _IGNORED_IN_BODY:
            read.extra[name] = value
    if params.get("extra_query"):
        read.reasons.append(f"extra_query: {_UNCLIMBABLE['extra_query']}")
    _check_tools(read)
    request = Request(**read.values, extra=read.extra, top_extra=read.top_extra, headers=read.headers)
    if read.reasons:
        raw = {name: value for name, value in body.items() if name not in _IGNORED_IN_BODY}
        bypassed = Request(**{**read.values, "schema": None}, headers=read.headers, raw=raw)
        raise CannotClimb("; ".join(read.reasons), bypassed)
    return request


def _body_of(params: Mapping[str, Any]) -> Mapping[str, Any]:
    """The parameters, with those of `extra_body`, which win as they do in the SDK."""
    for name in params:
        if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise RequestError(f"{_shown(name)}: the name of a parameter must be a string")
    more = params.get("extra_body")
    if more is None:
        return params
    if not isinstance(more, Mapping) or not all(isinstance(name, str) for name in more):  # pyright: ignore
        raise RequestError(f"extra_body: must be an object of parameters, not {_kind(more)}")
    return {**params, **cast("Mapping[str, Any]", more)}


def _read_headers(params: Mapping[str, Any], body: Mapping[str, Any], read: _Read) -> None:
    """The headers that go with every call: `extra_headers`, `betas`, and the parameters that the SDK sends as headers."""
    given = params.get("extra_headers")
    if given is not None and not isinstance(given, Mapping):
        raise RequestError(f"extra_headers: must be an object of strings, not {_kind(given)}")
    for name, value in cast("Mapping[object, object]", given or {}).items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise RequestError(f"extra_headers: {_shown(name)} must be a string with a string")
        if name.lower() in _OF_A_CLIENT:
            raise RequestError(f"extra_headers: {name} belongs to the client (pass it there: Anthropic(default_headers=…))")
        _check_header(f"extra_headers: {name}", value)
        read.headers[name.lower()] = value
    for name, header in _IN_HEADERS.items():
        if name in body:
            value = _text(name, body[name])
            _check_header(name, value)
            read.headers[header] = value
    betas = body.get("betas")
    if betas is not None:
        if not isinstance(betas, (list, tuple)) or not all(isinstance(one, str) for one in betas):  # pyright: ignore
            raise RequestError(f"betas: must be a list of strings, not {_kind(betas)}")
        for one in cast("list[str]", betas):
            _check_header("betas", one)
        before = [read.headers["anthropic-beta"]] if "anthropic-beta" in read.headers else []
        if joined := ",".join([*before, *cast("list[str]", betas)]):
            read.headers["anthropic-beta"] = joined


def _check_header(where: str, value: str) -> None:
    if not value.isascii() or not value.isprintable():
        raise RequestError(f"{where}: a header holds printable ASCII characters only")


def _refuse(name: str, value: object, read: _Read) -> None:
    """A parameter that cannot climb, unless it says what is the case without it."""
    is_default = value is None or (
        name in ("temperature", "top_p") and isinstance(value, (int, float)) and type(value) is not bool and value == 1
    )
    if not is_default:
        read.reasons.append(f"{name}: {_UNCLIMBABLE[name]}")


def _read_messages(value: object, read: _Read) -> None:
    if not isinstance(value, (list, tuple)):
        raise RequestError(f"messages: must be a list, not {_kind(value)}")
    messages = cast("tuple[object, ...]", tuple(value))  # pyright: ignore[reportUnknownArgumentType]
    if not messages:
        raise RequestError("messages: the list is empty (give at least one user message)")
    for number, message in enumerate(messages):
        where = f"messages.{number}"
        if not isinstance(message, Mapping):
            raise RequestError(f"{where}: must be an object with role and content, not {_kind(message)}")
        known = cast("Mapping[str, object]", message)
        if known.get("role") not in _ROLES:
            raise RequestError(f"{where}.role: must be user, assistant or system")
        if "content" not in known:
            raise RequestError(f"{where}.content: it is missing")
        _check_content(known["content"], f"{where}.content", read)
    if cast("Mapping[str, object]", messages[-1])["role"] == "assistant" and not _is_paused(messages[-1]):
        read.reasons.append(
            "messages: the last one is the assistant's; a prefill cannot be combined with the triage's JSON format"
            f" (end with a user message, or {_DIRECT})"
        )
    read.values["messages"] = messages


def _is_paused(message: object) -> bool:
    """Whether this turn of the assistant is to be continued: a server tool was running when it paused."""
    content = cast("Mapping[str, object]", message)["content"]
    return not isinstance(content, str) and any(
        block.get("type") in ("server_tool_use", "mcp_tool_use") for block in cast("list[Block]", content)
    )


def _check_content(content: object, where: str, read: _Read) -> None:
    if isinstance(content, str):
        if not content:
            raise RequestError(f"{where}: it is empty")
        if not is_unicode(content):
            raise RequestError(f"{where}: it contains an unpaired surrogate (decode the text as UTF-8)")
        return
    if not isinstance(content, (list, tuple)):
        raise RequestError(f"{where}: must be a string or a list of blocks, not {_kind(content)}")
    blocks = cast("list[object]", content)
    if not blocks:
        raise RequestError(f"{where}: it is empty")
    for number, block in enumerate(blocks):
        kind = _block_type(block, f"{where}.{number}")
        known = cast("Mapping[str, object]", block)
        if kind == "text":
            text = _text(f"{where}.{number}.text", known.get("text"))
            if not is_unicode(text):
                raise RequestError(f"{where}.{number}.text: it contains an unpaired surrogate (decode the text as UTF-8)")
        elif kind in ("tool_use", "tool_result"):
            name = "id" if kind == "tool_use" else "tool_use_id"
            _text(f"{where}.{number}.{name}", known.get(name))
        if any(_wants_citations(one) for one in _nested(known)):
            reason = (
                f"{where}.{number}.citations: they cannot be combined with the triage's JSON format (turn them off, or"
                f" {_DIRECT})"
            )
            read.reasons.append(reason)


def _nested(block: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
    """A block and those inside it: a tool result may hold documents."""
    waiting: list[object] = [block]
    while waiting:
        one = waiting.pop()
        if isinstance(one, Mapping):
            yield one  # pyright: ignore[reportUnknownVariableType]
            waiting.append(one.get("content"))  # pyright: ignore[reportUnknownMemberType]
        elif isinstance(one, (list, tuple)):
            waiting.extend(one)  # pyright: ignore[reportUnknownArgumentType]


def _wants_citations(block: Mapping[str, object]) -> bool:
    citations = block.get("citations")
    return isinstance(citations, Mapping) and bool(citations.get("enabled"))  # pyright: ignore


def _read_system(value: object, read: _Read) -> None:
    if isinstance(value, str):
        read.values["system"] = value
    elif isinstance(value, (list, tuple)):
        blocks = cast("list[object]", value)
        for number, block in enumerate(blocks):
            if _block_type(block, f"system.{number}") == "text":
                _text(f"system.{number}.text", cast("Mapping[str, object]", block).get("text"))
        read.values["system"] = tuple(blocks)
    else:
        raise RequestError(f"system: must be a string or a list of text blocks, not {_kind(value)}")


def _read_max_tokens(value: object, read: _Read) -> None:
    if type(value) is not int or value < 0:
        raise RequestError(f"max_tokens: must be a whole number of tokens above 0, not {_shown(value)}")
    if value == 0:
        read.reasons.append(
            "max_tokens: 0 fills the prompt cache of one model without an answer, so there is nothing to climb with"
            f" (give 1 or more, or {_DIRECT})"
        )
        return
    read.values["max_tokens"] = value


def _read_metadata(value: object, read: _Read) -> None:
    metadata = _object("metadata", value)
    for name, text in metadata.items():
        if text is not None or name != "user_id":
            _text(f"metadata.{name}", text)
    read.values["metadata"] = {name: text for name, text in metadata.items() if text is not None}


def _read_stop_sequences(value: object, read: _Read) -> None:
    if not isinstance(value, (list, tuple)):
        raise RequestError(f"stop_sequences: must be a list of strings, not {_kind(value)}")
    for number, text in enumerate(cast("list[object]", value)):
        if not _text(f"stop_sequences.{number}", text).strip():
            raise RequestError(f"stop_sequences.{number}: it is blank (give a text with a visible character)")
    read.values["stop_sequences"] = tuple(cast("list[str]", value))


def _read_tools(value: object, read: _Read) -> None:
    if not isinstance(value, (list, tuple)):
        raise RequestError(f"tools: must be a list, not {_kind(value)}")
    names: set[str] = set()
    for number, tool in enumerate(cast("list[object]", value)):
        where = f"tools.{number}"
        known = _object(where, tool)
        kind = known.get("type")
        if kind is not None:
            _text(f"{where}.type", kind)
        is_custom = kind is None or kind == "custom"
        if is_custom:
            _object(f"{where}.input_schema", known.get("input_schema"))
        if not is_custom and "name" not in known:
            continue  # a set of tools, which has no name of its own
        name = _text(f"{where}.name", known.get("name"))
        if name == RESERVED:
            raise RequestError(f"{where}.name: {RESERVED} is the name of the ladder's own tool (rename yours)")
        if name in names:
            raise RequestError(f"{where}.name: {_shown(name)} is there twice (give every tool its own name)")
        names.add(name)
    read.values["tools"] = tuple(cast("list[Block]", value))


def _read_tool_choice(value: object, read: _Read) -> None:
    choice = _object("tool_choice", value)
    kind = choice.get("type")
    if kind not in _CHOICES:
        raise RequestError("tool_choice.type: must be auto, any, tool or none")
    if kind == "tool":
        _text("tool_choice.name", choice.get("name"))
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
        raise RequestError(f"tool_choice.name: no tool is called {_shown(name)}")


def _read_thinking(value: object, read: _Read) -> None:
    thinking = _object("thinking", value)
    kinds = get_args(Thinking)
    if thinking.get("type") not in kinds:
        raise RequestError(f"thinking.type: must be one of {', '.join(kinds)}")
    if thinking["type"] == "enabled" and type(thinking.get("budget_tokens")) is not int:
        raise RequestError("thinking.budget_tokens: must be a whole number of tokens, with the type enabled")
    read.top_extra["thinking"] = thinking


def _read_output_config(value: object, read: _Read) -> None:
    config = _object("output_config", value)
    for name, part in config.items():
        if part is None:
            continue
        if name == "effort":
            efforts = get_args(Effort)
            if part not in efforts:
                raise RequestError(f"output_config.effort: must be one of {', '.join(efforts)}")
            read.top_extra["effort"] = part
        elif name == "format":
            _read_format("output_config.format", part, read)
        else:
            read.reasons.append(f"output_config.{name}: it is not known to this version ({_DIRECT})")


def _read_output_format(value: object, read: _Read) -> None:
    if value is not None:
        _read_format("output_format", value, read)


def _read_format(where: str, value: object, read: _Read) -> None:
    given = _object(where, value)
    if given.get("type") != "json_schema":
        raise RequestError(f"{where}.type: must be json_schema")
    if "schema" in read.values:
        raise RequestError(f"{where}: a format is given twice (use output_config.format)")
    read.values["schema"] = _object(f"{where}.schema", given.get("schema"))


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


def _object(where: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):  # pyright: ignore
        raise RequestError(f"{where}: must be an object, not {_kind(value)}")
    return cast("Mapping[str, Any]", value)


def _text(where: str, value: object) -> str:
    if not isinstance(value, str):
        raise RequestError(f"{where}: must be a string, not {_kind(value)}")
    return value


def _block_type(block: object, where: str) -> str:
    kind = cast("Mapping[str, object]", block).get("type") if isinstance(block, Mapping) else None
    if not isinstance(kind, str):
        raise RequestError(f"{where}: must be a block, an object with a type, not {_kind(block)}")
    return kind


def _kind(value: object) -> str:
    """What a value is, in JSON's words, without showing it: it may be a part of a prompt."""
    if value is None:
        return "null"
    kinds: dict[type, str] = {bool: "a boolean", int: "a number", float: "a number", str: "a string"}
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, (list, tuple)):
        return "a list"
    return kinds.get(type(value), type(value).__name__)


def _shown(value: object) -> str:
    """A name or number, shortened."""
    return repr(value)[:60] if isinstance(value, (str, int, float)) else _kind(value)
