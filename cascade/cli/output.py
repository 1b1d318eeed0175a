"""What all commands share of their output: the result on stdout, everything else on stderr, one line for an error.

Nothing is lost in a narrow terminal: text breaks at words, and a table that does not fit becomes a list (`_PlainTable`). What
is piped is not wrapped.
"""

from __future__ import annotations

import json
import os
import re
import sys
import textwrap
from collections.abc import Iterator, MutableMapping, Sequence
from dataclasses import asdict
from typing import Any, TextIO

import structlog
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from cascade.core.errors import ClimbError
from cascade.core.messages import Usage
from cascade.core.trail import Answer, Step

__all__ = [
    "answer_fields",
    "configure_logs",
    "print_json",
    "report",
    "stderr",
    "stdout",
    "table",
    "trail_table",
    "usd",
]

_PIPE_WIDTH = 120  # columns where there is no terminal to ask
_STEERING = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"}
_HANGING = re.compile(r"\s*(?:\S+\s{2,})?")  # where a line's text begins, after its indent and its label


class _Plain(Console):
    """Prints what users wrote as it is, but for the characters that would steer their terminal; `wraps` at words."""

    wraps: bool = False

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(
            *(self.fitted(one.translate(_STEERING)) if isinstance(one, str) else one for one in objects), **options
        )

    def fitted(self, text: str) -> str:
        """The text in lines that fit, each going on below where its text began."""
        if not self.wraps:
            return text
        return "\n".join(_wrapped(line, self.width) for line in text.split("\n"))


def _wrapped(line: str, width: int) -> str:
    if len(line) <= width:
        return line
    start = _HANGING.match(line)
    indent = start.end() if start and start.end() < width // 2 else 0
    # An id or a path stays whole, to be copied.
    return textwrap.fill(
        line,
        width,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
        replace_whitespace=False,
    )


class _PlainTable(Table):
    """A row stays a row, whatever stands in its cells.

    Where it is wider than the terminal, its heads break at words; where that does not suffice it becomes a list, an
    entry a row.
    """

    heading: str | None = None

    def add_row(self, *cells: Any, **options: Any) -> None:
        plain = {**_STEERING, ord("\n"): "\\n", ord("\t"): " "}
        super().add_row(*(cell.translate(plain) if isinstance(cell, str) else cell for cell in cells), **options)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self.heading is not None:
            yield Text(console.fitted(self.heading) if isinstance(console, _Plain) else self.heading, style="bold")
        heads = [str(column.header) for column in self.columns]
        cells = [[str(cell) for cell in column.cells] for column in self.columns]
        room = options.max_width - 2 * (len(heads) - 1)  # two columns between
        if sum(max(map(cell_len, (head, *own))) for head, own in zip(heads, cells, strict=True)) > room:
            least = [
                max(map(cell_len, (*head.split(), *(own if column.justify == "right" else " ".join(own).split()), "")))
                for column, head, own in zip(self.columns, heads, cells, strict=True)
            ]
            if sum(least) > room:
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
    """A row as a list: its name, and below it each head with its value, as many in a line as fit."""
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
    # readline exports COLUMNS and LINES to every child of a Python that has loaded it: no user asked for that width.
    asks = stream.isatty() or ("COLUMNS" in os.environ and "LINES" not in os.environ)
    # No markup: what users wrote is printed as it is.
    width = None if asks else _PIPE_WIDTH
    made = _Plain(stderr=stderr, highlight=False, markup=False, soft_wrap=True, width=width)
    made.wraps = asks
    return made


stdout = _console(sys.stdout, stderr=False)
stderr = _console(sys.stderr, stderr=True)


