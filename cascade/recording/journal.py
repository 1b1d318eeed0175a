"""The write-ahead journal of a recording: every call is recorded before it is made, and every outcome as it arrives.

JSON lines beside the corpus. Line 1, the head, holds hashes of what must not change (inputs, ladder, baseline). Each
further line is the start of a call with an upper bound of its cost (`most`), or an outcome: a paid reply, a failure with
its cost, a judgement, a grouping of answers by meaning (`grouped`), a review of an answer (`reviewed`) or the result of an external check (`checked`). `cost` is what the call costs live; through
a batch it was `paid` less. A killed run loses nothing that had arrived: an unfinished last line is dropped, and only its
call is made again. A call without an outcome may have been paid, so its upper bound counts toward the cap.

One fsync per call: the one for its start also covers every outcome written before it.
"""

from __future__ import annotations

import asyncio
import glob
import json
import os
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Self, cast

from cascade.core.errors import CorpusError
from cascade.disk import sync_folder, try_lock

__all__ = ["Journal", "JournalInUse", "journal_path", "paid_for", "part_journals", "part_path"]

_VERSION = 2
_NAMES = {"inputs": "the inputs", "ladder": "the policy's ladder or triage", "baseline": "the baseline"}


def journal_path(corpus: str | os.PathLike[str]) -> Path:
    """The path of a corpus's journal, beside it."""
    path = Path(corpus)
    return path.with_name(f"{path.name}.journal")


def part_path(corpus: str | os.PathLike[str], part: str) -> Path:
    """The path of the journal of a part of a recording, which a worker writes, beside the corpus's own."""
    path = journal_path(corpus)
    return path.with_name(f"{path.name}.{part}")


def part_journals(corpus: str | os.PathLike[str]) -> tuple[Path, ...]:
    """The journals of parts that are there, by name."""
    path = journal_path(corpus)
    return tuple(sorted(path.parent.glob(f"{glob.escape(path.name)}.*")))


class JournalInUse(CorpusError):
    """Another process has the journal open."""


