"""`cascade calibrate --samples`: what is printed, what is written into a policy, and what is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from msgspec.structs import replace as with_fields

from cascade.corpora import Item
from tests.calibration.votes import MANIFEST, drawn_votes, write_votes
from tests.cli.conftest import Run

RISK = ("--max-risk", "0.15")

BLOCK = """\
# asked often, since it costs little
version: 1
name: votes
ladder:
  - rung: haiku  # the cheap one
    model: claude-haiku-5-5
    threshold: 0.80  # a guess
    max_tokens: 500
  - {rung: sonnet, model: claude-sonnet-5-5, max_tokens: 500}
"""
FLOW = """\
version: 1
name: votes
ladder:
  - {rung: haiku, model: claude-haiku-5-5, threshold: 0.80, max_tokens: 500}  # the cheap one
  - {rung: sonnet, model: claude-sonnet-5-5, max_tokens: 500}
"""
AGREED = FLOW.replace("threshold: 0.80, ", "samples: {max: 2, agree: 2}, ")
AGREED_BLOCK = BLOCK.replace(
    "    threshold: 0.80  # a guess\n",
    "    samples:\n      max: 2\n      agree: 2  # both\n",
)


def votes(folder: Path, items: int = 400, **drawn: Any) -> str:
    """A corpus with samples, in a file."""
    return str(write_votes(folder / "votes.jsonl", drawn_votes(3, items, **drawn)))


@pytest.mark.parametrize(
    ("text", "reports"),
    [(BLOCK, True), (FLOW, True), (AGREED, True), (AGREED, False), (AGREED_BLOCK, True), (AGREED_BLOCK, False)],
    ids=["block", "flow", "flow of samples", "flow by agreement", "block of samples", "block by agreement"],
)
def test_what_is_written_is_a_policy_with_the_certified_figures(
    run: Run, tmp_path: Path, text: str, *, reports: bool
) -> None:
    """Samples beside the threshold, every comment kept; the policy passes `check`, and its replay says what was certified."""
    corpus, policy = votes(tmp_path, reports=reports), tmp_path / "p.yaml"
    policy.write_text(text)
    told = run("calibrate", corpus, "--samples", "auto", *RISK, "--write", str(policy), "--json").json
    written = policy.read_text()
    chosen, rung = told["samples"]["haiku"], yaml.safe_load(written)["ladder"][0]
    assert (rung["samples"]["max"], rung["samples"]["agree"]) == (chosen["max"], chosen["agree"])
    assert rung["samples"]["variants"] == chosen["variants"]
    if reports:
        assert rung["threshold"] == told["thresholds"]["haiku"]
    else:
        assert "threshold" not in rung
        assert told["thresholds"]["haiku"] == "agreement"
    for comment in ("# asked often, since it costs little", "# the cheap one", "# a guess"):
        assert (comment in written) == (comment in text)
    assert run("policy", "check", str(policy)).code == 0
    for part in ("tune", "certify"):
        again = run("replay", corpus, "--policy", str(policy), "--split", part, "--json").json
        assert again["quality"] == pytest.approx(told[part]["quality"], abs=1e-9)
        assert again["cost_per_request_usd"] == pytest.approx(told[part]["cost_per_request_usd"], rel=1e-9)
        assert again["false_confident_rate"] == pytest.approx(told[part]["false_confident_rate"], abs=1e-12)
        assert again["shipped"] == told[part]["shipped"]
    assert told["certificate"]["upper_bound"] <= 0.15


def test_a_vote_that_may_not_ship_is_written_as_never(run: Run, tmp_path: Path) -> None:
    """Agreement alone decides where there is no threshold: left out, it would ship what was not certified."""
    corpus, policy = votes(tmp_path, reports=False), tmp_path / "p.yaml"
    policy.write_text(AGREED.replace("max: 2", "max: 3"))
    told = run("calibrate", corpus, *RISK, "--write", str(policy), "--force", "--json").json
    assert told["thresholds"] == {"haiku": None}
    assert yaml.safe_load(policy.read_text())["ladder"][0]["threshold"] == "never"
    assert run("policy", "check", str(policy)).code == 0


@pytest.mark.parametrize("text", [AGREED, AGREED_BLOCK], ids=["flow", "block"])
def test_a_rung_that_is_better_asked_once_loses_its_samples(run: Run, tmp_path: Path, text: str) -> None:
    """`samples: null` and a threshold, where a model's confidence says it all and one more call says nothing."""
    items: list[Item] = []
    for item in drawn_votes(3, 400):
        reply = item.replies["haiku"]
        right = reply.answer == "a"
        known = [with_fields(one, confidence=0.95 if right else 0.3, samples=None) for one in reply.every]
        items.append(
            with_fields(item, replies={**item.replies, "haiku": with_fields(known[0], samples=tuple(known[1:]))})
        )
    corpus, policy = write_votes(tmp_path / "votes.jsonl", items), tmp_path / "p.yaml"
    policy.write_text(text)
    told = run("calibrate", str(corpus), "--samples", "auto", *RISK, "--write", str(policy), "--json").json
    rung = yaml.safe_load(policy.read_text())["ladder"][0]
    assert "samples" not in told
    assert rung["samples"] is None
    assert rung["threshold"] == told["thresholds"]["haiku"]
    assert run("policy", "check", str(policy)).code == 0
    again = run("replay", str(corpus), "--policy", str(policy), "--split", "certify", "--json").json
    assert again["quality"] == pytest.approx(told["certify"]["quality"], abs=1e-9)
    assert again["cost_per_request_usd"] == pytest.approx(told["certify"]["cost_per_request_usd"], rel=1e-9)


