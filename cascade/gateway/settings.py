"""What the gateway is started with. Frozen values; workers get them as JSON."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal
from urllib.parse import urlsplit

from cascade.core.errors import ConfigurationError

__all__ = ["UPSTREAM", "VIRTUAL", "Auth", "GatewaySettings", "Limits", "Route", "parse_route", "upstream_of"]

Auth = Literal["key", "forward"]
"""Whose credentials go upstream: the gateway's own (`ANTHROPIC_API_KEY`), or the caller's."""

UPSTREAM = "https://api.anthropic.com"
VIRTUAL = "claude-cascade-"
"""The prefix of the models that climb: `claude-cascade-<policy>`. Claude Code only lists names that begin with `claude`."""


@dataclass(frozen=True, slots=True)
class Route:
    """Requests for models whose name matches `pattern` (as file names do: `claude-opus-*`) climb by `policy`."""

    pattern: str
    policy: str

    def matches(self, model: str) -> bool:
        """Whether it applies to a model."""
        return fnmatchcase(model, self.pattern)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one caller may take. Bytes, seconds and counts.

    `body`, `headers`: bytes of a request's body and of its head. `concurrency`: requests at a time in one process; those
    beyond it are told to come again (529). `head_s`: in which the head must have arrived; `body_s`: between two pieces of
    the body; `write_s`: in which the caller must take a piece of the response, or it loses its upstream connection.
    `connect_s`: to reach the endpoint; `read_s`: between two pieces of its response. `grace_s`: what running requests get
    at shutdown.
    """

    body: int = 32 * 1024 * 1024
    headers: int = 64 * 1024
    concurrency: int = 1_000
    head_s: float = 10.0
    body_s: float = 30.0
    write_s: float = 30.0
    connect_s: float = 10.0
    read_s: float = 600.0
    grace_s: float = 30.0


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """What `cascade serve` is started with. `ping_s`: seconds between two pings while a stream has nothing to say. `dashboard`: whether its pages are served."""

    policies: tuple[str, ...] = ("default",)
    routes: tuple[Route, ...] = ()
    host: str = "127.0.0.1"
    port: int = 8484
    workers: int = 1
    upstream: str = UPSTREAM
    auth: Auth = "key"
    ledger: str | None = None
    state: str | None = None
    ping_s: float = 5.0
    reload_s: float = 1.0
    dashboard: bool = True
    limits: Limits = field(default_factory=Limits)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values, for workers."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> GatewaySettings:
        """What `to_dict` wrote."""
        routes = tuple(Route(**route) for route in values["routes"])
        changed: dict[str, Any] = {
            "policies": tuple(values["policies"]),
            "routes": routes,
            "limits": Limits(**values["limits"]),
        }
        return cls(**{**values, **changed})


def parse_route(text: str) -> Route:
    """`PATTERN=POLICY`. Raises ConfigurationError for anything else."""
    pattern, is_split, policy = text.partition("=")
    if not is_split or not pattern.strip() or not policy.strip():
        raise ConfigurationError(
            f"--route {text!r}: write PATTERN=POLICY, for example --route 'claude-opus-*=default' (quoted, for the shell)"
        )
    return Route(pattern.strip(), policy.strip())


def upstream_of(given: str | None) -> str:
    """The endpoint's address: the one given, else `CASCADE_UPSTREAM`, else Anthropic's. Raises ConfigurationError if it is none.

    `ANTHROPIC_BASE_URL` is not read: callers set it to the gateway's own address, and the gateway would call itself.
    """
    named = given or os.environ.get("CASCADE_UPSTREAM") or UPSTREAM
    try:
        parts = urlsplit(named)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
        parts = urlsplit("")
    if not is_address or parts.query or parts.fragment or parts.username or parts.password:
        where = "--upstream" if given else "CASCADE_UPSTREAM"
        raise ConfigurationError(
            f"{where}: this is not an endpoint's address (write it without key and without /v1, such as {UPSTREAM})"
        )
    return named.rstrip("/").removesuffix("/v1")
