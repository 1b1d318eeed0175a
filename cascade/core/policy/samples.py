"""Samples: a rung that is asked more than once, and ships an answer that enough of its samples agree on.

Sample k, from 0, is asked with variant k mod len(variants): a prompt, or another model's vote.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, cast

from pydantic import Field, Strict, StringConstraints, ValidationInfo, WithJsonSchema, field_validator, model_validator
from pydantic_core import PydanticCustomError

from cascade.core.policy.base import Frozen, Name, Price, Text

__all__ = ["MOST_SAMPLES", "ORDERS", "Order", "Same", "Samples", "Variant"]

Order = Literal["confidence_first", "answer_first", "steps", "doubt"]
"""The built-in triage prompts, named after the order of their keys."""

ORDERS: tuple[str, ...] = ("confidence_first", "answer_first", "steps", "doubt")

MOST_SAMPLES = 32

_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_KINDS = ("exact", "normalized", "choice", "numeric", "json", "judge")
_HINT = "use exact, normalized, choice, numeric, json, judge, module:function, {numeric: 0.01} or {json: [field, …]}"


class Same(Frozen):
    """When two answers are the same. In YAML: a kind's name, `module:function`, `{numeric: 0.01}` or `{json: [field, …]}`."""

    kind: Literal["exact", "normalized", "choice", "numeric", "json", "judge", "function"] = "normalized"
    """exact: the same characters. normalized: the same words and numbers. choice: the same letter. numeric: the same number.
    json: the same value. judge: the same meaning, as the first rung groups the answers. function: the same key."""
    tolerance: Annotated[float, Strict(), Field(ge=0, allow_inf_nan=False)] = 0.0
    """For numeric: numbers are rounded to multiples of this (0: not rounded), so that being the same is an equivalence."""
    fields: tuple[Text, ...] = ()
    """For json: compare only these keys of the object. Default: the whole value."""
    function: Annotated[str, Strict(), StringConstraints(pattern=_FUNCTION.pattern)] | None = None
    """`module:function`, called with the answer's text; answers with equal keys are the same, one without a key (None) agrees with none."""

    @model_validator(mode="before")
    @classmethod
    def _from_short(cls, value: object) -> object:
        if isinstance(value, str):
            if value in _KINDS:
                return {"kind": value}
            if _FUNCTION.fullmatch(value):
                return {"kind": "function", "function": value}
            raise PydanticCustomError("same", "an unknown way to compare answers: {hint}", {"hint": _HINT})
        if isinstance(value, dict) and len(cast("dict[str, Any]", value)) == 1:
            ((key, option),) = cast("dict[str, Any]", value).items()
            if key == "numeric":
                return {"kind": "numeric", "tolerance": option}
            if key == "json" and isinstance(option, dict):  # {json: {fields: […]}}
                return {"kind": "json", **cast("dict[str, Any]", option)}
            if key in ("json", "fields"):
                return {"kind": "json", "fields": option}
        return cast("object", value)

    @model_validator(mode="after")
    def _only_its_options(self) -> Same:
        if (self.function is not None) != (self.kind == "function"):
            raise PydanticCustomError("same", "a function is for the kind `function`: write module:function alone")
        if self.tolerance and self.kind != "numeric":
            raise PydanticCustomError("same", "a tolerance is for numeric: write {numeric: 0.01}")
        if self.fields and self.kind != "json":
            raise PydanticCustomError("same", "fields are for json: write {json: [field, …]}")
        return self

    def __str__(self) -> str:
        if self.kind == "function":
            return str(self.function)
        option = f":{self.tolerance:g}" if self.tolerance else f":{','.join(self.fields)}" if self.fields else ""
        return f"{self.kind}{option}"


