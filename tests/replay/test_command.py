"""`cascade replay`: its figures, by hand and on recorded corpora, its table, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cascade.corpora import Item, Manifest, RecordedReply, write_corpus
from tests.cli.conftest import Run, Runner

from .conftest import LADDER, item

SHOWN = [
    ("mmlupro-gpt41", 0.678845, 2.162226, 0.299353, [5990, 441, 220]),
    ("mmlupro-claude", 0.421591, 1.267857, 0.577357, [6638, 3, 10]),
    ("coding-claims", 0.770619, 2.121363, 0.186903, [3414, 1700, 536]),
]
SINGLES = {
    "mmlupro-gpt41": [(0.646219, 0.7482), (0.777928, 2.8517), (0.803789, 11.6472)],
    "coding-claims": [(0.569381, 1.1054), (0.764779, 1.0105), (0.806018, 6.5286)],
}
KEYS = [
    "corpus", "policy", "items", "quality", "quality_ci95", "cost_usd", "cost_per_request_usd", "shipped",
    "escalation_rate", "reasons", "false_confident_rate", "abstained", "storms", "baselines", "savings_vs_top", "tasks",
    "seconds",
]  # fmt: skip


@pytest.mark.parametrize("shown", SHOWN, ids=[row[0] for row in SHOWN])
@pytest.mark.parametrize("path", [(), ("--exact-engine",)], ids=["vectorised", "exact"])
def test_recorded_corpora_give_the_figures_an_independent_reading_gave(
    run: Run,
    real_corpus: Callable[[str], Path],
    path: tuple[str, ...],
    shown: tuple[str, float, float, float, list[int]],
) -> None:
    """Quality, cost, confidently wrong answers, who shipped, and the single models beside them; by either path."""
    name, quality, cost, wrong, shipped = shown
    told = run("replay", str(real_corpus(name)), "--json", *path).json
    assert round(told["quality"], 6) == quality
    assert round(told["cost_usd"], 6) == cost
    assert round(told["false_confident_rate"], 6) == wrong
    assert list(told["shipped"].values()) == shipped
    singles = [told["baselines"][f"single:{rung}"] for rung in told["shipped"]]
    for single, (its_quality, its_cost) in zip(singles, SINGLES.get(name, ()), strict=False):
        assert (round(single["quality"], 6), round(single["cost_usd"], 4)) == (its_quality, its_cost)


def test_the_json_is_what_the_contract_says(run: Run, small: Path) -> None:
    """Every key, and every figure as it is reckoned by hand."""
    told = run("replay", str(small), "--json").json
    assert [key for key in told if key in KEYS] == sorted(KEYS, key=list(told).index)
    assert set(told) == {*KEYS, "thresholds", "beside", "synthetic", "notes"}
    assert told["thresholds"] == {"cheap": 0.8}
    beside = told["beside"]["single:dear"]
    assert beside["cascade_less_it"]["quality"] == -0.25
    assert beside["cascade_less_it"]["ci95"][0] <= -0.25 <= beside["cascade_less_it"]["ci95"][1] <= 0
    assert beside["quality_ci95"][0] <= 0.75 <= beside["quality_ci95"][1]
    assert told["synthetic"] is True
    assert (told["items"], told["quality"], told["cost_usd"]) == (4, 0.5, pytest.approx(0.024))
    assert told["shipped"] == {"cheap": 2, "dear": 2}
    assert told["escalation_rate"] == {"cheap": 0.5, "dear": 0.0}
    assert told["reasons"] == {"low_confidence": 1, "malformed": 1}
    assert told["false_confident_rate"] == 0.25
    assert told["savings_vs_top"] == pytest.approx(1 - 0.024 / 0.04)
    assert told["storms"] == {"off": "no storm guard in the policy"}
    assert told["baselines"] == {
        "single:cheap": {"quality": 0.5, "cost_usd": 0.004, "false_confident_rate": 0.5},
        "single:dear": {"quality": 0.75, "cost_usd": 0.04, "false_confident_rate": 0.0},
        "random_mix": {"quality": 0.625, "cost_usd": 0.024},
    }
    assert list(told["tasks"]) == ["easy", "hard"]
    assert told["tasks"]["easy"]["quality"] == 0.5
    assert told["tasks"]["hard"]["shipped"] == {"cheap": 0, "dear": 2}


def test_the_table_says_first_what_matters(run: Run, small: Path) -> None:
    """Against the top, against a single model that is no worse, and confidently wrong; synthetic and uncertified."""
    ran = run("replay", str(small))
    first = ran.out.splitlines()[0]
    assert "Against dear alone: 40% cheaper, 0.2500 lower quality (-0.7500 to +0.0000)." in first
    assert "cheap alone is no worse and no dearer: do not cascade here." in first
    assert "Confidently wrong: 25.0%" in first
    assert "synthetic" in ran.out
    assert "uncertified" in ran.out


def test_the_title_says_which_thresholds_ran(run: Run, small: Path) -> None:
    """Two saved tables can be told apart."""
    assert "its own ladder at cheap 0.8, uncertified" in run("replay", str(small)).out
    assert (
        "at cheap never (and others by task)"
        in run("replay", str(small), "--threshold", "cheap=never", "--threshold", "easy:cheap=0.5").out
    )


def test_a_shipped_corpus_is_found_by_its_name(run: Run) -> None:
    """As a shipped policy is."""
    assert run("replay", "storm", "--json").json["items"] == 3000


def test_other_models_replies_are_not_passed_off(run: Run, tmp_path: Path) -> None:
    """A rung of the same name that was recorded with another model is told before anything else."""
    path = tmp_path / "other.jsonl"
    ladder = tuple(type(entry)(entry.rung, f"other-{entry.rung}") for entry in LADDER)
    write_corpus(path, Manifest("other", ladder), [item("one", 0.99, (1.0, 1.0))])
    ran = run("replay", str(path), "--policy", write_policy(tmp_path))
    assert ran.out.startswith("warning: these are other models' replies: 'cheap' was recorded with other-cheap")
    assert "these are other models' replies" in run(
        "replay", str(path), "--policy", write_policy(tmp_path), "--json"
    ).json["notes"][0]  # fmt: skip


def test_what_steers_a_terminal_is_not_printed(run: Run, tmp_path: Path) -> None:
    """A task named by whoever wrote the corpus cannot colour or break the table."""
    path = tmp_path / "odd.jsonl"
    tasks = ("\x1b[31mred", "two\nlines")
    items = [item(str(n), 0.99, (1.0, 1.0), task=task) for n, task in enumerate(tasks)]
    write_corpus(path, Manifest("odd", LADDER), items)
    out = run("replay", str(path)).out
    assert "\x1b" not in out
    assert "\\x1b[31mred" in out
    assert "two\\nlines" in out


def test_items_without_a_grade_or_a_price_are_skipped_if_wanted(run: Run, small: Path) -> None:
    """One ungraded reply need not make a whole corpus unusable; what was left out is counted and named."""
    lines = small.read_text().splitlines()
    first = json.loads(lines[1])
    del first["replies"]["dear"]["score"]
    small.write_text("\n".join([lines[0], json.dumps(first), *lines[2:]]) + "\n")
    told = run("replay", str(small), "--skip-bad", "--json").json
    assert (told["items"], told["skipped"]) == (3, 1)
    assert "the reply of 'dear' has no score" in told["problems"][0]


def test_a_baseline_that_was_asked_plainly_stands_beside_the_rungs(run: Run, small: Path) -> None:
    """Its own answers, without triage, are a single model of their own."""
    lines = [json.loads(line) for line in small.read_text().splitlines()]
    lines[0]["recorded"] = {"baseline": {"model": "middle", "rung": None}}
    for line in lines[1:]:
        line["baseline"] = {"answer": "x", "score": 1.0, "cost_usd": 0.002}
    small.write_text("".join(json.dumps(line) + "\n" for line in lines))
    baselines = run("replay", str(small), "--json").json["baselines"]
    expected = {"quality": 1.0, "cost_usd": pytest.approx(0.008), "false_confident_rate": None}
    assert baselines["single:middle (plain)"] == expected


def test_several_corpora_give_a_result_each(run: Run, small: Path) -> None:
    """A list in JSON, and one table after the other for people."""
    told = run("replay", str(small), str(small), "--json").json
    assert [one["corpus"] for one in told] == ["small", "small"]


@pytest.mark.parametrize(
    ("thresholds", "shipped"),
    [
        (("cheap=0.81",), [1, 3]),
        (("cheap=never",), [0, 4]),
        (("cheap=0",), [3, 1]),
        (("easy:cheap=never", "hard:cheap=0.7"), [1, 3]),
    ],
)
def test_thresholds_can_be_moved(run: Run, small: Path, thresholds: tuple[str, ...], shipped: list[int]) -> None:
    """For the ladder and for a task; `never` ships nothing, and what has no confidence never ships below the top."""
    options = [part for text in thresholds for part in ("--threshold", text)]
    assert list(run("replay", str(small), "--json", *options).json["shipped"].values()) == shipped


@pytest.mark.parametrize(
    ("requirement", "code", "said"),
    [
        ("quality>=0.5", 0, ""),
        ("tasks.easy.quality == 0.5", 0, ""),
        ("quality>0.5", 3, "quality>0.5 is not met: quality is 0.5"),
        ("baselines.single:dear.cost_usd<0.04", 3, "is not met"),
        ("quality_ci95.0>=2", 3, "is not met"),
        ("colour>=1", 2, "there is no figure 'colour'"),
        ("quality=1", 2, "not a requirement"),
        ("quality>=good", 2, "not a requirement"),
    ],
)
def test_requirements_decide_the_exit_code(run: Run, small: Path, requirement: str, code: int, said: str) -> None:
    """0 when met, 3 when not, 2 for what is none; the result is printed all the same."""
    ran = run("replay", str(small), "--json", "--require", requirement)
    assert ran.code == code
    assert said in ran.err
    if code != 2:
        assert ran.json["items"] == 4
    if code:
        assert json.loads(ran.err)["exit_code"] == code


POLICY = """
version: 1
name: mine
ladder:
  - {rung: cheap, model: own-small, threshold: 0.95, max_tokens: 9, price: {input: 1, output: 1}}
  - {rung: dear, model: own-large, max_tokens: 9, price: {input: 2, output: 2}}
