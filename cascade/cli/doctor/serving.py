"""`cascade doctor --deep --gateway URL`: a gateway as its callers and Prometheus see it. Nothing is sent that goes upstream to a model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import SplitResult, urlsplit
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

from cascade.cli.doctor.findings import Finding
from cascade.core.errors import ConfigurationError
from cascade.telemetry.declared import METRICS

__all__ = ["gateway_findings"]

_TIMEOUT_S = 5.0
_MOST_BYTES = 8 * 1024 * 1024
_LOOPBACK = ("127.", "localhost", "[::1]")
_VIRTUAL = "claude-cascade-"


class _Stay(HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        """A key goes where it was given for, and nowhere else."""


def gateway_findings(url: str, key: str | None) -> list[Finding]:
    """What a gateway at this address says. Raises ConfigurationError for what is no address."""
    parts = urlsplit(url)
    if "@" in parts.netloc:
        raise ConfigurationError("--gateway: without user and password (its key goes into CASCADE_GATEWAY_KEY)")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or not _has_port(parts):
        raise ConfigurationError(f"--gateway: {url!r} is not an address (write http://127.0.0.1:8484)")
    base = url.rstrip("/").removesuffix("/v1")
    try:
        return list(_findings(base, key))
    except (URLError, HTTPException, OSError, ValueError) as problem:
        reason = getattr(problem, "reason", None) or type(problem).__name__
        return [
            Finding(
                "gateway",
                "missing",
                f"{base}: {reason}",
                "start it (cascade serve), or correct --gateway",
                blame="upstream",
            )
        ]


def _has_port(parts: SplitResult) -> bool:
    """Whether its port, if it names one, is a number that ports have."""
    try:
        return parts.port != 0
    except ValueError:
        return False


def _get(base: str, path: str, key: str | None) -> tuple[int, bytes]:
    request = Request(base + path)  # noqa: S310 - http or https, checked before
    if key is not None:
        request.add_header("authorization", f"Bearer {key}")
    try:
        with build_opener(_Stay, ProxyHandler()).open(request, timeout=_TIMEOUT_S) as response:
            return response.status, response.read(_MOST_BYTES)
    except HTTPError as refused:
        with refused:
            return refused.code, refused.read(_MOST_BYTES)


def _findings(base: str, key: str | None) -> Iterator[Finding]:
    status, body = _get(base, "/healthz", key)
    health: Any = json.loads(body) if status == 200 else {}
    if status != 200 or "status" not in health:
        yield Finding(
            "gateway",
            "missing",
            f"{base}: /healthz says {status}: this is no gateway of cascade",
            "correct --gateway",
            blame="upstream",
        )
        return
    yield Finding("gateway", "ok", f"{base}: {health['status']}")
    needs_key = _get(base, "/v1/models", None)[0] == 401
    yield _access(base, needs_key=needs_key)
    if needs_key and key is None:
        yield Finding(
            "gateway's parts",
            "warning",
            "not looked at: it wants a key",
            "put one of its keys into CASCADE_GATEWAY_KEY",
        )
        return
    if needs_key and "policies" not in health:
        yield Finding(
            "gateway's key", "missing", "CASCADE_GATEWAY_KEY is not accepted", "make one: cascade serve keys create"
        )
        return
    yield from _parts(health)
    yield _models(base, key)
    yield _metrics(base, key)


def _access(base: str, *, needs_key: bool) -> Finding:
    if needs_key:
        return Finding("gateway's access", "ok", "with a key alone")
    if (urlsplit(base).hostname or "").startswith(_LOOPBACK):
        return Finding("gateway's access", "ok", "without a key, from this machine alone")
    return Finding(
        "gateway's access",
        "missing",
        "anybody who reaches it may spend your money",
        "make a key at once: cascade serve keys create",
    )


def _parts(health: Any) -> Iterator[Finding]:
    for part in ("ledger", "state"):
        problem = health[part]["problem"]
        found = f"{health[part]['address']}: {problem or 'reached'}"
        to_do = f"the gateway cannot reach its {part}: see the address that it was given" if problem else ""
        yield Finding(f"gateway's {part}", "missing" if problem else "ok", found, to_do)
    for name, one in health["policies"].items():
        problem = one["problem"]
        found = problem or f"{one['hash'][:12]}, loaded anew {one['reloads']} times"
        yield Finding(
            f"gateway's policy {name}",
            "warning" if problem else "ok",
            found,
            "cascade policy check FILE" if problem else "",
        )


def _models(base: str, key: str | None) -> Finding:
    status, body = _get(base, "/v1/models", key)
    listed: list[Any] = json.loads(body).get("data", []) if status == 200 else []
    climbing = [one["id"] for one in listed if one["id"].startswith(_VIRTUAL)]
    if not climbing:
        return Finding(
            "gateway's models", "missing", f"/v1/models says {status}", "see the gateway's log", blame="upstream"
        )
    if len(climbing) == len(listed):
        return Finding(
            "gateway's models",
            "warning",
            f"{', '.join(climbing)}; none of the endpoint's",
            "the gateway cannot list them: see its key, and models_not_listed in its log",
        )
    return Finding("gateway's models", "ok", f"{', '.join(climbing)}; {len(listed) - len(climbing)} of the endpoint")


def _metrics(base: str, key: str | None) -> Finding:
    status, body = _get(base, "/metrics", key)
    if status != 200:
        return Finding(
            "gateway's metrics",
            "warning",
            f"/metrics says {status}",
            "pip install 'cascade-ladder[prometheus]' where it runs",
        )
    text = body.decode("utf-8", "replace")
    absent = [one.name for one in METRICS if f"# HELP {one.name.removesuffix('_total')}" not in text]
    declared = len(METRICS) - len(absent)
    if not declared:
        return Finding(
            "gateway's metrics",
            "missing",
            "none of cascade's metrics are there",
            "it is an older version, or something else answers",
        )
    later = f"; not yet: {', '.join(absent)}" if absent else ""
    return Finding("gateway's metrics", "ok", f"{declared} of {len(METRICS)}{later}")
