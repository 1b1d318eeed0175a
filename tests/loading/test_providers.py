"""The law of the ladder with other vendors on it: Haiku first, Opus never past Sonnet, the others above or beside."""

from __future__ import annotations

from typing import Any

import pytest

from cascade.core.errors import PolicyError
from cascade.core.policy import Policy, Rung
from cascade.core.policy.ladder import asked_as
from cascade.policy.certificates import hashes_of
from cascade.policy.loading import parse_policy

HAIKU, SONNET, OPUS = "claude-haiku-5-5", "claude-sonnet-5-5", "claude-opus-5-5"
LUNA = "gpt-6-luna, provider: openai"
ROUTED = (
    "anthropic/claude-opus-4.5, provider: openai, base_url: 'https://router.test/v1', price: {input: 5, output: 25}"
)


def ladder(*models: str) -> str:
    """A policy's text with these models, from the cheapest to the strongest."""
    last = len(models) - 1
    rungs = [
        f"  - {{rung: r{n}, model: {model}, max_tokens: 9{'' if n == last else ', threshold: 0.8'}}}"
        for n, model in enumerate(models)
    ]
    return "\n".join(["version: 1", "name: x", "ladder:", *rungs])


@pytest.mark.parametrize(
    "models",
    [
        (HAIKU, LUNA),
        (HAIKU, LUNA, SONNET, OPUS),
        (HAIKU, SONNET, LUNA, OPUS),
        (HAIKU, SONNET, OPUS, LUNA),
        (HAIKU, LUNA, "gpt-6-sol, provider: openai"),
    ],
)
def test_other_vendors_stand_above_haiku(models: tuple[str, ...]) -> None:
    """In any place but the first."""
    assert len(parse_policy(ladder(*models)).ladder) == len(models)


@pytest.mark.parametrize(
    ("models", "where", "why"),
    [
        ((LUNA, HAIKU), r"ladder\[0\]\.provider", "the ladder starts at gpt-6-luna, a model of provider openai"),
        ((SONNET, LUNA), r"ladder\[0\]\.model", "the ladder starts at claude-sonnet-5-5"),
        ((HAIKU, LUNA, OPUS), r"ladder\[2\]\.model", "the ladder jumps to claude-opus-5-5 past Sonnet"),
        ((HAIKU, SONNET, LUNA, HAIKU), r"ladder\[3\]\.model", "a step down"),
        ((HAIKU, ROUTED), r"ladder\[1\]\.model", "the ladder jumps to anthropic/claude-opus-4.5 past Sonnet"),
    ],
)
def test_they_do_not_break_the_law(models: tuple[str, ...], where: str, why: str) -> None:
    """They neither begin the ladder nor stand in for Sonnet."""
    with pytest.raises(PolicyError, match=rf"{where}.*{why}"):
        parse_policy(ladder(*models))


def test_their_thinking_is_off_or_their_own() -> None:
    """Kinds of thinking are Claude's."""
    assert parse_policy(ladder(HAIKU, f"{LUNA}, thinking: disabled, effort: max")).ladder[1].effort == "max"
    with pytest.raises(PolicyError, match=r"thinking: provider openai does not take this kind"):
        parse_policy(ladder(HAIKU, f"{LUNA}, thinking: adaptive"))


@pytest.mark.parametrize(
    ("by", "why"),
    [
        (
            "model: gpt-6-luna, provider: openai, max_tokens: 99, thinking: {budget_tokens: 2000}",
            "does not take this kind",
        ),
        (f"model: {HAIKU}, max_tokens: 999999", "answers with at most 128000 tokens"),
        ("model: claude-haiku-4-5, max_tokens: 99, effort: low", "does not take effort"),
    ],
)
def test_what_a_summarisers_model_does_not_take_is_told_with_the_policy(by: str, why: str) -> None:
    """As a rung's is: else each summary would fail, and each climb would go on with the whole conversation."""
    with pytest.raises(PolicyError, match=rf"prepare\.summarize\.by.*{why}"):
        parse_policy(f"{ladder(HAIKU, SONNET)}\nprepare: {{summarize: {{by: {{rung: s, {by}}}}}}}")


def test_their_models_need_a_price_of_their_vendors_table() -> None:
    """A name that only begins like one of its models is an error, with the way to mend it."""
    with pytest.raises(
        PolicyError, match=r"no price for model 'gpt-6-luna-2' of provider openai.*give the rung a price"
    ):
        parse_policy(ladder(HAIKU, "gpt-6-luna-2, provider: openai"))
    parse_policy(ladder(HAIKU, "gpt-6-luna-2, provider: openai, price: {input: 1, output: 2}"))


def test_an_unknown_vendor_is_refused() -> None:
    """With those that are known."""
    with pytest.raises(PolicyError, match=r"provider.*anthropic.*openai"):
        parse_policy(ladder(HAIKU, "m, provider: other"))


def test_a_variant_is_of_the_vendor_that_it_names() -> None:
    """Not of its rung's: another vendor's rung may have a Claude vote, and the reverse. Without a model it names none."""
    rung = Rung.model_validate({"rung": "r", "model": "gpt-6-luna", "max_tokens": 9, "provider": "openai"})
    values: dict[str, Any] = {
        "version": 1, "name": "x",
        "ladder": [
            {
                "rung": "haiku", "model": HAIKU, "max_tokens": 9,
                "samples": {"max": 2, "agree": 2, "variants": ["steps", {"model": "gpt-6-luna", "provider": "openai"}]},
            },
            {"rung": "sonnet", "model": SONNET, "max_tokens": 9},
        ],
    }  # fmt: skip
    policy = Policy.model_validate(values)
    assert [(voter.model, voter.provider) for voter in policy.panel] == [("gpt-6-luna", "openai")]
    claude = policy.ladder[0].samples
    assert claude is not None
    there = values["ladder"][0]["samples"]["variants"]
    values["ladder"][0]["samples"]["variants"] = [there[0], {"model": "gpt-6-luna", "price": {"input": 1, "output": 1}}]
    other = Policy.model_validate(values)
    assert hashes_of(policy)["models"] != hashes_of(other)["models"], "a certificate holds for one of them"
    values["ladder"][0]["samples"]["variants"] = there
    votes = claude.variants[1].model_copy(update={"model": HAIKU, "provider": "anthropic"})
    assert asked_as(rung, votes).provider == "anthropic"
    values["ladder"][0]["samples"]["variants"][1] = {"prompt": "doubt", "provider": "openai"}
    with pytest.raises(ValueError, match="provider is of another model"):
        Policy.model_validate(values)
