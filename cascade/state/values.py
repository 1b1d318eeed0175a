"""Short values that requests leave for later ones, e.g. which rung asked for a tool; in memory.

Keys are kept as digests, so that neither a tool's id nor a session stands in memory or in Redis as the caller wrote it.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence

from cascade.forks import renew_in_children
from cascade.state.registry import ProcessRegistry

__all__ = ["LocalValues", "digest_of", "process_values"]

_MOST_VALUES = 100_000  # about 30 MB
_DIGEST_BYTES = 16


def digest_of(key: str) -> str:
    """The key as it is kept: half of its SHA-256, in hexadecimal. Two keys do not share one by chance."""
    encoded = key.encode("utf-8", "surrogatepass")  # what a caller names need not be valid UTF-8
    return hashlib.sha256(encoded).digest()[:_DIGEST_BYTES].hex()


class LocalValues:
    """The values of one process: the least recently used goes first when there are too many. Safe between threads.

    `now`: seconds from any origin, the same for all calls.
    """

    def __init__(self, most: int = _MOST_VALUES) -> None:
        self._most = most
        self._held: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self.renew_lock()
        renew_in_children(self)

    def __len__(self) -> int:
        return len(self._held)

    def renew_lock(self) -> None:
        """For `forks`: a child keeps what its parent knew."""
        self._lock = threading.Lock()

    def remember(self, digests: Sequence[str], value: str, ttl_s: float, now: float) -> None:
        """Keep the value under each of these digests, for `ttl_s` seconds."""
        with self._lock:
            for digest in digests:
                self._held[digest] = (value, now + ttl_s)
                self._held.move_to_end(digest)
            while len(self._held) > self._most:
                self._held.popitem(last=False)

    def recall(self, digests: Sequence[str], now: float) -> tuple[int, str] | None:
        """The first of these that is known: its position and its value."""
        with self._lock:
            for position, digest in enumerate(digests):
                found = self._held.get(digest)
                if found is None:
                    continue
                if found[1] <= now:
                    del self._held[digest]
                    continue
                self._held.move_to_end(digest)
                return position, found[0]
        return None


process_values = ProcessRegistry(LocalValues).get
"""The values that this process keeps for a policy's name, at the current home."""
