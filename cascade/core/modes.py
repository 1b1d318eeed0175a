"""Who answers a request: the ladder, or the baseline. By a stable hash, never by chance: the same request's unit always fares alike."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from cascade.core.policy.operations import Mode, Rollout
from cascade.core.trail import Arm

__all__ = ["NO_SLOT", "SLOTS", "arm_of", "share_of", "slot_of", "unit_of"]

NO_SLOT = -1
"""The slot of what no rollout has drawn; in the sums also that of the rows that are summed up by all else."""
SLOTS = 64
"""Units fall into so many slots, by hash: what a saving is measured over, so that one customer's requests stay together."""


def unit_of(rollout: Rollout | None, metadata: Mapping[str, str], request_id: str) -> str | None:
    """What is never split between the arms: the value that the metadata name, or the request itself; None: not named."""
    if rollout is None or rollout.by == "request":
        return request_id
    return metadata.get(rollout.by)


def share_of(salt: str, unit: str) -> float:
    """Where a unit stands between 0 and 1, the same in every process and for ever."""
    named = f"{salt}\0{unit}".encode("utf-8", "surrogatepass")  # a caller's name may be half of a pair
    return int.from_bytes(hashlib.sha256(named).digest()[:8], "big") / 2**64


def slot_of(rollout: Rollout | None, policy: str, unit: str | None) -> int:
    """Its slot, independent of its arm; NO_SLOT where no rollout has drawn it: what was not drawn measures nothing."""
    if rollout is None or unit is None:
        return NO_SLOT
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
