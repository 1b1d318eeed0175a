"""Files that several processes may use, and that must be durable: flushing them and their folders, and locking."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["sync_file", "sync_folder", "try_lock", "unlock"]


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


def try_lock(descriptor: int) -> bool:
    """Lock an open file for this process alone; False if another one holds it. It ends with the descriptor.

    Where the system has no such locks (they are POSIX's), it is always True.
    """
    try:
        import fcntl  # noqa: PLC0415 - POSIX only
    except ImportError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def unlock(descriptor: int) -> None:
    """Let others lock the file. Closing it is not enough where a process was forked meanwhile: that one has the descriptor too."""
    try:
        import fcntl  # noqa: PLC0415 - POSIX only
    except ImportError:
        return
    fcntl.flock(descriptor, fcntl.LOCK_UN)
