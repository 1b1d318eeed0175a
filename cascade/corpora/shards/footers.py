"""What the footers of shards tell of their columns: which have no value at all, which are of another type than ours, what is proved of a text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final, Literal

from cascade.corpora.parquet import load_pyarrow, open_table

__all__ = ["Footer", "Kind", "read_footer"]

Kind = Literal["text", "double", "int"]
"""The types that columns of a corpus have."""

_FIRST, _LAST = "!", "\x7f"  # every text between them begins with a visible ASCII character
_TEXTS: Final = ("id", "input")
_TAKEN: Final = ("file_index", "file_row_number", "filename")  # the engine's own


@dataclass(frozen=True, slots=True)
class Footer:
    """One shard's columns. `filled`: those that have a value, as far as the footer tells. `usual`: whether an engine reads them as we do.

    `named`: of `id`, whether no text is empty; of `input`, whether every text begins with a visible character.
    `whole`: the columns that have a value in every row. `bounds`: of the columns of numbers, least and greatest, NaN aside.
    """

    filled: frozenset[str]
    usual: bool
    named: frozenset[str]
    whole: frozenset[str]
    bounds: Mapping[str, tuple[float, float]]

    def is_within(self, column: str, least: float, most: float) -> bool:
        """Whether all numbers of a column are between these, NaN aside."""
        bounds = self.bounds.get(column)
        return bounds is not None and least <= bounds[0] and bounds[1] <= most


def read_footer(path: str, kinds: Mapping[str, Kind]) -> Footer:
    """Read a footer; `kinds`: the columns that are meant to be read. Raises CorpusError and MissingExtra."""
    with closing(open_table(path)) as table:
        schema, metadata = table.schema_arrow, table.metadata
        names: list[str] = schema.names
        groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
        chunks = {name: _chunks(groups, place) for name, place in _places(metadata).items()}
    filled = frozenset(name for name in names if not _is_empty(chunks.get(name)))
    usual = len({name.casefold() for name in (*names, *_TAKEN)}) == len(names) + len(_TAKEN) and all(
        _is_of(schema.field(name).type, kinds[name]) for name in names if name in kinds and name in filled
    )
    return Footer(
        filled,
        usual,
        frozenset(name for name in _TEXTS if _is_named(name, chunks.get(name))),
        frozenset(name for name in names if _is_whole(chunks.get(name))),
        {
            name: found
            for name, kind in kinds.items()
            if kind == "double" and (found := _bounds(chunks.get(name))) is not None
        },
    )


def _places(metadata: Any) -> dict[str, int]:
    """By column that is no nested one, its number among the file's."""
    return {metadata.schema.column(place).path: place for place in range(metadata.num_columns)}


def _chunks(groups: Iterable[Any], place: int) -> list[tuple[int, Any]]:
    return [(group.num_rows, group.column(place).statistics) for group in groups]


def _is_empty(chunks: list[tuple[int, Any]] | None) -> bool:
    return chunks is not None and all(
        told is not None and told.has_null_count and told.null_count == rows for rows, told in chunks
    )


def _is_named(name: str, chunks: list[tuple[int, Any]] | None) -> bool:
    """Bounds that were cut short are bounds all the same."""
    for _, told in chunks or ((0, None),):
        if told is None or not told.has_null_count or told.null_count or not told.has_min_max:
            return False
        least, most = told.min, told.max
        if not isinstance(least, str) or not isinstance(most, str) or not least:
            return False
        if name == "input" and not (least >= _FIRST and most < _LAST):
            return False
    return True


def _is_whole(chunks: list[tuple[int, Any]] | None) -> bool:
    return chunks is not None and all(
        told is not None and told.has_null_count and not told.null_count for _, told in chunks
    )


def _bounds(chunks: list[tuple[int, Any]] | None) -> tuple[float, float] | None:
    every = [told for _, told in chunks or ()]
    if not every or not all(told is not None and told.has_min_max for told in every):
        return None
    return float(min(told.min for told in every)), float(max(told.max for told in every))


def _is_of(kind: Any, wanted: Kind) -> bool:
    types = load_pyarrow().types
    if wanted == "double":
        return bool(types.is_float64(kind))
    if wanted == "int":
        return bool(types.is_int64(kind))
    if types.is_dictionary(kind):
        kind = kind.value_type
    return bool(types.is_string(kind) or types.is_large_string(kind))
