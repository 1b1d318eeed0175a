"""The name of a batch run that belongs to a folder: unique to the account, and the same after a restart."""

from __future__ import annotations

import os
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
        try:
            os.link(new, path)  # as a whole, or not at all; of two processes the first one's name stays
        except FileExistsError:
            pass
        except OSError:  # a file system without links
            new.replace(path)
        new.unlink(missing_ok=True)
    return path.read_text("ascii").strip()
