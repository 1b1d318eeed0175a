"""Usage to money: the list prices we ship, and arithmetic that loses nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import pytest
from genai_prices.data_snapshot import get_snapshot
from hypothesis import given
from hypothesis import strategies as st

from cascade.core.errors import PolicyError
from cascade.core.messages import Usage
from cascade.core.models import identify
from cascade.core.policy import Rung
from cascade.core.prices import Rates, RateTier, cost
from cascade.policy.binding import baseline_rung, bind_policy
from cascade.policy.loading import load_policy
from cascade.policy.pricing import NoPrice, rates_of
from cascade.policy.shipped import names

from .builders import policy_of

# List prices in USD per million tokens on the day of SNAPSHOT: input, output, cache write 5m, 1h, cache read. Who changes
# one looks all of them up again, and sets the day.
SNAPSHOT = "2026-11-21"
LISTED = {
    "claude-haiku-4-5": ["1", "5", "1.25", "2", "0.10"],
    "claude-sonnet-4-6": ["3", "15", "3.75", "6", "0.30"],
    "claude-opus-4-7": ["5", "25", "6.25", "10", "0.50"],
    "claude-haiku-5-5": ["0.10", "0.50", "0.125", "0.20", "0.01"],
    "claude-sonnet-5-5": ["2", "10", "2.5", "4", "0.10"],
    "claude-opus-5-5": ["4", "20", "5", "8", "0.20"],
    "gpt-6-luna": ["0.10", "0.50", "0.125", "0.125", "0.01"],
}
LONG = {
    "claude-haiku-5-5": (100_000, ["0.50", "2.50", "0.625", "1", "0.05"]),
    "gpt-6-luna": (272_000, ["0.20", "0.75", "0.25", "0.25", "0.02"]),
}  # prompts above so many tokens
NAMES = ("input", "output", "write_5m", "write_1h", "read")


def tier(prices: list[str], factor: str = "1") -> RateTier:
    """A tier of these prices."""
    return RateTier.from_usd(**dict(zip(NAMES, map(Decimal, prices), strict=True)), factor=Decimal(factor))


def rung(model: str, **more: Any) -> Rung:
    """A rung with this model, of the vendor that its name says."""
    provider = "openai" if model.startswith("gpt-") else "anthropic"
    return Rung.model_validate({"rung": "r", "model": model, "max_tokens": 1, "provider": provider, **more})


def listed(model: str, factor: str = "1") -> tuple[tuple[int, RateTier], ...]:
    """The tiers of a model as the snapshot has them."""
    above = [(start, tier(prices, factor)) for start, prices in (LONG[model],)] if model in LONG else []
    return ((0, tier(LISTED[model], factor)), *above)


def shipped_models() -> list[str]:
    """Every model that a shipped policy names, found in the files."""
    policies = [load_policy(name) for name in names("policies")]
    on_ladders = {rung.model for policy in policies for rung in policy.ladder}
    beside = {rung.model for policy in policies for rung, _ in bind_policy(policy).auxiliaries.values()}
    return sorted(on_ladders | beside | {baseline_rung(policy).model for policy in policies})


@pytest.mark.parametrize("model", shipped_models())
def test_each_shipped_model_has_its_list_price(model: str) -> None:
    """The price table's numbers are the published ones; a change of either is seen here, and a model without a snapshot."""
    assert model in LISTED, f"{model} ships without a price snapshot: look its prices up, and set SNAPSHOT ({SNAPSHOT})"
    assert rates_of(rung(model)).tiers == listed(model)


def test_the_snapshot_holds_nothing_that_does_not_ship() -> None:
    """A model that is gone from the policies goes from here: nobody would look its price up again."""
    assert sorted(LISTED) == shipped_models()
    assert set(LONG) <= set(LISTED)


@pytest.mark.parametrize("model", shipped_models())
def test_a_batch_is_half_of_every_price(model: str) -> None:
    """Input, output, both cache writes, cache reads, in every tier; and a discount comes off that."""
    assert rates_of(rung(model), batch=True).tiers == listed(model, "0.5")
    assert rates_of(rung(model, discount=0.2), batch=True).tiers == listed(model, "0.4")
    usage = Usage(1_000, 2_000, 3_000, 4_000, 110_000)
    assert 2 * cost(rates_of(rung(model), batch=True), usage) == cost(rates_of(rung(model)), usage)


def test_a_price_of_ones_own_is_what_a_batch_costs_too() -> None:
    """The endpoint's price is its own: nobody said that it halves for a batch."""
    own = rung("mine", price={"input": "1.5", "output": "7"})
    assert rates_of(own, batch=True) == rates_of(own)


