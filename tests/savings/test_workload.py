"""Workloads: the published customer-service bill, what it leaves open, and files with faults."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.cli.engines import EngineOptions
from cascade.cli.savings.command import SavingsOptions, run_savings
from cascade.core.errors import PolicyError, UsageExportError
from cascade.core.messages import Usage
from cascade.core.triage import triage_tokens
from cascade.policy.loading import load_policy
from cascade.savings import PriceBook, PricedWorkload, Workload, alternatives, load_workload, price_workload, ways_to
from cascade.savings.workload import parse_workload
from tests.savings.ledger_books import NANO, NOW, Books

Tell = Callable[..., str]
SMALL = "version: 1\nname: small\ntickets: 10\ninput_tokens: 100\noutput_tokens: 10\nmix: {haiku: 80, opus: 20}\n"


def priced(workload: Workload, policy: str | None = None) -> PricedWorkload:
    """The workload at its policy's prices."""
    ladder = load_policy(policy or workload.policy)
    return price_workload(workload, ladder, PriceBook({}, ladder))


SERVICE = priced(load_workload("customer-service"))


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Tell:
    """Run the command; what it printed."""

    def told(*, as_json: bool = False, **wish: Any) -> str:
        run_savings(SavingsOptions(**wish), as_json=as_json, now=lambda: NOW)
        return capsys.readouterr().out

    return told


def test_the_published_single_model_bill_is_opus_4_7_for_every_call() -> None:
    """250,000 calls, 5,000 in and 400 out, at 5 and 25 USD a million: 8,750.00, nothing cached and no router."""
    assert SERVICE.month().alone == 8_750 * NANO


def test_the_published_mix_by_hand() -> None:
    """60/25/10/5 over Haiku 4.5, Sonnet 4.6, Opus 4.7 and GPT-5.4, and 300 tokens a call of Haiku's: 3,543.75 routed."""
    work = SERVICE
    calls, tokens_in, tokens_out = 250_000, 5_000, 400
    shares = {(1, 5): 60, (3, 15): 25, (5, 25): 10, (Fraction(5, 2), 15): 5}
    routed = sum(
        Fraction(part, 100) * calls * (tokens_in * read + tokens_out * out) for (read, out), part in shares.items()
    )
    router = calls * 300
    month = work.month()
    assert month.routed == (routed + router) * 1_000
    assert month.router == router * 1_000
    rules, envelope = triage_tokens(work.policy)
    reached = {(1, 5): 95, (3, 15): 35, (5, 25): 10, (Fraction(5, 2), 15): 5}
    climb = sum(
        Fraction(part, 100) * calls * (tokens_in * read + tokens_out * out) for (read, out), part in reached.items()
    )
    triage = sum(
        Fraction(part, 100) * calls * (rules * read + envelope * out)
        for (read, out), part in [((1, 5), 95), ((3, 15), 35)]
    )
    assert month.climb == (climb + triage) * 1_000
    assert month.triage == triage * 1_000


def test_about_2000_needs_something_that_was_not_published() -> None:
    """As described it is 77 % dearer; two shares that cost nothing make exactly 2,000.00, no order of the names does."""
    work = SERVICE
    ways = {way.assumption: way for way in ways_to(work, 2_000 * NANO)}
    assert (ways["unpaid"].names, ways["unpaid"].amount) == (("sonnet", "summariser"), 2_000 * NANO)
    assert (ways["mix"].share, ways["mix"].amount) == (None, 3_243_750_000_000)
    published = work.workload.published
    assert published is not None
    assert not {"cache_read_share", "batch_share", "response_cache_share", "models.summariser"} & set(published.states)
    for key in ("cache_read_share", "batch_share", "response_cache_share"):
        share = ways[key].share
        assert share is not None
        there = work.with_values(**{key: Decimal(share.numerator) / Decimal(share.denominator)}).month().routed
        assert abs(there - 2_000 * NANO) <= 1


def test_a_share_that_cannot_reach_the_figure_says_how_far_it_goes() -> None:
    """No number of cached tokens makes the bill one dollar: the output stays."""
    work = SERVICE
    way = next(way for way in ways_to(work, NANO) if way.assumption == "cache_read_share")
    assert way.share is None
    assert way.amount == work.with_values(cache_read_share=Decimal(1)).month().routed


def test_every_open_assumption_has_an_alternative() -> None:
    """The models' generation, whose share is whose, the summariser, the router, the prompt cache, batches, the response cache."""
    ladder = load_policy("classic")
    work = load_workload("customer-service")
    found = list(alternatives(priced(work), PriceBook({}, ladder)))
    assert {one.assumption for one in found} == {
        "policy", "mix", "models.summariser", "router_tokens", "router", "cache_read_share", "batch_share",
        "response_cache_share",
    }  # fmt: skip
    newer = next(one.month for one in found if one.value == "default")
    assert (newer.routed, newer.alone) == (1_918_750_000_000, 7_000 * NANO)
    assert newer == priced(work, "default").month()


