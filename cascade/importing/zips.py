"""Entries of a zip, also those packed with zstd (method 93, extra `zstd`), which Python's zipfile does not unpack.

A zip may be a bomb: each entry is unpacked up to one limit, all together up to another, one at a time. The sizes that
entries declare are not trusted.
"""

from __future__ import annotations

import zipfile
import zlib
from types import TracebackType
from typing import IO, Any, Final, Self

from cascade.core.errors import CorpusError, MissingExtra
from cascade.corpora.lines import MAX_LINE_BYTES

__all__ = ["MAX_UNPACKED_BYTES", "Zip"]

MAX_UNPACKED_BYTES: Final = 16 * 1024**3
"""The limit of all entries read from one zip. It bounds time, not memory: only one is held in memory at once."""

_ZSTD = 93
_LOCAL_HEADER = 30  # bytes before the name and the extra field, whose lengths are its last two numbers
_MAX_WINDOW = 1 << 27  # bytes of zstd's window: the limit of its command line


class Zip:
    """An open zip: the `names` of its entries, and `read`. A context manager. Raises CorpusError if it is not a zip."""

    def __init__(self, path: str, limit: int = MAX_LINE_BYTES) -> None:
        self._path, self._limit, self._left = path, limit, MAX_UNPACKED_BYTES
        try:
            self._zip = zipfile.ZipFile(path)
        except OSError as error:
            problem = f"cannot be read: {error.strerror or error}"
            raise CorpusError(problem, where=path, hint="check the path") from error
        except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
            raise CorpusError(f"is not a zip: {error}", where=path, hint="is the file whole?") from error
        self.names = tuple(self._zip.namelist())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._zip.close()

    def read(self, name: str) -> bytes:
        """An entry's bytes. Raises CorpusError if it is damaged or too large, MissingExtra without zstandard."""
        where, info = f"{self._path}:{name}", self._zip.getinfo(name)
        try:
            data = self._unpack_zstd(info) if info.compress_type == _ZSTD else self._unpack(info)
        except (
            zipfile.BadZipFile,
            NotImplementedError,
            RuntimeError,
            OSError,
            EOFError,
            ValueError,
            zlib.error,
        ) as error:
            raise CorpusError(f"cannot be unpacked: {error}", where=where, hint="is the file whole?") from error
        if len(data) > self._limit:
            raise CorpusError(
                f"is larger than {self._limit} bytes", where=where, hint="leave its events out of the log"
            )
        self._left -= len(data)
        if self._left < 0:
            raise CorpusError(f"unpacks to more than {MAX_UNPACKED_BYTES} bytes", where=self._path)
        return data

    def _unpack(self, info: zipfile.ZipInfo) -> bytes:
        with self._zip.open(info) as entry:
            return entry.read(self._limit + 1)

    def _unpack_zstd(self, info: zipfile.ZipInfo) -> bytes:
        zstd = _load_zstandard()
        if info.flag_bits & 1:
            raise RuntimeError("it is encrypted")
        with open(self._path, "rb") as file:  # noqa: PTH123 - a second handle, so the zip's own keeps its place
            packed = _packed(file, info)
        unpacker = zstd.ZstdDecompressor(max_window_size=_MAX_WINDOW)
        try:
            with unpacker.stream_reader(packed, read_across_frames=True) as stream:
                data: bytes = stream.read(self._limit + 1)
        except zstd.ZstdError as error:
            raise ValueError(str(error)) from None
        if len(data) <= self._limit and zlib.crc32(data) != info.CRC:
            raise ValueError("its checksum is wrong")
        return data


def _packed(file: IO[bytes], info: zipfile.ZipInfo) -> bytes:
    file.seek(info.header_offset)
    header = file.read(_LOCAL_HEADER)
    if len(header) < _LOCAL_HEADER or header[:4] != b"PK\x03\x04":
        raise ValueError("its header is damaged")
    name, extra = (int.from_bytes(header[start : start + 2], "little") for start in (26, 28))
    file.seek(name + extra, 1)
    return file.read(info.compress_size)


def _load_zstandard() -> Any:
    try:
        import zstandard  # noqa: PLC0415
    except ImportError:
        raise MissingExtra("a zip with zstd entries", "zstd") from None
    return zstandard
