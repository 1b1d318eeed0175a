"""What `cascade ledger verify | export | tail | erase` do."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import msgspec

from cascade.cli.output import print_json, stderr, stdout, usd
from cascade.cli.times import moment
from cascade.core.errors import ConfigurationError, LedgerError
from cascade.ledger.addresses import reading
from cascade.ledger.exporting import line_of, write_parquet
from cascade.ledger.gathering import gather, with_texts
from cascade.ledger.records import Entry
from cascade.ledger.verifying import Verified, read_heads, verify, write_heads

__all__ = ["ExportWish", "follow", "run_erase", "run_export", "run_tail", "run_verify"]

_SHOWN = 20  # findings that people are told
_POLL_S = 0.5
_UNSAFE = ("cut", "gone", "rewritten")


@dataclass(frozen=True, slots=True)
class ExportWish:
    """What was asked for on the command line."""

    ledger: str | None = None
    output: Path | None = None
    since: str | None = None
    until: str | None = None
    content: bool = False
    force: bool = False


def run_verify(ledger: str | None, heads: Path | None, write_to: Path | None, *, as_json: bool) -> int:
    """Verify; what was found goes to stdout. Exit 3 where it is not sound."""
    against = None if heads is None else read_heads(_read(heads), str(heads))
    with reading(ledger) as reader:
        found = verify(reader, against)
    # Heads of a chain that lost its end must not take the place of those that show it.
    written = write_to is not None and not any(one.kind in _UNSAFE for one in found.findings)
    if write_to is not None and written:
        with _created(write_to, force=True) as file:
            file.write(write_heads(found.heads))
    if as_json:
        fields = {name: getattr(found, name) for name in ("writers", "entries", "texts", "unsettled", "more")}
        listed = [{key: value for key, value in asdict(one).items() if value is not None} for one in found.findings]
        held = {name: msgspec.structs.asdict(head) for name, head in found.heads.items()}
        print_json({"ledger": found.where, "sound": found.is_sound, **fields, "findings": listed, "heads": held})
    else:
        _tell(found)
    if write_to is not None and not written:
        stderr.print(f"{write_to}: not written, for the ledger is not what its heads were taken of")
    return 0 if found.is_sound else 3


def _tell(found: Verified) -> None:
    for one in found.findings[:_SHOWN]:
        stdout.print(one.told)
    count = len(found.findings) + found.more
    if count > _SHOWN:
        stdout.print(f"and {count - _SHOWN:,} more (--json lists {'the first' if found.more else 'them'})")
    looked = f"{found.entries:,} entries of {found.writers:,} writers, {found.texts:,} texts"
    loose = f"; {found.unsettled:,} calls never settled" if found.unsettled else ""
    verdict = "sound" if found.is_sound else f"NOT SOUND, {count:,} findings"
    stdout.print(f"{found.where}: {verdict} ({looked}{loose})")


def run_export(wish: ExportWish, *, as_json: bool) -> None:
    """Export; with a file, stdout says what is in it."""
    now = time.time()
    since, until = (moment(told, now, option) for told, option in ((wish.since, "--since"), (wish.until, "--until")))
    with reading(wish.ledger) as reader, reader.snapshot():
        gathered = gather(reader, since, until)
        if wish.content:
            gathered = with_texts(reader, gathered)
        if wish.output is None:
            for one in gathered:
                sys.stdout.write(line_of(one, content=wish.content).decode())
            return
        steps: int | None = None
        with _created(wish.output, force=wish.force) as file:
            if wish.output.name.endswith(".parquet"):
                requests, steps = write_parquet(gathered, file, content=wish.content)
            else:
                requests = 0
                for requests, one in enumerate(gathered, 1):  # noqa: B007 - counted as they go by
                    file.write(line_of(one, content=wish.content))
    if as_json:
        print_json({"output": str(wish.output), "requests": requests, **({} if steps is None else {"steps": steps})})
    else:
        told = "" if steps is None else f", {steps:,} steps"
        sys.stdout.write(f"{wish.output}: {requests:,} requests{told}\n")


def run_tail(ledger: str | None, count: int, *, follow: bool, as_json: bool) -> None:
    """The last entries; with `follow`, also those to come."""
    with reading(ledger) as reader:
        entries = reader.last(count) if count else ()
        for entry in entries:
            _show(entry, as_json=as_json)
        if follow:
            after = max((entry.id for entry in entries or reader.last(1)), default=0)
            for entry in follow_entries(lambda after: reader.entries(after=after), after, lambda: time.sleep(_POLL_S)):
                _show(entry, as_json=as_json)


def follow_entries(ask: Callable[[int], Iterator[Entry]], after: int, pause: Callable[[], object]) -> Iterator[Entry]:
    """What is added from now on; `pause` is called when there is nothing new."""
    while True:
        for entry in ask(after):
            after = entry.id
            yield entry
        sys.stdout.flush()
        pause()
