"""What the emulator makes of a request: an `ApiRequest` that it answers, or an `ApiError`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cascade.emulator.faults import Fault

__all__ = ["ApiError", "ApiRequest"]


class ApiError(Exception):
    """A request that gets an error. `details` is the API's error code; `retry`: what the headers say of trying again."""

    def __init__(
        self, status: int, kind: str, message: str, *, details: str | None = None, retry: Fault | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.kind, self.message = status, kind, message
        self.details, self.retry = details, retry


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """A request that was taken. `text`: of its last user turn. `triage`: the keys of the verdict it wants, in order.

    `schema`: of the answer itself, without the verdict around it; None where that is plain text.
    """

    model: str
    text: str
    stream: bool
    triage: tuple[str, ...]
    estimated_tokens: int
    schema: dict[str, Any] | None = None
