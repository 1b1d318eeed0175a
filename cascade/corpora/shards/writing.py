"""Cut a corpus into shards."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path

from cascade.core.errors import ConfigurationError, CorpusError
from cascade.corpora.items import Item, Manifest
from cascade.corpora.writing import write_corpus
from cascade.disk import sync_folder

__all__ = ["write_shards"]


def write_shards(
    folder: str | os.PathLike[str], manifest: Manifest, items: Iterable[Item], *, items_per_shard: int = 1_000_000
) -> tuple[Path, ...]:
    """Write a corpus as a new folder of Parquet files, `part-00000.parquet` and so on, in the order of the items; returns them.

    Items are taken one by one, so a corpus that does not fit in memory can be cut: `write_shards("shards", reader.manifest, reader)`.
    The folder appears complete or not at all. Raises CorpusError if it exists and is not empty, since what is in it would be counted
    too, if it cannot be written, or if there are no items; MissingExtra without pyarrow.
    """
    if items_per_shard < 1:
        raise ConfigurationError(f"items_per_shard: {items_per_shard} (give at least 1)")
    target = Path(folder)
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise CorpusError("is there already", where=os.fspath(folder), hint="give a new folder, or remove it first")
        draft.mkdir(parents=True)
        names, count = list[str](), 0
        for first in (rest := iter(items)):
            shard = _Counted(chain((first,), islice(rest, items_per_shard - 1)))
            names.append(f"part-{len(names):05}.parquet")
            write_corpus(draft / names[-1], replace(manifest, items=None), shard)
            count += shard.count
        if not names:
            raise CorpusError("has no items", where=os.fspath(folder), hint="give at least one")
        if manifest.items not in (None, count):
            raise CorpusError(f"{count} items were given, the manifest says {manifest.items}", where=os.fspath(folder))
        draft.replace(target)
        sync_folder(target.parent)
    except OSError as error:
        problem = f"cannot be written: {error.strerror or error}"
        raise CorpusError(problem, where=os.fspath(folder), hint="check the path and its permissions") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return tuple(target / name for name in names)


class _Counted:
    """Items, counted as they are taken."""

    def __init__(self, items: Iterable[Item]) -> None:
        self._items = items
        self.count = 0

    def __iter__(self) -> Iterator[Item]:
        for item in self._items:
            self.count += 1
            yield item
