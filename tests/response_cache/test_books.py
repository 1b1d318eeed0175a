"""On the books: what hits cost, spared and leave behind, in every ledger; and how a person's answers are removed."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anthropic
import pytest

from cascade import Cascade
from cascade.cli.costs.command import CostsOptions, run_costs
from cascade.cli.doctor import run_doctor
from cascade.cli.ledger.command import run_erase, run_verify
from cascade.costs import PeriodSums
from cascade.emulator import Emulator
from cascade.ledger.exporting.requests import line_of, rows_of, write_parquet
from cascade.ledger.reading import reading
from cascade.ledger.requests import gather
from tests.live.conftest import CORPUS, COST
from tests.response_cache.conftest import cached


@pytest.fixture(params=["sqlite", "postgres"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty ledger of each kind."""
    return str(tmp_path / "ledger.db") if request.param == "sqlite" else request.getfixturevalue("postgres_database")


Ask = Callable[..., list[Any]]


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ask]:
    """Ask these prompts, one after the other, on a ledger; the cache is where the commands look for it."""
    monkeypatch.setenv("CASCADE_CACHE", str(tmp_path / "answers"))

    with Emulator(CORPUS) as emulator, anthropic.Anthropic(api_key="test", base_url=emulator.base_url) as client:

        def make(ledger: str, *prompts: str, **more: Any) -> list[Any]:
            with Cascade(cached(**more.pop("policy", {})), client=client, ledger=ledger) as driver:
                return [driver.ask(prompt, **more) for prompt in prompts]

        yield make


def told(ledger: str, capsys: pytest.CaptureFixture[str], *, as_json: bool) -> str:
    """What `cascade costs` prints."""
    capsys.readouterr()
    run_costs(CostsOptions(ledger=ledger), as_json=as_json)
    return capsys.readouterr().out


def test_costs_tell_the_hit_rate_and_the_money_saved(ask: Ask, ledger: str, capsys: pytest.CaptureFixture[str]) -> None:
    """To the nano-USD; the ladder's own saving counts climbs alone, and the ledger stays sound."""
    ask(ledger, "sure", "sure", "unsure", "unsure", "unsure")
    ask(ledger, "sure", cache=False)
    spared = COST["haiku"] + 2 * (COST["haiku"] + COST["sonnet"])
    found = json.loads(told(ledger, capsys, as_json=True))
    assert found["response_cache"] == {"hits": 3, "misses": 2, "hit_rate": 0.6, "saved_usd": spared / 1e9}
    assert (found["requests"], found["answers"], found["escalated_of"]) == (6, 6, 3)
    assert found["saved"]["requests"] == 3
    assert {line["arm"]: (line["requests"], line["cost_usd"]) for line in found["arms"]}["cache"] == (3, 0.0)
    assert "answered    3 of 5 requests (60.0 %) again from the response cache, which saved 0.000" in told(
        ledger, capsys, as_json=False
    )
    assert run_verify(ledger, None, None, as_json=True) == 0


def test_without_a_cache_costs_say_nothing_of_it(ask: Ask, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Null in JSON, no line in the text."""
    ledger = str(tmp_path / "ledger.db")
    ask(ledger, "sure", policy={"cache": None})
    assert json.loads(told(ledger, capsys, as_json=True))["response_cache"] is None
    assert "response cache" not in told(ledger, capsys, as_json=False)


def test_a_rollouts_measure_leaves_hits_and_misses_as_they_are(
    ask: Ask, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A request that asked the cache in vain is counted once among the climbs, by its slot, too."""
    ledger = str(tmp_path / "ledger.db")
    ask(ledger, "sure", "sure", policy={"rollout": {"percent": 100}})
    with reading(ledger) as reader:
        found = PeriodSums.of((), reader.traffic(0, 1 << 40))
    assert [(row.arm, row.requests) for row in found.slots] == [("cascade", 1)]
    assert [(row.arm, row.requests) for row in found.missed] == [("cache", 1)]
    assert sorted((row.arm, row.requests) for row in found.traffic) == [("cache", 1), ("cascade", 1)]
    assert json.loads(told(ledger, capsys, as_json=True))["saved"]["requests"] == 1


def test_a_hit_is_exported_without_a_step(ask: Ask, ledger: str) -> None:
    """A line of JSON with its outcome; no row of calls."""
    _, hit = ask(ledger, "sure", "sure")
    with reading(ledger) as reader, reader.snapshot():
        found = {one.id: one for one in gather(reader)}
        requests, calls = write_parquet(gather(reader), io.BytesIO())
    line = json.loads(line_of(found[hit.request_id]))
    assert (line["steps"], line["outcome"]["arm"], line["outcome"]["cache"]) == ([], "cache", "hit")
    assert list(rows_of(found[hit.request_id])) == []
    assert (requests, calls) == (2, 1)


def test_erasing_a_request_removes_its_cached_answer(
    ask: Ask, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the ledger's metadata; another's answer stays; a dry run removes nothing, and a store that is down is told."""
    ledger = str(tmp_path / "ledger.db")
    ask(ledger, "sure", metadata={"customer": "c-1"})
    ask(ledger, "unsure", metadata={"customer": "c-2"})
    capsys.readouterr()
    run_erase(ledger, ["customer=c-1"], dry_run=True, as_json=True)
    assert "cached_answers" not in json.loads(capsys.readouterr().out)
    run_erase(ledger, ["customer=c-1"], dry_run=False, as_json=True)
    assert json.loads(capsys.readouterr().out)["cached_answers"] == 1
    assert b"haiku's" not in b"".join(path.read_bytes() for path in tmp_path.glob("answers*"))
    assert [one.cache for one in ask(ledger, "sure", "unsure")] == ["miss", "hit"]
    run_erase(ledger, ["customer=c-2"], dry_run=False, as_json=False)
    assert "1 cached answers removed" in capsys.readouterr().out
    for path in tmp_path.glob("answers*"):
        path.unlink()
    (tmp_path / "answers").write_bytes(b"no database " * 1000)
    run_erase(ledger, ["customer=c-2"], dry_run=False, as_json=False)
    assert "cannot be used" in capsys.readouterr().out


def test_doctor_looks_at_the_cache_of_a_policy_that_has_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it is, and what is wrong with it."""
    monkeypatch.setenv("CASCADE_CACHE", str(tmp_path / "answers"))
    policy = tmp_path / "p.yaml"
    ladder = "[{rung: haiku, model: claude-haiku-5-5, threshold: 0.8, max_tokens: 9}, {rung: opus, model: claude-sonnet-5-5, max_tokens: 9}]"
    found = []
    for text, cache in (("", None), ("cache: {}\n", None), ("cache: {}\n", b"no database " * 1000)):
        policy.write_text(f"version: 1\nname: p\nladder: {ladder}\n{text}", encoding="utf-8")
        if cache is not None:
            (tmp_path / "answers").write_bytes(cache)
        run_doctor(str(policy), as_json=True)
        findings = json.loads(capsys.readouterr().out)["findings"]
        found.append([(one["state"], "answers" in one["found"]) for one in findings if one["what"] == "response cache"])
    assert found == [[], [("ok", True)], [("warning", True)]]
