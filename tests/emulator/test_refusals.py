from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from cascade.emulator import Emulator
from cascade.emulator.api import read_count, read_request
from cascade.emulator.requests import ApiError, ApiRequest

from .conftest import CORPUS, HAIKU, SONNET, TRIAGE, asking

_USER = {"role": "user", "content": "plain"}
_TOOL = {"name": "look", "input_schema": {"type": "object"}}

_FAN = {
    "allOf": [{"$ref": "#/$defs/0"}],
    "$defs": {str(n): {"allOf": [{"$ref": f"#/$defs/{n + 1}"}] * 2} for n in range(60)},
}


def schema(**changes: Any) -> dict[str, Any]:
    """An output_config whose schema has these changes."""
    return {"format": {"type": "json_schema", "schema": {**TRIAGE["format"]["schema"], **changes}}}


def marked(count: int) -> list[dict[str, Any]]:
    """Messages with this many cache marks."""
    block = {"type": "text", "text": "plain", "cache_control": {"type": "ephemeral"}}
    return [{"role": "user", "content": [block]}] * count


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"nonsense": 1}, "nonsense: Extra inputs are not permitted"),
    ({"temperature": 0.5}, "temperature: Extra inputs are not permitted"),
    ({"top_p": 0.5}, "top_p: Extra inputs are not permitted"),
    ({"top_k": 5}, "top_k: Extra inputs are not permitted"),
    ({"max_tokens": None}, "max_tokens: Field required"),
    ({"max_tokens": -1}, "max_tokens: "),
    ({"max_tokens": "9"}, "max_tokens: "),
    ({"max_tokens": 128_001}, "max_tokens: 128001 > 128000, which is the maximum allowed number of output tokens for"),
    ({"max_tokens": 64_001, "model": "claude-haiku-4-5"}, "max_tokens: 64001 > 64000"),
    ({"model": None}, "model: Field required"),
    ({"messages": None}, "messages: Field required"),
    ({"messages": []}, "messages: at least one message is required"),
    ({"messages": {}}, "messages: Input should be a valid list"),
    ({"messages": ["plain"]}, "messages.0: Input should be an object"),
    ({"messages": [{"role": "robot", "content": "x"}]}, "messages.0.role: "),
    ({"messages": [{"role": "user"}]}, "messages.0.content: Field required"),
    ({"messages": [{"role": "user", "content": ""}]}, "messages.0: all messages must have non-empty content"),
    ({"messages": [{**_USER, "name": "me"}]}, "messages.0.name: Extra inputs are not permitted"),
    ({"messages": [{"role": "user", "content": [{"type": "text", "text": " "}]}]}, "must be non-empty"),
    ({"messages": [{"role": "user", "content": [{"type": "smell"}]}]}, "messages.0.content.0: Input tag 'smell'"),
    ({"messages": [_USER, {"role": "assistant", "content": "{"}]}, "does not support assistant message prefill"),
    ({"messages": marked(5)}, "A maximum of 4 blocks with cache_control may be provided. Found 5."),
    ({"system": 7}, "system: "),
    ({"system": [{"type": "image"}]}, "system.0: Input tag 'image'"),
    ({"stop_sequences": [" "]}, "stop_sequences: each stop sequence must contain non-whitespace"),
    ({"metadata": {"name": "me"}}, "metadata.name: Extra inputs are not permitted"),
    ({"stream": "yes"}, "stream: Input should be a valid boolean"),
    ({"service_tier": "fast"}, "service_tier: "),
    ({"thinking": {"type": "enabled", "budget_tokens": 2048}}, "thinking.type: 'enabled' is not supported"),
    ({"thinking": {"type": "deep"}}, "thinking: Input tag 'deep'"),
    ({"thinking": {"type": "disabled", "budget_tokens": 1}}, "thinking.disabled.budget_tokens: Extra inputs"),
    ({"thinking": {"type": "disabled"}, "model": SONNET}, "thinking.type: 'disabled' is not supported"),
    ({"model": "claude-haiku-4-5", "thinking": {"type": "enabled", "budget_tokens": 1}}, "budget_tokens: "),
    ({"model": "claude-haiku-4-5", "thinking": {"type": "enabled", "budget_tokens": 2048}}, "`max_tokens` must be"),
    ({"model": "claude-haiku-4-5", "output_config": {"effort": "low"}}, "does not support the effort parameter"),
    ({"model": "claude-sonnet-4-6", "output_config": {"effort": "xhigh"}}, "not 'xhigh'"),
    ({"output_config": {"effort": "huge"}}, "output_config.effort: Input should be"),
    ({"output_config": {"tone": "kind"}}, "output_config.tone: Extra inputs are not permitted"),
    ({"output_config": {"format": {"type": "json"}}}, "output_config.format.type: "),
    ({"output_config": {"format": {**TRIAGE["format"], "strict": True}}}, "output_config.format.strict: Extra inputs"),
    ({"output_config": schema(additionalProperties=True)}, "'additionalProperties' must be explicitly set to false"),
    ({"output_config": schema(properties={"a": {"type": "number", "maximum": 1}})}, "maximum are not supported"),
    ({"output_config": schema(properties={"a": {"$ref": "#/$defs/A"}}, **{"$defs": {"A": {"items": {"$ref": "#/$defs/A"}}}})}, "Circular"),
    ({"output_config": schema(properties={str(n): {} for n in range(25)}, required=[])}, "is too complex"),
    ({"output_config": schema(properties={str(n): {"anyOf": []} for n in range(17)})}, "is too complex"),
    ({"output_config": schema(**_FAN)}, "is too complex"),
    ({"tools": [_TOOL, _TOOL]}, "Tool names must be unique"),
    ({"tools": [_TOOL], "tool_choice": {"type": "any"}}, "'any' forces tool use, which this model does not support"),
    ({"tools": [_TOOL], "tool_choice": {"type": "tool", "name": "look"}}, "'tool' forces tool use"),
    ({"tools": [_TOOL], "tool_choice": {"type": "auto", "name": "x"}}, "tool_choice.auto.name: Extra inputs"),
    ({"tool_choice": {"type": "auto"}}, "may only be specified while providing tools"),
]  # fmt: skip


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Emulator]:
    """An emulator that all refusals share."""
    with Emulator(CORPUS) as emulator:
        yield emulator


