"""Which endpoints have answered, how an endpoint is named, and what of the environment it is sent."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

from cascade.core.errors import ConfigurationError, MissingKey
from cascade.core.messages import Failure

__all__ = ["ReachedEndpoints", "address_of", "key_of", "naming_rung", "only_key"]

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


@contextmanager
def naming_rung(rung: str, variable: str) -> Generator[None]:
    """Make the rung's client within. Raises ConfigurationError for an address that is no URL, which may hold a secret."""
    import httpx2  # noqa: PLC0415 - it takes a second to import

    try:
        yield
    except httpx2.InvalidURL as problem:
        raise ConfigurationError(
            f"rung {rung}: the address of its endpoint is not valid (correct its base_url, or {variable}: host, port, path)"
        ) from problem


def key_of(rung: str, variable: str) -> str | None:
    """The key in an environment variable, without the spaces and line breaks around it; None if it is not set or empty.

    Raises MissingKey if no header can hold it: the error of the transport would quote it.
    """
    key = os.environ.get(variable, "").strip()
    if not all(" " <= character <= "~" for character in key):
        raise MissingKey(
            f"rung {rung}: the environment variable {variable} holds a line break or a character that is not ASCII,"
            " which no key has (set it again)"
        )
    return key or None


def only_key(key: str, variable: str, omit: Any) -> dict[str, Any]:
    """The default headers of a client whose endpoint is not its vendor's own: the key and nothing else of the environment.

    `variable` holds the headers that the SDK adds to every call, a line each; they may be secret. `omit` is what the SDK leaves
    a header out for.
    """
    lines = os.environ.get(variable, "").split("\n")
    names = [line.partition(":")[0].strip() for line in lines if ":" in line]
    headers: dict[str, Any] = {name: omit for name in names if name.lower() != "authorization"}
    return {**headers, "Authorization": f"Bearer {key}"}
