"""Answers in Redis, which many processes and machines share. Redis removes them itself, when they have expired.

    cascade:answer:KEY          the answer
    cascade:answer-of:REQUEST   the key of the answer that was made for a request, for `erase`

`max_entries` does not apply: set Redis's `maxmemory` and an eviction policy such as allkeys-lru, in a database of its own.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

from cascade.core.errors import ConfigurationError, MissingExtra
from cascade.response_cache.stores import Stored, StoreDown

__all__ = ["RedisAnswers"]

_TIMEOUT_S = 0.25
_PREFIX = b"cascade:answer:"
_PREFIX_OF = b"cascade:answer-of:"


class RedisAnswers:
    """The store in Redis. `where`, and every error, is without a password.

    Raises ConfigurationError if the address is invalid, MissingExtra if redis-py is not installed. It connects at its first use.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        parts = urlsplit(url)
        self.where = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        try:
            from redis import RedisError  # noqa: PLC0415 - an extra
        except ImportError:
            raise MissingExtra("a response cache in Redis", "redis") from None
        self._failures = (RedisError, OSError)
        self._client: Any = None
        try:
            self._client = self._connect()
        except (ValueError, TypeError) as problem:
            raise ConfigurationError(
                f"cache: {self.where} is not a Redis address ({type(problem).__name__}; use redis://host:6379/0, rediss://…"
                " or unix:///path)"
            ) from None

    def _connect(self) -> Any:
        from redis import Redis  # noqa: PLC0415
        from redis.backoff import NoBackoff  # noqa: PLC0415
        from redis.retry import Retry  # noqa: PLC0415

        return Redis.from_url(  # pyright: ignore[reportUnknownMemberType]
            self._url,
            socket_timeout=_TIMEOUT_S,
            socket_connect_timeout=_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )

    def get(self, key: bytes, now: float) -> bytes | None:  # noqa: ARG002 - Redis goes by its own clock
        """As `AnswerStore.get`."""
        with self._used() as client:
            return client.get(_name(key))

    def put(self, stored: Stored, now: float) -> None:
        """As `AnswerStore.put`."""
        left_ms = max(1, int((stored.until - now) * 1000))
        with self._used() as client, client.pipeline(transaction=False) as pipe:
            pipe.set(_name(stored.key), stored.value, px=left_ms)
            pipe.set(_name_of(stored.request), stored.key, px=left_ms)
            pipe.execute()

    def erase(self, requests: Sequence[str]) -> int:
        """As `AnswerStore.erase`."""
        removed = 0
        with self._used() as client:
            for request in requests:
                key = client.getdel(_name_of(request))
                removed += client.delete(_name(key)) if key is not None else 0
        return removed

    def ping(self) -> None:
        """As `AnswerStore.ping`."""
        with self._used() as client:
            client.ping()

    def close(self) -> None:
        """As `AnswerStore.close`."""
        client, self._client = self._client, None
        if client is not None:
            with suppress(*self._failures):
                client.close()

    def renew(self) -> None:
        """As `AnswerStore.renew`."""
        self._client = None

    @contextmanager
    def _used(self) -> Generator[Any]:
        try:
            if self._client is None:
                self._client = self._connect()
            yield self._client
        except self._failures as error:
            raise StoreDown(type(error).__name__) from None


def _name(key: bytes) -> bytes:
    return _PREFIX + key.hex().encode()


def _name_of(request: str) -> bytes:
    return _PREFIX_OF + request.encode("utf-8", "surrogatepass")
