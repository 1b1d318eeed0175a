"""The keys of a gateway: read from where the ledger is, looked up by their id, made and revoked by commands.

A gateway reads them again every half second, so that a revoked key is refused within a second by all workers and gateways
that share a ledger.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal

from cascade.core.errors import ConfigurationError, LedgerError
from cascade.gateway.keys.values import Key, id_of, make_key
from cascade.ledger.gateway import GatewayTables
from cascade.ledger.stores import LedgerDown
from cascade.logs import log_event

__all__ = ["KeyRing"]

_UNNAMED = "unnamed"  # what a key is called whose maker gave no name: there may be several


class KeyRing:
    """The keys at a ledger's address. `wall`: Unix seconds."""

    def __init__(self, tables: GatewayTables, wall: Callable[[], float] = time.time) -> None:
        self._tables, self._wall = tables, wall
        self._keys: Mapping[str, Key] = {}
        self._failing = False

    @property
    def is_empty(self) -> bool:
        """Whether there has never been a key: a gateway whose keys are all revoked admits nobody."""
        return not self._keys

    def read(self) -> None:
        """Read the keys. Raises LedgerError if that fails."""
        try:
            documents = self._tables.keys()
        except LedgerDown as problem:
            raise LedgerError(str(problem)) from None
        self._keys = {key.id: key for key in map(_key_of, documents)}

    def refresh(self) -> None:
        """Read them again. If that fails, those that are known stay in force; it is logged once."""
        try:
            self.read()
        except LedgerError as problem:
            if not self._failing:
                self._failing = True
                hint = "the keys known so far stay in force; a revoked one may be among them"
                log_event("error", "keys_not_read", problem=str(problem), hint=hint)
            return
        self._failing = False

    def find(self, token: str) -> Key | None:
        """The key that this is; None if it is none, or is revoked."""
        number = id_of(token)
        key = self._keys.get(number) if number is not None else None
        return key if key is not None and key.fits(token) else None

    def all(self) -> Sequence[Key]:
        """All keys, revoked ones too, in the order of their making."""
        return tuple(self._keys.values())

    def create(self, name: str, *, policy: str | None = None, daily_usd: Decimal | None = None) -> tuple[str, Key]:
        """Make a key, and store what is stored of it. Raises LedgerError if that fails, ConfigurationError if its name is in use."""
        self.read()
        if name != _UNNAMED and any(key.name == name and key.revoked is None for key in self.all()):
            raise ConfigurationError(
                f"--name {name}: there is an active key of this name (give another, or revoke that one: cascade serve keys list)"
            )
        token, key = make_key(name, self._wall(), policy=policy, daily_usd=daily_usd)
        self._put(key)
        return token, key

    def revoke(self, wanted: str) -> Key:
        """Revoke the key with this id or name. Raises ConfigurationError if there is not exactly one."""
        self.read()
        found = [key for key in self.all() if key.id == wanted or (key.name == wanted and key.revoked is None)]
        found = [key for key in found if key.id == wanted] or found
        if len(found) != 1:
            problem = "there is no such key" if not found else f"{len(found)} keys have this name"
            raise ConfigurationError(f"key {wanted[:80]!r}: {problem} (give its id: cascade serve keys list)")
        key = found[0] if found[0].revoked is not None else replace(found[0], revoked=self._wall())
        self._put(key)
        return key

    def _put(self, key: Key) -> None:
        try:
            self._tables.put_key(key.id, key.created, json.dumps(key.to_dict(), ensure_ascii=False))
        except LedgerDown as problem:
            raise LedgerError(str(problem)) from None
        self._keys = {**self._keys, key.id: key}


def _key_of(document: str) -> Key:
    try:
        return Key.from_dict(json.loads(document))
    except (ValueError, TypeError, KeyError, ArithmeticError):
        raise LedgerError(
            "a stored key cannot be read (its row in gateway_keys is damaged: restore a backup)"
        ) from None
