"""Delivering notices off the caller's thread: a bounded queue, one daemon worker while there is anything in it.

Each delivery has its time-out as a whole, whatever it hangs on (a name that is not resolved, a server that drips): past
it the worker goes on, and its target is passed over until what hangs has come back.
"""

from __future__ import annotations

import atexit
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakSet

from cascade.forks import renew_in_children
from cascade.policy.budgets import import_function, is_address

__all__ = ["Deliveries", "Target", "target_of"]

_MOST_WAITING = 256
_AT_EXIT_S = 10.0


class _Undelivered(Exception):
    """Why; nothing in it that an address may hold."""


@dataclass(eq=False, slots=True)
class Target:
    """Who is told. `name` may be logged: a host, or `module:function`. `hanging`: a delivery that has not come back."""

    name: str
    send: Callable[[Any], object]
    is_post: bool
    timeout_s: float
    hanging: threading.Thread | None = field(default=None, repr=False)


def target_of(target: str, timeout_s: float) -> Target:
    """An entry of `notify`, bound; LookupError where its function is not there."""
    if not is_address(target):
        return Target(target, import_function(target), is_post=False, timeout_s=timeout_s)
    host = urlsplit(target).hostname or ""
    return Target(host, lambda body: _post(target, body, timeout_s), is_post=True, timeout_s=timeout_s)


def _post(address: str, body: bytes, timeout_s: float) -> None:
    """Post JSON; no redirect is followed (it might lead anywhere), and nothing of the response's body is read."""
    # The standard library's client: unlike httpx2 it logs no address.
    from urllib.error import HTTPError  # noqa: PLC0415 - rarely needed, and not free to import
    from urllib.request import HTTPRedirectHandler, Request, build_opener  # noqa: PLC0415

    class Stay(HTTPRedirectHandler):
        def redirect_request(self, *_: object, **__: object) -> None:
            return None

    headers = {"content-type": "application/json", "user-agent": "cascade"}
    request = Request(address, data=body, headers=headers, method="POST")  # noqa: S310 - the policy allows http(s) alone
    try:
        build_opener(Stay).open(request, timeout=timeout_s).close()
    except HTTPError as answer:
        answer.close()
        why = " (a redirect, which is not followed)" if 300 <= answer.code < 400 else ""
        raise _Undelivered(f"HTTP {answer.code}{why}") from None


class Deliveries:
    """Notices on their way. `tell(event, **details)` logs; safe between threads and after a fork."""

    def __init__(self, tell: Callable[..., None]) -> None:
        self._tell = tell
        self.dropped = 0
        self.renew_lock()
        renew_in_children(self)

    def renew_lock(self) -> None:
        """For `forks`: what waits is the parent's to deliver."""
        self._changed = threading.Condition()
        self._waiting: deque[tuple[Target, Any]] = deque()
        self._worker: threading.Thread | None = None

    def put(self, target: Target, notice: Any) -> None:
        """Deliver this soon; drop it, and say so, where too much waits already."""
        dropped = 0
        with self._changed:
            if len(self._waiting) < _MOST_WAITING and self._has_worker():
                self._waiting.append((target, notice))
            else:
                self.dropped += 1
                dropped = self.dropped
        if dropped and dropped & (dropped - 1) == 0:  # the 1st, 2nd, 4th …: loud, and no flood
            self._tell("notices_dropped", target=target.name, dropped=dropped)
        _alive.add(self)

    def drain(self, timeout_s: float) -> bool:
        """Wait until nothing waits any more; whether that came about in time."""
        with self._changed:
            return self._changed.wait_for(lambda: self._worker is None, timeout_s)

    def _has_worker(self) -> bool:
        if self._worker is None:
            worker = threading.Thread(target=self._work, name="cascade-notices", daemon=True)
            self._worker = worker if _started(worker) else None
        return self._worker is not None

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._waiting:
                    self._worker = None
                    self._changed.notify_all()
                    return
                target, notice = self._waiting.popleft()
            why = self._deliver(target, notice)
            if why:
                self._tell("notice_failed", target=target.name, problem=why)

    def _deliver(self, target: Target, notice: Any) -> str | None:
        """Why it could not be delivered; None where it was."""
        if target.hanging is not None and target.hanging.is_alive():
            return "the delivery before this one has not come back"
        problems: list[str] = []

        def send() -> None:
            try:
                target.send(notice)
            except TimeoutError:
                problems.append(late)
            except _Undelivered as problem:
                problems.append(str(problem))
            except Exception as problem:  # noqa: BLE001 - a function of the user's, or any fault of a network
                cause = getattr(problem, "reason", None)
                late_cause = target.is_post and isinstance(cause, TimeoutError)
                known = cause if target.is_post and isinstance(cause, Exception) else problem
                problems.append(late if late_cause else type(known).__name__)

        late = f"it took longer than {target.timeout_s:g} s"
        helper = threading.Thread(target=send, name="cascade-notice", daemon=True)
        if not _started(helper):  # the interpreter is about to end
            send()
            return problems[0] if problems else None
        helper.join(target.timeout_s)
        target.hanging = helper if helper.is_alive() else None
        if target.hanging is not None:
            return late
        return problems[0] if problems else None


def _started(thread: threading.Thread) -> bool:
    try:
        thread.start()
    except RuntimeError:  # no thread can be had: too many, or the interpreter is about to end
        return False
    return True


_alive: WeakSet[Deliveries] = WeakSet()


def _drain_all() -> None:
    """A short-lived process still delivers what it has to tell, within bounds."""
    until = time.monotonic() + _AT_EXIT_S
    for one in list(_alive):
        one.drain(max(0.0, until - time.monotonic()))


atexit.register(_drain_all)
