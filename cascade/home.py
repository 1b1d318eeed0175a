"""The folder for data on this machine: `CASCADE_HOME`, else `~/.cascade`."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["home"]


def home() -> Path:
    """The folder of the ledger, the mode switch and the cache. It need not exist yet."""
    named = os.environ.get("CASCADE_HOME")
    return Path(named).expanduser() if named else Path.home() / ".cascade"
