"""The pen: what only one thread may touch at a time. The connection, the chain as it grows, what was taken to be written.

Whoever holds it writes: the writer's thread, or a caller who waits for a row and finds nobody writing.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from itertools import islice

from cascade.ledger.hook import HandOver
from cascade.ledger.records import Batch
from cascade.ledger.stores import Store
from cascade.ledger.writing import process_hooks as exits
from cascade.ledger.writing.encoder import Composer

__all__ = ["WriteLock"]


class WriteLock:
    """One a writer. `holder`: the thread that has it, set under the writer's lock; all else is that thread's alone."""

    __slots__ = ("_connect", "_store", "_tell", "composer", "holder", "name", "stuck", "taken")

    def __init__(self, name: str, connect: Callable[[], Store], tell: Callable[..., None]) -> None:
        self._connect, self._tell = connect, tell
        self._store: Store | None = None
        self.name, self.composer = name, Composer(name, tell)
        self.holder: int | None = None
        self.taken: deque[HandOver] = deque()
        self.stuck: tuple[Batch, list[HandOver]] | None = None
        """What is to be written next, once it was composed."""

    @property
    def mine(self) -> bool:
        """Whether the thread that asks holds it."""
        return self.holder == threading.get_ident()

    def compose(self, most: int) -> list[HandOver]:
        """Make what was taken the next transaction, as far as it goes; returns what cannot be written.

        Whatever interrupts it (a caller's thread may be the main one, and Ctrl-C comes anywhere) leaves all as it was.
        """
        batch, told, unwritable = self.composer.compose(self.taken, most)
        rest = deque(islice(self.taken, len(told), None))
        self.taken, self.stuck = rest, (batch, told)
        for one in told:
            one.asked.prompt = (None, None)  # it may be large, and the request may take its time
        return unwritable

    def write(self, batch: Batch) -> None:
        """Write a transaction, connected first where that is needed. Raises whatever a driver raises."""
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
        """Put the connection down."""
        store, self._store = self._store, None
        if store is not None:
            with suppress(Exception):  # it may be broken, which is why it is closed
                store.close()

    def leave_behind(self) -> None:
        """In a child: the connection is the parent's, whose threads did not get to close it."""
        if self._store is not None:
            exits.inherit(self._store)

    def begin_anew(self, name: str) -> list[HandOver]:
        """Begin another chain; returns what was not written and will not be."""
        left = [*(self.stuck[1] if self.stuck else ()), *self.taken]
        self.taken, self.stuck, self.name = deque(), None, name
        self.composer.begin(name)
        return left
