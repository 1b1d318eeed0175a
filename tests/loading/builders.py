"""What the tests of loading share: a small policy to break, and the errors that come of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cascade.core.errors import PolicyError
from cascade.core.policy import Policy
from cascade.policy.loading import parse_policy

__all__ = ["POLICIES", "SOUND", "broken", "changed", "parsed"]

POLICIES = Path(__file__).resolve().parents[2] / "policies"

# Lines are counted in the tests: `version` is line 1, the rungs are 4 to 6, the tasks 8 and 9.
SOUND = """\
version: 1
name: sound
ladder:
  - {rung: haiku, model: claude-haiku-5-5, threshold: 0.80, max_tokens: 1024, thinking: disabled}
  - {rung: sonnet, model: claude-sonnet-5-5, threshold: 0.80, max_tokens: 4096, effort: low}
  - {rung: opus, model: claude-opus-5-5, max_tokens: 8192}
tasks:
  - {name: refund, when: {words: [refund]}, floor: sonnet}
  - {name: chat, when: {max_tokens: 50}, ceiling: sonnet, thresholds: {haiku: 0.6}, checks: [not_empty]}
storm_guard: {rate: 0.35}
"""


def changed(*changes: tuple[str, str]) -> str:
    """The sound policy with each of these texts, which must be in it, replaced once."""
    text = SOUND
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new, 1)
    return text


def parsed(text: str = SOUND, **environment: str) -> Policy:
    """The policy in a text, with these environment variables and no others."""
    return parse_policy(text, where="p.yaml", environment=environment)


def broken(text: str, **environment: str) -> PolicyError:
    """The error that a text makes: on one line, printable, and so are its notes."""
    with pytest.raises(PolicyError) as caught:
        parsed(text, **environment)
    for line in (str(caught.value), *getattr(caught.value, "__notes__", ())):
        assert line.isprintable(), line
    return caught.value
