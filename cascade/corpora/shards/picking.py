"""Read some rows of one shard as items, as the reader of a whole corpus would."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Any

from msgspec.structs import force_setattr

from cascade.core.errors import CorpusError
from cascade.corpora.decoding import LineError, Unreadable, decode_item, name_item
from cascade.corpora.items import Item, Manifest
from cascade.corpora.parquet import line_of, open_table, some_rows, table_rows

__all__ = ["pick_items"]


def pick_items(path: str, manifest: Manifest, rows: Iterable[int] | None, before: int = 0) -> Iterator[Item]:
    """The items of these rows (from 0, ascending; None: of all). `before`: how many rows of the corpus come before this shard.

    Raises CorpusError as the reader does.
    """
    rungs = frozenset(manifest.rungs)
    with closing(open_table(path)) as table:
        numbered = _numbered(table, rows)
        number, line = 0, b""
        try:
            for number, row in numbered:
                line = b""
                line = line_of(row, manifest.rungs)
                item = decode_item(line, rungs)
                force_setattr(item, "line", before + number + 1)  # frozen, but not yet handed out
                yield item
        except Unreadable as error:
            raise CorpusError(error.problem, where=path, hint=error.hint) from error.__cause__
        except LineError as error:
            where, name = f"{path}:row {number + 1}", error.item or name_item(line)
            raise CorpusError(error.problem, where=where, item=name, hint=error.hint) from error.__cause__


def _numbered(table: Any, rows: Iterable[int] | None) -> Iterator[tuple[int, dict[str, Any]]]:
    return enumerate(table_rows(table)) if rows is None else some_rows(table, rows)
