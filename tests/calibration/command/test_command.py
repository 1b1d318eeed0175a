"""`cascade calibrate`: its choice, its refusals, what it writes, and that replay says the same of its thresholds."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run

KEYS = {
    "objective", "feasible", "thresholds", "tasks", "advice", "certificate", "tune", "certify", "frontier", "baselines",
    "signal", "seconds",
}  # fmt: skip
RUNGS = ("a", "b", "c")
Reply = Callable[[random.Random, int], dict[str, Any]]


def write(folder: Path, items: int, reply: Reply, rungs: tuple[str, ...] = RUNGS) -> str:
    """A corpus of items whose replies are drawn; each rung costs five times the one below."""
    chance = random.Random(1)
    lines: list[Any] = [
        {"corpus": "drawn", "version": 1, "ladder": [{"rung": rung} for rung in rungs], "synthetic": True}
    ]
    for number in range(items):
        replies = {rung: reply(chance, k) | {"answer": "x", "cost_usd": 0.001 * 5**k} for k, rung in enumerate(rungs)}
        lines.append({"id": str(number), "input": f"question {number}", "replies": replies})
    path = folder / "drawn.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def knowing(chance: random.Random, rung: int) -> dict[str, Any]:
    """A model that is right as often as it says, and better the higher."""
    said = chance.choice((0.4, 0.7, 0.9, 0.99))
    return {"confidence": said, "score": float(chance.random() < said + (1 - said) * rung / 2)}


@pytest.mark.parametrize("objective", [("--max-risk", "0.12"), ("--min-quality", "95%top"), ("--budget", "0.001")])
def test_replay_says_the_same_of_the_certify_half(run: Run, objective: tuple[str, ...]) -> None:
    """Quality, cost, confidently wrong answers and who ships, at the chosen thresholds: one rule."""
    told = run("calibrate", "coding", "--json", *objective).json
    assert set(told) >= KEYS
    assert told["feasible"]
    moved = [f"--threshold={rung}={'never' if x is None else x}" for rung, x in told["thresholds"].items()]
    for half in ("tune", "certify"):
        replayed = run("replay", "coding", "--json", "--split", half, *moved).json
        assert replayed["items"] == told[half]["items"]
        assert replayed["quality"] == pytest.approx(told[half]["quality"], abs=1e-9)
        assert replayed["cost_per_request_usd"] == pytest.approx(told[half]["cost_per_request_usd"], rel=1e-9)
        assert replayed["false_confident_rate"] == pytest.approx(told[half]["false_confident_rate"], abs=1e-12)
        assert replayed["shipped"] == told[half]["shipped"]


def test_the_frontier_chooses_nothing_and_says_so(run: Run) -> None:
    """Of the whole corpus: quality rises with cost, and nothing is called feasible, advised or certified."""
    told = run("calibrate", "support", "--frontier", "--json").json
    assert (told["feasible"], told["advice"], told["certificate"]) == (False, None, None)
    costs = [point["cost_per_request_usd"] for point in told["frontier"]]
    qualities = [point["quality"] for point in told["frontier"]]
    assert costs == sorted(costs)
    assert qualities == sorted(set(qualities))
    assert "no split, no choice, nothing certified" in run("calibrate", "support", "--frontier").out


def test_what_cannot_be_certified_is_exit_3_with_the_way_out(run: Run, tmp_path: Path) -> None:
    """Twelve items show nothing: how many more are needed, and no advice meanwhile."""
    ran = run("calibrate", write(tmp_path, 12, knowing), "--max-risk", "0.05")
    assert ran.code == 3
    assert "nothing could be certified" in ran.err
    assert "77 more items (both halves together)" in ran.err
    assert "best single model" not in ran.err


@pytest.mark.parametrize(
    ("reply", "advice"),
    [
        (lambda chance, _: {"confidence": chance.choice((0.5, 0.9)), "score": 1.0}, "single:a"),
        (lambda chance, _: {"confidence": chance.choice((0.5, 0.9)), "score": 0.0}, "single:c"),
        (lambda chance, rung: {"confidence": 0.9, "score": float(chance.random() < 0.6 + 0.15 * rung)}, "single:c"),
        (lambda chance, rung: {"score": float(chance.random() < 0.6 + 0.15 * rung)}, "single:c"),
        (
            lambda chance, rung: {
                "confidence": round(chance.random(), 2),
                "score": round(chance.random() / 2 + 0.15 * rung, 3),
            },
            "single:c",
        ),
    ],
    ids=["all right", "all wrong", "constant confidence", "no confidence", "graded, useless signal"],
)
def test_a_corpus_that_does_not_pay_is_told_so(run: Run, tmp_path: Path, reply: Reply, advice: str) -> None:
    """No proud threshold where one model alone does it: its name, and nothing is written without --force."""
    path = write(tmp_path, 400, reply)
    ran = run("calibrate", path, "--max-risk", "0.05", "--json")
    assert ran.json["advice"] == advice
    assert run("calibrate", path, "--max-risk", "0.05").out.startswith(f"do not cascade here: {advice[-1]} alone")


def test_one_rung_and_no_items_are_refused(run: Run, tmp_path: Path) -> None:
    """In one line, with the file."""
    ran = run("calibrate", write(tmp_path, 50, knowing, ("a",)), "--max-risk", "0.05")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "drawn.jsonl: its ladder has one rung" in ran.err
    ran = run("calibrate", write(tmp_path, 0, knowing), "--max-risk", "0.05")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "has no items" in ran.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "none is given"),
        (("--max-risk", "0.1", "--budget", "1"), "--max-risk and --budget"),
        (("--frontier", "--budget", "1"), "--frontier chooses no thresholds"),
        (("--max-risk", "1.5"), "--max-risk 1.5: must be between 0 and 1"),
        (("--max-risk", "0.1", "--loss", "sorrow"), "use false_confident, regression or disagreement"),
        (("--min-quality", "good"), "--min-quality good: must be a mean score"),
        (("--budget", "-1"), "--budget -1: must be above 0"),
        (("--max-risk", "0.1", "--tune", "0"), "the tune half of the split has no items"),
        (("--max-risk", "0.1", "--policy", "nowhere.yaml"), "nowhere.yaml"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(run: Run, options: tuple[str, ...], said: str) -> None:
    """Exit 2, nothing on stdout."""
    ran = run("calibrate", "support", *options)
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err
    assert ran.err.count("\n") == 1


def test_writing_puts_the_certificate_into_the_policy_in_place(run: Run, tmp_path: Path) -> None:
    """Only thresholds and certificate change; the policy then checks, answers as certified, and is stale when moved."""
    path = tmp_path / "desk.yaml"
    before = (Path(__file__).parents[3] / "policies" / "support.yaml").read_text()
    path.write_text(before)
    shown = run("calibrate", "support", "--max-risk", "0.12", "--write", str(path), "--dry-run")
    assert path.read_text() == before
    assert "+certificate:" in shown.out
    assert run("calibrate", "support", "--max-risk", "0.12", "--write", str(path)).code == 0
    after = path.read_text()
    kept = [line for line in before.splitlines() if line in after.splitlines()]
    assert len(kept) >= len(before.splitlines()) - 4
    assert run("policy", "check", str(path)).code == 0
    path.write_text(after.replace("threshold: 0.92", "threshold: 0.91", 1))
    stale = run("policy", "check", str(path))
    assert stale.code == 2
    assert "thresholds" in stale.err


def test_the_report_is_one_page_with_what_was_proved(run: Run, tmp_path: Path) -> None:
    """One file, without any address of a network, with the same figures as the table."""
    page = tmp_path / "report.html"
    told = run("calibrate", "support", "-p", "support", "--max-risk", "0.12", "--report", str(page), "--json").json
    text = page.read_text()
    assert "Certified." in text
    assert f"{told['certify']['quality']:.4f}" in text
    assert "http://" not in text.replace("http://www.w3.org", "")
    assert "https://" not in text


def test_a_certificate_is_held_against_fresh_cases(run: Run, tmp_path: Path) -> None:
    """Holds on another corpus like it; a policy without one is refused, and so is any other objective."""
    path = tmp_path / "desk.yaml"
    path.write_text((Path(__file__).parents[3] / "policies" / "support.yaml").read_text())
    assert run("calibrate", "support", "--max-risk", "0.12", "--write", str(path)).code == 0
    assert run("calibrate", "storm", "--against", str(path), "--json").json["verdict"] == "holds"
    few = write(tmp_path, 12, knowing, ("haiku", "sonnet", "opus"))
    Path(few).write_text(Path(few).read_text().replace('"synthetic": true', '"synthetic": true, "grader": "exact"'))
    ran = run("calibrate", few, "--against", str(path))
    assert ran.code == 3
    assert "too few to say" in ran.err
    assert "has no certificate" in run("calibrate", "support", "--against", "support").err
    assert run("calibrate", "support", "--against", str(path), "--budget", "1").code == 2


def test_a_scorer_is_learned_written_and_answers_by(run: Run, tmp_path: Path) -> None:
    """The policy that was written replays to the very figures that were certified."""
    path = tmp_path / "desk.yaml"
    path.write_text((Path(__file__).parents[3] / "policies" / "support.yaml").read_text())
    told = run("calibrate", "support", "--max-risk", "0.12", "--scorer", "--write", str(path), "--json").json
    assert set(told["scorer"]) <= {"haiku", "sonnet"}
    assert run("policy", "check", str(path)).code == 0
    text = path.read_text().replace("storm_guard: {rate: 0.35}", "")
    path.write_text(text)
    replayed = run("replay", "support", "--policy", str(path), "--split", "certify", "--json").json
    assert replayed["items"] == told["certify"]["items"]
    assert replayed["quality"] == pytest.approx(told["certify"]["quality"], abs=1e-9)
    assert replayed["shipped"] == told["certify"]["shipped"]


def test_a_policy_is_not_written_where_a_single_model_is_better(run: Run, tmp_path: Path) -> None:
    """Without --force: the file stays as it was."""
    path = tmp_path / "desk.yaml"
    before = (Path(__file__).parents[3] / "policies" / "support.yaml").read_text()
    path.write_text(before)
    ran = run("calibrate", "support", "--max-risk", "0.3", "--write", str(path))
    assert ran.code == 2
    assert "do not cascade here" in ran.err
    assert path.read_text() == before


@pytest.mark.parametrize("name", ["mmlupro-claude", "translation-claude"])
def test_real_ladders_with_a_poor_signal_are_refused(run: Run, real_corpus: Callable[[str], Path], name: str) -> None:
    """On real Claude ladders whose confidence says little a single model is the advice."""
    told = run("calibrate", str(real_corpus(name)), "--max-risk", "0.05", "--json").json
    assert told["advice"].startswith("single:")


def tasked(folder: Path, items: int) -> str:
    """Two large tasks with confidences that mean different things, and a small one."""
    path = Path(write(folder, items, knowing))
    chance, manifest, *rest = random.Random(2), *path.read_text().splitlines()
    made: list[str] = [manifest]
    for number, line in enumerate(rest):
        item = json.loads(line)
        item["task"] = "rare" if number % 40 == 0 else ("easy", "hard")[number % 2]
        if item["task"] == "hard":  # its first rung is as sure of what it does not know
            item["replies"]["a"]["score"] = float(chance.random() < 0.3)
        made.append(json.dumps(item))
    path.write_text("\n".join(made) + "\n")
    return str(path)


def test_large_tasks_get_thresholds_of_their_own(run: Run, tmp_path: Path) -> None:
    """Cheaper at the same risk than one vector for all; replay says the same at them; small tasks share the ladder's."""
    path = tasked(tmp_path, 4_000)
    shared = run("calibrate", path, "--max-risk", "0.05", "--json").json
    told = run("calibrate", path, "--max-risk", "0.05", "--per-task", "--json").json
    assert set(told["tasks"]) == {"easy", "hard"}
    assert told["feasible"]
    assert told["certify"]["cost_per_request_usd"] < shared["certify"]["cost_per_request_usd"]
    moved = [("", told["thresholds"]), *((f"{task}:", own["thresholds"]) for task, own in told["tasks"].items())]
    options = [
        f"--threshold={task}{rung}={'never' if x is None else x}" for task, own in moved for rung, x in own.items()
    ]
    replayed = run("replay", path, "--json", "--split", "certify", *options).json
    assert replayed["quality"] == pytest.approx(told["certify"]["quality"], abs=1e-9)
    assert replayed["cost_per_request_usd"] == pytest.approx(told["certify"]["cost_per_request_usd"], rel=1e-9)
    assert replayed["false_confident_rate"] == pytest.approx(told["certify"]["false_confident_rate"], abs=1e-12)
    assert replayed["shipped"] == told["certify"]["shipped"]
    shown = run("calibrate", path, "--max-risk", "0.05", "--per-task").out
    assert "all other tasks" in shown


