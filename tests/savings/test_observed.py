"""What `savings` says of a ledger: by what the saving came about, to the nano-dollar, and what is not counted."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.cli.savings.command import SavingsOptions, run_savings
from cascade.cli.savings.ledger import LedgerReport
from cascade.core.errors import LedgerError, UsageExportError
from cascade.core.messages import Usage
from cascade.core.policy import Policy
from cascade.core.prepared import Handed
from cascade.core.step_calls import with_auxiliary
from cascade.core.trail import Sample, Step, Verdict
from cascade.core.triage import triage_tokens
from cascade.core.verification import Review
from cascade.core.voting import Vote
from cascade.costs import Period
from cascade.ledger.opening import open_reader
from cascade.ledger.requests import gather
from cascade.policy.loading import load_policy
from cascade.savings import DAYS_A_MONTH, Observed, Parts, PriceBook, observe
from tests.savings.ledger_books import NANO, NOW, Books

POLICY = load_policy("default")
RULES, ENVELOPE = triage_tokens(POLICY)
Tell = Callable[..., str]


def asked(prompt: int, output: int) -> Usage:
    """A triaged call whose caller's part has so many tokens."""
    return Usage(prompt + RULES, output + ENVELOPE)


@pytest.fixture
def books(tmp_path: Path) -> Books:
    """An empty ledger."""
    return Books(tmp_path / "ledger.db", POLICY)


@pytest.fixture
def tell(books: Books, capsys: pytest.CaptureFixture[str]) -> Tell:
    """Run the command on it at NOW; what it printed."""

    def told(*, as_json: bool = False, **wish: Any) -> str:
        run_savings(SavingsOptions(**{"ledger": str(books.path), **wish}), as_json=as_json, now=lambda: NOW)
        return capsys.readouterr().out

    return told


def seen(books: Books, policy: Policy = POLICY) -> Observed:
    """What is in the ledger."""
    books.close()
    with closing(open_reader(books.path)) as reader:
        return observe(gather(reader), policy, PriceBook({}, policy))


def estimates_of(books: Books) -> list[int]:
    """What the ledger itself says that the baseline would have cost."""
    with closing(open_reader(books.path)) as reader:
        return [one.outcome.estimate for one in gather(reader) if one.outcome and one.outcome.estimate]


