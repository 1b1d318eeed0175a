"""The SDK's ways to get a message, on the SDK's own client and on one that climbs; and the emulator, playing a script."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

import pytest
from anthropic.lib.streaming._messages import accumulate_event

from cascade import AsyncCascade, Cascade, Policy
from cascade.emulator import Emulator, ScriptedReply
from tests.live.conftest import OPUS, Connections, ladder

if TYPE_CHECKING:
    import anthropic

WAYS = ("create", "events", "stream", "async create", "async events", "async stream")
"""`create`; `create(stream=True)`, accumulated; `stream`; and the same of the async client."""

Script = Callable[[dict[str, Any], Mapping[str, str]], Any]


def text(said: str) -> dict[str, Any]:
    """A block of text."""
    return {"type": "text", "text": said}


def saying(*blocks: dict[str, Any], confidence: float | None = 0.95, **more: Any) -> ScriptedReply:
    """A scripted reply: plain for whoever does not ask for a confidence."""
    return ScriptedReply(blocks, confidence=confidence, **more)


class Line:
    """A `messages` resource, sync or async, asked in one of the ways. `last` is the stream that was read last."""

    def __init__(self, way: str, messages: Any, connections: Connections) -> None:
        self._way, self._messages, self._runner = way.removeprefix("async "), messages, connections.runner
        self._is_async = way.startswith("async")
        self.last: Any = None

    def __call__(self, **keywords: Any) -> Any:
        """The message that a call with these keywords brings."""
        if self._is_async:
            return self._runner.run(self._ask_async(keywords), context=copy_context())
        if self._way == "create":
            return self._messages.create(**keywords)
        if self._way == "events":
            with self._messages.create(**keywords, stream=True) as self.last:
                return accumulated(list(self.last))
        with self._messages.stream(**keywords) as self.last:
            return self.last.get_final_message()

    async def _ask_async(self, keywords: dict[str, Any]) -> Any:
        if self._way == "create":
            return await self._messages.create(**keywords)
        if self._way == "events":
            async with await self._messages.create(**keywords, stream=True) as self.last:
                return accumulated([event async for event in self.last])
        async with self._messages.stream(**keywords) as self.last:
            return await self.last.get_final_message()


def accumulated(events: list[Any]) -> Any:
    """The message that the SDK makes of a stream's events."""
    snapshot: Any = None
    buffers: dict[int, bytes] = {}
    for event in events:
        snapshot = accumulate_event(event=event, current_snapshot=snapshot, json_bufs=buffers)
    return snapshot


class Stage:
    """One emulator that plays a script, the SDK's own messages on it, and messages that climb."""

    def __init__(
        self, way: str, emulator: Emulator, policy: Policy, connections: Connections, stack: ExitStack
    ) -> None:
        self.emulator = emulator
        if way.startswith("async"):
            client: Any = connections.async_one.with_options(base_url=emulator.base_url)
            driver: Any = AsyncCascade(policy, client=client, ledger="off", chance=random.Random(0))
        else:
            client = connections.sync_one.with_options(base_url=emulator.base_url)
            driver = stack.enter_context(Cascade(policy, client=client, ledger="off", chance=random.Random(0)))
        self.direct, self.climbing = Line(way, client.messages, connections), Line(way, driver.messages, connections)
        self.driver, self.client = driver, client

    def asked(self, model: str) -> list[dict[str, Any]]:
        """The bodies that a model was sent."""
        return [seen.body for seen in self.emulator.requests if seen.body and seen.body["model"] == model]


Open = Callable[..., Stage]


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    """Each way to get a message."""
    return request.param


@pytest.fixture
def stage(way: str, connections: Connections) -> Iterator[Open]:
    """Open a stage for a script, with a policy of the three models."""
    with ExitStack() as stack:

        def start(script: Script, *, policy: Policy | None = None, **options: Any) -> Stage:
            emulator = stack.enter_context(Emulator((), script=script, **options))
            return Stage(way, emulator, policy or ladder(), connections, stack)

        yield start


def plain(message: anthropic.types.Message) -> dict[str, Any]:
    """What a climb must not change of a message: all but its id, model and usage; and calls by their place, not their id."""
    body = message.to_dict(mode="json", exclude_none=True)
    for name in ("id", "model", "usage"):
        body.pop(name, None)
    for number, block in enumerate(body["content"]):  # type: ignore[arg-type]
        for name in ("id", "tool_use_id"):
            if name in block:
                block[name] = number
        if "signature" in block:  # it covers what was said before, ids included
            block["signature"] = bool(block["signature"])
    return body


BASE: dict[str, Any] = {"model": OPUS, "max_tokens": 200}
