"""The npm SDK reads the same from the gateway as from the API itself."""

from __future__ import annotations

import pytest

from cascade.emulator import Emulator
from tests.clients.conftest import CLIMBING, HAIKU, SONNET, Asked, Gateway, run_npm_sdk

CASES = ("create", "stream", "tools", "tools_stream", "count", "failure")


@pytest.mark.parametrize("model", [CLIMBING, SONNET], ids=["climbing", "passing"])
def test_it_reads_the_same_as_directly(gateway: Gateway, emulator: Emulator, model: str) -> None:
    """Messages, streams and their events, tool loops, counts and errors; the tool loops climb to Sonnet."""
    direct = run_npm_sdk(emulator.base_url, SONNET, *CASES)
    asked = Asked(emulator)
    assert run_npm_sdk(gateway.base_url, model, *CASES) == direct
    assert set(asked()) == ({HAIKU, SONNET} if model == CLIMBING else {SONNET})


def test_what_it_reads_directly_is_what_was_scripted(emulator: Emulator) -> None:
    """The reference of the test before."""
    read = run_npm_sdk(emulator.base_url, SONNET, *CASES)
    call = {"type": "tool_use", "name": "get_weather", "input": {"city": "Paris"}}
    text = {"type": "text", "text": "It is mild in Paris: 14 degrees."}
    assert read["create"]["messages"][0]["content"] == [text]
    assert read["stream"]["deltas_equal_the_text"]
    for case in ("tools", "tools_stream"):
        assert [message["content"] for message in read[case]["messages"]] == [[call], [text]]
    assert (read["failure"]["status"], read["failure"]["type"]) == (400, "invalid_request_error")
