"""The rates that the storm guard expects: counted as the guard counts, by task, written, and expected again."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cascade import Policy
from cascade.calibration.proof.pareto_testing import FEWEST_OF_TASK, escalation_of
from cascade.calibration.search.levels import code_columns
from cascade.core.bound_policy import BoundPolicy
from cascade.core.climb import Observation, climb
from cascade.core.decision import Situation
from cascade.core.events import Ask, Recorded
from cascade.core.policy import Task
from cascade.core.policy.certificate import Escalation
from cascade.core.storm import Guard
from cascade.corpora import Item, LadderEntry, Manifest, RecordedReply, write_corpus
from cascade.policy.binding import bind_policy
from cascade.policy.loading import load_policy
from cascade.replay import replay_item
from cascade.replay.building import read_columns
from cascade.replay.columns import PolicyMapping
from cascade.replay.driver import recorded_verdict, request_of
from tests.calibration.chance import drawn, drawn_items, mapping_at
from tests.cli.conftest import Run
from tests.core.builders import policy_of
from tests.live.conftest import HAIKU, OPUS, SONNET


def observed(plan: BoundPolicy, item: Item) -> Iterator[Observation]:
    """What a climb for this item tells a guard that does nothing."""
    steps = climb(plan, request_of(item))
    try:
        wanted = next(steps)
        while True:
            if isinstance(wanted, Ask):
                reply = item.reply(plan.policy.ladder[wanted.index].rung)
                wanted = steps.send(Recorded(recorded_verdict(reply, triage=wanted.index != plan.policy.top)))
            else:
                assert isinstance(wanted, Observation)
                yield wanted
                wanted = steps.send(Situation())
    except StopIteration:
        return


def counted(mapping: PolicyMapping, items: list[Item]) -> Escalation:
    """The rates, from the observations of all climbs."""
    plan = replace(mapping.plan, policy=mapping.plan.policy.model_copy(update={"exhausted": "abstain"}))
    seen, up = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for one in (one for item in items for one in observed(plan, item) if one.natural is not None):
        for task in ("", one.task):
            seen[task, one.rung] += 1
            up[task, one.rung] += one.natural is True
    rates = {key: round(up[key] / n, 4) for key, n in seen.items() if not key[0] or n >= FEWEST_OF_TASK}
    by_task: dict[str, dict[str, float]] = {}
    for (task, rung), rate in rates.items():
        by_task.setdefault(task, {})[rung] = rate
    return Escalation(by_task.pop("", {}), by_task)


@pytest.mark.parametrize("seed", range(25))
def test_the_certified_rates_are_what_the_guard_counts(seed: int) -> None:
    """With floors, ceilings, declined, refused and failed replies and `never`: from the columns, and from every climb."""
    rungs = 2 + seed % 2
    columns, view = drawn(seed, rungs, items=400)
    manifest, items = drawn_items(seed, rungs, items=400)
    coded, tasks = code_columns(columns, view), view.mapping.plan.policy.tasks
    for at in random.Random(seed).sample([*product(*(range(1, len(own) + 2) for own in coded.levels))], 4):
        mapping = mapping_at(manifest.rungs, tasks, coded.thresholds(at))
        assert escalation_of(coded, at) == counted(mapping, items)


@pytest.mark.parametrize("seed", range(8))
def test_thresholds_by_task_are_counted_each_at_its_own(seed: int) -> None:
    """`at` by item, as thresholds by task are: what each climb does at its task's own, `never` among them."""
    columns, view = drawn(seed, 3, items=400)
    manifest, items = drawn_items(seed, 3, items=400)
    coded, chance = code_columns(columns, view), random.Random(seed)
    at = {task: tuple(chance.randint(1, len(own) + 1) for own in coded.levels) for task in coded.tasks}
    bounds = {task.name: task for task in view.mapping.plan.policy.tasks}
    tasks = tuple(
        bounds.get(name, Task.model_construct(name=name)).model_copy(
            update={"thresholds": dict(zip(manifest.rungs, coded.thresholds(at[name]), strict=False))}
        )
        for name in coded.tasks
    )
    by_item = np.array([at[coded.tasks[code]] for code in coded.task], np.int32)
    assert escalation_of(coded, by_item) == counted(mapping_at(manifest.rungs, tasks, (0.5, 0.5)), items)


