"""`cascade savings` as a person runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

DAY = "date,model,requests,input_tokens,output_tokens\n2026-11-01,claude-opus-5-5,500,1000000,250000\n"
PRICES = ("--price", "claude-haiku-5-5=0.80/4", "--price", "claude-sonnet-5-5=3/15", "--price", "claude-opus-5-5=15/75")


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a folder."""
    return subprocess.run(
        [sys.executable, "-m", "cascade.cli", "savings", *arguments],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONWARNINGS": "error"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def day(tmp_path: Path) -> Path:
    """A day of 500 tasks."""
    path = tmp_path / "day.csv"
    path.write_text(DAY)
    return path


def figures(value: Any) -> Iterator[dict[str, Any]]:
    """Every object that tells money."""
    if isinstance(value, dict):
        if "usd" in value:
            yield value
        for inner in value.values():
            yield from figures(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from figures(inner)


def test_the_published_figures_are_printed(day: Path) -> None:
    """1.80, 6.75, 33.75 and 4.14 USD a day; 87.7 % and 38.7 %; and the climb beside it."""
    ran = run(day.parent, "day.csv", "--mix", "80/15/5", *PRICES)
    assert (ran.returncode, ran.stderr) == (0, "")
    lines = {line.split("  ")[0]: line for line in ran.stdout.splitlines()}
    for name, amount in (("haiku alone", "1.80"), ("sonnet alone", "6.75"), ("opus alone", "33.75")):
        assert amount in lines[name].split()
    routed = next(line for line in lines.values() if line.startswith("routed"))
    assert {"4.14", "87.7%", "38.7%", "estimate"} <= set(routed.split())
    climb = next(line for line in lines.values() if line.startswith("climb: "))
    assert "4.84" in climb.split()
    assert "it pays every rung on the way up" in " ".join(ran.stdout.split())


def test_every_figure_of_money_has_its_basis(day: Path) -> None:
    """In JSON: today's bill is measured, all that the policy would do is an estimate."""
    told = json.loads(run(day.parent, "day.csv", "--mix", "80/15/5", *PRICES, "--json").stdout)
    assert all(figure["basis"] in ("measured", "estimate") for figure in figures(told))
    assert told["today"]["basis"] == "measured"
    assert told["under_policy"]["routed"]["usd_per_day"] == 4.14
    assert told["under_policy"]["routed"]["saved_against"]["opus"] == pytest.approx(0.877333, abs=1e-6)
    assert {figure["basis"] for figure in figures(told["under_policy"])} == {"estimate"}
    assert told["mix"]["basis"] == "estimate"
    assert [row["rate"] for row in told["at_escalation_rate"]] == [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6]


def test_a_corpus_measures_the_mix(day: Path) -> None:
    """A shipped corpus by name; the mix says measured and synthetic, the bill under it still says estimate."""
    told = json.loads(run(day.parent, "day.csv", "--corpus", "support", "--policy", "support", "--json").stdout)
    assert told["mix"]["basis"] == "measured"
    assert told["mix"]["corpus"]["synthetic"] is True
    assert told["under_policy"]["climb_with_triage"]["basis"] == "estimate"
    assert told["advice"]["routing_pays"] in (True, False)


def test_the_headline_is_the_climb_unless_routed_is_asked_for(day: Path) -> None:
    """A cascade climbs: the routed figure counts only on request."""
    assert (
        json.loads(run(day.parent, "day.csv", "--mix", "80/15/5", "--json").stdout)["under_policy"]["headline"]
        == "climb"
    )
    routed = run(day.parent, "day.csv", "--mix", "80/15/5", "--routed", "--json")
    assert json.loads(routed.stdout)["under_policy"]["headline"] == "routed"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["none.csv"], "none.csv: cannot be read"),
        (["day.csv", "--mix", "80/20"], "--mix: '80/20' is no mix"),
        (["day.csv", "--mix", "80/15/5", "--corpus", "support"], "both were given"),
        (["day.csv", "--period-days", "0"], "--period-days: must be above 0"),
        (["day.csv", "--map", "model=which"], "has no column 'which'"),
        (["day.csv", "--cached", "2"], "--cached: must be from 0 to 1"),
        (["day.csv", "--price", "x"], "--price: 'x' is no price"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(day: Path, arguments: list[str], told: str) -> None:
    """Nothing on stdout, one line on stderr."""
    ran = run(day.parent, *arguments)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert told in ran.stderr
    assert ran.stderr.count("\n") == 1
