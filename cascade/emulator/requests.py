"""The result of validating a request: an `ApiRequest` to answer, or an `ApiError`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cascade.emulator.faults import Fault

__all__ = ["ApiError", "ApiRequest"]


class ApiError(Exception):
    """An error to send. `details`: the API's error code. `retry`: the fault whose retry headers are sent."""

    def __init__(
        self, status: int, kind: str, message: str, *, details: str | None = None, retry: Fault | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.kind, self.message = status, kind, message
        self.details, self.retry = details, retry


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """A valid request. `text`: its last user turn. `triage`: the keys of the verdict it asks for, in order.

    `schema`: of the answer, without the verdict around it; None if the answer is plain text. `variant`: the name of the
    triage prompt, None if it is not known. `to_group`: the answers that a judge is asked to group, if it is that. `to_review`: the
    user's text and the answer that a reviewer is to read, if it is that.
    `to_plan`: it asks for a plan in place of the answer; `plan`: the plan that is to be answered by, if it is that.
    `body`: as it was sent, of the chat completions API in the Messages API's form. `cached`: as the prompt cache reads it, if that is
    another.
    """

    model: str
    text: str
    stream: bool
    triage: tuple[str, ...]
    estimated_tokens: int
    schema: dict[str, Any] | None = None
    variant: str | None = None
    to_group: tuple[str, ...] | None = None
    body: Mapping[str, Any] = field(default_factory=dict[str, Any])
    to_review: tuple[str, str] | None = None
    to_plan: bool = False
    plan: Mapping[str, Any] | None = None
    cached: Mapping[str, Any] | None = None
