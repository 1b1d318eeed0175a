"""Events and warnings of this library. They never go to stdout, which belongs to the application.

If the application has configured structlog, events go there. Otherwise they go to the standard library's logger
"cascade", which by default writes warnings and errors to stderr. This library configures neither.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Literal
from weakref import WeakMethod

__all__ = ["EventObserver", "log_event", "observe_events", "warn_caller"]

EventObserver = Callable[[str, Mapping[str, Any]], None]
"""Gets an event's name and its details. Called on any thread; it must be fast, and must not log."""

_observers: list[WeakMethod[EventObserver]] = []


def observe_events(observer: EventObserver) -> None:
    """Call a bound method for each event from now on, for as long as its object lives; metrics count events so."""
    _observers[:] = [one for one in _observers if one() is not None]
    _observers.append(WeakMethod(observer))


def log_event(level: Literal["info", "warning", "error"], event: str, /, **details: Any) -> None:
    """Log an event. `details` must not hold a prompt, an answer or a key."""
    for one in tuple(_observers):
        observer = one()
        if observer is not None:
            observer(event, details)
    import structlog  # noqa: PLC0415 - slow to import, and rarely needed

    if structlog.is_configured():
        getattr(structlog.get_logger("cascade"), level)(event, **details)
        return
    text = " ".join((event, *(f"{name}={value!r}" for name, value in details.items())))
    getattr(logging.getLogger("cascade"), level)("%s", text)


def warn_caller(message: str, category: type[Warning]) -> None:
    """Issue a warning that names the line which called into this library, however deep the call is."""
    level = 1
    frame = sys._getframe(0)  # pyright: ignore[reportPrivateUsage] - as `warnings` itself does
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "cascade":
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
