"""What a rung of another vendor cannot be given is refused before anything is paid, and only that."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cascade.core.carrying import check_carried
from cascade.core.errors import RequestError
from cascade.core.messages import Request
from cascade.core.policy import Rung

HAIKU = Rung.model_validate({"rung": "haiku", "model": "claude-haiku-5-5", "max_tokens": 9, "threshold": 0.8})
LUNA = Rung.model_validate(
    {"rung": "luna", "model": "gpt-6-luna", "max_tokens": 9, "threshold": 0.8, "provider": "openai"}
)
OPUS = Rung.model_validate({"rung": "opus", "model": "claude-opus-5-5", "max_tokens": 9})
CLAUDE, MIXED, TOPPED = (HAIKU, OPUS), (HAIKU, LUNA, OPUS), (HAIKU, LUNA)
PLAIN = Request(({"role": "user", "content": "hi"},))
TOOL: dict[str, Any] = {"name": "look", "input_schema": {"type": "object"}}


def saying(*blocks: dict[str, Any], role: str = "user", **more: Any) -> Request:
    """A request whose first turn has these blocks."""
    return Request(({"role": role, "content": list(blocks)}, {"role": "user", "content": "?"}), **more)


FINE = [
    PLAIN,
    saying({"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}, "citations": None}),
    saying({"type": "image", "source": {"type": "url", "url": "https://a.example"}}),
    saying({"type": "tool_use", "id": "a", "name": "look", "input": {}}, role="assistant", tools=(TOOL,)),
    saying({"type": "tool_result", "tool_use_id": "a", "content": [{"type": "text", "text": "b"}]}),
    saying({"type": "thinking", "thinking": "a", "signature": "b"}, role="assistant"),
    replace(PLAIN, tools=({**TOOL, "type": "custom", "description": "d", "strict": True},)),
    replace(PLAIN, extra={"cache_control": {"type": "ephemeral"}, "service_tier": "auto"}),
    replace(PLAIN, headers={"anthropic-beta": "x"}, stop_sequences=("a", "b", "c", "d", "e")),
]

FAULTS = [
    (
        saying({"type": "document", "source": {"type": "text", "data": "a"}}),
        r"messages\.0\.content\.0: it is of type document",
    ),
    (saying({"type": "a_kind_of_the_future"}), "a_kind_of_the_future"),
    (saying({"type": "server_tool_use", "id": "a", "name": "b", "input": {}}, role="assistant"), "server_tool_use"),
    (saying({"type": "text", "text": "a", "citations": [{}]}, role="assistant"), "citations"),
    (saying({"type": "image", "source": {"type": "file", "file_id": "f"}}), "type file"),
    (saying({"type": "tool_result", "tool_use_id": "a", "content": [{"type": "image"}]}), "tool's result"),
    (
        replace(PLAIN, tools=({"type": "web_search_20260209", "name": "web_search"},)),
        r"tools\.0: .*web_search_20260209",
    ),
    (replace(PLAIN, tools=({**TOOL, "defer_loading": True},)), r"tools\.0\.defer_loading"),
    (replace(PLAIN, tools=({**TOOL, "name": "n" * 65},)), "64 characters"),
    (replace(PLAIN, tools=({**TOOL, "strict": True, "input_schema": {"type": "object", "allOf": [{}, {}]}},)), "allOf"),
    (replace(PLAIN, schema={"type": "object", "additionalProperties": True}), "additionalProperties"),
    (replace(PLAIN, extra={"container": "c"}), "container"),
    (replace(PLAIN, raw={"messages": []}), "cannot climb"),
]


@pytest.mark.parametrize("request_", FINE)
def test_what_has_a_place_passes(request_: Request) -> None:
    """Marks of the cache are left out, headers stay behind, and thinking is taken out for every rung."""
    check_carried(request_, MIXED)


@pytest.mark.parametrize(("request_", "named"), FAULTS)
def test_what_has_none_is_refused_by_name(request_: Request, named: str) -> None:
    """The error says what, where, which rung and what to do; a ladder of Claude models takes all of it."""
    with pytest.raises(RequestError, match=rf"{named}.*rung luna \(provider openai\).*leave it out"):
        check_carried(request_, MIXED)
    check_carried(request_, CLAUDE)


def test_a_voter_of_another_vendor_counts_too() -> None:
    """It is asked what its rung is asked."""
    with pytest.raises(RequestError, match="rung luna"):
        check_carried(FAULTS[0][0], CLAUDE, (LUNA,))


@pytest.mark.parametrize("kind", ["disabled", "adaptive", "enabled", "between_tools"])
def test_the_callers_thinking_reaches_only_the_top(kind: str) -> None:
    """There another vendor's model can be told not to reason, but not how Claude should."""
    asked = replace(PLAIN, top_extra={"thinking": {"type": kind}, "output_config": {"effort": "low"}})
    check_carried(asked, MIXED)
    if kind in ("disabled", "adaptive"):
        check_carried(asked, TOPPED)
    else:
        with pytest.raises(RequestError, match=f"thinking: it is of type {kind}"):
            check_carried(asked, TOPPED)


def test_thinking_is_refused_where_nobody_takes_it_out() -> None:
    """A ladder of one rung, the baseline's, is asked the history as it is."""
    with pytest.raises(RequestError, match="type thinking"):
        check_carried(saying({"type": "thinking", "thinking": "a", "signature": "b"}, role="assistant"), (LUNA,))
