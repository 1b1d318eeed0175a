"""What every part of a policy is made of: its base model, names, texts, seconds, prices, and faults."""

from __future__ import annotations

from decimal import Decimal
from functools import cached_property
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, Strict, StringConstraints, WithJsonSchema
from pydantic_core import PydanticCustomError

__all__ = ["LONGEST_S", "NAME", "NEVER", "Fault", "Frozen", "Name", "Price", "Seconds", "Text", "Threshold"]

NEVER = "never"

NAME = r"^[A-Za-z0-9][A-Za-z0-9._:@/-]{0,127}$"
"""What rungs, tasks and policies may be called."""

Name = Annotated[str, Strict(), StringConstraints(pattern=NAME)]
Text = Annotated[str, Strict(), StringConstraints(min_length=1)]
LONGEST_S = 86_400.0
"""A day: the longest time-out, wait or deadline. Some systems' clocks do not accept much more."""

Seconds = Annotated[float, Strict(), Field(gt=0, le=LONGEST_S, allow_inf_nan=False)]
_Usd = Annotated[Decimal, Field(ge=0, allow_inf_nan=False)]


def _threshold(value: object) -> object:
    if value is None or value == NEVER:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise PydanticCustomError("threshold", "a threshold is a number from 0 to 1, or never")
    return float(value)


Threshold = Annotated[
    float | None,
    BeforeValidator(_threshold),
    WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0, "maximum": 1}, {"enum": [NEVER, None]}]}),
]
"""A rung ships at confidence >= threshold; None (`never`, null) means it never ships on its own."""


class Fault(ValueError):
    """A broken invariant of a policy: `key` is the path of the key, `hint` says what to do.

    `others`: on the first fault of a policy, the further ones.
    """

    def __init__(self, key: tuple[str | int, ...], problem: str, hint: str) -> None:
        self.key, self.problem, self.hint = key, problem, hint
        self.others: tuple[Fault, ...] = ()
        super().__init__(f"{problem} ({hint})")


class Frozen(BaseModel):
    """Base of every part of a policy: frozen, and without unknown keys."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, ignored_types=(cached_property,)
    )


class Price(Frozen):
    """List prices in USD per million tokens, for a model that has none in the price table."""

    input: _Usd
    output: _Usd
    cache_read: _Usd | None = None
    """Default: the input price."""
    cache_write: _Usd | None = None
    """Default: the input price."""
