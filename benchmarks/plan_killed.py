"""Runs of a plan under SIGKILL: `python benchmarks/plan_killed.py [--runs 8] [--seed 0]`.

A process runs a plan of seven subtasks (the comparison of three companies): three of its results are reviewed, and one is sent back. It is
killed a random moment after a random number of calls, and the run is taken up by its name in a new process, until it has ended. Then

    the results are those of a run that nobody disturbed;
    nothing that had come was asked again: what was asked twice was under way at a kill;
    every call that the emulator took in had been reserved, and what it billed lies between what the run says it cost and that with what
    the calls under way may have cost;
    the ledger is sound, and the run's costs are its rows and what was under way.

Exits with 1 if any of this does not hold.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from cascade import Cascade, Plan, Result, Subtask
from cascade.core.planning.controls import CONTROLS
from cascade.emulator import Emulator
from cascade.emulator.scripting import ScriptedReply
from cascade.engine.planning.journal import journal_path
from cascade.ledger.opening import open_reader
from cascade.ledger.verifying.verification import verify

CONCURRENCY = 4
LATENCY_S = 0.002  # per token: a reply takes about 40 ms
WITHIN_S = 0.08  # a kill comes so long after the call that it follows, at most
USAGE = {"input_tokens": 100, "output_tokens": 20}
COST = {"haiku": 20_000, "sonnet": 400_000, "opus": 800_000}  # of a reply of USAGE, in nano-USD
MODELS = {"claude-haiku-5-5": "haiku", "claude-sonnet-5-5": "sonnet", "claude-opus-5-5": "opus"}
POLICY = """version: 1
name: killed
ladder:
  - {rung: haiku,  model: claude-haiku-5-5,  threshold: 0.80, max_tokens: 256, thinking: disabled}
  - {rung: sonnet, model: claude-sonnet-5-5, threshold: 0.80, max_tokens: 256, effort: low}
  - {rung: opus,   model: claude-opus-5-5,   max_tokens: 256}
plan: {review_high: 0.0}
ledger: {durability: commit}
"""
_ITEMS = {"type": "array", "items": {"type": "string"}}
_NAMES = {"type": "object", "properties": {"names": _ITEMS}, "required": ["names"], "additionalProperties": False}
PLAN = Plan(
    "Compare the three companies in the report.",
    (
        Subtask("names", "List the names of the companies.", ("report",), schema=_NAMES),
        Subtask("acme", "What does Acme offer?", ("report", "names")),
        Subtask("bolt", "What does Bolt offer?", ("report", "names")),
        Subtask("cord", "What does Cord offer?", ("report", "names"), "sonnet"),
        Subtask("classes", "Sort the companies into classes.", ("acme", "bolt", "cord")),
        Subtask("themes", "Which themes do they share?", ("acme", "bolt", "cord"), "sonnet"),
        Subtask("draft", "Write the comparison.", ("classes", "themes"), "opus"),
    ),
    ("report",),
)
INPUTS = {"report": "Acme sells anvils, Bolt sells bolts, Cord sells cords."}
LEVELS = {("classes", "haiku"): "low", ("themes", "sonnet"): "medium", ("draft", "opus"): "medium"}
_IDS = {one.instruction: one.id for one in PLAN.subtasks}
_KNOWN = {(item.instruction, item.result): item.is_right for item in CONTROLS}

Start = Callable[[list[str], dict[str, str]], tuple[subprocess.Popen[str], int]]
"""Starts Python with these arguments and this environment; the process, and the id of what is to be killed."""


@dataclass(frozen=True, slots=True)
class Found:
    """What the runs showed. `calls`: those that the emulator took in; `again`: of those, beyond an undisturbed run's."""

    runs: int
    killed: int
    calls: int
    again: int
    faults: tuple[str, ...]


