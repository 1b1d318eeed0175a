"""`cascade calibrate --scorer-target`: what it refuses, what it chooses between, and what it writes."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from cascade.corpora.writing import write_corpus
from cascade.policy.loading import load_policy
from tests.calibration.test_scorer import mended
from tests.cli.conftest import Run

from .test_command import write
from .test_told import OUR_RUNGS, copy_of, refused


def sharp(chance: random.Random, rung: int) -> dict[str, Any]:
    """A model that is right just where it says 0.50 or more: no score can part its answers better, and a fitted one may not."""
    said = round(chance.random(), 2)
    return {"confidence": said, "score": float(said >= 0.5 or rung == 2)}


@pytest.fixture
def corpus(tmp_path: Path) -> str:
    """Half of its questions are beyond all rungs."""
    made = mended(1_200)
    path = tmp_path / "mended.jsonl"
    write_corpus(path, made.manifest, made.items)
    return str(path)


@pytest.mark.parametrize("loss", ["false_confident", "disagreement"])
def test_a_gain_is_refused_where_confident_mistakes_are_bounded(run: Run, corpus: str, loss: str) -> None:
    """In one line: that it raises them, and what to use."""
    asked = (corpus, "--max-risk", "0.1", "--loss", loss, "--scorer-target", "gain")
    refused(
        run,
        f"--scorer-target gain: it ships wrong answers that no rung above would mend, so it raises the rate of {loss}",
        *asked,
    )
    refused(run, "use --scorer-target right or best, or --loss regression, --min-quality or --budget", *asked)


def test_a_slip_in_the_target_is_named(run: Run, corpus: str) -> None:
    """Another word, a best without an objective, a target beside --against."""
    refused(
        run,
        "--scorer-target gains: there is no such target (did you mean 'gain'",
        corpus,
        "--budget",
        "1",
        "--scorer-target",
        "gains",
    )
    refused(run, "without an objective nothing is best", corpus, "--frontier", "--scorer-target", "best")
    refused(run, "takes corpora and no other option", corpus, "--against", "support", "--scorer-target", "gain")


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (("--min-quality", "96%top", "--scorer"), ["raw", "right"]),
        (("--min-quality", "96%top", "--scorer-target", "gain"), ["raw", "gain"]),
        (("--max-risk", "0.05", "--loss", "regression", "--scorer-target", "best"), ["raw", "right", "gain"]),
        (("--max-risk", "0.3", "--scorer-target", "best"), ["raw", "right"]),
    ],
)
def test_raw_thresholds_stay_a_candidate(run: Run, corpus: str, options: tuple[str, ...], names: list[str]) -> None:
    """Each candidate's figures on the tuning half, one of them chosen; `scorer` is the chosen one's."""
    told = run("calibrate", corpus, *options, "--json").json
    assert [one["name"] for one in told["candidates"]] == names
    (chosen,) = [one for one in told["candidates"] if one["chosen"]]
    assert chosen["meets"]
    assert (told["scorer"] is None) == (chosen["name"] == "raw")
    targets = {one.get("target", "right") for one in (told["scorer"] or {}).values()}
    assert targets <= {chosen["name"]}
    assert f"confidence: {chosen['name']}, chosen on the tuning half: " in run("calibrate", corpus, *options).out


def test_without_a_scorer_there_are_no_candidates(run: Run, corpus: str) -> None:
    """And a frontier, which chooses nothing, compares nothing: it is that of the score asked for."""
    assert run("calibrate", corpus, "--min-quality", "96%top", "--json").json["candidates"] is None
    told = run("calibrate", corpus, "--frontier", "--scorer-target", "gain", "--json").json
    assert told["candidates"] is None
    assert {one["target"] for one in told["scorer"].values()} == {"gain"}


def test_a_gain_is_told_not_to_be_a_probability(run: Run, corpus: str) -> None:
    """Beside the figures, and in the notes."""
    told = run("calibrate", corpus, "--min-quality", "96%top", "--scorer-target", "gain", "--json").json
    assert any("not the probability of being right" in note for note in told["notes"])
    told = run("calibrate", corpus, "--min-quality", "96%top", "--scorer", "--json").json
    assert not any("not the probability of being right" in note for note in told["notes"])


def test_a_gain_is_written_and_replay_says_the_same(run: Run, tmp_path: Path) -> None:
    """The policy that was written replays to the very figures of the certify half."""
    path = copy_of("support", tmp_path)
    asked = ("support", "--max-risk", "0.1", "--loss", "regression", "--scorer-target", "gain", "--force")
    told = run("calibrate", *asked, "--write", str(path), "--json").json
    assert run("policy", "check", str(path)).code == 0
    scorer = load_policy(str(path)).scorer
    assert (scorer is None) == (told["scorer"] is None)
    assert scorer is None or {one.target for one in scorer.values()} == {"gain"}
    path.write_text(path.read_text().replace("storm_guard: {rate: 0.35}", ""))
    replayed = run("replay", "support", "--policy", str(path), "--split", "certify", "--json").json
    assert replayed["quality"] == pytest.approx(told["certify"]["quality"], abs=1e-9)
    assert replayed["shipped"] == told["certify"]["shipped"]


def test_where_raw_thresholds_win_no_scorer_is_written_and_an_old_one_is_taken_out(run: Run, tmp_path: Path) -> None:
    """What was chosen is the policy without one."""
    path = copy_of("support", tmp_path)
    old = "scorer: {haiku: {bias: 1, features: [{name: level, mean: 0.5, scale: 2, weight: -1.5}]}}\n"
    path.write_text(path.read_text() + old)
    made = write(tmp_path, 1_500, sharp, OUR_RUNGS)
    told = run("calibrate", made, "--min-quality", "1", "--scorer", "--write", str(path), "--json").json
    assert [one["name"] for one in told["candidates"] if one["chosen"]] == ["raw"]
    assert told["scorer"] is None
    assert load_policy(str(path)).scorer is None
    assert load_policy(str(path)).ladder[0].threshold == told["thresholds"]["haiku"]
