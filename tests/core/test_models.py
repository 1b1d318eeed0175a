"""Which Claude model a name stands for, on any platform, and what that model takes."""

from __future__ import annotations

import pytest

from cascade.core.models import identify, rules_of

NAMES = [
    # the API: plain, dated, aliases
    ("claude-haiku-5-5", "claude-haiku-5-5"),
    ("claude-haiku-4-5-20251001", "claude-haiku-4-5"),
    ("claude-sonnet-4-20250514", "claude-sonnet-4"),
    ("claude-sonnet-4-0", "claude-sonnet-4-0"),
    ("claude-opus-4-1-20250805", "claude-opus-4-1"),
    ("Claude-Haiku-5-5", "claude-haiku-5-5"),
    ("anthropic/claude-haiku-5-5", "claude-haiku-5-5"),
    # Bedrock
    ("anthropic.claude-sonnet-4-6", "claude-sonnet-4-6"),
    ("us.anthropic.claude-haiku-4-5-20251001-v1:0", "claude-haiku-4-5"),
    ("global.anthropic.claude-opus-5-5-v1", "claude-opus-5-5"),
    ("anthropic.claude-3-haiku-20240307-v1:0:200k", "claude-3-haiku"),
    ("arn:aws:bedrock:us-east-1:1:inference-profile/us.anthropic.claude-sonnet-4-20250514-v1:0", "claude-sonnet-4"),
    # Vertex
    ("claude-haiku-4-5@20251001", "claude-haiku-4-5"),
    ("claude-opus-5-5@default", "claude-opus-5-5"),
    ("claude-3-5-sonnet-v2@20241022", "claude-3-5-sonnet"),
    # the old order of the words
    ("claude-3-5-haiku-20241022", "claude-3-5-haiku"),
    ("claude-3-opus-latest", "claude-3-opus"),
    # what stands above Opus
    ("claude-fable-5", "claude-fable-5"),
    ("claude-mythos-5-5", "claude-mythos-5-5"),
]


@pytest.mark.parametrize(("name", "canonical"), NAMES)
def test_a_claude_model_is_known_by_any_of_its_names(name: str, canonical: str) -> None:
    """The same canonical name on every platform."""
    model = identify(name)
    assert model is not None
    assert model.canonical == canonical
    assert model.family in canonical
    assert "-".join(map(str, model.version)) in canonical


@pytest.mark.parametrize(
    ("name", "platform"),
    [("claude-haiku-5-5", "api"), ("claude-haiku-4-5-20251001", "api"), ("anthropic/claude-haiku-5-5", "api"),
     ("anthropic.claude-haiku-5-5", "bedrock"), ("us-gov.anthropic.claude-haiku-4-5-20251001-v1:0", "bedrock"),
     ("arn:aws:bedrock:us-east-1:1:inference-profile/global.anthropic.claude-opus-5-5", "bedrock_global"),
     ("GLOBAL.anthropic.claude-opus-5-5-v1", "bedrock_global"), ("claude-opus-5-5@default", "vertex")],
)  # fmt: skip
def test_a_name_says_which_platform_it_is_for(name: str, platform: str) -> None:
    """Each platform has prices of its own."""
    model = identify(name)
    assert model is not None
    assert model.platform == platform


@pytest.mark.parametrize(
    "name",
    ["gpt-4.1", "llama-3", "haiku", "claude", "claude-2.1", "claude-haiku", "my-claude-haiku-5-5", "claude-haiku-5.5",
     "claude-haiku-5-5-turbo", "claude-haiku-4-5x", "claude-haiku-55-20", "claude-sonnet-5-5-5", "claude-lyric-5-5", ""],
)  # fmt: skip
def test_a_name_that_is_not_a_known_form_is_no_claude_model_of_ours(name: str) -> None:
    """An unknown ending names another model, of other rules and prices: nothing is assumed of it."""
    if name == "claude-haiku-55-20":  # a version that does not exist yet is a version all the same
        assert rules_of(name) is None
    else:
        assert identify(name) is None
        assert rules_of(name) is None


def test_models_are_ordered_by_capability() -> None:
    """Haiku, Sonnet, Opus, and what is above it."""
    names = ("claude-haiku-5-5", "claude-3-5-sonnet-latest", "claude-opus-4-7", "claude-fable-5")
    ranks = [model.rank for name in names if (model := identify(name))]
    assert ranks == [0, 1, 2, 3]


TAKES = [
    ("claude-haiku-4-5-20251001", True, False, {"disabled", "enabled"}, set[str](), True),
    ("claude-sonnet-4-6", False, False, {"disabled", "adaptive"}, {"low", "medium", "high", "max"}, True),
    ("claude-opus-4-7", False, False, {"disabled", "adaptive"}, {"low", "medium", "high", "xhigh", "max"}, True),
    ("claude-haiku-5-5", False, True, {"disabled", "adaptive"}, {"low", "medium", "high", "xhigh", "max"}, False),
    ("claude-sonnet-5-5", False, True, {"adaptive", "between_tools"}, {"low", "medium", "high", "xhigh", "max"}, False),
    ("us.anthropic.claude-opus-5-5-v1:0", False, True, {"adaptive"}, {"low", "medium", "high", "xhigh", "max"}, False),
]


@pytest.mark.parametrize(("name", "prefill", "thinks", "thinking", "efforts", "forced"), TAKES)
def test_each_shipped_model_takes_what_its_documentation_says(
    name: str, prefill: bool, thinks: bool, thinking: set[str], efforts: set[str], forced: bool
) -> None:
    """Anthropic's documentation, November 2026."""
    rules = rules_of(name)
    assert rules is not None
    assert (rules.prefill, rules.thinks_by_default, rules.forced_tool_choice) == (prefill, thinks, forced)
    assert (rules.thinking, rules.efforts) == (thinking, efforts)
