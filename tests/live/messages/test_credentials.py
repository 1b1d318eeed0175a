"""Whose credentials go where, for a request that brings its own (`cascade serve --auth forward`)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cascade import Answer, AsyncCascade, Cascade, Policy
from cascade.emulator import Emulator
from cascade.engine.messages import message_arguments
from tests.live.conftest import HAIKU, SONNET, Connections

from .conftest import BASE, saying, text


def keys_seen(emulator: Emulator) -> list[bytes]:
    """The Authorization headers that came in, credentials and all."""
    return [value for raw in emulator.raw_requests for name, value in raw.headers if name.lower() == b"authorization"]


@pytest.mark.parametrize("way", ["sync", "async"])
def test_the_callers_credentials_go_to_no_endpoint_of_a_rungs_own(
    way: str, connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rung with an endpoint of its own is called with the key that the policy names, the others with the caller's."""
    monkeypatch.setenv("OTHERS_KEY", "others")
    unsure = saying(text("hm"), confidence=0.1)
    with (
        Emulator((), script=lambda *_: unsure, keep_requests=10) as others,
        Emulator((), script=lambda *_: saying(text("yes")), keep_requests=10) as ours,
    ):
        rungs: list[dict[str, Any]] = [
            {
                "rung": "haiku",
                "model": HAIKU,
                "threshold": 0.8,
                "base_url": others.base_url,
                "api_key_env": "OTHERS_KEY",
            },
            {"rung": "sonnet", "model": SONNET},
        ]
        ladder = [{"max_tokens": 100, **rung} for rung in rungs]
        policy = Policy.model_validate({"version": 1, "name": "two", "ladder": ladder})
        arguments = message_arguments({**BASE, "messages": [{"role": "user", "content": "x"}]}, policy)
        headers = {"authorization": "Bearer caller", "anthropic-beta": "b"}
        arguments = replace(arguments, given=replace(arguments.given, headers=headers))
        if way == "sync":
            with Cascade(
                policy, client=connections.sync_one.with_options(base_url=ours.base_url), ledger="off"
            ) as driver:
                answer = driver.respond(arguments)
        else:
            client = connections.async_one.with_options(base_url=ours.base_url)

            async def respond() -> Answer:
                async with AsyncCascade(policy, client=client, ledger="off") as driver:
                    return await driver.respond(arguments)

            answer = connections.runner.run(respond())
        assert answer.rung == "sonnet"
        assert keys_seen(others) == [b"Bearer others"]
        assert keys_seen(ours) == [b"Bearer caller"]
        assert [seen.headers["anthropic-beta"] for seen in (*others.requests, *ours.requests)] == ["b", "b"]
