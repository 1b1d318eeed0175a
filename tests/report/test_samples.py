"""The report of a cascade with samples: what each further sample buys, and figures that stay those of one rule."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from cascade.calibration.objectives import MinQuality
from cascade.calibration.report import SampleReport, SampleRow, input_of, render_report
from cascade.calibration.report.ladder import yaml_of
from cascade.core.policy import Samples
from cascade.corpora import read_corpus
from cascade.corpora.splits import Split

from .builders import SUPPORT, counts_of, drawn
from .sampled import sampled
from .test_report import HOSTILE, Page


@pytest.mark.parametrize("quality", [False, True], ids=["risk", "quality"])
def test_a_row_for_each_number_of_samples_stands_on_the_page_without_a_script(tmp_path: Path, *, quality: bool) -> None:
    """With the figures of the command's own table, and the chosen row marked; the variants are named once."""
    _, result, report = sampled(tmp_path, MinQuality(0.95, of_top=True) if quality else None)
    bought, page = result.further_samples(), Page(render_report(report))
    assert len(bought) > 3
    rows = [row for row in report.sampled.rows if row.most > 1]
    assert [row.most for row in rows] == [one.most for one in bought if one.most > 1]
    text = "".join(page.texts)
    for row, one in zip(report.sampled.rows, bought, strict=True):
        assert (row.quality, row.cost_per_request) == (one.quality, one.cost_per_request_usd)
        assert row.risk == one.losses / len(result.tune)
        assert f"{one.quality:.4f}" in text
        assert f"{1e3 * one.cost_per_request_usd:,.4f}" in text
    assert text.count("Variants of haiku, in turn: confidence_first, steps") == 1
    assert f"{len(result.ways)} ways were compared" in text
    assert f"has {'no lower quality' if quality else 'no more losses'} than what was chosen" in text
    assert sum(row.is_chosen for row in rows) <= 1
    assert [
        attributes["data-vote"] for tag, attributes in page.elements if tag == "tr" and "data-vote" in attributes
    ] == [str(number) for number in range(len(bought))]


def test_single_models_beside_it_are_asked_once(tmp_path: Path) -> None:
    """The counts hold the cost of the vote; the model alone costs one reply, and climbing at random so does."""
    corpus, result, report = sampled(tmp_path)
    held = [item for item in read_corpus(corpus).items if Split().part_of(item) == "certify"]
    quality, usd = report.baselines["single:haiku"]
    assert usd == pytest.approx(sum(item.replies["haiku"].cost_usd or 0.0 for item in held) / len(held))
    assert quality == pytest.approx(sum(item.replies["haiku"].score or 0.0 for item in held) / len(held))
    assert int(report.counts.cost[:, 0].sum()) / 1e9 / len(held) > usd
    assert result.choice.random_mix == pytest.approx(report.baselines["random_mix"])


def test_agreement_is_no_number(tmp_path: Path) -> None:
    """Where it decides alone: the slider, the tables and the YAML name it instead of a threshold."""
    report = sampled(tmp_path, reports=False).report
    page = Page(render_report(report))
    assert page.data["labels"] == [["agreement", "never"]]
    assert "their agreement decides alone, and no confidence is compared" in "".join(page.texts)
    made = yaml.safe_load(yaml_of(report) or "")
    assert "threshold" not in made["ladder"][0]
    assert Samples.model_validate(made["ladder"][0]["samples"]) == Samples.model_validate(
        yaml.safe_load(report.sampled.yaml["haiku"])
    )


def test_a_frontier_of_several_votes_names_each(tmp_path: Path) -> None:
    """Its points are of all ways to ask; the sliders move those of asking once, and the page says so."""
    _, result, report = sampled(tmp_path, frontier=True, reports=False)
    page = Page(render_report(report))
    text = "".join(page.texts)
    assert report.frontier == result.choice.frontier
    assert len({point.way for point in report.frontier}) > 1
    for point in report.frontier:
        assert report.sampled.names[point.way] in text
    assert "The sliders are of asking each rung once." in text
    assert "agreement" in text


def test_without_samples_there_is_no_such_section() -> None:
    """Nothing of it on the page of a ladder that asks each rung once."""
    page = Page(render_report(input_of(counts_of(SUPPORT), corpus="support", synthetic=True)))
    assert "samples" not in [attributes.get("id") for _, attributes in page.elements]
    assert page.data["votes"] == []


def test_hostile_names_of_variants_are_texts() -> None:
    """Markup in a variant's name, which a corpus may choose."""
    counts = drawn(("a", "b", "c"), 200, 6)
    rows = tuple(SampleRow(most, name, 0.5, 0.001, 0.1) for most, name in enumerate(HOSTILE, 1))
    sampled_so = SampleReport(
        {"a": HOSTILE[0]},
        {"a": "{max: 2, agree: 2}"},
        frozenset("b"),
        rows,
        rows[0],
        "no more losses",
        {"a": HOSTILE},
        3,
    )
    calm = Page(render_report(input_of(counts, corpus="c", synthetic=True)))
    page = Page(render_report(replace(input_of(counts, corpus="c", synthetic=True), sampled=sampled_so)))
    assert {tag for tag, _ in page.elements} <= {tag for tag, _ in calm.elements} | {"ul", "li"}
    assert len(page.scripts) == 2
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert "<" not in page.scripts[0]
    assert HOSTILE[0] in "".join(page.texts)
