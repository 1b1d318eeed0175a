"""A leaner query for the commonest corpora: every score is 0 or 1, and the footers prove the ranges of the numbers.

What is then left to compute for a row is a third of what `scan` computes. Where it does not hold, it says so, and `scan` is asked.
"""

# ruff: noqa: S608 - queries are built of our own names, and of what `quoted` and `text` have quoted

from __future__ import annotations

from typing import Any, Final

from cascade.corpora.parquet import load_pyarrow
from cascade.corpora.shards.duckdb import files
from cascade.corpora.shards.scan import GRID, PARTS, Question, Scan

__all__ = ["cells_of"]

_ROUNDS: Final = "6755399441055744.0::DOUBLE"  # 1.5 * 2^52


def cells_of(scan: Scan, most: int) -> Any:
    """As `Scan.cells`, by the leaner query where that is possible."""
    found = _lean_cells(scan, most) if _may_be_lean(scan) else None
    return scan.cells(most) if found is None else found


def _may_be_lean(scan: Scan) -> bool:
    """Whether the footers prove what the query would test, and scores look like 0 and 1: then far less is computed for each row."""
    own = scan.question
    proved = bool(scan.paths) and 0 < own.right_at <= 1 and own.prices is None
    proved = proved and all(
        f"{rung}.score" in footer.whole and f"{rung}.cost_usd" in footer.whole
        and footer.is_within(f"{rung}.score", 0, 1) and footer.is_within(f"{rung}.cost_usd", 0, 1000)
        and (rung not in own.asked or f"{rung}.confidence" not in footer.filled or footer.is_within(f"{rung}.confidence", 0, 1))
        for footer in scan.footers for rung in own.rungs
    )  # fmt: skip
    if not proved:
        return False
    query = f"SELECT bool_and({_is_binary(scan)}) AS told FROM (SELECT {', '.join(scan.raw())} FROM {files(scan.paths[:1])} LIMIT 10000)"
    return bool(scan.engine.table(query).to_pylist()[0]["told"])


def _is_binary(scan: Scan) -> str:
    scores = (scan.column(f"{rung}.score") for rung in scan.question.rungs)
    return " AND ".join(f"({score} = 0 OR {score} = 1)" for score in scores)


def _lean_cells(scan: Scan, most: int) -> Any:
    """As `Scan.cells`, of scores that are all 0 or 1; None if they are not, or if something else needs the full query.

    The sums are of doubles that are whole and not negative: below 2^53 they are exact. A NaN that the footers do not tell of
    shows in a sum or a key.
    """
    own, top = scan.question, scan.place(scan.question.asked[-1])
    places = range(len(own.rungs))
    made = [f"{scan.column(f'{rung}.confidence')} AS c{n}" for n, rung in enumerate(own.asked[:-1])]
    made += [f"{scan.column(f'{rung}.score')} AS s{n}" for n, rung in enumerate(own.rungs)]
    # Adding this constant rounds to whole numbers, half to even, as `numpy.rint` does.
    made += [
        f"({scan.column(f'{rung}.cost_usd')} * 1e9 + {_ROUNDS}) - {_ROUNDS} AS n{n}" for n, rung in enumerate(own.rungs)
    ]
    made += [f"{scan.column('task')} AS task"] if scan.has_tasks else []
    made += [f"{scan.at_row(None)} AS at_row"] if scan.needs_rows else []
    by_split = own.parted and scan.is_filled("split")
    conditions = tuple(scan.conditions(proved=True, split=not by_split))
    simple = " AND ".join((*conditions, *(scan.simple(rung) for rung in own.asked)))
    any_kind = " AND ".join((*conditions, *(f"{scan.kind(rung)} > 0" for rung in own.asked)))
    kinds = " + ".join(f"{scan.kind(rung)} * {4**n}" for n, rung in enumerate(own.asked))
    part = f" + {scan.part()} * {_part_step(own)}" if own.parted and not by_split else ""
    here = "" if own.part == "all" else f" WHERE state IS NULL OR part = {PARTS.index(own.part)}"
    made.append(
        f"CASE WHEN {simple} THEN ({sum(4**n for n in range(len(own.asked)))}{part})::INTEGER"
        f" WHEN {any_kind} THEN ({kinds}{part})::INTEGER END AS state"
    )
    made += [f"{scan.part()} AS part"] if own.part != "all" else []
    made += [f"{scan.split()} AS split"] if by_split else []  # as it stands: to compare texts row by row takes longer
    keys = ", ".join((*scan.keys, *(("split",) if by_split else ())))
    sums = ["count(*) AS items", f"{scan.first()} AS first"]
    sums += [f"sum({kind}{n}) AS {kind}{n}" for n in places for kind in "sn"]
    sums += [f"sum(s{n} * s{top}) AS b{n}" for n in places if own.regressed and n != top]
    # Of a number between 0 and 1 this is 0 if it is 0 or 1, and greater otherwise.
    sums.append(f"max({' + '.join(f'(s{n} - s{n} * s{n})' for n in places)}) AS odd")
    query = f"SELECT {', '.join(made)} FROM (SELECT {', '.join(scan.raw())} FROM {files(scan.paths)})"
    table = scan.engine.table(
        f"SELECT {keys}, {', '.join(sums)} FROM (SELECT * FROM ({query}){here}) GROUP BY {keys} LIMIT {most}"
    )
    if table.num_rows == most:  # a column `split` of anything else makes as many
        return None
    return _from_binary(_with_parts(table, own), own, top)


