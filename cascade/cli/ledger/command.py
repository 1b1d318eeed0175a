"""`cascade ledger verify | export | tail | erase`."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import msgspec
from rich.progress import Progress, TextColumn, TimeElapsedColumn

from cascade.cli.output import pairs, print_json, stderr, stdout, usd
from cascade.cli.reading import reading_behind
from cascade.core.errors import ConfigurationError, LedgerError
from cascade.costs import read_moment
from cascade.ledger.exporting import line_of, write_parquet
from cascade.ledger.reading import reading
from cascade.ledger.records import Entry
from cascade.ledger.requests import gather, with_texts
from cascade.ledger.utc_months import moment_text
from cascade.ledger.verifying.verification import Verification, read_heads, verify, write_heads
from cascade.response_cache import erase_answers

__all__ = ["ExportOptions", "follow", "run_erase", "run_export", "run_tail", "run_verify"]

_SHOWN = 20  # findings that are printed; --json has them all
_POLL_S = 0.5
_SUMMARY_FIELDS = {
    "request": ("policy", "task", "arm", "metadata"),
    "open": ("rung", "model"),
    "step": ("rung", "sample", "variant", "judge", "verdict", "confidence", "vote", "reason", "cost", "detail"),
    "outcome": ("arm", "rung", "degraded", "abstained", "error", "resolved", "cost"),
}
_NAMED = ("sample", "judge", "confidence", "vote", "reason", "degraded", "abstained", "error", "resolved")
_UNSAFE = ("cut", "gone", "rewritten")


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """The command's arguments."""

    ledger: str | None = None
    output: Path | None = None
    since: str | None = None
    until: str | None = None
    content: bool = False
    force: bool = False

    def period(self) -> tuple[float | None, float | None]:
        """--since and --until in Unix seconds. Raises ConfigurationError."""
        now = time.time()
        return (
            None if self.since is None else read_moment(self.since, now, "--since"),
            None if self.until is None else read_moment(self.until, now, "--until"),
        )


def run_verify(ledger: str | None, heads: Path | None, write_to: Path | None, *, as_json: bool) -> int:
    """Verify, and print the findings on stdout; returns 3 if the ledger is not sound."""
    against = None if heads is None else read_heads(_read(heads), str(heads))
    bar = Progress(
        TextColumn("{task.completed:,.0f} entries"), TimeElapsedColumn(), console=stderr, transient=True,
        disable=not stderr.is_terminal,
    )  # fmt: skip
    with reading_behind(ledger) as reader, bar:
        looking = bar.add_task("", total=None)
        found = verify(reader, against, progress=lambda entries: bar.update(looking, completed=entries))
    # Heads of a truncated chain must not replace those that prove the truncation.
    written = write_to is not None and not any(one.kind in _UNSAFE for one in found.findings)
    if write_to is not None and written:
        with _created(write_to, force=True) as file:
            file.write(write_heads(found.heads))
    if as_json:
        fields = {name: getattr(found, name) for name in ("writers", "entries", "texts", "unsettled", "more")}
        listed = [
            {"told" if key == "message" else key: value for key, value in asdict(one).items() if value is not None}
            for one in found.findings
        ]
        held = {name: msgspec.structs.asdict(head) for name, head in found.heads.items()}
        pruned = {"pruned": found.pruned, "pruned_before": found.pruned_before} if found.pruned else {}
        print_json(
            {"ledger": found.where, "sound": found.is_sound, **fields, **pruned, "findings": listed, "heads": held}
        )
    else:
        _print_findings(found)
    if write_to is not None and not written:
        stderr.print(f"{write_to}: not written, because the ledger does not match its earlier heads")
    return 0 if found.is_sound else 3


def _print_findings(found: Verification) -> None:
    for one in found.findings[:_SHOWN]:
        stdout.print(one.message)
    count = len(found.findings) + found.more
    if count > _SHOWN:
        stdout.print(f"and {count - _SHOWN:,} more (--json lists {'the first' if found.more else 'them'})")
    checked = f"{found.entries:,} entries of {found.writers:,} writers, {found.texts:,} texts"
    unsettled = f"; {found.unsettled:,} calls without a result" if found.unsettled else ""
    if found.pruned_before is not None:
        month = moment_text(found.pruned_before, "%Y-%m")
        unsettled += f"; {found.pruned:,} from before {month} are pruned, their sums stay"
    verdict = "sound" if found.is_sound else f"NOT SOUND, {count:,} findings"
    stdout.print(f"{found.where}: {verdict} ({checked}{unsettled})")


def run_export(options: ExportOptions, *, as_json: bool) -> None:
    """Export to a file and print the counts, or export to stdout."""
    since, until = options.period()
    with reading_behind(options.ledger) as reader, reader.snapshot():
        gathered = gather(reader, since, until)
        if options.content:
            gathered = with_texts(reader, gathered)
        if options.output is None:
            for one in gathered:
                sys.stdout.write(line_of(one, content=options.content).decode())
            return
        steps: int | None = None
        with _created(options.output, force=options.force) as file:
            if options.output.name.endswith(".parquet"):
                requests, steps = write_parquet(gathered, file, content=options.content)
            else:
                requests = 0
                for requests, one in enumerate(gathered, 1):  # noqa: B007 - only counted
                    file.write(line_of(one, content=options.content))
    if as_json:
        print_json({"output": str(options.output), "requests": requests, **({} if steps is None else {"steps": steps})})
    else:
        counted = "" if steps is None else f", {steps:,} steps"
        sys.stdout.write(f"{options.output}: {requests:,} requests{counted}\n")


