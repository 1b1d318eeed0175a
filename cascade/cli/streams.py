"""Standard streams that are missing, closed by their reader, or on a full disk."""

from __future__ import annotations

import errno
import os
import sys
from typing import TextIO

__all__ = ["PIPE_CLOSED", "flush_streams", "is_closed_pipe", "open_missing", "report_unwritable", "unwritable"]

PIPE_CLOSED = 141
"""The exit code when the reader of stdout has gone (`… | head -1`): the same as after SIGPIPE."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def open_missing() -> None:
    """Open the null device for each standard stream that the command was started without (`>&-`)."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            setattr(sys, name, os.fdopen(nowhere, "w", encoding="utf-8", closefd=False))


def is_closed_pipe(problem: BaseException | None) -> bool:
    """Whether the error is a broken pipe, also one that rich or click turned into SystemExit."""
    return isinstance(problem, BrokenPipeError) or (
        isinstance(problem, SystemExit)
        and isinstance(problem.__context__, OSError)
        and is_closed_pipe(problem.__context__)
    )


def unwritable(problem: OSError) -> bool:
    """Whether writing to a stream failed for want of space. Errors that name a file are the command's own."""
    return problem.errno in _FULL and problem.filename is None


def report_unwritable(problem: OSError) -> int:
    """Report it in one line; returns the exit code."""
    sys.stderr.write(f"cascade: the result cannot be written: {problem.strerror}\n")
    return 1


def flush_streams(code: int) -> int:
    """Flush the streams, so that the interpreter reports no error at exit; returns the exit code."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as problem:
            _discard(stream)
            if unwritable(problem) and stream is sys.stdout and not code:
                code = report_unwritable(problem)
    return code


def _discard(stream: TextIO) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
