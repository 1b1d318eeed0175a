"""The checks on answers: what each may say in a policy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import Annotated, Any, Literal

from pydantic import (
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    Strict,
    StringConstraints,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticCustomError

from cascade.core.policy.base import Fault, Frozen, Name, Seconds, Text

__all__ = ["REVIEW", "REVIEW_KEYS", "Check", "review_faults"]

_Word = Annotated[str, Strict(), StringConstraints(min_length=1, pattern=r"^[^\x00]*$")]
_Variable = Annotated[str, Strict(), StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]

_KINDS = ("not_empty", "pattern", "max_chars", "json_schema", "function", "command", "kind")
_OF_A_COMMAND = ("timeout_s", "on_error", "extract", "env", "name")
"""Keys that say how a command is run. They are no part of any other check's values, so that a policy without commands has the
same hash as before there were any."""
_OF_A_REVIEW = ("rung", "below")
REVIEW_KEYS = ("kind", *_OF_A_REVIEW)
REVIEW = "{kind: review, rung: sonnet, below: 0.95}"
"""How a review is written, for messages."""

_LONGEST_NAME = 40


class Check(Frozen):
    """A test on an answer: exactly one of `not_empty`, `pattern`, `max_chars`, `json_schema`, `function`, `command` and `kind`.

    `not_empty` and `module:function` may be written as bare strings. The keys after `command` belong to it, `rung` and `below`
    to `kind: review`.
    """

    model_config = ConfigDict(
        populate_by_name=True,
        json_schema_extra={
            "dependentRequired": {
                **{key: ["command"] for key in _OF_A_COMMAND},
                **{key: ["kind"] for key in _OF_A_REVIEW},
                "kind": [*_OF_A_REVIEW],
            }
        },
    )

    not_empty: Literal[True] | None = None
    """There is something beside white space."""
    pattern: Text | None = None
    """The answer contains this pattern (RE2, case-sensitive; anchor it with ^ and $ for the whole text)."""
    max_chars: Annotated[int, Strict(), Field(ge=1)] | None = None
    """The answer has at most this many characters."""
    json_schema: dict[str, Any] | None = None
    """The answer is JSON that satisfies this schema."""
    function: Annotated[str, Strict(), StringConstraints(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")] | None = None
    """`module:function`, called with the answer's text; it returns True when the answer passes."""
    command: Annotated[tuple[_Word, ...], Field(min_length=1, max_length=256)] | None = None
    """A program and its arguments, run without a shell: it reads answer and request as JSON on stdin, and exits with 0 if the
    answer passes, with 1 if it fails. Anything else says nothing."""
    timeout_s: Seconds = 10.0
    """When the program is killed. The deadline may do so earlier."""
    on_error: Literal["climb", "pass"] = "climb"
    """If the program says nothing of an answer: climb, or let it pass."""
    extract: Literal["code"] | None = None
    """code: the answer's first fenced block is put in a file, named by the last argument. Without a block it fails."""
    env: tuple[_Variable, ...] = Field(default=(), max_length=256)
    """Environment variables that the program may see, beside PATH, HOME, the locale and Python's paths."""
    name_: Name | None = Field(default=None, alias="name")
    """Its name on the trail. Default: `command:` and the program's or script's."""
    kind: Literal["review"] | None = None
    """review: a rung above reads the answer before it ships, and accepts or rejects it."""
    rung: Name | None = None
    """The rung that reviews the answers of the rungs below it; its own and those above it are not reviewed."""
    below: Annotated[float, Strict(), Field(ge=0, le=1, allow_inf_nan=False)] | None = None
    """Answers under this confidence are reviewed. One at or above it ships without a review, as does one without a confidence."""

    @model_validator(mode="before")
    @classmethod
    def _from_string(cls, value: object) -> object:
        if isinstance(value, str):
            if value == "not_empty":
                return {"not_empty": True}
            if value == "review":
                raise PydanticCustomError(
                    "check", f"a review needs the rung that reads the answer and a confidence: write {REVIEW}"
                )
            if ":" in value:
                return {"function": value}
            raise PydanticCustomError(
                "check",
                "an unknown check: use not_empty, pattern, max_chars, json_schema, module:function, command or kind: review",
            )
        return value

    @model_validator(mode="after")
    def _exactly_one(self) -> Check:
        if sum(getattr(self, kind) is not None for kind in _KINDS) != 1:
            raise PydanticCustomError("check", f"a check has exactly one of {', '.join(_KINDS)}")
        given = {name.rstrip("_") for name in self.model_fields_set}
        if self.command is None:
            for key in _OF_A_COMMAND:
                if key in given:
                    raise PydanticCustomError("check", f"{key} belongs to a check with a command: remove it")
        for key in _OF_A_REVIEW:
            if self.kind is None and key in given:
                raise PydanticCustomError("check", f"{key} belongs to a check with kind: review: remove it")
            if self.kind is not None and getattr(self, key) is None:
                raise PydanticCustomError("check", f"a review needs the key {key}: write {REVIEW}")
        return self

    @model_serializer(mode="wrap")
    def _values(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = handler(self)
        if self.command is None:
            for key in ("command", "name_", *_OF_A_COMMAND):
                values.pop(key, None)
        if self.kind is None:
            for key in ("kind", *_OF_A_REVIEW):
                values.pop(key, None)
        return values

    @property
    def name(self) -> str:
        """Its name on the trail."""
        if self.command is not None:
            return self.name_ or _name(self.command)
        if self.kind is not None:
            return f"{self.kind}:{self.rung}"
        return self.function or next(kind for kind in _KINDS if getattr(self, kind) is not None)


def review_faults(at: tuple[str | int, ...], checks: Sequence[Check], rungs: Sequence[str]) -> Iterator[Fault]:
    """What is wrong with the reviews in one list of checks, on a ladder with these rungs."""
    reviews = [(number, check.rung) for number, check in enumerate(checks) if check.kind is not None]
    for number, rung in reviews:
        if rung not in rungs:
            hint = f"use one of {', '.join(rungs[1:])}"
            yield Fault((*at, number, "rung"), f"there is no rung {rung!r} on the ladder", hint)
        elif rung == rungs[0]:
            problem = f"{rung!r} is the first rung: there are no answers below it to review"
            yield Fault((*at, number, "rung"), problem, f"use one of {', '.join(rungs[1:])}")
    for number, _ in reviews[1:]:
        problem = "a second review in one list: an answer is reviewed once at most"
        yield Fault((*at, number), problem, "keep one, or give a task its own")


def _name(command: tuple[str, ...]) -> str:
    """`command:` and the script that an interpreter is given, or the program. Other arguments may be secret."""
    program, *arguments = command
    if arguments[:1] == ["-m"]:
        word = arguments[1] if len(arguments) > 1 else program
    else:
        word = arguments[0] if arguments and PurePath(arguments[0]).suffix and arguments[0][0] != "-" else program
    name = PurePath(word).name or word
    return f"command:{name if len(name) <= _LONGEST_NAME else f'{name[: _LONGEST_NAME - 1]}…'}"
