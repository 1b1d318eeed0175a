"""`calibrate --loss disagreement`: as judged by whom, with which error, and above which noise."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from cascade.corpora import Corpus, Item, LadderEntry, Manifest, RecordedReply, write_corpus
from cascade.emulator import Emulator
from cascade.policy.loading import load_policy
from tests.cli.conftest import Run
from tests.live.conftest import HAIKU, OPUS, SONNET

RUNGS = (LadderEntry("haiku", HAIKU), LadderEntry("sonnet", SONNET), LadderEntry("opus", OPUS))
JUDGED = {"rung": "opus", "model": OPUS, "right_by_definition": 900, "controls": 20, "error": 0.05}
RECORDED = {"baseline": {"model": OPUS, "rung": "opus"}, "judge": JUDGED}
POLICY = f"""version: 1
name: judged
ladder:
  - {{rung: haiku, model: {HAIKU}, threshold: 0.80, max_tokens: 100}}
  - {{rung: sonnet, model: {SONNET}, threshold: 0.80, max_tokens: 100}}
  - {{rung: opus, model: {OPUS}, max_tokens: 100}}
"""


def agreeing(folder: Path, name: str = "judged", *, expected: int = 0, **extra: Any) -> str:
    """900 items without expected answers but of the first few; sure replies agree with the top rung, others hardly."""
    chance = random.Random(name)

    def reply(cost: float) -> RecordedReply:
        said = chance.choice((0.5, 0.9, 0.95))
        return RecordedReply(said, "a", float(chance.random() < (0.995 if said > 0.8 else 0.5)), cost_usd=cost)

    items = [
        Item(
            f"{name}-{n}", f"question {name} {n}",
            {"haiku": reply(0.001), "sonnet": reply(0.005), "opus": RecordedReply(None, "b", 1.0, cost_usd=0.04)},
            expected="b" if n < expected else None,
        )
        for n in range(900)
    ]  # fmt: skip
    path = folder / f"{name}.jsonl"
    extra = {"recorded": RECORDED} | extra
    write_corpus(path, Manifest(name, RUNGS, grader="judge:opus", synthetic=True, extra=extra), items)
    return str(path)


def told(run: Run, *arguments: str) -> str:
    """What the command prints, in one line."""
    return " ".join(run("calibrate", *arguments, "--loss", "disagreement").out.split())


def test_it_says_who_judged_how_well_and_what_the_noise_is(run: Run, tmp_path: Path) -> None:
    """In words and as JSON; the interval is the exact one, of 2 in 100."""
    corpus = agreeing(tmp_path, noise_floor={"items": 100, "disagreed": 2})
    said = told(run, corpus, "--max-risk", "0.05")
    judged = f"scores: by judge:opus, compared with the plain answers of {OPUS}; judge's error rate: 5.0% of 20 control items"
    assert judged in said
    assert (
        "noise floor: asked twice, the baseline disagrees with itself on 2 of 100 items (2.0%, 95 % confidence interval 0.2%–7.0%)"
        in said
    )
    assert "warning:" not in said
    fields = run("calibrate", corpus, "--max-risk", "0.05", "--loss", "disagreement", "--json").json
    assert fields["disagreement"] == {
        "judged_by": ["judge:opus"],
        "against": [OPUS],
        "judge_error": {"error": 0.05, "controls": 20},
        "noise_floor": {
            "items": 100, "disagreed": 2, "rate": 0.02, "ci95": pytest.approx([0.00243, 0.07038], abs=1e-5),
            "alpha_is_below": False,
        },
    }  # fmt: skip
    assert fields["certificate"]["loss"] == "disagreement"
    assert "disagreement" not in run("calibrate", corpus, "--max-risk", "0.05", "--json").json


def test_an_alpha_below_the_noise_is_warned_of(run: Run, tmp_path: Path) -> None:
    """At 2 % where the baseline disagrees with itself on 8 %: a quarter of the requests is what may ship below the top."""
    corpus = agreeing(tmp_path, noise_floor={"items": 100, "disagreed": 8})
    said = told(run, corpus, "--max-risk", "0.02")
    assert "warning: 0.02 is below the noise floor" in said
    assert "about 25% of the requests" in said
    fields = run("calibrate", corpus, "--max-risk", "0.02", "--loss", "disagreement", "--json").json
    assert fields["disagreement"]["noise_floor"]["alpha_is_below"] is True


def test_a_noise_floor_that_was_not_measured_is_told_with_the_way_to_it(run: Run, tmp_path: Path) -> None:
    """Null as JSON; a judge whose error is not known has none to tell."""
    judge = {key: value for key, value in JUDGED.items() if key not in {"error", "controls"}}
    corpus = agreeing(tmp_path, recorded=RECORDED | {"judge": judge})
    said = told(run, corpus, "--max-risk", "0.05")
    assert "noise floor: not measured" in said
    assert "--baseline-twice 100" in said
    assert f"scores: by judge:opus, compared with the plain answers of {OPUS} noise floor" in said
    fields = run("calibrate", corpus, "--max-risk", "0.05", "--loss", "disagreement", "--json").json
    assert (fields["disagreement"]["noise_floor"], fields["disagreement"]["judge_error"]) == (None, None)


def test_several_corpora_add_up(run: Run, tmp_path: Path) -> None:
    """Their samples are one, and their judges' errors are weighed by the control items."""
    other = RECORDED | {"judge": JUDGED | {"controls": 60, "error": 0.25}}
    paths = [
        agreeing(tmp_path, noise_floor={"items": 100, "disagreed": 2}),
        agreeing(tmp_path, "more", noise_floor={"items": 50, "disagreed": 4}, recorded=other),
    ]
    fields = run("calibrate", *paths, "--max-risk", "0.05", "--loss", "disagreement", "--json").json["disagreement"]
    assert (fields["noise_floor"]["items"], fields["noise_floor"]["disagreed"]) == (150, 6)
    assert fields["judge_error"] == {"error": pytest.approx(0.2), "controls": 80}


