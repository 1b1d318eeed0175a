"""Headers: which of the caller's go upstream, which of the endpoint's come back, and our own, `x-cascade-*`.

A hop-by-hop header belongs to one connection and is never passed on (RFC 9110, 7.6.1). `accept-encoding` is narrowed to what
the gateway can read itself, because the usage must be read out of the response.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache

from cascade.gateway.problems import Problem

__all__ = ["OWN", "Incoming", "read_headers", "response_headers"]

OWN = "x-cascade-"

_HOP_BY_HOP = frozenset(
    {
        b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te", b"trailer",
        b"transfer-encoding", b"upgrade",
    }
)  # fmt: skip
_NOT_FORWARDED = _HOP_BY_HOP | {b"host", b"content-length", b"expect"}
_OWN = OWN.encode()
_VERSION = ("anthropic-version", "2023-06-01")
_NO_CODINGS = "identity"
_READABLE = frozenset({"gzip", "x-gzip", "deflate", "identity"})

_RawHeaders = Iterable[tuple[bytes, bytes]]


@dataclass(slots=True)
class Incoming:
    """A request's headers, sorted out.

    `forwarded`: those that go upstream, without credentials. `own`: `x-cascade-*` by the rest of the name.
    """

    forwarded: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    own: dict[str, str] = field(default_factory=dict[str, str])
    authorization: str = ""
    api_key: str = ""

    @property
    def token(self) -> str:
        """The caller's credential, by whichever header it came."""
        scheme, _, token = self.authorization.partition(" ")
        return token.strip() if scheme.lower() == "bearer" else self.api_key

    def with_version(self) -> Incoming:
        """These headers; with a version of the API where the caller named none, without which its endpoint answers nothing."""
        if any(name == _VERSION[0] for name, _ in self.forwarded):
            return self
        return replace(self, forwarded=[*self.forwarded, _VERSION])

    def credentials(self) -> list[tuple[str, str]]:
        """The caller's own credentials, as they came."""
        pairs = (("authorization", self.authorization), ("x-api-key", self.api_key))
        return [(name, value) for name, value in pairs if value]

    def with_key(self, key: str) -> list[tuple[str, str]]:
        """The gateway's key, in the header that this caller's version of the API uses."""
        return [("authorization", f"Bearer {key}")] if self.authorization else [("x-api-key", key)]


def read_headers(raw: _RawHeaders) -> Incoming:
    """Sort out a request's headers; their names are lower-case. Raises Problem for one that is not UTF-8."""
    found, dropped = Incoming(), _NOT_FORWARDED
    for name, value in raw:
        if name == b"connection" and value.lower() not in (b"keep-alive", b"close"):
            dropped = dropped | {one.strip().lower() for one in value.split(b",")}
    try:
        for name, value in raw:
            if name in dropped:
                continue
            if name.startswith(_OWN):
                found.own[name[len(_OWN) :].decode("ascii")] = value.decode()
            elif name == b"authorization":
                found.authorization = value.decode()
            elif name == b"x-api-key":
                found.api_key = value.decode()
            elif name == b"accept-encoding":
                found.forwarded.append(("accept-encoding", _readable(value.decode())))
            else:
                found.forwarded.append((name.decode("ascii"), value.decode()))
    except UnicodeDecodeError:
        raise Problem(400, "headers: one of them is not UTF-8 text (send names in ASCII, values in UTF-8)") from None
    return found


@lru_cache(maxsize=256)
def _readable(codings: str) -> str:
    kept = [one for one in codings.split(",") if one.partition(";")[0].strip().lower() in _READABLE]
    return ",".join(kept).strip() or _NO_CODINGS


def response_headers(raw: _RawHeaders, *own: tuple[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    """The endpoint's headers that go to the caller, and our own."""
    kept = [
        (name, value) for name, value in raw if name.lower() not in _HOP_BY_HOP and not name.lower().startswith(_OWN)
    ]
    kept.extend(own)
    return kept
