"""Connections that a process's threads share, for what opens one for a moment: readers and small tables. The writer has its own.

A pool (psycopg_pool's) per address begins with the first borrower, holds at most `MOST` connections, and closes those nobody has used for a
minute. Nobody waits longer for one than its session's seconds, or for an answer than the connection's patience. A failed attempt to connect
is told at once to all who wait: the pool itself would only try again until they give up.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections import deque
from contextlib import suppress
from typing import Any

from cascade.forks import renew_in_children

__all__ = ["MOST", "Pool", "pool_at"]

MOST = 8
"""Connections per process and address."""

_ADDRESSES = 4  # pools per process
_IDLE_S = 60.0
_SLICE_S = 0.05  # between looks whether connecting has failed
_CHECK_S = 1.0  # how long a connection may take to prove that it is alive

logging.getLogger("psycopg.pool").addHandler(logging.NullHandler())  # its warnings are told as errors here


class Pool:
    """One address's connections. `connect_with`: what is given to `connection_class.connect`."""

    __slots__ = ("_failed", "_left", "_pool")

    def __init__(self, connection_class: Any, connect_with: dict[str, Any]) -> None:
        from psycopg import Error  # noqa: PLC0415 - an extra
        from psycopg_pool import ConnectionPool  # noqa: PLC0415 - an extra

        pool = self
        self._left: deque[Any] = deque()  # connections whose borrower was forgotten
        self._failed: tuple[float, BaseException] | None = None

        class Noted(connection_class):
            """Notes why it cannot connect."""

            @classmethod
            def connect(cls, *args: Any, **values: Any) -> Any:
                """As the class does."""
                try:
                    parent: Any = super()
                    connection = parent.connect(*args, **values)
                except (Error, OSError, ValueError) as problem:
                    pool._failed = (time.monotonic(), problem)
                    raise
                connection.lender = pool
                return connection

        self._pool: Any = ConnectionPool(
            connection_class=Noted, kwargs=connect_with, min_size=0, max_size=MOST, max_idle=_IDLE_S,
            reconnect_timeout=0.0, num_workers=2, check=_check, open=True, name="cascade-ledger",
        )  # fmt: skip

    def borrow(self, seconds: float) -> Any:
        """A connection, within so many seconds. Raises what connecting raised, or psycopg_pool.PoolTimeout."""
        from psycopg_pool import PoolTimeout  # noqa: PLC0415 - an extra

        began = time.monotonic()
        while self._left:
            with suppress(IndexError):  # another thread was quicker
                self.give_back(self._left.popleft())
        while True:
            left = began + seconds - time.monotonic()
            try:
                return self._pool.getconn(timeout=max(0.001, min(_SLICE_S, left)))
            except PoolTimeout:
                failed = self._failed
                if failed is not None and failed[0] >= began:
                    raise failed[1].with_traceback(None) from None
                if left <= _SLICE_S:
                    raise

    def give_back(self, connection: Any) -> None:
        """The transaction is over. A connection that broke is forgotten."""
        self._pool.putconn(connection)

    def leave(self, connection: Any) -> None:
        """As `give_back`, by whoever is deleted: that may be at any moment, also while the pool is at work, so its locks are not touched."""
        self._left.append(connection)

    def close(self, seconds: float) -> None:
        """Close all that nobody uses, and the others when they come back; waits so long for the pool's threads."""
        self._pool.close(timeout=seconds)


def _check(connection: Any) -> None:
    from psycopg_pool import ConnectionPool  # noqa: PLC0415 - an extra

    connection.patience = _CHECK_S
    ConnectionPool.check_connection(connection)


class _Pools:
    """The process's pools. A child that was forked has none: the connections are its parent's."""

    def __init__(self) -> None:
        self.by_address: dict[str, Pool] = {}
        self._of_parents: list[Pool] = []  # kept, because to forget them would close them
        self.lock = threading.Lock()
        renew_in_children(self)

    def renew_lock(self) -> None:
        """Called by `forks` in a child process."""
        self.lock = threading.Lock()
        self._of_parents += self.by_address.values()
        self.by_address = {}

    def close(self) -> None:
        """At exit."""
        with self.lock:
            found, self.by_address = list(self.by_address.values()), {}
        for pool in found:
            pool.close(1.0)


_pools = _Pools()
atexit.register(_pools.close)


def pool_at(url: str, connection_class: Any, connect_with: dict[str, Any]) -> Pool:
    """The process's pool for this address."""
    with _pools.lock:
        pool = _pools.by_address.get(url)
        if pool is None:
            if len(_pools.by_address) >= _ADDRESSES:
                _pools.by_address.pop(next(iter(_pools.by_address))).close(0.0)
            pool = _pools.by_address[url] = Pool(connection_class, connect_with)
        return pool
