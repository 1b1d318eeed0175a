"""Find the shards of a corpus: the Parquet files of a folder, or those that match a pattern, with the manifest they share.

Files and folders whose names begin with `.` or `_` are left out, and what is being written (`.tmp`, `.crc` …), as Spark and Hive leave
them. Folders such as `month=2026-11` are entered. Whatever else could hide items raises: another folder with Parquet files, a corpus in
another format, a file that is there twice.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from glob import glob
from pathlib import Path
from typing import Any, Final, cast

from cascade.core.errors import CorpusError
from cascade.corpora.decoding import LineError, decode_manifest
from cascade.corpora.encoding import raw_manifest
from cascade.corpora.items import Manifest
from cascade.corpora.parquet import Rows, open_table
from cascade.corpora.sources import Shard, ShardedSource, is_sharded

__all__ = ["Shards", "files_of", "find_files", "find_shards"]

_SUFFIX: Final = ".parquet"
_UNFINISHED: Final = (".tmp", ".temp", ".crc", ".part", ".inprogress", ".crdownload", "~")
_OTHER_FORMATS: Final = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".parq", ".pq", ".parquet.gz")
_COLUMNS: Final = frozenset({"id", "task", "group", "split", "at", "input", "messages", "expected", "extra"})
_TAIL: Final = 1 << 16  # bytes at a file's end that tell two files of one size apart, nearly always


@dataclass(frozen=True, slots=True)
class Shards:
    """A sharded corpus. `manifest`: the one that all share, its `items` the sum of their rows. `columns`: those of any of them."""

    source: ShardedSource
    manifest: Manifest
    columns: frozenset[str]

    @property
    def shards(self) -> tuple[Shard, ...]:
        """The files, ordered by name."""
        return self.source.shards

    @property
    def paths(self) -> tuple[str, ...]:
        """The files' paths."""
        return tuple(shard.path for shard in self.shards)

    @property
    def items(self) -> int:
        """The number of rows of all shards."""
        return sum(shard.rows for shard in self.shards)

    def refuse_changed(self) -> None:
        """Raise CorpusError for a shard that was changed or removed since it was found: figures would be of neither."""
        for shard in self.shards:
            if not shard.is_unchanged():
                raise CorpusError(
                    "was changed or removed while it was read",
                    where=shard.path,
                    hint="wait for its writer; run it again",
                )