@pytest.mark.parametrize(("objective", "key"), [("--min-quality", "quality"), ("--budget", "cost_per_request_usd")])
def test_tasks_share_a_quality_or_a_budget_too(run: Run, tmp_path: Path, objective: str, key: str) -> None:
    """On the tune half it is met exactly, and never at a higher cost, or a lower quality, than by one vector for all."""
    path = tasked(tmp_path, 4_000)
    wanted = {"--min-quality": "0.93", "--budget": "0.006"}[objective]
    shared, own = (run("calibrate", path, objective, wanted, *more, "--json").json for more in ((), ("--per-task",)))
    value = own["tune"][key]
    assert value >= float(wanted) if key == "quality" else value <= float(wanted)
    if key == "quality":
        assert own["tune"]["cost_per_request_usd"] < shared["tune"]["cost_per_request_usd"]
    else:
        assert own["tune"]["quality"] > shared["tune"]["quality"]


def test_tasks_thresholds_are_written_into_the_policy(run: Run, tmp_path: Path) -> None:
    """A task that was not there is put in; the policy checks, and replays to the figures that were certified."""
    path = Path(tasked(tmp_path, 4_000))
    for old, new in (("a", "haiku"), ("b", "sonnet"), ("c", "opus")):
        path.write_text(
            path.read_text().replace(f'"{old}": {{', f'"{new}": {{').replace(f'"rung": "{old}"', f'"rung": "{new}"')
        )
    desk = tmp_path / "desk.yaml"
    desk.write_text(
        (Path(__file__).parents[3] / "policies" / "default.yaml")
        .read_text()
        .replace("storm_guard", "# was: storm_guard")
    )
    options = ("--max-risk", "0.05", "--per-task", "--write", str(desk), "--json")
    told = run("calibrate", str(path), *options).json
    assert "+  - {name: hard, thresholds:" in told["diff"]
    assert run("policy", "check", str(desk)).code == 0
    replayed = run("replay", str(path), "--policy", str(desk), "--split", "certify", "--json").json
    assert replayed["quality"] == pytest.approx(told["certify"]["quality"], abs=1e-9)
    assert replayed["shipped"] == told["certify"]["shipped"]