@pytest.mark.parametrize(("changes", "told"), REFUSED, ids=[told for _, told in REFUSED])
def test_what_the_api_refuses_is_refused(endpoint: Emulator, changes: dict[str, Any], told: str) -> None:
    """A 400 with the API's type, a request id, and nothing billed."""
    body = {key: value for key, value in {**asking(), **changes}.items() if value is not None}
    with (
        anthropic.Anthropic(base_url=endpoint.base_url, api_key="test", max_retries=0) as client,
        pytest.raises(anthropic.BadRequestError) as caught,
    ):
        client.post("/v1/messages", body=body, cast_to=object)
    assert caught.value.type == "invalid_request_error"
    assert told in (caught.value.api_message or "")
    assert caught.value.request_id
    assert endpoint.billed.replies == 0


ACCEPTED: list[dict[str, Any]] = [
    {"thinking": {"type": "disabled"}, "output_config": {"effort": "xhigh"}},
    {"thinking": {"type": "adaptive", "display": "omitted"}},
    {"tools": [_TOOL], "tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
    {"model": "local", "tools": [_TOOL], "tool_choice": {"type": "any"}},
    {"model": "local", "thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 2000},
    {"max_tokens": 128_000},
    {"model": "local", "max_tokens": 10**9},
    {"model": "local", "messages": [_USER, {"role": "assistant", "content": "{"}]},
    {"messages": marked(4), "system": [{"type": "text", "text": "be brief"}], "metadata": {"user_id": "u"}},
    {"stop_sequences": ["END"], "service_tier": "auto", "inference_geo": "eu", "cache_control": None},
]


@pytest.mark.parametrize("changes", ACCEPTED, ids=str)
def test_what_the_api_takes_is_taken(emulator: Emulator, client: anthropic.Anthropic, changes: dict[str, Any]) -> None:
    """The other side of each refusal: it does not refuse more than the API does."""
    client.messages.create(**{**asking(), **changes})
    assert emulator.billed.replies == 1


def test_a_prefill_is_refused_with_a_json_format_on_every_model(client: anthropic.Anthropic) -> None:
    """Also where the model would take a prefill."""
    turns = [_USER, {"role": "assistant", "content": "{"}]
    with pytest.raises(anthropic.BadRequestError, match="incompatible with a JSON format"):
        client.messages.create(**{**asking(model="local", output_config=TRIAGE), "messages": turns})


def test_beta_fields_are_taken_only_where_the_beta_is_asked_for(client: anthropic.Anthropic) -> None:
    """By a header or, as Claude Code does, by the query."""
    more: dict[str, Any] = {"context_management": {"edits": []}}
    with pytest.raises(anthropic.BadRequestError, match="context_management: Extra inputs are not permitted"):
        client.messages.create(**asking(), extra_body=more)
    client.messages.create(**asking(), extra_body=more, extra_query={"beta": "true"})
    client.beta.messages.create(**asking(), **more, betas=["context-management-2025-06-27"])


def test_the_sdks_own_schemas_are_taken(client: anthropic.Anthropic) -> None:
    """What `transform_schema` makes of a pydantic class with bounds, options and a nested class passes."""

    class Place(BaseModel):
        city: str

    class Envelope(BaseModel):
        confidence: float
        answer: str | None
        place: Place | None = None

    form = {"type": "json_schema", "schema": anthropic.transform_schema(Envelope)}
    client.messages.create(**asking(output_config={"format": form}))


@pytest.mark.parametrize(
    ("headers", "status", "kind"),
    [
        ({"anthropic-version": "2026-10-21"}, 401, "authentication_error"),
        ({"anthropic-version": "2026-10-21", "authorization": "Basic eDp5"}, 401, "authentication_error"),
        ({"authorization": "Bearer k"}, 400, "invalid_request_error"),
        ({"authorization": "Bearer k", "anthropic-version": "2026-10-21"}, 200, None),
        ({"x-api-key": "k", "anthropic-version": "2023-06-01"}, 200, None),
    ],
)
def test_credentials_and_version_are_required(
    emulator: Emulator, headers: dict[str, str], status: int, kind: str | None
) -> None:
    """Bearer or x-api-key, whichever key; without either a 401, without a version a 400, in the API's shape."""
    response = httpx2.post(f"{emulator.base_url}/v1/messages", json=asking(), headers=headers)
    body = response.json()
    assert response.status_code == status
    assert body.get("error", {}).get("type") == kind
    assert status == 200 or body["request_id"] == response.headers["request-id"]


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        ("POST", "/v1/messages", b"{", 400),
        ("POST", "/v1/messages", b"", 400),
        ("POST", "/v1/messages", b"[" * 100_000, 400),
        ("POST", "/v1/messages", b"[]", 400),
        ("GET", "/v1/messages", b"", 405),
        ("POST", "/v1/models", b"{}", 405),
        ("GET", "/v1/models?limit=0", b"", 400),
        ("GET", "/", b"", 404),
        ("POST", "/v1/complete", b"{}", 404),
        ("POST", "/v1/messages", b" " * (33 * 1024 * 1024), 413),
    ],
)
def test_what_is_not_a_request_is_an_error_in_the_apis_shape(
    emulator: Emulator, method: str, path: str, content: bytes, status: int
) -> None:
    """Broken JSON, other methods, other paths, bodies past the limit: one JSON error each, and it goes on serving."""
    headers = {"authorization": "Bearer k", "anthropic-version": "2026-10-21"}
    with httpx2.Client(base_url=emulator.base_url, headers=headers) as client:
        response = client.request(method, path, content=content)
        assert response.status_code == status
        assert response.json()["type"] == "error"
        assert client.get("/v1/models").status_code == 200


