"""What `cascade calibrate` must not let anyone overlook, and what it refuses to prove."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.cli.conftest import Run

from .test_command import knowing, tasked, write

POLICIES = Path(__file__).parents[3] / "policies"
OUR_RUNGS = ("haiku", "sonnet", "opus")


def copy_of(policy: str, folder: Path) -> Path:
    """A shipped policy, to write into."""
    path = folder / "desk.yaml"
    path.write_bytes((POLICIES / f"{policy}.yaml").read_bytes())
    return path


def changed(path: str, *swaps: tuple[str, str], name: str = "changed.jsonl") -> str:
    """A corpus beside it with other words in it."""
    text = Path(path).read_text()
    for old, new in swaps:
        assert old in text
        text = text.replace(old, new)
    made = Path(path).with_name(name)
    made.write_text(text)
    return str(made)


def refused(run: Run, said: str, *arguments: str) -> None:
    """Exit 2, nothing on stdout, one line."""
    ran = run("calibrate", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err
    assert ran.err.count("\n") == 1


def test_other_models_replies_certify_nothing(run: Run, tmp_path: Path) -> None:
    """Told, with no certificate; not written, and with --force the thresholds alone."""
    desk = copy_of("classic", tmp_path)
    told = run("calibrate", "history", "--policy", str(desk), "--max-risk", "0.1", "--json").json
    assert told["certificate"] is None
    assert "these are other models' replies: 'haiku' was recorded with claude-haiku-5-5" in told["notes"][0]
    ran = run("calibrate", "history", "--max-risk", "0.1", "--write", str(desk))
    assert ran.code == 2
    assert "unchanged: these are other models' replies" in ran.err
    assert desk.read_bytes() == (POLICIES / "classic.yaml").read_bytes()
    assert run("calibrate", "history", "--max-risk", "0.1", "--write", str(desk), "--force").code == 0
    assert "certificate" not in desk.read_text()
    assert desk.read_bytes() != (POLICIES / "classic.yaml").read_bytes()


def test_a_certificate_is_held_only_against_what_it_speaks_of(run: Run, tmp_path: Path) -> None:
    """Not against its own corpus, nor where the policy has moved, the grader is another, or the models are."""
    desk = copy_of("support", tmp_path)
    assert run("calibrate", "history", "--max-risk", "0.1", "--write", str(desk)).code == 0
    assert run("calibrate", "storm", "--against", str(desk)).code == 0
    refused(run, "is the corpus that the certificate was made from", "history", "--against", str(desk))
    strange = write(tmp_path, 60, knowing, OUR_RUNGS)
    refused(run, "its grader is not named, the certificate's is exact", strange, "--against", str(desk))
    models = changed(strange, ('"rung": "haiku"', '"rung": "haiku", "model": "gpt-4.1"'))
    refused(run, "these are other models' replies", models, "--against", str(desk))
    desk.write_text(desk.read_text().replace("max_tokens: 1024", "max_tokens: 1025", 1))
    refused(run, "changed since it was certified: ladder", "storm", "--against", str(desk))
    refused(run, "no other option", "storm", "--against", str(desk), "--per-task")


def test_several_corpora_are_one_only_where_they_are_alike(run: Run, tmp_path: Path) -> None:
    """Other models or another grader: refused; one of them synthetic: so is the whole."""
    first = write(tmp_path, 400, knowing)
    second = changed(first, ('"id": "', '"id": "x'), ("question", "quest"), name="second.jsonl")
    options = ("--max-risk", "0.2")
    assert run("calibrate", first, second, *options).code == 0
    models = changed(second, ('"rung": "a"', '"rung": "a", "model": "gpt-4.1"'), name="models.jsonl")
    refused(run, "its ladder is a (gpt-4.1) → b → c", first, models, *options)
    graded = changed(second, ('"synthetic": true', '"synthetic": true, "grader": "exact"'), name="graded.jsonl")
    refused(run, "its grader is exact, the first corpus's is not named", first, graded, *options)
    recorded = changed(second, ('"synthetic": true', '"synthetic": false'), name="recorded.jsonl")
    assert "synthetic items" in run("calibrate", recorded, first, *options).out


def test_a_scorer_does_not_prove_itself_on_what_it_learned_from(run: Run, tmp_path: Path) -> None:
    """Another split of the same corpus would hold items that trained it."""
    desk, corpus = copy_of("support", tmp_path), write(tmp_path, 800, knowing, OUR_RUNGS)
    assert run("calibrate", corpus, "--max-risk", "0.1", "--scorer", "--write", str(desk)).code == 0
    again = (corpus, "--policy", str(desk), "--split-seed", "3")
    refused(run, "its scorer was learned on this corpus", *again, "--max-risk", "0.1")
    assert run("calibrate", *again, "--scorer", "--max-risk", "0.1", "--json").code in (0, 3)


def test_large_groups_that_do_worse_are_told(run: Run) -> None:
    """The bound is of the mean over groups; more of all items than that are lost, and it says so."""
    told = run("calibrate", "history", "coding", "--max-risk", "0.1", "--json").json
    assert told["certificate"]["units"] == "groups"
    assert told["certify"]["loss_rate"] > 0.1
    assert "large groups do worse" in told["notes"][0]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--max-risk", "5"), "--max-risk 5: must be between 0 and 1 (5 % is 0.05)"),
        (("--max-risk", "0.1", "--delta", "95"), "--delta 95: must be between 0 and 1"),
        (("--min-quality", "90"), "--min-quality 90: must be a mean score"),
        (
            ("--max-risk", "0.1", "--policy", "support", "--write", "coding"),
            "--policy support and --write coding differ",
        ),
        (("--max-risk", "0.1", "--dry-run"), "--dry-run and --force need --write"),
        (("--max-risk", "0.1", "--loss", "disagreement"), "expected answer"),
    ],
)
def test_a_slip_of_the_hand_is_named(run: Run, options: Sequence[str], said: str) -> None:
    """Before anything is read for long: the option, what is wrong with it, what to do."""
    refused(run, said, "support", *options)


def test_a_name_that_is_neither_file_nor_shipped_is_told_what_ships(run: Run, tmp_path: Path) -> None:
    """And a table of counts is not taken for a corpus."""
    refused(run, "a shipped corpus: coding, history, storm, support", "suport", "--frontier")
    table = tmp_path / "t.parquet"
    assert run("tabulate", "support", "-o", str(table)).code == 0
    refused(run, "`cascade calibrate --counts` reads it", str(table), "--frontier")


def test_a_budget_is_told_as_quality_and_a_single_model_alone_beside_it(run: Run) -> None:
    """Its verdict speaks of quality; the frontier shows the models alone, and every choice whom it was held against."""
    told = run("calibrate", "history", "--budget", "0.001").out
    assert told.startswith("cascade: better than every single model within the budget\n")
    assert "against haiku alone: cost +" in told
    assert "opus alone" in run("calibrate", "history", "--frontier").out


def test_a_quality_that_is_not_met_elsewhere_is_no_win(run: Run, tmp_path: Path) -> None:
    """Of a dozen splits of few items some choose too boldly: then it is said, and the advice is not the cascade."""
    path, missed = write(tmp_path, 120, knowing), 0
    for seed in range(12):
        told = run("calibrate", path, "--min-quality", "0.93", "--split-seed", str(seed), "--json").json
        if told["feasible"] and told["certify"]["quality"] < 0.93:
            missed += 1
            assert told["advice"] != "cascade"
            assert any("is not met on the held-out items" in note for note in told["notes"])
    assert missed


def test_a_task_that_the_policy_does_not_know_is_told(run: Run, tmp_path: Path) -> None:
    """It may be a typo, and is put in; one that no policy can name shares the others' thresholds."""
    corpus = changed(
        tasked(tmp_path, 4_000), *((f'"{old}"', f'"{new}"') for old, new in zip("abc", OUR_RUNGS, strict=True))
    )
    desk = tmp_path / "desk.yaml"
    text = (POLICIES / "default.yaml").read_text()
    desk.write_text(text.replace("tasks:", "tasks:\n  - {name: harder, ceiling: opus}"))
    options = ("--policy", str(desk), "--max-risk", "0.06", "--per-task", "--json")
    notes = run("calibrate", corpus, *options).json["notes"]
    assert any("hard (did you mean 'harder'?)" in note for note in notes)
    assert any(note.startswith("task 'hard' gets thresholds of its own") for note in notes)
    spaced = changed(corpus, ('"task": "hard"', '"task": "rather hard"'), name="spaced.jsonl")
    assert set(run("calibrate", spaced, *options).json["tasks"]) == {"easy"}


