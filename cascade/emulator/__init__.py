"""A loopback server with the Messages API, and chat completions, that answers from a corpus: for tests, demos and replays over HTTP.

    with Emulator("corpus.jsonl.gz", faults="overloaded=0.1") as emulator:
        client = anthropic.Anthropic(base_url=emulator.base_url, api_key="test")

It refuses what the real API refuses, bills the recorded usage, and injects faults. A script answers what no corpus can:
agent loops with tools. Read in this order: `server` (the listener), `connections` (HTTP), `api` (validation), `replies`,
`scripting` and `answers` (their choice), `messages` (their form), `faults`. Chat completions are read (`chat`) into the Messages API's form and written
(`completions`) out of it: other clients' `base_url` has `/v1`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cascade.emulator.faults import Fault, parse_faults
    from cascade.emulator.scripting import ScriptedReply
    from cascade.emulator.server import Emulator

__all__ = ["Emulator", "Fault", "ScriptedReply", "parse_faults"]


def __getattr__(name: str) -> object:
    # Lazily, because pytest imports this package in every project that has cascade installed.
    if name == "Emulator":
        from cascade.emulator.server import Emulator  # noqa: PLC0415

        return Emulator
    if name == "ScriptedReply":
        from cascade.emulator.scripting import ScriptedReply  # noqa: PLC0415

        return ScriptedReply
    if name in __all__:
        from cascade.emulator import faults  # noqa: PLC0415

        return getattr(faults, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
