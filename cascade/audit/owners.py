"""Names of audit workers that tell whether their process has ended, so that its leases need not run out.

    PLACE:PROCESS:RANDOM    PLACE names a running machine and, within it, where its process ids are valid (a container has its own)

Of a process elsewhere nobody here knows anything: its leases run out.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterable
from pathlib import Path

__all__ = ["dead_owners", "new_owner"]

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_IDS = Path("/proc/self/ns/pid")


def new_owner() -> str:
    """A name for a worker of this process, never given before."""
    place = _place()
    return secrets.token_hex(8) if place is None else f"{place}:{os.getpid()}:{secrets.token_hex(4)}"


def dead_owners(owners: Iterable[str]) -> tuple[str, ...]:
    """Those whose process was one of this machine and has ended."""
    place = _place()
    return tuple(owner for owner in owners if place is not None and _is_dead(owner, place))


def _is_dead(owner: str, place: str) -> bool:
    where, _, rest = owner.partition(":")
    process = rest.partition(":")[0]
    if where != place or not process.isdecimal():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except OSError:  # there, and another user's
        return False
    return _is_unburied(process)


def _is_unburied(process: str) -> bool:
    """Whether it has ended, and its parent has not yet asked how."""
    try:
        told = Path(f"/proc/{process}/stat").read_text()
    except OSError:  # it has gone meanwhile
        return True
    return told.rpartition(")")[2].split()[0] in ("Z", "X")


def _place() -> str | None:
    try:
        known = f"{_BOOT.read_text().strip()} {_IDS.readlink()}"
    except OSError:  # not every system tells
        return None
    return hashlib.sha256(known.encode()).hexdigest()[:16]