"""


def write_policy(folder: Path, **changes: str) -> str:
    """A policy of the small corpus's rungs, with some words changed."""
    text = POLICY
    for old, new in changes.items():
        text = text.replace(old, new)
    path = folder / f"{'-'.join(changes) or 'mine'}.yaml"
    path.write_text(text)
    return str(path)


def test_a_comparison_is_paired(run: Run, small: Path, tmp_path: Path) -> None:
    """Differences are the policy's less the other's, with the items that flipped."""
    told = run("replay", str(small), "--json", "--against", write_policy(tmp_path)).json["against"]
    assert told["policy"] == "mine"
    assert (
        told["quality"]["difference"] == -0.25
    )  # "wrong" ships cheap at 0.8 and dear at 0.95; "right" is right in both
    assert told["cost_per_request_usd"]["difference"] == pytest.approx(-0.02 / 4)
    assert told["false_confident_rate"]["difference"] == 0.25
    assert (told["to_right"], told["to_wrong"]) == ([], ["wrong"])
    low, high = told["quality"]["ci95"]
    assert low <= -0.25 <= high <= 0.0


def test_a_policys_rungs_are_matched_by_name_then_by_model(run: Run, tmp_path: Path) -> None:
    """A rung of another name stands for the recorded one of its model; one that is not there is an error."""
    path = tmp_path / "modelled.jsonl"
    ladder = tuple(
        type(entry)(entry.rung, f"own-{size}") for entry, size in zip(LADDER, ("small", "large"), strict=True)
    )
    write_corpus(path, Manifest("modelled", ladder), [item("one", 0.99, (1.0, 1.0))])
    renamed = write_policy(tmp_path, cheap="first")
    assert run("replay", str(path), "--policy", renamed, "--json").json["shipped"] == {"first": 1, "dear": 0}
    strange = write_policy(tmp_path, cheap="first", small="medium")
    ran = run("replay", str(path), "--policy", strange)
    assert ran.code == 2
    assert "modelled.jsonl: has no rung 'first' (own-medium), which policy 'mine' asks" in ran.err


