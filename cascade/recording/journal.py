"""The write-ahead journal of a recording: every call is noted before it goes out, and every reply when it has arrived.

JSON lines beside the corpus. Line 1, the head, holds hashes of what must not change (inputs, ladder, baseline); each
further line is a call that goes out with the most it may cost, or an outcome: a paid reply, a failure with what it was
billed, a judgement. A killed run loses nothing that had arrived: a last line that was cut off by the kill is dropped,
and only its call is made again. A call without an outcome may have been paid: what it may have cost is not forgotten.

One fsync a call: the one that puts a call's note on the disk covers every outcome that was written before it.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, cast

from cascade.core.errors import CorpusError
from cascade.corpora.disk import sync_folder

__all__ = ["Journal", "journal_path"]

_VERSION = 2
_DIGEST = 16  # characters of a hash that a message shows
_WORDS = {"inputs": "the inputs", "ladder": "the policy's ladder or triage", "baseline": "the baseline"}


def journal_path(corpus: str | os.PathLike[str]) -> Path:
    """Where the journal of a corpus lies: beside it."""
    path = Path(corpus)
    return path.with_name(f"{path.name}.journal")


@dataclass
class Journal:
    """An open journal: what it holds so far, and `append`. Made by `Journal.open`; a context manager.

    `replies` by (item, who was asked), `judged` by the judgement's key, `failures` in their order. `unanswered`: calls
    that were let out and have no outcome, by their number; right after `open` those are what a kill left behind.
    """

    path: Path
    descriptor: int
    replies: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict[tuple[str, str], dict[str, Any]])
    judged: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    failures: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    unanswered: dict[int, dict[str, Any]] = field(default_factory=dict[int, dict[str, Any]])
    _calls: int = 0
    _unsynced: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def open(cls, path: Path, head: Mapping[str, str]) -> Self:
        """Open or begin the journal at `path`; `head` names, by `inputs`, `ladder`, `baseline`, what it is a record of.

        Raises CorpusError where it is a record of something else, is damaged, is in use, or cannot be written.
        """
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as error:
            problem = f"cannot be written: {error.strerror or error}"
            raise CorpusError(problem, where=f"{path}", hint="check the path and its rights") from error
        journal = cls(path, descriptor)
        try:
            _claim(descriptor, path)
            journal._resume(head)
        except BaseException:
            journal.close()
            raise
        return journal

    def _resume(self, head: Mapping[str, str]) -> None:
        whole = self.path.read_bytes()
        kept = whole[: whole.rfind(b"\n") + 1]
        if len(kept) != len(whole):  # cut off by a kill in the middle of a write: its reply was never acted upon
            os.ftruncate(self.descriptor, len(kept))
            os.fsync(self.descriptor)
        lines = _decoded(kept, self.path)
        first = next(lines, None)
        if first is None:
            self.append({"journal": "cascade record", "version": _VERSION, **head})
            sync_folder(self.path.parent)
            return
        if first.get("journal") != "cascade record" or first.get("version") != _VERSION:
            hint = "move it away, or record under another name"
            raise CorpusError("it is no journal of this version of `cascade record`", where=f"{self.path}:1", hint=hint)
        changed = [_WORDS.get(key, key) for key in head if first.get(key) != head[key]]
        if changed:
            raise CorpusError(
                f"this recording was begun with other settings: {' and '.join(changed)} changed since", where=f"{self.path}",
                hint="run it as it was begun, or record under another name; the journal keeps what was paid",
            )  # fmt: skip
        for entry in lines:
            self._note(entry)

    def _note(self, entry: dict[str, Any]) -> None:
        self.unanswered.pop(entry.get("call", 0), None)
        if "most" in entry:
            self.unanswered[entry["open"]] = entry
            self._calls = max(self._calls, entry["open"])
        elif "judged" in entry:
            self.judged[entry["judged"]] = entry
        elif "failure" in entry:
            self.failures.append(entry)
        elif "item" in entry:
            self.replies[entry["item"], entry["ask"]] = entry

    def open_call(self, item: str, ask: str, most: int) -> int:
        """Note that a call goes out which costs `most` nano-USD at worst; its number, which its outcome has as `call`.

        When this returns, this note and every line before it are on the disk. Raises CorpusError as `append` does.
        """
        with self._lock:
            number = self._calls + 1
            self._write({"open": number, "item": item, "ask": ask, "most": most}, sync=True)
        return number

    def append(self, entry: dict[str, Any], *, sync: bool = True) -> None:
        """Write one line. When this returns a kill does not lose it, and with `sync` a power cut does not either.

        Safe between threads. Raises CorpusError where it cannot be written.
        """
        with self._lock:
            self._write(entry, sync=sync)

    def sync(self) -> None:
        """Have all lines on the disk. Raises CorpusError where that cannot be."""
        with self._lock:
            if self._unsynced:
                self._put(b"", sync=True)

    def _write(self, entry: dict[str, Any], *, sync: bool) -> None:
        self._put(json.dumps(entry, ensure_ascii=False, allow_nan=False).encode() + b"\n", sync=sync)
        self._note(entry)

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
            problem = f"cannot be written: {error.strerror or error}"
            raise CorpusError(problem, where=f"{self.path}", hint="make room, then run it again") from error

    def remove(self) -> None:
        """The corpus holds it all, and is on the disk: the journal is done with."""
        self.path.unlink(missing_ok=True)

    def close(self, *, forget_empty: bool = False) -> None:
        """Close the file, and let others have it. `forget_empty`: a journal in which nothing stands goes."""
        if self.descriptor >= 0:
            if forget_empty and not (self.replies or self.judged or self.failures or self.unanswered):
                self.path.unlink(missing_ok=True)
            os.close(self.descriptor)
            self.descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _decoded(kept: bytes, path: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(kept.splitlines(), start=1):
        try:
            entry: object = json.loads(line)
        except ValueError:
            entry = None
        if not isinstance(entry, dict):
            hint = "restore it, or take the line out: its call is then made again"
            raise CorpusError("the line is damaged", where=f"{path}:{number}", hint=hint)
        yield cast("dict[str, Any]", entry)


def _claim(descriptor: int, path: Path) -> None:
    try:
        import fcntl  # noqa: PLC0415 - POSIX only; elsewhere two recorders of one corpus are the user's to avoid
    except ImportError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        hint = "wait for it, or record under another name"
        raise CorpusError("another `cascade record` is at work on it", where=f"{path}", hint=hint) from None
