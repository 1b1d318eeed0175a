"""Sixty columns: every figure that a wide terminal shows is there, and no line is longer."""

from __future__ import annotations

from pathlib import Path

import pytest

from cascade.corpora import Item, read_corpus
from cascade.emulator import Emulator
from tests.cli.conftest import Run

USAGE = "date,model,requests,input_tokens,output_tokens\n2026-11-01,claude-opus-5-5,50000,100000000,25000000\n"


def lines_of(run: Run, columns: int, *arguments: str, emulator: Emulator | None = None, err: bool = False) -> list[str]:
    """What a command prints in a terminal of so many columns."""
    ran = run(*arguments, emulator=emulator, environment={"COLUMNS": str(columns)})
    assert ran.code in (0, 3)
    return (ran.err if err else ran.out).splitlines()


def words_in(lines: list[str]) -> set[str]:
    """All but how they are laid out."""
    return {word for line in lines for word in line.split() if set(word) != {"·"}}


def too_long(lines: list[str]) -> list[str]:
    """Lines above 60 columns that could have been broken."""
    return [line for line in lines if len(line) > 60 and len(line.split()) > 1]


@pytest.mark.parametrize(
    "arguments",
    [
        ("replay", "support"),
        ("calibrate", "support", "--max-risk", "0.1"),
        ("savings", "usage.csv", "--corpus", "support", "--policy", "support", "--more", "--cached", "0.5"),
        ("savings", "--workload", "customer-service"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_narrow_terminal_loses_nothing(run: Run, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """The same words and figures as in 400 columns."""
    (tmp_path / "usage.csv").write_text(USAGE)
    wide, narrow = (lines_of(run, columns, *arguments) for columns in (400, 60))
    assert max(map(len, wide)) > 60
    assert words_in(wide) - words_in(narrow) == set()
    assert too_long(narrow) == []


def test_the_trail_and_the_costs_lose_nothing(run: Run, emulator: Emulator, support: Path) -> None:
    """`ask --explain` keeps model, attempts and time; `costs` every column of each of its tables."""
    asked = next(item for item in read_corpus(support).items if isinstance(item.input, str) and climbs(item))
    assert isinstance(asked.input, str)
    trail = lines_of(run, 60, "ask", asked.input, "--explain", emulator=emulator, err=True)
    assert {"model", "claude-haiku-5-5", "claude-sonnet-5-5", "attempts", "ms", "confidence"} <= words_in(trail)
    assert too_long(trail) == []
    for by in ("rung", "task"):
        wide, narrow = (lines_of(run, columns, "costs", "--by", by) for columns in (400, 60))
        assert words_in(wide) - words_in(narrow) == set()
        assert too_long(narrow) == []


def climbs(item: Item) -> bool:
    """Whether Haiku is unsure of it."""
    confidence = item.replies["haiku"].confidence
    return confidence is not None and confidence < 0.5
