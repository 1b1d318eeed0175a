"""What must be on the disk before something else may happen: a file that was written, and the name it was given."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["sync_file", "sync_folder"]


def sync_file(path: Path) -> None:
    """Have what was written to a file, by whomever, on the disk. Raises OSError where that cannot be."""
    descriptor = os.open(path, os.O_RDWR)  # not every system syncs a file that is open for reading only
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """A new file's name is on the disk only when its folder is. Raises OSError where that cannot be."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # not every system opens folders
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