def test_a_floor_is_no_escalation_and_its_confidence_counts_all_the_same() -> None:
    """Half of the floored task would stand by itself: that is its rate, though all of it climbs."""
    confidences = [0.9, 0.4] * 50
    items = [
        Item(f"i{n}", f"text {n}", {"r0": RecordedReply(said, "a", 1.0, cost_usd=0.0), "r1": RecordedReply(None, "b", 1.0, cost_usd=0.0)},
             task=task)
        for n, (task, said) in enumerate((task, said) for task in ("floored", "plain") for said in confidences)
    ]  # fmt: skip
    policy = policy_of(0.9, tasks=[{"name": "floored", "floor": "r1"}])
    manifest = Manifest("two", (LadderEntry("r0"), LadderEntry("r1")))
    columns, (view,) = read_columns(items, manifest, [PolicyMapping(bind_policy(policy), manifest.rungs)])
    assert escalation_of(code_columns(columns, view), (2,)) == Escalation(
        {"r0": 0.5}, {"floored": {"r0": 0.5}, "plain": {"r0": 0.5}}
    )


def test_a_task_needs_fifty_items_for_a_rate_of_its_own_and_a_name_that_yaml_holds() -> None:
    """49 do not do, nor do a name with `${` in it and one without end: they have the rung's rate."""
    sizes = {"few": 49, "enough one": 50, "${HOME}": 60, "x" * 129: 60, "two\nlines": 60}
    replies = {"r0": RecordedReply(0.9, "a", 1.0, cost_usd=0.0), "r1": RecordedReply(None, "b", 1.0, cost_usd=0.0)}
    items = [
        Item(f"{task} {n}", f"{task} {n}", replies, task=task) for task, size in sizes.items() for n in range(size)
    ]
    manifest = Manifest("many", (LadderEntry("r0"), LadderEntry("r1")))
    columns, (view,) = read_columns(items, manifest, [mapping_at(manifest.rungs, (), (0.5,))])
    assert escalation_of(code_columns(columns, view), (1,)) == Escalation({"r0": 0.0}, {"enough one": {"r0": 0.0}})


RATES = {"hard": 0.6, "easy": 0.1, "plain": 0.1}
GUARD: dict[str, Any] = {"rate": 0.35, "window": 200, "min_samples": 100, "dwell_s": 60}
YAML = f"""version: 1
name: guarded  # kept
ladder:
  - {{rung: haiku, model: {HAIKU}, threshold: 0.80, max_tokens: 100}}
  - {{rung: sonnet, model: {SONNET}, threshold: never, max_tokens: 100}}
  - {{rung: opus, model: {OPUS}, max_tokens: 100}}
storm_guard: {json.dumps(GUARD)}
"""


def traffic(seed: int, items: int, rates: dict[str, float]) -> list[Item]:
    """A request a second of three tasks in turn; haiku is unsure, and wrong, as often as `rates` says, else sure and right."""
    chance, tasks = random.Random(seed), [*rates]

    def one(number: int) -> Item:
        task = tasks[number % len(tasks)]
        sure = chance.random() >= rates[task]
        replies = {
            "haiku": RecordedReply(0.9 if sure else 0.3, "a", float(sure), cost_usd=0.001),
            "sonnet": RecordedReply(0.95, "b", 1.0, cost_usd=0.005),
            "opus": RecordedReply(None, "c", 1.0, cost_usd=0.04),
        }
        return Item(f"{seed}-{number}", f"question {seed}-{number}", replies, task=task, at=float(number))

    return [one(number) for number in range(items)]


def tripped(policy: Policy, items: list[Item]) -> set[tuple[str, str]]:
    """Which (task, rung) trips, by the engine's own path."""
    plan, guard, found = (
        bind_policy(policy),
        Guard(policy.storm_guard, bind_policy(policy).escalation),
        set[tuple[str, str]](),
    )
    for item in items:
        replay_item(plan, item, guard=guard, on_change=lambda change: found.add((change.task, change.rung)))
    return found


