"""The delegation helpers, both ways, on a ladder whose rungs say what a test has them say."""

from __future__ import annotations

import random
from collections.abc import Coroutine, Iterator, Mapping
from contextvars import copy_context
from typing import Any

import pytest

import cascade
from cascade import Answer, AsyncCascade, Cascade, Policy
from cascade.emulator import Emulator, ScriptedReply
from tests.live.conftest import HAIKU, OPUS, SONNET, USAGE, Connections, ladder

RUNGS = (HAIKU, SONNET, OPUS)


class Stage:
    """An endpoint whose models say what they are told to, in the order of the ladder; the last one says nothing else for the rest.

    What the top says is sent as it is: JSON where the request has a schema.
    """

    def __init__(self, connections: Connections) -> None:
        self._said: dict[str, str] = {}
        self._connections = connections
        self.emulator = Emulator((), script=self._play)

    def says(self, *texts: str) -> None:
        """What Haiku, Sonnet and Opus answer from now on; those above the last text repeat it."""
        self._said = dict(zip(RUNGS, (*texts, *[texts[-1]] * len(RUNGS)), strict=False))

    def bodies(self) -> list[Any]:
        """What has been asked, in order."""
        return [request.body for request in self.emulator.requests]

    def driver(self, way: str, policy: Policy | None = None, **options: Any) -> Any:
        """A driver of one way on this endpoint."""
        options = {"ledger": "off", "chance": random.Random(0), **options}
        one = self._connections.sync_one if way == "sync" else self._connections.async_one
        kind: Any = Cascade if way == "sync" else AsyncCascade
        return kind(policy or ladder(), client=one.with_options(base_url=self.emulator.base_url), **options)

    def call(self, way: str, helper: str, *given: Any, **more: Any) -> Answer[Any]:
        """Call a helper, and wait for its answer."""
        if way == "sync":
            return getattr(cascade, helper)(*given, **more)
        return self.run(getattr(cascade, f"a{helper}")(*given, **more))

    def run(self, running: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine on the loop of the async client."""
        return self._connections.runner.run(running, context=copy_context())

    def _play(self, body: dict[str, Any], _: Mapping[str, str]) -> ScriptedReply:
        text = self._said[body["model"]]
        return ScriptedReply([{"type": "text", "text": text}], usage=USAGE, confidence=0.9)


class Helping:
    """The helpers of one way, on one driver."""

    def __init__(self, stage: Stage, way: str, policy: Policy | None = None, **options: Any) -> None:
        self.stage, self.way, self._before = stage, way, len(stage.emulator.requests)
        self.driver = stage.driver(way, policy, **options)

    def __call__(self, helper: str, *given: Any, **more: Any) -> Answer[Any]:
        """Call a helper on this driver."""
        return self.stage.call(self.way, helper, *given, **{"driver": self.driver, **more})

    def asked(self) -> list[Any]:
        """The requests that were sent since this was made."""
        return self.stage.bodies()[self._before :]


@pytest.fixture(scope="session")
def stage(connections: Connections) -> Iterator[Stage]:
    """One endpoint for all tests."""
    made = Stage(connections)
    with made.emulator:
        yield made


@pytest.fixture(params=["sync", "async"])
def way(request: pytest.FixtureRequest) -> str:
    """Both ways."""
    return request.param


@pytest.fixture
def helping(stage: Stage, way: str) -> Helping:
    """The helpers on the usual ladder, both ways."""
    return Helping(stage, way)
