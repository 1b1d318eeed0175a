"""Errors come from other processes as they were raised there."""

from __future__ import annotations

import copy
import pickle

import pytest

from cascade.cluster import TaskFailed
from cascade.core import errors
from cascade.core.errors import CascadeError
from cascade.core.messages import Failure

_MADE = (
    errors.ConfigurationError("no"),
    errors.PolicyError("is wrong", where="p.yaml:3:4", key="ladder[1]", hint="mend it"),
    errors.CorpusError("is damaged", where="c.jsonl:3", item="i-3", hint="mend it"),
    errors.UsageExportError("is damaged", where="u.csv:3", hint="mend it"),
    errors.LedgerError("no"),
    errors.RequestError("no"),
    errors.MissingKey("no"),
    errors.MissingExtra("a cluster", "dask"),
    errors.BatchError("making one", Failure("rejected", "no", status=400), maybe_made=True),
    errors.PlanError("no plan", faults=("one", "two"), cost_nanousd=7, given=True),
    errors.RequirementNotMet("no"),
    errors.UpstreamRejected("no", status=403, request_id="r-1"),
    errors.DeadlineExceeded("late"),
    errors.BudgetExceeded("no", refused="day"),
    errors.AllRungsFailed("no"),
    errors.StreamBroken("no"),
    errors.BatchCanceled("no"),
    TaskFailed("no"),
)


def _kinds(kind: type[CascadeError]) -> set[type[CascadeError]]:
    return {kind}.union(*map(_kinds, kind.__subclasses__()))


@pytest.mark.parametrize("error", _MADE, ids=lambda error: type(error).__name__)
def test_an_error_is_the_same_after_pickling(error: CascadeError) -> None:
    """Its kind, message, exit code and all that it carries."""
    for same in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(same) is type(error)
        assert (str(same), same.args, same.exit_code) == (str(error), error.args, error.exit_code)
        assert vars(same) == vars(error)


def test_every_error_was_tried() -> None:
    """But for the two that are only raised as one of their kinds."""
    ours = {
        kind for kind in _kinds(CascadeError) if kind.__module__ in ("cascade.core.errors", "cascade.cluster.tasks")
    }
    assert ours - {type(error) for error in _MADE} == {CascadeError, errors.ClimbError}