def configure_logs() -> None:
    """Send structlog's events to stderr, one JSON object a line. Only the command line does this, never the library."""
    structlog.configure(
        processors=[
            _said_anyway,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def _said_anyway(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Drop what a command says itself: each is a process of its own, and would be warned of its policy each time."""
    if event.get("event") == "uncertified":
        raise structlog.DropEvent
    return event


def print_json(value: Any) -> None:
    """The result as JSON on stdout."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def report(error: Exception, code: int, *, as_json: bool) -> int:
    """One line on stderr (or one JSON object) about an error; returns the exit code."""
    message = " ".join((error.format_message() if hasattr(error, "format_message") else str(error)).split())  # type: ignore[attr-defined]
    notes: list[str] = list(getattr(error, "__notes__", ()))
    if as_json:
        body: dict[str, Any] = {"error": type(error).__name__, "message": message, "exit_code": code}
        if notes:
            body["more"] = notes
        if isinstance(error, ClimbError):
            body |= {"cost_usd": error.cost_usd, "steps": [step_fields(step) for step in error.steps]}
        sys.stderr.write(json.dumps(body, ensure_ascii=False) + "\n")
    else:
        more = f" (and {len(notes)} more: --json lists them)" if notes else ""
        sys.stderr.write(f"cascade: {message}{more}\n")
    return code


def table(*columns: str, title: str | None = None, right: Sequence[str] = ()) -> Table:
    """A plain table; the columns named in `right` are right-aligned."""
    made = _PlainTable(box=None, pad_edge=False, header_style="dim")
    made.heading = title and title.translate(_STEERING)
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return made


def usd(nano: int) -> str:
    """Nano-USD for people."""
    return f"{nano / 1e9:.6f}" if nano else "0"


def trail_table(steps: Sequence[Step], shipped: str | None) -> Table:
    """The trail, a row a step: what each rung said, what became of it, what it cost."""
    made = table(
        "step", "rung", "verdict", "confidence", "then", "USD", "model", "attempts", "ms",
        right=("confidence", "USD", "attempts", "ms"),
    )  # fmt: skip
    for number, step in enumerate(steps, start=1):
        verdict = step.verdict
        said = " ".join((verdict.kind, *(f"[{name}]" for name in verdict.failed_checks)))
        said += f" ({verdict.detail})" if verdict.detail else ""
        said += " (repaired)" if verdict.repaired else ""
        confidence = "" if verdict.confidence is None else f"{verdict.confidence:g}"
        made.add_row(
            str(number), step.rung, said, confidence, _became(step, shipped), usd(step.cost), step.model,
            str(step.attempts), f"{step.latency_s * 1e3:.0f}",
        )  # fmt: skip
    return made


def _became(step: Step, shipped: str | None) -> str:
    if step.reason is None:
        return "shipped" if step.rung == shipped else "not shipped"
    return f"up: {step.reason}" + (", held and shipped" if step.rung == shipped else "")


def answer_fields(answer: Answer) -> dict[str, Any]:
    """An answer as `--json` prints it."""
    return {
        "text": answer.text,
        "data": answer.data,
        "rung": answer.rung,
        "model": answer.model,
        "confidence": answer.confidence,
        "confidence_source": answer.confidence_source,
        "degraded": answer.degraded,
        "abstained": answer.abstained,
        "cost_usd": answer.cost_usd,
        "usage": usage_fields(answer.usage),
        "attempts": answer.attempts,
        "latency_s": round(answer.latency_s, 4),
        "request_id": answer.request_id,
        "arm": answer.arm,
        "task": answer.task,
        "flags": sorted(answer.flags),
        "policy": answer.policy,
        "policy_hash": answer.policy_hash,
        "certificate": answer.certificate,
        "steps": [step_fields(step) for step in answer.steps],
    }


def step_fields(step: Step) -> dict[str, Any]:
    """A step as `--json` prints it; without the text, which only the answer carries."""
    return {
        "rung": step.rung,
        "model": step.model,
        "verdict": step.verdict.kind,
        "confidence": step.verdict.confidence,
        "detail": step.verdict.detail,
        "failed_checks": list(step.verdict.failed_checks),
        "repaired": step.verdict.repaired,
        "reason": step.reason,
        "cost_usd": step.cost_usd,
        "usage": usage_fields(step.usage),
        "attempts": step.attempts,
        "latency_s": round(step.latency_s, 4),
        "request_id": step.request_id,
    }


def usage_fields(usage: Usage) -> dict[str, int]:
    """Tokens, by the names `Usage` has for them."""
    return asdict(usage)
