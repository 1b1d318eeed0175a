"""What a request waits for with `durability: commit`: lazy, so that one who can wait writes by himself.

Waking a thread and being woken by it takes longer than a write on a good disk. So nothing is woken when a row is handed
over: who then asks for the `result` leads (he writes all that waits, if nobody is writing), who wants to be called back (an
event loop, which must not wait for a disk) has the writer's thread urged. Who does neither is served after the linger.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any, Protocol

from cascade.ledger.hook import HandOver

__all__ = ["CommitFuture", "let_go"]


class _Leads(Protocol):
    def lead(self, wait: Future[Any]) -> None: ...

    def urge(self) -> None: ...


class CommitFuture(Future[Any]):
    """Done when its rows are durable, or cannot be made so for now."""

    def __init__(self, writer: _Leads) -> None:
        super().__init__()
        self._writer = writer
        self.set_running_or_notify_cancel()  # nobody may cancel what is being written

    def result(self, timeout: float | None = None) -> Any:
        """Wait for it, and write meanwhile if nobody does."""
        if not self.done():
            self._writer.lead(self)
        return super().result(timeout)

    def add_done_callback(self, fn: Callable[[Future[Any]], object]) -> None:
        """Be called back; the writer's thread is urged."""
        super().add_done_callback(fn)
        if not self.done():
            self._writer.urge()


def let_go(hand_overs: Iterable[HandOver]) -> None:
    """Whoever waits for these goes on."""
    for one in hand_overs:
        wait, one.wait = one.wait, None
        if wait is not None and not wait.done():
            wait.set_result(None)
