"""Where the pages get their figures from: a ledger, as `figures` reads it. Every call may take a while, so `app` makes it in a thread."""

from __future__ import annotations

from typing import Protocol

from cascade.costs import Period
from cascade.dashboard.values import ModelView, Overview, RequestRow

__all__ = ["Source"]


class Source(Protocol):
    """A ledger's figures. Safe between threads. Each raises LedgerError if the ledger cannot be read."""

    @property
    def where(self) -> str:
        """The ledger's address, without a password."""
        ...

    def overview(self, period: Period, policy: str) -> Overview:
        """The figures of a period, of one policy or ("") of all."""
        ...

    def model(self, name: str, period: Period, policy: str) -> ModelView | None:
        """One model's figures; None if the period has no step of it."""
        ...

    def request(self, request: str) -> RequestRow | None:
        """One request by its id; None if the ledger does not have it."""
        ...

    def version(self) -> str:
        """A text that changes when the ledger has grown. Cheap: it is asked every few seconds while somebody watches."""
        ...
