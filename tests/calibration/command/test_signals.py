"""`cascade calibrate --signals`: the table, the JSON, the report's section, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from msgspec.structs import replace as changed

from cascade.calibration.report import input_of, render_report
from cascade.corpora.writing import write_corpus
from tests.calibration.signal_table.told import drawn, measured
from tests.cli.conftest import Run
from tests.report.builders import drawn as counts_drawn
from tests.report.test_report import HOSTILE, Page


@pytest.fixture
def corpus(tmp_path: Path) -> str:
    """Votes and a check that help."""
    made, path = drawn(400), tmp_path / "told.jsonl"
    write_corpus(path, made.manifest, made.items)
    return str(path)


def test_the_table_says_what_to_turn_on_in_a_hundred_columns(run: Run, corpus: str) -> None:
    """Without an objective: the gap, the floor, a row a signal, which mistakes a check finds, and the order."""
    ran = run("calibrate", corpus, "--signals")
    assert ran.code == 0, ran.err
    lines = ran.out.splitlines()
    for said in (
        "signals of told, on ",
        "synthetic items of the tuning half",
        "the gap: from low alone, quality ",
        "as a multiple of the cost of top alone",
        "the floor, if every request ended at the first rung that no other betters: cost ",
        "signals of low ",
        "self-report ",
        "agreement of 3 ",
        "self-report if they agree ",
        "check tests: finds ",
        "worth turning on, in this order",
        "  1. low: ",
    ):
        assert [line for line in lines if line.startswith(said) or said in line], said
    table = [
        line
        for line in lines
        if line.startswith(("signals of low", "self-report", "agreement", "votes", "check tests  "))
    ]
    assert max(map(len, table)) <= 100
    assert "thresholds" not in lines[0]


def test_the_json_has_the_same(run: Run, corpus: str) -> None:
    """Alone it is all there is; beside an objective it is one more key, and the rest stays as it was."""
    alone = run("calibrate", corpus, "--signals", "--json").json
    assert set(alone) == {"signals", "seconds"}
    found = alone["signals"]
    assert found["half"] == "tune"
    assert found["best_single"] == "top"
    assert {one["signal"] for one in found["rows"]} >= {"self-report", "agreement of 4", "check tests", "scorer, right"}
    assert [one["share"] for one in found["rows"][0]["costs"]] == [0.5, 0.9, 0.99]
    assert set(found["rows"][0]["costs"][1]["shipped"]) == {"low", "top"}
    assert found["advice"][0]["shown"]
    with_, without = (
        run("calibrate", corpus, "--min-quality", "0.9", "--json", *more).json for more in (["--signals"], [])
    )
    assert with_.pop("signals") == found
    assert {**with_, "seconds": 0} == {**without, "seconds": 0}


def test_a_bound_on_confident_mistakes_leaves_the_gain_out(run: Run, corpus: str) -> None:
    """As calibrate refuses it there."""
    found = run("calibrate", corpus, "--signals", "--max-risk", "0.2", "--json").json["signals"]
    kinds = {one["signal"] for one in found["rows"]}
    assert "scorer, right" in kinds
    assert "scorer, gain" not in kinds


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--counts"], "--signals: tables of counts do not hold single items"),
        (["--report", "page.html"], "exactly one objective is needed"),
        (["--against", "support"], "takes corpora and no other option"),
    ],
)
def test_what_does_not_go_together_is_refused(run: Run, corpus: str, more: list[str], said: str) -> None:
    """In one line."""
    ran = run("calibrate", corpus, "--signals", *more)
    assert ran.code == 2
    assert said in ran.err


def test_the_report_has_a_section_of_its_own(run: Run, corpus: str, tmp_path: Path) -> None:
    """With --signals only."""
    for more, has in (["--signals"], True), ([], False):
        path = tmp_path / "page.html"
        ran = run("calibrate", corpus, "--min-quality", "0.9", "--report", str(path), *more)
        assert ran.code == 0, ran.err
        text = path.read_text("utf-8")
        assert ("What each signal is worth" in text) is has
        assert ("check tests" in text) is has


def test_hostile_names_of_signals_are_texts() -> None:
    """Rungs, checks and variants in markup: no element comes of it that an honest table does not have."""
    plain = measured(drawn(120), targets=())
    made = drawn(120)
    items = [
        changed(
            item, replies={**item.replies, "low": changed(low, checks=dict.fromkeys(HOSTILE, True), variant=HOSTILE[0])}
        )
        for item in made.items
        for low in (item.replies["low"],)
    ]
    found = measured(replace(made, items=tuple(items)), targets=())
    found = replace(found, best=HOSTILE[0], rungs=HOSTILE[:2], rows=tuple(replace(one, rung=HOSTILE[0]) for one in found.rows),
                    notes=HOSTILE, repeats={HOSTILE[0]: HOSTILE[1]})  # fmt: skip
    given = input_of(counts_drawn(("a", "b"), 50, 4), corpus="c", synthetic=True)
    page, calm = (Page(render_report(replace(given, measured=one))) for one in (found, plain))
    assert {tag for tag, _ in page.elements} <= {tag for tag, _ in calm.elements} | {"ol", "ul", "li", "code"}
    assert not [
        name for _, attributes in page.elements for name in attributes if name.startswith("on") or name == "src"
    ]
    assert len(page.scripts) == len(calm.scripts) == 2
    assert HOSTILE[0] in "".join(page.texts)
