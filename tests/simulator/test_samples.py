"""The samples of the synthetic corpora: they agree as measured ones do, and change nothing of sample 1."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
from collections import Counter
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from cascade.core.policy.samples import ORDERS
from cascade.core.text.answers import normalised
from cascade.corpora import Item, RecordedReply, read_corpus

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
WITH_SAMPLES = ("history", "support")

# Of `date-samples`: measured, and how far the simulated figure may be off. Two standard errors of the measured one are about
# 0.045 for a share and 0.06 for an AUROC.
MEASURED = {
    "agreement AUROC, 3 samples": (0.793, 0.04),
    "agreement AUROC, 5 samples": (0.772, 0.04),
    "agreement AUROC, 8 samples": (0.736, 0.04),
    "most frequent answer right, 1 sample": (0.648, 0.01),
    "most frequent answer right, 3 samples": (0.740, 0.03),
    "most frequent answer right, 5 samples": (0.775, 0.03),
    "most frequent answer right, 8 samples": (0.816, 0.03),
    "unanimous, 3 samples": (0.526, 0.02),
    "unanimous, 5 samples": (0.455, 0.02),
    "unanimous, 8 samples": (0.423, 0.02),
    "wrong if unanimous, 3 samples": (0.098, 0.02),
    "wrong if unanimous, 5 samples": (0.101, 0.02),
    "wrong if unanimous, 8 samples": (0.109, 0.02),
    "curtailed 3 of 4: ships": (0.772, 0.045),
    "curtailed 3 of 4: samples an item": (3.34, 0.05),
    "curtailed 3 of 4: confidently wrong": (0.087, 0.02),
    "curtailed 3 of 4: quality (the top alone: 0.892)": (0.892, 0.04),
    "curtailed 3 of 4: cost, of the top's": (0.395, 0.045),
}


@pytest.fixture(scope="module")
def compared() -> str:
    """What `python benchmarks/simulate.py --agreement` prints, in a hash order of its own."""
    command = [sys.executable, "-S", str(BENCHMARKS / "simulate.py"), "--agreement"]
    environment = {"PYTHONHASHSEED": "random", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        command, env=environment, capture_output=True, encoding="utf-8", timeout=60, check=True
    ).stdout


@cache
def lines_of(name: str) -> list[dict[str, Any]]:
    """The lines of a shipped corpus."""
    with gzip.open(BENCHMARKS / "corpora" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


@cache
def items_of(name: str) -> tuple[Item, ...]:
    """The items of a shipped corpus."""
    return read_corpus(BENCHMARKS / "corpora" / f"{name}.jsonl.gz").items


def samples_of(name: str) -> list[tuple[Item, tuple[RecordedReply, ...]]]:
    """Each item with haiku's samples."""
    return [(item, item.reply("haiku").every) for item in items_of(name)]


def test_simulated_samples_agree_as_measured_ones_do(compared: str) -> None:
    """Every figure is within the stated distance of the measured one, and what is printed as measured was measured."""
    told = {
        found[1].strip(): (float(found[2]), float(found[3]))
        for found in re.finditer(r"^(\S.*?) +(\d\.\d{3}) +(\d\.\d{3}) +[+-]\d\.\d{3}$", compared, re.MULTILINE)
    }
    assert {name: measured for name, (measured, _) in told.items()} == {name: one[0] for name, one in MEASURED.items()}
    off = {name: round(abs(simulated - measured), 3) for name, (measured, simulated) in told.items()}
    assert {name: by for name, by in off.items() if by > MEASURED[name][1]} == {}


def test_the_readme_shows_the_comparison(compared: str) -> None:
    """What the command prints, to the last digit."""
    assert compared.strip() in (BENCHMARKS / "corpora" / "README.md").read_text(encoding="utf-8")


def test_a_scenario_or_the_comparison_is_asked_for() -> None:
    """Neither and both are refused."""
    for options in ([], ["support", "--agreement"]):
        command = [sys.executable, "-S", str(BENCHMARKS / "simulate.py"), *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stdout) == (2, "")


@pytest.mark.parametrize("name", WITH_SAMPLES)
def test_haiku_is_recorded_once_with_each_built_in_prompt(name: str) -> None:
    """In the order in which a policy would name them; the other rungs are asked once; the manifest says what it rests on."""
    for item, samples in samples_of(name):
        assert tuple(sample.variant for sample in samples) == ORDERS
        assert all(item.reply(rung).samples is None and item.reply(rung).variant is None for rung in ("sonnet", "opus"))
    notes = read_corpus(BENCHMARKS / "corpora" / f"{name}.jsonl.gz").manifest.notes or ""
    assert "--agreement" in notes


@pytest.mark.parametrize("name", WITH_SAMPLES)
def test_samples_are_graded_and_priced_as_they_are(name: str) -> None:
    """Right is what equals the expected answer; prompts that have notes written cost more, all at list prices."""
    spent: Counter[str | None] = Counter()
    for item, samples in samples_of(name):
        for sample in samples:
            assert (sample.score == 1.0) == (sample.answer == item.expected)
            exact = Decimal("0.1") * sample.tokens.input_tokens + Decimal("0.5") * sample.tokens.output_tokens
            assert sample.cost_usd == float(exact / 1_000_000)
            spent[sample.variant] += sample.tokens.output_tokens
    assert spent["steps"] > spent["doubt"] > 1.5 * spent["confidence_first"]
    assert spent["answer_first"] == pytest.approx(spent["confidence_first"], rel=0.02)


@pytest.mark.parametrize("name", WITH_SAMPLES)
def test_no_prompt_is_better_than_the_first(name: str) -> None:
    """So that no gain of a vote rests on a better prompt."""
    right = Counter(sample.variant for _, samples in samples_of(name) for sample in samples if sample.score == 1.0)
    total = len(items_of(name))
    for variant in ORDERS[1:]:
        assert -0.035 < (right[variant] - right[ORDERS[0]]) / total < 0.015


@pytest.mark.parametrize("name", WITH_SAMPLES)
def test_unanimous_samples_are_still_wrong_now_and_then(name: str) -> None:
    """Where the first sample errs, one time in eight or so all the others make the same mistake."""
    errs = [samples for item, samples in samples_of(name) if samples[0].answer not in (None, item.expected)]
    alike = sum(len({sample.answer for sample in samples}) == 1 for samples in errs)
    assert 0.08 < alike / len(errs) < 0.18


@pytest.mark.parametrize("name", WITH_SAMPLES)
def test_answers_that_differ_differ_as_policies_compare_them(name: str) -> None:
    """`same: normalized`, the default, takes no wrong answer for the right one."""
    for item, samples in samples_of(name):
        for sample in samples:
            if isinstance(sample.answer, str) and sample.answer != item.expected:
                assert normalised(sample.answer) != normalised(str(item.expected))


def test_corpora_without_samples_have_none() -> None:
    """`coding` and `storm` are asked once."""
    for name in ("coding", "storm"):
        assert not any("samples" in reply for line in lines_of(name)[1:] for reply in line["replies"].values())
