"""`benchmarks/recorded.py`: the documentation's table of real corpora says what `calibrate` and `replay` say, losses too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.recorded import main, row_of
from cascade.calibration.proof.pareto_testing import Target
from cascade.calibration.run import CalibrationOptions, calibrate
from cascade.policy.shipped import find_corpus
from cascade.replay.run import ReplayOptions, replay_corpus

PAGE = Path(__file__).resolve().parents[3] / "docs" / "figures.md"
SHORT = ("coding-claims", "date-samples", "translation-claude")
CORPORA = (
    "coding-claims",
    "date-samples",
    "mmlupro-claude",
    "mmlupro-gemini",
    "mmlupro-gpt41",
    "mmlupro-llama",
    "translation-claude",
)


@pytest.mark.parametrize(
    ("name", "alpha", "verdict", "advice"),
    [
        ("storm", 0.1, "cheaper, but worse", "cascade"),
        ("coding", 0.1, "loss", "single:opus"),
        ("coding", 0.05, "refused", None),
    ],
)
def test_a_row_is_the_tools_own_verdict(name: str, alpha: float, verdict: str, advice: str | None) -> None:
    """A cascade that is cheaper but worse, a loss and a refusal, each with the figures of the certify half and none of the tune half."""
    path = find_corpus(name)
    result = calibrate([path], CalibrationOptions(Target("false_confident", alpha)))
    row, guess = row_of(path, alpha), replay_corpus(path, ReplayOptions(part="certify"))
    assert (row.raw.verdict, result.choice.advice) == (verdict, advice)
    assert row.items == guess.figures.items == len(result.held_out)
    assert (row.guess.quality, row.guess.ci95) == (guess.figures.quality, guess.intervals[""])
    assert row.guess.false_confident == guess.figures.false_confident_rate
    assert row.top.quality == result.choice.singles["opus"].figures.quality
    assert (row.raw.cell is None) == (result.choice.certify is None)
    if row.raw.cell is not None and result.choice.certify is not None:
        assert row.raw.cell.quality == result.choice.certify.quality
        assert row.raw.cell.cost == 1e3 * result.choice.certify.cost_per_request_usd
    else:
        assert "further groups needed" in row.raw.why


def test_the_documented_table_is_what_the_command_prints(
    real_corpus: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Three of its lines, wins, one within noise, losses and a refusal, to the letter; and it leaves no corpus out."""
    main(["--markdown", "--max-risk", "0.1", "--", *(str(real_corpus(name)) for name in SHORT)])
    printed = capsys.readouterr().out.splitlines()
    page = PAGE.read_text(encoding="utf-8")
    assert [line for line in printed if line not in page.splitlines()] == []
    assert len([line for line in printed if line.startswith("| `")]) == 2 * len(
        SHORT
    )  # certified, and at equal quality
    assert [name for name in CORPORA if f"| `{name}`:" not in page or f"| `{name}` |" not in page] == []
