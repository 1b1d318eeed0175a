"""From watching to switching on, as a team would go it."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from benchmarks.observe_then_enforce import run
from cascade import cli
from cascade.corpora import read_corpus
from cascade.emulator import Emulator
from cascade.policy.shipped import find_corpus


def command(*arguments: str) -> Any:
    """`cascade …` in this process: its start would be most of the time."""
    said = io.StringIO()
    with redirect_stdout(said):
        assert cli.run_command([*arguments, "--json"]) == 0
    return json.loads(said.getvalue())


def test_what_was_observed_calibrates_and_the_holdout_measures_the_saving(tmp_path: Path) -> None:
    """The corpus of observed traffic is certified, the true saving lies in the interval, `mode off` holds on the next request."""
    source = find_corpus("history")
    with Emulator(source) as emulator:
        found = run(read_corpus(source).items[:300], emulator, tmp_path, command)
    assert found.faults == ()
    assert found.corpus_items == 300
