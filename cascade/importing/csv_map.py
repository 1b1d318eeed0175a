"""Any table, CSV, TSV or Parquet, whose columns are mapped to fields with `--map FIELD=COLUMN`.

Fields: `id` and `input` (both needed), `system`, `expected`, `task`, `group`, `split`, `at` (seconds), `extra.<name>`, and
of each rung `<rung>.confidence`, `.score`, `.cost_usd`, `.answer`, `.declined`, `.input_tokens`, `.output_tokens`,
`.variant`, `.signals.<source>`. An empty cell is a missing value. A rung whose cells are all empty has no reply. `declined`
(true or false) says that a rung answered null. Columns that are not mapped are not imported, and are reported.

Several rows with one id are one item: a rung's reply in the first is its reply, those in the others are further samples,
and `variant` names the prompt of each. The cells of rungs that were asked once are empty in the other rows.

`read_items` reads inputs for `cascade record`: without replies. A row without an id is `row-N`, and a column with a
field's name is that field, unless it is mapped.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from cascade.core.errors import ConfigurationError, CorpusError
from cascade.core.text.suggestions import closest, did_you_mean, listed
from cascade.importing.rows import Options, Row, name_hint, text_or_none
from cascade.importing.sources import table

__all__ = ["read_csv", "read_items"]

_ITEM = {"id", "input", "system", "expected", "task", "group", "split", "at"}
# Common column names: only suggested, never assumed, because a wrong guess would cost money.
_COMMON_NAMES = {
    "input": ("question", "prompt", "query", "text", "instruction", "message", "problem", "request"),
    "expected": ("answer", "target", "label", "gold", "reference", "ground_truth", "solution", "output", "completion"),
}
_NUMBERS = {"confidence", "score", "cost_usd"}
_COUNTS = {"input_tokens", "output_tokens"}
_REPLY = _NUMBERS | _COUNTS | {"answer", "declined", "variant"}
_TRUTHS: Final = {"true": True, "false": False, "yes": True, "no": False, "1": True, "0": False}


@dataclass(frozen=True, slots=True)
class _Field:
    """The target of a column: the item's field `name`, or with `rung` that rung's reply's; `signal`: one of its signals."""

    column: str
    name: str
    rung: str = ""
    signal: bool = False


def read_csv(path: str, options: Options, _rung: str | None) -> Iterator[Row]:
    """The items of a table, with the replies of the mapped rungs. Raises CorpusError."""
    fields = _fields(options.maps)
    if not any(field.name == "id" and not field.rung for field in fields):
        raise ConfigurationError("csv: no column is mapped to id (say --map id=COLUMN --map input=COLUMN …)")
    if not any(field.rung for field in fields):
        raise ConfigurationError("csv: no rung is mapped: --map haiku.answer=COLUMN")
    mapped, is_first = {field.column for field in fields}, True
    inputs: dict[str, object] = {}
    for where, cells in table(path):
        _check_columns(fields, cells, where)
        row = _row(cells, where, fields)
        if row.id in inputs:
            given = row.fields.get("input")
            if given is not None and given != inputs[row.id]:
                hint = "rows with one id are samples of one item: give each item an id of its own"
                raise CorpusError("its id occurred before, with another input", where=where, item=row.id, hint=hint)
            row = replace(row, repeat=where)
        else:
            inputs[row.id] = row.fields.get("input")
        yield replace(row, unmapped=tuple(name for name in cells if name not in mapped)) if is_first else row
        is_first = False


