"""The audit's workers under SIGKILL: every sampled request is graded exactly once, and none is lost.

    python benchmarks/audit_killed.py [--kills 40] [--samples 400] [--seed 0] [--postgres URL]

Requests are answered by the engine and sampled, all of them. Then two processes grade them, as `cascade audit run` does, four at a time each,
by shadow answers and a judge. One of them in turn is killed a random moment after a random number of calls, and started again. When
both have ended, one more run comes after all leases have run out. Then

    every sample is graded, with the right score and a number of its own, and none is skipped;
    each call was made once, but for those in flight at a kill: at most four for each;
    every call that the emulator took in is on the ledger, with its result or still announced;
    no request of the ledger has two outcomes, and `ledger verify` finds nothing.

Exits with 1 if any of this does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from cascade import Cascade
from cascade.audit import calling
from cascade.audit.controls import first_controls
from cascade.audit.worker import AuditSettings, AuditWorker
from cascade.core.policy import Policy
from cascade.core.prompts.audit_judge import RUBRIC
from cascade.emulator import Emulator
from cascade.emulator.scripting import ScriptedReply
from cascade.ledger.audit import AuditTables
from cascade.ledger.opening import open_reader
from cascade.ledger.records import RequestBody
from cascade.ledger.sqlite import connection
from cascade.ledger.verifying.verification import verify
from cascade.policy.loading import load_policy

AT_ONCE = 4  # samples of a worker
LATENCY_S = 0.004  # per token: a reply takes about 80 ms
WITHIN_S = 0.05  # a kill comes so long after the call that it follows, at most
TOKENS = 20
OPUS = "claude-opus-5-5"
POLICY = f"""
version: 1
name: killed
ladder:
  - {{rung: haiku, model: claude-haiku-5-5, threshold: 0.80, max_tokens: 64, thinking: disabled}}
  - {{rung: sonnet, model: claude-sonnet-5-5, threshold: 0.80, max_tokens: 64, effort: low}}
  - {{rung: opus, model: {OPUS}, max_tokens: 64, effort: low}}
deadline_s: DEADLINE
ledger: {{content: true}}
audit: {{sample: 1.0, lowest_confidence: 0.0, daily_usd: null}}
"""

Start = Callable[[list[str], dict[str, str]], tuple[subprocess.Popen[str], int]]
"""Starts Python with these arguments and this environment; the process, and the id of what is to be killed."""


@dataclass(frozen=True, slots=True)
class Result:
    """What was found at the end. `calls`: by kind (top, judge, control), those that the emulator took in."""

    samples: int
    killed: int
    calls: Mapping[str, int]
    open_calls: int
    faults: tuple[str, ...]


class Watched(Emulator):
    """Answers as the policy's rungs and as a fair judge, counts the audit's calls, and kills a process a moment after one of them."""

    def __init__(self) -> None:
        super().__init__(script=self._reply)
        self.calls: Counter[str] = Counter()
        self._known = {(item.question, item.answer): item.is_right for item in first_controls()}
        self._armed: tuple[int, int, float] | None = None

    def arm(self, process: int, after: int, delay_s: float) -> None:
        """Kill `process` so long after the `after`-th further call."""
        self._armed = process, self.calls.total() + after, delay_s

    def _reply(self, body: dict[str, Any], _: Mapping[str, str]) -> ScriptedReply:
        content = body["messages"][-1]["content"]
        usage = {"output_tokens": TOKENS}
        if body.get("system") == RUBRIC:
            shown = json.loads(content)
            question = shown["question"]
            restated = shown["answer"] != shown["reference"] and shown["answer"].split() == shown["reference"].split()
            kind = "control" if isinstance(question, str) or restated else "judge"
            known = self._known.get((question, shown["answer"])) if isinstance(question, str) else None
            agrees = shown["answer"].split() == shown["reference"].split() if known is None else known
            said = json.dumps({"reason": "so it is", "relation": "agree" if agrees else "disagree"})
            self._note(kind)
            return ScriptedReply([{"type": "text", "text": said}], usage=usage)
        number = int(content.split()[1])
        if body["model"] == OPUS:
            self._note("top")
            return ScriptedReply([{"type": "text", "text": f"right {number}"}], usage=usage)
        return ScriptedReply([{"type": "text", "text": _shipped(number)}], confidence=0.9)

    def _note(self, kind: str) -> None:
        self.calls[kind] += 1
        if self._armed is not None and self.calls.total() >= self._armed[1]:
            process, _, delay_s = self._armed
            self._armed = None
            if delay_s:
                threading.Timer(delay_s, _kill, (process,)).start()
            else:
                _kill(process)


@contextmanager
def patched(**values: str) -> Iterator[None]:
    """These environment variables, for a while: also for what this process itself asks."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _kill(process: int) -> None:
    with suppress(ProcessLookupError):  # it had nothing left to do
        os.kill(process, signal.SIGKILL)


def _shipped(number: int) -> str:
    return f"wrong {number}" if number % 5 == 0 else f"right {number}"


def start_python(arguments: list[str], environment: dict[str, str]) -> tuple[subprocess.Popen[str], int]:
    """Start this Python."""
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, *arguments], env=environment, stdout=pipe, stderr=pipe, text=True)
    return process, process.pid


