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

__all__ = ["ANSWER", "DECLINED_ANSWER", "NO_TEXT", "Price", "Question", "Scan"]

ANSWER, NO_TEXT, DECLINED_ANSWER = 1, 2, 3
"""What a plain row's reply is: an answer, an answer whose text was not recorded, a declined one."""

Price = tuple[int, int, int]
"""Above so many tokens of the prompt: nano-USD per million tokens of input, and of output."""

GRID: Final = 1 << 30
_MOST_LEFT: Final = 2_000_000  # rows left to the reader whose numbers are held at once
_ROUNDS: Final = "6755399441055744.0::DOUBLE"  # 1.5 * 2^52
_MOST_TOKENS: Final = 1_000_000  # of a plain row: 64 bits hold its price
_PARTS: Final = ("tune", "certify")
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
        self._engine, self._question = engine, question
        self._kinds = question.columns()
        self._numbers = {name: number for number, name in enumerate(self._kinds)}
        footers = [read_footer(path, self._kinds) for path in paths]
        self.unusual = tuple(n for n, one in enumerate(footers) if not one.usual)
        """The files of which every row is left to the reader."""
        self.usual = tuple(n for n, one in enumerate(footers) if one.usual)
        self._paths = [paths[number] for number in self.usual]
        self._before = [before[number] for number in self.usual]
        self._footers: list[Footer] = [footers[number] for number in self.usual]

    def is_filled(self, column: str) -> bool:
        """Whether a column has, or may have, a value."""
        return any(column in footer.filled for footer in self._footers)

    def cells(self, most: int) -> Any:
        """The plain rows in cells, at most so many, a `pyarrow.Table`; `state` null: how many rows are not plain. Raises QueryFailed."""
        if self._may_be_lean() and (found := self._lean_cells(most)) is not None:
            return found
        sums = ["count(*) AS items"]
        top = self._place(self._question.asked[-1])
        for n in range(len(self._question.rungs)):
            sums += [f"sum(h{n})::BIGINT AS h{n}", f"sum(n{n})::BIGINT AS n{n}", f"sum(w{n})::BIGINT AS w{n}"]
            if self._question.exact:
                sums.append(f"sum(l{n})::BIGINT AS l{n}")
            if self._question.regressed and n != top:
                sums.append(f"sum(w{n} * (1 - w{top}))::BIGINT AS r{n}")
        sums.append(f"{'min(at_row)' if self.has_tasks else '0'}::BIGINT AS first")
        keys = ", ".join(self.keys)
        return self._engine.table(f"SELECT {keys}, {', '.join(sums)} FROM ({self.rows()}) GROUP BY {keys} LIMIT {most}")

    def _may_be_lean(self) -> bool:
        """Whether the footers prove what the query would test, and scores look like 0 and 1: then far less is computed for each row."""
        own = self._question
        proved = bool(self._paths) and 0 < own.right_at <= 1 and own.prices is None
        proved = proved and all(
            f"{rung}.score" in footer.whole and f"{rung}.cost_usd" in footer.whole
            and footer.is_within(f"{rung}.score", 0, 1) and footer.is_within(f"{rung}.cost_usd", 0, 1000)
            and (rung not in own.asked or f"{rung}.confidence" not in footer.filled or footer.is_within(f"{rung}.confidence", 0, 1))
            for footer in self._footers for rung in own.rungs
        )  # fmt: skip
        if not proved:
            return False
        query = f"SELECT bool_and({self._is_binary()}) AS told FROM (SELECT {', '.join(self._raw())} FROM {files(self._paths[:1])} LIMIT 10000)"
        return bool(self._engine.table(query).to_pylist()[0]["told"])

    def _is_binary(self) -> str:
        scores = (self._column(f"{rung}.score") for rung in self._question.rungs)
        return " AND ".join(f"({score} = 0 OR {score} = 1)" for score in scores)

    def _lean_cells(self, most: int) -> Any:
        """As `cells`, of scores that are all 0 or 1; None if they are not, or if something else needs the full query.

        The sums are of doubles that are whole and not negative: below 2^53 they are exact. A NaN that the footers do not tell of
        shows in a sum or a key.
        """
        own, top = self._question, self._place(self._question.asked[-1])
        places = range(len(own.rungs))
        made = [f"{self._column(f'{rung}.confidence')} AS c{n}" for n, rung in enumerate(own.asked[:-1])]
        made += [f"{self._column(f'{rung}.score')} AS s{n}" for n, rung in enumerate(own.rungs)]
        # Adding this constant rounds to whole numbers, half to even, as `numpy.rint` does.
        made += [
            f"({self._column(f'{rung}.cost_usd')} * 1e9 + {_ROUNDS}) - {_ROUNDS} AS n{n}"
            for n, rung in enumerate(own.rungs)
        ]
        made += [f"{self._column('task')} AS task", f"{self._at_row(None)} AS at_row"] if self.has_tasks else []
        simple = " AND ".join((*self._conditions(proved=True), *(self._simple(rung) for rung in own.asked)))
        any_kind = " AND ".join((*self._conditions(proved=True), *(f"{self._kind(rung)} > 0" for rung in own.asked)))
        kinds = " + ".join(f"{self._kind(rung)} * {4**n}" for n, rung in enumerate(own.asked))
        part = f" + {self._part()} * {4 ** len(own.asked)}" if own.parted else ""
        here = "" if own.part == "all" else f" WHERE state IS NULL OR part = {_PARTS.index(own.part)}"
        state = (
            f"CASE WHEN NOT ({self._is_binary()}) THEN -1"
            f" WHEN {simple} THEN ({sum(4**n for n in range(len(own.asked)))}{part})::INTEGER"
            f" WHEN {any_kind} THEN ({kinds}{part})::INTEGER END AS state"
        )
        made += [state, *([f"{self._part()} AS part"] if own.part != "all" else [])]
        keys = ", ".join(self.keys)
        sums = ["count(*) AS items", f"{'min(at_row)' if self.has_tasks else '0'}::BIGINT AS first"]
        sums += [f"sum({kind}{n}) AS {kind}{n}" for n in places for kind in "sn"]
        sums += [f"sum(s{n} * s{top}) AS b{n}" for n in places if own.regressed and n != top]
        query = f"SELECT {', '.join(made)} FROM (SELECT {', '.join(self._raw())} FROM {files(self._paths)})"
        table = self._engine.table(
            f"SELECT {keys}, {', '.join(sums)} FROM (SELECT * FROM ({query}){here}) GROUP BY {keys} LIMIT {most}"
        )
        return _from_binary(table, own, top)

    def read_all(self) -> None:
        """Read the columns to their end. Raises QueryFailed."""
        self._engine.table(
            f"SELECT {', '.join(f'max({one})' for one in ('state', *self._sums()))} FROM ({self.rows()})"
        )

    def _sums(self) -> Iterator[str]:
        yield from (f"{kind}{n}" for n in range(len(self._question.rungs)) for kind in "hnw")

    def score_range(self) -> tuple[int, int]:
        """The least and the greatest score of the policy's rungs in plain rows, times 2^30, or 0 and 1 if all are between these."""
        if all(footer.is_within(f"{rung}.score", 0, 1) for rung in self._question.asked for footer in self._footers):
            return 0, GRID
        own = [f"h{self._place(rung)}" for rung in self._question.asked]
        query = f"SELECT min(least({', '.join(own)})), max(greatest({', '.join(own)})) FROM ({self.rows()})"
        row = self._engine.table(f"{query} WHERE state IS NOT NULL").to_pylist()[0]
        return tuple(0 if one is None else int(one) for one in row.values())  # pyright: ignore[reportReturnType]

    def left_to_reader(self) -> Iterator[tuple[int, Ints | None]]:
        """By file, the rows that are not plain, from 0, ascending; None: all of them. Raises QueryFailed."""
        query = f"SELECT file_index AS file, file_row_number AS row FROM ({self.rows()}) WHERE state IS NULL LIMIT {_MOST_LEFT + 1}"
        found = self._engine.table(query)
        import numpy as np  # noqa: PLC0415 - an extra

        places, rows = (found.column(name).to_numpy() for name in ("file", "row"))
        for number in sorted((*self.unusual, *self.usual)):
            if number in self.unusual:
                yield number, None
                continue
            place = self.usual.index(number)
            if len(places) > _MOST_LEFT:
                query = f"SELECT file_row_number AS row FROM ({self.rows(place)}) WHERE state IS NULL ORDER BY 1"
                own = self._engine.table(query).column("row").to_numpy()
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
        return self._engine.table(f"SELECT DISTINCT task FROM {files(self._paths)} LIMIT 2").column("task").to_pylist()

    @property
    def keys(self) -> tuple[str, ...]:
        """The columns of a cell's key."""
        below = range(len(self._question.asked) - 1)
        return ("state", *(("task",) if self.has_tasks else ()), *(f"c{n}" for n in below))

    def rows(self, place: int | None = None, more: Sequence[str] = ()) -> str:
        """The query of the rows.

        `state`, `task`, `at_row`, `c0` … (confidences below the top, in the ladder's order), by rung of the corpus `h` and `l` (the score in 2^-30, and the rest in 2^-60), `n` (nano-USD), `w` (1 if wrong); and `more` columns.

        `state` numbers the replies' kinds in base 4, the ladder's first rung first, then part; null if the row is not plain.
        `place`: only of this file.
        """
        own = self._question
        if not self._paths:
            return self._no_rows(more)
        chosen = self._paths if place is None else [self._paths[place]]
        made = ["file_index", "file_row_number", f"{self._at_row(place)} AS at_row", f"{self._part()} AS part", *more]
        made += [f"{self._kind(rung)} AS k{n}" for n, rung in enumerate(own.asked)]
        made += [f"{self._column(f'{rung}.confidence')} AS c{n}" for n, rung in enumerate(own.asked[:-1])]
        if self.has_tasks:
            made.append(f"{self._column('task')} AS task")
        for n, rung in enumerate(own.rungs):
            score = self._column(f"{rung}.score")
            made.append(f"TRY_CAST({score} * {GRID} AS BIGINT) AS h{n}")
            made.append(f"({score} < '{own.right_at!r}'::DOUBLE)::TINYINT AS w{n}")
            made.append(f"{self._cost(rung)} AS n{n}")
            if own.exact:
                rest = f"({score} * {GRID} - TRY_CAST({score} * {GRID} AS BIGINT)::DOUBLE)"
                made.append(f"TRY_CAST({rest} * {GRID} AS BIGINT) AS l{n}")
        state = " + ".join(f"k{n} * {4**n}" for n in range(len(own.asked)))
        if own.parted:
            state += f" + part * {4 ** len(own.asked)}"
        plain = " AND ".join((*self._conditions(), *(f"k{n} > 0" for n in range(len(own.asked)))))
        here = "" if own.part == "all" else f" WHERE state IS NULL OR part = {_PARTS.index(own.part)}"
        return (
            f"SELECT * FROM (SELECT *, CASE WHEN {plain} THEN ({state})::INTEGER END AS state"
            f" FROM (SELECT *, {', '.join(made)} FROM (SELECT {', '.join(self._raw())} FROM {files(chosen)}))){here}"
        )

    def group(self) -> tuple[str, str]:
        """What a plain row's group is: whether it is named, and its key."""
        name, given = self._column("group"), self._column("input")
        return (
            ("FALSE", given) if not self.is_filled("group") else (f"({name} IS NOT NULL)", f"coalesce({name}, {given})")
        )

    def _no_rows(self, more: Sequence[str]) -> str:
        own = self._question
        names = ["state", "file_index", "file_row_number", "task", "at_row"]
        names += [f"c{n}" for n in range(len(own.asked) - 1)]
        names += [f"{kind}{n}" for n in range(len(own.rungs)) for kind in "hlnw"]
        names += [one.rpartition(" AS ")[2] for one in more] + ["part"]
        return f"SELECT {', '.join(f'NULL::BIGINT AS {name}' for name in names)} WHERE FALSE"

    def _place(self, rung: str) -> int:
        return self._question.rungs.index(rung)

    def _column(self, name: str) -> str:
        """A column of the corpus in a query: under a name of ours, since the corpus may have any."""
        if self.is_filled(name):
            return f"v{self._numbers[name]}"
        return f"NULL::{_TYPES[self._kinds[name]]}"

    def _raw(self) -> Iterator[str]:
        """The columns that are read, and the engine's own."""
        yield from ("file_index", "file_row_number")
        yield from (f"{quoted(name)} AS v{number}" for name, number in self._numbers.items() if self.is_filled(name))

    def _at_row(self, place: int | None) -> str:
        """The row's number over all shards, from 1."""
        before = self._before if place is None else [self._before[place]]
        start = str(before[0]) if len(before) == 1 else f"list_extract({before}::BIGINT[], file_index::BIGINT + 1)"
        return f"{start} + file_row_number + 1"

    def _kind(self, rung: str) -> str:
        """A reply's kind; 0: the reader has to say."""
        if not self.is_filled(f"{rung}.answer"):
            return str(NO_TEXT)
        answer = self._column(f"{rung}.answer")
        begins = self._begins(answer)
        return (
            f"CASE WHEN {self._simple(rung)} THEN {ANSWER}"
            f" WHEN {answer} IS NULL THEN {NO_TEXT} WHEN {answer} = 'null' THEN {DECLINED_ANSWER}"
            f" WHEN regexp_full_match({answer}, '{_LONG_TEXT}'){begins} THEN {ANSWER}"
            f" WHEN regexp_full_match({answer}, '{_PLAIN_VALUE}') THEN {ANSWER} ELSE 0 END"
        )

    def _cost(self, rung: str) -> str:
        own = self._question
        if own.prices is None or rung not in own.asked:
            return f"TRY_CAST({self._column(f'{rung}.cost_usd')} * 1e9 AS BIGINT)"
        given, taken = (self._column(f"{rung}.{name}_tokens") for name in ("input", "output"))
        tiers = own.prices[own.asked.index(rung)]
        cases = [
            f"WHEN {given} > {above} THEN ({given} * {price} + {taken} * {priced} + 500000) // 1000000"
            for above, price, priced in reversed(tiers[1:])
        ]
        last = f"({given} * {tiers[0][1]} + {taken} * {tiers[0][2]} + 500000) // 1000000"
        bounded = f"{given} BETWEEN 0 AND {_MOST_TOKENS} AND {taken} BETWEEN 0 AND {_MOST_TOKENS}"
        return f"CASE WHEN NOT ({bounded}) THEN NULL {' '.join(cases)} ELSE {last} END"

    def _part(self) -> str:
        """0 for tune, 1 for certify; null if it does not matter, or is not known."""
        if not self._question.parted and self._question.part == "all":
            return "NULL::TINYINT"
        split = self._column("split")
        named, key = self.group()
        hashed = f"part_of(CASE WHEN {named} THEN 'group' ELSE 'input' END, {key})"
        if not self.is_filled("split"):
            return hashed
        return f"CASE {split} WHEN 'tune' THEN 0 WHEN 'certify' THEN 1 ELSE CASE WHEN {split} IS NULL THEN {hashed} END END"

    def _simple(self, rung: str) -> str:
        """Whether an answer is a text without quotes and escapes: most are."""
        if not self.is_filled(f"{rung}.answer"):
            return "FALSE"
        answer = self._column(f"{rung}.answer")
        return f"({answer} LIKE '\"%\"' AND {answer} NOT LIKE '\"%\"%\"' AND NOT contains({answer}, '\\'){self._begins(answer)})"

    def _begins(self, answer: str) -> str:
        second = f"substring({answer}, 2, 1)"
        return f" AND {second} BETWEEN '!' AND '~' AND {second} NOT IN ('\"', '\\')" if self._question.visible else ""

    def _conditions(self, *, proved: bool = False) -> Iterator[str]:
        """What must hold for a row to be plain, beside its replies' kinds. `proved`: the numbers' ranges are."""
        own = self._question
        if not all("id" in footer.named for footer in self._footers):
            yield f"{self._column('id')} <> ''"
        if not all("input" in footer.named for footer in self._footers):
            given = self._column("input")
            yield f"(({given} >= '!' AND {given} < '\x7f') OR regexp_matches({given}, '{_VISIBLE}'))"
        yield from (f"{self._column(name)} IS NULL" for name in _LEFT_OUT if self.is_filled(name))
        if self.is_filled("split"):
            split = self._column("split")
            yield f"({split} IS NULL OR {split} IN ('tune', 'certify'))"
        if self.is_filled("at"):
            at = self._column("at")
            yield f"({at} IS NULL OR isfinite({at}))"
        for rung in own.rungs:
            if not proved:
                yield from self._ranges_of(rung)
            if rung in own.asked and self.is_filled(f"{rung}.more"):
                yield self._knows_more(rung)

    def _ranges_of(self, rung: str) -> Iterator[str]:
        own = self._question
        confidence, score = self._column(f"{rung}.confidence"), self._column(f"{rung}.score")
        yield f"{score} BETWEEN -1e6 AND 1e6"
        cost = self._column(f"{rung}.cost_usd")
        if own.prices is None:
            yield f"{cost} BETWEEN 0 AND 1000"
        elif rung in own.asked:
            yield f"n{self._place(rung)} IS NOT NULL"
            yield f"({cost} IS NULL OR {cost} BETWEEN 0 AND 1000)"
        if rung in own.asked and self.is_filled(f"{rung}.confidence"):
            yield f"({confidence} IS NULL OR {confidence} BETWEEN 0 AND 1)"

    def _knows_more(self, rung: str) -> str:
        own, confidence = self._question, self._column(f"{rung}.confidence")
        more = self._column(f"{rung}.more")
        if own.prices is not None:  # further tokens may stand there
            return f"{more} IS NULL"
        # What a cell of its own says holds whatever else stands there; a reply without an answer may say there why.
        known = f"{self._kind(rung)} = {ANSWER}"
        known += "" if rung == own.asked[-1] else f" AND {confidence} IS NOT NULL"
        return f"({more} IS NULL OR ({known}))"


