"""pydantic-ai, instructor and LangChain, told nothing but the gateway's address, work as before, and their requests climb."""

from __future__ import annotations

from typing import Any

import pytest

from tests.clients.conftest import CLIMBING, HAIKU, OPUS, SONNET, Asked, Gateway, run_python

WEATHER = {"called": ["Paris"], "output": "It is mild in Paris: 14 degrees."}
ORDER = {"output": {"number": "A-17", "count": 2}}

CASES: dict[str, dict[str, Any]] = {
    "pydantic_ai": {"tools": WEATHER, "tools_stream": WEATHER, "structured": ORDER, "tool": ORDER},
    "instructor": {
        "structured": ORDER,
        "structured_stream": ORDER,
        "reasked": {"output": {"number": "B-17", "count": 2}},
        "json": ORDER,
        "tools": {"output": [{"tool": "get_weather", "city": "Paris"}]},
    },
    "langchain": {"tools": WEATHER, "tools_stream": WEATHER, "structured": ORDER, "native": ORDER},
}


@pytest.mark.parametrize("model", [CLIMBING, OPUS], ids=["virtual", "routed"])
@pytest.mark.parametrize("client", CASES)
def test_tools_and_structured_output_climb(gateway: Gateway, client: str, model: str) -> None:
    """By the virtual model and by a routed real one; Haiku is asked first, and what it leaves Sonnet answers."""
    asked = Asked(gateway.emulator)
    assert run_python(client, gateway.base_url, model, *CASES[client]) == CASES[client]
    models = asked()
    assert models[0] == HAIKU
    assert set(models) == {HAIKU, SONNET}


def test_a_real_model_passes_through(gateway: Gateway) -> None:
    """Without a route nothing is asked but the caller's model; instructor's SDK is an old one, with `x-api-key`."""
    asked = Asked(gateway.emulator)
    assert run_python("instructor", gateway.base_url, SONNET, "json") == {"json": ORDER}
    assert set(asked()) == {SONNET}
