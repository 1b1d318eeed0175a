"""The path that a certificate stores: what it loses step by step, as replay says it of the ratcheted policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from msgspec.structs import replace as changed

from cascade.calibration.halves import ItemHalf
from cascade.calibration.proof.pareto_testing import FEWEST_OF_TASK, Target
from cascade.calibration.proof.stored_path import MOST_STEPS
from cascade.calibration.run import CalibrationOptions, calibrate, calibrate_counts
from cascade.calibration.sampling import SampleSearch
from cascade.calibration.tables.parquet import tabulate_corpus, write_counts
from cascade.core.bound_policy import BoundPolicy
from cascade.core.policy import Policy
from cascade.core.policy.certificate import PathStep
from cascade.corpora import Item
from cascade.corpora.splits import Split
from cascade.policy.binding import bind_policy
from cascade.policy.loading import load_policy
from cascade.policy.ratchet import ratcheted, steps_of
from cascade.policy.roles import climb_roles
from cascade.replay.driver import replay_item
from tests.calibration.grouped import RUNGS, drawn_groups, write_groups
from tests.calibration.votes import drawn_votes, write_votes
from tests.cli.conftest import Run
from tests.core.builders import policy_of

TARGET = Target("false_confident", 0.15, 0.05)
VOTES: dict[str, Any] = {
    "version": 1, "name": "votes",
    "ladder": [
        {"rung": "haiku", "model": "claude-haiku-5-5", "max_tokens": 100, "samples": {"max": 3, "agree": 2}},
        {"rung": "sonnet", "model": "claude-sonnet-5-5", "max_tokens": 100},
    ],
}  # fmt: skip


def calibrated(corpus: Path, policy: Policy, alpha: float = 0.15, **options: Any) -> BoundPolicy:
    """The policy with what was certified on the corpus, as it would be written."""
    result = calibrate([corpus], CalibrationOptions(replace(TARGET, alpha=alpha), policy, **options))
    certificate = result.certificate()
    assert certificate is not None
    plan = bind_policy(result.policy_with(certificate))
    assert plan.stale == ()
    assert certificate.roles == climb_roles(plan.policy)
    return plan


def lost(plan: BoundPolicy, items: Sequence[Item]) -> tuple[int, int]:
    """Of the items, by the engine's own path: how many ship below the top, and how many of those are wrong."""
    top, below, wrong = plan.policy.ladder[-1].rung, 0, 0
    for item in items:
        answer = replay_item(plan, item)
        if answer.rung != top:
            reply = item.replies[answer.rung or ""]
            shipped = next(one for one in reply.every if one.answer == answer.text)
            below += 1
            wrong += (shipped.score or 0.0) < 0.5
    return below, wrong


def half(items: Sequence[Item], part: str) -> list[Item]:
    """The items of one half."""
    return [item for item in items if Split().part_of(item) == part]


@pytest.mark.parametrize("seed", range(3))
def test_no_step_loses_more_than_the_one_before(tmp_path: Path, seed: int) -> None:
    """On random corpora, on both halves; the last step ships nothing below the top. The rates of escalation are those of replay."""
    items = drawn_groups(500, seed, sizes=(1, 2) if seed % 2 else (1,), known=1 - seed / 10)
    tasks = [{"name": "refund", "thresholds": {"r0": 0.95}}] if seed % 3 == 0 else []
    plan = calibrated(write_groups(tmp_path / "c.jsonl", items), policy_of(0.8, 0.8, tasks=tasks))
    certificate = plan.policy.certificate
    assert certificate is not None
    assert 1 <= steps_of(plan.policy) == len(certificate.path) <= MOST_STEPS
    tune, held = half(items, "tune"), half(items, "certify")
    steps = [ratcheted(plan, step) for step in range(steps_of(plan.policy) + 1)]
    losses = [lost(step, tune)[1] for step in steps]
    assert losses == sorted(losses, reverse=True)
    assert lost(steps[-1], items) == (0, 0)
    for step in steps[1:]:
        ends = [replay_item(step, item).rung for item in held]
        reached = len(held)
        for index, rung in enumerate(RUNGS[:-1]):
            climbed = reached - ends.count(rung)
            if step.policy.ladder[index].threshold is not None:
                assert step.escalation.rungs[rung] == pytest.approx(climbed / reached, abs=1e-4)
            reached = climbed


def test_thresholds_by_task_are_ratcheted_together(tmp_path: Path) -> None:
    """Each step has every task's own thresholds, and the last has `never` in all of them."""
    items = drawn_groups(1_600, 5, tasks=("refund", "delivery"))
    tasks = [{"name": "refund"}, {"name": "delivery"}]
    plan = calibrated(write_groups(tmp_path / "c.jsonl", items), policy_of(0.8, 0.8, tasks=tasks), per_task=True)
    certificate = plan.policy.certificate
    assert certificate is not None
    assert len(certificate.path) > 2
    assert all(set(step.tasks) == {"refund", "delivery"} for step in certificate.path)
    tune = half(items, "tune")
    losses = [lost(ratcheted(plan, step), tune)[1] for step in range(len(certificate.path) + 1)]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] > losses[-2]
    assert lost(ratcheted(plan, len(certificate.path)), items) == (0, 0)


