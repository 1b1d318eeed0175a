"""`cascade serve keys create | list | revoke`."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from cascade.cli.output import print_json, stderr, stdout, table
from cascade.core.errors import ConfigurationError
from cascade.gateway.keys.ring import KeyRing
from cascade.gateway.keys.values import Key
from cascade.ledger.gateway import GatewayTables

__all__ = ["run_create", "run_list", "run_revoke"]

_MOST_USD = Decimal(1_000_000)
_LONGEST_NAME = 64


def run_create(name: str, policy: str | None, daily_usd: str | None, ledger: str | None, *, as_json: bool) -> None:
    """Make a key; stdout gets the key, which nobody sees again."""
    if not name.strip() or len(name) > _LONGEST_NAME or not name.isprintable():
        raise ConfigurationError(f"--name: give a name of at most {_LONGEST_NAME} printable characters")
    ring = _ring(ledger)
    token, key = ring.create(name, policy=policy, daily_usd=None if daily_usd is None else _usd(daily_usd))
    if as_json:
        print_json({"key": token, **_fields(key)})
        return
    stdout.print(token)
    stderr.print(f"This is key {key.id} ({key.name}). It is not shown again: only its hash is stored.")


def run_list(ledger: str | None, *, as_json: bool) -> None:
    """List the keys, without their digests."""
    ring = _ring(ledger)
    if as_json:
        print_json([_fields(key) for key in ring.all()])
        return
    if ring.is_empty:
        stdout.print("There are no keys: the gateway admits everybody, and listens on loopback alone.")
        return
    shown = table("id", "name", "policy", "USD a day", "made", "revoked")
    for key in ring.all():
        shown.add_row(
            key.id,
            key.name,
            key.policy or "",
            "" if key.daily_usd is None else f"{key.daily_usd}",
            _time(key.created),
            _time(key.revoked),
        )
    stdout.print(shown)


def run_revoke(wanted: str, ledger: str | None, *, as_json: bool) -> None:
    """Revoke a key."""
    key = _ring(ledger).revoke(wanted)
    if as_json:
        print_json(_fields(key))
        return
    stdout.print(f"{key.id} ({key.name}) is revoked: within a second no gateway with this ledger admits it.")


def _ring(ledger: str | None) -> KeyRing:
    ring = KeyRing(GatewayTables(None if ledger == "off" else ledger))
    ring.read()
    return ring


def _fields(key: Key) -> dict[str, Any]:
    return {name: value for name, value in key.to_dict().items() if name != "digest"}


def _time(at: float | None) -> str:
    return "" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")


def _usd(text: str) -> Decimal:
    try:
        usd = Decimal(text)
    except InvalidOperation:
        usd = Decimal(0)
    if not usd.is_finite() or not 0 < usd <= _MOST_USD:
        raise ConfigurationError(f"--daily-usd {text[:40]!r}: give an amount above 0, and at most {_MOST_USD}")
    return usd
