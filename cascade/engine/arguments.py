"""The arguments of one `ask`, and how they become a request."""

from __future__ import annotations

import inspect
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypedDict, TypeVar

from cascade.budgets.allowance import Allowance
from cascade.core.bound_policy import Accept
from cascade.core.decision import Start
from cascade.core.errors import RequestError
from cascade.core.messages import Block, Request
from cascade.core.planning.part import Part
from cascade.core.policy.ladder import LONGEST_S
from cascade.core.requests import read_messages
from cascade.engine.response_types import response_type
from cascade.engine.unsupported import check_keywords
from cascade.hooks import Ended
from cascade.policy.checks import CallerCheck

__all__ = [
    "Arguments",
    "AskArguments",
    "AskOptions",
    "OnEnd",
    "Prompt",
    "check_deadline",
    "default_policy",
    "lists_options",
    "new_id",
    "read_limit",
    "read_metadata",
    "read_session",
]

_LONGEST_SESSION = 256  # as in the gateway's header

OnEnd = Callable[[Ended], None]
"""Called with how a request ended. It must be fast, and must not raise."""

Prompt = str | Sequence[Block]
"""A string, or a list of messages as the Messages API takes it (images and documents are passed through)."""


def default_policy() -> str:
    """The policy used if none is given: `CASCADE_POLICY`, else "default"."""
    return os.environ.get("CASCADE_POLICY") or "default"


class AskOptions(TypedDict, total=False):
    """The keyword arguments of every `ask` and `aask`; `cascade.ask` documents them. None: not given."""

    system: str | Sequence[Block] | None
    task: str | None
    checks: Sequence[CallerCheck] | None
    flags: Sequence[str] | None
    metadata: Mapping[str, str] | None
    max_tokens: int | None
    deadline_s: float | None
    cache: bool | None
    session: str | None


_KNOWN = ("prompt", "response_model", *AskOptions.__annotations__)
_Function = TypeVar("_Function", bound=Callable[..., Any])


def lists_options(function: _Function, options: type = AskOptions) -> _Function:
    """Give a function with `**options` a signature that lists each option by name, for `help` and `inspect`.

    `options`: the TypedDict of its options. The prompt is shown as required. It has a default only so that a call with `messages=` instead gets a helpful error.
    """
    shown = inspect.signature(function)
    named = [
        one.replace(default=one.empty) if one.name == "prompt" else one
        for one in shown.parameters.values()
        if one.kind is not one.VAR_KEYWORD
    ]
    listed = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=getattr(kind, "__forward_arg__", kind)
        )
        for name, kind in options.__annotations__.items()
    ]
    function.__signature__ = shown.replace(parameters=[*named, *listed])  # type: ignore[attr-defined]
    return function


@dataclass(frozen=True, slots=True)
class AskArguments:
    """The arguments of one `ask`, unchecked."""

    prompt: Prompt
    response_model: Any
    options: AskOptions

    def read(self) -> Arguments:
        """The same as a request with what belongs to it. Raises RequestError if the arguments are invalid."""
        request = self.request()
        accept = response_type(self.response_model).read if self.response_model is not None else None
        deadline_s, checks = self.options.get("deadline_s"), self.options.get("checks") or ()
        return Arguments(
            request, deadline_s, session=read_session(self.options.get("session")), checks=checks, accept=accept,
            is_message=False, cache=self.options.get("cache"),
        )  # fmt: skip

    def request(self, request_id: str | None = None) -> Request:
        """The request, with a new id if none is given. Raises RequestError if the arguments are invalid."""
        check_keywords(self.options, _KNOWN)
        system: Any = self.options.get("system")
        flags: Any = self.options.get("flags") or ()
        max_tokens: Any = self.options.get("max_tokens")
        if system is not None and not isinstance(system, (str, list, tuple)):
            raise RequestError(f"system: must be a string or a list of text blocks, not {type(system).__name__}")
        if isinstance(flags, str):
            raise RequestError(f"flags: must be a list of names, e.g. flags=[{flags!r}]")
        if max_tokens is not None and type(max_tokens) is not int:
            raise RequestError(f"max_tokens: must be a whole number, not {type(max_tokens).__name__}")
        check_deadline(self.options.get("deadline_s"))
        cache: Any = self.options.get("cache")
        if cache is not None and not isinstance(cache, bool):
            raise RequestError(
                f"cache: must be True or False, not {type(cache).__name__} (the cache's address belongs to the driver:"
                " Cascade(cache=…))"
            )
        answer_type = response_type(self.response_model) if self.response_model is not None else None
        return Request(
            messages=read_messages(self.prompt),
            system=tuple(system) if isinstance(system, (list, tuple)) else system,  # pyright: ignore[reportUnknownArgumentType]
            task=self.options.get("task"),
            flags=frozenset(flags),
            schema=answer_type.schema if answer_type else None,
            prompt_schema=answer_type.prompt_schema if answer_type else None,
            max_tokens=max_tokens,
            metadata=read_metadata(self.options.get("metadata")),
            id=new_id() if request_id is None else request_id,
        )