def test_thresholds_are_chosen_beside_a_vote_that_is_given(run: Run, tmp_path: Path) -> None:
    """A corpus with confidences has them compared; replay at this vote and threshold has the same figures."""
    corpus = votes(tmp_path)
    told = run("calibrate", corpus, "--samples", "haiku=3/4", *RISK, "--json").json
    threshold = told["thresholds"]["haiku"]
    assert told["samples"]["haiku"]["agree"] == 3
    assert isinstance(threshold, float)
    given = ("--samples", "haiku=3/4", "--threshold", f"haiku={threshold}")
    again = run("replay", corpus, *given, "--split", "certify", "--json").json
    assert again["quality"] == pytest.approx(told["certify"]["quality"], abs=1e-9)
    assert again["cost_per_request_usd"] == pytest.approx(told["certify"]["cost_per_request_usd"], rel=1e-9)
    without = run("calibrate", votes(tmp_path, reports=False), "--samples", "haiku=3/4", *RISK, "--json").json
    assert without["thresholds"] == {"haiku": "agreement"}


def test_a_score_may_be_learned_of_a_vote_that_is_given(run: Run, tmp_path: Path) -> None:
    """As the refusal of `auto` with `--scorer` advises: the score, too, is compared with a threshold."""
    told = run("calibrate", votes(tmp_path, 3000), "--samples", "haiku=3/4", "--scorer", *RISK, "--json")
    assert told.code == 0
    assert isinstance(told.json["thresholds"]["haiku"], float)


def test_a_prompt_that_no_policy_knows_is_not_written(run: Run, tmp_path: Path) -> None:
    """A corpus may name its prompts as it likes; the policy is left as it was."""
    corpus, policy = votes(tmp_path, variants=("ours", "theirs")), tmp_path / "p.yaml"
    policy.write_text(FLOW)
    ran = run("calibrate", corpus, "--samples", "auto", *RISK, "--write", str(policy))
    assert ran.code == 2
    assert "none of the built-in prompts" in ran.err
    assert "list it alone under the rung's `samples`" in ran.err
    assert policy.read_text() == FLOW


def test_a_vote_is_written_with_the_prompts_that_the_policy_has(run: Run, tmp_path: Path) -> None:
    """Of a file beside it, and of other models: the list stays as it is written."""
    corpus, policy = votes(tmp_path, variants=("steps", "terse")), tmp_path / "p.yaml"
    (tmp_path / "terse.txt").write_text("Be brief. Reply with JSON: confidence, then answer.")
    old = "samples: {max: 2, agree: 2, variants: [steps, terse.txt]}, max_tokens: 500"
    policy.write_text(FLOW.replace("max_tokens: 500", old, 1))
    ran = run("calibrate", corpus, "--samples", "haiku=2/3", *RISK, "--write", str(policy), "--force")
    assert ran.code == 0, ran.err
    assert "variants: [steps, terse.txt]" in policy.read_text()
    assert "max: 3, agree: 2" in policy.read_text()


