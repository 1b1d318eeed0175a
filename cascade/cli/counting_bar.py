"""How far a count is: a bar on stderr, of a terminal only, gone at its end."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from cascade.cli.output import escaped, stderr

__all__ = ["CountingBar"]


class CountingBar:
    """Says what is done with a corpus, and how many items of it were read. `verb`: such as "replaying"."""

    def __init__(self, verb: str) -> None:
        self._verb = verb
        self._shown: tuple[Progress, TaskID] | None = None

    @contextmanager
    def over(self, path: Path) -> Generator[None]:
        """Show the bar while a corpus is counted."""
        bar = Progress(
            TextColumn(f"{self._verb} {escape(escaped(path.name))}"), BarColumn(), TextColumn("{task.completed:,.0f} items"),
            TimeElapsedColumn(), TextColumn("{task.description}"),
            console=stderr, transient=True, disable=not stderr.is_terminal,
        )  # fmt: skip
        with bar:
            self._shown = bar, bar.add_task("", total=None)
            try:
                yield
            finally:
                self._shown = None

    def tell(self, what: str) -> None:
        """Say what begins."""
        if self._shown is not None:
            bar, task = self._shown
            bar.update(task, description=what)

    def show(self, done: int, total: int | None) -> None:
        """Say how many items were read, and how many there are."""
        if self._shown is not None:
            bar, task = self._shown
            bar.update(task, completed=done, total=total)