def test_thresholds_by_task_need_large_tasks_and_whole_scores(run: Run, tmp_path: Path) -> None:
    """Too small tasks, and graded scores for a quality: one line each, that says what to do."""
    few = run("calibrate", tasked(tmp_path, 400), "--max-risk", "0.1", "--per-task")
    assert few.code == 2
    assert "500 items" in few.err
    path = Path(tasked(tmp_path, 2_000))
    path.write_text(path.read_text().replace('"score": 1.0', '"score": 0.9'))
    graded = run("calibrate", str(path), "--min-quality", "0.5", "--per-task")
    assert graded.code == 2
    assert "use --max-risk for " in graded.err


def test_counts_choose_and_prove_what_their_corpora_do(run: Run, tmp_path: Path) -> None:
    """Counted in two parts, added up: the same thresholds, certificate but for the corpus's hash, figures and advice."""
    path = Path(write(tmp_path, 3_000, knowing))
    manifest, *lines = path.read_text().splitlines()
    tables: list[str] = []
    for number, part in enumerate((lines[:1_000], lines[1_000:])):
        one = tmp_path / f"part{number}.jsonl"
        one.write_text("\n".join([manifest, *part]) + "\n")
        tables.append(str(tmp_path / f"part{number}.parquet"))
        assert run("tabulate", str(one), "-o", tables[-1]).code == 0
    for objective in (("--max-risk", "0.05"), ("--min-quality", "0.9"), ("--frontier",)):
        whole = run("calibrate", str(path), *objective, "--json").json
        counted = run("calibrate", "--counts", *tables, *objective, "--json").json
        for key in ("objective", "feasible", "thresholds", "advice", "frontier", "thinned", "shorter", "refusal"):
            assert counted[key] == whole[key], key
        for rung, signal in whole["signal"].items():
            assert counted["signal"][rung] | {"beats_random": 0, "beats_random_ci95": 0} == pytest.approx(
                signal | {"beats_random": 0, "beats_random_ci95": 0}
            )
        for half in ("tune", "certify"):
            assert counted[half] is None or counted[half] | {"quality_ci95": 0} == whole[half] | {"quality_ci95": 0}
        if whole["certificate"]:
            assert counted["certificate"]["hashes"].pop("corpus") != whole["certificate"]["hashes"].pop("corpus")
            assert counted["certificate"] == whole["certificate"]
    report = tmp_path / "report.html"
    assert run("calibrate", "--counts", *tables, "--max-risk", "0.05", "--report", str(report)).code == 0
    assert report.stat().st_size < 500_000