_KEYS = st.sampled_from(
    [
        "model",
        "messages",
        "max_tokens",
        "system",
        "thinking",
        "tools",
        "tool_choice",
        "output_config",
        "format",
        "schema",
        "type",
        "role",
        "content",
        "text",
        "properties",
        "required",
        "additionalProperties",
        "anyOf",
        "items",
        "$ref",
        "$defs",
        "name",
        "effort",
        "budget_tokens",
        "stream",
        "metadata",
    ]
)
_VALUES = st.sampled_from(
    [HAIKU, "claude-haiku-4-5", "user", "assistant", "text", "json_schema", "object", "enabled", "tool", "#/$defs/a", "low"]
)  # fmt: skip
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _VALUES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=5),
    max_leaves=25,
)


@given(changes=st.dictionaries(_KEYS, _JSON, max_size=4), whole=_JSON, read=st.sampled_from([read_request, read_count]))
def test_a_hostile_body_is_taken_or_refused(
    changes: dict[str, Any], whole: object, read: Callable[..., ApiRequest | int]
) -> None:
    """Whatever JSON comes, whole or in one field, the checks end in an answer or in an error of the API."""
    for body in (whole, {**asking(), **changes}, asking(output_config=schema(**changes))):
        try:
            outcome = read(body, beta=False)
        except ApiError as error:
            outcome = error.status
        assert outcome == 400 or isinstance(outcome, ApiRequest | int)
