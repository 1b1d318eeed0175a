"""A loopback server that speaks the Messages API and answers from a corpus: for tests, demos and replays over HTTP.

    with Emulator("corpus.jsonl.gz", faults="overloaded=0.1") as emulator:
        client = anthropic.Anthropic(base_url=emulator.base_url, api_key="test")

It refuses what the real API refuses, bills what was recorded, and fails as it is told to. Read in this order: `server`
(the sockets), `api` (what is refused), `answers` (what is answered), `messages` (in which form), `faults`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cascade.emulator.faults import Fault, parse_faults
    from cascade.emulator.server import Emulator

__all__ = ["Emulator", "Fault", "parse_faults"]


def __getattr__(name: str) -> object:
    # Lazily, for pytest loads the plugin beside this in every run of every project that has cascade installed.
    if name == "Emulator":
        from cascade.emulator.server import Emulator  # noqa: PLC0415

        return Emulator
    if name in __all__:
        from cascade.emulator import faults  # noqa: PLC0415

        return getattr(faults, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
