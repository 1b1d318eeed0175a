"""`cascade tabulate`: count corpora into one Parquet table for `calibrate --counts`."""

from __future__ import annotations

import sys
from pathlib import Path

from cascade.calibration.tables.parquet import PARTS, CountsTable, write_counts
from cascade.cli.counting_bar import CountingBar
from cascade.cli.engines import EngineOptions, Engines
from cascade.cli.output import print_json, stderr
from cascade.core.errors import ConfigurationError
from cascade.corpora.splits import Split
from cascade.policy.loading import load_policy
from cascade.policy.shipped import find_corpus

__all__ = ["run_tabulate"]


def run_tabulate(
    corpora: tuple[Path, ...],
    out: Path,
    policy: str | None,
    engine: EngineOptions | None = None,
    *,
    split: tuple[float, int],
    as_json: bool,
) -> None:
    """Write the table, and print its size. `split`: the share of the tuning half, and the seed."""
    if out.suffix != ".parquet":
        raise ConfigurationError(f"{out}: a table of counts must end in .parquet")
    view = load_policy(policy) if policy else None
    table: CountsTable | None = None
    bar = CountingBar("counting")
    with Engines(engine or EngineOptions(), tell=bar.tell) as engines:
        for path in corpora:
            stderr.print(f"counting {path}", style="dim")
            with bar.over(path):
                part = engines.tabulate(find_corpus(path), view, Split(*split), bar.show)
            table = part if table is None else table + part
    for note in engines.notes:
        stderr.print(f"note: {note}", style="dim")
    assert table is not None  # the argument is required
    rows = write_counts(out, table)
    items = {part: table.parts[part].n for part in PARTS}
    if as_json:
        print_json(
            {
                "counts": str(out),
                "corpora": list(table.corpora),
                "rungs": list(table.rungs),
                "items": items,
                "rows": rows,
                "levels": {rung: len(own) for rung, own in zip(table.rungs, table.whole.levels, strict=False)},
                "grouped": table.grouped,
                "named_groups": table.named_groups,
                **({} if engines.used is None else {"engine": engines.used}),
            }
        )
        return
    if table.grouped:
        stderr.print(
            "groups have, or may have, several items: these counts give a frontier, but no certificate", style="dim"
        )
    counts = ", ".join(f"{part} {count:,}" for part, count in items.items())
    sys.stdout.write(f"{out}: {sum(items.values()):,} items ({counts}) in {rows:,} rows, {' → '.join(table.rungs)}\n")
