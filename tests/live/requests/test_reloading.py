"""What a running process has read once: its policies and its environment, and how it reads them again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

import cascade
from cascade import Answer
from tests.live.conftest import Emulate, ladder


def ask(text: str, policy: Path) -> Answer:
    """The drop-in function."""
    return cascade.ask(text, policy=policy)


def aask(text: str, policy: Path) -> Answer:
    """The same, awaited."""
    return asyncio.run(cascade.aask(text, policy=policy))


def write(path: Path, *, threshold: float) -> None:
    """A policy file whose first two rungs have this threshold."""
    path.write_text(ladder(thresholds=(threshold, threshold)).model_dump_json(exclude_unset=True))


@pytest.mark.parametrize("way", [ask, aask])
def test_a_changed_policy_file_is_read_when_it_is_said(
    emulate: Emulate, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, way: Callable[[str, Path], Answer]
) -> None:
    """Until then every request is answered by the policy that the process began with."""
    monkeypatch.setenv("ANTHROPIC_BASE_URL", emulate().base_url)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "test")
    policy = tmp_path / "policy.yaml"
    write(policy, threshold=0.8)
    before = way("sure", policy)
    write(policy, threshold=0.95)
    assert way("sure", policy).policy_hash == before.policy_hash
    cascade.reload()
    after = way("sure", policy)
    assert (before.rung, after.rung) == ("haiku", "opus")
    assert after.policy_hash != before.policy_hash


@pytest.mark.parametrize("way", [ask, aask])
def test_a_changed_endpoint_is_seen_when_it_is_said(
    emulate: Emulate, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, way: Callable[[str, Path], Answer]
) -> None:
    """`ANTHROPIC_BASE_URL` and the key are the environment's of the first request, until a reload."""
    first, second = emulate(), emulate()
    monkeypatch.setenv("ANTHROPIC_BASE_URL", first.base_url)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "test")
    policy = tmp_path / "policy.yaml"
    write(policy, threshold=0.8)
    way("sure", policy)
    if way is ask:  # each asyncio.run makes a client of its own
        monkeypatch.setenv("ANTHROPIC_BASE_URL", second.base_url)
        way("sure", policy)
        assert (len(first.requests), len(second.requests)) == (2, 0)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", second.base_url)
    cascade.reload()
    way("sure", policy)
    assert len(second.requests) == 1


def test_a_request_under_way_goes_on_as_it_began(
    emulate: Emulate, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A reload in the middle of a climb changes neither its policy nor its endpoint, and loses nothing."""
    emulator = emulate()
    monkeypatch.setenv("ANTHROPIC_BASE_URL", emulator.base_url)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "test")
    policy = tmp_path / "policy.yaml"
    write(policy, threshold=0.8)

    def reloads(_text: str) -> bool:
        write(policy, threshold=0.3)
        cascade.reload()
        return True

    answer = cascade.ask("unsure", policy=policy, checks=[reloads])
    assert (answer.rung, len(emulator.requests)) == ("sonnet", 2)
    assert cascade.ask("unsure", policy=policy).rung == "haiku"