CHECKS = """
def is_ready(text):
    return text in ("ready", "b")


def breaks(text):
    return text == "b" or text.absent
"""


@pytest.mark.parametrize("path", [(), ("--exact-engine",)], ids=["vectorised", "exact"])
@pytest.mark.parametrize(
    ("function", "shipped", "failed"),
    [("is_ready", {"cheap": 1, "dear": 1}, 1), ("breaks", {"cheap": 0, "dear": 2}, 2)],
)
def test_a_policys_own_functions_check_recorded_answers(
    runner: Runner, tmp_path: Path, path: tuple[str, ...], function: str, shipped: dict[str, int], failed: int
) -> None:
    """A check `module:function` sees the recorded text: what it refuses, or breaks on, climbs; by either path."""
    (tmp_path / "own_checks.py").write_text(CHECKS)
    items = [
        Item(name, name, {"cheap": RecordedReply(0.99, answer, 1.0, cost_usd=0.001), "dear": dear}, at=float(number))
        for number, (name, answer) in enumerate((("one", "ready"), ("two", "not ready")))
        for dear in (RecordedReply(None, "b", 1.0, cost_usd=0.01),)
    ]
    write_corpus(tmp_path / "own.jsonl", Manifest("own", LADDER), items)
    policy = Path(write_policy(tmp_path))
    policy.write_text(policy.read_text() + f"checks: ['own_checks:{function}']\n")
    ran = runner(tmp_path)(  # a process of its own: a module of this name is another one in each test
        "replay", "own.jsonl", "--policy", str(policy), *path, "--json", environment={"PYTHONPATH": str(tmp_path)}
    )
    assert ran.code == 0, ran.err
    assert ran.json["shipped"] == shipped
    assert ran.json["reasons"] == {"check_failed": failed}