class Variant(Frozen):
    """How a sample is asked. In YAML: a built-in prompt's name, a text file beside the policy, or a mapping."""

    prompt: Text | None = None
    """A built-in prompt's name, or (in a file) the name of a text file beside the policy, (in code) the text. Default: the policy's `triage`."""
    name: Name | None = None
    """Its name in corpora and on the trail. Default: the built-in prompt's or the file's name; with a `model`, that before it."""
    model: Name | None = None
    """Another model, whose answer is a vote at this rung. Default: the rung's."""
    price: Price | None = None
    """For a `model` that has no price in the table."""
    base_url: Annotated[str, Strict(), StringConstraints(pattern=r"^https?://[^\s@]+$")] | None = None
    """For a `model` at another endpoint that speaks its provider's API."""
    api_key_env: Annotated[str, Strict(), StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    """The environment variable that holds that endpoint's key."""
    provider: Literal["anthropic", "openai"] = "anthropic"
    """Of a `model`: whose API its endpoint speaks."""

    @model_validator(mode="before")
    @classmethod
    def _from_string(cls, value: object) -> object:
        return {"prompt": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _has_a_name(self) -> Variant:
        if self.name is None and self.prompt is not None and self.prompt not in ORDERS:
            raise PydanticCustomError("variant", "a variant with a prompt of its own needs a name")
        if self.name in ORDERS and self.prompt != self.name:
            raise PydanticCustomError("variant", "{name} is a built-in prompt's name", {"name": self.name})
        if self.model is None:
            for key in ("price", "base_url", "api_key_env", "provider"):
                if getattr(self, key) not in (None, "anthropic"):
                    raise PydanticCustomError("variant", "{key} is of another model: name the `model`", {"key": key})
        return self

    @property
    def order(self) -> Order | None:
        """The built-in prompt; None for the policy's triage or a text."""
        return self.prompt if self.prompt in ORDERS else None  # type: ignore[return-value]

    @property
    def text(self) -> str | None:
        """The prompt's own text; None for a built-in one or the policy's triage."""
        return None if self.prompt in ORDERS else self.prompt

    def label(self, default: str) -> str:
        """Its name; `default`: the name of the policy's own triage prompt."""
        if self.name is not None:
            return self.name
        prompt = self.prompt or default
        return prompt if self.model is None else f"{self.model}/{prompt}"


_AS_TRIAGE = Variant()
_AtLeastTwo = Annotated[int, Strict(), Field(ge=2, le=MOST_SAMPLES)]
_SameKey = Annotated[
    Same,
    WithJsonSchema(
        {
            "anyOf": [
                {"enum": list(_KINDS)},
                {"type": "string", "pattern": f"^{_FUNCTION.pattern}$"},
                {"type": "object", "properties": {"numeric": {"type": "number", "minimum": 0}}, "additionalProperties": False},
                {
                    "type": "object",
                    "properties": {"json": {"anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "object"}]}},
                    "additionalProperties": False,
                },
            ]
        }
    ),
]  # fmt: skip


class Samples(Frozen):
    """Ask the rung until `agree` answers are the same, or can no longer be; at most `max` times."""

    max: _AtLeastTwo
    """The most samples."""
    agree: _AtLeastTwo
    """How many must be the same."""
    variants: tuple[Variant, ...] = Field(default=(), max_length=MOST_SAMPLES)
    """Asked in turn. Default: the policy's `triage` each time."""
    same: _SameKey = Same()
    """When two answers are the same."""
    at_once: Annotated[int, Strict(), Field(ge=1, le=MOST_SAMPLES)] = 1
    """Samples asked at the same time. 1 makes no call that cannot change the outcome; more is faster and may cost more."""

    @field_validator("agree")
    @classmethod
    def _can_agree(cls, agree: int, info: ValidationInfo) -> int:
        most = info.data.get("max")
        if most is not None and agree > most:
            values = {"agree": agree, "max": most}
            raise PydanticCustomError("samples", "{agree} of at most {max} samples can never be the same", values)
        return agree

    @field_validator("variants")
    @classmethod
    def _different_names(cls, variants: tuple[Variant, ...]) -> tuple[Variant, ...]:
        known: dict[str, Variant] = {}
        for variant in variants:
            name = variant.label("")
            if known.setdefault(name, variant) != variant:
                raise PydanticCustomError("samples", "two different variants are named {name}", {"name": name})
        return variants

    def variant(self, number: int) -> Variant:
        """The variant of a sample, counted from 0."""
        return self.variants[number % len(self.variants)] if self.variants else _AS_TRIAGE

    def __str__(self) -> str:
        return f"{self.agree} of {self.max} ({self.same})"