_SHARE = st.decimals(0, 1, places=2)


@given(read=_SHARE, written=_SHARE, batch=_SHARE, hits=_SHARE, routed=st.booleans())
def test_the_parts_add_up_to_the_bill(
    read: Decimal, written: Decimal, batch: Decimal, hits: Decimal, routed: bool
) -> None:
    """Whatever the shares, reference less all parts is the bill; without a share its part is nothing."""
    written = min(written, 1 - read)
    work = SERVICE.with_values(
        cache_read_share=read, cache_write_share=written, batch_share=batch, response_cache_share=hits
    )
    month, parts = work.month(), work.parts(routed=routed)
    assert parts.paid == (month.routed if routed else month.climb)
    assert parts.reference == 8_750 * NANO
    assert min(parts.batches, parts.response_cache) >= 0
    assert bool(parts.batches) == bool(batch)
    assert bool(parts.response_cache) == bool(hits)
    assert parts.prompt_caching == 0 or read or written


def test_cached_and_batched_calls_by_hand() -> None:
    """Haiku 5.5 at 0.10/0.50, read 0.01, written 0.125; a batch is half of it all: one call a ticket, a tenth from the store."""
    text = SMALL.replace("{haiku: 80, opus: 20}", "{haiku: 1}").replace("tickets: 10", "tickets: 1000000")
    more = "cache_read_share: 0.5\ncache_write_share: 0.1\nbatch_share: 0.5\nresponse_cache_share: 0.1\n"
    month = priced(parse_workload(text + more)).month()
    call = Fraction(40 * 100 + 50 * 10 + 10 * 125 + 10 * 500)  # nano-USD
    assert month.routed == 900_000 * call * Fraction(3, 4)


def test_a_model_outside_claude_is_never_batched() -> None:
    """Message Batches do not reach it: its calls are at list price, whatever the share."""
    text = SMALL.replace("{haiku: 80, opus: 20}", "{other: 1}") + "models: {other: gpt-5.4}\n"
    live, batched = (priced(parse_workload(text + f"batch_share: {share}\n")).month().routed for share in (0, 1))
    assert live == batched > 0


def test_the_price_of_a_long_prompt_counts() -> None:
    """Haiku 5.5 costs five times as much past 100,000 tokens."""
    short, long = (
        priced(
            parse_workload(
                SMALL.replace("input_tokens: 100", f"input_tokens: {tokens}").replace(
                    "{haiku: 80, opus: 20}", "{haiku: 1}"
                )
            )
        )
        .month()
        .routed
        for tokens in (100_000, 100_001)
    )
    assert short == 10 * (100_000 * 100 + 10 * 500)
    assert long == 10 * (100_001 * 500 + 10 * 2_500)


def test_the_command_prints_all_of_it(tell: Tell) -> None:
    """Its own figures beside the published ones, which assumption would make them, and every input with its state."""
    shown = tell(workload="customer-service")
    plain = " ".join(shown.split())
    assert shown.startswith(
        "as a climb 4,746.75 against 8,750.00 USD a month (estimate); published: about 2,000.00 against 8,750.00"
    )
    assert "routed: one model paid 3,543.75 59.5% about 2,000.00" in plain
    assert "sonnet and summariser (30% of the calls) cost nothing: 2,000.00; not published" in plain
    for key in Workload.model_fields.keys() - {"version", "name", "published", "models"}:
        assert any(
            line.startswith(f"{key} ") and line.rstrip().endswith(("yes", "no: open")) for line in shown.splitlines()
        ), key
    told = json.loads(tell(workload="customer-service", routed=True, as_json=True))
    assert told["headline"] == "routed"
    assert told["usd_per_month"]["routed"] == 3_543.75
    assert told["parts"]["paid"] == {
        "usd": 3_543.75,
        "usd_per_month": 3_543.75,
        "share": 3_543.75 / 8_750,
        "basis": "estimate",
    }
    values = {one["assumption"]: one["value"] for one in told["assumptions"]}
    assert values["mix"] == {"haiku": 0.6, "sonnet": 0.25, "opus": 0.1, "summariser": 0.05}
    assert (values["alone"], values["router"], values["calls_per_ticket"]) == ("opus", "haiku", 2.5)
    assert told["assumptions"][0] == {"assumption": "tickets", "value": 100_000, "published": True}


def test_policy_and_prices_may_be_others(tell: Tell) -> None:
    """`--policy` and `--price` apply as they do to an export."""
    told = json.loads(tell(workload="customer-service", policy="default", as_json=True))
    assert told["usd_per_month"]["alone"] == 7_000
    own = json.loads(tell(workload="customer-service", prices=("claude-opus-4-7=15/75",), as_json=True))
    assert own["usd_per_month"]["alone"] == 26_250


