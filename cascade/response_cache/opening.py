"""Opens the response cache that an address names."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from cascade.core.errors import ConfigurationError
from cascade.core.policy import Policy
from cascade.home import home
from cascade.response_cache.cache import AnswerCache
from cascade.response_cache.stores import AnswerStore, StoreDown

__all__ = ["check_cache", "erase_answers", "open_cache"]

_FILE = "response_cache.sqlite3"
_REDIS = ("redis", "rediss", "unix")
_ANY = 1


def open_cache(
    address: str | None, policy: Policy, *, clock: Callable[[], float], wall: Callable[[], float]
) -> AnswerCache | None:
    """The response cache of a policy; None if it has none. Nothing is opened before its first use.

    `address`: a path, or redis://, rediss://, unix://; None: `CASCADE_CACHE`, else a file under `CASCADE_HOME`. Raises
    ConfigurationError for any other address, MissingExtra if redis-py is not installed.
    """
    if policy.cache is None:
        return None
    return AnswerCache(_store(address, policy.cache.max_entries), policy.name, clock=clock, wall=wall)


def check_cache(address: str | None) -> tuple[str, str | None]:
    """The address without secrets, and why it cannot be used (None: it can). A file that is not there yet is made. Raises as `open_cache` does."""
    store = _store(address, _ANY)
    try:
        store.ping()
    except StoreDown as problem:
        return store.where, str(problem)
    finally:
        store.close()
    return store.where, None


def erase_answers(address: str | None, requests: Sequence[str]) -> tuple[str, int | None]:
    """Remove the answers that were made for these requests: where, and how many; None if the store cannot be used.

    A file that is not there is not made. Raises as `open_cache` does.
    """
    path = _path(_resolved(address))
    if path is not None and not path.exists():
        return str(path), 0
    store = _store(address, _ANY)
    try:
        return store.where, store.erase(requests)
    except StoreDown:
        return store.where, None
    finally:
        store.close()


def _resolved(address: str | None) -> str:
    return address if address is not None else os.environ.get("CASCADE_CACHE") or str(home() / _FILE)


def _path(named: str) -> Path | None:
    """The file that is named; None for a server."""
    return None if "://" in named else Path(named).expanduser()


def _store(address: str | None, most: int) -> AnswerStore:
    named = _resolved(address)
    path = _path(named)
    if path is not None:
        from cascade.response_cache.sqlite_store import SqliteAnswers  # noqa: PLC0415 - loads sqlite3

        return SqliteAnswers(path, most)
    scheme = named.partition("://")[0]
    if scheme in _REDIS:
        from cascade.response_cache.redis_store import RedisAnswers  # noqa: PLC0415 - an extra

        return RedisAnswers(named)
    where = "CASCADE_CACHE" if address is None else "cache"
    raise ConfigurationError(
        f"{where}: {scheme}://… is not a response cache (use a path, redis://host:6379/0, rediss://… or unix:///path)"
    )
