"""The future that a request waits for with `durability: commit`. It is lazy: a blocking caller performs the write itself.

Waking a thread and being woken by it takes longer than a write to a good disk, so a new entry wakes nobody. A caller of `result`
writes everything that waits, unless another thread is writing. A caller of `add_done_callback` (an event loop, which must not block on a
disk) makes the writer's thread write. Otherwise the thread writes after the linger time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any, Protocol

from cascade.ledger.hook import PendingEntries

__all__ = ["CommitFuture", "release_waiters"]


class _Writes(Protocol):
    def write_until(self, wait: Future[Any]) -> None: ...

    def write_soon(self) -> None: ...


class CommitFuture(Future[Any]):
    """Done when its entries are durable, or the ledger is down."""

    def __init__(self, writer: _Writes) -> None:
        super().__init__()
        self._writer = writer
        self.set_running_or_notify_cancel()  # a write in progress cannot be cancelled

    def result(self, timeout: float | None = None) -> Any:
        """Wait, and write on this thread if no other does."""
        if not self.done():
            self._writer.write_until(self)
        return super().result(timeout)

    def add_done_callback(self, fn: Callable[[Future[Any]], object]) -> None:
        """Call back when done; the writer's thread starts writing."""
        super().add_done_callback(fn)
        if not self.done():
            self._writer.write_soon()


def release_waiters(entries: Iterable[PendingEntries]) -> None:
    """Complete the futures of these entries."""
    for one in entries:
        wait, one.wait = one.wait, None
        if wait is not None and not wait.done():
            wait.set_result(None)
