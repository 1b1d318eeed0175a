"""`cascade audit outcome`: report whether an answer was right."""

from __future__ import annotations

import time
from contextlib import suppress

from cascade.cli.output import print_json, stdout
from cascade.core.errors import ConfigurationError
from cascade.engine.outcomes import read_outcome, report_to

__all__ = ["run_outcome"]

_WORDS = {"right": 1.0, "wrong": 0.0}


def run_outcome(request_id: str, right: str, note: str | None, ledger: str | None, *, as_json: bool) -> None:
    """Put an outcome on record. Raises as `cascade.report_outcome` does."""
    score = _WORDS.get(right)
    if score is None:
        with suppress(ValueError):
            score = float(right)
    if score is None:
        raise ConfigurationError(f"{right[:40]!r}: give right, wrong, or a number from 0 (wrong) to 1 (right)")
    known = report_to(read_outcome(request_id, score, note, at=time.time()), ledger)
    if as_json:
        print_json({"request_id": request_id, "right": score, "known": known})
        return
    stdout.print(f"{request_id}: recorded as {right if right in _WORDS else f'{score:g}'}")
    if not known:
        stdout.print("it is not among the audited requests of this ledger (yet), so no rate counts it")