@dataclass(frozen=True, slots=True)
class Arguments:
    """A request, already read. `is_message`: it is one of the Messages API, whose caller can read the API's own messages.

    `deadline_s`: seconds for the whole climb, None: the policy's. `key` and `session`: whose conversation it is, and which:
    tool loops are remembered by them, and what runs decided by the session. `streamed`: the caller is given the answer as it comes. `notes`: what the answer tells
    the caller beside its trail, first of all. `on_end`: called once, with how the request ended, even if it was cancelled. `cache`:
    whether an earlier answer to an equal request may be returned, and this one kept for that; None: as the policy says. `part`: which
    part of a run it is; `start`: where its climb begins; `allowance`: what the run may spend.
    """

    given: Request
    deadline_s: float | None = None
    key: str = ""
    session: str = ""
    streamed: bool = False
    checks: Sequence[CallerCheck] = ()
    accept: Accept | None = None
    notes: tuple[str, ...] = ()
    on_end: OnEnd | None = None
    is_message: bool = True
    cache: bool | None = None
    part: Part | None = None
    start: Start | None = None
    allowance: Allowance | None = None

    def request(self) -> Request:
        """The request, with an id. Raises RequestError for an invalid deadline."""
        check_deadline(self.deadline_s)
        return self.given if self.given.id else replace(self.given, id=new_id())


def new_id() -> str:
    """The id of a new request."""
    return f"casc_{uuid.uuid4().hex}"


def read_metadata(metadata: Any) -> dict[str, str]:
    """The caller's metadata. Raises RequestError if it is not texts by name."""
    named: Any = {} if metadata is None else metadata
    if not isinstance(named, Mapping) or not all(isinstance(text, str) for pair in named.items() for text in pair):  # pyright: ignore[reportUnknownVariableType]
        raise RequestError("metadata: names and values must be strings, e.g. metadata={'customer': 'c-17'}")
    return dict(named)  # pyright: ignore[reportUnknownArgumentType]


def read_limit(max_usd: Any) -> int | None:
    """A limit in nano-USD; None without one. Raises RequestError if it is no amount of money."""
    if max_usd is None:
        return None
    if isinstance(max_usd, bool) or not isinstance(max_usd, (int, float)) or not 0 < max_usd < float("inf"):
        raise RequestError(f"max_usd: {max_usd!r} must be an amount above 0, in USD")
    return int(max_usd * 1_000_000_000)


def read_session(session: object) -> str:
    """The name of a conversation; "" for none. Raises RequestError for what is no name."""
    if session is None:
        return ""
    if not isinstance(session, str) or not 0 < len(session) <= _LONGEST_SESSION:
        shown = f"a text of {len(session)} characters" if isinstance(session, str) else type(session).__name__
        raise RequestError(f"session: must be a name of 1 to {_LONGEST_SESSION} characters, not {shown}")
    return session


def check_deadline(deadline_s: float | None) -> None:
    """Raises RequestError if it is no number of seconds."""
    if deadline_s is None:
        return
    number = isinstance(deadline_s, (int, float)) and not isinstance(deadline_s, bool)  # pyright: ignore[reportUnnecessaryIsInstance]
    if not number or not 0 < deadline_s <= LONGEST_S:
        raise RequestError(
            f"deadline_s: {deadline_s!r} must be a number of seconds above 0, and at most a day ({LONGEST_S:g})"
        )
