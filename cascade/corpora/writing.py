"""Write a corpus (version 1; the README shows the format): the same manifest and items always make the same bytes, gzip's header included."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from cascade.core.errors import ConfigurationError, CorpusError
from cascade.corpora.disk import sync_file, sync_folder
from cascade.corpora.encoding import encode_line, raw_item, raw_manifest
from cascade.corpora.items import Item, Manifest

__all__ = ["check_target", "write_corpus"]

_SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet")


def check_target(path: str | os.PathLike[str]) -> None:
    """Refuse, before anything is paid, a file that would not be what its name says, or could not be written.

    Raises ConfigurationError for a name that is no corpus's, MissingExtra for Parquet without pyarrow.
    """
    name = Path(path).name
    if not name.endswith(_SUFFIXES):
        raise ConfigurationError(
            f"{os.fspath(path)}: a corpus is not written under such a name (end it in {', '.join(_SUFFIXES)})"
        )
    if name.endswith(".parquet"):
        from cascade.corpora.parquet import load_pyarrow  # noqa: PLC0415 - only who wants such a file needs it

        load_pyarrow()


def write_corpus(path: str | os.PathLike[str], manifest: Manifest, items: Iterable[Item]) -> None:
    """Write a corpus to `path`, gzip where it ends in `.gz`, Parquet in `.parquet`; the file appears whole or not at all.

    When this returns it is on the disk, so that a power cut does not take it, and what was there before it, away.
    A sequence of items also sets the manifest's count. Raises CorpusError for what is not JSON (NaN, objects), for a
    count that is not the manifest's, and where the file cannot be written; MissingExtra for Parquet without pyarrow.
    """
    if isinstance(items, Sequence):
        manifest = replace(manifest, items=len(items))
    target = Path(path)
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with ExitStack() as stack:
            stack.callback(draft.unlink, missing_ok=True)
            if target.suffix == ".parquet":
                from cascade.corpora.parquet import write_rows  # noqa: PLC0415 - only who wants such a file needs it

                count = write_rows(draft, manifest, items, os.fspath(path))
            else:
                with draft.open("wb") as raw:
                    count = _write_lines(raw, manifest, items, packed=target.suffix == ".gz", where=os.fspath(path))
            if manifest.items not in (None, count):
                problem = f"{count} items were given, the manifest says {manifest.items}"
                raise CorpusError(problem, where=os.fspath(path))
            sync_file(draft)
            draft.replace(target)
            sync_folder(target.parent)
    except OSError as error:
        problem = f"cannot be written: {error.strerror or error}"
        raise CorpusError(problem, where=os.fspath(path), hint="check the path and its rights") from error


def _write_lines(raw: BinaryIO, manifest: Manifest, items: Iterable[Item], *, packed: bool, where: str) -> int:
    with ExitStack() as stack:
        # No name and no time in gzip's header, or the same corpus would make other bytes every second.
        file = stack.enter_context(gzip.GzipFile("", "wb", 9, raw, mtime=0)) if packed else raw
        file.write(encode_line(raw_manifest(manifest), f"{where}:1", ""))
        count = 0
        for count, item in enumerate(items, 1):
            file.write(encode_line(raw_item(item), f"{where}:{count + 1}", item.id))
    return count
