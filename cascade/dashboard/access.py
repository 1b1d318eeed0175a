"""Who may see the pages, and who may switch a mode: sessions that begin with a key, held by the server, named by a cookie."""

from __future__ import annotations

import hmac
import json
import secrets
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

__all__ = ["Attempts", "KeyHolder", "Memory", "Session", "Sessions", "Viewer"]

SESSION_S: Final = 12 * 3600.0
"""A session ends after a working day, whatever happens in it."""

_MINUTE_S: Final = 60.0
_MOST_ATTEMPTS: Final = 10
_MOST_PLACES: Final = 4_096


@dataclass(frozen=True, slots=True)
class KeyHolder:
    """Whose key it is. `policy`: the only one that the key may see, as it climbs by no other ("": it may see all)."""

    id: str
    name: str
    policy: str = ""


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who looks at a page. `policy`: the only one that they see ("": all). `csrf`: what their forms carry; "" without a session."""

    name: str = ""
    policy: str = ""
    csrf: str = ""

    @property
    def may_switch(self) -> bool:
        """Whether they may switch modes: after a login, with a key that is not bound to one policy."""
        return bool(self.csrf) and not self.policy

    def sent(self, token: str) -> bool:
        """Whether a form is one of theirs."""
        return bool(self.csrf) and hmac.compare_digest(self.csrf.encode(), token.encode("utf-8", "replace"))


class Memory(Protocol):
    """Where sessions are held: `cascade.state.State` is one, shared by all workers where it is Redis. Keys are kept as digests."""

    def remember(self, keys: Sequence[str], value: str, ttl_s: float) -> None:
        """Keep a value for `ttl_s` seconds."""
        ...

    def recall(self, keys: Sequence[str]) -> str | None:
        """The value of the first known key."""
        ...


@dataclass(frozen=True, slots=True)
class Session:
    """A session that has begun: what its cookie holds."""

    token: str


class Sessions:
    """The sessions of one gateway. `holder`: of a key that is in force, by its id; None: it is unknown, or revoked by now.

    Its methods may take a round trip.
    """

    def __init__(self, memory: Memory, holder: Callable[[str], KeyHolder | None]) -> None:
        self._memory, self._holder = memory, holder

    def begin(self, holder: KeyHolder) -> Session:
        """A new session, with 256 random bits for a name."""
        token = secrets.token_urlsafe(32)
        value = json.dumps({"key": holder.id, "csrf": secrets.token_urlsafe(32)})
        self._memory.remember([_name(token)], value, SESSION_S)
        return Session(token)

    def find(self, token: str) -> Viewer | None:
        """Whose session it is. None: there is none, it has ended, or its key was revoked."""
        value = self._memory.recall([_name(token)]) if token else None
        if not value:
            return None
        kept = json.loads(value)
        holder = self._holder(kept["key"])
        return None if holder is None else Viewer(holder.name, holder.policy, kept["csrf"])

    def end(self, token: str) -> None:
        """Forget a session."""
        self._memory.remember([_name(token)], "", SESSION_S)


def _name(token: str) -> str:
    return f"dashboard session {token}"


class Attempts:
    """Logins that failed, by the address that they came from: ten a minute, so that nobody keeps a gateway busy with guesses.

    A key has 256 random bits: there is nothing to guess. `clock`: seconds from any origin.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failed: OrderedDict[str, list[float]] = OrderedDict()

    def wait_s(self, place: str) -> float:
        """How long until another attempt from there is heard; 0: now."""
        now = self._clock()
        recent = [at for at in self._failed.get(place, ()) if at > now - _MINUTE_S]
        return 0.0 if len(recent) < _MOST_ATTEMPTS else recent[-_MOST_ATTEMPTS] + _MINUTE_S - now

    def failed(self, place: str) -> None:
        """One more."""
        kept = self._failed.setdefault(place, [])
        kept.append(self._clock())
        del kept[:-_MOST_ATTEMPTS]
        self._failed.move_to_end(place)
        while len(self._failed) > _MOST_PLACES:
            self._failed.popitem(last=False)