# The platforms' list prices on the day of SNAPSHOT, as above. In a region Bedrock takes a tenth more than Anthropic; globally
# Bedrock and Vertex AI take the same. Sonnet 4 is from before that.
PLATFORMS = {
    "us.anthropic.claude-haiku-4-5-20251001-v1:0": ["1.1", "5.5", "1.375", "2.2", "0.11"],
    "anthropic.claude-haiku-4-5": ["1.1", "5.5", "1.375", "2.2", "0.11"],
    "eu.anthropic.claude-sonnet-4-6": ["3.3", "16.5", "4.125", "6.6", "0.33"],
    "apac.anthropic.claude-opus-4-7": ["5.5", "27.5", "6.875", "11", "0.55"],
    "anthropic.claude-sonnet-5-5": ["2.2", "11", "2.75", "4.4", "0.11"],
    "jp.anthropic.claude-opus-5-5": ["4.4", "22", "5.5", "8.8", "0.22"],
    "arn:aws:bedrock:eu-west-1:1:inference-profile/eu.anthropic.claude-opus-5-5": ["4.4", "22", "5.5", "8.8", "0.22"],
    "us.anthropic.claude-sonnet-4-20250514-v1:0": ["3", "15", "3.75", "3.75", "0.30"],
    "global.anthropic.claude-haiku-4-5-20251001-v1:0": LISTED["claude-haiku-4-5"],
    "global.anthropic.claude-sonnet-4-6": LISTED["claude-sonnet-4-6"],
    "global.anthropic.claude-opus-5-5-v1": LISTED["claude-opus-5-5"],
    "claude-haiku-4-5@20251001": LISTED["claude-haiku-4-5"],
    "claude-opus-4-7@default": LISTED["claude-opus-4-7"],
    "claude-sonnet-5-5@20261007": LISTED["claude-sonnet-5-5"],
}


@pytest.mark.parametrize("name", PLATFORMS)
def test_a_platforms_name_has_the_platforms_price(name: str) -> None:
    """Bedrock's regional price is not Anthropic's; a batch is half of the platform's own."""
    assert rates_of(rung(name)).tiers == ((0, tier(PLATFORMS[name])),)
    assert rates_of(rung(name), batch=True).tiers == ((0, tier(PLATFORMS[name], "0.5")),)
    assert rates_of(rung(name, discount=0.1)).tiers == ((0, tier(PLATFORMS[name], "0.9")),)


def test_a_platforms_long_prompts_have_the_platforms_price() -> None:
    """Every tier of it."""
    tiers = rates_of(rung("us.anthropic.claude-haiku-5-5")).tiers
    above, long = LONG["claude-haiku-5-5"]
    assert tiers == ((0, tier(LISTED["claude-haiku-5-5"], "1.1")), (above, tier(long, "1.1")))


def test_all_names_of_a_model_on_a_platform_have_one_price() -> None:
    """The table lists some models more than once: which one is found must not matter."""
    now = datetime.now(UTC)
    found: dict[tuple[object, ...], set[str]] = {}
    for provider in get_snapshot().providers:
        for info in provider.models if provider.id in ("anthropic", "aws", "google") else ():
            if known := identify(info.id):
                key = (provider.id, known.family, known.version, known.platform)
                found.setdefault(key, set()).add(repr(info.get_prices(now)))
    assert len(found) > 50
    assert {key: prices for key, prices in found.items() if len(prices) > 1} == {}


@pytest.mark.parametrize("name", ["claude-haiku-4-5-20251001", "claude-haiku-4-5-latest", "anthropic/claude-haiku-4-5"])
def test_a_model_has_its_price_under_any_of_its_names(name: str) -> None:
    """The dated names and the aliases find the list price of the canonical one."""
    assert rates_of(rung(name)) == rates_of(rung("claude-haiku-4-5"))


@pytest.mark.parametrize(
    "name",
    [
        "claude-haiku-9-9",
        "claude-haiku-5-5-turbo",
        "claude-haiku-4-5x",
        "claude-haiku-4-50",
        "us.anthropic.claude-opus-4-70",
        "global.anthropic.claude-haiku-9-9",
        "claude-opus-4-70@20260101",
        "us.anthropic.claude-haiku-4-5-fast-v1:0",
        "my-model",
        "claude",
    ],
)
def test_an_unknown_model_is_an_error_and_never_free(name: str) -> None:
    """Also a name that only begins like a known one; the plan says which rung, and what to do."""
    for batch in (False, True):
        with pytest.raises(NoPrice, match="no price"):
            rates_of(rung(name), batch=batch)
    models = ("claude-haiku-9-9", "model-1", "model-2")
    with pytest.raises(PolicyError, match=r"ladder\[0\]\.model: .*claude-haiku-9-9.*give the rung a price"):
        bind_policy(policy_of(models=models, price=None))


@pytest.mark.parametrize(("tokens", "nano"), [(100_000, 10_000_000), (100_001, 50_000_500)])
def test_a_long_prompt_is_billed_at_the_long_rate_from_its_first_token(tokens: int, nano: int) -> None:
    """100,000 tokens at 0.10 USD per million, 100,001 all at 0.50."""
    assert cost(rates_of(rung("claude-haiku-5-5")), Usage(input_tokens=tokens)) == nano


def test_the_length_of_a_prompt_counts_what_was_cached() -> None:
    """Reads and writes are part of the prompt: 1 fresh token after 100,000 cached ones is a long prompt."""
    usage = Usage(input_tokens=1, cache_read=60_000, cache_write_5m=30_000, cache_write_1h=10_000, output_tokens=10)
    expected = 1 * 500 + 60_000 * 50 + 30_000 * 625 + 10_000 * 1_000 + 10 * 2_500
    assert cost(rates_of(rung("claude-haiku-5-5")), usage) == expected