def test_scores_beside_expected_answers_are_no_agreement(run: Run, tmp_path: Path) -> None:
    """Refused in one line: they say right or wrong."""
    corpus = agreeing(tmp_path, expected=3)
    ran = run("calibrate", corpus, "--max-risk", "0.05", "--loss", "disagreement")
    assert (ran.code, ran.out) == (2, "")
    assert "--loss disagreement: 3 items of" in ran.err
    assert "have an expected answer" in ran.err
    assert "use --loss false_confident" in ran.err
    assert len(ran.err.splitlines()) == 1


def test_the_certificate_says_who_judged_and_how_often_wrong(run: Run, tmp_path: Path) -> None:
    """It goes into the policy, and is shown from there."""
    path = tmp_path / "judged.yaml"
    path.write_text(POLICY)
    corpus = agreeing(tmp_path, noise_floor={"items": 100, "disagreed": 2})
    asked = ("--policy", str(path), "--max-risk", "0.05", "--loss", "disagreement", "--write", str(path))
    ran = run("calibrate", corpus, *asked)
    assert ran.code == 0, ran.err
    certificate = load_policy(path).certificate
    assert certificate is not None
    assert (certificate.grader, certificate.grader_error) == ("judge:opus", 0.05)
    shown = " ".join(run("policy", "show", "--policy", str(path)).out.split())
    assert "as judged by judge:opus, wrong on 5.0% of its control items" in shown


def test_from_a_recording_without_labels_to_its_noise_floor(run: Run, tmp_path: Path) -> None:
    """Recorded, asked twice and graded by agreement; nothing can be proved of twelve items, and all is told none the less."""
    chance = random.Random(5)

    def reply(confidence: float | None, answer: str) -> RecordedReply:
        return RecordedReply(confidence, answer, 1.0, {"input_tokens": 40, "output_tokens": 9}, 0.0001)

    items = tuple(
        Item(f"i{n}", f"question {n}?", {
            "haiku": reply(chance.choice((0.5, 0.9)), chance.choice(("yes", "no"))),
            "sonnet": reply(0.9, "yes"), "opus": reply(None, "yes"),
        })
        for n in range(12)
    )  # fmt: skip
    (tmp_path / "asked.jsonl").write_text("".join(json.dumps({"id": i.id, "input": i.input}) + "\n" for i in items))
    (tmp_path / "judged.yaml").write_text(POLICY)
    with Emulator([Corpus(Manifest("said", RUNGS), items)]) as emulator:
        recorded = run("record", "asked.jsonl", "-o", "c.jsonl", "-p", "judged.yaml", "--grader", "exact",
                       "--baseline-twice", "6", emulator=emulator)  # fmt: skip
    assert recorded.code == 0, recorded.err
    ran = run("calibrate", "c.jsonl", "-p", "judged.yaml", "--max-risk", "0.05", "--loss", "disagreement")
    said = " ".join(ran.out.split())
    assert ran.code == 3
    assert f"scores: by exact, compared with the plain answers of {OPUS} noise floor: asked twice" in said
    assert "on 0 of 6 items (0.0%, 95 % confidence interval 0.0%–45.9%)" in said
