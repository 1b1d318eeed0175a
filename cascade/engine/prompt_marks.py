"""When the beginnings of prompts were sent before, and the marks for the API's prompt cache that follow from it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from cascade.core.messages import Request
from cascade.core.prompt_caching import Breakpoint, Ttl, ttl_for, with_breakpoints
from cascade.core.triage import Prompt
from cascade.forks import renew_in_children

__all__ = ["PromptIntervals", "PromptMarks"]

_MOST: Final = 10_000
_TIMES: Final = 8  # seven intervals: the newest decide


class PromptIntervals:
    """When beginnings were sent, by their hash: at most `most` of them, the longest unseen are forgotten. Safe between threads and in forks.

    `clock`: seconds from any origin. Nothing of a prompt is kept.
    """

    def __init__(self, clock: Callable[[], float], most: int = _MOST) -> None:
        self._clock, self._most = clock, most
        self._times: OrderedDict[bytes, tuple[float, ...]] = OrderedDict()
        self.renew_lock()
        renew_in_children(self)

    def renew_lock(self) -> None:
        """For `forks`."""
        self._lock = threading.Lock()

    def observe(self, seen: Breakpoint) -> Ttl | None:
        """Note that this beginning is sent now; how long it should be kept."""
        with self._lock:
            now = self._clock()
            known = self._times.pop(seen.key, None)
            if known is None:  # the next turn of a conversation goes on with the times of those before
                known = () if seen.continues is None else self._times.pop(seen.continues, ())
            times = (*known[1 - _TIMES :], now)
            self._times[seen.key] = times
            while len(self._times) > self._most:
                self._times.popitem(last=False)
        return ttl_for(times)


class PromptMarks:
    """The marks of one request's prompts. Each beginning is observed once, however often the request sends it."""

    __slots__ = ("_intervals", "_ttls")

    def __init__(self, intervals: PromptIntervals | None) -> None:
        self._intervals = intervals
        self._ttls: dict[bytes, Ttl | None] = {}

    def mark(self, prompt: Prompt, request: Request) -> Prompt:
        """The prompt with its marks; as it is without `prompt_cache: auto`. `request`: as the rung is asked."""
        return prompt if self._intervals is None else with_breakpoints(prompt, request, self._ttl_of)

    def _ttl_of(self, seen: Breakpoint) -> Ttl | None:
        assert self._intervals is not None, "without intervals nothing is marked"
        if seen.key not in self._ttls:
            self._ttls[seen.key] = self._intervals.observe(seen)
        return self._ttls[seen.key]
