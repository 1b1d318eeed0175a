"""What a request's lifecycle asks its driver to do. `engine.lifecycle` yields these, `engine.performers` does them."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Event
from typing import Any, Literal

from cascade.core.messages import Reply
from cascade.core.triage import Prompt
from cascade.hooks import Wait

__all__ = [
    "Abandoned",
    "Await",
    "Effect",
    "Finishing",
    "NotSent",
    "Open",
    "RunBlocking",
    "RunCancellable",
    "Send",
    "SendAll",
    "WaitFor",
]


@dataclass(frozen=True, slots=True)
class Send:
    """Call the model, and send back its reply or failure. `time_out_at` is on the driver's clock."""

    prompt: Prompt
    time_out_at: float


@dataclass(frozen=True, slots=True)
class SendAll:
    """Make these calls at the same time, and send back a tuple of their replies or failures, in this order."""

    calls: tuple[Send, ...]


@dataclass(frozen=True, slots=True)
class Open:
    """Call the model and read its reply's first tokens. Send back an Early, and keep the reply open; or its whole outcome.

    `triage`: the reply is an envelope.
    """

    prompt: Prompt
    time_out_at: float
    triage: bool


@dataclass(frozen=True, slots=True)
class Finishing:
    """Finish the reply that is open, as `core.events.Finish` says, and send back its reply or failure.

    `time_out_at`: a reply that ships may take until then, since no rung above it is asked.
    """

    action: Literal["ship", "read", "close"]
    time_out_at: float


@dataclass(frozen=True, slots=True)
class Await:
    """Wait until the hooks' records are durable."""

    waits: tuple[Wait, ...]


@dataclass(frozen=True, slots=True)
class WaitFor:
    """Wait for a future that has no error, for at most so many seconds. Send back its result; None if it takes longer."""

    future: Future[Any]
    seconds: float


@dataclass(frozen=True, slots=True)
class RunBlocking:
    """Call a function that may take a round trip, and send back its result. An event loop runs it in a thread."""

    function: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class RunCancellable:
    """Call a function that may take seconds, and send back its result. It ends early once the event it is given is set."""

    function: Callable[[Event], Any]


class NotSent(CancelledError):
    """Thrown into the generator where the request is cancelled before its next effect has begun."""


class Abandoned(CancelledError):
    """Thrown into the generator where nobody waits any more for the reply that is open. `reply`: as far as it came."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        super().__init__()


Effect = Send | SendAll | Open | Finishing | Await | WaitFor | RunBlocking | RunCancellable
