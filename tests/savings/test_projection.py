"""The bill, the bill under a policy, and where routing does not pay; in exact nano-USD."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.core.errors import UsageExportError
from cascade.core.messages import Usage
from cascade.core.policy import Policy, Price
from cascade.corpora import open_corpus
from cascade.policy.binding import bind_policy
from cascade.policy.loading import compose, load_policy
from cascade.savings import (
    Advice,
    Case,
    Mix,
    Period,
    PriceBook,
    Projection,
    Slice,
    advise,
    make_bill,
    mix_of_corpus,
    project,
    read_mix,
    read_prices,
    read_usage,
)
from tests.savings.scenes import GOOD, LARGE, MIX, advised, measured, observed, one, replayed

NANO = 1_000_000_000
OLD = ("claude-haiku-5-5=0.80/4", "claude-sonnet-5-5=3/15", "claude-opus-5-5=15/75")


def projected(slices: list[Slice], mix: str | Mix | None, *prices: str, policy: str = "default") -> Projection:
    """What these slices would cost under a policy."""
    ladder = load_policy(policy)
    book = PriceBook(read_prices(prices), ladder)
    told = read_mix(mix, [rung.rung for rung in ladder.ladder]) if isinstance(mix, str) else mix
    return project(slices, ladder, book, told, make_bill(slices, book).cost)


def test_the_published_figure_of_500_tasks_a_day_comes_out() -> None:
    """1.80 / 6.75 / 33.75 USD alone, 4.14 routed 80/15/5; a climb pays the rungs below as well: 4.8375."""
    shown = projected([one("claude-opus-5-5", Usage(1_000_000, 250_000), 500)], "80/15/5", *OLD).as_today
    assert shown.alone == (1_800_000_000, 6_750_000_000, 33_750_000_000)
    assert shown.routed == 4_140_000_000
    assert shown.climb == 4_837_500_000
    assert shown.climb_with_triage is not None
    assert shown.climb_with_triage > shown.climb
    assert round(1 - shown.routed / shown.alone[2], 3) == 0.877
    assert round(1 - shown.routed / shown.alone[1], 3) == 0.387


def test_the_published_figure_of_100m_output_tokens_comes_out() -> None:
    """900 against 2,500 USD at 70/20/10, at the list prices of the trio before 5.5 (5 / 15 / 25 out)."""
    shown = projected([one("claude-opus-4-7", Usage(0, 100_000_000))], "70/20/10", policy="classic").as_today
    assert (shown.routed, shown.alone[-1]) == (900 * NANO, 2_500 * NANO)
    assert shown.climb == (500 + 450 + 250) * NANO
    assert shown.climb_with_triage is None  # nobody knows how many requests that is


def test_the_published_bill_of_a_large_user_comes_out(tmp_path: Path) -> None:
    """1.25B tokens in and 100M out at 5/25: 8,750 USD, and measured."""
    path = tmp_path / "usage.csv"
    path.write_text("model,input_tokens,output_tokens\nclaude-opus-4-7,1250000000,100000000\n")
    bill = make_bill(read_usage(path).slices, PriceBook({}, load_policy("default")))
    assert (bill.cost, bill.basis) == (8_750 * NANO, "measured")


def test_cached_and_batched_tokens_cost_what_they_cost() -> None:
    """By hand, Opus 5.5: 4/20, writes 5 and 8, reads 0.20; a batch is half of all."""
    usage = Usage(1_000_000, 300_000, 2_000_000, 500_000, 8_000_000)
    book = PriceBook({}, load_policy("default"))
    bill = make_bill([one("claude-opus-5-5", usage), one("claude-opus-5-5", usage, batch=True)], book)
    assert [(line.batch, line.cost) for line in bill.lines] == [(False, 25_600_000_000), (True, 12_800_000_000)]
    plain = 11_500_000 * 4_000 + 300_000 * 20_000
    assert bill.otherwise["none", False] == plain + plain // 2
    assert bill.otherwise["as_exported", True] == 25_600_000_000


def test_another_vendors_rung_has_the_price_that_it_is_called_at() -> None:
    """Its vendor's table knows names that the search over all tables does not; a ledger with them must still be read."""
    rungs = [
        {"rung": "haiku", "model": "claude-haiku-5-5", "threshold": 0.8, "max_tokens": 9},
        {"rung": "top", "model": "babbage-002", "provider": "openai", "max_tokens": 9},
    ]
    policy = Policy.model_validate({"version": 1, "name": "two", "ladder": rungs})
    assert PriceBook({}, policy).both("babbage-002").live == bind_policy(policy).rates[1]


