"""With early stop the sliders, too, show what a replay costs: the page has what a climb pays at the rungs that it leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cascade.calibration.report import input_of, write_report
from cascade.calibration.search.levels import code_columns
from cascade.corpora.reading import open_corpus
from cascade.replay.building import read_columns
from cascade.replay.mapping import Override, own_mapping
from cascade.replay.run import ReplayOptions, replay_corpus

from .browser import Browser, Keys
from .builders import SUPPORT


def test_the_sliders_count_closed_replies_as_replay_does(driver: Any, tmp_path: Path) -> None:
    """Cost and saving at several thresholds, to the nano-USD."""
    with open_corpus(SUPPORT) as reader:
        mapping = own_mapping(reader.manifest, early_stop=True)
        columns, views = read_columns(reader, reader.manifest, [mapping], source=reader.source)
    counts = code_columns(columns, views[0]).counts()
    write_report(tmp_path / "r.html", input_of(counts, corpus="support", synthetic=True))
    page = Browser(driver, tmp_path / "r.html")
    costs = set[int]()
    for key in (Keys.ARROW_LEFT, Keys.END, Keys.HOME):
        shown = {rung: page.press(index, key) for index, rung in enumerate(("haiku", "sonnet"))}
        overrides = tuple(Override(rung, None if x == "never" else float(x)) for rung, x in shown.items())
        figures = replay_corpus(SUPPORT, ReplayOptions(overrides=overrides, early_stop=True)).figures
        assert round(page.value("cost") * 1e6 * figures.items) == figures.cost
        assert page.value("quality") == pytest.approx(figures.quality, abs=1e-9)
        costs.add(figures.cost)
    assert len(costs) == 3
    assert page.complaints() == []