def test_line_ends_and_a_prompt_in_a_file_survive_writing(run: Run, tmp_path: Path) -> None:
    """CRLF stays CRLF; `triage.prompt` is looked for beside the policy."""
    (tmp_path / "my.txt").write_text("Answer, and say how sure you are.\n")
    desk = copy_of("default", tmp_path)
    text = desk.read_text() + "triage: {prompt: my.txt}\n"
    desk.write_bytes(text.replace("\n", "\r\n").encode())
    assert run("calibrate", "history", "--max-risk", "0.1", "--write", str(desk)).code == 0
    after = desk.read_bytes()
    assert b"certificate:" in after
    assert after.count(b"\n") == after.count(b"\r\n")


def test_what_is_not_written_is_shown_all_the_same(run: Run, tmp_path: Path) -> None:
    """The table and the report come first, then why nothing was written; --dry-run shows the change it would be."""
    desk, page = copy_of("support", tmp_path), tmp_path / "r.html"
    arguments = ("calibrate", "support", "--max-risk", "0.3", "--write", str(desk))
    ran = run(*arguments, "--report", str(page))
    assert ran.code == 2
    assert ran.out.startswith("do not cascade here")
    assert f"{desk}: unchanged: " in ran.err
    assert page.exists()
    assert "+certificate:" in run(*arguments, "--dry-run").out
    assert desk.read_bytes() == (POLICIES / "support.yaml").read_bytes()


def test_what_the_guard_would_add_stands_beside_the_cost(run: Run) -> None:
    """`replay` counts it; so it is told per request, and where it turns the advice."""
    told = run("calibrate", "history", "--policy", "support", "--max-risk", "0.1").out
    assert "USD per 1,000 requests: about " in told
    turned = run("calibrate", "history", "--policy", "support", "--min-quality", "95%top").out
    assert "warning: with the storm guard's cost opus alone is no dearer" in turned


def test_replies_that_cost_nothing_are_no_crash(run: Run, tmp_path: Path) -> None:
    """A corpus whose recorded costs are all 0 gets an answer."""
    path = Path(write(tmp_path, 400, knowing))
    for cost in ("0.001", "0.005", "0.025"):
        path.write_text(path.read_text().replace(f'"cost_usd": {cost}', '"cost_usd": 0'))
    assert run("calibrate", str(path), "--max-risk", "0.2").code in (0, 3)
