"""What a replay says of single models and of tasks that are not the policy's, and how it answers a misspelt name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run

from .test_command import write_policy

TASKS = "tasks:\n  - {name: easys, thresholds: {cheap: 0.6}}\n  - {name: refund}\n"


def cells(printed: str, row: str) -> str:
    """The table's line that starts with `row`."""
    return next(line for line in printed.splitlines() if line.startswith(row))


def test_confidently_wrong_means_the_same_in_replay_and_calibrate(run: Run) -> None:
    """A single model below the top ships all it gets wrong below the top; the top's own mistakes are never counted."""
    replayed = run("replay", "coding", "--json").json["baselines"]
    counted = run("calibrate", "coding", "--frontier", "--json").json["baselines"]
    for rung in ("haiku", "sonnet", "opus"):
        one = replayed[f"single:{rung}"]["false_confident_rate"]
        assert one == pytest.approx(counted[f"single:{rung}"]["false_confident_rate"], abs=1e-12)
    assert replayed["single:haiku"]["false_confident_rate"] > 0
    assert replayed["single:opus"]["false_confident_rate"] == 0


def test_the_table_shows_it_and_wrong_beside_it(run: Run, small: Path) -> None:
    """Of 4 items cheap gets 2 wrong, dear 1; a model that is no rung of the ladder has no such figure."""
    lines = [json.loads(line) for line in small.read_text().splitlines()]
    lines[0]["recorded"] = {"baseline": {"model": "middle", "rung": None}}
    for line in lines[1:]:
        line["baseline"] = {"answer": "x", "score": 0.0, "cost_usd": 0.002}
    small.write_text("".join(json.dumps(line) + "\n" for line in lines))
    out = run("replay", str(small)).out
    assert "not asked" not in out
    assert cells(out, "cheap alone").split()[-4:] == ["2", "(50.0%)", "2", "(50.0%)"]
    assert cells(out, "dear alone").split()[-4:] == ["0", "(0.0%)", "1", "(25.0%)"]
    assert "not a rung" in cells(out, "middle (plain) alone")


def test_tasks_that_are_not_the_policys_are_named(run: Run, small: Path, tmp_path: Path) -> None:
    """Those of the corpus and those of the policy, what becomes of them, and what may be a typo; by both commands."""
    policy = Path(write_policy(tmp_path))
    policy.write_text(policy.read_text() + TASKS)
    expected = (
        "the corpus has tasks that policy mine does not define: easy (did you mean 'easys'?), hard; it defines easys,"
        " refund. Items of undefined tasks follow the ladder's own thresholds"
    )
    assert expected in run("replay", str(small), "--policy", str(policy), "--json").json["notes"]
    assert f"warning: {expected}" in run("replay", str(small), "--policy", str(policy)).out
    told = run("calibrate", str(small), "--policy", str(policy), "--min-quality", "0.1", "--json").json
    assert expected in told["notes"]


def test_tasks_that_the_policy_knows_or_has_none_of_need_no_note(run: Run, small: Path, tmp_path: Path) -> None:
    """Where nothing differs, nothing is said."""
    policy = Path(write_policy(tmp_path))
    assert "does not define" not in run("replay", str(small), "--policy", str(policy)).out
    policy.write_text(policy.read_text() + "tasks: [{name: easy}, {name: hard}]\n")
    assert "does not define" not in run("replay", str(small), "--policy", str(policy)).out


@pytest.mark.parametrize(
    ("arguments", "meant", "seen"),
    [
        (("replay", "CORPUS", "--threshold", "chaep=0.5"), "'cheap'", "cheap"),
        (("replay", "CORPUS", "--threshold", "easyy:cheap=0.5"), "'easy'", "easy, hard"),
        (("replay", "CORPUS", "--require", "qualty>=0.5"), "'quality'", "quality"),
        (("replay", "CORPUS", "--split", "certifi"), "'certify'", "tune, certify or all"),
        (("replay", "suport"), "'support'", "coding, history, storm, support"),
        (("replay", "CORPUS", "--policy", "suport"), "'support'", "coding"),
        (("calibrate", "CORPUS", "--max-risk", "0.1", "--loss", "regresion"), "'regression'", "false_confident"),
    ],
)
def test_a_misspelt_name_is_answered_with_the_nearest_and_all_there_are(
    run: Run, small: Path, arguments: tuple[str, ...], meant: str, seen: str
) -> None:
    """Exit 2, one line: what was given, what was probably meant, what there is."""
    ran = run(*(str(small) if one == "CORPUS" else one for one in arguments))
    assert ran.code == 2
    assert f"did you mean {meant}?" in ran.err
    assert seen in ran.err
    assert ran.err.count("cascade: ") == 1


def test_what_resembles_nothing_is_answered_with_all_there_are(run: Run, small: Path) -> None:
    """No far-fetched guess."""
    ran = run("replay", str(small), "--threshold", "zzz=0.5")
    assert ran.code == 2
    assert "did you mean" not in ran.err
    assert "cheap" in ran.err


def test_a_misspelt_column_of_a_table_of_counts_is_named(run: Run, small: Path, tmp_path: Path) -> None:
    """A table whose `items` is called `item`: the column it lacks, and the one that may be it."""
    pq = pytest.importorskip("pyarrow.parquet")
    table = tmp_path / "t.parquet"
    assert run("tabulate", str(small), "-o", str(table)).code == 0
    read = pq.read_table(table)
    pq.write_table(read.rename_columns(["item" if name == "items" else name for name in read.column_names]), table)
    ran = run("calibrate", "--counts", str(table), "--frontier")
    assert ran.code == 2
    assert "no column 'items'" in ran.err
    assert "did you mean 'item'?" in ran.err


def test_a_value_out_of_few_is_answered_with_those(run: Run, small: Path) -> None:
    """`split` may be tune, certify or null: the message says so instead of pointing at the format."""
    lines = [json.loads(line) for line in small.read_text().splitlines()]
    lines[1]["split"] = "tuned"
    small.write_text("".join(json.dumps(line) + "\n" for line in lines))
    ran = run("replay", str(small))
    assert ran.code == 2
    assert "small.jsonl:2: item 'right': split: must be tune, certify or null" in ran.err


def test_a_graders_misspelt_name_is_answered(run: Run, small: Path, tmp_path: Path) -> None:
    """As every other name."""
    ran = run("record", str(small), "-o", str(tmp_path / "o.jsonl"), "--grader", "normalised")
    assert ran.code == 2
    assert "did you mean 'normalized'?" in ran.err