def read_items(rows: Iterable[tuple[str, Mapping[str, Any]]], maps: tuple[tuple[str, str], ...]) -> Iterator[Row]:
    """The items of a table or of JSON objects, without replies. `rows`: each row's place and its cells by column.

    Raises ConfigurationError for an unknown field, CorpusError if a mapped column or one for `input` is missing.
    """
    fields = _fields(maps)
    for field in fields:
        if field.rung:
            problem = f"--map {field.rung}.…={field.column}: `record` asks for the rungs' replies itself"
            raise ConfigurationError(f"{problem} (`cascade import csv` imports recorded ones)")
    taken, mapped, is_first = {field.name for field in fields}, {field.column for field in fields}, True
    for number, (where, cells) in enumerate(rows, 1):
        if is_first:
            _check_columns(fields, cells, where)
            fields += tuple(_Field(name, name) for name in cells if name in _ITEM - taken and name not in mapped)
            if not any(field.name == "input" for field in fields):
                raise CorpusError("has no column called input", where=where, hint=_map_hint(cells, taken, mapped))
        row = _row(cells, where, fields, f"row-{number}")
        used = {field.column for field in fields}
        yield replace(row, unmapped=tuple(name for name in cells if name not in used)) if is_first else row
        is_first = False


def _map_hint(cells: Mapping[str, Any], taken: set[str], mapped: set[str]) -> str:
    """The `--map` options to give, with likely columns filled in."""
    names = [name for name in cells if name not in mapped]
    likely = {
        field: next((name for common in ones for name in names if name.casefold() == common), None)
        for field, ones in _COMMON_NAMES.items() if field not in {*taken, *names}
    }  # fmt: skip
    if not likely.get("input"):
        likely["input"] = names[0] if len(names) == 1 and names[0].isidentifier() else None
    options = " ".join(f"--map {field}={column or 'COLUMN'}" for field, column in likely.items())
    if len(cells) == 1 and ";" in next(iter(cells)):
        return "columns seem to be separated by semicolons: save it with commas, or with tabs as .tsv"
    return f"use {options}; it has {', '.join(cells)}"


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


def _row(cells: Mapping[str, Any], where: str, fields: tuple[_Field, ...], default_id: str | None = None) -> Row:
    given = {field: cell for field in fields if not _is_empty(cell := cells.get(field.column), field)}
    named = (text_or_none(cell) for field, cell in given.items() if field.name == "id" and not field.rung)
    name = next(named, default_id)
    if name is None:
        raise CorpusError("has no id", where=where)
    item_fields: dict[str, Any] = {}
    replies: dict[str, dict[str, Any]] = {field.rung: {} for field in fields if field.rung}
    for field, cell in given.items():
        if not field.rung:
            key = field.name.removeprefix("extra.")
            item_fields[key] = _number(cell, field.column, where, name) if field.name == "at" else cell
        else:
            _put(replies[field.rung], field, cell, (where, name))
    item_fields.pop("id", None)
    return Row(
        name,
        where,
        item_fields,
        {rung: reply for rung, reply in replies.items() if _is_reply(reply)},
    )


def _is_reply(reply: Mapping[str, Any]) -> bool:
    """Whether a rung's cells say anything besides its prompt."""
    return not all(_is_not_finite(value) for key, value in reply.items() if key != "variant")


def _is_empty(cell: object, field: _Field) -> bool:
    """Whether a cell is empty. NaN is empty too, unless the field is a number, because pandas writes it so."""
    return cell in (None, "") or (
        _is_not_finite(cell) and not field.signal and field.name not in _NUMBERS | _COUNTS | {"at"}
    )


def _is_not_finite(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _put(reply: dict[str, Any], field: _Field, cell: object, place: tuple[str, str]) -> None:
    where, item = place
    if field.signal:
        reply.setdefault("signals", {})[field.name] = _number(cell, field.column, where, item)
    elif field.name == "answer":
        if "answer" not in reply:  # declined takes precedence
            reply["answer"] = cell
    elif field.name == "variant":
        reply["variant"] = str(cell)
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
    """A cell's number. NaN and Infinity are kept: `joining` makes them null and counts them."""
    try:
        if isinstance(cell, (str, int, float)) and not isinstance(cell, bool):
            return float(cell)
    except (ValueError, OverflowError):
        pass
    raise CorpusError(f"{column}: is not a number", where=where, item=item)
