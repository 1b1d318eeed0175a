"""The ladder: its rungs, their thresholds, and the invariants between them.

A ladder of Claude models starts at Haiku, never steps down in capability, and has Sonnet before Opus. A rung may only ask
for what its model accepts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Strict, StringConstraints, Tag

from cascade.core.models import Effort, Model, identify, rules_of
from cascade.core.policy.base import (
    LONGEST_S,
    NAME,
    NEVER,
    Fault,
    Frozen,
    Name,
    Price,
    Seconds,
    Text,
    Threshold,
)
from cascade.core.policy.samples import Samples, Variant

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
    "asked_as",
    "ladder_faults",
    "model_faults",
    "sample_faults",
    "unranked",
]


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
    """Room for the answer; what the triage reply and thinking take is added."""
    threshold: Threshold = None
    """Ships at this confidence or above; `never`: not on its own. Required on every rung but the last, and optional with
    `samples`: without it, their agreement alone decides."""
    samples: Samples | None = None
    """Ask this rung several times, and ship what enough of the samples agree on. Default: ask it once."""
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
    """Any endpoint that speaks the provider's API: without /v1 the Messages API, with it chat completions. It gets no key but
    the one `api_key_env` names."""
    api_key_env: Annotated[str, Strict(), StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    """The environment variable that holds this rung's key. Never the key itself. Default: the provider's own."""
    provider: Literal["anthropic", "openai"] = "anthropic"
    """Whose API the endpoint speaks. `openai` needs the extra of that name, and cannot be the first rung."""


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
        if rung is last and rung.samples is not None:
            problem = "the last rung has no samples: its one answer ships"
            yield Fault((*at, "samples"), problem, "remove them")
        if rung is not last and not given and rung.samples is None:
            yield Fault(at, f"rung {rung.rung!r} needs a threshold", "add threshold: 0.80, or threshold: never")
        if rung.samples is not None:
            yield from sample_faults((*at, "samples"), rung, rung.samples)
        yield from model_faults(at, rung)
    yield from _order_faults(ladder)


def asked_as(rung: Rung, variant: Variant) -> Rung:
    """The rung as a variant asks it: with its model and endpoint, if the variant names another model."""
    if variant.model is None:
        return rung
    own: dict[str, Any] = {
        "model": variant.model, "price": variant.price, "base_url": variant.base_url, "api_key_env": variant.api_key_env,
        "provider": variant.provider, "thinking": None, "effort": None, "discount": 0.0,
    }  # fmt: skip
    return rung.model_copy(update=own)


def _claude(name: str) -> Model | None:
    """The Claude model of this name, also as routers write it (`anthropic/claude-opus-4.5`): the law goes by it, prices do not."""
    return identify(name) or identify(re.sub(r"(?<=\d)\.(?=\d)", "-", name))


def sample_faults(at: tuple[str | int, ...], rung: Rung, samples: Samples) -> Iterator[Fault]:
    """The variants whose model is stronger than their rung's: a vote must not skip rungs of the ladder."""
    own = _claude(rung.model)
    most = own.rank if own is not None else 0  # of a rung whose model is not known here, no voter may be above Haiku
    for number, variant in enumerate(samples.variants):
        other = _claude(variant.model) if variant.model is not None else None
        if other is not None and other.rank > most:
            problem = f"{variant.model} is stronger than {rung.model}, at whose rung it would vote"
            yield Fault((*at, "variants", number, "model"), problem, "name a model of the rung's class or below")


def unranked(ladder: tuple[Rung, ...]) -> tuple[Rung, ...]:
    """The rungs whose order cannot be checked, because their models' capability is not known here."""
    return tuple(rung for rung in ladder if _claude(rung.model) is None)


def model_faults(at: tuple[str | int, ...], rung: Rung) -> Iterator[Fault]:
    """What the rung asks for and its model does not take."""
    if rung.provider != "anthropic":
        if rung.thinking not in (None, "disabled"):
            problem = f"provider {rung.provider} does not take this kind of thinking"
            yield Fault((*at, "thinking"), problem, "write disabled, or an effort")
        return
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
    """Claude models: start at Haiku, never step down, never reach Opus without Sonnet before it. Other vendors stand above."""
    if ladder[0].provider != "anthropic":
        problem = f"the ladder starts at {ladder[0].model}, a model of provider {ladder[0].provider}"
        yield Fault(("ladder", 0, "provider"), problem, "start it at a Haiku model, and put this one above it")
    known = [(number, rung, _claude(rung.model)) for number, rung in enumerate(ladder)]
    claude = [(number, rung, model) for number, rung, model in known if model is not None]
    if not claude:
        return
    number, rung, model = claude[0]
    others = sum(rung.provider != "anthropic" for rung in ladder if _claude(rung.model) is None)
    if len(claude) + others == len(ladder) and model.family != "haiku":
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