def _part_step(own: Question) -> int:
    return 4 ** len(own.asked)


def _with_parts(table: Any, own: Question) -> Any:
    """The column `split` added to `state`: null, which leaves the row to the reader, if it names no part."""
    if "split" not in table.column_names:
        return table
    pa = load_pyarrow()
    steps = dict(zip(PARTS, (0, _part_step(own)), strict=True))
    states, splits = (table.column(name).to_pylist() for name in ("state", "split"))
    made = [
        None if state is None or split not in steps else state + steps[split]
        for state, split in zip(states, splits, strict=True)
    ]
    return table.drop_columns(["split"]).set_column(
        table.column_names.index("state"), "state", pa.array(made, pa.int32())
    )


def _from_binary(table: Any, own: Question, top: int) -> Any:
    """The columns of `Scan.cells` from the sums of `_lean_cells`; None if these do not hold."""
    import numpy as np  # noqa: PLC0415 - an extra

    kept = ["state", *(name for name in table.column_names if name in {"task", "items", "first"} or name[0] == "c")]
    keys = [table.column(name).to_numpy(zero_copy_only=False) for name in table.column_names if name[0] == "c"]
    nulls = [table.column(name).null_count for name in table.column_names if name[0] == "c"]
    sums = {
        name: table.column(name).to_numpy() for name in table.column_names if name[0] in "snb" and name[1:].isdigit()
    }
    is_exact = all(bool((one < 2.0**53).all()) for one in sums.values())  # NaN is not
    is_binary = bool((table.column("odd").to_numpy() == 0).all())
    if not is_exact or not is_binary or any(int(np.isnan(key).sum()) > n for key, n in zip(keys, nulls, strict=True)):
        return None
    items = table.column("items").to_numpy()
    made = {name: table.column(name) for name in kept}
    for n in range(len(own.rungs)):
        right = sums[f"s{n}"].astype(np.int64)
        made |= {f"h{n}": right * GRID, f"n{n}": sums[f"n{n}"].astype(np.int64), f"w{n}": items - right}
        if f"b{n}" in sums:  # wrong where the top is right
            made[f"r{n}"] = (sums[f"s{top}"] - sums[f"b{n}"]).astype(np.int64)
    return load_pyarrow().table(made)
