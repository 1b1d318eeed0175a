"""The name of a batch run that belongs to a folder: unique to the account, and the same after a restart."""

from __future__ import annotations

import secrets
from pathlib import Path

from cascade.batch.database import make_folder

__all__ = ["run_of"]


def run_of(folder: Path, kind: str) -> str:
    """The run's name, as the folder has it; a new one where it has none. Raises ConfigurationError if it cannot be made."""
    path = folder / "run"
    if not path.exists():
        make_folder(folder)
        new = path.with_name(f"run.{secrets.token_hex(4)}")
        new.write_text(f"{kind}-{secrets.token_hex(8)}", "ascii")
        new.replace(path)  # as a whole, or not at all
    return path.read_text("ascii").strip()
