"""Where this library's events and warnings go: never to stdout, which is the application's.

An application that has configured structlog gets the events there, as it configured it. For every other they go to the
standard library's logger "cascade", which writes warnings and errors to stderr where nobody configured logging either.
Neither is ever configured here.
"""

from __future__ import annotations

import logging
import sys
import warnings
from typing import Any, Literal

__all__ = ["log_event", "warn_caller"]


def log_event(level: Literal["info", "warning", "error"], event: str, /, **details: Any) -> None:
    """Log an event. `details` hold no prompt, answer or key."""
    import structlog  # noqa: PLC0415 - rarely needed, and not free to import

    if structlog.is_configured():
        getattr(structlog.get_logger("cascade"), level)(event, **details)
        return
    text = " ".join((event, *(f"{name}={value!r}" for name, value in details.items())))
    getattr(logging.getLogger("cascade"), level)("%s", text)


def warn_caller(message: str, category: type[Warning]) -> None:
    """Warn of the line that called into this library, however deep inside it this is found."""
    level = 1
    frame = sys._getframe(0)  # pyright: ignore[reportPrivateUsage] - `warnings` has no other way either
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "cascade":
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
