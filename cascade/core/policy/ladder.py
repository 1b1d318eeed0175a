"""The ladder: its rungs, their thresholds, and the invariants between them.

A ladder of Claude models starts at Haiku, never steps down in capability, and has Sonnet before Opus. A rung may only ask
for what its model accepts.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from functools import cached_property
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Strict,
    StringConstraints,
    Tag,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from cascade.core.models import Effort, identify, rules_of

__all__ = [
    "LONGEST_S",
    "NAME",
    "NEVER",
    "Budget",
    "Fault",
    "Frozen",
    "Name",
    "Price",
    "Rung",
    "Seconds",
    "Text",
    "Threshold",
    "ladder_faults",
    "unranked",
]

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


class Budget(Frozen):
    """Manual thinking, for models that take a budget of tokens (Haiku 4.5)."""

    budget_tokens: Annotated[int, Strict(), Field(ge=1024)]


def _kind_of_thinking(value: object) -> str:
    return "budget" if isinstance(value, (dict, Budget)) else "named"


ThinkingMode = Annotated[
    Annotated[Literal["disabled", "adaptive", "between_tools"], Tag("named")] | Annotated[Budget, Tag("budget")],
    Discriminator(_kind_of_thinking),
]


class Rung(Frozen):
    """One step of the ladder."""

    rung: Name
    """Its name, unique on the ladder."""
    model: Name
    """The model, as its endpoint names it."""
    max_tokens: Annotated[int, Strict(), Field(ge=1, le=1_000_000)]
    """Bounds the answer; the envelope's and thinking's allowance is added."""
    threshold: Threshold = None
    """Ships at this confidence or above; `never`: not on its own. Required on every rung but the last."""
    thinking: ThinkingMode | None = None
    """Default: the model's own."""
    effort: Effort | None = None
    """Default: the model's own."""
    timeout_s: Seconds | None = None
    """Of one HTTP attempt. Default: what the deadline leaves; below the top, half of it."""
    price: Price | None = None
    """For a model that has no price in the table, or a price of your own."""
    discount: Annotated[float, Strict(), Field(ge=0, lt=1, allow_inf_nan=False)] = 0.0
    """Off the list price: 0.1 is ten per cent less."""
    base_url: Annotated[str, Strict(), StringConstraints(pattern=r"^https?://[^\s@]+$")] | None = None
    """Any endpoint that speaks the Messages API. Without /v1. It gets no key but the one `api_key_env` names."""
    api_key_env: Annotated[str, Strict(), StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    """The environment variable that holds this rung's key. Never the key itself."""


def ladder_faults(ladder: tuple[Rung, ...]) -> Iterator[Fault]:
    """The broken invariants of the ladder, in its order."""
    last = ladder[-1]
    seen: set[str] = set()
    for number, rung in enumerate(ladder):
        at = ("ladder", number)
        if rung.rung in seen:
            yield Fault((*at, "rung"), f"rung {rung.rung!r} is there twice", "give every rung its own name")
        seen.add(rung.rung)
        given = "threshold" in rung.model_fields_set
        if rung is last and given:
            yield Fault((*at, "threshold"), "the last rung must not have a threshold: it answers plainly", "remove it")
        if rung is not last and not given:
            yield Fault(at, f"rung {rung.rung!r} needs a threshold", "add threshold: 0.80, or threshold: never")
        yield from _model_faults(at, rung)
    yield from _order_faults(ladder)


def unranked(ladder: tuple[Rung, ...]) -> tuple[Rung, ...]:
    """The rungs whose order cannot be checked, because their models' capability is not known here."""
    return tuple(rung for rung in ladder if identify(rung.model) is None)


def _model_faults(at: tuple[str | int, ...], rung: Rung) -> Iterator[Fault]:
    rules = rules_of(rung.model)
    if rules is None:
        return
    wanted = "enabled" if isinstance(rung.thinking, Budget) else rung.thinking
    if wanted is not None and wanted not in rules.thinking:
        takes = ", ".join(sorted({"budget_tokens" if kind == "enabled" else kind for kind in rules.thinking}))
        yield Fault((*at, "thinking"), f"{rung.model} does not take this kind of thinking", f"it takes: {takes}")
    if rung.max_tokens > rules.max_output:
        most = f"write {rules.max_output} or less"
        yield Fault((*at, "max_tokens"), f"{rung.model} answers with at most {rules.max_output} tokens", most)
    if rung.effort is not None and rung.effort not in rules.efforts:
        takes = f"it takes: {', '.join(sorted(rules.efforts))}" if rules.efforts else "remove it"
        yield Fault((*at, "effort"), f"{rung.model} does not take effort {rung.effort!r}", takes)


def _order_faults(ladder: tuple[Rung, ...]) -> Iterator[Fault]:
    """Claude models: start at Haiku, never step down, never reach Opus without Sonnet before it."""
    known = [(number, rung, identify(rung.model)) for number, rung in enumerate(ladder)]
    claude = [(number, rung, model) for number, rung, model in known if model is not None]
    if not claude:
        return
    number, rung, model = claude[0]
    if len(claude) == len(ladder) and model.family != "haiku":
        yield Fault(("ladder", number, "model"), f"the ladder starts at {rung.model}", "start it at a Haiku model")
    highest, before = -1, model
    for number, rung, model in claude:
        at = ("ladder", number, "model")
        older = model.family == before.family and model.version < before.version
        if model.rank < highest or older:
            yield Fault(at, f"{rung.model} is a step down from the rung before it", "order the rungs by capability")
        elif model.rank >= 2 and highest < 1:
            yield Fault(at, f"the ladder jumps to {rung.model} past Sonnet", "put a Sonnet rung before it")
        elif model.rank > 2 and highest < 2:
            yield Fault(at, f"the ladder jumps to {rung.model} past Opus", "put an Opus rung before it")
        highest, before = max(highest, model.rank), model
