"""Who answers a request: the ladder, or the baseline. By a stable hash, never by chance: the same request's unit always fares alike."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from cascade.core.operations import Mode, Rollout
from cascade.core.trail import Arm

__all__ = ["SLOTS", "arm_of", "share_of", "slot_of", "unit_of"]

SLOTS = 64
"""Units fall into so many slots, by hash: what a saving is measured over, so that one customer's requests stay together."""


def unit_of(rollout: Rollout | None, metadata: Mapping[str, str], request_id: str) -> str | None:
    """What is never split between the arms: the value that the metadata name, or the request itself; None: not named."""
    if rollout is None or rollout.by == "request":
        return request_id
    return metadata.get(rollout.by)


def share_of(salt: str, unit: str) -> float:
    """Where a unit stands between 0 and 1, the same in every process and for ever."""
    return int.from_bytes(hashlib.sha256(f"{salt}\0{unit}".encode()).digest()[:8], "big") / 2**64


def slot_of(policy: str, unit: str) -> int:
    """Its slot, independent of its arm."""
    return int(share_of(f"slot:{policy}", unit) * SLOTS)


def arm_of(mode: Mode, rollout: Rollout | None, policy: str, unit: str | None) -> Arm:
    """Who answers. A unit that the metadata do not name is of the holdout: the careful side."""
    if mode == "off":
        return "bypass"
    if mode == "observe":
        return "observe"
    if rollout is None:
        return "cascade"
    return "cascade" if unit is not None and share_of(f"rollout:{policy}", unit) * 100 < rollout.percent else "holdout"
