"""GET /openapi.json: OpenAPI 3.1 of what the gateway serves. Written by hand: it says what is served, not what the API takes.

Bodies of the Messages API are described only as far as the gateway reads them; the rest is the API's own documentation.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

from cascade.gateway.problems import KINDS, send_json

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

__all__ = ["OpenApiEndpoint", "document"]

_JSON = "application/json"
_TEXT: dict[str, Any] = {"type": "string"}
_TASK: dict[str, Any] = {"type": "string", "pattern": r"^[A-Za-z0-9_.:-]{1,64}$"}
_REQUEST_ID = r"^casc_[0-9a-f]{32}$"


def document() -> dict[str, Any]:
    """The whole document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "cascade gateway",
            "version": _version(),
            "description": "The Messages API, where requests for claude-cascade-* climb a ladder of models.",
        },
        "security": [{"bearer": []}, {"key": []}, {}],
        "paths": {
            "/v1/messages": {"post": _messages()},
            "/v1/messages/count_tokens": {"post": _count_tokens()},
            "/v1/models": {"get": _operation("listModels", "The models that climb, then the endpoint's own.", _object(data=_array()), [400, 401, 529])},
            "/v1/models/{model}": {
                "parameters": [_path("model", {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._:@-]*$", "maxLength": 256})],
                "get": _operation("getModel", "One model.", _object(id={"type": "string"}), [400, 401, 403, 404, 429, 502, 504, 529]),
            },
            "/v1/answers/{request_id}": {
                "parameters": [_path("request_id", {"type": "string", "pattern": _REQUEST_ID})],
                "get": _operation("getAnswer", "The trail and the cost of an answer, for ten minutes.", {"type": "object"}, [400, 401, 404, 529]),
            },
            "/v1/feedback": {"post": _feedback()},
            "/healthz": {"get": _operation("health", "Whether it is alive; with a key also what it depends on.", _object(status={"enum": ["ok", "degraded"]}), [])},
            "/metrics": {"get": _metrics()},
            "/openapi.json": {"get": _operation("openapi", "This document.", {"type": "object"}, [])},
        },
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
            "schemas": {"Error": _error(), "MessagesRequest": _messages_request(), "CountRequest": _count_request()},
        },
    }  # fmt: skip


class OpenApiEndpoint:
    """The ASGI application of GET /openapi.json."""

    def __init__(self) -> None:
        self._body = to_json(document())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI
        """Send the document."""
        await send_json(send, 200, self._body)


def _version() -> str:
    try:
        return version("cascade-ladder")
    except PackageNotFoundError:
        return "0"


def _messages() -> dict[str, Any]:
    statuses = [400, 401, 402, 403, 404, 405, 408, 409, 413, 415, 429, 431, 500, 502, 503, 504, 529]
    about = (
        "A model claude-cascade-POLICY, or one that a route names, climbs. Any other is passed through untouched. With"
        " stream: true the response is a stream of server-sent events."
    )
    found = _operation("createMessage", about, {"type": "object"}, statuses)
    found["responses"]["200"]["content"]["text/event-stream"] = {"schema": _object(event=_TEXT, data=_TEXT)}
    found["responses"]["200"]["headers"] = {
        f"x-cascade-{name}": {"description": text, "schema": {"type": "string"}}
        for name, text in (
            ("request-id", "its id on the ledger"),
            ("policy", "the policy that it climbed by"),
            ("arm", "who answered, where it was not the ladder: cache, bypass, holdout or observe"),
            ("rung", "the rung that answered; not on streams"),
            ("model", "the model that answered; not on streams"),
            ("response-cost", "what it cost, in USD; not on streams"),
            ("confidence", "of the answer, 0 to 1; not on streams"),
            ("escalations", "how many rungs it climbed; not on streams"),
            ("cache-status", "hit or miss of the response cache, where it is used"),
            ("prompt-cache-status", "hit or miss of the prompt cache; not on streams"),
        )
    }
    found["parameters"] = [
        _header("x-cascade-task", "The request's task; otherwise by the policy's signals.", _TASK),
        _header("x-cascade-flags", "Flags for the policy's signals, separated by commas."),
        _header(
            "x-cascade-session", "The conversation: that a tool loop belongs to, and in which runs decided something."
        ),
        _header("x-cascade-cache", "on or off: whether the response cache may be used; otherwise as the policy says."),
        _header("x-cascade-metadata-workflow", "One of x-cascade-metadata-NAME: for the ledger, budgets and rollouts."),
    ]
    found["requestBody"] = _body({"$ref": "#/components/schemas/MessagesRequest"})
    return found


