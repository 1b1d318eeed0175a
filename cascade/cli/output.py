"""What all commands share of talking: the result on stdout, everything else on stderr, one line for an error."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, TextIO

import structlog
from rich.console import Console
from rich.table import Table

from cascade.core.errors import ClimbError, ConfigurationError, UncertifiedWarning

__all__ = [
    "configure_logs",
    "pairs",
    "print_json",
    "report",
    "stderr",
    "stdout",
    "table",
    "usd",
]

_PIPE_WIDTH = 120  # columns where there is no terminal to ask
_STEERING = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"}


class _Plain(Console):
    """Prints what users wrote as it is, but for the characters that would steer their terminal."""

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*(one.translate(_STEERING) if isinstance(one, str) else one for one in objects), **options)


class _PlainTable(Table):
    """A row stays a row, whatever stands in its cells."""

    def add_row(self, *cells: Any, **options: Any) -> None:
        plain = {**_STEERING, ord("\n"): "\\n", ord("\t"): " "}
        super().add_row(*(cell.translate(plain) if isinstance(cell, str) else cell for cell in cells), **options)


def _console(stream: TextIO, *, stderr: bool) -> Console:
    asks = stream.isatty() or "COLUMNS" in os.environ
    # No markup: what users wrote is printed as it is.
    width = None if asks else _PIPE_WIDTH
    return _Plain(stderr=stderr, highlight=False, markup=False, soft_wrap=True, width=width)


stdout = _console(sys.stdout, stderr=False)
stderr = _console(sys.stderr, stderr=True)


def configure_logs() -> None:
    """Send structlog's events to stderr, one JSON object a line. Only the command line does this, never the library.

    What a command says itself is not warned of: each is a process of its own, and would be warned of its policy each time.
    """
    warnings.simplefilter("ignore", UncertifiedWarning)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def print_json(value: Any) -> None:
    """The result as JSON on stdout."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def report(error: Exception, code: int, *, as_json: bool) -> int:
    """One line on stderr (or one JSON object) about an error, and one for each of its notes; returns the exit code."""
    message = " ".join((error.format_message() if hasattr(error, "format_message") else str(error)).split())  # type: ignore[attr-defined]
    notes: list[str] = list(getattr(error, "__notes__", ()))
    text = "".join(f"cascade: {line}\n" for line in (message, *notes))
    if as_json:
        body: dict[str, Any] = {"error": type(error).__name__, "message": message, "exit_code": code}
        if notes:
            body["more"] = notes
        if isinstance(error, ClimbError):
            body |= {"cost_usd": error.cost_usd, "steps": [step.to_dict() for step in error.steps]}
        text = json.dumps(body, ensure_ascii=False) + "\n"
    with suppress(BrokenPipeError):  # where nobody reads it, the exit code says it still
        sys.stderr.write(text)
    return code


def pairs(texts: Sequence[str], option: str) -> tuple[tuple[str, str], ...]:
    """What was given as NAME=VALUE. Raises ConfigurationError, naming the option."""
    parted = [text.partition("=") for text in texts]
    for (name, _, value), text in zip(parted, texts, strict=True):
        if not name or not value:
            raise ConfigurationError(f"{option} {text}: is not NAME=VALUE")
    return tuple((name, value) for name, _, value in parted)


def table(*columns: str, title: str | None = None, right: Sequence[str] = ()) -> Table:
    """A plain table; the columns named in `right` are right-aligned."""
    made = _PlainTable(
        title=title, box=None, pad_edge=False, title_justify="left", title_style="bold", header_style="dim"
    )
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return made


def usd(nano: int) -> str:
    """Nano-USD for people."""
    return f"{nano / 1e9:.6f}" if nano else "0"
