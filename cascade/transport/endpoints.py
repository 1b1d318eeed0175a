"""Which endpoints have answered, and how an endpoint is named."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

from cascade.core.messages import Failure

__all__ = ["ReachedEndpoints", "address_of"]

_Attempt = TypeVar("_Attempt")


class ReachedEndpoints:
    """The endpoints that have answered a driver. One of them may be restarting; any other is retried only briefly."""

    def __init__(self) -> None:
        self._answered: set[str] = set()

    def classify(self, client: Any, outcome: _Attempt) -> _Attempt | Failure:
        """The outcome; if no connection could be made, with the endpoint's address and the kind by whether it ever answered."""
        address = address_of(client)
        if not isinstance(outcome, Failure) or outcome.status is not None:
            self._answered.add(address)
        elif outcome.kind == "unreachable":
            kind = "connection" if address in self._answered else "unreachable"
            return replace(outcome, kind=kind, where=f"{address}: {outcome.message}")
        return outcome


def address_of(client: Any) -> str:
    """A client's base URL without credentials and query, which may be secret."""
    url = client.base_url
    return f"{url.scheme}://{url.netloc.decode()}{url.path}".rstrip("/")
