"""Policies that carry a certificate, for the tests of what becomes of it."""

from __future__ import annotations

from typing import Any

from cascade.core.policy import Certificate, Policy
from cascade.policy.certificates import hash_of, hashes_of

__all__ = ["certificate_for", "certified"]


def certificate_for(policy: Policy, **more: Any) -> Certificate:
    """A certificate that holds for this policy; `more` replaces its keys."""
    values: dict[str, Any] = {
        "loss": "false_confident", "right_at": 0.5, "alpha": 0.02, "delta": 0.05, "units": "items", "n": 386, "errors": 3,
        "upper_bound": 0.01997, "hashes": {"corpus": hash_of(b"a corpus"), **hashes_of(policy)},
    }  # fmt: skip
    return Certificate.model_validate(values | more)


def certified(policy: Policy, **more: Any) -> Policy:
    """The same policy with a certificate that holds for it."""
    return with_keys(policy, certificate=certificate_for(policy, **more).model_dump())


def with_keys(policy: Policy, **keys: Any) -> Policy:
    """The same policy with these keys, held to every invariant."""
    return Policy.model_validate(policy.model_dump(by_alias=True, exclude_unset=True) | keys)
