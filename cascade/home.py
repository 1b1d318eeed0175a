"""Where things are kept on this machine: `CASCADE_HOME`, else `~/.cascade`."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["home"]


def home() -> Path:
    """The folder of the ledger, the mode's switch and the cache. It need not be there yet."""
    named = os.environ.get("CASCADE_HOME")
    return Path(named).expanduser() if named else Path.home() / ".cascade"