class Watched(Emulator):
    """Answers as executors and as a fair reviewer, counts the calls, and kills a process a moment after one of them."""

    def __init__(self) -> None:
        super().__init__(script=self._reply)
        self.calls: Counter[tuple[str, str]] = Counter()
        self._armed: tuple[int, int, float] | None = None

    def arm(self, process: int, after: int, delay_s: float) -> None:
        """Kill `process` so long after the `after`-th further call."""
        self._armed = process, self.calls.total() + after, delay_s

    @property
    def billed_nanousd(self) -> int:
        """What all calls cost."""
        return sum(COST[rung] * count for (_, rung), count in self.calls.items())

    def _reply(self, body: dict[str, Any], _: Mapping[str, str]) -> ScriptedReply:
        asked, rung = json.loads(body["messages"][-1]["content"]), MODELS[body["model"]]
        if "result" in asked:
            said: dict[str, Any] = {"reason": "so it is", "verdict": _verdict(asked["instruction"], asked["result"])}
            known = (asked["instruction"], asked["result"]) in _KNOWN
            name = "control" if known else f"review {_IDS[asked['instruction']]}"
        else:
            name = _IDS[asked["instruction"]]
            result: Any = {"names": ["Acme", "Bolt", "Cord"]} if name == "names" else f"{name} by {rung}"
            said = {"result": result, "assessment": LEVELS.get((name, rung), "high"), "reason": "so it is"}
        self._note(name, rung)
        return ScriptedReply([{"type": "text", "text": json.dumps(said)}], usage=USAGE, confidence=0.9)

    def _note(self, name: str, rung: str) -> None:
        self.calls[name, rung] += 1
        if self._armed is not None and self.calls.total() >= self._armed[1]:
            process, _, delay_s = self._armed
            self._armed = None
            threading.Timer(delay_s, _kill, (process,)).start()


def _verdict(instruction: str, result: str) -> str:
    known = _KNOWN.get((instruction, result))
    if known is not None:
        return "accept" if known else "retry"
    return "retry" if result == "classes by haiku" else "accept"


def _kill(process: int) -> None:
    with suppress(ProcessLookupError):  # it had nothing left to do
        os.kill(process, signal.SIGKILL)


@contextmanager
def _patched(**values: str) -> Iterator[None]:
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


def start_python(arguments: list[str], environment: dict[str, str]) -> tuple[subprocess.Popen[str], int]:
    """Start this Python."""
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, *arguments], env=environment, stdout=pipe, stderr=pipe, text=True)
    return process, process.pid


def child(policy: str, name: str) -> None:
    """Run the plan, or take it up, until this process is killed or done."""
    with Cascade(policy) as driver:
        driver.run(PLAN, inputs=INPUTS, run=name, concurrency=CONCURRENCY)


def run(folder: Path, *, runs: int, seed: int, most_kills: int = 100, start: Start = start_python) -> Found:
    """Run, kill, take up, and compare. `folder`: an empty one. `most_kills`: of each run; then it may end."""
    policy, chance, faults = folder / "killed.yaml", random.Random(seed), list[str]()
    policy.write_text(POLICY, encoding="utf-8")
    killed = 0
    with (
        Watched() as emulator,
        _patched(ANTHROPIC_BASE_URL=emulator.base_url, ANTHROPIC_API_KEY="emulator", CASCADE_HOME=str(folder)),
        Cascade(policy) as driver,
    ):
        whole = driver.run(PLAN, inputs=INPUTS)
        once = Counter(emulator.calls)
        emulator.token_latency_s = LATENCY_S
        command, total, again = [str(Path(__file__).resolve()), "--child", str(policy)], 0, 0
        for number in range(runs):
            name, kills, ended = f"killed-{number}", 0, False
            emulator.calls.clear()
            while not ended:
                process, victim = start([*command, name], dict(os.environ))
                if kills < most_kills:
                    emulator.arm(victim, chance.randint(1, 2 * CONCURRENCY), chance.uniform(0, WITHIN_S))
                ended = _end(process, faults)
                kills += not ended
            killed += kills
            total += emulator.calls.total()
            again += _without_controls(emulator.calls - once).total()
            result = driver.run(PLAN, inputs=INPUTS, run=name)
            faults += [f"run {number}: {fault}" for fault in _faults(emulator, result, whole, once, kills)]
        faults += _unsound()
    return Found(runs, killed, total, again, tuple(faults))


def _end(process: subprocess.Popen[str], faults: list[str]) -> bool:
    """Wait for a process's end; whether the run has ended."""
    try:
        _, err = process.communicate(timeout=120)
    finally:
        process.kill()
    if process.returncode not in (0, -signal.SIGKILL):
        faults.append(f"a process ended with {process.returncode}: {err[-300:]}")
        return True
    return process.returncode == 0


def _without_controls(calls: Counter[tuple[str, str]]) -> Counter[tuple[str, str]]:
    return Counter({key: count for key, count in calls.items() if key[0] != "control"})


def _shown(result: Result) -> dict[str, tuple[object, ...]]:
    return {name: (one.status, one.text, one.rung, one.why, len(one.attempts)) for name, one in result.subtasks.items()}


