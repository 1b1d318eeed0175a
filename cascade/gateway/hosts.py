"""Which names mean this machine's loopback, exactly: `localhost.example.com` is somebody else's."""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import ip_address

__all__ = ["is_loopback", "names_loopback"]

_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9A-Za-z.-]+))(?::[0-9]{0,5})?")


def is_loopback(name: str) -> bool:
    """Whether a name or an address is the loopback's: `localhost`, 127.0.0.0/8 or ::1."""
    if name.lower() == "localhost":
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


@lru_cache(maxsize=256)
def names_loopback(host: bytes) -> bool:
    """Whether a `Host` header, with or without a port, is a name of the loopback."""
    found = _HOST.fullmatch(host.decode("latin-1"))
    return found is not None and is_loopback(found.group(1) or found.group(2))