def _from_binary(table: Any, own: Question, top: int) -> Any:
    """The columns of `Scan.cells` from the sums of `_lean_cells`; None if these do not hold."""
    import numpy as np  # noqa: PLC0415 - an extra
    import pyarrow as pa  # noqa: PLC0415 # pyright: ignore[reportMissingTypeStubs]

    kept = ["state", *(name for name in table.column_names if name in {"task", "items", "first"} or name[0] == "c")]
    states = table.column("state").to_numpy(zero_copy_only=False)
    keys = [table.column(name).to_numpy(zero_copy_only=False) for name in table.column_names if name[0] == "c"]
    nulls = [table.column(name).null_count for name in table.column_names if name[0] == "c"]
    sums = {
        name: table.column(name).to_numpy() for name in table.column_names if name[0] in "snb" and name[1:].isdigit()
    }
    is_exact = all(bool((one < 2.0**53).all()) for one in sums.values())  # NaN is not
    if (
        not is_exact
        or bool((states == -1).any())
        or any(int(np.isnan(key).sum()) > n for key, n in zip(keys, nulls, strict=True))
    ):
        return None
    items = table.column("items").to_numpy()
    made = {name: table.column(name) for name in kept}
    for n in range(len(own.rungs)):
        right = sums[f"s{n}"].astype(np.int64)
        made |= {f"h{n}": right * GRID, f"n{n}": sums[f"n{n}"].astype(np.int64), f"w{n}": items - right}
        if f"b{n}" in sums:  # wrong where the top is right
            made[f"r{n}"] = (sums[f"s{top}"] - sums[f"b{n}"]).astype(np.int64)
    return pa.table(made)
