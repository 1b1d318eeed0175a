"""`calibrate --early-stop`: its costs are replay's, its certificate says so, and what it does not support is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cascade.policy.certificates import changed_parts, hashes_of
from cascade.policy.loading import load_policy
from tests.calibration.certified import certified, with_keys
from tests.cli.conftest import Run, run, runner

from .test_command import knowing, write

__all__ = ["run", "runner"]

BUDGET = {"daily_usd": 5.0, "on_exhausted": "hold"}


def test_replay_with_early_stop_says_the_same_of_both_halves(run: Run) -> None:
    """Quality, cost, who ships and what is closed, at the chosen thresholds: one rule."""
    told = run("calibrate", "coding", "--early-stop", "--json", "--max-risk", "0.12").json
    moved = [f"--threshold={rung}={'never' if x is None else x}" for rung, x in told["thresholds"].items()]
    for half in ("tune", "certify"):
        command = ("replay", "coding", "--early-stop", "--json", "--split", half)
        replayed = run(*command, *moved).json
        for figure in ("items", "shipped"):
            assert replayed[figure] == told[half][figure]
        for figure in ("quality", "cost_per_request_usd", "false_confident_rate"):
            assert replayed[figure] == pytest.approx(told[half][figure], rel=1e-9)
        if half == "certify":
            assert told["early_stop"] == replayed["early_stop"]
            assert told["early_stop"]["saved_usd"] > 0


def test_every_point_of_the_frontier_is_cheaper_with_early_stop(run: Run) -> None:
    """Nothing is held or cut off in this corpus, so the same thresholds have the same quality, for less."""
    plain = run("calibrate", "support", "--frontier", "--json").json["frontier"]
    early = run("calibrate", "support", "--frontier", "--early-stop", "--json").json["frontier"]
    cost = {json.dumps(point["thresholds"]): point for point in plain}
    both = [(cost[key], point) for point in early if (key := json.dumps(point["thresholds"])) in cost]
    assert len(both) > len(early) / 2
    for whole, closed in both:
        assert closed["quality"] == whole["quality"]
        assert closed["cost_per_request_usd"] <= whole["cost_per_request_usd"]


def test_early_stop_is_part_of_what_a_certificate_holds_for() -> None:
    """Turning it on or off voids it; so does a budget, which decides whether a reply may be closed."""
    plain = certified(load_policy("support"))
    assert changed_parts(with_keys(plain, early_stop=True)) == ("thresholds",)
    assert changed_parts(with_keys(plain, early_stop=False)) == ()
    early = certified(with_keys(load_policy("support"), early_stop=True))
    assert changed_parts(early) == ()
    assert changed_parts(with_keys(early, early_stop=False)) == ("thresholds",)
    assert changed_parts(with_keys(early, budget=BUDGET)) == ("thresholds",)
    assert changed_parts(with_keys(early, budget={"daily_usd": 5.0})) == ()
    assert hashes_of(with_keys(plain, budget=BUDGET)) == hashes_of(plain)


def test_a_policy_that_stops_early_is_certified_as_such(run: Run, tmp_path: Path) -> None:
    """What --write leaves is a policy whose certificate stands; without the key in the file it is not written."""
    path = tmp_path / "mine.yaml"
    plain = load_policy("coding").model_dump(mode="json", by_alias=True, exclude_unset=True)
    path.write_text(json.dumps(plain))
    command = ("calibrate", "coding", "--max-risk", "0.12", "--write", str(path), "--force")
    refused = run(*command, "--early-stop")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "add `early_stop: true` to it" in refused.err
    assert json.loads(path.read_text()) == plain
    path.write_text(json.dumps({**plain, "early_stop": True}))
    assert run(*command).code == 0
    written = load_policy(str(path))
    assert written.early_stop
    assert written.certificate is not None
    assert changed_parts(written) == ()


def test_tables_of_counts_do_not_hold_what_closed_replies_cost(run: Run, tmp_path: Path) -> None:
    """Neither --counts --early-stop nor a policy with the key is taken for whole replies."""
    table, policy = tmp_path / "t.parquet", tmp_path / "p.yaml"
    values = load_policy("coding").model_dump(mode="json", by_alias=True, exclude_unset=True)
    policy.write_text(json.dumps({**values, "early_stop": True}))
    corpus = write(tmp_path, 40, knowing)
    assert run("tabulate", corpus, "-o", str(table)).code == 0
    refused = run("calibrate", "--counts", str(table), "--max-risk", "0.1", "--early-stop")
    assert (refused.code, "--early-stop: tables of counts do not hold single items" in refused.err) == (2, True)
    refused = run("tabulate", corpus, "-o", str(table), "--policy", str(policy))
    assert (refused.code, "tables of counts hold what whole replies cost" in refused.err) == (2, True)


def test_signals_are_compared_at_the_cost_of_whole_replies(run: Run) -> None:
    """With the flag that is refused; a policy's own key is left aside."""
    refused = run("calibrate", "support", "--signals", "--early-stop")
    assert (refused.code, "it compares signals at the cost of whole replies" in refused.err) == (2, True)


def test_where_a_scorer_decides_nothing_is_closed(run: Run) -> None:
    """A score is known when the whole answer is: nothing is closed, and that is said."""
    command = ("calibrate", "support", "--scorer-target", "gain", "--frontier", "--json", "--early-stop")
    assert run(*command).json["early_stop"] == {"saved_usd": 0.0, "closed": {}}
