"""Who answers the requests that run: the ladder, the response cache, or what the policy's mode, rollout or bypass says. A hook."""

from __future__ import annotations

from typing import Literal

from cascade.core.arms import Arm
from cascade.hooks import Begun

__all__ = ["Arms"]


class Arms:
    """Notes the arm of each request that was announced by `expect`, once it has begun. Used on one event loop."""

    def __init__(self) -> None:
        self._running: dict[str, Begun | None] = {}

    def expect(self, request_id: str) -> None:
        """A request will begin."""
        self._running[request_id] = None

    def of(self, request_id: str) -> Arm | None:
        """The arm of a request; None while it has not begun."""
        begun = self._running.get(request_id)
        return None if begun is None else begun.arm

    def cache_of(self, request_id: str) -> Literal["hit", "miss"] | None:
        """Whether the response cache has its answer; None where it is not used, and while the request has not begun."""
        begun = self._running.get(request_id)
        return None if begun is None else begun.cache

    def forget(self, request_id: str) -> None:
        """A request has ended."""
        self._running.pop(request_id, None)

    def begin(self, begun: Begun) -> None:
        """As `Hook.begin`: nothing more is to be told of it."""
        if begun.observed_as is None and begun.request.id in self._running:
            self._running[begun.request.id] = begun
