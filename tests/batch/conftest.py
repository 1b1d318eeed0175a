"""Batch runs against the emulator: a folder of their own, a policy without a storm guard, the real SDK."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import anthropic
import pytest

from cascade import Policy
from cascade.batch import BatchLimits
from cascade.emulator import Emulator, ScriptedReply
from cascade.policy.loading import parse_policy

LIMITS = BatchLimits(max_requests=10, attempts=3, poll_s=0.01, settle_s=0.05)

LADDER = """
version: 1
name: batch
ladder:
  - {rung: haiku, model: claude-haiku-5-5, threshold: 0.80, max_tokens: 1024, thinking: disabled}
  - {rung: sonnet, model: claude-sonnet-5-5, threshold: 0.80, max_tokens: 4096, effort: low}
  - {rung: opus, model: claude-opus-5-5, max_tokens: 8192}
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where runs and the ledger are."""
    monkeypatch.setenv("CASCADE_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def policy_of() -> Callable[[str], Policy]:
    """The ladder, with further keys."""
    return lambda more="": parse_policy(LADDER + more, environment={})


@pytest.fixture
def emulate() -> Iterator[Callable[..., tuple[Emulator, anthropic.Anthropic]]]:
    """Start an emulator, with a client: a text that says `climb N` is answered with confidence by the rung N only."""
    with ExitStack() as stack:

        def start(usage: dict[str, int] | None = None, **options: Any) -> tuple[Emulator, anthropic.Anthropic]:
            script = answer if usage is None else lambda *asked: replace(answer(*asked), usage=usage)
            emulator = stack.enter_context(Emulator(script=script, **options))
            client = anthropic.Anthropic(base_url=emulator.base_url, api_key="k", max_retries=0, timeout=60)
            return emulator, stack.enter_context(client)

        yield start


def answer(body: dict[str, Any], _headers: Any) -> ScriptedReply:
    """What the emulator says: the text again, with a confidence below the top."""
    model, text = body["model"], str(body["messages"][-1]["content"])
    rung, name = next((place, name) for place, name in enumerate(("haiku", "sonnet", "opus")) if name in model)
    wanted = int(text.split("climb ")[1][0]) if "climb " in text else 0
    return ScriptedReply(
        [{"type": "text", "text": f"{text} by {name}"}],
        confidence=0.9 if rung >= wanted else 0.3,
        usage={"input_tokens": 100, "output_tokens": 20},
    )
