"""Flush files and folder entries to the disk."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["sync_file", "sync_folder"]


def sync_file(path: Path) -> None:
    """Flush a file to the disk, whoever wrote it. Raises OSError if that fails."""
    descriptor = os.open(path, os.O_RDWR)  # some systems cannot sync a file opened for reading only
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Flush a folder to the disk: only then is a new file's name durable. Raises OSError if that fails."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # some systems cannot open folders
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
