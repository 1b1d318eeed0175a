"""The server: an event loop in its own thread, one task per connection, h11 for the protocol.

It uses sockets directly, not a web framework, because faults need them: to reset, trickle or cut off a connection.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, Self

from cascade.core.errors import ConfigurationError
from cascade.emulator.answers import Answers
from cascade.emulator.batches import Batches
from cascade.emulator.caching import PromptCache
from cascade.emulator.connections import Connection
from cascade.emulator.faults import Fault, FaultPlan, parse_faults
from cascade.emulator.records import Billed, ClosedEarly, RawRequest, Records, SeenRequest, Tally
from cascade.emulator.replies import Replies

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import TracebackType

    from cascade.core.messages import Usage
    from cascade.emulator.answers import Source
    from cascade.emulator.faults import Place
    from cascade.emulator.scripting import Script

__all__ = ["Billed", "ClosedEarly", "Emulator", "RawRequest", "SeenRequest", "Tally"]

_BACKLOG = 1024
_STOP_S = 10.0


class Emulator:
    """The Messages API and chat completions on loopback, answered from corpora or their paths. A context manager; it stops on exit.

    `faults`: a spec or a list (see `faults`). `seed`: makes their choice repeatable. `token_latency_s`: seconds per output
    token. `canned`: unknown texts and models get an answer that says so. `script`: asked before the corpora (see
    `scripting`), for any model. `keep_requests`: how many requests are kept byte for byte, credentials included.
    `caching`: prompts are cached and billed as the API does it (see `caching`), their age told by `clock` (seconds), as that of
    batches is.
    `prefix_check`: thinking is refused where what stood before it has changed since, as for new accounts of the API. While it
    runs, any thread may read the properties, set `faults`, and use `answers`; `batches` counts what batches had processed.
    """

    def __init__(  # noqa: PLR0913 - options
        self,
        corpora: Source | Iterable[Source] = (),
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        faults: str | Iterable[Fault] | None = None,
        seed: int = 0,
        token_latency_s: float = 0.0,
        canned: bool = False,
        script: Script | None = None,
        keep_requests: int = 0,
        caching: bool = False,
        prefix_check: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.answers = Answers(corpora, canned=canned, may_be_empty=script is not None)
        self.replies = Replies(seed, script, PromptCache(clock) if caching else None)
        self.records = Records(keep_requests)
        self.host, self.port, self.seed, self.token_latency_s = host, port, seed, token_latency_s
        self.prefix_check = prefix_check
        self._plan = FaultPlan(parse_faults(faults), seed)
        self.batches = Batches(self, clock)
        self._ids = count(1)
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start listening. Raises ConfigurationError if the port is taken or it is already running."""
        if self._thread is not None:
            raise ConfigurationError("emulator: it is running already (stop it first)")
        try:
            family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
            listener = socket.create_server((self.host, self.port), family=family, backlog=_BACKLOG)
        except OSError as error:
            why = os.strerror(error.errno) if error.errno else str(error)
            raise ConfigurationError(
                f"emulator: cannot listen on {self.host}:{self.port}: {why} (stop what listens there, or give another port)"
            ) from error
        self.port = listener.getsockname()[1]
        ready = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(listener, ready)), name=f"cascade-emulator-{self.port}", daemon=True
        )
        self._thread.start()
        ready.wait(_STOP_S)

    def stop(self) -> None:
        """Close all connections and end the thread. May be called twice. `requests` and `billed` stay readable."""
        thread, self._thread = self._thread, None
        if thread is None or self._loop is None or self._stopping is None:
            return
        with suppress(RuntimeError):  # the loop is closed: the thread has ended by itself
            self._loop.call_soon_threadsafe(self._stopping.set)
        thread.join(_STOP_S)

    @property
    def base_url(self) -> str:
        """The address to give to clients, without `/v1`."""
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"

    @property
    def faults(self) -> tuple[Fault, ...]:
        """The faults. Setting them restarts all counts and choices."""
        return self._plan.faults

    @faults.setter
    def faults(self, faults: str | Iterable[Fault] | None) -> None:
        self._plan = FaultPlan(parse_faults(faults), self.seed)

    @property
    def requests(self) -> tuple[SeenRequest, ...]:
        """The last 10,000 requests, oldest first."""
        return self.records.seen

    @property
    def requests_by_model(self) -> Mapping[str, int]:
        """How many valid requests for a message each model got, those that met a fault among them."""
        return self.records.by_model

    @property
    def raw_requests(self) -> tuple[RawRequest, ...]:
        """The last `keep_requests` requests, byte for byte, oldest first."""
        return self.records.raw

    @property
    def billed(self) -> Billed:
        """What was billed so far: every whole reply, and of a broken-off one the usage in its first event.

        Of a stream whose client went away, the output tokens that had been written are billed.
        """
        return self.records.billed

    @property
    def open_connections(self) -> int:
        """How many clients are connected."""
        return self.records.open_now("connection")

    @property
    def open_replies(self) -> int:
        """How many replies to POST /v1/messages are not over yet, streams and others.

        Like the other two it is true a moment after a client has seen the end.
        """
        return self.records.open_now("reply")

    @property
    def open_streams(self) -> int:
        """How many streams are being written."""
        return self.records.open_now("stream")

    @property
    def closed_early(self) -> tuple[ClosedEarly, ...]:
        """The last 10,000 streams whose client went away, oldest first.

        Without a latency a stream is written at once, so that nobody can close it early.
        """
        return self.records.closed_early

    def note(self, request: SeenRequest) -> None:
        """Record a received request (called by connections)."""
        self.records.note(request)

    def bill(self, model: str, usage: Usage, *, whole: bool) -> None:
        """Bill a reply (called by connections). `whole` is false if it broke off."""
        self.records.bill(model, usage, whole=whole)

    def next_id(self) -> int:
        """A number that is unique to a request (called by connections)."""
        return next(self._ids)

    def choose_fault(self, model: str, place: Place = "messages") -> Fault | None:
        """The fault of the next request to `model` there, if any (called by connections and batches)."""
        return self._plan.choose(model, place)

    async def _serve(self, listener: socket.socket, ready: threading.Event) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        tasks: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(Connection(self, reader, writer).run())
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        server = await asyncio.start_server(accept, sock=listener, backlog=_BACKLOG)
        ready.set()
        await self._stopping.wait()
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()
