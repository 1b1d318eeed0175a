"""Sends notices off the caller's thread: a bounded queue, and one daemon worker while it is not empty.

A time-out bounds each delivery as a whole, whatever it waits for (name resolution, a slow server). After it the worker
goes on with the queue, and skips this target until the late delivery has returned.
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

_MAX_QUEUED = 256
_AT_EXIT_S = 10.0


class _Undelivered(Exception):
    """Why a notice was not delivered. Its text holds no part of the address."""


@dataclass(eq=False, slots=True)
class Target:
    """An entry of `notify`. `name` may be logged: a host, or `module:function`. `hanging`: a delivery past its time-out."""

    name: str
    send: Callable[[Any], object]
    is_post: bool
    timeout_s: float
    hanging: threading.Thread | None = field(default=None, repr=False)


def target_of(target: str, timeout_s: float) -> Target:
    """The target for an entry of `notify`. Raises LookupError if its function does not exist."""
    if not is_address(target):
        return Target(target, import_function(target), is_post=False, timeout_s=timeout_s)
    host = urlsplit(target).hostname or ""
    return Target(host, lambda body: _post(target, body, timeout_s), is_post=True, timeout_s=timeout_s)


def _post(address: str, body: bytes, timeout_s: float) -> None:
    """Post JSON. Redirects are not followed, for they might lead anywhere, and the response's body is not read."""
    # The standard library's client does not log addresses.
    from urllib.error import HTTPError  # noqa: PLC0415 - rarely needed, and not free to import
    from urllib.request import HTTPRedirectHandler, Request, build_opener  # noqa: PLC0415

    class NoRedirects(HTTPRedirectHandler):
        def redirect_request(self, *_: object, **__: object) -> None:
            return None

    headers = {"content-type": "application/json", "user-agent": "cascade"}
    request = Request(address, data=body, headers=headers, method="POST")  # noqa: S310 - the policy allows http(s) alone
    try:
        build_opener(NoRedirects).open(request, timeout=timeout_s).close()
    except HTTPError as answer:
        answer.close()
        why = " (a redirect, which is not followed)" if 300 <= answer.code < 400 else ""
        raise _Undelivered(f"HTTP {answer.code}{why}") from None


class Deliveries:
    """The queue. `log(event, **details)` reports failures. Safe between threads and after a fork."""

    def __init__(self, log: Callable[..., None]) -> None:
        self._log = log
        self.dropped = 0
        self.renew_lock()
        renew_in_children(self)

    def renew_lock(self) -> None:
        """For `forks`: the parent delivers what it has queued."""
        self._changed = threading.Condition()
        self._queue: deque[tuple[Target, Any]] = deque()
        self._worker: threading.Thread | None = None

    def put(self, target: Target, notice: Any) -> None:
        """Queue a notice. If the queue is full it is dropped, and that is logged."""
        dropped = 0
        with self._changed:
            if len(self._queue) < _MAX_QUEUED and self._has_worker():
                self._queue.append((target, notice))
            else:
                self.dropped += 1
                dropped = self.dropped
        if dropped and dropped & (dropped - 1) == 0:  # the 1st, 2nd, 4th …
            self._log("notices_dropped", target=target.name, dropped=dropped)
        _alive.add(self)

    def drain(self, timeout_s: float) -> bool:
        """Wait until the queue is empty; returns whether it is."""
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
                if not self._queue:
                    self._worker = None
                    self._changed.notify_all()
                    return
                target, notice = self._queue.popleft()
            why = self._deliver(target, notice)
            if why:
                self._log("notice_failed", target=target.name, problem=why)

    def _deliver(self, target: Target, notice: Any) -> str | None:
        """Why it could not be delivered; None if it was."""
        if target.hanging is not None and target.hanging.is_alive():
            return "an earlier delivery to this target has not returned"
        problems: list[str] = []

        def send() -> None:
            try:
                target.send(notice)
            except TimeoutError:
                problems.append(late)
            except _Undelivered as problem:
                problems.append(str(problem))
            except Exception as problem:  # noqa: BLE001 - a user's function, or any network failure
                cause = getattr(problem, "reason", None)
                known = cause if target.is_post and isinstance(cause, Exception) else problem
                problems.append(late if isinstance(known, TimeoutError) else type(known).__name__)

        late = f"it took longer than {target.timeout_s:g} s"
        delivery = threading.Thread(target=send, name="cascade-notice", daemon=True)
        if not _started(delivery):  # the interpreter is about to end
            send()
            return problems[0] if problems else None
        delivery.join(target.timeout_s)
        target.hanging = delivery if delivery.is_alive() else None
        if target.hanging is not None:
            return late
        return problems[0] if problems else None


def _started(thread: threading.Thread) -> bool:
    try:
        thread.start()
    except RuntimeError:  # too many threads, or the interpreter is about to end
        return False
    return True


_alive: WeakSet[Deliveries] = WeakSet()


def _drain_all() -> None:
    """At exit: deliver what is queued, for a bounded time."""
    until = time.monotonic() + _AT_EXIT_S
    for one in list(_alive):
        one.drain(max(0.0, until - time.monotonic()))


atexit.register(_drain_all)
