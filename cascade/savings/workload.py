"""A workload: traffic that is described in a few numbers instead of by a usage export.

Read from YAML, strictly. A shipped one (`workloads/`) can be named. What a description leaves open has a default, which
`assumptions` shows beside its alternatives.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Final, Literal, cast

from pydantic import BeforeValidator, Field, Strict, ValidationError, model_validator

from cascade.core.errors import UsageExportError
from cascade.core.policy.base import Fault, Frozen, Name, Text
from cascade.core.text.suggestions import did_you_mean
from cascade.policy.loading import compose

__all__ = ["Published", "Workload", "load_workload", "parse_workload", "shipped_workloads"]

_SHIPPED: Final = Path(__file__).parent / "workloads"
_MOST_BYTES: Final = 100_000

_Amount = Annotated[Decimal, Field(gt=0, le=10**12, allow_inf_nan=False)]
_Count = Annotated[int, Strict(), Field(ge=1, le=10**12)]
_Tokens = Annotated[int, Strict(), Field(ge=0, le=10_000_000)]
_Share = Annotated[Decimal, Field(ge=0, le=1, allow_inf_nan=False)]
_Percent = Annotated[Decimal, Field(ge=0, le=100, allow_inf_nan=False)]


def _listed(value: object) -> object:
    if not isinstance(value, dict):
        return value
    named = cast("dict[Any, Any]", value)
    return {name: [models] if isinstance(models, str) else models for name, models in named.items()}


class Published(Frozen):
    """What was published for this workload, in USD a month."""

    usd: _Amount
    alone_usd: _Amount | None = None
    """The bill that it is compared with: one model for everything."""
    states: tuple[Name, ...] = ()
    """The keys of the workload whose values were published. The others are assumptions."""


class Workload(Frozen):
    """A month's traffic. Shares are from 0 to 1; those of `mix` add up to 1 or to 100."""

    version: Literal[1]
    name: Name
    tickets: _Count
    """A month."""
    calls_per_ticket: _Amount = Decimal(1)
    input_tokens: _Tokens
    """The whole prompt of one call."""
    output_tokens: _Tokens
    mix: dict[Name, _Percent]
    """The share of the calls that each rung of the policy answers, or one of `models`."""
    models: Annotated[
        dict[Name, Annotated[tuple[Text, ...], Field(min_length=1)]],
        BeforeValidator(_listed),
        Field(default_factory=dict),
    ]
    """The models of those in the mix that are not rungs. Of a list the first is used, the others are shown as alternatives."""
    policy: Text = "default"
    """A policy file or a shipped policy: the rungs' models and prices."""
    alone: Name | None = None
    """The rung that answers everything in the bill compared with. Default: the top rung."""
    router_tokens: _Tokens = 0
    """What a router reads of each call, beside the call's own tokens; 0: there is no router."""
    router_output_tokens: _Tokens = 0
    router_per: Literal["call", "ticket"] = "call"
    router: Name | None = None
    """The rung that routes. Default: the first one."""
    cache_read_share: _Share = Decimal(0)
    """The share of the input that is read from the prompt cache."""
    cache_write_share: _Share = Decimal(0)
    """The share of the input that is written to the prompt cache (5 minutes)."""
    batch_share: _Share = Decimal(0)
    """The share of the calls that go through Message Batches. Only Claude models do."""
    response_cache_share: _Share = Decimal(0)
    """The share of the calls that the response cache answers, which cost nothing."""
    published: Published | None = None

    @model_validator(mode="after")
    def _adds_up(self) -> Workload:
        if sum(self.mix.values()) not in (1, 100):
            raise Fault(("mix",), f"the shares add up to {sum(self.mix.values()):f}", "they must add up to 1 or to 100")
        if self.cache_read_share + self.cache_write_share > 1:
            raise Fault(
                ("cache_write_share",), "more than the whole input is cached", "the two shares add up to 1 at most"
            )
        for number, key in enumerate(self.published.states if self.published else ()):
            if key not in Workload.model_fields:
                raise Fault(("published", "states", number), f"{key!r} is not a key of a workload", "remove it")
        for name in self.models.keys() - self.mix.keys():
            raise Fault(("models", name), f"{name!r} is not in the mix", "give it a share, or remove it")
        return self

    @property
    def calls(self) -> Fraction:
        """Calls a month."""
        return self.tickets * Fraction(self.calls_per_ticket)

    @property
    def shares(self) -> Mapping[str, Fraction]:
        """The mix, adding up to 1."""
        whole = Fraction(sum(self.mix.values()))
        return {name: Fraction(share) / whole for name, share in self.mix.items()}


def shipped_workloads() -> tuple[str, ...]:
    """The names of the shipped workloads."""
    return tuple(sorted(path.stem for path in _SHIPPED.glob("*.yaml")))


def load_workload(source: str) -> Workload:
    """The workload at a path, or a shipped one by its name. Raises UsageExportError or PolicyError with file:line:column."""
    path = Path(source)
    if not path.exists() and source in shipped_workloads():
        path = _SHIPPED / f"{source}.yaml"
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise UsageExportError("the file is larger than 100 kB", where=source, hint="this is not a workload")
        text = path.read_bytes().decode()
    except FileNotFoundError:
        known = shipped_workloads()
        hint = f"{did_you_mean(source, known)}give a path, or a shipped workload: {', '.join(known)}"
        raise UsageExportError(
            "there is no such file, and no shipped workload of that name", where=source, hint=hint
        ) from None
    except (OSError, UnicodeDecodeError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else "it is not UTF-8 text"
        raise UsageExportError(f"cannot be read: {reason}", where=source, hint="give a workload's file") from None
    return parse_workload(text, where=source)


def parse_workload(text: str, *, where: str = "workload") -> Workload:
    """The workload in a YAML text. `where` precedes line:column in errors."""
    if not text.strip():
        raise UsageExportError("is empty", where=where, hint="see `cascade savings --workload customer-service`")
    root, values = compose(text, where=where)
    try:
        return Workload.model_validate(values)
    except ValidationError as problems:
        # An unknown key first: where one is missing beside it, it is often that one misspelt.
        error: Any = min(problems.errors(), key=lambda one: one["type"] != "extra_forbidden")
        fault = error.get("ctx", {}).get("error")
        at = fault.key if isinstance(fault, Fault) else error["loc"]
        node, key = root.at(at), ".".join(map(str, at))
        problem, hint = (str(error["msg"]).removeprefix("Value error, "), "")
        if isinstance(fault, Fault):
            problem = str(fault)
        elif error["type"] == "extra_forbidden":
            known = tuple(Workload.model_fields)
            problem, hint = "unknown key", f"{did_you_mean(str(at[-1]), known)}known: {', '.join(known)}"
        elif error["type"] == "missing":
            problem, hint = "the key is missing", f"add {at[-1]}: …"
        raise UsageExportError(
            f"{key}: {problem[:1].lower()}{problem[1:]}", where=f"{where}:{node.line + 1}:{node.column + 1}", hint=hint
        ) from None
