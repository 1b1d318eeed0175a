"""`calibrate` under a review gate: its figures are replay's, and it says whether the gate pays."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from cascade.corpora import Item, LadderEntry, Manifest, RecordedReply, write_corpus
from cascade.corpora.items import RecordedReview
from cascade.policy.certificates import changed_parts
from cascade.policy.loading import load_policy
from tests.calibration.certified import with_keys
from tests.cli.within import Run, run

__all__ = ["run"]

LADDER = (
    LadderEntry("low", "claude-haiku-5-5"), LadderEntry("mid", "claude-sonnet-5-5"), LadderEntry("top", "claude-opus-5-5"),
)  # fmt: skip
GATE = {"kind": "review", "rung": "mid", "below": 0.95}
BARE = {
    "version": 1,
    "name": "gated",
    "ladder": [
        {
            "rung": entry.rung,
            "model": entry.model,
            "max_tokens": 64,
            **({} if entry.rung == "top" else {"threshold": 0.8}),
        }
        for entry in LADDER
    ],
}


def written(folder: Path, *, review_usd: float, seed: int = 3, items: int = 300, tasks: bool = False) -> Path:
    """A corpus in which a reviewer tells right from wrong better than the confidence does, at this price a review."""
    chance, made = random.Random(seed), list[Item]()
    for number in range(items):
        right = chance.random() < 0.8
        confidence = round(min(1.0, max(0.0, (0.85 if right else 0.7) + chance.gauss(0, 0.12))), 1)
        accepted = chance.choice([None, *[chance.random() < (0.95 if right else 0.2)] * 30])
        review = RecordedReview("mid", accepted, None, review_usd)
        replies = {
            "low": RecordedReply(confidence, "a", float(right), cost_usd=0.0002, review=review),
            "mid": RecordedReply(chance.choice([0.8, 0.9, 1.0]), "b", float(chance.random() < 0.93), cost_usd=0.004),
            "top": RecordedReply(None, "c", float(chance.random() < 0.96), cost_usd=0.02),
        }
        made.append(Item(f"i{number}", f"question {number}", replies, task=f"t{number % 2}" if tasks else None))
    path = folder / "reviewed.jsonl"
    write_corpus(path, Manifest("reviewed", LADDER, synthetic=True), made)
    return path


def policy_at(folder: Path, *checks: Any) -> Path:
    """The policy with these checks, as a file."""
    path = folder / f"policy{len(checks)}.yaml"
    path.write_text(json.dumps({**BARE, "checks": checks}))
    return path


def test_replay_says_the_same_of_both_halves(run: Run, tmp_path: Path) -> None:
    """Quality, cost with its reviews, who ships: at the chosen thresholds; and the certificate is of the gated policy."""
    corpus, policy = written(tmp_path, review_usd=0.001), policy_at(tmp_path, GATE)
    told = run("calibrate", str(corpus), "--policy", str(policy), "--json", "--max-risk", "0.12").json
    assert told["review"]["with"]["loss_rate"] <= told["tune"]["false_confident_rate"]
    moved = [f"--threshold={rung}={'never' if x is None else x}" for rung, x in told["thresholds"].items()]
    for half in ("tune", "certify"):
        replayed = run("replay", str(corpus), "--policy", str(policy), "--json", "--split", half, *moved).json
        assert replayed["reviews"]["low"]["rejected"] > 0
        for figure in ("items", "shipped"):
            assert replayed[figure] == told[half][figure]
        for figure in ("quality", "cost_per_request_usd", "false_confident_rate"):
            assert replayed[figure] == pytest.approx(told[half][figure], rel=1e-9)
    assert run("calibrate", str(corpus), "--policy", str(policy), "--max-risk=0.12", "--write", str(policy)).code == 0
    certified = load_policy(str(policy))
    assert certified.certificate is not None
    assert changed_parts(certified) == ()
    assert changed_parts(with_keys(certified, checks=[{**GATE, "below": 0.9}])) != ()
    assert changed_parts(with_keys(certified, checks=[])) != ()


@pytest.mark.parametrize(("review_usd", "pays"), [(0.0005, True), (0.02, False)])
def test_it_says_whether_the_gate_pays(run: Run, tmp_path: Path, review_usd: float, *, pays: bool) -> None:
    """A good reviewer pays where it is cheap. Both sides are what the search without the gate, and with it, finds."""
    corpus, policy = written(tmp_path, review_usd=review_usd), policy_at(tmp_path, GATE)
    command = ("calibrate", str(corpus), "--min-quality", "0.93")
    told = run(*command, "--policy", str(policy), "--json").json
    review, plain = told["review"], run(*command, "--policy", str(policy_at(tmp_path)), "--json").json
    assert (review["rung"], review["below"], review["pays"]) == ("mid", 0.95, pays)
    assert "review" not in plain
    for side, result in (("with", told), ("without", plain)):
        for figure in ("quality", "cost_per_request_usd"):
            assert review[side][figure] == pytest.approx(result["tune"][figure], rel=1e-9)
        assert review[side]["thresholds"] == list(result["thresholds"].values())
    assert (review["with"]["cost_per_request_usd"] < review["without"]["cost_per_request_usd"]) == pays
    if pays:
        assert "the review gate pays (review by mid below 0.95" in run(*command, "--policy", str(policy)).out


def test_both_sides_may_lose_as_much_as_thresholds_by_task_do(run: Run, tmp_path: Path) -> None:
    """Not as much as the rate allows, which the chosen thresholds stay below to prove it."""
    corpus, policy = written(tmp_path, review_usd=0.001, items=2_200, tasks=True), policy_at(tmp_path, GATE)
    told = run("calibrate", str(corpus), "--policy", str(policy), "--json", "--max-risk", "0.12", "--per-task").json
    lost, items = told["tune"]["false_confident_rate"], told["tune"]["items"]
    assert set(told["tasks"]) == {"t0", "t1"}
    assert 0 < lost < 0.12 - 1 / items
    for side in ("with", "without"):
        assert told["review"][side]["loss_rate"] <= lost


def test_the_review_is_among_the_signals(run: Run, tmp_path: Path) -> None:
    """Its AUROC beside the self-report's, and which mistakes it finds."""
    corpus = written(tmp_path, review_usd=0.001, items=200)
    rows = run("calibrate", str(corpus), "--signals", "--json", "--policy", str(policy_at(tmp_path, GATE))).json
    found = {row["signal"]: row for row in rows["signals"]["rows"] if row["rung"] == "low"}
    assert found["review by mid"]["auroc"] > 0.8
    assert found["review by mid"]["kind"] == "check"
    checks = {check["check"]: check for check in rows["signals"]["checks"]}
    assert checks["review:mid"]["found"] > checks["review:mid"]["wrong"] / 2


def test_tables_of_counts_refuse_a_gate(run: Run, tmp_path: Path) -> None:
    """They hold neither what a review says nor what it costs: an error, not a certificate that ignores it."""
    corpus, policy = written(tmp_path, review_usd=0.001, items=20), policy_at(tmp_path, GATE)
    refused = run("tabulate", str(corpus), "--policy", str(policy), "-o", str(tmp_path / "counts.parquet"))
    assert (refused.code, refused.out) == (2, "")
    assert "policy gated has a review gate" in refused.err
