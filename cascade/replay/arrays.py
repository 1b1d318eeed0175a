"""numpy, imported on first use (it is an extra), and short names for array types."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from cascade.core.errors import MissingExtra

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]
    Codes = NDArray[np.int32]
    Int8s = NDArray[np.int8]
    Bools = NDArray[np.bool_]
else:
    Floats = Ints = Codes = Int8s = Bools = Any

    class _Lazy:
        """A stand-in for the module: imports it when an attribute is first read."""

        def __getattr__(self, name: str) -> Any:
            try:
                import numpy  # noqa: ICN001, PLC0415 - this is where it is imported
            except ImportError:
                raise MissingExtra("work on whole corpora", "numbers") from None
            value = getattr(numpy, name)
            setattr(self, name, value)
            return value

    np = _Lazy()

__all__ = ["Bools", "Codes", "ColumnBuilder", "Floats", "Int8s", "Ints", "np"]

_FULL = 1 << 14  # Python numbers held before they are packed into an array


class ColumnBuilder:
    """Builds a column: `add` appends values, `array` returns all of them."""

    __slots__ = ("_kind", "_loose", "_parts")

    def __init__(self, kind: type[Any]) -> None:
        self._kind = kind
        self._loose: list[Any] = []
        self._parts: list[Any] = []

    def add(self, values: Iterable[Any]) -> None:
        """Append values; None becomes NaN in a column of floats."""
        self._loose += values
        if len(self._loose) >= _FULL:
            self._pack()

    def array(self) -> Any:
        """The column so far; more may be added afterwards."""
        self._pack()
        if len(self._parts) > 1:
            self._parts = [np.concatenate(self._parts)]
        return self._parts[0]

    def _pack(self) -> None:
        if self._loose or not self._parts:
            self._parts.append(np.array(self._loose, self._kind))
            self._loose = []
