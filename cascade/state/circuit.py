"""The connection to Redis: one script per call, a short time-out, no retry, and a circuit breaker.

After a failure the circuit is open and nobody waits: every `retry_s` a single caller tries again. Opening and closing are
logged once each, as `state_down` and `state_back`.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit

from cascade.core.errors import ConfigurationError, MissingExtra
from cascade.forks import renew_in_children
from cascade.logs import log_event

__all__ = ["RedisConnection", "Script"]


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua file of this package. It is read once, and sent once to each server."""

    name: str
    text: str = field(init=False, repr=False)
    digest: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        text = (files("cascade.state") / self.name).read_text(encoding="utf-8")
        object.__setattr__(self, "text", text)
        object.__setattr__(self, "digest", hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


class RedisConnection:
    """One process's connections to one server. Safe between threads, and made again after a fork.

    `clock`: seconds from any origin. `timeout_s` limits each step of a call: connecting, sending, the reply. Raises
    ConfigurationError if the address is invalid, MissingExtra if redis-py is not installed. No error and no event holds a
    password.
    """

    def __init__(self, url: str, policy: str, clock: Callable[[], float], timeout_s: float, retry_s: float) -> None:
        self._url, self._policy, self._clock = url, policy, clock
        self._timeout_s, self._retry_s = timeout_s, retry_s
        try:
            from redis import RedisError  # noqa: PLC0415 - an extra
            from redis.exceptions import NoScriptError  # noqa: PLC0415
        except ImportError:
            raise MissingExtra("a state in Redis", "redis") from None
        self._failures = (RedisError, OSError)
        self._no_script: type[Exception] = NoScriptError
        self.renew_lock()
        try:
            self._client = self._connect()
        except (ValueError, TypeError) as problem:
            raise ConfigurationError(
                f"state: {self.shown_address} is not a Redis address ({type(problem).__name__};"
                " use redis://host:6379/0, rediss://… or unix:///path)"
            ) from None
        renew_in_children(self)

    @property
    def shown_address(self) -> str:
        """The address without user, password or options."""
        parts = urlsplit(self._url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

    @property
    def is_down(self) -> bool:
        """Whether the last call failed."""
        return self._retry_at is not None

    def renew_lock(self) -> None:
        """For `forks`: a child must not use its parent's sockets, so it makes its own connection."""
        self._lock = threading.Lock()
        self._retry_at: float | None = None
        self._client: Any = None

    def _connect(self) -> Any:
        from redis import Redis  # noqa: PLC0415
        from redis.backoff import NoBackoff  # noqa: PLC0415
        from redis.retry import Retry  # noqa: PLC0415

        return Redis.from_url(  # pyright: ignore[reportUnknownMemberType]
            self._url,
            socket_timeout=self._timeout_s,
            socket_connect_timeout=self._timeout_s,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )

    def run(self, script: Script, keys: Sequence[str], arguments: Sequence[str | int]) -> Any:
        """The script's reply: one round trip (two if the script is new to the server). None: the server is down."""
        if not self._may_try():
            return None
        try:
            with self._lock:
                client = self._client = self._client or self._connect()
            sent = (*map(_encode, keys), *map(_encode, arguments))
            try:
                reply = client.evalsha(script.digest, len(keys), *sent)
            except self._no_script:
                reply = client.eval(script.text, len(keys), *sent)
        except self._failures as problem:
            self._fail(problem)
            return None
        self._succeed()
        return reply

    def ping(self) -> str | None:
        """The type of error that keeps the server from being reached; None: it answers. Closes the connection."""
        try:
            self._client.ping()
        except self._failures as problem:
            return type(problem).__name__
        finally:
            self.close()
        return None

    @contextmanager
    def asking(self) -> Generator[tuple[Any, tuple[type[Exception], ...]]]:
        """The client itself, and the errors by which a call of it fails; for those who look at the server. Closes the connection."""
        try:
            yield self._client, self._failures
        finally:
            self.close()

    def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            self._client.close()

    def _may_try(self) -> bool:
        with self._lock:
            if self._retry_at is None:
                return True
            now = self._clock()
            if now < self._retry_at:
                return False
            self._retry_at = now + self._retry_s  # the other callers do not wait
            return True

    def _fail(self, problem: Exception) -> None:
        with self._lock:
            first = self._retry_at is None
            self._retry_at = self._clock() + self._retry_s
        if first:
            log_event(
                "warning",
                "state_down",
                policy=self._policy,
                state=self.shown_address,
                problem=type(problem).__name__,
                hint="this process goes on alone, with its own guard and what it was granted of hard budgets; check the"
                " server, and user and password in its address (run `cascade doctor`)",
            )

    def _succeed(self) -> None:
        if not self.is_down:
            return
        with self._lock:
            back, self._retry_at = self.is_down, None
        if back:
            log_event("info", "state_back", policy=self._policy, state=self.shown_address)


def _encode(value: str | int) -> bytes | int:
    """Text as bytes: a task or a workflow may contain an unpaired surrogate, which strict UTF-8 refuses."""
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
