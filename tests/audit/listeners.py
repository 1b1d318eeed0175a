"""Functions that policies of the tests name under `audit.notify`."""

from __future__ import annotations

import threading

from cascade.audit.alarms import AuditNotice

__all__ = ["HEARD", "LET_GO", "hang", "take"]

HEARD: list[AuditNotice] = []
LET_GO = threading.Event()


def take(notice: AuditNotice) -> None:
    """Remember the notice."""
    HEARD.append(notice)


def hang(_: AuditNotice) -> None:
    """Do not come back until the test ends."""
    LET_GO.wait(60)
