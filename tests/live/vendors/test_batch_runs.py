"""Batch runs of a ladder with another vendor's rung, which batches do not reach."""

from __future__ import annotations

import sys

import pytest

from cascade import Cascade, MissingExtra, MissingKey
from cascade.emulator import Emulator
from tests.live.vendors.conftest import mixed


@pytest.mark.parametrize("missing", ["key", "package"])
def test_a_run_that_could_not_end_sends_nothing(both: Emulator, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    """What is missing for the round after the first is told before a run is made. One that was made goes on later."""
    with Cascade(mixed()) as driver:
        run = driver.batch(["middle"])
    with monkeypatch.context() as without:
        if missing == "key":
            without.delenv("OPENAI_API_KEY")
        else:
            without.setitem(sys.modules, "openai", None)
        told = pytest.raises(MissingKey if missing == "key" else MissingExtra, match=r"OPENAI_API_KEY|provider openai")
        with Cascade(mixed()) as driver:
            with told:
                driver.batch(["middle"])
            with told:
                driver.batch(run=run.id).run()
    assert both.requests == ()
    with Cascade(mixed()) as driver:
        (answer,) = driver.batch(run=run.id, wait=lambda _: None).run()
        assert str(answer) == "luna's"
        assert [step.cost_nanousd > 0 for step in getattr(answer, "steps", ())] == [True, True]
