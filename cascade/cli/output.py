"""Output of all commands: the result on stdout, everything else on stderr, one line per error.

In a narrow terminal text wraps at words, and a table that does not fit becomes a list (`_PlainTable`). Piped output is not
wrapped.
"""

from __future__ import annotations

import json
import os
import re
import sys
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, TextIO

import structlog
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from cascade.core.errors import ClimbError, ConfigurationError, UncertifiedWarning

__all__ = [
    "configure_logs",
    "escaped",
    "one_line",
    "pairs",
    "print_json",
    "report",
    "stderr",
    "stdout",
    "table",
    "usd",
]

_PIPE_WIDTH = 120  # columns, without a terminal
_BIDI = (*range(0x202A, 0x202F), *range(0x2066, 0x206A))  # these reorder what follows: a text could look like another
_CONTROL_CHARACTERS = {
    code: ascii(chr(code))[1:-1]
    for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, *_BIDI)
    if chr(code) not in "\n\t"
}
_IN_ONE_LINE = {**_CONTROL_CHARACTERS, ord("\n"): "\\n", ord("\t"): " "}
_HANGING = re.compile(r"\s*(?:\S+\s{2,})?")  # a line's indent and label


class _Plain(Console):
    """Prints text without markup and with control characters escaped; with `wraps` it wraps at words."""

    wraps: bool = False

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(
            *(self.fitted(escaped(one)) if isinstance(one, str) else one for one in objects),
            **options,
        )

    def fitted(self, text: str) -> str:
        """The text wrapped to the width, with a hanging indent."""
        if not self.wraps:
            return text
        return "\n".join(_wrapped(line, self.width) for line in text.split("\n"))


def escaped(text: str) -> str:
    """The text with control characters shown, not obeyed, but for line breaks and tabs."""
    return text.translate(_CONTROL_CHARACTERS)


def one_line(text: str) -> str:
    """The same in one line: a text in the middle of a line cannot make up another."""
    return text.translate(_IN_ONE_LINE)


def _wrapped(line: str, width: int) -> str:
    if len(line) <= width:
        return line
    start = _HANGING.match(line)
    indent = start.end() if start and start.end() < width // 2 else 0
    # Ids and paths stay whole, so that they can be copied.
    return textwrap.fill(
        line,
        width,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
        replace_whitespace=False,
    )


class _PlainTable(Table):
    """A table with one line per row: line breaks and control characters in cells are escaped.

    If it is wider than the terminal, its heads wrap at words; if it still does not fit, it is printed as a list.
    """

    heading: str | None = None

    def add_row(self, *cells: Any, **options: Any) -> None:
        super().add_row(*(one_line(cell) if isinstance(cell, str) else cell for cell in cells), **options)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self.heading is not None:
            yield Text(console.fitted(self.heading) if isinstance(console, _Plain) else self.heading, style="bold")
        heads = [str(column.header) for column in self.columns]
        cells = [[str(cell) for cell in column.cells] for column in self.columns]
        available = options.max_width - 2 * (len(heads) - 1)  # two spaces between columns
        if sum(max(map(cell_len, (head, *own))) for head, own in zip(heads, cells, strict=True)) > available:
            least = [
                max(map(cell_len, (*head.split(), *(own if column.justify == "right" else " ".join(own).split()), "")))
                for column, head, own in zip(self.columns, heads, cells, strict=True)
            ]
            if sum(least) > available:
                numbered = all(cell[:1].isdigit() for cell in cells[0])
                if heads[0] and not numbered:
                    yield Text(heads[0], style="dim")
                for row in zip(*cells, strict=True):
                    name = f"{heads[0]} {row[0]}" if numbered else row[0]
                    yield from _entry(name, heads[1:], row[1:], options.max_width)
                return
            for column, width in zip(self.columns, least, strict=True):
                if column.justify == "right":
                    column.width = width
        yield from super().__rich_console__(console, options)


def _entry(name: str, heads: Sequence[str], values: Sequence[str], width: int) -> Iterator[Text]:
    """A row as a list entry: its name, then heads with values, as many per line as fit."""
    yield Text(name)
    line = ""
    for head, value in zip(heads, values, strict=True):
        if value:
            pair = f"{head} {value}".strip()
            if line and cell_len(line) + cell_len(pair) + 3 > width:
                yield Text(_wrapped(line, width))
                line = ""
            line = f"{line} · {pair}" if line else f"  {pair}"
    if line:
        yield Text(_wrapped(line, width))


def _console(stream: TextIO, *, stderr: bool) -> Console:
    # readline exports COLUMNS and LINES together to child processes; COLUMNS alone was set by a user.
    wraps = stream.isatty() or ("COLUMNS" in os.environ and "LINES" not in os.environ)
    width = None if wraps else _PIPE_WIDTH
    made = _Plain(stderr=stderr, highlight=False, markup=False, soft_wrap=True, width=width)
    made.wraps = wraps
    return made


stdout = _console(sys.stdout, stderr=False)
stderr = _console(sys.stderr, stderr=True)


def configure_logs() -> None:
    """Send structlog's events to stderr, one JSON object per line. Only the command line does this, never the library.

    UncertifiedWarning is off: commands print the certificate's state themselves.
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
    """Print the result as JSON on stdout."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def report(error: Exception, code: int, *, as_json: bool) -> int:
    """Print an error and its notes on stderr, one line each, or as one JSON object; returns the exit code."""
    message = " ".join((error.format_message() if hasattr(error, "format_message") else str(error)).split())  # type: ignore[attr-defined]
    notes: list[str] = list(getattr(error, "__notes__", ()))
    text = "".join(f"cascade: {line}\n" for line in (message, *notes))
    if type(error).__name__ == "NoArgsIsHelpError":  # `cascade batch`: the message is the help, of many lines
        text = f"{error}\n"
    if as_json:
        body: dict[str, Any] = {"error": type(error).__name__, "message": message, "exit_code": code}
        if notes:
            body["more"] = notes
        if isinstance(error, ClimbError):
            body |= {"cost_usd": error.cost_usd, "steps": [step.to_dict() for step in error.steps]}
        text = json.dumps(body, ensure_ascii=False) + "\n"
    with suppress(BrokenPipeError):  # the exit code reports it too
        sys.stderr.write(text)
    return code


def pairs(texts: Sequence[str], option: str) -> tuple[tuple[str, str], ...]:
    """Parse NAME=VALUE texts. Raises ConfigurationError, naming the option."""
    parted = [text.partition("=") for text in texts]
    for (name, _, value), text in zip(parted, texts, strict=True):
        if not name or not value:
            raise ConfigurationError(f"{option} {text}: must be NAME=VALUE")
    return tuple((name, value) for name, _, value in parted)


def table(*columns: str, title: str | None = None, right: Sequence[str] = ()) -> Table:
    """A plain table; the columns named in `right` are right-aligned."""
    made = _PlainTable(box=None, pad_edge=False, header_style="dim")
    made.heading = title and escaped(title)
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return made


def usd(nano: int) -> str:
    """Nano-USD as text in USD."""
    return f"{nano / 1e9:.6f}" if nano else "0"
