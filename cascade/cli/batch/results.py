"""`cascade batch results`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path

from cascade.batch.items import ItemStore
from cascade.batch.runs import find_run, remove_run
from cascade.cli.output import print_json, stderr
from cascade.core.errors import ConfigurationError

__all__ = ["run_results"]


def run_results(name: str, out: Path | None, *, remove: bool, as_json: bool) -> None:
    """Write the lines of the inputs that are done."""
    run = find_run(name)
    store = ItemStore(run.folder, read_only=True)
    try:
        counts = store.counts()
        left = counts.items - counts.done
        if remove and left:
            raise ConfigurationError(
                f"--remove: {left} of {counts.items} inputs of {name} are not done (cascade batch resume {name} --wait)"
            )
        if remove and out is None:
            raise ConfigurationError(
                "--remove: name a file for the results with -o (what reads standard output may stop early, and the answers"
                " would be gone)"
            )
        if as_json and out is None:
            raise ConfigurationError(
                "--json: name a file for the results with -o, since they go to standard output otherwise"
            )
        lines = (line for _, line in store.lines() if line is not None)
        if out is None:
            _write(sys.stdout.buffer.fileno(), lines)
        else:
            _replace(out, lines)
    finally:
        store.close()
    if remove:
        remove_run(run)
    if as_json:
        print_json({"run": name, "out": str(out), "items": counts.items, "written": counts.done, "removed": remove})
    elif left:
        stderr.print(
            f"{counts.done} of {counts.items} inputs are done; the others are not in it (cascade batch resume {name})"
        )
    elif out is not None:
        stderr.print(f"{out!s}: {counts.done} lines{'; the run is removed' if remove else ''}")


def _replace(out: Path, lines: Iterable[bytes]) -> None:
    """Write a file as a whole: another process sees the old one or the new one. A device or a pipe is written to as it is."""
    if out.exists() and not (out.is_file() or out.is_dir()):
        _write_to(out, lines)
        return
    made = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            _write(descriptor, lines)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        made.replace(out)
    except BaseException as error:  # Ctrl-C too: it holds answers
        made.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        raise ConfigurationError(f"{out}: cannot be written: {error.strerror or error} (check the path)") from error


def _write_to(out: Path, lines: Iterable[bytes]) -> None:
    try:
        descriptor = os.open(out, os.O_WRONLY)
    except OSError as error:
        raise ConfigurationError(f"{out}: cannot be written: {error.strerror or error} (check the path)") from error
    try:
        _write(descriptor, lines)
    finally:
        os.close(descriptor)


def _write(descriptor: int, lines: Iterable[bytes]) -> None:
    with os.fdopen(os.dup(descriptor), "wb") as file:
        for line in lines:
            file.write(line)
            file.write(b"\n")