def test_each_part_is_what_it_saves_by_hand(books: Books) -> None:
    """A request live, one in a batch, one with cached tokens, one returned again: each part by the list prices, 0.10/0.50 and 4/20."""
    plain, cached = asked(1_000, 100), Usage(RULES, 100 + ENVELOPE, cache_read=1_000)
    live = books.ask([("haiku", plain)])
    half = books.ask([("haiku", plain)], "batch")
    read = books.ask([("haiku", cached)])
    books.hit(live)
    found = seen(books)
    opus = 1_000 * 4_000 + 100 * 20_000
    bare = (1_000 + RULES) * 100 + (100 + ENVELOPE) * 500
    assert (live, half) == (bare, (bare + 1) // 2)
    assert found.parts == Parts(
        reference=3 * opus + live,
        climbing=3 * (opus - bare),
        prompt_caching=1_000 * (100 - 10),
        batches=bare - half,
        response_cache=live,
    )
    assert found.parts.paid == live + half + read
    assert (found.answered, found.batched, found.hits, found.estimated) == (3, 1, 1, 0)


def test_what_plans_and_reviews_runs_and_what_is_made_again_is_paid_without_a_reference(books: Books) -> None:
    """A subtask is one request of the baseline's, however often it is made; it would have been planned and reviewed by nobody."""
    plain = asked(1_000, 100)
    first = books.ask([("haiku", plain)], "executor")
    beside = books.ask([("sonnet", plain)], "planner") + books.ask([("sonnet", plain)], "reviewer")
    again = books.repeat([("sonnet", plain)])
    found = seen(books)
    assert found.parts.reference == 1_000 * 4_000 + 100 * 20_000
    assert found.parts.paid == first + beside + again
    assert (found.answered, found.requests, found.beside, found.beside_cost) == (1, 1, 3, beside + again)
    assert (found.shipped, found.others) == ({"haiku": 1}, 0)


_TOKENS = st.integers(1, 90_000)
_USAGE = st.builds(Usage, _TOKENS, _TOKENS, st.integers(0, 5_000), st.integers(0, 5_000), st.integers(0, 5_000))
_CLIMB = st.tuples(
    st.integers(1, 3),
    st.lists(_USAGE, min_size=3, max_size=3),
    st.sampled_from(["cascade", "batch", "executor", "planner"]),
)


@settings(max_examples=25)  # each has a ledger of its own
@given(climbs=st.lists(_CLIMB, min_size=1, max_size=4), hits=st.lists(st.integers(0, 10**9), max_size=3))
def test_the_parts_add_up_to_what_was_saved_and_the_rest_was_paid(
    tmp_path_factory: pytest.TempPathFactory, climbs: list[Any], hits: list[int]
) -> None:
    """Whatever was asked: nothing of the bill is in no part, or in two; no cached token is counted twice."""
    books = Books(tmp_path_factory.mktemp("books") / "ledger.db", POLICY)
    rungs = [rung.rung for rung in POLICY.ladder]
    paid = sum(books.ask(list(zip(rungs[:count], usages, strict=False)), arm) for count, usages, arm in climbs)
    for spared in hits:
        books.hit(spared)
    found = seen(books)
    assert found.parts.paid == paid
    assert found.parts.response_cache == sum(hits)
    used = [usage for count, usages, _ in climbs for usage in usages[:count]]
    assert found.tokens.prompt_tokens == sum(usage.prompt_tokens for usage in used)
    assert found.estimated == 0
    if all(arm != "batch" for *_, arm in climbs):
        assert found.parts.batches == 0


def test_without_caches_the_reference_is_the_ledgers_own_estimate(books: Books) -> None:
    """`costs` and `savings` say the same of the baseline: for each rung that can answer."""
    usages = [asked(500, 50), asked(700, 70), Usage(900, 90)]
    for count in (1, 2, 3):
        books.ask(list(zip(("haiku", "sonnet", "opus"), usages, strict=False))[:count])
    found = seen(books)
    estimates = estimates_of(books)
    assert len(estimates) == 3
    assert found.parts.reference == sum(estimates)


def test_the_shares_are_those_that_were_seen(books: Books) -> None:
    """Of five climbs one in a batch, of the input a quarter read and an eighth written; one hit in six."""
    for _ in range(3):
        books.ask([("haiku", Usage(500, 10, cache_read=200, cache_write_5m=100))])
    books.ask(
        [
            ("haiku", Usage(500, 10, cache_read=200, cache_write_5m=100)),
            ("sonnet", Usage(500, 10, cache_read=200, cache_write_5m=100)),
        ]
    )
    books.ask([("haiku", Usage(500, 10, cache_read=200, cache_write_1h=100))], "batch")
    books.hit(1_000)
    found = seen(books)
    assert dict(found.shares) == {
        "cache_read_share": Fraction(1, 4),
        "cache_write_share": Fraction(1, 8),
        "batch_share": Fraction(1, 5),
        "response_cache_share": Fraction(1, 6),
    }
    assert found.mix is not None
    assert found.mix.shares == (Fraction(4, 5), Fraction(1, 5), Fraction(0))
    assert found.mix.reached == (Fraction(1), Fraction(1, 5), Fraction(0))


def test_what_cannot_be_compared_is_counted_and_left_out(books: Books, tell: Tell) -> None:
    """An abstained request, one of another arm, a hit whose worth is not known: on neither side, and each is said."""
    books.ask([("haiku", asked(1_000, 100))])
    books.ask([("haiku", asked(1_000, 100))], answered=False)
    books.ask([("opus", Usage(1_000, 100))], "holdout")
    books.hit(None)
    books.close()
    told = json.loads(tell(as_json=True))
    assert told["requests"] == told["answered_by_ladder"] == 1
    not_counted = told["not_counted"]
    assert {name: not_counted[name] for name in ("unanswered", "without_estimate", "other_policies_or_arms")} == {
        "unanswered": 1, "without_estimate": 1, "other_policies_or_arms": 1,
    }  # fmt: skip
    assert not_counted["unanswered_usd"] > 0
    assert len(told["notes"]) == 3


def test_caching_that_loses_money_is_said(books: Books, tell: Tell) -> None:
    """Written on Opus and never read: the part is below zero, in the table and in a sentence."""
    books.ask(
        [("haiku", asked(1_000, 10)), ("sonnet", asked(1_000, 10)), ("opus", Usage(10, 10, cache_write_1h=1_000_000))]
    )
    books.close()
    told = json.loads(tell(as_json=True))
    assert told["parts"]["prompt_caching"]["usd"] == -4.0  # 8 a million instead of 4
    shown = " ".join(tell().split())
    assert "saved by prompt caching -4.00" in shown
    assert "prompt caching costs 4.00 USD more than it saves" in shown


def test_a_month_is_what_was_seen_scaled_from_the_first_request_on(books: Books, tell: Tell) -> None:
    """A day was seen, of the thirty asked for: times about thirty, an estimate; what was paid is measured."""
    paid = books.ask([("haiku", asked(100_000 - RULES, 1_000_000))])
    books.close()
    told = json.loads(tell(as_json=True))
    assert told["period"]["days"] == pytest.approx(1, abs=0.02)
    parts = told["parts"]
    assert (parts["paid"]["basis"], parts["climbing"]["basis"]) == ("measured", "estimate")
    assert parts["paid"]["usd"] == paid / NANO
    assert parts["paid"]["usd_per_month"] == pytest.approx(paid / NANO * 30 / told["period"]["days"])
    assert tell().startswith("saved ")


def test_a_first_request_at_the_periods_end_is_no_division_by_zero() -> None:
    """A ledger that begins in the last half second of a quarter of an hour has seen a second."""
    seen = Observed(POLICY.name, tuple(rung.rung for rung in POLICY.ladder), first=899.8)
    report = LedgerReport("ledger", POLICY, seen, Period(0, 900))
    assert (report.days, report.months) == (Fraction(1, 86_400), DAYS_A_MONTH * 86_400)


def test_an_empty_period_has_no_verdict(books: Books, tell: Tell) -> None:
    """Without a counted request nothing is said to be saved, and no table is shown."""
    books.ask([("haiku", asked(1, 1))], answered=False)
    books.close()
    shown = tell()
    assert shown.startswith("nothing was saved or lost yet")
    assert "where the saving comes from" not in shown


def test_an_export_takes_its_mix_from_the_ledger(books: Books, tell: Tell, tmp_path: Path) -> None:
    """Three of four answered by Haiku, the fourth by Opus after all three: measured, and two givers of a mix are refused."""
    climb = [("haiku", asked(1_000, 10)), ("sonnet", asked(1_000, 10)), ("opus", Usage(1_000, 10))]
    for count in (1, 1, 1, 3):
        books.ask(climb[:count])
    books.close()
    export = tmp_path / "usage.csv"
    export.write_text("model,requests,input_tokens,output_tokens\nclaude-opus-5-5,1000000,1000000000,100000000\n")
    told = json.loads(tell(as_json=True, usage=export))
    assert told["mix"]["shares"] == {"haiku": 0.75, "sonnet": 0.0, "opus": 0.25}
    assert told["mix"]["basis"] == "measured"
    assert told["advice"]["routing_pays"] is None  # nothing is known of quality
    assert "observed in the ledger, 4 requests" in tell(usage=export)
    assert (
        told["parts"]["paid"]["usd"] == told["under_policy"]["climb_with_triage"]["usd"]
    )  # nothing cached or in batches here
    with pytest.raises(UsageExportError, match=r"--mix, --ledger: both were given"):
        tell(usage=export, mix="80/15/5")


def test_an_export_is_projected_with_all_that_the_ledger_shows(books: Books, tell: Tell, tmp_path: Path) -> None:
    """Haiku alone, half of its input read from the prompt cache, half of the climbs in batches, a third returned again: by hand."""
    cached = Usage(500, 10, cache_read=500)
    for arm in ("cascade", "batch"):
        books.ask([("haiku", cached)], arm)
    books.hit(1)
    books.close()
    export = tmp_path / "usage.csv"
    export.write_text("model,requests,input_tokens,output_tokens\nclaude-opus-5-5,3000,3000000,300000\n")
    parts = json.loads(tell(as_json=True, usage=export))["parts"]
    opus, haiku = 3 * 4.0 + 0.3 * 20.0, (3.0 + 0.003 * RULES) * 0.1 + (0.3 + 0.003 * ENVELOPE) * 0.5
    caching = 1.5 * (0.1 - 0.01)
    batches = (haiku - caching) / 4
    assert {name: parts[name]["usd"] for name in parts} == pytest.approx({
        "reference": opus, "climbing": opus - haiku, "prompt_caching": caching, "batches": batches,
        "response_cache": (haiku - caching - batches) / 3, "paid": (haiku - caching - batches) * 2 / 3,
        "saved": opus - (haiku - caching - batches) * 2 / 3,
    })  # fmt: skip
    assert "with the mix, the caches and the batches of the ledger" in tell(usage=export)
    export.write_text("model,input_tokens,output_tokens\nclaude-opus-5-5,3000000,300000\n")
    assert json.loads(tell(as_json=True, usage=export))["parts"] is None  # nobody knows how many requests


def test_votes_judges_reviews_and_auxiliary_calls_are_paid_and_answer_nothing(books: Books) -> None:
    """Haiku was asked twice and its answers were compared, Sonnet's was reviewed, and there was a summary: each call at its own price."""
    said = Verdict("answered", 0.9, "self_reported", "x")
    vote = Vote(2, 2, 2, (1,), reached=False)
    calls = (
        Sample(0, "steps", "claude-haiku-5-5", said, asked(1_000, 10), 150_000),
        Sample(1, "doubt", "claude-haiku-5-5", said, asked(2_000, 20), 250_000),
        Sample(1, "judge", "claude-haiku-5-5", said, Usage(300, 5), 32_500, is_judge=True),
    )
    summary = Sample(0, "haiku", "claude-haiku-5-5", said, Usage(9_000, 900), 1_350_000, auxiliary="summary")
    review = Review("opus", "claude-opus-5-5", accepted=True, usage=Usage(400, 4), cost_nanousd=1_680_000)
    total = calls[0].usage + calls[1].usage + calls[2].usage
    first = Step(
        0, "haiku", "claude-haiku-5-5", replace(said, vote=vote), total, 432_500, reason="disagreement", samples=calls
    )  # fmt: skip
    usage = asked(1_500, 40)
    second = Step(1, "sonnet", "claude-sonnet-5-5", said, usage + review.usage, 5_000_000 + 1_680_000, review=review)
    shipped_by_vote = replace(first, reason=None, verdict=replace(said, vote=replace(vote, reached=True)))
    paid = books.record((with_auxiliary(first, summary), second), "sonnet") + books.record((shipped_by_vote,), "haiku")
    found, estimates = seen(books), estimates_of(books)
    assert found.parts.reference == sum(estimates)
    assert found.parts.paid == paid == 432_500 * 2 + 1_350_000 + 6_680_000
    assert found.reached == {"haiku": 2, "sonnet": 1}
    assert found.shipped == {"haiku": 1, "sonnet": 1}


def test_without_a_ledger_the_other_ways_are_named(tmp_path: Path) -> None:
    """Whoever forgot the export is told of it; whoever named a ledger, of that ledger."""
    with pytest.raises(LedgerError, match=r"name a usage export or a --workload"):
        run_savings(SavingsOptions(), as_json=False)
    with pytest.raises(LedgerError, match=r"none\.db: there is no ledger yet") as told:
        run_savings(SavingsOptions(ledger=str(tmp_path / "none.db")), as_json=False)
    assert "--workload" not in str(told.value)


def test_an_answer_by_a_plan_is_the_workers_and_the_planners_own_is_the_tops(books: Books) -> None:
    """Opus planned, and Haiku answered; or the plan failed, and Opus answered itself: the reference is the ledger's own estimate."""
    said = Verdict("answered", 0.9, "self_reported", "x")
    first = Step(0, "haiku", "claude-haiku-5-5", said, asked(1_000, 10), 1, reason="low_confidence")
    planned = Step(
        2, "opus", "claude-opus-5-5", said, Usage(1_500, 70), 1, handed=Handed("artifact", executed_by="haiku")
    )
    worker = Sample(0, "haiku", "claude-haiku-5-5", said, Usage(1_700, 400), 1, auxiliary="execution")
    itself = Sample(1, "opus", "claude-opus-5-5", said, Usage(1_600, 300), 1, auxiliary="plain")
    books.record((first, with_auxiliary(planned, worker)), "opus")
    books.record((first, with_auxiliary(with_auxiliary(planned, worker), itself)), "opus")
    assert (
        seen(books).parts.reference
        == sum(estimates_of(books))
        == 1_000 * 4_000 + 400 * 20_000 + 1_600 * 4_000 + 300 * 20_000
    )
