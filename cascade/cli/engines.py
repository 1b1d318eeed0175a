"""Which engine counts: this process item by item, DuckDB on this machine, or DuckDB in each worker of a Dask cluster.

An engine only adds up rows; what they mean is decided by the same rule everywhere, so the figures are equal to the digit. What an engine
cannot decide `auto` leaves to this process, and says so.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Literal, Self, TypeVar, cast, get_args

from cascade.core.errors import ConfigurationError
from cascade.core.text.suggestions import did_you_mean
from cascade.corpora.sources import is_sharded

if TYPE_CHECKING:
    from cascade.calibration.tables.parquet import CountsTable
    from cascade.cluster import Cluster
    from cascade.core.policy import Policy
    from cascade.corpora.shards import Shards
    from cascade.corpora.shards.duckdb import Limits
    from cascade.corpora.splits import Split
    from cascade.replay.run import Progress, Replay, ReplayOptions
    from cascade.replay.shards import Counting
    from cascade.savings import Field, Mix, UsageExport

__all__ = ["EngineOptions", "Engines"]

_Name = Literal["auto", "python", "duckdb", "dask"]
_T = TypeVar("_T")

_SIZE: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([KMGT]i?B)", re.IGNORECASE)
_UNITS: Final = {"k": 1, "m": 2, "g": 3, "t": 4}
_TASKS_EACH: Final = 4  # for each worker: what a killed one had done is lost, and done again
_TASK_ROWS: Final = (
    1_000_000  # of a task at least, if every worker has one: beginning one takes longer than counting fewer
)


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """The command line's arguments. `memory`: of each process that counts."""

    engine: str = "auto"
    scheduler: str | None = None
    workers: int | None = None
    memory: str = "1GiB"
    trust_ids: bool = False

    @property
    def changed(self) -> tuple[str, ...]:
        """The options that are not as they are by default, as they are typed."""
        ours = (one for one in fields(self) if getattr(self, one.name) != one.default)
        return tuple(f"--{one.name.replace('_', '-')}" for one in ours)

    @property
    def name(self) -> _Name:
        """The engine that is asked for. Raises ConfigurationError."""
        if self.engine not in get_args(_Name):
            meant = did_you_mean(self.engine, get_args(_Name))
            raise ConfigurationError(
                f"--engine {self.engine}: there is no such engine ({meant}auto, python, duckdb or dask)"
            )
        name = cast("_Name", self.engine)
        for option, value in {"--scheduler": self.scheduler, "--workers": self.workers}.items():
            if value is not None and name not in ("auto", "dask"):
                raise ConfigurationError(f"{option}: --engine {name} has no cluster (leave one of the two out)")
        return "dask" if self.scheduler is not None or self.workers is not None else name

    @property
    def memory_bytes(self) -> int:
        """The limit in bytes. Raises ConfigurationError."""
        match = _SIZE.fullmatch(self.memory.strip())
        if match is None:
            raise ConfigurationError(f"--memory {self.memory}: is not a size (give e.g. 512MiB or 2GiB)")
        number, unit = match.groups()
        return int(float(number) * (1024 if "i" in unit.lower() else 1000) ** _UNITS[unit[0].lower()])


