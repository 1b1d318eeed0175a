"""docs/capacity.md has exactly what `python benchmarks/capacity.py` prints, and its simulation is the queue that it says it is."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def capacity() -> Iterator[ModuleType]:
    """The benchmark's module; its neighbours are found beside it."""
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(str(ROOT / "benchmarks"))
        yield importlib.import_module("capacity")
    for name in ("capacity", "capacity_model"):
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def stored(capacity: ModuleType) -> dict[str, Any]:
    """The measured figures that the page rests on."""
    return json.loads(capacity.STORED.read_text())


def printed_on_the_page() -> list[str]:
    """The lines of the page's blocks of text, in order."""
    text = (ROOT / "docs" / "capacity.md").read_text(encoding="utf-8")
    parts = text.split("```text\n")[1:]
    return [line for part in parts for line in part.partition("```")[0].splitlines()]


def test_the_page_has_what_was_measured_and_what_follows(capacity: ModuleType, stored: dict[str, Any]) -> None:
    """To the letter, from the stored figures."""
    expected = [*capacity.measured_lines(stored), "", *capacity.derived_lines(stored)]
    assert printed_on_the_page()[: len(expected)] == expected


def test_the_pages_simulation_is_made_again(capacity: ModuleType, stored: dict[str, Any]) -> None:
    """A whole day of the smaller ones, and of 10,000,000 requests the busiest hour: each hour has chance of its own."""
    lines = [line.split() for line in printed_on_the_page()]
    small, middle, large = capacity.SCALES
    for requests, day in ((small, True), (middle, True), (large, False)):
        for row in capacity.simulated_rows(stored, requests, day=day):
            assert " ".join(row).split() in lines
    assert (
        len([line for line in lines if line[:1] in ([f"{one:,}"] for one in capacity.SCALES) and line[2:3] == ["day"]])
        == 3
    )


def test_requests_wait_as_the_theory_of_queues_says(capacity: ModuleType) -> None:
    """One server, Poisson arrivals: the mean wait with exponential services, and half of it with constant ones."""
    model = sys.modules["capacity_model"]
    chance = np.random.default_rng(3)
    arrivals = np.cumsum(chance.exponential(1.0, 400_000))
    for services, expected in ((chance.exponential(0.6, 400_000), 0.9), (np.full(400_000, 0.6), 0.45)):
        assert model.waits(arrivals, services).mean() == pytest.approx(expected, rel=0.05)


def test_waits_are_those_of_a_loop_over_the_queue(capacity: ModuleType) -> None:
    """One after the other: each begins when the one before has ended."""
    model = sys.modules["capacity_model"]
    chance = np.random.default_rng(4)
    arrivals, services = np.cumsum(chance.exponential(1.0, 500)), chance.exponential(0.9, 500)
    free, expected = 0.0, []
    for at, length in zip(arrivals, services, strict=True):
        begins = max(at, free)
        expected.append(begins - at)
        free = begins + length
    assert model.waits(arrivals, services) == pytest.approx(expected, abs=1e-9)


def test_more_processes_wait_less_and_work_the_same(capacity: ModuleType, stored: dict[str, Any]) -> None:
    """The same hour with one, two and four processes; the day's requests are those that were asked for."""
    model = sys.modules["capacity_model"]
    costs = model.costs_of(stored)
    hours = [model.simulate(1_000_000, costs.by_steps, processes, 10)[0] for processes in (1, 2, 4)]
    assert hours[0].p99_ms > hours[1].p99_ms > hours[2].p99_ms
    assert [hour.busy * n for hour, n in zip(hours, (1, 2, 4), strict=True)] == pytest.approx(
        [hours[0].busy] * 3, rel=0.02
    )
    expected = 1_000_000 * model.DAY[10] / sum(model.DAY)
    assert hours[0].requests == pytest.approx(expected, rel=0.01)


def test_ten_times_the_requests_need_ten_times_as_much(capacity: ModuleType, stored: dict[str, Any]) -> None:
    """Of all that is no whole number and depends on no other choice; a gateway alone is for little traffic."""
    model = sys.modules["capacity_model"]
    costs = model.costs_of(stored)
    one, ten = model.needs(1_000_000, costs), model.needs(10_000_000, costs)
    for name in (
        "rows_a_day",
        "sqlite_gb",
        "postgres_gb",
        "content_gb",
        "rows_per_s",
        "round_trips_per_s",
        "postgres_cores",
    ):
        assert getattr(ten, name) == pytest.approx(10 * getattr(one, name))
    assert model.needs(1_000, costs).is_alone
    assert not ten.is_alone
    assert ten.processes > one.processes