def test_agreement_is_not_written_beside_a_threshold_that_nothing_is_compared_with(run: Run, tmp_path: Path) -> None:
    """Without confidences no answer would ever ship at the threshold: say what to remove instead."""
    corpus, policy = votes(tmp_path, reports=False), tmp_path / "p.yaml"
    policy.write_text(FLOW)
    ran = run("calibrate", corpus, "--samples", "auto", *RISK, "--write", str(policy))
    assert ran.code == 2
    assert "remove the rung's threshold: then agreement decides" in ran.err
    assert policy.read_text() == FLOW


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--samples", "haikku=2/3"), "did you mean 'haiku'?"),
        (("--samples", "sonnet=2/3"), "the last rung has no samples"),
        (("--samples", "haiku=4/3"), "2 <= M <= N"),
        (("--samples", "haiku=1/3"), "2 <= M <= N"),
        (("--samples", "haiku=2/3", "--samples", "haiku=2/2"), "it is given twice"),
        (("--samples", "auto", "--scorer"), "--samples auto with --scorer"),
        (("--samples", "auto", "--per-task"), "--samples auto with --per-task"),
        (("--samples", "auto", "--same", "judge"), "a judge's groups are of one order"),
        (("--samples", "auto", "--same", "nearly"), "--same nearly: there is no such way"),
    ],
    ids=["misspelt", "top", "more than asked", "one", "twice", "scorer", "per task", "judge", "same"],
)
def test_what_cannot_be_asked_is_refused_with_what_to_do(
    run: Run, tmp_path: Path, options: Sequence[str], said: str
) -> None:
    """Before anything is computed, in one sentence."""
    ran = run("calibrate", votes(tmp_path), *RISK, *options)
    assert ran.code == 2
    assert said in " ".join(ran.err.split())
    assert "Traceback" not in ran.err


def test_thresholds_by_task_are_refused_where_agreement_decides_alone(run: Run, tmp_path: Path) -> None:
    """A task's own threshold would be held against confidences that nothing reports: what is written would not be what was certified."""
    corpus = votes(tmp_path, reports=False)
    ran = run("calibrate", corpus, *RISK, "--samples", "haiku=2/3", "--per-task")
    assert ran.code == 2
    assert "at haiku the agreement of the samples decides alone" in " ".join(ran.err.split())


def test_more_samples_than_were_recorded_are_an_error_that_names_the_item(run: Run, tmp_path: Path) -> None:
    """Rather than a figure of something else."""
    ran = run("calibrate", votes(tmp_path), *RISK, "--samples", "haiku=5/9")
    assert ran.code == 2
    assert "a sample of 'haiku' that the vote asks for was not recorded" in " ".join(ran.err.split())


def test_a_corpus_without_samples_says_how_to_record_them(run: Run) -> None:
    """Every rung of it was asked once."""
    ran = run("calibrate", "coding", *RISK, "--samples", "auto")
    assert ran.code == 2
    assert "no rung was recorded more than once (record with --samples N" in " ".join(ran.err.split())


def test_a_policy_that_has_a_judge_compare_answers_needs_another_way(run: Run, tmp_path: Path) -> None:
    """A judge's groups were recorded of one order of the samples; `--same` compares in another way, and searches."""
    corpus, policy = votes(tmp_path), tmp_path / "p.yaml"
    policy.write_text(AGREED.replace("agree: 2}", "agree: 2, same: judge}"))
    ran = run("calibrate", corpus, *RISK, "--samples", "auto", "--policy", str(policy))
    assert ran.code == 2
    assert "a judge's groups are of one order" in " ".join(ran.err.split())
    told = run("calibrate", corpus, *RISK, "--samples", "auto", "--same", "exact", "--policy", str(policy), "--json")
    assert told.json["samples"]["haiku"]["same"] == "exact"


def test_answers_are_compared_as_the_policy_says(run: Run, tmp_path: Path) -> None:
    """In the votes that are searched as in its own."""
    corpus, policy = votes(tmp_path), tmp_path / "p.yaml"
    policy.write_text(AGREED.replace("agree: 2}", "agree: 2, same: choice}"))
    told = run("calibrate", corpus, *RISK, "--samples", "auto", "--policy", str(policy), "--json").json
    assert told["samples"]["haiku"]["same"] == "choice"


