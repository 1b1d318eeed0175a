"""Write a policy's file, and show what changed in it."""

from __future__ import annotations

import difflib
import os
import stat
from pathlib import Path

from cascade.core.errors import PolicyError

__all__ = ["diff_of", "write_policy"]


def write_policy(path: str | os.PathLike[str], text: str) -> None:
    """Replace the file atomically, keeping its permissions. Raises PolicyError."""
    target = Path(os.path.realpath(path))  # a link stays a link
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else None
        try:
            with draft.open("xb") as file:
                if mode is not None:
                    draft.chmod(mode)
                file.write(text.encode())
                file.flush()
                os.fsync(file.fileno())
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as problem:
        reason = f"cannot be written: {problem.strerror or problem}"
        raise PolicyError(reason, where=os.fspath(path), hint="check the path and its permissions") from problem


def diff_of(before: str, after: str, name: str) -> str:
    """The changes as a unified diff; empty if there are none."""
    lines = difflib.unified_diff(_lines(before), _lines(after), name, name)
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def _lines(text: str) -> list[str]:
    """Split at line feeds only: str.splitlines also breaks at characters that are part of a line."""
    *lines, last = text.split("\n")
    return [f"{line}\n" for line in lines] + ([last] if last else [])