def _count_tokens() -> dict[str, Any]:
    about = "Counts a request's tokens; for a model that climbs, as its first rung's model counts."
    statuses = [400, 401, 403, 404, 405, 408, 409, 413, 415, 429, 500, 502, 504, 529]
    found = _operation("countTokens", about, _object(input_tokens={"type": "integer"}), statuses)
    found["requestBody"] = _body({"$ref": "#/components/schemas/CountRequest"})
    return found


def _feedback() -> dict[str, Any]:
    about = "Says whether an answer was right. `known`: whether the request is among the audited ones (yet)."
    truth = {"type": "boolean"}
    found = _operation(
        "giveFeedback", about, _object(recorded=truth, known=truth), [400, 401, 408, 409, 413, 415, 503, 529]
    )
    found["requestBody"] = _body(
        {
            "type": "object",
            "required": ["request_id", "right"],
            "additionalProperties": False,
            "properties": {
                "request_id": {"type": "string", "pattern": _REQUEST_ID},
                "right": {"anyOf": [{"type": "boolean"}, {"type": "number", "minimum": 0, "maximum": 1}]},
                "note": {"type": ["string", "null"], "maxLength": 4000},
            },
        }
    )
    return found


def _metrics() -> dict[str, Any]:
    found = _operation("metrics", "Prometheus's text format.", {"type": "string"}, [401, 404])
    found["responses"]["200"]["content"] = {"text/plain": {"schema": {"type": "string"}}}
    return found


def _messages_request() -> dict[str, Any]:
    counted = _count_request()
    more: dict[str, Any] = {"max_tokens": {"type": "integer", "minimum": 1}, "stream": {"type": "boolean"}}
    return {
        **counted,
        "required": ["model", "max_tokens", "messages"],
        "properties": {**counted["properties"], **more},
    }


def _count_request() -> dict[str, Any]:
    block: dict[str, Any] = {"type": "object", "required": ["type"], "properties": {"type": {"type": "string"}}}
    content: dict[str, Any] = {"anyOf": [{"type": "string", "minLength": 1}, _array(block)]}
    message: dict[str, Any] = {
        "type": "object",
        "required": ["role", "content"],
        "properties": {"role": {"enum": ["user", "assistant"]}, "content": content},
    }
    return {
        "type": "object",
        "required": ["model", "messages"],
        "properties": {
            "model": {"type": "string", "minLength": 1},
            "messages": {**_array(message), "minItems": 1},
            "system": {"anyOf": [{"type": "string"}, _array(block)]},
            "tools": _array({"type": "object"}),
        },
    }


def _error() -> dict[str, Any]:
    kinds = sorted(set(KINDS.values()))
    error = _object(type={"type": "string", "examples": kinds}, message={"type": "string"})
    return _object(type={"const": "error"}, error=error)


def _operation(name: str, about: str, schema: dict[str, Any], errors: list[int]) -> dict[str, Any]:
    wrong = {
        "description": "An error, in the API's shape.",
        "content": {_JSON: {"schema": {"$ref": "#/components/schemas/Error"}}},
    }
    responses: dict[str, Any] = {"200": {"description": "As asked.", "content": {_JSON: {"schema": schema}}}}
    responses |= {str(status): wrong for status in errors}
    return {"operationId": name, "summary": about, "responses": responses}


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": properties}


def _array(items: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"type": "array", "items": items or {"type": "object"}}


def _body(schema: dict[str, Any]) -> dict[str, Any]:
    return {"required": True, "content": {_JSON: {"schema": schema}}}


def _path(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _header(name: str, about: str, schema: Mapping[str, Any] = _TEXT) -> dict[str, Any]:
    return {"name": name, "in": "header", "description": about, "schema": schema}
