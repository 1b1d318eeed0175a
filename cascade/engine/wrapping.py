"""`wrap`: a client of the SDK whose `messages` climb, and whose other resources are the client's own."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

from cascade.engine.drivers import AsyncCascade, Cascade

__all__ = ["wrap"]

_Client = TypeVar("_Client")


def wrap(client: _Client, policy: Any = None, **options: Any) -> _Client:
    """A copy of a client of the SDK, sync or async, whose `messages` climb; the client itself is unchanged.

        client = cascade.wrap(anthropic.Anthropic())
        message = client.messages.create(model="claude-cascade-default", max_tokens=500, messages=[…])
        message.cascade.rung

    `policy` and `options` are those of Cascade. `client.cascade` is the driver; closing the copy closes it, and the
    connections, which both share. Its `with_options` and `copy` climb as well, on the same policy, ledger and state. All else
    is the client's own, `beta` included: `client.beta.messages` does not climb. The copy is of the client's own class.
    Raises ConfigurationError if it is no client of the SDK, or climbs already.
    """
    from cascade.claude.messages import is_async  # noqa: PLC0415 - it imports the SDK

    kind = AsyncCascade if is_async(client) else Cascade
    return _climbing(client, kind(policy, client=client, **options))


def _climbing(client: Any, driver: Cascade | AsyncCascade) -> Any:
    """The copy. What it has of its own stands before its class's methods and before what the SDK computes once."""
    climbing = copy.copy(client)

    def copied(**changes: Any) -> Any:
        other = client.copy(**changes)
        return _climbing(other, driver.on(other))

    own: dict[str, Any] = climbing.__dict__
    own.update(
        messages=driver.messages, cascade=driver, copy=copied, with_options=copied, close=_closing(client, driver)
    )
    for name in ("with_raw_response", "with_streaming_response"):
        own.pop(name, None)  # made of the client's own messages, if it was used before
    return climbing


def _closing(client: Any, driver: Cascade | AsyncCascade) -> Any:
    if isinstance(driver, Cascade):

        def close() -> None:
            driver.close()
            client.close()

        return close

    async def aclose() -> None:
        await driver.aclose()
        await client.close()

    return aclose