def test_a_price_by_length_is_an_estimate_unless_every_row_is_a_request() -> None:
    """Haiku 5.5 costs five times as much past 100,000 tokens: the average prompt decides, and the line says so."""
    book = PriceBook({}, load_policy("default"))
    long, short = Usage(200_000, 0), Usage(100_000, 0)
    sure = make_bill([one("claude-haiku-5-5", long, 1, size=199), one("claude-haiku-5-5", short, 1, size=99)], book)
    assert (sure.cost, sure.basis) == (100_000_000 + 10_000_000, "measured")
    assert make_bill([one("claude-haiku-5-5", long, 2, size=99)], book).basis == "estimate"


def test_an_unknown_model_is_an_error_with_its_mend() -> None:
    """Never a price of 0; `--price` gives it one, which the ladder's own model takes too."""
    policy = load_policy("default")
    slices = [one("made-up", Usage(1_000_000, 0))]
    with pytest.raises(UsageExportError, match=r"no price for model 'made-up' \(--price made-up=IN/OUT\)"):
        make_bill(slices, PriceBook({}, policy))
    assert make_bill(slices, PriceBook(read_prices(["made-up=2/3"]), policy)).cost == 2 * NANO
    for wrong in ("x", "x=1", "x=1/-2", "x=a/b", "=1/2", "x=1/nan"):
        with pytest.raises(UsageExportError, match="is not a price"):
            read_prices([wrong])


def test_a_rungs_discount_is_off_the_price_of_the_rows_platform() -> None:
    """The policy asks Anthropic's API, the export is Bedrock's: a tenth off Bedrock's regional price."""
    first, *others = load_policy("default").ladder
    policy = load_policy("default").model_copy(update={"ladder": (first.model_copy(update={"discount": 0.1}), *others)})
    book = PriceBook({}, policy)
    assert book.rates("claude-haiku-5-5").tiers[0][1].input == 90_000_000
    assert book.rates("us.anthropic.claude-haiku-5-5").tiers[0][1].input == 99_000_000


@pytest.mark.parametrize("text", ["80/20", "80/15/6", "a/b/c", "120/-20/0", "", "1/0/0/0", "1//0"])
def test_a_mix_is_a_share_for_every_rung(text: str) -> None:
    """What does not add up is refused; thirds may be told as fractions of 1."""
    with pytest.raises(UsageExportError, match="--mix"):
        read_mix(text, ["a", "b", "c"])
    assert read_mix("0.5/0.25/0.25", ["a", "b", "c"]).escalation == (Fraction(1, 2), Fraction(1, 2))


@given(
    tokens=st.integers(1, 10**12),
    weights=st.lists(st.integers(0, 50), min_size=3, max_size=3).filter(any),
)
def test_a_climb_is_never_cheaper_than_routing(tokens: int, weights: list[int]) -> None:
    """It pays the rungs below as well; all on the first rung they are the same, and all shares are exact."""
    whole = sum(weights)
    shares = tuple(Fraction(weight, whole) for weight in weights)
    reached = (Fraction(1), shares[1] + shares[2], shares[2])
    shown = projected([one("claude-opus-5-5", Usage(tokens, tokens))], Mix(shares, reached, "estimate")).as_today
    assert shown.routed is not None
    assert shown.climb is not None
    exact = sum(share * cost for share, cost in zip(shares, shown.alone, strict=True))
    assert abs(shown.routed - exact) <= Fraction(1, 2)
    below = sum(share * cost for share, cost in zip(reached[1:], shown.alone[:-1], strict=True))
    assert shown.climb - shown.routed >= 0
    assert (shown.climb == shown.routed) == (below < 1)