def run(
    address: str,
    folder: Path,
    *,
    samples: int,
    kills: int,
    seed: int,
    deadline_s: float = 60.0,
    start: Start = start_python,
) -> Result:
    """Ship, kill, and look. `deadline_s`: short ones let the processes themselves take over what killed ones had."""
    path = folder / "killed.yaml"
    path.write_text(POLICY.replace("DEADLINE", f"{deadline_s:g}"), encoding="utf-8")
    policy, chance = load_policy(path), random.Random(seed)
    with Watched() as emulator, patched(ANTHROPIC_BASE_URL=emulator.base_url, ANTHROPIC_API_KEY="emulator"):
        environment = {**os.environ, "CASCADE_HOME": str(folder)}
        shipped = _ship(policy, address, samples)
        emulator.token_latency_s = LATENCY_S
        command = [__file__, "--child", str(path), address]
        workers = [start(command, environment) for _ in range(2)]
        killed, failed = 0, list[str]()
        for number in range(kills):
            process, victim = workers[number % 2]
            after, delay_s = chance.randint(1, 2 * AT_ONCE), chance.uniform(0, WITHIN_S)
            emulator.arm(victim, after, delay_s if number else 0.0)  # the first one comes before all can be done
            killed += _end(process, failed)
            workers[number % 2] = start(command, environment)
        for process, _ in workers:
            killed += _end(process, failed)
        asyncio.run(_work(policy, address, lambda: time.time() + 3_600))  # by this run's clock all leases have run out
        return _look(address, emulator, shipped, killed, failed)


def _ship(policy: Policy, address: str, samples: int) -> dict[str, int]:
    """Have the engine answer; by request's id the question's number."""
    with Cascade(policy, ledger=address) as driver:
        return {driver.ask(f"question {number}").request_id: number for number in range(samples)}


def _end(process: subprocess.Popen[str], failed: list[str]) -> bool:
    """Wait for a worker's end; whether it was killed."""
    try:
        _, err = process.communicate(timeout=120)
    finally:
        process.kill()
    if process.returncode not in (0, -signal.SIGKILL):
        failed.append(f"a worker ended with {process.returncode}: {err[-300:]}")
    return process.returncode == -signal.SIGKILL


async def _work(policy: Policy, address: str, wall: Callable[[], float]) -> None:
    await AuditWorker(AuditSettings(policy, address), wall=wall).run()


def _look(address: str, emulator: Watched, shipped: Mapping[str, int], killed: int, failed: list[str]) -> Result:
    found = {one.request: one for one in AuditTables(address).samples("killed")}
    wrong = [
        f"{request} is {one.state}, its score {one.score}"
        for request, number in shipped.items()
        if (one := found[request]).state != "graded" or one.score != (0.0 if number % 5 == 0 else 1.0)
    ]
    reader = open_reader(address)
    try:
        audits, outcomes, steps, opens = set[str](), Counter[str](), 0, 0
        for entry in reader.entries():
            if entry.kind == "request" and msgspec.json.decode(entry.body, type=RequestBody).arm == "audit":
                audits.add(entry.request)
            if entry.request in audits:
                outcomes[entry.request] += entry.kind == "outcome"
                steps += entry.kind == "step"
                opens += entry.kind == "open"
        findings = [one.message for one in verify(reader).findings]
    finally:
        reader.close()
    again = emulator.calls["top"] + emulator.calls["judge"] - 2 * len(shipped)
    faults = {
        "workers failed": failed,
        "samples are not graded as they should be": wrong,
        "numbers are not one for each": []
        if sorted(one.number for one in found.values()) == list(range(1, len(shipped) + 1))
        else ["they differ"],
        f"calls were made again, of {AT_ONCE} in flight at each of {killed} kills": [str(again)]
        if again > AT_ONCE * killed
        else [],
        "calls were taken in, and are not on record": [f"{emulator.calls.total()} of {opens}"]
        if emulator.calls.total() > opens
        else [],
        "calls without a result, beyond those in flight": [str(opens - steps)]
        if opens - steps > AT_ONCE * killed
        else [],
        "requests have several outcomes": [one for one, ends in outcomes.items() if ends > 1],
        "verify finds faults": findings,
    }
    told = tuple(f"{len(ones)} {what}: {ones[0]}" for what, ones in faults.items() if ones)
    return Result(len(shipped), killed, dict(emulator.calls), opens - steps, told)


def main() -> int:
    """Run the benchmark, and print its results."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--kills", type=int, default=40, help="for each ledger (default 40)")
    options.add_argument("--samples", type=int, default=400, help="sampled requests (default 400)")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument(
        "--postgres", metavar="URL", help="an empty database's address; without it only SQLite is tested"
    )
    asked = options.parse_args()
    sound = True
    with tempfile.TemporaryDirectory() as folder:
        addresses = {"SQLite": str(Path(folder) / "ledger.db")}
        if asked.postgres:
            addresses["Postgres"] = asked.postgres
        for name, address in addresses.items():
            result = run(
                address, Path(folder), samples=asked.samples, kills=asked.kills, seed=asked.seed, deadline_s=10.0
            )
            sound &= not result.faults
            _print(name, result)
    return 0 if sound else 1


def _print(name: str, result: Result) -> None:
    print(f"{name}: two workers, {result.killed} kills -9, {result.samples} sampled requests")
    calls = ", ".join(f"{kind} {count}" for kind, count in sorted(result.calls.items()))
    print(f"  calls: {calls}; {result.open_calls} of those on record have no result")
    print(
        "\n".join(f"  {fault}" for fault in result.faults) or "  every sample graded exactly once, none lost or skipped"
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        # A busy machine is no failure: who waits for a lock or the disk gets it.
        connection.BUSY_MS, calling._WRITE_S = 60_000, 60.0
        asyncio.run(_work(load_policy(sys.argv[2]), sys.argv[3], time.time))
    else:
        sys.exit(main())
