"""A table of one's own, CSV, TSV or Parquet: which column is which field is said with `--map FIELD=COLUMN`.

Fields: `id` and `input` (both needed), `system`, `expected`, `task`, `group`, `split`, `at` (seconds), `extra.<name>`, and
of each rung `<rung>.confidence`, `.score`, `.cost_usd`, `.answer`, `.declined`, `.input_tokens`, `.output_tokens`,
`.signals.<source>`. An empty cell is nothing. A rung whose cells are all empty has no reply; `declined` (true or
false) is how a table says that a rung answered null. A column that is not mapped is not imported, and that is told.

`read_items` reads what is still to be recorded (`cascade record`): no replies, the id is the row's where there is none,
and a column that has a field's own name is that field, unless it is mapped.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from cascade.core.errors import ConfigurationError, CorpusError
from cascade.core.suggestions import closest, did_you_mean, listed
from cascade.importing.rows import Options, Row, name_hint, text_or_none
from cascade.importing.sources import table

__all__ = ["read_csv", "read_items"]

_ITEM = {"id", "input", "system", "expected", "task", "group", "split", "at"}
# What columns are often called: only ever proposed, for a wrong guess would be paid for.
_OFTEN = {
    "input": ("question", "prompt", "query", "text", "instruction", "message", "problem", "request"),
    "expected": ("answer", "target", "label", "gold", "reference", "ground_truth", "solution", "output", "completion"),
}
_NUMBERS = {"confidence", "score", "cost_usd"}
_COUNTS = {"input_tokens", "output_tokens"}
_REPLY = _NUMBERS | _COUNTS | {"answer", "declined"}
_TRUTHS: Final = {"true": True, "false": False, "yes": True, "no": False, "1": True, "0": False}


@dataclass(frozen=True, slots=True)
class _Field:
    """Where a column's cells go: a `name` of the item, or of the reply of `rung`; a `signal` is a reply's."""

    column: str
    name: str
    rung: str = ""
    signal: bool = False


def read_csv(path: str, options: Options, _rung: str | None) -> Iterator[Row]:
    """The items of a table, with the replies of each rung that columns are mapped to. Raises CorpusError."""
    fields = _fields(options.maps)
    if not any(field.name == "id" and not field.rung for field in fields):
        raise ConfigurationError("csv: no column is mapped to id (say --map id=COLUMN --map input=COLUMN …)")
    if not any(field.rung for field in fields):
        raise ConfigurationError("csv: no rung is mapped: --map haiku.answer=COLUMN")
    mapped, told = {field.column for field in fields}, False
    for where, cells in table(path):
        _check_columns(fields, cells, where)
        row = _row(cells, where, fields)
        yield row if told else replace(row, unmapped=tuple(name for name in cells if name not in mapped))
        told = True


def read_items(rows: Iterable[tuple[str, Mapping[str, Any]]], maps: tuple[tuple[str, str], ...]) -> Iterator[Row]:
    """The items of a table, or of JSON objects, that are still to be asked: each row's place and its cells by column.

    Raises ConfigurationError for a field that no item has, CorpusError where there is no column for one that is mapped
    or for `input`.
    """
    fields = _fields(maps)
    for field in fields:
        if field.rung:
            problem = f"--map {field.rung}.…={field.column}: the rungs' replies are what `record` asks for"
            raise ConfigurationError(f"{problem} (`cascade import csv` reads recorded ones)")
    taken, mapped, told = {field.name for field in fields}, {field.column for field in fields}, False
    for number, (where, cells) in enumerate(rows, 1):
        if not told:
            _check_columns(fields, cells, where)
            fields += tuple(_Field(name, name) for name in cells if name in _ITEM - taken and name not in mapped)
            if not any(field.name == "input" for field in fields):
                raise CorpusError("has no column called input", where=where, hint=_proposal(cells, taken, mapped))
        row = _row(cells, where, fields, f"row-{number}")
        used = {field.column for field in fields}
        yield row if told else replace(row, unmapped=tuple(name for name in cells if name not in used))
        told = True


def _proposal(cells: Mapping[str, Any], taken: set[str], mapped: set[str]) -> str:
    """How to say which column is what, with those that are likely to be it."""
    names = [name for name in cells if name not in mapped]
    likely = {
        field: next((name for often in ones for name in names if name.casefold() == often), None)
        for field, ones in _OFTEN.items() if field not in {*taken, *names}
    }  # fmt: skip
    if not likely.get("input"):
        likely["input"] = names[0] if len(names) == 1 and names[0].isidentifier() else None
    said = " ".join(f"--map {field}={column or 'COLUMN'}" for field, column in likely.items())
    if len(cells) == 1 and ";" in next(iter(cells)):
        return "its columns seem to be separated by ;: save it with commas, or with tabs as .tsv"
    return f"say {said}; it has {', '.join(cells)}"


def _fields(maps: tuple[tuple[str, str], ...]) -> tuple[_Field, ...]:
    columns: dict[str, str] = {}
    for name, column in maps:
        if name in columns:
            raise ConfigurationError(f"--map {name}={column}: {name} is mapped to {columns[name]!r} (leave one out)")
        columns[name] = column
    return tuple(_field(name, column) for name, column in maps)


def _check_columns(fields: tuple[_Field, ...], cells: Mapping[str, Any], where: str) -> None:
    if missing := [field.column for field in fields if field.column not in cells]:
        problem = f"has no column {', '.join(map(repr, missing))}"
        raise CorpusError(problem, where=where, hint=name_hint(missing[0], cells))


def _field(name: str, column: str) -> _Field:
    if name in _ITEM or name.startswith("extra."):
        return _Field(column, name)
    rung, found, source = name.partition(".signals.")
    if found and rung and source:
        return _Field(column, source, rung, signal=True)
    rung, _, last = name.rpartition(".")  # a rung's own name may have dots: gpt-4.1.score
    if rung and last in _REPLY:
        return _Field(column, last, rung)
    known = (*sorted(_ITEM), "extra.NAME", *(f"RUNG.{field}" for field in sorted(_REPLY)), "RUNG.signals.NAME")
    near = closest(last, _REPLY) if rung else None
    meant = did_you_mean(name, _ITEM) if near is None else f"did you mean {f'{rung}.{near}'!r}? "
    raise ConfigurationError(f"--map {name}={column}: there is no field {name!r} ({meant}fields: {listed(known)})")


def _row(cells: Mapping[str, Any], where: str, fields: tuple[_Field, ...], unnamed: str | None = None) -> Row:
    given = {field: cell for field in fields if not _is_nothing(cell := cells.get(field.column), field)}
    named = (text_or_none(cell) for field, cell in given.items() if field.name == "id" and not field.rung)
    name = next(named, unnamed)
    if name is None:
        raise CorpusError("has no id", where=where)
    about: dict[str, Any] = {}
    replies: dict[str, dict[str, Any]] = {field.rung: {} for field in fields if field.rung}
    for field, cell in given.items():
        if not field.rung:
            key = field.name.removeprefix("extra.")
            about[key] = _number(cell, field.column, where, name) if field.name == "at" else cell
        else:
            _put(replies[field.rung], field, cell, (where, name))
    about.pop("id", None)
    return Row(
        name, where, about, {rung: reply for rung, reply in replies.items() if not all(map(_is_hole, reply.values()))}
    )


def _is_nothing(cell: object, field: _Field) -> bool:
    """An empty cell; of a field that is not a number NaN is one, too, for pandas writes it so."""
    return cell in (None, "") or (_is_hole(cell) and not field.signal and field.name not in _NUMBERS | _COUNTS | {"at"})


def _is_hole(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _put(reply: dict[str, Any], field: _Field, cell: object, place: tuple[str, str]) -> None:
    where, item = place
    if field.signal:
        reply.setdefault("signals", {})[field.name] = _number(cell, field.column, where, item)
    elif field.name == "answer":
        if "answer" not in reply:  # declined goes first: both cannot be
            reply["answer"] = cell
    elif field.name == "declined":
        if _truth(cell, field.column, where, item):
            reply["answer"] = None
    elif field.name in _COUNTS:
        count = _number(cell, field.column, where, item)
        if math.isfinite(count) and (count < 0 or not count.is_integer()):
            raise CorpusError(f"{field.column}: is not a number of tokens", where=where, item=item)
        reply.setdefault("usage", {})[field.name] = int(count) if math.isfinite(count) else count
    elif field.name == "score" and str(cell).lower() in ("true", "false"):
        reply["score"] = float(_truth(cell, field.column, where, item))
    else:
        reply[field.name] = _number(cell, field.column, where, item)


def _truth(cell: object, column: str, where: str, item: str) -> bool:
    if (found := _TRUTHS.get(str(cell).lower())) is None:
        raise CorpusError(f"{column}: is neither true nor false", where=where, item=item)
    return found


def _number(cell: object, column: str, where: str, item: str) -> float:
    """A cell's number; NaN and Infinity stay as they are, for `joining` to make null and to count."""
    try:
        if isinstance(cell, (str, int, float)) and not isinstance(cell, bool):
            return float(cell)
    except (ValueError, OverflowError):
        pass
    raise CorpusError(f"{column}: is not a number", where=where, item=item)
