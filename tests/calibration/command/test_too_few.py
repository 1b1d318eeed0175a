"""A corpus too small to show anything is called that; other models' replies promise nothing; a file left alone is named."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from cascade.calibration.bounds import counted_sample, keeps
from tests.cli.conftest import Run

from .test_command import knowing, write
from .test_told import copy_of

OUR_RUNGS = ("haiku", "sonnet", "opus")


def all_right(_: random.Random, __: int) -> dict[str, Any]:
    """Every rung is right, and sure of it."""
    return {"confidence": 0.9, "score": 1.0}


def single_row(printed: str, rung: str) -> str:
    """The table's line of one model alone."""
    return next(line for line in printed.splitlines() if line.startswith(f"{rung} alone")).rstrip()


@pytest.mark.parametrize(
    ("errors", "n", "shown"), [(0, 14, None), (2, 14, None), (0, 29, True), (12, 14, False), (1, 29, None)]
)
def test_a_rate_is_shown_below_a_bound_or_above_it_or_neither(errors: int, n: int, shown: bool | None) -> None:
    """At alpha 0.1 and 95 %: 29 items without an error show that it is kept, 14 show nothing."""
    assert keeps(counted_sample(errors, n), 0.1, 0.05) is shown


def test_too_few_items_are_no_verdict_against_a_cheap_model(run: Run, tmp_path: Path) -> None:
    """All 28 answers of the cheapest rung are right: that is neither "do not cascade here" nor "no"."""
    path = write(tmp_path, 28, all_right, OUR_RUNGS)
    told = run("calibrate", path, "--max-risk", "0.1", "--json").json
    held, more = told["certify"] or told["baselines"]["single:haiku"], told["refusal"]["further_units_in_all"]
    assert (told["feasible"], told["advice"], told["baselines"]["single:haiku"]["meets"]) == (False, None, None)
    ran = run("calibrate", path, "--max-risk", "0.1")
    assert ran.code == 3
    first = ran.out.splitlines()[0]
    assert first == (
        f"too few to say: {held['items']} held-out items; about {more} more items are needed (both halves together)"
    )
    assert single_row(ran.out, "haiku").endswith("not shown")
    assert single_row(ran.out, "opus").endswith("yes")
    assert f"{more} more items (both halves together)" in ran.err
    assert "best single model" not in ran.err


def test_as_many_more_items_as_were_named_are_enough(run: Run, tmp_path: Path) -> None:
    """The number is a promise that can be kept."""
    few = run("calibrate", write(tmp_path, 28, all_right), "--max-risk", "0.1", "--json").json
    more = few["refusal"]["further_units_in_all"]
    enough = run("calibrate", write(tmp_path, 28 + more + 8, all_right), "--max-risk", "0.1", "--json").json
    assert (enough["feasible"], enough["advice"], enough["baselines"]["single:a"]["meets"]) == (True, "single:a", True)


def test_a_cheaper_model_that_a_few_items_more_would_show_is_not_advised_against(run: Run, tmp_path: Path) -> None:
    """The never-shipping cascade is certified and the top meets it by definition: still nothing is shown of the cheap one."""

    def one_slip(chance: random.Random, rung: int) -> dict[str, Any]:
        return {"confidence": 0.9, "score": float(rung > 0 or chance.random() < 0.97)}

    path = write(tmp_path, 120, one_slip)
    told = run("calibrate", path, "--max-risk", "0.06", "--json").json
    cheap = told["baselines"]["single:a"]
    assert cheap["meets"] is None
    assert cheap["loss_rate"] < 0.06
    assert told["advice"] in (None, "single:b")
    out = run("calibrate", path, "--max-risk", "0.06").out
    assert out.startswith("too few to say: ")


def test_what_is_shown_to_break_the_bound_is_a_no(run: Run, tmp_path: Path) -> None:
    """A model that is wrong half the time on 200 held-out items has been shown not to do."""

    def coin(chance: random.Random, rung: int) -> dict[str, Any]:
        return {"confidence": 0.9, "score": float(rung == 2 or chance.random() < 0.5)}

    path = write(tmp_path, 400, coin)
    out = run("calibrate", path, "--max-risk", "0.1").out
    assert out.startswith("do not cascade here: c alone")
    assert single_row(out, "a").endswith("no")


def test_a_policy_that_is_not_written_is_said_to_be_unchanged(run: Run, tmp_path: Path) -> None:
    """With exit 3 as with exit 2; and what was written is named."""
    desk = copy_of("default", tmp_path)
    before = desk.read_bytes()
    ran = run("calibrate", write(tmp_path, 28, all_right, OUR_RUNGS), "--max-risk", "0.1", "--write", str(desk))
    assert (ran.code, desk.read_bytes()) == (3, before)
    assert f"{desk} is unchanged" in ran.err
    ran = run("calibrate", write(tmp_path, 400, all_right, OUR_RUNGS), "--max-risk", "0.1", "--write", str(desk))
    assert (ran.code, desk.read_bytes()) == (2, before)
    assert f"{desk}: unchanged: " in ran.err
    ran = run("calibrate", "history", "--policy", str(desk), "--max-risk", "0.1", "--write", str(desk))
    assert ran.code == 0
    assert f"written: {desk}" in ran.err


@pytest.mark.parametrize("items", [28, 400])
def test_other_models_replies_come_first_and_promise_nothing(run: Run, tmp_path: Path, items: int) -> None:
    """No number of such items certifies the policy, and what the recorded models meet says nothing of its own."""
    path = Path(write(tmp_path, items, knowing, OUR_RUNGS))
    path.write_text(path.read_text().replace('"rung": "haiku"', '"rung": "haiku", "model": "gpt-4.1"', 1))
    page = tmp_path / "r.html"
    ran = run("calibrate", str(path), "--policy", "default", "--max-risk", "0.2", "--report", str(page))
    first, second = ran.out.splitlines()[:2]
    assert first == (
        "warning: these are other models' replies: 'haiku' was recorded with gpt-4.1, the policy asks claude-haiku-5-5:"
        " nothing is certified for the policy"
    )
    assert second.startswith("for the recorded models: ")
    assert "about" not in ran.out + ran.err
    assert "certified:" not in ran.out
    assert "  certified\n" not in ran.out
    assert "these are other models&#39; replies" in page.read_text()
    assert "upper bound" not in page.read_text()  # no certificate in the report either
