"""DuckDB in this process: in memory up to a limit, beyond it in a temporary folder that is removed. The only module that imports it.

No extension is installed or loaded by itself, so a query never reaches the network.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from cascade.core.errors import ConfigurationError, MissingExtra

__all__ = ["Engine", "Limits", "QueryFailed", "files", "open_engine", "quoted", "text"]

_LEAST_MEMORY = 64 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """What an engine may use: bytes of memory, threads (None: one for each core), and a folder for what does not fit (None: the system's)."""

    memory: int = 1 << 30
    threads: int | None = None
    folder: str | None = None

    def __post_init__(self) -> None:
        if self.memory < _LEAST_MEMORY:
            raise ConfigurationError(f"--memory: {self.memory:,} bytes are too few (give at least 64 MiB)")


class QueryFailed(Exception):
    """A query could not be answered. `kind`: the memory is too small, a sum does not fit in 64 bits, or a file cannot be read."""

    def __init__(self, kind: Literal["memory", "overflow", "file"], told: str) -> None:
        super().__init__(told)
        self.kind, self.told = kind, told


class Engine:
    """An open engine, from `open_engine`."""

    def __init__(self, connection: Any, module: Any) -> None:
        self._connection, self._module = connection, module

    def table(self, query: str) -> Any:
        """The result of a query, a `pyarrow.Table`. Raises QueryFailed."""
        with self._told():
            return self._connection.sql(query).to_arrow_table()

    def batches(self, query: str, rows: int = 1 << 16) -> Iterator[Any]:
        """The result of a query in record batches of about so many rows. Raises QueryFailed."""
        with self._told():
            yield from self._connection.sql(query).to_arrow_reader(rows)

    def run(self, statement: str) -> None:
        """Run a statement. Raises QueryFailed."""
        with self._told():
            self._connection.execute(statement)

    def lend(self, name: str, rows: Any) -> None:
        """Make a `pyarrow.Table` a table of this name in queries."""
        self._connection.register(name, rows)

    def add_function(self, name: str, function: Callable[..., Any], texts: int, *, returns: str = "TINYINT") -> None:
        """Make a function of so many columns of texts, each a `pyarrow.ChunkedArray`, one of queries. It returns values of the type `returns`."""
        kind = self._module.sqltypes
        self._connection.create_function(
            name, function, [kind.VARCHAR] * texts, getattr(kind, returns), type="arrow", null_handling="special"
        )

    @contextmanager
    def _told(self) -> Generator[None]:
        duckdb = self._module
        try:
            yield
        except duckdb.OutOfMemoryException as error:
            raise QueryFailed("memory", _first_line(error)) from error
        except (duckdb.OutOfRangeException, duckdb.ConversionException) as error:
            raise QueryFailed("overflow", _first_line(error)) from error
        except duckdb.Error as error:  # a damaged file raises many kinds
            raise QueryFailed("file", _first_line(error)) from error


@contextmanager
def open_engine(limits: Limits) -> Generator[Engine]:
    """An engine with its temporary folder, both gone at the end. Raises MissingExtra."""
    try:
        import duckdb  # noqa: PLC0415 - an extra
        from duckdb import sqltypes  # noqa: F401, PLC0415 # pyright: ignore[reportUnusedImport]
    except ImportError:
        raise MissingExtra("counting in shards", "duckdb") from None
    with tempfile.TemporaryDirectory(prefix="cascade-", dir=limits.folder) as folder:
        settings: dict[str, Any] = {
            "memory_limit": f"{limits.memory}B",
            "temp_directory": folder,
            "preserve_insertion_order": False,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "python_enable_replacements": False,
        }
        if limits.threads is not None:
            settings["threads"] = limits.threads
        connection = duckdb.connect(":memory:", config=settings)
        try:
            yield Engine(connection, duckdb)
        finally:
            connection.close()


def quoted(name: str) -> str:
    """A column's name in a query."""
    return '"' + name.replace('"', '""') + '"'


def text(value: str) -> str:
    """A text in a query."""
    return "'" + value.replace("'", "''") + "'"


def files(paths: Sequence[str]) -> str:
    """The rows of Parquet files in a query, with `file_index` and `file_row_number`."""
    listed = ", ".join(text(_literal(path)) for path in paths)
    return f"read_parquet([{listed}], file_row_number=true, union_by_name=true, hive_partitioning=false)"


def _literal(path: str) -> str:
    """A path as the engine's patterns take it: of this file alone, under whatever name (a `~` would be the home, `*` many files)."""
    return re.sub(r"[*?\[]", r"[\g<0>]", path if path.startswith("/") else f"./{path}")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