def run_tail(ledger: str | None, count: int, *, goes_on: bool, as_json: bool) -> None:
    """Print the latest entries and, with `goes_on`, new ones as they come."""
    # A replica may show an entry later than those behind it: whoever goes on would miss it.
    with (reading if goes_on else reading_behind)(ledger) as reader:
        entries = reader.last(max(count, 1))
        for entry in entries[-count:] if count else ():
            _show(entry, as_json=as_json)
        if goes_on:
            seen = entries[-1].id if entries else 0
            for entry in follow(lambda after: reader.entries(after=after), seen, lambda: time.sleep(_POLL_S)):
                _show(entry, as_json=as_json)


def follow(ask: Callable[[int], Iterable[Entry]], after: int, pause: Callable[[], object]) -> Iterator[Entry]:
    """Entries added after the entry with id `after`; `pause` is called whenever there are no more."""
    while True:
        for entry in ask(after):
            after = entry.id
            yield entry
        sys.stdout.flush()
        pause()


def _show(entry: Entry, *, as_json: bool) -> None:
    try:
        body: Any = msgspec.json.decode(entry.body)
    except msgspec.MsgspecError:
        body = {"unreadable": True}
    if as_json:
        head = {"id": entry.id, "at": entry.at, "writer": entry.writer, "seq": entry.seq, "kind": entry.kind}
        sys.stdout.write(msgspec.json.encode({**head, "request": entry.request, "body": body}).decode() + "\n")
        return
    when = moment_text(entry.at, "%Y-%m-%d %H:%M:%S")
    stdout.print(f"{when}  {entry.kind:<7}  {entry.request}  {_summary(entry.kind, body)}")


def _summary(kind: str, body: Any) -> str:
    """The main fields of an entry, in one line."""
    fields = {name: body[name] for name in _SUMMARY_FIELDS[kind] if _is_shown(body.get(name))}
    if "cost" in fields:
        # An estimate: the reply had no usage, or its stream was closed at its first tokens. The row does not say which.
        fields["cost"] = f"{usd(fields['cost'])} USD{' (estimate)' if body.get('is_estimate') else ''}"
    if isinstance(vote := fields.get("vote"), dict):
        fields["vote"] = f"{len(vote['members'])}/{vote['asked']}"  # pyright: ignore[reportUnknownArgumentType]
    if isinstance(named := fields.get("metadata"), dict):
        fields["metadata"] = ",".join(f"{name}={value}" for name, value in named.items())  # pyright: ignore[reportUnknownVariableType]
    return " ".join(f"{name}={value}" if name in _NAMED else str(value) for name, value in fields.items())


def _is_shown(value: object) -> bool:
    """Whether a field says anything; 0 does, and False does not."""
    return value is not None and value is not False and value not in ("", {}, [])


def run_erase(ledger: str | None, where: Sequence[str], *, dry_run: bool, as_json: bool) -> None:
    """Erase the texts of all requests that match, and the answers that the response cache keeps of them; print how many."""
    wanted = dict(pairs(where, "--where"))
    if len(wanted) < len(where):
        raise ConfigurationError("--where: the same name is given twice (run it once for each value)")
    with reading(ledger) as reader:
        requests = reader.find(wanted)
        texts = sum(1 for _ in reader.contents(requests)) if dry_run else reader.erase(requests)
    cache, answers = (None, 0) if dry_run else erase_answers(None, requests)
    if as_json:
        fields = {"ledger": reader.where, "requests": len(requests), "texts": texts, "erased": not dry_run}
        print_json(fields if cache is None else {**fields, "cache": cache, "cached_answers": answers})
        return
    done = "would be removed" if dry_run else "removed"
    stdout.print(f"{reader.where}: {len(requests):,} requests match; {texts:,} texts {done}, all entries stay")
    if answers is None:
        stdout.print(f"{cache}: cannot be used; what it keeps of them stays until it expires (run this again later)")
    elif answers:
        stdout.print(f"{cache}: {answers:,} cached answers removed")


@contextmanager
def _created(path: Path, *, force: bool) -> Generator[IO[bytes]]:
    """Write a file atomically, readable by its owner only."""
    if path.exists() and not force:
        raise ConfigurationError(f"{path}: exists (give another -o, or --force)")
    part = path.with_name(f"{path.name}.part")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            yield file
        part.replace(path)
    except OSError as error:
        raise LedgerError(f"{path}: cannot be written: {error.strerror} (check the path and the disk)") from None
    finally:
        part.unlink(missing_ok=True)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise LedgerError(f"{path}: cannot be read: {error.strerror} (check the path)") from None