def _faults(
    emulator: Watched, result: Result, whole: Result, once: Counter[tuple[str, str]], kills: int
) -> Iterator[str]:
    """What a run that was killed so often shows that it should not."""
    if _shown(result) != _shown(whole) or not result.ok:
        yield f"the results differ: {_shown(result)}"
    run = _Journal(result.id)
    yield from run.faults
    if missing := _without_controls(once - emulator.calls):
        yield f"calls were not made: {dict(missing)}"
    again = _without_controls(emulator.calls - once).total()
    if again > run.cut_calls:
        yield f"{again} calls were made again, and {run.cut_calls} belong to requests that were under way at a kill"
    if run.cut_requests > 2 * CONCURRENCY * kills:
        yield f"{run.cut_requests} requests were cut off by {kills} kills"
    if emulator.calls.total() > run.reserved:
        yield f"{emulator.calls.total()} calls were taken in, and {run.reserved} had been reserved"
    billed = emulator.billed_nanousd
    if not result.cost_nanousd <= billed <= result.cost_nanousd + result.maybe_nanousd:
        yield f"billed {billed}, said {result.cost_nanousd} and perhaps {result.maybe_nanousd} more"
    rows = _ledger_costs(result.id)
    if wrong := {key: (cost, rows.get(key)) for key, cost in run.ended.items() if rows.get(key) != cost}:
        yield f"requests cost something else on the ledger: {wrong}"
    if result.cost_nanousd != sum(rows[key] for key in run.ended if key in rows) + run.cut_cost:
        yield f"it cost {result.cost_nanousd}, and the ledger's rows and what was under way are something else"


class _Journal:
    """What a run's journal says. `ended`: costs by request; of those without an end how many, their calls and what is known of their cost."""

    def __init__(self, run: str) -> None:
        paths = journal_path("x").parent.glob("*.jsonl")
        text = next(text for path in paths if f'"run": "{run}"' in (text := path.read_text("utf-8")).partition("\n")[0])
        self.faults: list[str] = []
        self.ended: dict[str, int] = {}
        reserved: Counter[str] = Counter()
        counted: Counter[str] = Counter()
        came: set[tuple[str, str, int]] = set()
        for line in map(json.loads, text.splitlines()[1:]):
            if "request" in line:
                part = line["role"], line["subtask"], line["attempt"]
                if part in came:
                    self.faults.append(f"{part} was asked again after it had come")
            elif "reserve" in line:
                reserved[line["reserve"]] += 1
            elif "settle" in line:
                counted[line["settle"]] += line["counted"]
            elif "end" in line:
                self.ended[line["end"]] = line["cost"]
            elif "attempt" in line:
                came.add(("executor", line["subtask"], line["attempt"]["number"]))
            elif "review" in line:
                came.add(("reviewer", line["subtask"], max(n for _, name, n in came if name == line["subtask"])))
        cut = [request for request in reserved if request not in self.ended]
        self.reserved, self.cut_requests = reserved.total(), len(cut)
        self.cut_calls, self.cut_cost = sum(reserved[one] for one in cut), sum(counted[one] for one in cut)


def _ledger_costs(run: str) -> dict[str, int]:
    """By request of the run, what the ledger has in its outcome."""
    mine, costs, reader = set[str](), dict[str, int](), open_reader()
    try:
        for entry in reader.entries():
            body: dict[str, Any] = msgspec.json.decode(entry.body) if entry.kind in ("request", "outcome") else {}
            if entry.kind == "request" and (body.get("plan") or {}).get("run") == run:
                mine.add(entry.request)
            if entry.kind == "outcome" and entry.request in mine:
                costs[entry.request] = body["cost"]
    finally:
        reader.close()
    return costs


def _unsound() -> list[str]:
    reader = open_reader()
    try:
        return [f"the ledger: {one.message}" for one in verify(reader).findings]
    finally:
        reader.close()


def main() -> int:
    """Run the benchmark, and print its results."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--runs", type=int, default=8, help="runs that are killed until they end (default 8)")
    options.add_argument("--seed", type=int, default=0)
    asked = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = run(Path(folder), runs=asked.runs, seed=asked.seed)
    print(f"{found.runs} runs of {len(PLAN.subtasks)} subtasks, {found.killed} kills -9")
    print(f"  calls: {found.calls}, of which {found.again} were made again because a kill cut their request off")
    held = "results as undisturbed, nothing that had come was paid twice, costs and ledger agree"
    print("\n".join(f"  {fault}" for fault in found.faults) or f"  {held}")
    return 1 if found.faults else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:4])
    else:
        sys.exit(main())
