"""Verifiers for the tests: real programs, and a pipe that tells whether one of their processes is still there."""

from __future__ import annotations

import os
import select
import sys
from pathlib import Path
from typing import Literal

from cascade.verifiers import Verifier

PATIENCE_S = 60.0
"""How long a test waits for what should happen at once."""


def program(
    text: str, *arguments: str | Path, extract: Literal["code"] | None = None, env: tuple[str, ...] = ()
) -> Verifier:
    """A Python program as a verifier."""
    return Verifier("test", (sys.executable, "-I", "-S", "-c", text, *map(str, arguments)), extract=extract, env=env)


class Held:
    """A named pipe that a program opens, and that its descendants inherit: its end comes when the last of them has died.

    `HOLD`, before a program's text, opens it (the first argument) as `held`.
    """

    HOLD = "import os, signal, sys, time\nheld = os.open(sys.argv[1], os.O_WRONLY)\n"

    def __init__(self, folder: Path) -> None:
        self.path = folder / "held"
        os.mkfifo(self.path)
        self._reading = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)

    def await_end(self) -> None:
        """Wait for the death of the last writer."""
        piece, waiting = b"more", select.poll()
        waiting.register(self._reading, select.POLLIN)
        while piece:
            assert waiting.poll(PATIENCE_S * 1e3), f"still running after {piece!r}"
            piece = os.read(self._reading, 65536)

    def wait_for(self, word: bytes) -> None:
        """Wait until the program has written the word. It may not even have opened the pipe yet."""
        poll, read = select.poll(), b""
        poll.register(self._reading, select.POLLIN)
        while word not in read:
            assert [event for _, event in poll.poll(1000 * PATIENCE_S) if event & select.POLLIN], f"after {read!r}"
            read += os.read(self._reading, 65536)

    def is_free(self) -> bool:
        """Whether no process has it open for writing, at this moment."""
        while True:
            try:
                if not os.read(self._reading, 65536):
                    return True
            except BlockingIOError:
                return False

    def close(self) -> None:
        """Close our end."""
        os.close(self._reading)
