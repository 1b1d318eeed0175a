"""Who answers a request, the ladder or the baseline: decided by a stable hash, so the same unit always gets the same arm."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from cascade.core.arms import Arm
from cascade.core.policy.operations import Mode, Rollout

__all__ = ["NO_SLOT", "SLOTS", "arm_of", "share_of", "slot_of", "unit_of"]

NO_SLOT = -1
"""The slot of requests outside a rollout; in the ledger's sums also of rows that are not grouped by slot."""
SLOTS = 64
"""The number of slots. A saving is measured over slots of units, so that one customer's requests stay together."""


def unit_of(rollout: Rollout | None, metadata: Mapping[str, str], request_id: str) -> str | None:
    """What is never split between arms: the metadata value that `by` names, or the request id. None if it is missing."""
    if rollout is None or rollout.by == "request":
        return request_id
    return metadata.get(rollout.by)


def share_of(salt: str, unit: str) -> float:
    """A unit's position between 0 and 1, the same in every process."""
    named = f"{salt}\0{unit}".encode("utf-8", "surrogatepass")  # metadata may contain an unpaired surrogate
    return int.from_bytes(hashlib.sha256(named).digest()[:8], "big") / 2**64


def slot_of(rollout: Rollout | None, policy: str, unit: str | None) -> int:
    """A unit's slot, independent of its arm; NO_SLOT outside a rollout."""
    if rollout is None or unit is None:
        return NO_SLOT
    return int(share_of(f"slot:{policy}", unit) * SLOTS)


def arm_of(mode: Mode, rollout: Rollout | None, policy: str, unit: str | None) -> Arm:
    """Who answers. A request whose metadata lack the unit goes to the holdout, as the safe choice."""
    if mode == "off":
        return "bypass"
    if mode == "observe":
        return "observe"
    if rollout is None:
        return "cascade"
    return "cascade" if unit is not None and share_of(f"rollout:{policy}", unit) * 100 < rollout.percent else "holdout"