def test_break_even_is_where_the_climb_meets_the_single_model() -> None:
    """0.01 % below it the climb is no dearer, 0.01 % above it is."""
    shown = projected([one("claude-opus-4-7", Usage(10_000_000, 1_000_000), 1_000)], "50/30/20", policy="classic")
    limit = shown.break_even[0]
    assert limit is not None
    assert 0 < limit < 1
    costs = dict(shown.at_rate)
    assert sorted(costs.values()) == list(costs.values())
    first, at_ten = costs[Fraction(0)], costs[Fraction(1, 10)]
    exact = Fraction(shown.as_today.alone[1] - first, (at_ten - first) * 10)
    assert abs(limit - exact) < Fraction(1, 5_000)


def codes(advice: Advice) -> set[str]:
    """What speaks against routing."""
    return {finding.code for finding in advice.findings if finding.against}


def test_routing_does_not_pay_for_few_requests_or_little_money() -> None:
    """A hundred requests a month prove no threshold, and save nothing worth a corpus."""
    advice = advised([one("claude-opus-5-5", Usage(200_000, 20_000), 100)], MIX)
    assert advice.pays is False
    assert codes(advice) == {"small_saving"}
    assert "few_requests" in {finding.code for finding in advice.findings}


def test_routing_does_not_pay_where_everything_is_on_the_cheapest_model() -> None:
    """There is nothing cheaper to route to."""
    advice = advised([one("claude-haiku-5-5", Usage(2_000_000_000, 100_000_000), 1_000_000)], MIX)
    assert codes(advice) == {"cheapest_already"}


def test_routing_does_not_pay_past_break_even() -> None:
    """The corpus escalates more than the climb can bear: at 1 : 3 : 5 escalating everything costs 9 against 5."""
    half = Mix(
        (Fraction(1, 10), Fraction(1, 10), Fraction(4, 5)), (Fraction(1), Fraction(9, 10), Fraction(4, 5)), "measured"
    )
    advice = advised([one("claude-opus-4-7", Usage(2_000_000_000, 100_000_000), 1_000_000)], half, policy="classic")
    assert advice.pays is False
    assert {"dearer_than_today", "break_even"} <= codes(advice)


def test_what_is_not_measured_is_said_to_be_unknown() -> None:
    """With a guessed mix, or none, the advice is neither yes nor no."""
    assert advised(LARGE, MIX).pays is None
    assert advised(LARGE, MIX).verdict == "whether routing pays is not known"
    assert advised(LARGE, None).pays is None
    assert {finding.code for finding in advised(LARGE, None).findings} == {"mix_unknown", "signal_unknown"}


def test_a_measured_mix_brings_the_signal_and_the_stakes() -> None:
    """On the synthetic corpus: a large saving, what it costs in quality, and what a further mistake may cost for it to pay.

    It is not said to pay: answers that are worse for less money are not the same answers for less money.
    """
    advice = advised(LARGE, measured(load_policy("default")))
    assert (advice.pays, advice.instead) == (None, None)
    assert {finding.code for finding in advice.findings} == {"stakes", "uncertified"}
    assert advice.verdict.startswith("routing saves ")
    assert (
        f"but quality falls from 0.9575 (opus alone) to {replayed(load_policy('default')).figures.quality:.4f} on the corpus"
        in advice.verdict
    )
    assert advice.verdict.endswith(": the answers are not as good")


