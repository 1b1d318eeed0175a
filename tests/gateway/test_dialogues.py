"""The SDK on the gateway, by its address alone: the same conversations as directly, in each of the SDK's ways."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cascade.emulator import Emulator
from tests.gateway.serving import Gateway
from tests.live.conftest import Connections
from tests.live.messages.conftest import WAYS, Line, plain
from tests.live.messages.dialogues import DIALOGUES

POLICY = """
version: 1
name: live
ladder:
  - {rung: haiku, model: claude-haiku-5-5, threshold: 0.8, max_tokens: 500, thinking: disabled}
  - {rung: sonnet, model: claude-sonnet-5-5, threshold: 0.8, max_tokens: 500}
  - {rung: opus, model: claude-opus-5-5, max_tokens: 500}
"""


@pytest.fixture(scope="module")
def connections() -> Iterator[Connections]:
    """The SDK's two clients."""
    both = Connections()
    yield both
    both.close()


@pytest.mark.parametrize("name", DIALOGUES)
def test_a_conversation_is_the_same_directly_and_through_the_gateway(
    start: Callable[..., Gateway], stack: Any, tmp_path: Path, connections: Connections, name: str
) -> None:
    """What the caller hears of the models is what the top model alone would have said."""
    dialogue = DIALOGUES[name]
    (tmp_path / "live.yaml").write_text(POLICY)
    emulator = stack.enter_context(Emulator((), script=dialogue.play))
    gateway = start(emulator.base_url, policies=(str(tmp_path / "live.yaml"),))
    said = 0
    for way in WAYS:
        kind: Any = connections.async_one if way.startswith("async") else connections.sync_one
        direct = Line(way, kind.with_options(base_url=emulator.base_url, max_retries=0).messages, connections)
        climbing = Line(way, kind.with_options(base_url=gateway.base_url, max_retries=0).messages, connections)
        heard = dialogue.talk(partial(_ask_the_ladder, climbing))
        said += len(heard)
        assert [plain(one) for one in heard] == [plain(one) for one in dialogue.talk(direct)], way
    gateway.stop()
    outcomes = [record.outcome for record in gateway.records()]
    assert len(outcomes) == said
    assert all(outcome is not None for outcome in outcomes)
    assert outcomes[-1].rung == dialogue.ends_on  # type: ignore[union-attr]


def _ask_the_ladder(say: Line, **keywords: Any) -> Any:
    return say(**{**keywords, "model": "claude-cascade-live"})
