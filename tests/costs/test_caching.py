"""`cascade costs --cache`: what prompt caches cost, exactly, from entries of a real ledger."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cascade.cli.costs.command import CostsOptions, run_costs
from cascade.core.messages import Usage
from cascade.core.policy import Rung
from cascade.core.prices import cost
from cascade.ledger.chain import link, start
from cascade.ledger.records import Batch, Kind, OutcomeBody, RequestBody, StepBody
from cascade.ledger.sqlite.store import SqliteStore
from cascade.ledger.sums import add_outcome, add_step
from cascade.policy.pricing import rates_of

NOW = 1_795_255_620.0
MODELS = {"haiku": "claude-haiku-5-5", "sonnet": "claude-sonnet-5-5", "opus": "claude-opus-5-5"}
RUNGS = tuple(MODELS)

Tell = Callable[..., str]


class Books:
    """Writes requests as the ledger's writer does, entries and sums."""

    def __init__(self, path: Path) -> None:
        self._store = SqliteStore(path, synchronous="NORMAL")
        self._store.open("one")
        self._batch, self._seq, self._digest, self._requests = Batch(), 0, start("one"), 0

    def ask(self, at: float, *calls: tuple[str, Usage], policy: str = "support", **more: Any) -> list[int]:
        """One request and its calls, a rung each; returns what each cost. `more`: of every step; `model` of its name."""
        self._requests += 1
        name, asked = f"casc_{self._requests}", RequestBody(policy, "h", "p", "t", "cascade")
        self._add(at, "request", name, asked)
        costs = []
        for rung, usage in calls:
            model = more.get("model", MODELS[rung])
            billed = (
                more["cost"] if "cost" in more else cost(rates_of(Rung(rung="any", model=model, max_tokens=1)), usage)
            )
            step = StepBody(
                RUNGS.index(rung), rung, model, "answered", billed, usage.input_tokens, usage.output_tokens,
                usage.cache_write_5m, usage.cache_write_1h, usage.cache_read, is_estimate=usage.is_estimate,
            )  # fmt: skip
            add_step(self._batch, at, asked, step)
            self._add(at, "step", name, step)
            costs.append(billed)
        outcome = OutcomeBody("cascade", sum(costs), len(costs), 1.0, rung=calls[-1][0], resolved=True)
        add_outcome(self._batch, at, asked, outcome)
        self._add(at, "outcome", name, outcome)
        return costs

    def _add(self, at: float, kind: Kind, name: str, body: Any) -> None:
        self._seq += 1
        written = msgspec.json.encode(body)
        self._digest = link(self._digest, self._seq, at, kind, name, written)
        self._batch.entries.append((self._seq, at, kind, name, written, self._digest))

    def close(self) -> None:
        """Write it all."""
        self._store.write(self._batch)
        self._store.close()


