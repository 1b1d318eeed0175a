"""Samples that are all alike tell nothing of agreement, and that is said instead of a figure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cascade.calibration.repeats import alike_cells, why_not_judged, why_not_judged_by_rung
from cascade.core.policy.samples import Same
from cascade.corpora import Item, LadderEntry, Manifest, RecordedReply, read_corpus
from cascade.corpora.items import NOT_RECORDED
from cascade.replay.building import read_columns
from cascade.replay.mapping import own_mapping
from cascade.replay.votes import SampleColumns

from .regrouped import in_samples

MANIFEST = Manifest("drawn", (LadderEntry("low"), LadderEntry("top")))
EXACT = Same(kind="exact")


def sampled(cells: Sequence[Sequence[object]], manifest: Manifest = MANIFEST) -> SampleColumns:
    """The samples of the lower rung, an item for each cell of answers."""
    items: list[Item] = []
    for number, (first, *others) in enumerate(cells):
        samples = tuple(RecordedReply(answer=one, score=1.0, cost_usd=0.001) for one in others)
        low = RecordedReply(answer=first, score=1.0, cost_usd=0.001, samples=samples)
        items.append(Item(str(number), f"question {number}", {"low": low, "top": RecordedReply(answer="a", score=1.0)}))
    _, (view,) = read_columns(items, manifest, [replace(own_mapping(manifest), same=EXACT)])
    found = view.samples[0]
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("cell", "cells", "alike"),
    [
        (["a", "a"], 1, 1),
        (["a", "b"], 1, 0),
        (["a", "a", None], 1, 0),
        ([None, None], 0, 0),
        (["a"], 0, 0),
        (["a", NOT_RECORDED], 0, 0),
        (["a", NOT_RECORDED, "a"], 1, 1),
    ],
)
def test_a_cell_is_alike_where_all_its_recorded_answers_are(cell: list[object], cells: int, alike: int) -> None:
    """A declined sample is unlike an answer; one whose text is missing is not looked at."""
    found = alike_cells(sampled([cell]), EXACT)
    assert (found.cells, found.alike) == (cells, alike)
    assert found.share == (alike / cells if cells else None)


def test_more_than_95_in_a_hundred_alike_are_refused_and_95_are_not() -> None:
    """With the share, and the sentence that it tells nothing of the default temperature."""
    alike, other = [["a", "a", "a"]], [["a", "b", "a"]]
    assert why_not_judged(MANIFEST, sampled(95 * alike + 5 * other), EXACT) is None
    said = why_not_judged(MANIFEST, sampled(96 * alike + 4 * other), EXACT)
    assert said is not None
    assert "all alike in 96% of 100 cells" in said
    assert "nothing of agreement at the model's default temperature" in said


def test_temperature_0_is_refused_whatever_the_samples_say() -> None:
    """And one above it is judged by the samples."""
    cells = [["a", "b"], ["a", "a"]]
    cold, warm = replace(MANIFEST, temperature=0.0), replace(MANIFEST, temperature=0.7)
    assert "temperature 0" in (why_not_judged(cold, sampled(cells), EXACT) or "")
    assert why_not_judged(warm, sampled(cells), EXACT) is None


def test_curtailed_samples_are_refused() -> None:
    """What was not asked once enough agreed cannot be put to another vote."""
    curtailed = replace(MANIFEST, extra={"recorded": {"curtailed": True}})
    assert "curtailed" in (why_not_judged(curtailed, sampled([["a", "b"]]), EXACT) or "")


def test_without_a_second_sample_there_is_nothing_to_judge() -> None:
    """One sample an item."""
    assert "no item has two samples" in (why_not_judged(MANIFEST, sampled([["a"], ["b"]]), EXACT) or "")


def test_only_the_rows_given_are_read() -> None:
    """So that a caller can keep to one half."""
    samples = sampled([["a", "a"], ["a", "b"]])
    assert why_not_judged(MANIFEST, samples, EXACT) is None
    assert "100% of 1 cells" in (why_not_judged(MANIFEST, samples.rows(np.array([True, False])), EXACT) or "")


def test_one_rung_that_is_all_alike_speaks_for_the_recording() -> None:
    """In 100 cells or more, unless the corpus says its temperature; a rung that was asked once is told so."""
    alike, varied = sampled([["a", "a"]] * 100), sampled([["a", "b"]] * 100)
    assert why_not_judged_by_rung(MANIFEST, [sampled([["a", "b"]]), sampled([["a", "a"]])], EXACT)[0] is None
    first, second, third = why_not_judged_by_rung(MANIFEST, [varied, alike, None], EXACT)
    assert "rung 2, of the same recording, are all alike in 100% of 100 cells" in (first or "")
    assert "all alike" in (second or "")
    assert third == "it was asked once"
    told = why_not_judged_by_rung(replace(MANIFEST, temperature=1.0), [varied, alike], EXACT)
    assert told[0] is None
    assert told[1] is not None
    assert why_not_judged_by_rung(MANIFEST, [varied, varied], EXACT) == (None, None)


def test_ten_runs_of_recorded_claims_are_refused(real_corpus: Callable[[str], Path]) -> None:
    """Ten runs of each claim and prompt at temperature 0, as samples: one model varies a little, and is refused too."""
    corpus = read_corpus(real_corpus("coding-claims"))
    _, (view,) = read_columns(
        in_samples(corpus.items), corpus.manifest, [replace(own_mapping(corpus.manifest), same=Same())]
    )
    shares = [alike_cells(one, Same()).share for one in view.samples if one is not None]
    assert shares == [pytest.approx(0.823, abs=0.001), pytest.approx(0.993, abs=0.001)]
    assert None not in why_not_judged_by_rung(corpus.manifest, view.samples, Same())
