"""numpy, imported when it is first used: it is an extra, and nothing but the work on whole corpora needs it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from cascade.core.errors import MissingExtra

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Whole = NDArray[np.int64]
    Codes = NDArray[np.int32]
    Small = NDArray[np.int8]
    Truths = NDArray[np.bool_]
else:
    Floats = Whole = Codes = Small = Truths = Any

    class _Lazy:
        """Stands for the module until one of its names is asked for."""

        def __getattr__(self, name: str) -> Any:
            try:
                import numpy  # noqa: ICN001, PLC0415 - this is where it is imported
            except ImportError:
                raise MissingExtra("work on whole corpora", "numbers") from None
            value = getattr(numpy, name)
            setattr(self, name, value)
            return value

    np = _Lazy()

__all__ = ["Codes", "Floats", "Growing", "Small", "Truths", "Whole", "np"]

_FULL = 1 << 14  # Python's own numbers held at once, before they become an array


class Growing:
    """A column while it grows: `add` takes a few values at a time, `whole` is the array of all of them."""

    __slots__ = ("_kind", "_loose", "_parts")

    def __init__(self, kind: type[Any]) -> None:
        self._kind = kind
        self._loose: list[Any] = []
        self._parts: list[Any] = []

    def add(self, values: Iterable[Any]) -> None:
        """Put these at the end; None is NaN in a column of floats."""
        self._loose += values
        if len(self._loose) >= _FULL:
            self._pack()

    def whole(self) -> Any:
        """The column; it may grow further."""
        self._pack()
        if len(self._parts) > 1:
            self._parts = [np.concatenate(self._parts)]
        return self._parts[0]

    def _pack(self) -> None:
        if self._loose or not self._parts:
            self._parts.append(np.array(self._loose, self._kind))
            self._loose = []