@dataclass
class Journal:
    """An open journal and its entries. Made by `Journal.open`. A context manager.

    `replies` by (item, respondent), of a sample also its variant, number and prompt's hash; `judged`, `grouped`, `reviewed` and `checked`
    by their keys; `failures` in order. `unanswered`: calls without an
    outcome, by number; right after `open` these are calls of killed runs. `asking`: by key, to be held from the look into the
    journal until the entry is there: items that are recorded at once may ask for the same, which is paid once.
    """

    path: Path
    descriptor: int
    replies: dict[tuple[str | int, ...], dict[str, Any]] = field(
        default_factory=dict[tuple[str | int, ...], dict[str, Any]]
    )
    judged: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    grouped: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    reviewed: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    checked: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    failures: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    unanswered: dict[int, dict[str, Any]] = field(default_factory=dict[int, dict[str, Any]])
    asking: defaultdict[str, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))
    _calls: int = 0
    _unsynced: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def open(cls, path: Path, head: Mapping[str, str]) -> Self:
        """Open or create the journal at `path`. `head`: the hashes `inputs`, `ladder` and `baseline`.

        Raises CorpusError if it has other hashes, is damaged, is in use, or cannot be written.
        """
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as error:
            problem = f"cannot be written: {error.strerror or error}"
            raise CorpusError(problem, where=f"{path}", hint="check the path and its permissions") from error
        journal = cls(path, descriptor)
        try:
            _lock(descriptor, path)
            journal._resume(head)
        except BaseException:
            journal.close()
            raise
        return journal

    def _resume(self, head: Mapping[str, str]) -> None:
        content = self.path.read_bytes()
        complete = content[: content.rfind(b"\n") + 1]
        if len(complete) != len(content):  # a kill in the middle of a write: nothing acted upon its last line
            os.ftruncate(self.descriptor, len(complete))
            os.fsync(self.descriptor)
        lines = _decoded(complete, self.path)
        first = next(lines, None)
        if first is None:
            self.append({"journal": "cascade record", "version": _VERSION, **head})
            sync_folder(self.path.parent)
            return
        if first.get("journal") != "cascade record" or first.get("version") != _VERSION:
            hint = "move it away, or record under another name"
            raise CorpusError("is not a journal of this version of `cascade record`", where=f"{self.path}:1", hint=hint)
        changed = [_NAMES.get(key, key) for key in head if first.get(key) != head[key]]
        if changed:
            raise CorpusError(
                f"was begun with other settings: {' and '.join(changed)} changed since", where=f"{self.path}",
                hint="use the same settings, or record under another name; the journal keeps the paid replies",
            )  # fmt: skip
        for entry in lines:
            self._add(entry)

    def _add(self, entry: dict[str, Any]) -> None:
        self.unanswered.pop(entry.get("call", 0), None)
        if "most" in entry:
            self.unanswered[entry["open"]] = entry
            self._calls = max(self._calls, entry["open"])
        elif "judged" in entry:
            self.judged[entry["judged"]] = entry
        elif "failure" in entry:
            self.failures.append(entry)
        elif "grouped" in entry:
            self.grouped[entry["grouped"]] = entry
        elif "reviewed" in entry:
            self.reviewed[entry["reviewed"]] = entry
        elif "checked" in entry:
            self.checked[entry["checked"]] = entry
        elif "item" in entry:
            self.replies[_reply_key(entry)] = entry

    def holds(self, entry: Mapping[str, Any]) -> bool:
        """Whether there is an outcome of the same call or check."""
        for name in ("judged", "grouped", "reviewed", "checked"):
            if name in entry:
                return entry[name] in getattr(self, name)
        return _reply_key(entry) in self.replies

    @property
    def spent(self) -> int:
        """The cost of all outcomes, in nano-USD; of prompts that have changed since, too."""
        paid = (
            self.replies.values(),
            self.judged.values(),
            self.grouped.values(),
            self.reviewed.values(),
            self.failures,
        )
        return sum(map(paid_for, chain(*paid)))

    def open_call(self, item: str, ask: str, most: int, *, key: str | None = None) -> int:
        """Record that a call is about to be made that costs at most `most` nano-USD. Its outcome has the number as `call`.

        On return this line and all before it are on the disk; with `key`, the call's within a batch, only after `sync`. Raises
        CorpusError as `append` does.
        """
        with self._lock:
            number = self._calls + 1
            line: dict[str, Any] = {"open": number, "item": item, "ask": ask, "most": most}
            self._write(line if key is None else {**line, "key": key}, sync=key is None)
        return number

    def append(self, entry: dict[str, Any], *, sync: bool = True) -> None:
        """Write one line. On return it survives a kill of the process, and with `sync` a power cut too.

        Thread-safe. Raises CorpusError if it cannot be written.
        """
        with self._lock:
            self._write(entry, sync=sync)

    def adopt(self, part: Journal) -> None:
        """Add what a worker's journal holds, and this one does not. On return it is on the disk; adopting it again adds nothing."""
        outcomes = (part.replies, part.grouped, part.reviewed, part.checked, part.judged)
        for entry in chain(*(one.values() for one in outcomes)):
            if not self.holds(entry):
                self.append({name: value for name, value in entry.items() if name != "call"}, sync=False)
        known = {entry.get("from") for entry in chain(self.failures, self.unanswered.values())}
        for number, entry in enumerate(part.failures):
            if (origin := f"{part.path.name}, failure {number}") not in known:
                kept = {name: value for name, value in entry.items() if name != "call"}
                self.append({**kept, "from": origin}, sync=False)
        for number, entry in part.unanswered.items():
            if (origin := f"{part.path.name}, call {number}") not in known:
                self.append({**entry, "open": self._calls + 1, "from": origin}, sync=False)
        self.sync()

    def sync(self) -> None:
        """Put all lines on the disk. Raises CorpusError as `append` does."""
        with self._lock:
            if self._unsynced:
                self._put(b"", sync=True)

    def _write(self, entry: dict[str, Any], *, sync: bool) -> None:
        self._put(json.dumps(entry, ensure_ascii=False, allow_nan=False).encode() + b"\n", sync=sync)
        self._add(entry)

    def _put(self, line: bytes, *, sync: bool) -> None:
        left = memoryview(line)
        try:
            while left:
                left = left[os.write(self.descriptor, left) :]
            self._unsynced = True
            if sync:
                os.fsync(self.descriptor)
                self._unsynced = False
        except OSError as error:
            if 0 < len(left) < len(line):  # what follows, once there is room, must not be joined to a part of this line
                os.ftruncate(self.descriptor, os.fstat(self.descriptor).st_size - (len(line) - len(left)))
            problem = f"cannot be written: {error.strerror or error}"
            raise CorpusError(problem, where=f"{self.path}", hint="make room, then run it again") from error

    def remove(self) -> None:
        """Delete the file, once the corpus holds everything and is on the disk."""
        self.path.unlink(missing_ok=True)

    def close(self, *, delete_empty: bool = False) -> None:
        """Close and unlock the file. `delete_empty`: delete it if it has no entries."""
        if self.descriptor >= 0:
            paid = (self.replies, self.judged, self.grouped, self.reviewed, self.failures, self.unanswered)
            kept = (*paid, self.checked)
            if delete_empty and not any(kept):
                self.path.unlink(missing_ok=True)
            os.close(self.descriptor)
            self.descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def paid_for(entry: Mapping[str, Any]) -> int:
    """What an outcome's call was paid, in nano-USD: its cost, or what it was at the prices of batches."""
    return entry.get("paid", entry["cost"])


def _reply_key(entry: Mapping[str, Any]) -> tuple[str | int, ...]:
    if "variant" not in entry:
        return entry["item"], entry["ask"]
    return entry["item"], entry["ask"], entry["variant"], entry["n"], entry["prompt"]


def _decoded(complete: bytes, path: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(complete.splitlines(), start=1):
        try:
            entry: object = json.loads(line)
        except ValueError:
            entry = None
        if not isinstance(entry, dict):
            hint = "restore it, or delete the line: its call is then made again"
            raise CorpusError("is damaged", where=f"{path}:{number}", hint=hint)
        yield cast("dict[str, Any]", entry)


def _lock(descriptor: int, path: Path) -> None:
    """Raise JournalInUse if somebody has it open, or has deleted it between our opening and locking it."""
    if not try_lock(descriptor) or not os.fstat(descriptor).st_nlink:
        hint = "wait for it, or record under another name"
        raise JournalInUse("another `cascade record` is using it", where=f"{path}", hint=hint)
