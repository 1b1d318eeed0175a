"""Write a corpus (version 1). The same manifest and items always give the same bytes, including gzip's header."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from cascade.core.errors import ConfigurationError, CorpusError
from cascade.corpora.encoding import encode_line, raw_item, raw_manifest
from cascade.corpora.items import Item, Manifest
from cascade.disk import sync_file, sync_folder

__all__ = ["check_target", "write_corpus"]

_SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet")


def check_target(path: str | os.PathLike[str]) -> None:
    """Check a corpus's file name before anything is paid.

    Raises ConfigurationError for an unknown suffix, MissingExtra for Parquet without pyarrow.
    """
    name = Path(path).name
    if not name.endswith(_SUFFIXES):
        raise ConfigurationError(f"{os.fspath(path)}: not a corpus's file name (end it in {', '.join(_SUFFIXES)})")
    if name.endswith(".parquet"):
        from cascade.corpora.parquet import load_pyarrow  # noqa: PLC0415 - an extra

        load_pyarrow()


def write_corpus(path: str | os.PathLike[str], manifest: Manifest, items: Iterable[Item]) -> None:
    """Write a corpus to `path`: gzip if it ends in `.gz`, Parquet if it ends in `.parquet`.

    The file appears complete or not at all: it is flushed to the disk before it replaces an older one. A sequence of
    items also sets the manifest's count. Raises CorpusError for values that are not JSON (NaN, objects), a count other
    than the manifest's, or a file that cannot be written; MissingExtra for Parquet without pyarrow.
    """
    if isinstance(items, Sequence):
        manifest = replace(manifest, items=len(items))
    target = Path(path)
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with ExitStack() as stack:
            stack.callback(draft.unlink, missing_ok=True)
            if target.suffix == ".parquet":
                from cascade.corpora.parquet import write_rows  # noqa: PLC0415 - an extra

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
        raise CorpusError(problem, where=os.fspath(path), hint="check the path and its permissions") from error


def _write_lines(raw: BinaryIO, manifest: Manifest, items: Iterable[Item], *, packed: bool, where: str) -> int:
    with ExitStack() as stack:
        # No name or time in gzip's header: the bytes must depend on the corpus alone.
        file = stack.enter_context(gzip.GzipFile("", "wb", 9, raw, mtime=0)) if packed else raw
        file.write(encode_line(raw_manifest(manifest), f"{where}:1", ""))
        count = 0
        for count, item in enumerate(items, 1):
            file.write(encode_line(raw_item(item), f"{where}:{count + 1}", item.id))
    return count