def files_of(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """The files that a corpus consists of: its shards, or the path itself. Raises CorpusError."""
    return find_files(path) if is_sharded(path) else (os.fspath(path),)


def find_files(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """The Parquet files of a folder or a pattern, ordered by name. Raises CorpusError if there are none, or one twice."""
    source = os.fspath(path)
    try:
        found = sorted(_in_folder(source, source) if os.path.isdir(source) else _matching(source))  # noqa: PTH112
    except OSError as error:
        problem = f"cannot be read: {error.strerror or error}"
        raise CorpusError(problem, where=error.filename or source, hint="check the path and its permissions") from error
    if not found:
        kind = "has no Parquet file" if os.path.isdir(source) else "matches no Parquet file"  # noqa: PTH112
        raise CorpusError(kind, where=source, hint="name a folder of shards, or a pattern such as 'shards/*.parquet'")
    _refuse_twice(found)
    return tuple(found)


def find_shards(path: str | os.PathLike[str]) -> Shards:
    """The shards of a corpus, their footers read and their manifests compared. One Parquet file is a corpus of one shard.

    Raises CorpusError that names the file for one that is no Parquet corpus, and both files and the key for manifests that differ;
    MissingExtra without pyarrow.
    """
    shards: list[Shard] = []
    first: Manifest | None = None
    columns: frozenset[str] = frozenset()
    for file in files_of(path):
        shard, manifest, own = _read_footer(file)
        columns |= own
        if first is None:
            first = manifest
        elif (differs := _difference(_comparable(first), _comparable(manifest))) is not None:
            raise CorpusError(
                f"its manifest differs from that of {shards[0].path} in {differs!r}",
                where=file,
                hint="only `items` may differ: write the shards with one manifest, or read them as two corpora",
            )
        shards.append(shard)
    assert first is not None  # `find_files` raises for none
    source = ShardedSource(os.fspath(path))
    source.shards = tuple(shards)
    return Shards(source, replace(first, items=sum(shard.rows for shard in shards)), columns)


def _in_folder(folder: str, root: str, entered: frozenset[str] = frozenset()) -> Iterator[str]:
    real = os.path.realpath(folder)
    if real in entered:
        raise CorpusError("leads back to itself", where=folder, hint="remove the link")
    with os.scandir(folder) as entries:
        listing = sorted(entries, key=lambda entry: entry.name)
    for entry in listing:
        if entry.name.startswith((".", "_")):
            continue
        if entry.is_dir():
            if "=" in entry.name:
                yield from _in_folder(entry.path, root, entered | {real})
            elif any(name.endswith(_SUFFIX) for name in _names_below(entry.path)):
                hint = f"name all that is meant: '{os.path.join(root, '**', '*.parquet')}'"  # noqa: PTH118
                raise CorpusError("is a folder with more Parquet files", where=entry.path, hint=hint)
        elif entry.name.endswith(_SUFFIX):
            yield entry.path
        else:
            _refuse_format(entry.path)


def _names_below(folder: str) -> Iterator[str]:
    for _, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith((".", "_"))]
        yield from (name for name in names if not name.startswith((".", "_")))


def _matching(pattern: str) -> Iterator[str]:
    """The files that match; what a pattern matches beside Parquet files is refused, not passed over."""
    for match in glob(pattern, recursive=True):  # noqa: PTH207 - the pattern may be absolute
        name = os.path.basename(match)  # noqa: PTH119
        if name.startswith((".", "_")) or name.endswith(_UNFINISHED):
            continue
        if os.path.isdir(match):  # noqa: PTH112
            if not pattern.rstrip("/").endswith("**"):
                yield from _in_folder(match, match)
        elif name.endswith(_SUFFIX):
            yield match
        elif not pattern.endswith("**"):
            raise CorpusError("matches the pattern, but is no Parquet file", where=match, hint=_PATTERN_HINT)
        else:
            _refuse_format(match)


_PATTERN_HINT: Final = "end the pattern in .parquet"


def _refuse_format(file: str) -> None:
    if file.endswith(_OTHER_FORMATS):
        hint = "shards are Parquet: write it as one, or move it away"
        raise CorpusError("stands among Parquet shards in another format", where=file, hint=hint)


def _refuse_twice(files: Sequence[str]) -> None:
    by_file: dict[tuple[int, int], str] = {}
    by_end: dict[tuple[int, bytes], list[str]] = {}
    for file in files:
        try:
            status, end = Path(file).stat(), _end_of(file)
        except OSError as error:
            problem = f"cannot be read: {error.strerror or error}"
            raise CorpusError(problem, where=file, hint="check the path and its permissions") from error
        if (other := by_file.setdefault((status.st_dev, status.st_ino), file)) != file:
            raise CorpusError(f"is the same file as {other}", where=file, hint="name each shard once")
        by_end.setdefault((status.st_size, end), []).append(file)
    for alike in by_end.values():
        contents: dict[bytes, str] = {}
        for file in alike if len(alike) > 1 else ():
            with Path(file).open("rb") as content:
                digest = hashlib.file_digest(content, "sha256").digest()
            if (other := contents.setdefault(digest, file)) != file and _has_rows(file):
                raise CorpusError(f"has the same content as {other}", where=file, hint="remove one of the two")


def _has_rows(file: str) -> bool:
    """Engines that write in parts leave files without a row, all with the same bytes."""
    with closing(open_table(file)) as table:
        return bool(table.metadata.num_rows)


def _end_of(file: str) -> bytes:
    with Path(file).open("rb") as content:
        content.seek(max(0, os.fstat(content.fileno()).st_size - _TAIL))
        return hashlib.sha256(content.read(_TAIL)).digest()


def _stamp(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns


def _read_footer(file: str) -> tuple[Shard, Manifest, frozenset[str]]:
    try:
        stamp = _stamp(Path(file).stat())
    except OSError as error:
        problem = f"cannot be read: {error.strerror or error}"
        raise CorpusError(problem, where=file, hint="check the path and its permissions") from error
    rows = Rows(file)
    try:
        manifest = decode_manifest(rows.read_manifest())
        count, columns = rows.count, rows.columns
    except LineError as error:
        raise CorpusError(error.problem, where=file, hint=error.hint) from error.__cause__
    finally:
        rows.close()
    if manifest.items not in (None, count):
        problem = f"has {count} rows, its manifest says {manifest.items}"
        hint = "is it complete? A shard's `items` is its own number; it may be left out"
        raise CorpusError(problem, where=file, hint=hint)
    _refuse_columns_in_folders(file, columns)
    return Shard(file, count, stamp), manifest, columns


def _refuse_columns_in_folders(file: str, columns: frozenset[str]) -> None:
    """Engines that write by folder leave the folder's column out of the files: its values would be lost."""
    for part in Path(file).parts[:-1]:
        name, equals, _ = part.partition("=")
        if equals and name in _COLUMNS and name not in columns:
            hint = "keep the column in the files, or partition by a copy of it under another name"
            raise CorpusError(f"has no column {name!r}, which its folder {part!r} replaces", where=file, hint=hint)


def _comparable(manifest: Manifest) -> dict[str, Any]:
    return {key: value for key, value in raw_manifest(manifest).items() if key != "items"}


def _difference(one: Any, other: Any, at: str = "") -> str | None:
    """Where two manifests differ first, as `ladder[1].model`; None if they are equal."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        ours, theirs = cast("Mapping[str, Any]", one), cast("Mapping[str, Any]", other)
        for key in dict.fromkeys((*ours, *theirs)):
            path = f"{at}.{key}" if at else key
            if (key in ours) != (key in theirs):
                return path
            if (found := _difference(ours[key], theirs[key], path)) is not None:
                return found
        return None
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        ours, theirs = cast("Sequence[Any]", one), cast("Sequence[Any]", other)
        pairs = enumerate(zip(ours, theirs, strict=False))
        found = next((where for n, pair in pairs if (where := _difference(*pair, f"{at}[{n}]"))), None)
        return found or (at if len(ours) != len(theirs) else None)
    return None if one == other and isinstance(one, bool) == isinstance(other, bool) else at