def test_routing_pays_where_the_answers_are_no_worse(tmp_path: Path) -> None:
    """No single model is better than the cascade: what it saves is saved, and the sentence says at which quality."""
    advice = advised(LARGE, observed(tmp_path, [said for said in GOOD for _ in range(7)]), certified=True)
    assert (advice.pays, advice.instead) == (True, None)
    assert advice.verdict.startswith("routing pays: it saves ")
    assert advice.verdict.endswith(
        "at no lower quality than any single model's: quality 1.0000 on the corpus, against 1.0000 of the best single"
        " model, sonnet"
    )


def test_a_single_model_that_is_as_good_for_less_is_the_advice(tmp_path: Path) -> None:
    """It is named, and routing is not said to pay; of two that would do, the better one."""
    unsure = (*[((0.1, 1), (0.1, 1), 1)] * 3, *[((0.1, 0), (0.1, 1), 1)] * 3, ((0.1, 0), (0.9, 0), 1))
    advice = advised(LARGE, observed(tmp_path, unsure))  # six of seven pay all three: Opus alone is right, for less
    assert (advice.pays, advice.instead) == (False, "opus")
    assert advice.verdict == (
        "routing does not pay here: opus alone costs no more and is at least as good (1.0000 against 0.8571):"
        " use opus alone; few items (14): an estimate"
    )
    assert "dominated" in codes(advice)


def test_what_the_corpus_itself_cost_counts_as_well(tmp_path: Path) -> None:
    """Sonnet needs a tenth of Haiku's tokens for the same answers: on the export's traffic that cannot be seen."""
    mix = observed(tmp_path, GOOD, tokens=(30_000, 100, 100))
    assert mix.observed is not None
    assert mix.observed.cost == 16 * 30_000 * 500 + 4 * 100 * 10_000
    assert mix.observed.single_costs == (16 * 30_000 * 500, 16 * 100 * 10_000, 16 * 100 * 20_000)
    advice = advised(LARGE, mix)
    assert (advice.pays, advice.instead) == (False, "sonnet")
    assert [finding.basis for finding in advice.findings if finding.code == "dominated"] == ["estimate"]
    assert "sonnet alone costs no more on the corpus and is at least as good" in advice.verdict


def test_a_confidence_that_tells_nothing_is_no_signal(tmp_path: Path) -> None:
    """Every answer at 0.9, half of them wrong: AUROC 0.5; and one task without a floor is uniform stakes."""
    lines = ['{"corpus": "flat", "version": 1, "ladder": [{"rung": "haiku"}, {"rung": "sonnet"}, {"rung": "opus"}]}']
    for number in range(40):
        replies = ", ".join(
            f'"{rung}": {{"confidence": 0.9, "answer": "x", "score": {score}}}'
            for rung, score in (("haiku", number % 2), ("sonnet", 1), ("opus", 1))
        )
        lines.append(f'{{"id": "i{number}", "input": "q{number}", "replies": {{{replies}}}}}')
    path = tmp_path / "flat.jsonl"
    path.write_text("\n".join(lines) + "\n")
    with open_corpus(path) as reader:
        mix = mix_of_corpus(reader, load_policy("default"))
    assert mix.observed is not None
    assert mix.observed.auroc == 0.5
    advice = advised(LARGE, mix)
    assert advice.pays is False
    assert codes(advice) == {"no_signal", "dominated"}  # all is shipped by haiku: without triage it costs less
    assert "uniform_stakes" in {finding.code for finding in advice.findings}


def test_an_assumed_cache_is_reckoned_and_told_apart() -> None:
    """By hand, Opus 5.5 at 4/20: of 1M in, 50 % cached: 450k read at 0.20, 50k written at 5, 500k at 4."""
    policy = load_policy("default")
    slices, book = [one("claude-opus-5-5", Usage(1_000_000, 0))], PriceBook({}, policy)
    bill = make_bill(slices, book, Fraction(1, 2))
    assert bill.cost == 4 * NANO
    assert bill.otherwise["assumed", False] == 90_000_000 + 250_000_000 + 2_000_000_000
    shown = project(slices, policy, book, None, bill.cost, Fraction(1, 2))
    assert [one.alone[2] for one in shown.variants if one.caching == "assumed" and not one.all_batch] == [2_340_000_000]
    assert "assumed" not in {caching for caching, _ in make_bill(slices, book).otherwise}


