"""What is known of Claude models: canonical names, order of capability, and what each one accepts.

The policy's invariants, the prompt builder and the emulator read this one table. For a model outside it
we assume only that its endpoint speaks the Messages API.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

__all__ = ["STREAMS_ABOVE", "Effort", "Family", "Model", "ModelRules", "Platform", "Thinking", "identify", "rules_of"]

STREAMS_ABOVE = 21_333
"""max_tokens above which a reply is streamed: it may take minutes, and an idle connection may not last that long."""

Family = Literal["haiku", "sonnet", "opus", "fable", "mythos"]
Thinking = Literal["disabled", "adaptive", "between_tools", "enabled"]
Effort = Literal["low", "medium", "high", "xhigh", "max"]
Platform = Literal["api", "bedrock", "bedrock_global", "vertex"]
"""Anthropic's API, Amazon Bedrock in a region or globally, Google Vertex AI. Each has its own prices."""

_RANK: dict[str, int] = {"haiku": 0, "sonnet": 1, "opus": 2, "fable": 3, "mythos": 3}
_EFFORTS: frozenset[str] = frozenset(get_args(Effort))


@dataclass(frozen=True, slots=True)
class Model:
    """A Claude model, read from its name: `family` and `version`, e.g. ("haiku", (5, 5)).

    `platform`: by the form of the name; "api" for a name that the API and Vertex AI share.
    """

    canonical: str
    family: Family
    version: tuple[int, ...]
    platform: Platform = "api"

    @property
    def rank(self) -> int:
        """0 Haiku, 1 Sonnet, 2 Opus, 3 above Opus."""
        return _RANK[self.family]


@dataclass(frozen=True, slots=True)
class ModelRules:
    """What a model accepts.

    `thinking`: the types. `thinks_by_default`: whether it thinks if the request does not say (thinking counts toward
    max_tokens). `efforts`: the levels, empty if none. `prefill`: whether the last turn may be the assistant's.
    `forced_tool_choice`: whether `any` and `tool` are accepted. `max_output`: the highest max_tokens, thinking included
    (without the batch API's beta). `window`: the context window in tokens, which prompt and reply share. `min_cached_tokens`: the
    shortest beginning of a prompt that its cache takes.
    """

    thinking: frozenset[str]
    thinks_by_default: bool
    efforts: frozenset[str]
    default_effort: Effort | None = None
    prefill: bool = False
    forced_tool_choice: bool = True
    max_output: int = 128_000
    window: int = 1_000_000
    min_cached_tokens: int = 512


# Anthropic's documentation, November 2026. Keyed by family and version.
_TABLE: dict[tuple[str, tuple[int, ...]], ModelRules] = {
    ("haiku", (4, 5)): ModelRules(
        frozenset({"disabled", "enabled"}),
        False,
        frozenset(),
        prefill=True,
        max_output=64_000,
        window=200_000,
        min_cached_tokens=4096,
    ),
    ("sonnet", (4, 6)): ModelRules(
        frozenset({"disabled", "adaptive"}), False, _EFFORTS - {"xhigh"}, min_cached_tokens=1024
    ),
    ("opus", (4, 7)): ModelRules(frozenset({"disabled", "adaptive"}), False, _EFFORTS, min_cached_tokens=2048),
    ("haiku", (5, 5)): ModelRules(
        frozenset({"disabled", "adaptive"}), True, _EFFORTS, "medium", forced_tool_choice=False
    ),
    ("sonnet", (5, 5)): ModelRules(
        frozenset({"adaptive", "between_tools"}), True, _EFFORTS, "high", forced_tool_choice=False
    ),
    ("opus", (5, 5)): ModelRules(frozenset({"adaptive"}), True, _EFFORTS, "medium", forced_tool_choice=False),
}

# Bedrock: us.anthropic.claude-haiku-4-5-20251001-v1:0; Vertex: claude-haiku-4-5@20251001; the dated API names; and the
# old order of the words: claude-3-5-haiku-20241022. A name with any other ending is another model, with other rules and prices.
_ENDING = r"(?:-v\d{1,2})?(?:[-@](?:\d{8}|latest|default))?(?:-v\d{1,2})?(?::\w{1,8}){0,2}\Z"
_NEW = re.compile(r"^claude-(haiku|sonnet|opus|fable|mythos)-(\d{1,2}(?:-\d{1,2})?)" + _ENDING)
_OLD = re.compile(r"^claude-(\d{1,2}(?:-\d{1,2})?)-(haiku|sonnet|opus)" + _ENDING)


@lru_cache(maxsize=256)
def identify(name: str) -> Model | None:
    """The Claude model that `name` stands for on any platform (API, Bedrock, Vertex), or None for another model."""
    bare = name.rsplit("/", 1)[-1].rsplit("anthropic.", 1)[-1].lower()
    if found := _NEW.match(bare):
        family, version = found.group(1), found.group(2)
    elif found := _OLD.match(bare):
        family, version = found.group(2), found.group(1)
    else:
        return None
    numbers = tuple(int(part) for part in version.split("-"))
    canonical = f"claude-{family}-{version}" if _NEW.match(bare) else f"claude-{version}-{family}"
    return Model(canonical, family, numbers, _platform(name.rsplit("/", 1)[-1].lower()))  # type: ignore[arg-type]


def _platform(name: str) -> Platform:
    if "anthropic." in name:  # anthropic.claude-… and us.anthropic.claude-… are regional, which costs more than global
        return "bedrock_global" if name.startswith("global.") else "bedrock"
    return "vertex" if "@" in name else "api"


@lru_cache(maxsize=256)
def rules_of(name: str) -> ModelRules | None:
    """The rules of the model that `name` stands for, or None if it is not in the table."""
    model = identify(name)
    return _TABLE.get((model.family, model.version)) if model else None
