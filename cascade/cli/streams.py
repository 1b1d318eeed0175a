"""Standard streams that are closed, that nobody reads any more, or that a full disk stands behind."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from typing import TextIO

__all__ = ["PIPE_CLOSED", "is_closed_pipe", "open_missing", "say_unwritable", "settle", "unwritable"]

PIPE_CLOSED = 141
"""The exit code of a command whose reader left before its end (`… | head -1`): what shells see where SIGPIPE ends one."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def open_missing() -> None:
    """Give a command that was started without a standard stream (`>&-`) one that leads nowhere."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            setattr(sys, name, os.fdopen(nowhere, "w", encoding="utf-8", closefd=False))


def is_closed_pipe(problem: BaseException | None) -> bool:
    """Whether it is a reader who left, also where rich or click made an exit of it."""
    return isinstance(problem, BrokenPipeError) or (
        isinstance(problem, SystemExit)
        and isinstance(problem.__context__, OSError)
        and is_closed_pipe(problem.__context__)
    )


def unwritable(problem: OSError) -> bool:
    """Whether the disk behind a stream took no more. Of a file with a name the command itself says it."""
    return problem.errno in _FULL and problem.filename is None


def say_unwritable(problem: OSError) -> int:
    """One line, and the exit code."""
    sys.stderr.write(f"cascade: the result cannot be written: {problem.strerror}\n")
    return 1


def settle(code: int) -> int:
    """Write out what is still to be written, so that the interpreter finds nothing to complain of; the exit code."""
    for stream in _streams():
        try:
            stream.flush()
        except OSError as problem:
            _lead_nowhere(stream)
            if unwritable(problem) and stream is sys.stdout and not code:
                code = say_unwritable(problem)
    return code


def _streams() -> Iterator[TextIO]:
    yield sys.stdout
    yield sys.stderr


def _lead_nowhere(stream: TextIO) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
