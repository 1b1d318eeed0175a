"""What of the traffic is audited: a uniform sample of all requests, and the answers with the lowest confidence.

The uniform sample is decided by a hash of the request's id, so that it can be computed again; only it counts in rates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cascade.core.modes import share_of

__all__ = ["Sampled", "Why", "is_uniform"]

Why = Literal["uniform", "lowest", "both"]
"""Why a request was sampled."""


@dataclass(frozen=True, slots=True)
class Sampled:
    """A request that will be audited. `epoch`: names what decided (policy's decisive parts, certificate, ratchet step); rates are of one epoch."""

    why: Why
    epoch: str


def is_uniform(request_id: str, share: float) -> bool:
    """Whether a request is in the uniform sample: the same answer in every process, now and later."""
    return share_of("audit", request_id) < share
