"""The ledger under SIGKILL: every returned answer is recorded, and every paid call is accounted for.

    python benchmarks/ledger_kill.py [--kills 100] [--seed 0] [--quick] [--at-once N] [--postgres URL] [--folder DIR]

A process asks the emulator, 64 requests at a time (`AsyncCascade` and `Cascade` in turn, `durability: commit`), and writes
each answer to a pipe as soon as it has it. It is killed a random moment after one of its first calls, again and again, on one
ledger: SQLite and, with `--postgres` (an empty database's address), Postgres. After each kill

    every returned answer has exactly one recorded outcome, and no request has more than one;
    calls without a result (`open`, no `step`) are at most the 64 that can have been in flight;
    every settled call was billed, and every billed call is settled or open: call by call, not only in number;
    `ledger verify` finds nothing in the whole ledger.

If the ledger reported before the kill that it could not be written, answers continue without it, and the first and third
are not required; such kills are counted. So settled <= billed <= settled + unsettled. The last two differ by calls that were
recorded but had not reached the emulator, and by calls that had, but whose process was gone before there was a reply to
bill; both are printed. A provider may bill the latter too: "taken in" counts them. A killed process is not a power cut: the
disk's handling of a sync is not tested. Exits with 1 if any of this does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from http.client import HTTPConnection
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from cascade import AsyncCascade, Cascade
from cascade.core.messages import Usage
from cascade.corpora import Corpus, Item, LadderEntry, Manifest, RecordedReply, text_of
from cascade.corpora.items import RecordedUsage
from cascade.emulator import Emulator
from cascade.ledger.opening import open_reader
from cascade.ledger.records import OpenBody, OutcomeBody, RequestBody, StepBody
from cascade.ledger.stores import Reader
from cascade.ledger.verifying.verification import verify

_T = TypeVar("_T")

AT_ONCE = 64  # requests
LATENCY_S = 0.0005  # per token: a reply takes about 20 ms, so that calls are in flight at a kill
CALLS = 300  # a kill follows one of this many first calls
WITHIN_S = 0.03  # and comes within this time after it, before or after the next record
ITEMS = 1_000  # more than a run can ask
MODELS = {"haiku": "claude-haiku-5-5", "sonnet": "claude-sonnet-5-5", "opus": "claude-opus-5-5"}
POLICY = """
version: 1
name: kill
ladder:
  - {rung: haiku, model: claude-haiku-5-5, threshold: 0.80, max_tokens: 1024, thinking: disabledSAMPLES}
  - {rung: sonnet, model: claude-sonnet-5-5, threshold: 0.80, max_tokens: 4096, effort: low}
  - {rung: opus, model: claude-opus-5-5, max_tokens: 8192}
ledger: {durability: commit}
"""

SAMPLES = "samples: {max: 4, agree: 3, same: exact, at_once: "
"""With `--at-once`: Haiku is asked until three answers are the same, so many at a time."""

Call = tuple[str, int]
"""A model and the question's number: no process asks the same question twice, but a rung may be asked it several times."""


@dataclass(frozen=True, slots=True)
class Kill:
    """The state after one kill: numbers of returned answers and of calls.

    `down`: how often the ledger reported that it could not be written (a timeout counts); entries that waited may then be
    lost. `faults`: violated claims.
    """

    returned: int
    settled: int
    unsettled: int
    taken_in: int
    billed: int
    down: int
    faults: tuple[str, ...]

    @property
    def unsent(self) -> int:
        """Calls on record that had not reached the emulator."""
        return self.settled + self.unsettled - self.taken_in

    @property
    def unpaid(self) -> int:
        """Calls that reached the emulator, whose process was gone before there was a reply to bill."""
        return self.taken_in - self.billed


class Watched(Emulator):
    """Counts received and billed calls, and kills the asking process a moment after one of them."""

    def __init__(self, corpus: Corpus, *, calls: int, delay_s: float) -> None:
        super().__init__(corpus, token_latency_s=LATENCY_S)
        self.taken_in: Counter[Call] = Counter()
        self.paid: Counter[Call] = Counter()
        self._calls, self._delay_s = calls, delay_s
        self._armed: threading.Timer | None = None

    def arm(self, process: int) -> None:
        """Kill `process` after the set number of calls and delay."""
        self._armed = threading.Timer(self._delay_s, lambda: os.kill(process, signal.SIGKILL))

    def catch_up(self) -> None:
        """Return when all bytes sent before this have been read."""
        for _ in range(3):  # after three turns of its loop the other connections had theirs
            with closing(HTTPConnection(self.host, self.port)) as late:
                late.request("GET", "/v1/models")
                late.getresponse().read()

    def note(self, request: Any) -> None:
        """Count a call."""
        super().note(request)
        if request.method != "POST":
            return
        self.taken_in[request.body["model"], int(text_of(request.body["messages"]).rpartition(" ")[2])] += 1
        self._calls -= 1
        if not self._calls and self._armed is not None:
            self._armed.start()

    def bill(self, model: str, usage: Usage, *, whole: bool) -> None:
        """Count a billed reply; its number of input tokens identifies the question."""
        super().bill(model, usage, whole=whole)
        self.paid[model, usage.input_tokens] += 1