def test_the_ledgers_shares_take_the_place_of_the_described_ones(tell: Tell, tmp_path: Path) -> None:
    """Half of the input read from the prompt cache, a third of the climbs in batches, a quarter of the requests returned again."""
    policy = load_policy("classic")
    books = Books(tmp_path / "ledger.db", policy)
    for arm in ("cascade", "cascade", "batch"):
        books.ask([("haiku", Usage(500, 10, cache_read=500))], arm)
    books.hit(5)
    books.close()
    told = json.loads(tell(workload="customer-service", ledger=str(books.path), as_json=True))
    same = priced(load_workload("customer-service")).with_values(
        cache_read_share=Decimal("0.5"), batch_share=Fraction(1, 3), response_cache_share=Decimal("0.25")
    )
    assert told["observed"]["usd_per_month"]["climb"] == same.month().climb / NANO
    assert "climb, with the ledger's shares" in tell(workload="customer-service", ledger=str(books.path))


def test_a_workload_without_a_published_figure_is_a_bill(tell: Tell, tmp_path: Path) -> None:
    """The least that a description needs; nothing is compared with."""
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    shown = tell(workload=str(path))
    assert shown.startswith("as a climb ")
    assert "What would make" not in shown
    assert json.loads(tell(workload=str(path), as_json=True))["published"] is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("haiku: 80", "haiku: 70"), r"small.yaml:6:1: mix: the shares add up to 90"),
        (("haiku: 80", "hiaku: 80"), r"mix: 'hiaku' is no rung of policy 'default' \(did you mean 'haiku'\?"),
        (("tickets: 10", "tickets: 0"), r"small.yaml:3:1: tickets: "),
        (("tickets: 10", "tickts: 10"), r"small.yaml:3:1: tickts: unknown key \(did you mean 'tickets'\?|tickets: the key is missing"),
        (("tickets: 10", "tickets: 10\ntickets: 11"), r"small.yaml:4:1: tickets: duplicate key"),
        (("tickets: 10", "tickets: 10\nbatch_share: 1.5"), r"small.yaml:4:1: batch_share: "),
        (("tickets: 10", "tickets: 10\nalone: gpt"), r"alone: 'gpt' is no rung"),
        (("tickets: 10", "tickets: 10\nmodels: {x: gpt-5.4}"), r"small.yaml:4:10: models.x: 'x' is not in the mix"),
        (("tickets: 10", "tickets: 10\nmodels: {haiku: gpt-5.4}"), r"models: 'haiku' is a rung"),
        (("tickets: 10", "tickets: 10\ncache_read_share: 0.6\ncache_write_share: 0.6"), r"more than the whole input is cached"),
        (("tickets: 10", "tickets: 10\npolicy: nowhere"), r"nowhere"),
        (("version: 1", "version: 2"), r"small.yaml:1:1: version: "),
    ],
)  # fmt: skip
def test_a_fault_is_named_with_its_place(tell: Tell, tmp_path: Path, change: tuple[str, str], said: str) -> None:
    """File, line and column, the key, and what to do: nothing is guessed, no unknown name is free."""
    path = tmp_path / "small.yaml"
    path.write_text(SMALL.replace(*change))
    with pytest.raises((UsageExportError, PolicyError), match=said):
        tell(workload=str(path))


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"workload": "customer-servce"}, r"did you mean 'customer-service'\?"),
        ({"workload": "customer-service", "mix": "60/40/0"}, r"--mix: there is no usage export"),
        ({"workload": "customer-service", "usage": Path("x.csv")}, r"USAGE, --workload: both were given"),
        ({"routed": True}, r"--routed: a ledger holds climbs"),
        ({"cached": 0.5, "requests": 5}, r"--requests, --cached: there is no usage export"),
        ({"workload": "customer-service", "engine": EngineOptions(workers=2)}, r"--workers: there is no usage export"),
        ({"engine": EngineOptions("duckdb", trust_ids=True)}, r"--engine, --trust-ids: there is no usage export"),
    ],
)
def test_options_that_do_not_go_together_are_refused(tell: Tell, wish: dict[str, Any], said: str) -> None:
    """An option is never ignored in silence."""
    with pytest.raises(UsageExportError, match=said):
        tell(**wish)


def test_a_model_without_a_price_is_never_free(tell: Tell, tmp_path: Path) -> None:
    """It is named, with the option that gives it a price, which is then used."""
    path = tmp_path / "small.yaml"
    path.write_text(SMALL.replace("opus: 20", "opus: 10, own: 10") + "models: {own: made-up}\n")
    with pytest.raises(UsageExportError, match=r"no price for model 'made-up' \(--price made-up=IN/OUT\)"):
        tell(workload=str(path))
    assert "made-up" in tell(workload=str(path), prices=("made-up=1/2",))
