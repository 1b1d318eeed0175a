"""External checks of recorded answers: run once on every answer, and never again for the same answer.

Their results stand in the corpus under `checks`, since a replay runs no program. Checks that are functions are not stored:
a replay runs them again.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from cascade.core.messages import Request
from cascade.core.verification import Verifier
from cascade.corpora.items import RecordedCheck
from cascade.recording.journal import Journal
from cascade.verifiers.checking import run_check

__all__ = ["CheckCounts", "Checker", "check_entry", "check_hash", "check_key"]


def check_hash(verifier: Verifier) -> str:
    """SHA-256 of how a check runs: with another command, time-out or environment its results no longer hold."""
    how = [verifier.name, verifier.command, verifier.time_out_s, verifier.extract, verifier.env]
    return hashlib.sha256(json.dumps(how).encode()).hexdigest()


def check_key(name: str, command: str, item: str, answer: str) -> str:
    """What the journal finds a result by. `command`: the check's hash."""
    return hashlib.sha256(json.dumps([name, command, item, answer]).encode()).hexdigest()


def check_entry(name: str, command: str, item: str, answer: str, result: RecordedCheck) -> dict[str, Any]:
    """A result as a line of the journal. `command`: the check's hash."""
    return {
        "checked": check_key(name, command, item, answer), "item": item, "check": name, "command": command,
        "passed": result.passed, "seconds": result.seconds,
    }  # fmt: skip


@dataclass(frozen=True, slots=True)
class CheckCounts:
    """How many answers an external check passed, failed, and could not judge."""

    passed: int = 0
    failed: int = 0
    unknown: int = 0


class Checker:
    """Runs external checks, and keeps their results in the journal. `left_s`: how long one may take, as of a live request."""

    def __init__(self, journal: Journal, left_s: float) -> None:
        self._journal, self._left_s = journal, left_s

    async def check(self, verifiers: Sequence[Verifier], item: str, request: Request, task: str, answer: str) -> None:
        """Run the checks that this answer to the item has no result of."""
        for verifier in verifiers:
            command = check_hash(verifier)
            if check_key(verifier.name, command, item, answer) in self._journal.checked:
                continue
            result = await asyncio.to_thread(run_check, verifier, answer, request, task, self._left_s)
            entry = check_entry(verifier.name, command, item, answer, RecordedCheck(result.passed, result.seconds))
            await asyncio.to_thread(self._journal.append, entry, sync=False)

    def counts(self, verifiers: Iterable[Verifier]) -> dict[str, CheckCounts]:
        """How many answers each check passed, failed and could not judge, by its name."""
        commands = {check_hash(verifier): verifier.name for verifier in verifiers}
        found: dict[str, Counter[bool | None]] = {}
        for entry in self._journal.checked.values():
            if (name := commands.get(entry["command"])) is not None:
                found.setdefault(name, Counter())[entry["passed"]] += 1
        return {name: CheckCounts(many[True], many[False], many[None]) for name, many in found.items()}

    def results(self, verifiers: Sequence[Verifier], item: str, answer: str) -> dict[str, RecordedCheck]:
        """The results of an answer that has been checked, by the check's name."""
        found: dict[str, RecordedCheck] = {}
        for verifier in verifiers:
            entry = self._journal.checked[check_key(verifier.name, check_hash(verifier), item, answer)]
            found[verifier.name] = RecordedCheck(entry["passed"], entry["seconds"])
        return found