@pytest.mark.parametrize("samples", ["auto", "haiku=2/3"])
def test_curtailed_samples_are_no_ground_for_another_vote(run: Run, tmp_path: Path, samples: str) -> None:
    """What was not asked cannot be judged."""
    manifest = replace(MANIFEST, extra={"recorded": {"curtailed": True}})
    corpus = write_votes(tmp_path / "votes.jsonl", drawn_votes(3, 50), manifest)
    ran = run("calibrate", str(corpus), *RISK, "--samples", samples)
    assert ran.code == 2
    assert "its samples were curtailed" in " ".join(ran.err.split())


def test_tables_of_counts_hold_no_votes(run: Run, tmp_path: Path) -> None:
    """Neither made of a policy with samples, nor read with one, nor asked to search them."""
    corpus, table, policy = votes(tmp_path), str(tmp_path / "t.parquet"), tmp_path / "p.yaml"
    policy.write_text(AGREED)
    refused = run("tabulate", corpus, "-o", table, "--policy", str(policy))
    assert refused.code == 2
    assert "policy votes asks haiku more than once: tables of counts have one reply a rung" in " ".join(
        refused.err.split()
    )
    assert not Path(table).exists()
    assert run("tabulate", corpus, "-o", table).code == 0
    for options in (("--policy", str(policy)), ("--samples", "auto"), ("--samples", "haiku=2/3")):
        ran = run("calibrate", "--counts", table, *RISK, *options)
        assert ran.code == 2
        assert "give the corpora themselves" in ran.err or "calibrate the corpora themselves" in ran.err


def test_samples_of_a_task_are_no_counts_either(run: Run, tmp_path: Path) -> None:
    """A task may ask a rung more than once that the ladder asks once."""
    policy = tmp_path / "p.yaml"
    policy.write_text(FLOW + "tasks:\n  - {name: hard, samples: {haiku: {max: 2, agree: 2}}}\n")
    refused = run("tabulate", votes(tmp_path), "-o", str(tmp_path / "t.parquet"), "--policy", str(policy))
    assert refused.code == 2
    assert "asks haiku more than once" in " ".join(refused.err.split())


def test_the_table_says_what_each_further_sample_buys(run: Run, tmp_path: Path) -> None:
    """A row for each number of samples, the chosen one marked, the variants named once; the same in JSON."""
    corpus = votes(tmp_path)
    text = run("calibrate", corpus, "--samples", "auto", *RISK).out
    told = run("calibrate", corpus, "--samples", "auto", *RISK, "--json").json
    rows = [one["most"] for one in told["further_samples"]]
    assert rows == sorted(set(rows))
    assert rows[0] == 1
    assert "what further samples of haiku buy, on the tuning half, with no more losses than chosen" in text
    assert "variants of haiku, in turn: confidence_first, steps" in text
    assert text.count("(chosen)") <= 1
    assert "ways to ask were compared, each with all thresholds" in text


def test_agreement_alone_is_not_shown_as_a_confidence(run: Run, tmp_path: Path) -> None:
    """No AUROC of a rung whose samples have no confidence; and no number where agreement decides."""
    text = run("calibrate", votes(tmp_path, reports=False), "--samples", "auto", *RISK).out
    assert "haiku: the agreement of the samples decides alone; no confidence is compared" in text
    assert "AUROC" not in text
    assert re.search(r"cascade at haiku \d of \d the same( \([a-z_, ]+\))? +0\.", text), "no threshold beside it"


def test_each_point_of_the_frontier_names_its_samples(run: Run, tmp_path: Path) -> None:
    """Points of different votes share one table; `--json` has them in full."""
    corpus = votes(tmp_path)
    text = " ".join(run("calibrate", corpus, "--samples", "auto", "--frontier").out.split())
    told = run("calibrate", corpus, "--samples", "auto", "--frontier", "--json").json
    assert "samples and thresholds" in text
    assert "of 2 the same" in text
    assert "never ships on its own" not in text
    asked = {json.dumps(point["samples"], sort_keys=True) for point in told["frontier"]}
    assert len(asked) > 1
    assert "{}" in asked, "asked once, the rung is the cheapest"