@pytest.fixture
def books(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Books:
    """An empty ledger where the command looks for one."""
    monkeypatch.setenv("CASCADE_HOME", str(tmp_path))
    monkeypatch.delenv("CASCADE_LEDGER", raising=False)
    monkeypatch.delenv("CASCADE_POLICY", raising=False)
    return Books(tmp_path / "ledger.db")


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Tell:
    """Run the command at NOW; what it printed."""

    def told(*, as_json: bool = False, **wish: Any) -> str:
        run_costs(CostsOptions(cache=True, **wish), as_json=as_json, now=lambda: NOW)
        return capsys.readouterr().out

    return told


def cache_of(text: str) -> dict[str, Any]:
    """The cache's part of `--json`."""
    return json.loads(text)["cache"]


def test_a_cold_write_is_told_by_rung_and_to_the_nano_dollar(books: Books, tell: Tell) -> None:
    """A warm turn on Sonnet; a climb whose every rung writes 60k anew: by hand, at the list prices."""
    books.ask(NOW - 60, ("sonnet", Usage(10, 100, cache_read=60_000)))
    cold = Usage(10, 100, cache_write_5m=60_000)
    books.ask(
        NOW - 50,
        ("haiku", cold),
        ("sonnet", cold),
        ("opus", Usage(10, 100, cache_write_5m=50_000, cache_write_1h=10_000)),
    )
    books.close()
    told = cache_of(tell(as_json=True))
    haiku, sonnet, opus = (told["rungs"][rung] for rung in RUNGS)
    assert haiku["written_usd"] == pytest.approx(60_000 * 0.125e-6, abs=1e-12)
    assert haiku["written_after_climb_tokens"] == 0
    assert sonnet["written_after_climb_usd"] == sonnet["written_usd"] == pytest.approx(60_000 * 2.5e-6, abs=1e-12)
    assert (sonnet["read_tokens"], sonnet["read_usd"]) == (60_000, pytest.approx(60_000 * 0.10e-6, abs=1e-12))
    assert opus["written_usd"] == pytest.approx(50_000 * 5e-6 + 10_000 * 8e-6, abs=1e-12)
    assert (opus["written_5m_tokens"], opus["written_1h_tokens"]) == (50_000, 10_000)
    assert told["written_after_climb_usd"] == pytest.approx(sonnet["written_usd"] + opus["written_usd"])
    assert (told["estimated_calls"], told["unpriced_calls"]) == (0, 0)


def test_a_prompt_above_a_price_tier_is_priced_by_it(books: Books, tell: Tell) -> None:
    """The whole prompt decides, cached or not."""
    books.ask(NOW - 60, ("haiku", Usage(1, 1, cache_write_5m=60_000, cache_read=50_000)))
    books.close()
    haiku = cache_of(tell(as_json=True))["rungs"]["haiku"]
    assert haiku["written_usd"] == pytest.approx(60_000 * 0.625e-6, abs=1e-12)
    assert haiku["read_usd"] == pytest.approx(50_000 * 0.05e-6, abs=1e-12)


def test_a_loop_that_begins_above_the_first_rung_has_not_climbed(books: Books, tell: Tell) -> None:
    """What counts is the request's own first step."""
    books.ask(NOW - 60, ("sonnet", Usage(1, 1, cache_write_5m=1_000)), ("opus", Usage(1, 1, cache_write_5m=1_000)))
    books.close()
    rungs = cache_of(tell(as_json=True))["rungs"]
    assert [rungs[rung]["written_after_climb_tokens"] for rung in ("sonnet", "opus")] == [0, 1_000]


def test_random_requests_add_up(books: Books, tell: Tell) -> None:
    """Three hundred seeded ones: tokens and money, against a plain sum."""
    chance, written, read, cold = random.Random(13), 0, 0, 0
    for _ in range(300):
        first = chance.randrange(3)
        calls = []
        for index in range(first, chance.randrange(first, 3) + 1):
            usage = Usage(
                chance.randrange(2_000), chance.randrange(900), cache_write_5m=chance.choice((0, chance.randrange(9_000))),
                cache_read=chance.choice((0, chance.randrange(9_000))),
            )  # fmt: skip
            calls.append((RUNGS[index], usage))
            written, read = written + usage.cache_write_5m, read + usage.cache_read
            cold += usage.cache_write_5m if index > first else 0
        books.ask(NOW - chance.randrange(1, 100_000), *calls)
    books.close()
    told = cache_of(tell(as_json=True))
    assert told["written_5m_tokens"] == written
    assert told["read_tokens"] == read
    assert told["written_after_climb_tokens"] == cold
    assert sum(rung["written_usd"] for rung in told["rungs"].values()) == pytest.approx(told["written_usd"])


def test_a_discount_is_split_in_proportion_and_marked(books: Books, tell: Tell) -> None:
    """The bill is half of the list price: so is the cache's part. Nobody here knows why, so it is an estimate."""
    usage = Usage(1_000, 0, cache_write_5m=10_000)
    full = cost(rates_of(Rung(rung="any", model=MODELS["sonnet"], max_tokens=1)), usage)
    books.ask(NOW - 60, ("sonnet", usage), cost=full // 2)
    books.close()
    told = cache_of(tell(as_json=True))
    assert told["written_usd"] == pytest.approx(10_000 * 2.5e-6 / 2, abs=1e-9)
    assert told["estimated_calls"] == 1
    assert "of the bill: 1" in tell()


def test_the_policy_at_hand_knows_its_own_prices(books: Books, tell: Tell, tmp_path: Path) -> None:
    """A rung with a price of its own: exact, where the list would not be."""
    policy = tmp_path / "mine.yaml"
    policy.write_text(
        "version: 1\nname: support\nladder:\n"
        "  - {rung: haiku, model: claude-haiku-5-5, threshold: 0.8, max_tokens: 100}\n"
        "  - {rung: sonnet, model: claude-sonnet-5-5, threshold: 0.8, max_tokens: 100,"
        " price: {input: 1, output: 1, cache_write: 7, cache_read: 0}}\n"
        "  - {rung: opus, model: claude-opus-5-5, max_tokens: 100}\n"
    )
    books.ask(NOW - 60, ("sonnet", Usage(0, 0, cache_write_5m=1_000, cache_read=9_000)), cost=7_000_000)
    books.ask(NOW - 60, ("sonnet", Usage(1, 1, cache_read=9_000)), policy="another")
    books.close()
    told = cache_of(tell(as_json=True, policy=str(policy)))
    assert (told["written_usd"], told["read_usd"], told["estimated_calls"]) == (0.007, 0, 0)
    assert told["read_tokens"] == 9_000, "the other policy's are not counted"


def test_what_has_no_price_is_counted_in_tokens_alone(books: Books, tell: Tell) -> None:
    """And it is told."""
    books.ask(NOW - 60, ("haiku", Usage(1, 1, cache_read=500)), model="nobody-knows-1", cost=10)
    books.close()
    told = cache_of(tell(as_json=True))
    assert (told["read_tokens"], told["read_usd"], told["unpriced_calls"]) == (500, 0, 1)


def test_only_the_periods_steps_count(books: Books, tell: Tell) -> None:
    """A request that began before it is known all the same."""
    since = NOW // 900 * 900
    books.ask(since - 10, ("haiku", Usage(1, 1, cache_read=500)))
    books.ask(since + 10, ("haiku", Usage(1, 1, cache_read=7)))
    books.close()
    assert cache_of(tell(as_json=True, since="15m"))["read_tokens"] == 7


def test_the_table_shows_each_rung_and_all_of_them(books: Books, tell: Tell) -> None:
    """Tokens and money side by side."""
    cold = Usage(10, 100, cache_write_5m=60_000)
    books.ask(NOW - 60, ("haiku", cold), ("sonnet", cold))
    books.close()
    text = tell()
    assert "prompt caches, by rung (tokens)" in text
    (row,) = (line for line in text.splitlines() if line.split()[:2] == ["sonnet", "60,000"])
    assert row.split() == ["sonnet", "60,000", "0.150000", "60,000", "0.150000", "0", "0", "0.0", "%", "-0.030000"]


def test_the_hit_rate_and_what_caching_saved_are_exact(books: Books, tell: Tell) -> None:
    """By hand: 40k written for 5 minutes, 10k for an hour, 150k read on Sonnet; a share of the tokens that were sought."""
    books.ask(NOW - 60, ("sonnet", Usage(5, 100, cache_write_5m=40_000, cache_write_1h=10_000)))
    books.ask(NOW - 50, ("sonnet", Usage(5, 100, cache_read=150_000)))
    books.close()
    sonnet = cache_of(tell(as_json=True))["rungs"]["sonnet"]
    assert sonnet["hit_rate"] == 0.75
    assert sonnet["write_premium_usd"] == pytest.approx(40_000 * 0.5e-6 + 10_000 * 2e-6, abs=1e-12)
    assert sonnet["read_saving_usd"] == pytest.approx(150_000 * 1.9e-6, abs=1e-12)
    assert sonnet["saved_usd"] == pytest.approx(sonnet["read_saving_usd"] - sonnet["write_premium_usd"], abs=1e-12)
    assert "loses money" not in tell()


def test_where_caching_loses_money_it_says_so_and_what_to_do(books: Books, tell: Tell) -> None:
    """Sonnet writes what nobody reads, and Haiku gains more than that: keep it on."""
    books.ask(NOW - 60, ("haiku", Usage(5, 100, cache_write_5m=20_000)))
    for _ in range(20):
        books.ask(NOW - 50, ("haiku", Usage(5, 100, cache_read=20_000)))
    books.ask(NOW - 40, ("haiku", Usage(5, 1)), ("sonnet", Usage(5, 100, cache_write_1h=10_000)))
    books.ask(NOW - 30, ("sonnet", Usage(5, 100, cache_write_1h=1_000)), policy="another")
    books.close()
    text = " ".join(tell().split())
    assert (
        "prompt caching loses money at sonnet: writes cost 0.022000 USD more than uncached tokens, reads saved 0 USD, 0.022000 USD lost"
        in text
    )
    assert "at haiku" not in text
    assert "together it saves 0.013500 USD: keep it on" in text


def test_where_all_of_it_loses_it_says_to_turn_it_off(books: Books, tell: Tell) -> None:
    """What is written and never read costs a quarter more, or as much again for an hour."""
    books.ask(NOW - 30, ("sonnet", Usage(5, 100, cache_write_1h=10_000)))
    books.close()
    text = " ".join(tell().split())
    assert "prompt caching loses money at sonnet" in text
    assert "together it loses 0.020000 USD: set `prompt_cache: off`" in text
    told = cache_of(tell(as_json=True))
    assert (told["hit_rate"], told["saved_usd"]) == (0.0, pytest.approx(-0.02))


def test_a_period_without_caches_says_so(books: Books, tell: Tell) -> None:
    """Its calls are read all the same."""
    books.ask(NOW - 60, ("haiku", Usage(10, 100)))
    books.close()
    assert "no prompt cache was written or read" in tell()


def test_without_the_option_no_entry_is_read(books: Books, capsys: pytest.CaptureFixture[str]) -> None:
    """The JSON says null."""
    books.ask(NOW - 60, ("haiku", Usage(1, 1, cache_read=5)))
    books.close()
    run_costs(CostsOptions(), as_json=True, now=lambda: NOW)
    assert json.loads(capsys.readouterr().out)["cache"] is None