@pytest.fixture
def guarded(tmp_path: Path) -> tuple[Path, Path]:
    """A policy with a guard, and a corpus on which one task escalates 60 % by nature and the others 10 %."""
    policy, corpus = tmp_path / "guarded.yaml", tmp_path / "three.jsonl"
    policy.write_text(YAML)
    rungs = (LadderEntry("haiku", HAIKU), LadderEntry("sonnet", SONNET), LadderEntry("opus", OPUS))
    write_corpus(corpus, Manifest("three", rungs, synthetic=True), traffic(1, 3_000, RATES))
    return policy, corpus


def test_a_certified_task_does_not_trip_at_its_own_rate_and_another_does_that_rises_to_it(
    run: Run, guarded: tuple[Path, Path]
) -> None:
    """60 % is what `hard` does by nature; where `easy` comes to it, that is a storm, whatever all tasks together do."""
    path, corpus = guarded
    ran = run("calibrate", str(corpus), "--policy", str(path), "--max-risk", "0.05", "--write", str(path), "--json")
    assert ran.code == 0, ran.err
    policy = load_policy(path)
    assert policy.certificate is not None
    by_task = policy.certificate.escalation_by_task
    assert by_task is not None
    assert {task: rates["haiku"] for task, rates in by_task.items()} == pytest.approx(RATES, abs=0.07)
    assert policy.certificate.escalation["haiku"] == pytest.approx(0.8 / 3, abs=0.05)
    calm, rising = traffic(2, 3_000, RATES), traffic(2, 3_000, RATES | {"easy": 0.6})
    assert tripped(policy, calm) == set()
    assert tripped(policy, rising) == {("easy", "haiku")}
    # With the rung's rate alone, as certificates before had it, the first storm is what `hard` always does.
    before = policy.certificate.model_copy(update={"escalation_by_task": None})
    assert tripped(policy.model_copy(update={"certificate": before}), calm) == {("hard", "haiku")}
    assert "# kept" in path.read_text()
    shown = run("policy", "show", "--policy", str(path)).out
    assert f"hard: haiku {by_task['hard']['haiku'] + 0.1:g}" in " ".join(shown.split())


def test_calibrate_tells_the_storms_of_the_policy_as_it_would_be_written(run: Run, guarded: tuple[Path, Path]) -> None:
    """The guard knows the certificate: it does not trip for what that expects. `replay` of what was written says the same."""
    path, corpus = guarded
    asked = ("calibrate", str(corpus), "--policy", str(path), "--max-risk", "0.05")
    told = run(*asked, "--json").json["storms"]
    assert told["tripped"] == 0
    line = "storm guard: tripped 0 times, released 0; sent up 0 and held 0 items, for 0.000000 USD"
    assert line in " ".join(run(*asked).out.split())
    bare = run("calibrate", str(corpus), "--policy", str(path), "--min-quality", "0.97", "--json").json
    assert bare["certificate"] is None
    assert bare["storms"]["tripped"] > 0  # nothing is certified, so nothing is expected of `hard`
    run(*asked, "--write", str(path))
    assert run("replay", str(corpus), "--policy", str(path), "--json").json["storms"] == told


def test_no_guard_no_policy_and_several_corpora_have_no_storms_to_tell(run: Run, guarded: tuple[Path, Path]) -> None:
    """Null where nobody watches; where two corpora have no common time, why."""
    path, corpus = guarded
    assert run("calibrate", str(corpus), "--max-risk", "0.05", "--json").json["storms"] is None
    twice = corpus.with_name("more.jsonl")
    rungs = (LadderEntry("haiku", HAIKU), LadderEntry("sonnet", SONNET), LadderEntry("opus", OPUS))
    write_corpus(twice, Manifest("more", rungs, synthetic=True), traffic(3, 300, RATES))
    both = run("calibrate", str(corpus), str(twice), "--policy", str(path), "--max-risk", "0.05", "--json").json
    assert both["storms"] == {"off": "several corpora have no common order of arrival"}
    path.write_text(YAML.partition("storm_guard")[0])
    unwatched = run("calibrate", str(corpus), "--policy", str(path), "--max-risk", "0.05", "--json").json
    assert unwatched["feasible"]
    assert unwatched["storms"] is None
