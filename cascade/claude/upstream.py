"""The SDK's client for a gateway: one endpoint, one event loop, on aiohttp, which takes half the time at many connections."""

from __future__ import annotations

from typing import Any

__all__ = ["upstream_client"]


def upstream_client(base_url: str, api_key: str | None) -> Any:
    """An async client for this endpoint, whatever `ANTHROPIC_BASE_URL` says: that may be the gateway's own address.

    `api_key` None: each request brings its own credentials. Who asks for the client closes it. It is made on the event loop
    that it is used on.
    """
    import anthropic  # noqa: PLC0415 - it takes a second to import

    return anthropic.AsyncAnthropic(
        base_url=base_url, api_key=api_key or "none", max_retries=0, http_client=anthropic.DefaultAioHttpClient()
    )