class Engines:
    """Counts with the engine that is asked for, and with one cluster for a whole command: a context manager, which ends its own cluster.

    `tell` is told what begins. `used`: the engine that counted shards last, None if there were none. `notes`: why it was not
    another one, each once.
    """

    def __init__(
        self, options: EngineOptions, cluster: Cluster | None = None, tell: Callable[[str], object] | None = None
    ) -> None:
        self.name, self._options = options.name, options
        self._tell: Callable[[str], object] = tell or (lambda _: None)
        self._memory = options.memory_bytes
        self._cluster, self._is_ours = cluster, cluster is None
        self.used: str | None = None
        self.notes: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._cluster is not None and self._is_ours:
            self._cluster.close()

    def replay(self, path: Path, options: ReplayOptions, progress: Progress | None = None) -> Replay:
        """As `replay_corpus`, which a note of it tells if it was not asked for."""
        from cascade.replay.intervals import MOST_FOR_BOOTSTRAP  # noqa: PLC0415 - numpy is an extra
        from cascade.replay.run import replay_corpus  # noqa: PLC0415 - numpy is an extra

        def by_engine(shards: Shards) -> Replay:
            from cascade.replay.shards.run import replay_shards  # noqa: PLC0415 - an extra

            counting, spread = self._counting(shards), self._spread(shards)
            # Of many items the intervals are quicker where no two are of one group; a bootstrap of few makes no use of it.
            grouped = shards.items <= MOST_FOR_BOOTSTRAP or self._has_shared_groups(shards)
            self._tell("counting")
            return replay_shards(counting, options, *spread, grouped=grouped, progress=progress)

        before = len(self.notes)
        made = self._count(path, by_engine, lambda: replay_corpus(path, options, progress))
        return replace(made, notes=(*made.notes, *self.notes[before:]))

    def tabulate(
        self, path: Path, policy: Policy | None, split: Split, progress: Progress | None = None
    ) -> CountsTable:
        """As `tabulate_corpus`."""
        from cascade.calibration.tables.parquet import tabulate_corpus  # noqa: PLC0415 - an extra

        def by_engine(shards: Shards) -> CountsTable:
            from cascade.calibration.tables.shards import tabulate_shards  # noqa: PLC0415 - an extra

            counting = replace(self._counting(shards), policy=policy, split=split)
            cluster, pieces = self._spread(shards)
            grouped = self._has_shared_groups(shards)
            self._tell("counting")
            return tabulate_shards(counting, grouped=grouped, cluster=cluster, pieces=pieces, progress=progress)

        return self._count(path, by_engine, lambda: tabulate_corpus(path, policy, split))

    def usage(self, path: Path, columns: dict[Field, str], *, required: bool) -> UsageExport:
        """As `read_usage`. `required`: an engine that was asked for must be able to count it."""
        from cascade.savings import read_usage  # noqa: PLC0415 - only for this command
        from cascade.savings.usage import usage_files  # noqa: PLC0415 - only for this command

        files = usage_files(path)
        is_parquet = all(name.endswith(".parquet") for name in files)
        if not self._wants(path) or not (is_parquet or required):
            self.used = "python" if is_sharded(path) else self.used
            return read_usage(path, columns)
        from cascade.savings.usage_shards import read_usage_by_engine  # noqa: PLC0415 - an extra

        export = read_usage_by_engine(path, columns, self._limits, self._spread_over(len(files))[0])
        self.used = self.name if self.name != "auto" else "duckdb"
        return export

    def mix(self, path: Path, policy: Policy) -> Mix:
        """As `mix_of_corpus`."""
        from cascade.corpora import open_corpus  # noqa: PLC0415 - only for this command
        from cascade.savings import mix_of_corpus  # noqa: PLC0415 - numpy is an extra

        def in_process() -> Mix:
            with open_corpus(path) as reader:
                return mix_of_corpus(reader, policy)

        def by_engine(shards: Shards) -> Mix:
            from cascade.savings.mix_shards import mix_of_shards  # noqa: PLC0415 - an extra

            return mix_of_shards(replace(self._counting(shards), policy=policy), *self._spread(shards))

        return self._count(path, by_engine, in_process)

    def _count(self, path: Path, by_engine: Callable[[Shards], _T], in_process: Callable[[], _T]) -> _T:
        if not self._wants(path):
            self.used = "python" if is_sharded(path) else self.used
            return in_process()
        from cascade.corpora.shards import find_shards  # noqa: PLC0415 - an extra
        from cascade.corpora.shards.identity import refuse_repeated_ids  # noqa: PLC0415 - an extra
        from cascade.replay.shards import Undecided  # noqa: PLC0415 - an extra

        shards = find_shards(path)
        try:
            made = by_engine(shards)
        except Undecided as undecided:
            if self.name != "auto":
                raise
            self.used = "python"
            self._note(f"{undecided.key}: {undecided.why}")
            return in_process()
        if not self._options.trust_ids:
            self._tell("looking for ids that occur twice")
            refuse_repeated_ids(shards, self._limits, *self._spread(shards))
        shards.refuse_changed()
        self.used = "duckdb" if self.name == "auto" else self.name
        return made

    def _note(self, why: str) -> None:
        self.notes.append(f"read item by item, in this process: {why}")

    def _wants(self, path: Path) -> bool:
        """Whether an engine is to count it. Raises ConfigurationError if one was asked for that cannot."""
        if self.name == "python" or (self.name == "auto" and not is_sharded(path)):
            return False
        if self.name == "auto" and find_spec("duckdb") is None:
            self._note("DuckDB is not installed (pip install 'cascade-ladder[duckdb]')")
            return False
        if not is_sharded(path) and path.suffix != ".parquet":
            raise ConfigurationError(
                f"--engine {self.name}: {path} is not Parquet (leave --engine out, or cut it into shards: `write_shards`)"
            )
        return True

    def _has_shared_groups(self, shards: Shards) -> bool:
        """Whether two items are of one group. Where ids are trusted, that is left open: they may be."""
        from cascade.corpora.shards.identity import has_shared_groups  # noqa: PLC0415 - an extra

        if self._options.trust_ids:
            return True
        self._tell("looking for items that share a group")
        return has_shared_groups(shards, self._limits, *self._spread(shards))

    @property
    def _limits(self) -> Limits:
        from cascade.corpora.shards.duckdb import Limits  # noqa: PLC0415 - an extra

        return Limits(self._memory, self._threads)

    @property
    def _threads(self) -> int | None:
        return 1 if self.name == "dask" else None

    @property
    def _workers(self) -> int:
        return self._options.workers or len(os.sched_getaffinity(0))

    def _counting(self, shards: Shards) -> Counting:
        from cascade.replay.shards import Counting  # noqa: PLC0415 - an extra

        return Counting(
            shards.shards, shards.manifest, memory=self._memory, threads=self._threads, source=shards.source
        )

    def _spread(self, shards: Shards) -> tuple[Cluster | None, int]:
        cluster, most = self._spread_over(len(shards.shards))
        return cluster, min(most, max(self._workers, shards.items // _TASK_ROWS))

    def _spread_over(self, count: int) -> tuple[Cluster | None, int]:
        """The cluster, None for this process, and into how many tasks so many files are put at most."""
        if self.name != "dask":
            return None, 1
        if self._cluster is None:
            from cascade.cluster import open_cluster  # noqa: PLC0415 - an extra

            self._cluster = open_cluster(self._options.scheduler, self._workers)
        return self._cluster, min(count, self._workers * _TASKS_EACH)