def main() -> int:
    """Run the benchmark, and print its results."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--kills", type=int, default=100, help="for each ledger (default 100)")
    options.add_argument("--quick", action="store_true", help="5 kills")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument(
        "--at-once", type=int, metavar="N", help="ask Haiku until 3 of at most 4 samples are the same, N at a time"
    )
    options.add_argument(
        "--postgres", metavar="URL", help="an empty database's address; without it only SQLite is tested"
    )
    options.add_argument("--folder", help="folder for the SQLite ledger, on the disk to test")
    asked = options.parse_args()
    kills = 5 if asked.quick else asked.kills
    calls = CALLS if asked.at_once is None else 4 * CALLS  # of a vote there are up to four
    sound = True
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        addresses = {"SQLite": str(Path(folder) / "ledger.db")}
        if asked.postgres:
            addresses["Postgres"] = asked.postgres
        else:
            print("no --postgres URL: only SQLite is tested")
        for name, address in addresses.items():
            sound &= print_series(
                name, tuple(series(address, Path(folder), kills, asked.seed, calls, at_once=asked.at_once))
            )
    return 0 if sound else 1


def print_series(name: str, kills: tuple[Kill, ...]) -> bool:
    """Print the results of a series; returns whether every claim held."""
    equal = sum(kill.billed == kill.settled + kill.unsettled for kill in kills)
    taken = sum(not kill.unsent for kill in kills)
    print(f"{name}: {len(kills)} kills -9 under {AT_ONCE} concurrent asks, durability: commit")
    print(f"  answers returned {sum(k.returned for k in kills)}, calls settled {sum(k.settled for k in kills)}")
    print(f"  unsettled: {sum(k.unsettled for k in kills)}, at most {max(k.unsettled for k in kills)} after one kill")
    print(f"  billed {sum(k.billed for k in kills)}; settled <= billed <= settled + unsettled: {len(kills)} kills")
    print(
        f"  billed = settled + unsettled: {equal} kills; else {sum(k.unpaid for k in kills)} calls were taken in, their process"
    )
    print(f"  gone before a reply, and {sum(k.unsent for k in kills)} were on record and not sent yet")
    print(f"  taken in = settled + unsettled: {taken} kills")
    if down := sum(kill.down > 0 for kill in kills):
        print(
            f"  the ledger reported before {down} kills that it could not be written: missing entries are no fault there"
        )
    faults = [f"  kill {number}: {fault}" for number, kill in enumerate(kills) for fault in kill.faults]
    print(
        "\n".join(faults) if faults else "  every answer on record once, every call accounted for, verify finds nothing"
    )
    return not faults


Start = Callable[[list[str], dict[str, str]], tuple[subprocess.Popen[str], int]]
"""Starts Python with these arguments and this environment; the process, and the id of what is to be killed."""


def start_python(arguments: list[str], environment: dict[str, str]) -> tuple[subprocess.Popen[str], int]:
    """Start this Python."""
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, *arguments], env=environment, stdout=pipe, stderr=pipe, text=True)
    return process, process.pid


def series(
    address: str,
    folder: Path,
    kills: int,
    seed: int,
    calls: int = CALLS,
    *,
    at_once: int | None = None,
    start: Start = start_python,
) -> Iterator[Kill]:
    """Kill `kills` processes in turn, each after one of its first `calls` calls, and check the ledger after each.

    `at_once`: Haiku is asked several times, so many at a time; None: once. `start`: how the processes are started.
    """
    chance, corpus = random.Random(seed), _corpus(repeated=at_once is not None)
    policy = folder / "kill.yaml"
    samples = "" if at_once is None else f", {SAMPLES}{at_once}}}"
    policy.write_text(POLICY.replace("SAMPLES", samples), encoding="utf-8")
    after = unsettled = 0
    for number in range(kills):
        with Watched(corpus, calls=chance.randint(1, calls), delay_s=chance.uniform(0, WITHIN_S)) as emulator:
            environment = {
                **os.environ, "ANTHROPIC_BASE_URL": emulator.base_url, "ANTHROPIC_API_KEY": "emulator",
                "CASCADE_HOME": str(folder),
            }  # fmt: skip
            command = [__file__, "--child", ("async", "threads")[number % 2], str(policy), address]
            process, victim = start(command, environment)
            emulator.arm(victim)
            try:
                out, err = process.communicate(timeout=120)
            finally:
                process.kill()
            emulator.catch_up()
        assert process.returncode == -signal.SIGKILL, err
        reader = open_reader(address)
        try:
            down = sum("ledger_down" in line for line in err.splitlines())
            most = AT_ONCE * (at_once or 1)
            after, kill = _check(reader, after, out.splitlines(keepends=True), emulator, down, most)
            found = verify(reader)
        finally:
            reader.close()
        unsettled += kill.unsettled
        faults = [*kill.faults, *(finding.message for finding in found.findings)]
        if found.unsettled != unsettled:
            faults.append(f"verify counts {found.unsettled} unsettled calls, not {unsettled}")
        yield replace(kill, faults=tuple(faults))


def _check(reader: Reader, after: int, lines: list[str], emulator: Watched, down: int, most: int) -> tuple[int, Kill]:
    """Compare one process's ledger entries with the answers it returned and the calls the emulator saw.

    `most`: calls that may have been in flight.
    """
    asked: dict[str, int] = {}
    opens, settled, costs = Counter[Call](), Counter[Call](), Counter[str]()
    outcomes: dict[str, list[OutcomeBody]] = {}
    for entry in reader.entries(after=after):
        after = entry.id
        if entry.kind == "request":
            asked[entry.request] = int(_read(entry.body, RequestBody).metadata["number"])
        elif entry.kind == "open":
            opens[_read(entry.body, OpenBody).model, asked[entry.request]] += 1
        elif entry.kind == "step":
            step = _read(entry.body, StepBody)
            settled[step.model, step.input_tokens] += 1
            costs[entry.request] += step.cost
        else:
            outcomes.setdefault(entry.request, []).append(_read(entry.body, OutcomeBody))
    returned = [line.strip() for line in lines if line.endswith("\n")]  # the kill may have cut the last line
    unsettled = opens - settled
    faults = {
        "requests with more than one outcome": [one for one, ends in outcomes.items() if len(ends) > 1],
        "answers without one, or with another cost than their steps": [
            one for one, ends in outcomes.items() if ends[0].error or ends[0].cost != costs[one]
        ],
        "answers returned twice": [one for one, times in Counter(returned).items() if times > 1],
        "calls settled, and never put on record before": list(settled - opens),
        "calls settled, and not billed": list(settled - emulator.paid),
        f"calls unsettled, of {most} in flight": list(unsettled.elements()) if unsettled.total() > most else [],
    }
    if not down:  # otherwise answers continue, and entries that wait for the ledger are lost with the process
        faults |= {
            "answers returned, and not on record": [one for one in returned if one not in outcomes],
            "calls billed, and neither settled nor open": list(emulator.paid - settled - unsettled),
            "calls taken in, and not on record": list(emulator.taken_in - opens),
        }
    kill = Kill(
        len(returned), settled.total(), unsettled.total(), emulator.taken_in.total(), emulator.paid.total(),
        down, tuple(f"{len(found)} {what}: {found[0]}" for what, found in faults.items() if found),
    )  # fmt: skip
    return after, kill


def _read(body: bytes, kind: type[_T]) -> _T:
    return msgspec.json.decode(body, type=kind)


def _corpus(*, repeated: bool) -> Corpus:
    """Distinct questions; a third is answered at once, a third climbs once, a third twice.

    `repeated`: to those that climb once Haiku gives three answers in turn, on which it does not agree.
    """

    def reply(number: int, confidence: float | None, text: str) -> RecordedReply:
        usage: RecordedUsage = {"input_tokens": number, "output_tokens": 20 + number % 40}
        return RecordedReply(confidence, text, 1.0, usage)

    items = tuple(
        Item(
            f"kill-{number}-{again}",
            f"Question {number}",
            {
                "haiku": reply(number, 0.9 if number % 3 == 0 else 0.2, f"Answer {number} {again}."),
                "sonnet": reply(number, 0.9 if number % 3 == 1 else 0.2, f"Answer {number}."),
                "opus": reply(number, None, f"Answer {number}."),
            },
        )
        for number in range(1, ITEMS + 1)
        for again in range(3 if repeated and number % 3 == 1 else 1)
    )
    ladder = tuple(LadderEntry(rung, model) for rung, model in MODELS.items())
    return Corpus(Manifest("kill", ladder, synthetic=True, items=len(items)), items)


def child(kind: str, policy: str, address: str) -> None:
    """The process to be killed: ask questions, 64 at a time, and report which are answered."""
    numbers = count(1)
    if kind == "async":
        asyncio.run(_ask_async(policy, address, numbers))
    else:
        with Cascade(policy, ledger=address) as cascade, ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda _: _ask(cascade, numbers), range(AT_ONCE)))
    signal.pause()


def _ask(cascade: Cascade, numbers: Iterator[int]) -> None:
    while (number := next(numbers)) <= ITEMS:
        _report(cascade.ask(f"Question {number}", metadata={"number": str(number)}).request_id)


async def _ask_async(policy: str, address: str, numbers: Iterator[int]) -> None:
    async def work(cascade: AsyncCascade) -> None:
        while (number := next(numbers)) <= ITEMS:
            _report((await cascade.ask(f"Question {number}", metadata={"number": str(number)})).request_id)

    async with AsyncCascade(policy, ledger=address) as cascade:
        await asyncio.gather(*(work(cascade) for _ in range(AT_ONCE)))


def _report(request: str) -> None:
    os.write(1, f"{request}\n".encode())  # one write: the whole line is on the pipe when this returns


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:])
    else:
        sys.exit(main())