def test_few_items_are_an_estimate_in_every_verdict(tmp_path: Path) -> None:
    """Fewer than 100: the line says so, and the findings that rest on them are estimates; with 100 they are measured."""
    small, large = observed(tmp_path, GOOD), observed(tmp_path, [said for said in GOOD for _ in range(7)])
    few = [advised(LARGE, small), advised([one("claude-opus-5-5", Usage(200_000, 20_000), 100)], small)]
    assert all(advice.verdict.endswith("; few items (16): an estimate") for advice in few)
    assert {"few_items"} <= {finding.code for finding in few[0].findings}
    assert few[1].verdict.startswith(
        "routing does not pay here (quality 1.0000 on the corpus, against 1.0000 of the best"
    )
    many = advised(LARGE, large)
    assert "few items" not in many.verdict
    assert "few_items" not in {finding.code for finding in many.findings}


@pytest.mark.parametrize(
    ("days", "assumed", "basis"), [(30, False, "measured"), (1, False, "estimate"), (30, True, "estimate")]
)
def test_a_scaled_or_assumed_month_is_an_estimate(days: int, assumed: bool, basis: str) -> None:
    """A hundred requests a day are not 3,000 that anybody counted; thirty days of them are."""
    policy, slices = load_policy("default"), [one("claude-opus-5-5", Usage(200_000, 20_000), 50)]
    book = PriceBook({}, policy)
    bill = make_bill(slices, book)
    shown = project(slices, policy, book, None, bill.cost)
    advice = advise(Case(bill, shown, policy, None, None, 50, Period(Fraction(days), "so", assumed=assumed)))
    assert [finding.basis for finding in advice.findings if finding.code == "few_requests"] == [basis]


def test_the_policys_own_prices_hold_for_all_that_it_calls() -> None:
    """A sample's other model and a summariser have no list price here: the book has the policy's."""
    text = """
version: 1
name: wide
prepare: {summarize: {by: {rung: short, model: made-up-summariser, max_tokens: 100, price: {input: 7, output: 8}}}}
ladder:
  - rung: haiku
    model: claude-haiku-5-5
    threshold: 0.8
    max_tokens: 100
    samples: {max: 2, agree: 2, same: exact, variants: [confidence_first, {prompt: doubt, model: made-up-voter, price: {input: 5, output: 6}}]}
  - {rung: sonnet, model: claude-sonnet-5-5, max_tokens: 100}
"""
    values, parsed = {"made-up-summariser": 7, "made-up-voter": 5}, compose(text)[1]
    book = PriceBook({}, Policy.model_validate(parsed))
    assert {model: book.rates(model).tiers[0][1].input for model in values} == {
        model: usd * NANO for model, usd in values.items()
    }


def test_a_batch_costs_half_of_the_list_and_of_the_users_price_but_all_of_the_policys_own() -> None:
    """As the ladder itself is billed in batches: an endpoint with a price of its own grants no discount that nobody told."""
    first, *others = load_policy("default").ladder
    priced = first.model_copy(update={"price": Price(input=Decimal(2), output=Decimal(4))})
    policy = load_policy("default").model_copy(update={"ladder": (priced, *others)})
    book = PriceBook(read_prices(["claude-opus-5-5=10/20"]), policy)
    inputs = [[rates.tiers[0][1].input for rates in book.both(rung.model)] for rung in policy.ladder]
    assert inputs == [[2 * NANO, 2 * NANO], [2 * NANO, NANO], [10 * NANO, 5 * NANO]]
    plan = bind_policy(policy, batch=True)
    assert [book.rates(rung.model, batch=True) for rung in policy.ladder[:2]] == list(plan.rates[:2])
