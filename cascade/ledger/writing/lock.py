"""The write lock, and what only its holder may touch: the connection, the chain so far, the entries taken for writing.

Its holder writes: the writer's thread, or a caller that waits for its entries while no other thread writes.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from itertools import islice

from cascade.ledger.hook import PendingEntries
from cascade.ledger.records import Batch
from cascade.ledger.stores import Store
from cascade.ledger.writing import process_hooks
from cascade.ledger.writing.encoder import Encoder

__all__ = ["WriteLock"]


class WriteLock:
    """One per writer. `holder`: the thread that holds it, set under the writer's own lock; the rest is for that thread alone."""

    __slots__ = ("_connect", "_log", "_store", "encoder", "holder", "name", "taken", "transaction")

    def __init__(self, name: str, connect: Callable[[], Store], log: Callable[..., None]) -> None:
        self._connect, self._log = connect, log
        self._store: Store | None = None
        self.name, self.encoder = name, Encoder(name, log)
        self.holder: int | None = None
        self.taken: deque[PendingEntries] = deque()
        self.transaction: tuple[Batch, list[PendingEntries]] | None = None
        """The next transaction, once encoded: its batch and the entries in it."""

    @property
    def is_held_here(self) -> bool:
        """Whether the calling thread holds it."""
        return self.holder == threading.get_ident()

    def encode_next(self, most: int) -> list[PendingEntries]:
        """Encode the next transaction from what was taken; returns the entries that cannot be written.

        An interruption (the thread may be the main one, and Ctrl-C can come anywhere) changes nothing.
        """
        batch, included, unwritable = self.encoder.encode(self.taken, most)
        rest = deque(islice(self.taken, len(included), None))
        self.taken, self.transaction = rest, (batch, included)
        for one in included:
            one.context.prompt = (None, None)  # it may be large, and the request may run for long
        return unwritable

    def write(self, batch: Batch) -> None:
        """Write a transaction; connects first if necessary. Raises whatever the driver raises."""
        if batch.entries:
            self.opened().write(batch)

    def opened(self) -> Store:
        """The store, connected."""
        if self._store is None:
            store = self._connect()
            store.open(self.name)
            self._store = store
        return self._store

    def disconnect(self) -> None:
        """Close the connection."""
        store, self._store = self._store, None
        if store is not None:
            with suppress(Exception):  # it may be broken already
                store.close()

    def abandon_in_child(self) -> None:
        """In a forked child: keep the parent's connection open, for closing it would end the parent's session."""
        if self._store is not None:
            process_hooks.keep_open(self._store)

    def restart(self, name: str) -> list[PendingEntries]:
        """Begin another chain; returns the entries that will not be written."""
        left = [*(self.transaction[1] if self.transaction else ()), *self.taken]
        self.taken, self.transaction, self.name = deque(), None, name
        self.encoder.begin(name)
        return left
