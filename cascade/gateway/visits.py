"""What the middleware has found out about a request, for the endpoints behind it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cascade.gateway.headers import OWN, Incoming
from cascade.gateway.keys.values import Key
from cascade.gateway.problems import Problem

if TYPE_CHECKING:
    from starlette.types import Scope

__all__ = ["VISIT", "Visit", "visit_of"]

VISIT = "cascade.visit"
_METADATA = "metadata-"
_KNOWN = frozenset({"task", "flags", "session", "key", "cache"})
_TASK = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_MOST_METADATA = 16
_LONGEST_VALUE = 256


@dataclass(frozen=True, slots=True)
class Visit:
    """A request's headers, and the key it came with (None: the gateway has no keys, and listens on loopback alone).

    `is_trusted`: it came with a key, or needs none. Only `/healthz` and `/openapi.json` are served to others.
    """

    headers: Incoming
    key: Key | None = None
    is_trusted: bool = False

    def check(self) -> None:
        """Raise Problem for a header `x-cascade-*` that there is not, and for a task that is no name."""
        for name in self.headers.own:
            if name not in _KNOWN and not name.startswith(_METADATA):
                raise Problem(
                    400,
                    f"{OWN}{name[:60]}: there is no such header (task, flags, session, cache, key and metadata-NAME may follow {OWN})",
                )
        if self.task is not None and _TASK.fullmatch(self.task) is None:
            raise Problem(400, f"{OWN}task: write a name of at most 64 letters, digits, and _ . : -")

    @property
    def session(self) -> str:
        """The caller's conversation, if it names one (`x-cascade-session`)."""
        return self.headers.own.get("session", "")[:_LONGEST_VALUE]

    @property
    def task(self) -> str | None:
        """The task (`x-cascade-task`); None: by the policy's signals."""
        return self.headers.own.get("task", "").strip() or None

    @property
    def flags(self) -> frozenset[str]:
        """The flags (`x-cascade-flags`, separated by commas)."""
        flags = self.headers.own.get("flags", "")
        return frozenset(flag.strip() for flag in flags.split(",") if flag.strip()) if flags else frozenset()

    def metadata(self) -> dict[str, str]:
        """`x-cascade-metadata-NAME: VALUE`, and the key's id as `key`, which a caller cannot choose. Raises Problem."""
        found = {
            name[len(_METADATA) :]: value for name, value in self.headers.own.items() if name.startswith(_METADATA)
        }
        if len(found) > _MOST_METADATA or any(not name or len(value) > _LONGEST_VALUE for name, value in found.items()):
            raise Problem(
                400,
                f"x-cascade-metadata-NAME: at most {_MOST_METADATA} of them, each with a name and a value of at most"
                f" {_LONGEST_VALUE} characters",
            )
        if self.key is not None:
            found["key"] = self.key.id
        return found


def visit_of(scope: Scope) -> Visit:
    """What the middleware left."""
    return scope[VISIT]