def test_a_rung_that_ships_by_agreement_is_only_ever_switched_off(tmp_path: Path) -> None:
    """There is no threshold to raise: its path is one step, `never`; a vote with a threshold has the steps in between."""
    items = drawn_votes(3, 400)
    corpus = write_votes(tmp_path / "votes.jsonl", items)
    alone = calibrated(corpus, Policy.model_validate(VOTES), 0.3)
    assert alone.policy.certificate is not None
    assert alone.policy.certificate.path == (PathStep(thresholds={"haiku": None}),)
    assert lost(alone, items)[0] > 0
    assert lost(ratcheted(alone, 1), items) == (0, 0)
    first, second = VOTES["ladder"]
    gated = calibrated(corpus, Policy.model_validate({**VOTES, "ladder": [{**first, "threshold": 0.8}, second]}))
    losses = [lost(ratcheted(gated, step), half(items, "tune"))[1] for step in range(steps_of(gated.policy) + 1)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] == 0


def test_of_a_search_over_votes_only_the_chosen_way_to_ask_is_on_the_path(tmp_path: Path) -> None:
    """Thresholds of another vote would mean something else."""
    corpus = write_votes(tmp_path / "votes.jsonl", items := drawn_votes(3, 400))
    first, second = VOTES["ladder"]
    once = {name: value for name, value in first.items() if name != "samples"} | {"threshold": 0.8}
    plan = calibrated(
        corpus, Policy.model_validate({**VOTES, "ladder": [once, second]}), samples=SampleSearch(auto=True)
    )
    losses = [lost(ratcheted(plan, step), half(items, "tune"))[1] for step in range(steps_of(plan.policy) + 1)]
    assert losses == sorted(losses, reverse=True)
    assert lost(ratcheted(plan, steps_of(plan.policy)), items) == (0, 0)


def test_counts_give_the_same_path(tmp_path: Path) -> None:
    """From a table of counts as from the items; of tasks it knows nothing."""
    corpus = write_groups(tmp_path / "c.jsonl", drawn_groups(700, 2, sizes=(1,)))
    write_counts(tmp_path / "t.parquet", tabulate_corpus(corpus))
    counted = calibrate_counts([tmp_path / "t.parquet"], CalibrationOptions(TARGET)).certificate()
    known = calibrate([corpus], CalibrationOptions(TARGET)).certificate()
    assert counted is not None
    assert known is not None
    assert len(counted.path) > 1
    assert counted.path == known.path
    assert counted.loss_by_task is None


def test_a_task_has_a_limit_of_its_own_where_it_has_the_units(tmp_path: Path) -> None:
    """Groups are counted, not items; the limit is above what was observed. One task alone has none: it is the whole."""
    items = [*drawn_groups(1_200, 4), *drawn_groups(6 * (FEWEST_OF_TASK - 1), 5, sizes=(6,), tasks=("rare",))]
    items = [
        changed(item, id=str(number), group=f"{item.task if item.task == 'rare' else ''} {item.group}")
        for number, item in enumerate(items)
    ]
    result = calibrate([write_groups(tmp_path / "c.jsonl", items)], CalibrationOptions(TARGET))
    certificate = result.certificate()
    assert certificate is not None
    assert certificate.loss_by_task is not None
    assert set(certificate.loss_by_task) == {"refund", "delivery", "other things"}
    assert result.choice.chosen is not None
    assert isinstance(result.held_out, ItemHalf)
    for task, figures in result.held_out.by_task(result.choice.chosen, "false_confident").items():
        if task != "rare":
            assert figures.lost < certificate.loss_by_task[task] < 0.5
    one = calibrate(
        [write_groups(tmp_path / "d.jsonl", drawn_groups(700, 2, tasks=("refund",)))], CalibrationOptions(TARGET)
    )
    certificate = one.certificate()
    assert certificate is not None
    assert certificate.loss_by_task is None


def test_what_is_written_can_be_ratcheted(run: Run, tmp_path: Path) -> None:
    """`--write` stores path and limits; the file loads, its certificate holds, and `--json` says the same."""
    path = tmp_path / "desk.yaml"
    path.write_text((Path(__file__).parents[3] / "policies" / "support.yaml").read_text())
    told = run("calibrate", "support", "--max-risk", "0.12", "--write", str(path), "--json").json["certificate"]
    policy = load_policy(path)
    assert policy.certificate is not None
    assert [step.model_dump() for step in policy.certificate.path] == told["path"]
    assert policy.certificate.loss_by_task == told["loss_by_task"]
    assert bind_policy(policy).stale == ()
    assert steps_of(policy) == len(told["path"]) > 2
    written = yaml.safe_load(path.read_text())["certificate"]["path"]
    assert written[-1] == {"thresholds": {"haiku": None, "sonnet": None}}
    assert written[0].keys() == {"thresholds", "escalation"}
