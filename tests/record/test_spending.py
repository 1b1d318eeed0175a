"""The cap: what was spent and what is in flight are counted, so it is passed by no more than what is told."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.core import prices
from cascade.core.budgets import upper_bound
from cascade.core.messages import Request, Usage
from cascade.core.triage import build_prompt
from cascade.corpora import Corpus, read_corpus
from cascade.policy.binding import bind_policy
from cascade.recording.calls import make_recording_plan
from cascade.recording.spending_cap import SpendingCap
from cascade.replay.driver import request_of

from .conftest import POLICY, YAML, Here, Killer, Record, Start

Emulate = Callable[..., Killer]


@pytest.mark.parametrize("concurrency", [1, 8])
def test_it_stops_at_the_cap_and_goes_on_where_it_stopped(
    corpus: Corpus, record: Record, emulate: Emulate, tmp_path: Path, concurrency: int
) -> None:
    """The cap holds over all runs together; the corpus so far can be read; the rest is asked under a higher cap."""
    emulator = emulate(corpus)
    whole = sum(round((r.cost_usd or 0) * 1e9) for item in corpus.items for r in item.replies.values())
    caps = (whole // 3, whole // 2, whole)
    calls = 0
    for cap in caps[:2]:
        report = record(emulator, cap=cap, concurrency=concurrency)
        calls += report.calls
        assert report.stop is not None
        assert (report.stop.kind, report.is_final) == ("cap", False)
        assert cap <= report.spent < cap + report.overshoot
        before = read_corpus(tmp_path / "corpus.jsonl").items
        again = record(emulator, cap=cap, concurrency=concurrency)  # nothing is asked, and nothing gets less
        assert (again.calls, len(before)) == (0, again.complete)
        assert again.spent - cap <= again.overshoot
        held = {item.id: item for item in corpus.items}
        assert all(item == held[item.id] for item in read_corpus(tmp_path / "corpus.jsonl").items)
    report = record(emulator, cap=whole + 1, concurrency=concurrency)
    assert (report.is_final, report.spent, calls + report.calls) == (True, whole, 36)
    assert read_corpus(tmp_path / "corpus.jsonl").items == corpus.items
    assert emulator.billed.replies == 36


def test_a_cap_of_nothing_asks_nothing(corpus: Corpus, record: Record, emulate: Emulate, tmp_path: Path) -> None:
    """0 USD: no call at all, and nothing is left lying about."""
    emulator = emulate(corpus)
    report = record(emulator, cap=0)
    assert (report.calls, report.spent, report.complete) == (0, 0, 0)
    assert not emulator.requests
    assert [path.name for path in tmp_path.iterdir()] == ["inputs.jsonl"]


def test_the_command_says_how_to_go_on_and_is_exit_5(
    corpus: Corpus, emulate: Emulate, source: Path, tmp_path: Path
) -> None:
    """One line on stderr, and nothing before it, with the cap, what it can be passed by, and what to do."""
    (tmp_path / "policy.yaml").write_text(YAML, encoding="utf-8")
    process = Here(tmp_path, emulate(corpus), source.name, "-o", "c.jsonl", "-p", "policy.yaml", "--max-usd", "0.003")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 5
    assert "items in c.jsonl" in out
    assert err.startswith("cascade: stopped at the cap of 0.003000 USD")
    assert "Raise --max-usd, and the same command continues from c.jsonl.journal" in err
    process = Here(tmp_path, emulate(corpus), source.name, "-o", "d.jsonl", "-p", "policy.yaml", "--max-usd", "0")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 5
    assert out == "0 of 12 items recorded, d.jsonl is not written yet; 0 calls in this run, 0 replies taken from the journal; 0 USD in all\n"  # fmt: skip
    assert err.startswith("cascade: stopped at the cap of 0 USD")
    assert err.endswith("Raise --max-usd, and the same command starts it\n")


def test_what_a_kill_left_unanswered_counts_toward_the_cap(
    start: Start, corpus: Corpus, emulate: Emulate, source: Path, tmp_path: Path
) -> None:
    """Killed with -9 again and again as its reply is paid and on its way: the cap ends that, and is not passed.

    No reply ever arrives, so nothing is known to be spent: only the notes of the calls say what it may have been.
    """
    (tmp_path / "policy.yaml").write_text(YAML, encoding="utf-8")
    emulator = emulate(corpus)
    asked = make_recording_plan(POLICY).respondents[0]
    most = upper_bound(asked.rates, asked.prompt(request_of(corpus.items[0])))
    cap = 5 * most // 2
    command = (source.name, "-o", "c.jsonl", "-p", "policy.yaml", "--concurrency", "1", "--max-usd", f"{cap / 1e9:.9f}")
    for _ in range(3):
        process = start(tmp_path, emulator, *command, "--json")
        emulator.arm(process.child, 1, at_bill=True)
        process.communicate(timeout=60)
        assert process.returncode == -9
    process = Here(tmp_path, emulator, *command, "--json")
    told = json.loads(process.communicate(timeout=60)[0])
    assert process.returncode == 5
    assert emulator.billed.replies == 3
    assert (told["calls"], told["spent_usd"], told["stopped"]["kind"]) == (0, 0, "cap")
    assert told["unanswered"] == {"calls": 3, "at_most_usd": 3 * most / 1e9, "basis": "estimate"}
    process = Here(tmp_path, emulator, *command[:-1], "1")
    out, _ = process.communicate(timeout=60)
    assert "3 calls were in flight when a run or a worker was killed, and may have been paid" in out
    assert "an upper bound of their cost" in out
    assert read_corpus(tmp_path / "c.jsonl").items == corpus.items
    assert emulator.billed.replies == 3 + 36


def test_a_missing_key_is_no_call_and_costs_nothing(
    start: Start, corpus: Corpus, emulate: Emulate, source: Path
) -> None:
    """It is found before the call is noted: nothing counts toward the cap, and no journal is left behind."""
    (source.parent / "policy.yaml").write_text(
        YAML.replace("thinking: disabled", "thinking: disabled, api_key_env: FOO_KEY"), encoding="utf-8"
    )
    process = start(source.parent, emulate(corpus), source.name, "-o", "c.jsonl", "-p", "policy.yaml")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "FOO_KEY is not set" in err
    assert not list(source.parent.glob("c.jsonl*"))


@given(seed=st.integers(0, 2**32), cap=st.integers(0, 300), lost=st.integers(0, 100))
def test_whatever_calls_cost_the_cap_is_passed_by_one_at_most(seed: int, cap: int, lost: int) -> None:
    """Many at once, each settling below its bound in any order: spent stays below the cap and one bound.

    What killed runs may have spent is part of it.
    """
    chance = random.Random(seed)
    calls = [(most, chance.randrange(0, most + 1)) for most in (chance.randrange(1, 60) for _ in range(40))]

    async def pay(spending: SpendingCap, most: int, cost: int) -> bool:
        for _ in range(chance.randrange(3)):
            await asyncio.sleep(0)
        if not await spending.admit(most):
            return False
        for _ in range(chance.randrange(5)):
            await asyncio.sleep(0)
        await spending.settle(most, cost)
        return True

    async def go() -> tuple[int, int, list[bool]]:
        spending = SpendingCap(cap, 0, lost)
        done = await asyncio.gather(*(pay(spending, most, cost) for most, cost in calls))
        return spending.spent, spending.overshoot, done

    spent, largest, done = asyncio.run(go())
    assert spent + lost < max(cap, lost) + max(largest, 1)
    assert spent == sum(cost for (_, cost), paid in zip(calls, done, strict=True) if paid)
    if not all(done):
        assert spent + lost >= cap


@given(text=st.text(min_size=1, max_size=200), index=st.sampled_from([0, 1, 2]), thinking=st.integers(0, 4096))
def test_no_reply_costs_more_than_its_upper_bound(text: str, index: int, thinking: int) -> None:
    """A token for each byte of the text and every token of max_tokens still costs no more."""
    plan = bind_policy(POLICY)
    prompt = build_prompt(POLICY, index, Request(({"role": "user", "content": text},)))
    used = Usage(len(text.encode("utf-8", "replace")) + 500, min(thinking, prompt.max_tokens))
    assert prices.cost(plan.rates[index], used) <= upper_bound(plan.rates[index], prompt)


def test_a_prompt_that_is_written_to_the_cache_has_a_higher_bound() -> None:
    """An hour's cache write costs more than plain input: where a block asks for one, the bound is of that."""
    plan = bind_policy(POLICY)
    block = {"type": "text", "text": "x" * 4000}
    cached = {**block, "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    plain, dear = (
        upper_bound(plan.rates[2], build_prompt(POLICY, 2, Request(({"role": "user", "content": [one]},))))
        for one in (block, cached)
    )
    tier = plan.rates[2].tiers[0][1]
    assert dear - plain > 4000 * (tier.cache_write_1h - tier.input) // 1_000_000 > 0
