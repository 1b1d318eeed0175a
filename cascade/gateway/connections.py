"""Connections to the endpoint that relayed requests go to: one aiohttp session for each event loop."""

from __future__ import annotations

import os
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from yarl import URL

from cascade.claude.upstream import upstream_client
from cascade.core.errors import MissingKey
from cascade.gateway.headers import Incoming
from cascade.gateway.settings import GatewaySettings

__all__ = ["Upstream"]

_NOT_ADDED = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")  # headers that aiohttp adds of its own accord
_LARGE = 1 << 20  # above it aiohttp wants a file, and writes it in pieces


class Upstream:
    """The endpoint. Made on the event loop that it is used on; `key` goes with requests unless the caller's own does."""

    def __init__(self, settings: GatewaySettings) -> None:
        limits = settings.limits
        self.base = settings.upstream
        self._forwards = settings.auth == "forward"
        self._key = "" if self._forwards else os.environ.get("ANTHROPIC_API_KEY", "")
        if not self._forwards and not self._key:
            raise MissingKey(
                "ANTHROPIC_API_KEY is not set: the gateway needs a key for its endpoint (set it, or start with --auth forward"
                " and every caller's own key goes upstream)"
            )
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=60),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=limits.connect_s, sock_read=limits.read_s),
            auto_decompress=False,
            proxy=_proxy_for(self.base),
            skip_auto_headers=_NOT_ADDED,
            max_line_size=limits.headers,
            max_field_size=limits.headers,
        )
        self.client = upstream_client(self.base, self._key or None)
        """The SDK's client, for requests that climb."""

    def credentials(self, headers: Incoming) -> list[tuple[str, str]]:
        """The headers that authenticate a request with the endpoint."""
        return headers.credentials() if self._forwards else headers.with_key(self._key)

    def forwarded_credentials(self, headers: Incoming) -> dict[str, str]:
        """The caller's own credentials for a request that climbs, as the SDK sends them; empty where ours go upstream."""
        if not self._forwards or not (token := headers.token):
            return {}
        return {"Authorization": f"Bearer {token}"}

    async def send(
        self, method: str, path: str, query: bytes, headers: Incoming, body: bytes | None = None, **options: Any
    ) -> aiohttp.ClientResponse:
        """Send a request; its response has only its head yet. Raises aiohttp.ClientError or TimeoutError."""
        url = f"{self.base}{path}?{query.decode('ascii')}" if query else self.base + path
        sent: Any = body if body is None or len(body) < _LARGE else BytesIO(body)
        return await self._session.request(
            method,
            URL(url, encoded=True),
            data=sent,
            headers=[*headers.forwarded, *self.credentials(headers)],
            allow_redirects=False,
            **options,
        )

    async def close(self) -> None:
        """Close all connections."""
        await self.client.close()
        await self._session.close()


def _proxy_for(base: str) -> str | None:
    """The proxy that the environment names for this address (`HTTPS_PROXY`, `NO_PROXY` …), as the SDK's client uses it, too.

    It is read once: aiohttp would read the environment, and a file of passwords, at every request.
    """
    parts = urlsplit(base)
    return None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)