def test_a_check_that_is_not_there_is_refused(run: Run, small: Path, tmp_path: Path) -> None:
    """Before a line is decided: exit 2, and what to do."""
    policy = Path(write_policy(tmp_path))
    policy.write_text(policy.read_text() + "checks: ['own_checks:missing']\n")
    ran = run("replay", str(small), "--policy", str(policy))
    assert (ran.code, ran.out) == (2, "")
    assert "own_checks:missing cannot be used" in ran.err


def test_reprice_takes_the_policys_prices_and_refuses_to_guess(run: Run, small: Path, tmp_path: Path) -> None:
    """Usage at the policy's prices; a reply without its usage has no price, never 0."""
    ran = run("replay", str(small), "--policy", write_policy(tmp_path), "--reprice")
    assert ran.code == 2
    assert "small.jsonl:2: item 'right': the reply of 'cheap' has no usage" in ran.err


def test_bad_lines_stop_the_run_or_are_counted(run: Run, small: Path) -> None:
    """With its line number; under --skip-bad they are passed over, an id that occurs twice too."""
    lines = small.read_text().splitlines()
    small.write_text("\n".join([lines[0].replace('"items": 4', '"items": 6'), *lines[1:], lines[1], "{}"]) + "\n")
    ran = run("replay", str(small))
    assert ran.code == 2
    assert "small.jsonl:7: " in ran.err or "small.jsonl:6: item 'right': the id occurs twice" in ran.err
    told = run("replay", str(small), "--skip-bad", "--json").json
    assert (told["items"], told["skipped"], len(told["problems"])) == (4, 2, 2)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--threshold", "cheap=1.5"), "not [task:]rung=x"),
        (("--threshold", "dear=0.5"), "the last rung has no threshold"),
        (("--threshold", "middle=0.5"), "there is no rung 'middle'"),
        (("--threshold", "odd:cheap=0.5"), "has no item of task 'odd' (it has easy, hard)"),
        (("--threshold", "cheap=0.5", "--threshold", "cheap=0.6"), "it is given twice"),
        (("--split", "half"), "there is no such part"),
        (("--tune", "2", "--split", "tune"), "is not between 0 and 1"),
        (("--policy", "nowhere.yaml"), "nowhere.yaml"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(run: Run, small: Path, options: tuple[str, ...], said: str) -> None:
    """Exit 2, what and where and what to do, nothing on stdout."""
    ran = run("replay", str(small), *options)
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err
    assert ran.err.count("\n") == 1


def test_storms_are_told(run: Run, support: Path) -> None:
    """On a corpus with arrival times: trips, what was sent up and what it cost; without times the guard is off."""
    told: dict[str, Any] = run("replay", str(support), "--policy", "support", "--json").json
    assert set(told["storms"]) >= {"tripped", "released", "escalated", "held", "cost_usd", "changes"}
    assert told["reasons"].get("storm", 0) >= told["storms"]["escalated"]


def test_without_arrival_times_the_guard_is_off_and_that_is_told(run: Run, small: Path, tmp_path: Path) -> None:
    """Never silently."""
    path = Path(write_policy(tmp_path))
    path.write_text(path.read_text() + "storm_guard: {rate: 0.35}\n")
    told = run("replay", str(small), "--policy", str(path), "--json").json
    assert told["storms"] == {"off": "no arrival times"}
    assert any("storm guard is off" in note for note in told["notes"])
