"""The arguments of one `ask`, and the request they make."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cascade.core.errors import RequestError
from cascade.core.messages import Block, Request, read_messages
from cascade.core.policy.ladder import LONGEST_S
from cascade.engine.response_types import response_type
from cascade.policy.checks import CallerCheck

__all__ = ["AskArguments", "Prompt", "check_deadline", "default_policy"]

Prompt = str | Sequence[Block]
"""A text, or a list of messages in the Messages API's shape (images and documents are passed through)."""


def default_policy() -> str:
    """The policy used where none is named: `CASCADE_POLICY`, else "default"."""
    return os.environ.get("CASCADE_POLICY") or "default"


@dataclass(frozen=True, slots=True)
class AskArguments:
    """The arguments of one `ask`, as they came."""

    prompt: Prompt
    system: str | Sequence[Block] | None
    task: str | None
    response_model: Any
    checks: Sequence[CallerCheck]
    flags: Sequence[str]
    metadata: Mapping[str, str] | None
    max_tokens: int | None

    def request(self) -> Request:
        """The request they make; RequestError where they do not make one."""
        if self.system is not None and not isinstance(self.system, (str, list, tuple)):
            raise RequestError(f"system: a text or a list of text blocks is needed, not {type(self.system).__name__}")
        if isinstance(self.flags, str):
            raise RequestError(f"flags: a list of names is needed, e.g. flags=[{self.flags!r}]")
        if self.max_tokens is not None and type(self.max_tokens) is not int:
            raise RequestError(f"max_tokens: a whole number is needed, not {type(self.max_tokens).__name__}")
        wanted = response_type(self.response_model) if self.response_model is not None else None
        metadata: Any = self.metadata or {}
        named = isinstance(metadata, Mapping) and all(
            isinstance(text, str)
            for pair in metadata.items()  # pyright: ignore[reportUnknownVariableType]
            for text in pair  # pyright: ignore[reportUnknownVariableType]
        )
        if not named:
            raise RequestError("metadata: names and values are texts, e.g. metadata={'customer': 'c-17'}")
        return Request(
            messages=read_messages(self.prompt),
            system=tuple(self.system) if isinstance(self.system, (list, tuple)) else self.system,
            task=self.task,
            flags=frozenset(self.flags),
            schema=wanted.schema if wanted else None,
            prompt_schema=wanted.prompt_schema if wanted else None,
            max_tokens=self.max_tokens,
            metadata=dict(self.metadata or {}),
            id=f"casc_{uuid.uuid4().hex}",
        )


def check_deadline(deadline_s: float | None) -> None:
    """RequestError where it is none."""
    if deadline_s is None:
        return
    number = isinstance(deadline_s, (int, float)) and not isinstance(deadline_s, bool)  # pyright: ignore[reportUnnecessaryIsInstance]
    if not number or not 0 < deadline_s <= LONGEST_S:
        raise RequestError(f"deadline_s: {deadline_s!r} is not a number of seconds, above 0 and up to a day")