def test_counts_say_what_they_cannot_do(run: Run, tmp_path: Path) -> None:
    """Groups, tasks, a scorer, agreement, another policy, a corpus in place of a table: one line each, exit 2."""
    alone, grouped = tmp_path / "alone.jsonl", tmp_path / "grouped.jsonl"
    text = Path(write(tmp_path, 300, knowing, ("haiku", "sonnet", "opus"))).read_text()
    alone.write_text(text)
    grouped.write_text(text.replace('"input": "question', '"group": "g", "input": "question'))
    policy, plain, hung = (str(tmp_path / name) for name in ("policy.parquet", "plain.parquet", "hung.parquet"))
    for corpus, table, more in ((alone, plain, ()), (alone, policy, ("--policy", "support")), (grouped, hung, ())):
        assert run("tabulate", str(corpus), "-o", table, *more).code == 0
    named = [str(tmp_path / name) for name in ("monday.parquet", "tuesday.parquet")]
    for table in named:  # a request a group in either file, and the same groups in both
        day = Path(table).with_suffix(".jsonl")
        lines = (line.replace('"input":', f'"group": "g{n}", "input":') for n, line in enumerate(text.splitlines()))
        day.write_text("\n".join(lines).replace("question", f"question of {day.stem}") + "\n")
        assert run("tabulate", str(day), "-o", table).code == 0
        assert run("calibrate", "--counts", table, "--max-risk", "0.3").code == 0
    tried = {
        "a group may have several items": (*named, "--max-risk", "0.3"),
        "counts do not keep the groups": (hung, "--max-risk", "0.1"),
        "--scorer: ": (plain, "--max-risk", "0.1", "--scorer"),
        "--per-task": (plain, "--max-risk", "0.1", "--per-task"),
        "do not name the baseline": (plain, "--max-risk", "0.1", "--loss", "disagreement"),
        "counted under another policy": (policy, "--max-risk", "0.1"),
        "give the same --policy": (plain, "--max-risk", "0.1", "--policy", "support"),
        "is not Parquet": (str(alone), "--max-risk", "0.1"),
    }
    for said, options in tried.items():
        ran = run("calibrate", "--counts", *options)
        assert (ran.code, ran.out) == (2, ""), said
        assert said in ran.err
        assert ran.err.count("\n") == 1
    assert run("calibrate", "--counts", hung, "--frontier").code == 0
