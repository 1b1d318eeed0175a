"""The verdict and the number of requests: none without it, and with it one turn at most."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cascade.cli.savings.command import SavingsOptions, run_savings
from cascade.core.messages import Usage
from tests.savings.scenes import advised, good_corpus, one, said_of

EXPORT = "date,model,input_tokens,output_tokens\n2026-11-01,claude-sonnet-5-5,2500000,300000\n"


@pytest.fixture
def advice_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """What `cascade savings --json` says of the export, with so many requests or none said."""
    corpus = good_corpus(tmp_path, times=7, prompt=35)
    usage = tmp_path / "usage.csv"
    usage.write_text(EXPORT)

    def told(requests: int | None = None, **more: Any) -> dict[str, Any]:
        run_savings(SavingsOptions(usage, corpus=str(corpus), requests=requests, **more), as_json=True)
        return json.loads(capsys.readouterr().out)

    return told


def test_without_a_number_of_requests_there_is_a_range_and_no_verdict(advice_of: Any) -> None:
    """At most so much, and nothing from so many requests on; at that number it does not pay, as its own message says."""
    shown = advice_of()
    most = shown["break_even"]["requests"]
    assert (shown["advice"]["routing_pays"], most > 1_000) == (None, True)
    assert "at most 168.00 USD a month" in shown["advice"]["verdict"]
    assert f"and nothing from {most:,} requests on" in shown["advice"]["verdict"]
    assert not shown["advice"]["verdict"].startswith("routing pays")
    dearer = advice_of(most + 1)["advice"]
    assert dearer["routing_pays"] is False
    assert "dearer_than_today" in {finding["code"] for finding in dearer["findings"] if finding["against"]}
    assert advice_of(most + 1)["break_even"]["requests"] == most


def test_the_verdict_turns_once_as_the_number_of_requests_grows(tmp_path: Path) -> None:
    """Of the same tokens: open or yes up to one number, no from there on; never yes again."""
    mix = said_of(good_corpus(tmp_path, times=7, prompt=35))
    numbers = [int(10 ** (step / 8)) for step in range(8, 57)]
    verdicts = [
        advised([one("claude-sonnet-5-5", Usage(75_000_000, 9_000_000), number)], mix, certified=True).pays
        for number in numbers
    ]
    turn = verdicts.index(False)
    assert set(verdicts[turn:]) == {False}
    assert set(verdicts[:turn]) == {None, True}
    assert verdicts[:turn] == sorted(verdicts[:turn], key=lambda pays: pays is True), "open, then yes"


def test_a_number_that_makes_other_requests_than_the_corpus_has_is_no_yes(advice_of: Any) -> None:
    """A thousand requests would be seventy times as long as the recorded ones: the mix does not stand for them."""
    shown = advice_of(1_000)["advice"]
    assert shown["routing_pays"] is None
    assert {"other_size", "uncertified"} <= {finding["code"] for finding in shown["findings"]}
    assert "the corpus's requests are of another size" in shown["verdict"]


def test_only_certified_thresholds_are_said_to_pay(tmp_path: Path) -> None:
    """So `savings` does not promise what `calibrate` has not proved."""
    mix = said_of(good_corpus(tmp_path, times=7))
    large = [one("claude-opus-5-5", Usage(2_000_000_000, 100_000_000), 1_000_000)]
    assert advised(large, mix, certified=True).pays is True
    guessed = advised(large, mix)
    assert guessed.pays is None
    assert "not certified (`cascade calibrate`)" in guessed.verdict
    few = advised(large, said_of(good_corpus(tmp_path, times=1)), certified=True)
    assert few.pays is None
    assert "too few items to say" in few.verdict
