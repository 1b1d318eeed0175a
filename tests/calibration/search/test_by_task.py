"""Thresholds by task under one shared bound: what trying every choice of every task's thresholds finds."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest

from cascade.calibration.search.by_task import ByTask, best_by_task, large_tasks, path_by_task
from cascade.calibration.search.frontier import risk_path
from cascade.calibration.search.levels import CodedCorpus, code_columns
from cascade.corpora import read_corpus
from cascade.replay.building import read_columns
from cascade.replay.mapping import own_mapping
from tests.calibration.chance import coded_of


def everything(coded: CodedCorpus, counted: str, fewest: int) -> list[tuple[int, int]]:
    """(count, cost) of every choice of thresholds for every named task of at least `fewest` items, and for the rest."""
    sizes = np.bincount(coded.task, minlength=len(coded.tasks))
    big = [code for code, size in enumerate(sizes.tolist()) if size >= fewest and coded.tasks[code] != "other"]
    parts = [coded.task == code for code in big]
    rest = ~np.isin(coded.task, big)
    options = [choices(coded.rows(rows), counted) for rows in (*parts, rest) if rows.any()]
    return [(sum(one[0] for one in chosen), sum(one[1] for one in chosen)) for chosen in product(*options)]


def choices(part: CodedCorpus, counted: str) -> list[tuple[int, int]]:
    """(count, cost) of every vector of thresholds on these items."""
    found: set[tuple[int, int]] = set()
    for at in product(*(range(1, len(own) + 2) for own in part.levels)):
        if counted == "wrong":
            count = int((part.scores(at) < part.right_at).sum())
        else:
            count = int(part.losses(at, counted).sum())  # type: ignore[arg-type]
        found.add((count, int(part.costs(at).sum())))
    return sorted(found)


def figures(coded: CodedCorpus, chosen: ByTask, counted: str) -> tuple[int, int]:
    """Count and cost of what was chosen, item by item."""
    at = chosen.at_items(coded)
    wrong = coded.scores(at) < coded.right_at
    lost = wrong if counted == "wrong" else coded.losses(at, counted)  # type: ignore[arg-type]
    return int(lost.sum()), int(coded.costs(at).sum())


@pytest.mark.parametrize("counted", ["false_confident", "regression", "wrong"])
@pytest.mark.parametrize("rungs", [2, 3])
def test_the_programme_finds_what_trying_everything_finds(rungs: int, counted: str) -> None:
    """For every bound the least cost of all choices, tasks of few items sharing one; what is told is so item by item."""
    for seed in range(12):
        coded = coded_of(seed, rungs, items=16, levels=2)
        tried = everything(coded, counted, fewest=4)
        for bound in range(-1, len(coded) + 1):
            fits = [cost for count, cost in tried if count <= bound]
            chosen = best_by_task(coded, bound, counted, own=large_tasks(coded, 4))  # type: ignore[arg-type]
            assert (chosen is None) == (not fits)
            if chosen is not None:
                assert chosen.cost == min(fits)
                assert figures(coded, chosen, counted) == (chosen.losses, chosen.cost)
                assert chosen.losses <= bound
                assert chosen.quality == pytest.approx(float(coded.scores(chosen.at_items(coded)).mean()), abs=1e-9)


def test_the_path_is_the_least_cost_for_every_bound() -> None:
    """Losses rise, cost falls, and each step is what `best_by_task` says for its losses."""
    coded = coded_of(3, 3, items=60)
    path = path_by_task(coded, "false_confident", 1000, own=large_tasks(coded, 10))
    assert len(path) > 5
    assert all(a.losses < b.losses and a.cost > b.cost for a, b in pairwise(path))
    for step in path:
        assert best_by_task(coded, step.losses, own=large_tasks(coded, 10)) == step
        if step.losses:
            before = best_by_task(coded, step.losses - 1, own=large_tasks(coded, 10))
            assert before is None or before.cost > step.cost
    few = path_by_task(coded, "false_confident", 5, own=large_tasks(coded, 10))
    assert (few[0], few[-1]) == (path[0], path[-1])
    assert len(few) <= 5
    most = path[2].losses
    assert path_by_task(coded, "false_confident", 1000, bound=most, own=large_tasks(coded, 10)) == path[:3]


def test_one_group_of_small_tasks_is_the_shared_path() -> None:
    """Where no task has enough items all share one vector, and the path is the ladder's own."""
    coded = coded_of(4, 3, items=60)
    path = path_by_task(coded, "regression", 1000, own=large_tasks(coded, 61))
    own = risk_path(coded.counts(), "regression", 1000)
    assert [step.shared for step in path] == list(own)
    assert all(not step.tasks for step in path)


def test_a_task_nobody_chose_for_ships_only_at_the_top() -> None:
    """Where every task has its own, an unseen one has none to share."""
    coded = coded_of(4, 3, items=60)
    known = coded.rows(coded.task == 0)
    chosen = best_by_task(known, 10**9, own=large_tasks(known, 1))
    assert chosen is not None
    at = chosen.at_items(coded)
    never = [len(own) + 1 for own in coded.levels]
    assert (at[coded.task != 0] == never).all()
    assert (at[coded.task == 0] == chosen.tasks[coded.tasks[0]].at).all()


@pytest.mark.parametrize("name", ["mmlupro-gpt41"])
def test_own_thresholds_cost_no_more_on_what_chose_them(real_corpus: Callable[[str], Path], name: str) -> None:
    """On a recorded corpus, at the same number of losses, and with tasks that are large enough."""
    corpus = read_corpus(real_corpus(name))
    columns, (view,) = read_columns(corpus.items, corpus.manifest, [own_mapping(corpus.manifest)])
    coded = code_columns(columns, view)
    for point in risk_path(coded.counts(), "false_confident", 10):
        chosen = best_by_task(coded, point.losses, own=large_tasks(coded, 300))
        assert chosen is not None
        assert chosen.cost <= point.cost
        assert figures(coded, chosen, "false_confident") == (chosen.losses, chosen.cost)
    assert len(chosen.tasks) > 3
