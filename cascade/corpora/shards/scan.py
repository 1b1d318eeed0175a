"""Group the rows of shards by SQL: the query that reads a row as the reader does, as far as that can be proved, and leaves the rest.

A row is *plain* if the query can prove what the reader would make of it. All others (no reply, a blank prompt, a conversation, a damaged
cell …) are left to the reader itself, so that whatever it says, or refuses, holds. No threshold is compared here.
"""

# ruff: noqa: S608 - queries are built of our own names, and of what `quoted` and `text` have quoted

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from cascade.corpora.shards.duckdb import Engine, files, quoted
from cascade.corpora.shards.footers import Footer, Kind, read_footer

if TYPE_CHECKING:
    from numpy import int64
    from numpy.typing import NDArray

    Ints = NDArray[int64]

__all__ = ["ANSWER", "DECLINED_ANSWER", "GRID", "NO_TEXT", "PARTS", "Price", "Question", "Scan"]

ANSWER, NO_TEXT, DECLINED_ANSWER = 1, 2, 3
"""What a plain row's reply is: an answer, an answer whose text was not recorded, a declined one."""

Price = tuple[int, int, int]
"""Above so many tokens of the prompt: nano-USD per million tokens of input, and of output."""

GRID: Final = 1 << 30
_MOST_LEFT: Final = 2_000_000  # rows left to the reader whose numbers are held at once
_MOST_TOKENS: Final = 1_000_000  # of a plain row: 64 bits hold its price
PARTS: Final = ("tune", "certify")
_TYPES: Final = {"text": "VARCHAR", "double": "DOUBLE", "int": "BIGINT"}
_LEFT_OUT: Final = ("messages", "extra", "system", "baseline")  # a row with one of these is left to the reader
_VISIBLE: Final = r"[^\s\v\x{1c}-\x{1f}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}]"
_LONG_TEXT: Final = r'"([^"\\\x00-\x1f]|\\["\\/bfnrt])*"'
_PLAIN_VALUE: Final = r"-?[1-9][0-9]{0,14}|0|-?(0|[1-9][0-9]{0,8})\.[0-9]{1,6}|true|false"


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of the rows. `rungs`: the corpus's; `asked`: those of the policy, in the ladder's order, the last one its top.

    visible   whether a text answer must begin with a visible character to be plain (a check asks whether it is empty)
    prices    by rung of the policy, its tiers: then costs are those of the tokens; None: the recorded ones
    part      only these items; `parted`: tell the parts apart
    exact     sum the scores to 2^-60, not only to 2^-30
    regressed count the wrong answers where the top rung is right
    """

    rungs: tuple[str, ...]
    asked: tuple[str, ...]
    right_at: float
    visible: bool = False
    prices: tuple[tuple[Price, ...], ...] | None = None
    part: str = "all"
    parted: bool = False
    exact: bool = False
    regressed: bool = False

    def columns(self) -> dict[str, Kind]:
        """The columns that may be read, with the types that they must have."""
        kinds: dict[str, Kind] = dict.fromkeys(("id", "input", "task", "group", "split", *_LEFT_OUT), "text")
        kinds["at"] = "double"
        for rung in self.rungs:
            kinds |= dict.fromkeys((f"{rung}.confidence", f"{rung}.score", f"{rung}.cost_usd"), "double")
            kinds |= dict.fromkeys((f"{rung}.answer", f"{rung}.more"), "text")
            kinds |= dict.fromkeys((f"{rung}.input_tokens", f"{rung}.output_tokens"), "int")
        return kinds


class Scan:
    """The rows of some shards as an engine reads them. `paths`: the files; `before`: by file, how many rows come before it."""

    def __init__(self, engine: Engine, paths: Sequence[str], before: Sequence[int], question: Question) -> None:
        self.engine, self.question = engine, question
        self._kinds = question.columns()
        self._numbers = {name: number for number, name in enumerate(self._kinds)}
        footers = [read_footer(path, self._kinds) for path in paths]
        self.unusual = tuple(n for n, one in enumerate(footers) if not one.usual)
        """The files of which every row is left to the reader."""
        self.usual = tuple(n for n, one in enumerate(footers) if one.usual)
        self.paths = [paths[number] for number in self.usual]
        self._before = [before[number] for number in self.usual]
        self.footers: list[Footer] = [footers[number] for number in self.usual]

    def is_filled(self, column: str) -> bool:
        """Whether a column has, or may have, a value."""
        return any(column in footer.filled for footer in self.footers)

    def cells(self, most: int) -> Any:
        """The plain rows in cells, at most so many, a `pyarrow.Table`; `state` null: how many rows are not plain. Raises QueryFailed."""
        sums = ["count(*) AS items"]
        top = self.place(self.question.asked[-1])
        for n in range(len(self.question.rungs)):
            sums += [f"sum(h{n})::BIGINT AS h{n}", f"sum(n{n})::BIGINT AS n{n}", f"sum(w{n})::BIGINT AS w{n}"]
            if self.question.exact:
                sums.append(f"sum(l{n})::BIGINT AS l{n}")
            if self.question.regressed and n != top:
                sums.append(f"sum(w{n} * (1 - w{top}))::BIGINT AS r{n}")
        sums.append(f"{self.first()} AS first")
        keys = ", ".join(self.keys)
        return self.engine.table(f"SELECT {keys}, {', '.join(sums)} FROM ({self.rows()}) GROUP BY {keys} LIMIT {most}")

    def read_all(self) -> None:
        """Read the columns to their end. Raises QueryFailed."""
        columns = ", ".join(one.partition(" AS ")[0] for one in self.raw() if " AS " in one)
        self.engine.table(f"SELECT bit_xor(hash({columns})) AS told FROM {files(self.paths)}")

    def score_range(self) -> tuple[int, int]:
        """The least and the greatest score of the policy's rungs in plain rows, times 2^30, or 0 and 1 if all are between these."""
        if all(footer.is_within(f"{rung}.score", 0, 1) for rung in self.question.asked for footer in self.footers):
            return 0, GRID
        own = [f"h{self.place(rung)}" for rung in self.question.asked]
        query = f"SELECT min(least({', '.join(own)})), max(greatest({', '.join(own)})) FROM ({self.rows()})"
        row = self.engine.table(f"{query} WHERE state IS NOT NULL").to_pylist()[0]
        return tuple(0 if one is None else int(one) for one in row.values())  # pyright: ignore[reportReturnType]

    def left_to_reader(self) -> Iterator[tuple[int, Ints | None]]:
        """By file, the rows that are not plain, from 0, ascending; None: all of them. Raises QueryFailed."""
        query = f"SELECT file_index AS file, file_row_number AS row FROM ({self.rows()}) WHERE state IS NULL LIMIT {_MOST_LEFT + 1}"
        found = self.engine.table(query)
        import numpy as np  # noqa: PLC0415 - an extra

        places, rows = (found.column(name).to_numpy() for name in ("file", "row"))
        for number in sorted((*self.unusual, *self.usual)):
            if number in self.unusual:
                yield number, None
                continue
            place = self.usual.index(number)
            if len(places) > _MOST_LEFT:
                query = f"SELECT file_row_number AS row FROM ({self.rows(place)}) WHERE state IS NULL ORDER BY 1"
                own = self.engine.table(query).column("row").to_numpy()
            else:
                own = np.sort(rows[places == place])
            if len(own):
                yield number, own

    @cached_property
    def has_tasks(self) -> bool:
        """Whether there are several tasks."""
        return len(self._tasks) > 1

    @property
    def only_task(self) -> str | None:
        """The task of all rows, if they have one."""
        return self._tasks[0] if len(self._tasks) == 1 else None

    @cached_property
    def _tasks(self) -> list[str | None]:
        """Two of the tasks, or the only one; none if no row has one."""
        if not self.is_filled("task"):
            return []
        return self.engine.table(f"SELECT DISTINCT task FROM {files(self.paths)} LIMIT 2").column("task").to_pylist()

    @property
    def keys(self) -> tuple[str, ...]:
        """The columns of a cell's key."""
        below = range(len(self.question.asked) - 1)
        return ("state", *(("task",) if self.has_tasks else ()), *(f"c{n}" for n in below))

    def rows(self, place: int | None = None, more: Sequence[str] = ()) -> str:
        """The query of the rows.

        `state`, `task`, `at_row`, `c0` … (confidences below the top, in the ladder's order), by rung of the corpus `h` and `l` (the score in 2^-30, and the rest in 2^-60), `n` (nano-USD), `w` (1 if wrong); and `more` columns.

        `state` numbers the replies' kinds in base 4, the ladder's first rung first, then part; null if the row is not plain.
        `place`: only of this file.
        """
        own = self.question
        if not self.paths:
            return self._no_rows(more)
        chosen = self.paths if place is None else [self.paths[place]]
        made = ["file_index", "file_row_number", f"{self.at_row(place)} AS at_row", f"{self.part()} AS part", *more]
        made += [f"{self.kind(rung)} AS k{n}" for n, rung in enumerate(own.asked)]
        made += [f"{self.column(f'{rung}.confidence')} AS c{n}" for n, rung in enumerate(own.asked[:-1])]
        if self.has_tasks:
            made.append(f"{self.column('task')} AS task")
        for n, rung in enumerate(own.rungs):
            score = self.column(f"{rung}.score")
            made.append(f"TRY_CAST({score} * {GRID} AS BIGINT) AS h{n}")
            made.append(f"({score} < '{own.right_at!r}'::DOUBLE)::TINYINT AS w{n}")
            made.append(f"{self._cost(rung)} AS n{n}")
            if own.exact:
                rest = f"({score} * {GRID} - TRY_CAST({score} * {GRID} AS BIGINT)::DOUBLE)"
                made.append(f"TRY_CAST({rest} * {GRID} AS BIGINT) AS l{n}")
        state = " + ".join(f"k{n} * {4**n}" for n in range(len(own.asked)))
        if own.parted:
            state += f" + part * {4 ** len(own.asked)}"
        plain = " AND ".join((*self.conditions(), *(f"k{n} > 0" for n in range(len(own.asked)))))
        here = "" if own.part == "all" else f" WHERE state IS NULL OR part = {PARTS.index(own.part)}"
        return (
            f"SELECT * FROM (SELECT *, CASE WHEN {plain} THEN ({state})::INTEGER END AS state"
            f" FROM (SELECT *, {', '.join(made)} FROM (SELECT {', '.join(self.raw())} FROM {files(chosen)}))){here}"
        )

    def group(self) -> tuple[str, str]:
        """What a plain row's group is: whether it is named, and its key."""
        name, given = self.column("group"), self.column("input")
        return (
            ("FALSE", given) if not self.is_filled("group") else (f"({name} IS NOT NULL)", f"coalesce({name}, {given})")
        )

    def _no_rows(self, more: Sequence[str]) -> str:
        own = self.question
        names = ["state", "file_index", "file_row_number", "task", "at_row"]
        names += [f"c{n}" for n in range(len(own.asked) - 1)]
        names += [f"{kind}{n}" for n in range(len(own.rungs)) for kind in "hlnw"]
        names += [one.rpartition(" AS ")[2] for one in more] + ["part"]
        return f"SELECT {', '.join(f'NULL::BIGINT AS {name}' for name in names)} WHERE FALSE"

    def place(self, rung: str) -> int:
        """The number of a rung of the corpus."""
        return self.question.rungs.index(rung)

    def column(self, name: str) -> str:
        """A column of the corpus in a query: under a name of ours, since the corpus may have any."""
        if self.is_filled(name):
            return f"v{self._numbers[name]}"
        return f"NULL::{_TYPES[self._kinds[name]]}"

    def raw(self) -> Iterator[str]:
        """The columns that are read, and the engine's own."""
        yield from ("file_index", "file_row_number")
        yield from (f"{quoted(name)} AS v{number}" for name, number in self._numbers.items() if self.is_filled(name))

    def at_row(self, place: int | None) -> str:
        """The row's number over all shards, from 1."""
        before = self._before if place is None else [self._before[place]]
        start = str(before[0]) if len(before) == 1 else f"list_extract({before}::BIGINT[], file_index::BIGINT + 1)"
        return f"{start} + file_row_number + 1"

    @property
    def needs_rows(self) -> bool:
        """Whether `first` has to be looked up row by row: rows of one task need not be told apart, if all are counted."""
        return self.has_tasks or self.question.part != "all"

    def first(self) -> str:
        """The least row of a cell, by which tasks are ordered."""
        if self.needs_rows:
            return "min(at_row)::BIGINT"
        starts = (start for start, footer in zip(self._before, self.footers, strict=True) if "id" in footer.filled)
        return f"{next(starts, 0) + 1}::BIGINT"

    def kind(self, rung: str) -> str:
        """A reply's kind; 0: the reader has to say."""
        if not self.is_filled(f"{rung}.answer"):
            return str(NO_TEXT)
        answer = self.column(f"{rung}.answer")
        begins = self._begins(answer)
        return (
            f"CASE WHEN {self.simple(rung)} THEN {ANSWER}"
            f" WHEN {answer} IS NULL THEN {NO_TEXT} WHEN {answer} = 'null' THEN {DECLINED_ANSWER}"
            f" WHEN regexp_full_match({answer}, '{_LONG_TEXT}'){begins} THEN {ANSWER}"
            f" WHEN regexp_full_match({answer}, '{_PLAIN_VALUE}') THEN {ANSWER} ELSE 0 END"
        )

    def _cost(self, rung: str) -> str:
        own = self.question
        if own.prices is None or rung not in own.asked:
            return f"TRY_CAST({self.column(f'{rung}.cost_usd')} * 1e9 AS BIGINT)"
        given, taken = (self.column(f"{rung}.{name}_tokens") for name in ("input", "output"))
        tiers = own.prices[own.asked.index(rung)]
        cases = [
            f"WHEN {given} > {above} THEN ({given} * {price} + {taken} * {priced} + 500000) // 1000000"
            for above, price, priced in reversed(tiers[1:])
        ]
        last = f"({given} * {tiers[0][1]} + {taken} * {tiers[0][2]} + 500000) // 1000000"
        bounded = f"{given} BETWEEN 0 AND {_MOST_TOKENS} AND {taken} BETWEEN 0 AND {_MOST_TOKENS}"
        return f"CASE WHEN NOT ({bounded}) THEN NULL {' '.join(cases)} ELSE {last} END"

    def part(self) -> str:
        """0 for tune, 1 for certify; null if it does not matter, or is not known."""
        if not self.question.parted and self.question.part == "all":
            return "NULL::TINYINT"
        split = self.column("split")
        named, key = self.group()
        hashed = f"part_of(CASE WHEN {named} THEN 'group' ELSE 'input' END, {key})"
        if not self.is_filled("split"):
            return hashed
        return f"CASE {split} WHEN 'tune' THEN 0 WHEN 'certify' THEN 1 ELSE CASE WHEN {split} IS NULL THEN {hashed} END END"

    def simple(self, rung: str) -> str:
        """Whether an answer is a text without quotes and escapes: most are."""
        if not self.is_filled(f"{rung}.answer"):
            return "FALSE"
        answer = self.column(f"{rung}.answer")
        return f"({answer} LIKE '\"%\"' AND {answer} NOT LIKE '\"%\"%\"' AND NOT contains({answer}, '\\'){self._begins(answer)})"

    def _begins(self, answer: str) -> str:
        second = f"substring({answer}, 2, 1)"
        return f" AND {second} BETWEEN '!' AND '~' AND {second} NOT IN ('\"', '\\')" if self.question.visible else ""

    def split(self) -> str:
        """The part as a text, as the item names it or as its group is hashed."""
        split = self.column("split")
        if all("split" in footer.whole for footer in self.footers):
            return split
        return (
            f"CASE WHEN {split} IS NULL THEN CASE {self.part()} WHEN 0 THEN 'tune' ELSE 'certify' END ELSE {split} END"
        )

    def conditions(self, *, proved: bool = False, split: bool = True) -> Iterator[str]:
        """What must hold for a row to be plain, beside its replies' kinds. `proved`: the numbers' ranges are; `split`: ask for it too."""
        own = self.question
        if not all("id" in footer.named for footer in self.footers):
            yield f"{self.column('id')} <> ''"
        if not all("input" in footer.named for footer in self.footers):
            given = self.column("input")
            yield f"(({given} >= '!' AND {given} < '\x7f') OR regexp_matches({given}, '{_VISIBLE}'))"
        yield from (f"{self.column(name)} IS NULL" for name in _LEFT_OUT if self.is_filled(name))
        if split and self.is_filled("split"):
            named = self.column("split")
            yield f"({named} IS NULL OR {named} IN ('tune', 'certify'))"
        if self.is_filled("at"):
            at = self.column("at")
            yield f"({at} IS NULL OR isfinite({at}))"
        for rung in own.rungs:
            if not proved:
                yield from self._ranges_of(rung)
            if rung in own.asked and self.is_filled(f"{rung}.more"):
                yield self._knows_more(rung)

    def _ranges_of(self, rung: str) -> Iterator[str]:
        own = self.question
        confidence, score = self.column(f"{rung}.confidence"), self.column(f"{rung}.score")
        # Footers leave NaN out, and what they say of a range is believed by the engine: so NaN is asked for by itself.
        yield f"{score} BETWEEN -1e6 AND 1e6 AND NOT isnan({score})"
        cost = self.column(f"{rung}.cost_usd")
        if own.prices is None:
            yield f"{cost} BETWEEN 0 AND 1000 AND NOT isnan({cost})"
        elif rung in own.asked:
            yield f"n{self.place(rung)} IS NOT NULL"
            yield f"({cost} IS NULL OR ({cost} BETWEEN 0 AND 1000 AND NOT isnan({cost})))"
        if rung in own.asked and self.is_filled(f"{rung}.confidence"):
            yield f"({confidence} IS NULL OR ({confidence} BETWEEN 0 AND 1 AND NOT isnan({confidence})))"

    def _knows_more(self, rung: str) -> str:
        own, confidence = self.question, self.column(f"{rung}.confidence")
        more = self.column(f"{rung}.more")
        if own.prices is not None:  # further tokens may stand there
            return f"{more} IS NULL"
        # What a cell of its own says holds whatever else stands there; a reply without an answer may say there why.
        known = f"{self.kind(rung)} = {ANSWER}"
        known += "" if rung == own.asked[-1] else f" AND {confidence} IS NOT NULL"
        return f"({more} IS NULL OR ({known}))"