def test_a_discount_is_off_every_price() -> None:
    """Ten per cent less, exactly."""
    assert rates_of(rung("claude-opus-5-5", discount=0.1)).tiers == ((0, tier(LISTED["claude-opus-5-5"], "0.9")),)
    own = rung("mine", price={"input": "1.5", "output": "7"}, discount=0.25)
    assert rates_of(own).tiers[0][1].input == 1_125_000_000


def test_a_price_of_ones_own_beats_the_list() -> None:
    """What it leaves out of the cache is priced as input, not as nothing."""
    own = rung("claude-haiku-5-5", price={"input": "3", "output": "9", "cache_read": "0.5"})
    assert rates_of(own).tiers == ((0, tier(["3", "9", "3", "3", "0.5"])),)
    free = rung("local", price={"input": 0, "output": 0})
    assert cost(rates_of(free), Usage(10, 10)) == 0


COUNTS = st.integers(0, 2_000_000)
USAGES = st.builds(Usage, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS)
USD = st.decimals(0, 1_000, places=9)


@given(usage=USAGES, prices=st.lists(USD, min_size=5, max_size=5))
def test_a_cost_is_exact_to_the_nano_usd(usage: Usage, prices: list[Decimal]) -> None:
    """Against Decimal: the very sum, rounded once, half up."""
    rates = Rates(((0, RateTier.from_usd(**dict(zip(NAMES, prices, strict=True)), factor=Decimal(1))),))
    counts = (usage.input_tokens, usage.output_tokens, usage.cache_write_5m, usage.cache_write_1h, usage.cache_read)
    usd = sum((count * price for count, price in zip(counts, prices, strict=True)), Decimal(0)) / 1_000_000
    assert cost(rates, usage) == int((usd * 1_000_000_000).to_integral_value(ROUND_HALF_UP))


@given(usages=st.lists(USAGES, max_size=5))
def test_usages_add_up(usages: list[Usage]) -> None:
    """Field by field, in any order; and at whole prices costs add up with them."""
    total, back = sum(usages, Usage()), sum(reversed(usages), Usage())
    assert total == back
    whole = Rates(((0, tier(["1", "2", "3", "4", "5"])),))
    assert cost(whole, total) == sum(cost(whole, usage) for usage in usages)


API: list[tuple[dict[str, Any], Usage]] = [
    ({"input_tokens": 3, "output_tokens": 2}, Usage(3, 2)),
    ({}, Usage()),
    ({"input_tokens": None, "output_tokens": None, "cache_creation": None, "output_tokens_details": None}, Usage()),
    ({"input_tokens": 1, "output_tokens": 9, "output_tokens_details": {"thinking_tokens": 7}}, Usage(1, 9, thinking_tokens=7)),
    ({"cache_creation_input_tokens": 60, "cache_read_input_tokens": 5}, Usage(cache_write_5m=60, cache_read=5)),
    ({"cache_creation_input_tokens": 60,
      "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 40}},
     Usage(cache_write_5m=20, cache_write_1h=40)),
    ({"cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 40}},
     Usage(cache_write_5m=20, cache_write_1h=40)),
]  # fmt: skip


@pytest.mark.parametrize(("api", "usage"), API)
def test_the_apis_usage_is_read_without_losing_a_token(api: dict[str, Any], usage: Usage) -> None:
    """Input excludes the cache; a write without its split is the 5m default; nulls are nothing."""
    assert Usage.from_api(api) == usage


@pytest.mark.parametrize(
    "name",
    [
        "gpt-6-luna-turbo", "gpt-5-nano-of-ours", "ft:gpt-4o:us", "claude-haiku-5-5", "gemini-2.5-flash", "openai/gpt-6-luna", "",
    ],
)  # fmt: skip
def test_another_vendors_model_is_found_by_its_exact_name_alone(name: str) -> None:
    """In that vendor's table: neither by a prefix nor among the models of others."""
    with pytest.raises(NoPrice, match=f"no price for model '{name}' of provider openai"):
        rates_of(Rung.model_construct(rung="r", model=name, max_tokens=1, provider="openai"))


def test_another_vendors_dated_name_has_the_models_price() -> None:
    """As its table lists it."""
    assert rates_of(rung("gpt-6-luna-2026-10-01")) == rates_of(rung("gpt-6-luna"))
    assert rates_of(rung("gpt-4.1-2025-04-14")).tiers == ((0, tier(["2", "8", "2", "2", "0.5"])),)


def test_in_a_batch_run_another_vendors_model_is_called_live_at_list_price() -> None:
    """Message Batches has only Claude models; the summariser costs what it costs live."""
    policy = load_policy("customer-service")
    (_, live), (_, batch) = (bind_policy(policy, batch=one).auxiliaries["summariser"] for one in (False, True))
    assert batch == live
    assert bind_policy(policy, batch=True).rates != bind_policy(policy).rates
