"""`cascade ledger move` under SIGKILL: a ledger goes from SQLite to Postgres whole, however often the move is interrupted.

    python benchmarks/ledger_move.py --postgres URL [--steps 1000000] [--kills 5] [--seed 0] [--folder DIR]

`--postgres` is an empty database's address. The source is written by the real writers over 60 days: steps with and without texts,
calls that were announced and never settled, and every small table. The move is killed at seeded moments: after a part of what is
left, and, the last time, in the transaction that ends it. Then it is run to its end, and once more after the source got more
requests. At the end

    `ledger verify` finds nothing on either side, and tells the same heads;
    every entry is there once, with its id, seq, bytes and digest; so is every row of every other table;
    the sums that `costs` reads are equal;
    no entry was moved twice: the runs' numbers add up to the source's.

Exits with 1 if any of this does not hold.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

from benchmarks.ledger import report, requests
from cascade.core.policy.operations import Ledger
from cascade.hooks import Begun
from cascade.ledger.audit import AuditTables, Control, Mark, Ratchet
from cascade.ledger.gateway import Feedback, GatewayTables
from cascade.ledger.hook import LedgerHook
from cascade.ledger.marks import HappenedMark, MarkTables
from cascade.ledger.moving.running import Moved, move
from cascade.ledger.opening import open_ledger, open_reader
from cascade.ledger.records import AuditRow, Batch
from cascade.ledger.sqlite.store import SqliteStore
from cascade.ledger.stores import Reader
from cascade.ledger.verifying.verification import Verification, verify
from cascade.policy.binding import bind_policy
from cascade.policy.loading import load_policy

START = 1_790_000_000.0 // 86_400 * 86_400
DAYS = 60
UNSETTLED = 12
AT_ONCE = 10_000
WITHIN_S = 0.05  # a kill comes within this time after the mark was seen
TABLES = {
    "writers": "id, name, at",
    "contents": "request, part, at, salt, text",
    "calls": "writer, at, policy, task, workflow, key, arm, bound",
    "spend": "bucket, policy, task, workflow, key, arm, rung, model, steps, escalated, cost, input, output, errors",
    "traffic": "bucket, policy, task, workflow, arm, rung, slot, requests, answers, resolved, escalated, cost, cost_squared, estimate, estimated",
    "gateway_keys": "id, at, body",
    "feedback": "id, request, at, score, note, key",
    "audit_samples": "request, at, policy, epoch, task, workflow, why, rung, place, is_top, confidence, source, cost, estimate, flags, degraded,"
    " has_content, state, owner, leased_until, bound, tries, graded_at, number, grader, score, relation, reason, skipped,"
    " grading_cost, shadow, shadow_cost, executed_by",
    "audit_controls": "id, policy, judge, is_right, relation, at, cost",
    "audit_ratchets": "policy, certificate, step, at",
    "audit_marks": "id, policy, at, kind, details",
    "marks": "id, name, at, policy, kind, details",
    "anchors": "writer, seq, digest, entries, ends, at",
    "anchored": "writer, seq, previous",
}  # fmt: skip
"""The columns that both engines have."""
TABLES |= {f"{name}_days": TABLES[name] for name in ("spend", "traffic")}

_CHILD = (
    "import sys, pathlib\nfrom cascade.ledger.moving.running import move\n"
    "move(pathlib.Path(sys.argv[1]), sys.argv[2], at_once=int(sys.argv[3]))"
)

Start = Callable[[list[str]], tuple["subprocess.Popen[str]", int]]
"""Starts Python with these arguments; the process, and the id of what is to be killed."""


@dataclass(frozen=True, slots=True)
class Killed:
    """One interrupted run: the mark before it, the mark it left, whether it was killed in its last transaction, its seconds."""

    before: int
    after: int
    last: bool
    seconds: float


class _Clock:
    """Tells the time of the request that is written."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        """Unix seconds."""
        return self.now


def make_source(path: Path, steps: int, *, first: int = 0, days: int = DAYS) -> None:
    """Write a ledger of at least so many steps, over so many days, or add them to it, `first` requests after its beginning."""
    plan, clock = bind_policy(load_policy("default")), _Clock()
    writer = open_ledger(path, Ledger())
    plain = LedgerHook(writer, Ledger(), clock=clock)
    kept = LedgerHook(writer, Ledger(content=True), clock=clock)
    written, total = 0, max(steps, 1) / 2
    for number, events in enumerate(islice(requests(plan), first, None)):
        clock.now = START + days * 86_400 * (min(number, total) / total) + first
        report(plain if number % 10 else kept, replace(events, begun=replace(events.begun, at=clock.now)))
        written += len(events.calls)
        if number % 500 == 499 and not writer.flush(60):
            sys.exit("the source cannot be written")
        if written >= steps:
            break
    announced = LedgerHook(commits := open_ledger(path, Ledger(durability="commit")), Ledger(), clock=clock)
    for events in islice(requests(plan), first, first + UNSETTLED):
        request = replace(events.begun.request, id=f"{events.begun.request.id}_cut")
        begun: Begun = replace(events.begun, request=request)
        wait = announced.begin(begun).calling(events.calls[0])
        assert wait is not None
        commits.flush(60)
    if not writer.close(60) or not commits.close(60) or writer.dropped or commits.dropped:
        sys.exit("rows of the source were dropped")
    _small_tables(str(path), first)


def _small_tables(path: str, first: int) -> None:
    gateway, audit = GatewayTables(path), AuditTables(path)
    gateway.put_key(f"key-{first}", START, '{"name": "team\\u0000"}')
    for number in range(20):
        gateway.add_feedback(
            Feedback(f"casc_{first + number:032x}", number / 20, START + number, f"“note” {number}", "team")
        )
    audit.add_control("default", Control("judge", True, "agree", START, 1_000))
    audit.add_mark(Mark("default", START, "alarm", {"rate": 0.25}))
    MarkTables(path).add(HappenedMark(START, "default", "storm_tripped", (str(first),), {"rate": 0.5}))
    audit.step_ratchet(audit.ratchet("default"), Ratchet("default", "c" * 64, first, START))
    shipped = AuditRow(
        "", START, "default", "e1", "other", "flow", "uniform", "haiku", 0, 0, 0.5, "self_reported", 100, None, '["urgent"]', None, 1,
    )  # fmt: skip
    with closing(SqliteStore(Path(path), synchronous="NORMAL")) as store:
        store.open(f"audit-{first}")
        store.write(Batch(samples=[shipped._replace(request=f"casc_{first + number:032x}") for number in range(20)]))


def start_python(arguments: list[str]) -> tuple[subprocess.Popen[str], int]:
    """Start this Python."""
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return process, process.pid


def interrupted(
    path: Path, url: str, kills: int, seed: int, *, at_once: int = AT_ONCE, start: Start = start_python
) -> Iterator[Killed]:
    """Start the move and kill it, so many times: each a part of the way further, and at last in its last transaction."""
    import psycopg  # noqa: PLC0415 - an extra

    chance = random.Random(seed)
    with closing(open_reader(path)) as reader:
        last = reader.last(1)[0].id
    with psycopg.connect(url, autocommit=True) as looking:
        for number in range(kills):
            before, is_last = _mark(looking), number == kills - 1
            wanted = last if is_last else before + max(1, int((last - before) * chance.uniform(0.05, 0.6)))
            started = time.perf_counter()
            process, victim = start(["-c", _CHILD, str(path), url, str(at_once)])
            try:
                while _mark(looking) < wanted and process.poll() is None:
                    time.sleep(0.002)
                time.sleep(0.002 if is_last else chance.uniform(0, WITHIN_S))
                alive = process.poll() is None
            finally:
                with suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)
                _, told = process.communicate()
                seconds = time.perf_counter() - started
            if not alive:
                raise RuntimeError(f"the move was over before it was killed: {told[-2000:]}")
            _until_gone(looking)
            yield Killed(before, _mark(looking), is_last, seconds)


def _mark(connection: Any) -> int:
    """The id of the last entry that was moved; 0: none yet."""
    import psycopg  # noqa: PLC0415 - an extra

    with suppress(psycopg.errors.UndefinedTable):
        found = connection.execute("SELECT last FROM cascade_ledger.move").fetchone()
        return 0 if found is None else int(found[0])
    return 0


def _until_gone(connection: Any) -> None:
    """Wait for the server to see that the process is gone."""
    others = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'cascade' AND datname = current_database()"
    while connection.execute(others).fetchone()[0]:
        time.sleep(0.01)


def faults(path: Path, url: str) -> Iterator[str]:
    """What is not on the target as it is in the source."""
    with closing(open_reader(path)) as source, closing(open_reader(url, seconds=600)) as target:
        checked = [verify(one) for one in (source, target)]
        yield from (f"verify: {one.where}: {finding.message}" for one in checked for finding in one.findings)
        if _told(checked[0]) != _told(checked[1]):
            yield "verify tells of other numbers or heads"
        yield from _other_entries(source, target)
        for name in ("spend", "traffic"):
            one, other = (sorted(getattr(reader, name)(0, 86_400 << 15)) for reader in (source, target))
            if _rounded(one) != _rounded(other):
                yield f"the sums that `costs` reads differ: {name}"
    import sqlite3  # noqa: PLC0415 - to look without the ledger's code

    import psycopg  # noqa: PLC0415 - an extra

    with closing(sqlite3.connect(path)) as file, closing(psycopg.connect(url)) as server:
        for table, columns in TABLES.items():
            question = f"SELECT {columns} FROM {{}}{table}"  # noqa: S608 - constants
            rows = sorted(file.execute(question.format("")), key=repr)
            if rows != sorted(map(tuple, server.execute(question.format("cascade_ledger."))), key=repr):  # type: ignore[arg-type]
                yield f"the rows of {table} differ"


def _told(one: Verification) -> tuple[object, ...]:
    return one.writers, one.entries, one.texts, one.unsettled, dict(one.heads)


def _other_entries(source: Reader, target: Reader) -> Iterator[str]:
    for one, other in zip_longest(source.entries(), target.entries()):
        if one != other:
            yield f"an entry differs: {one and one.id} in the source, {other and other.id} in the target"
            return


def _rounded(rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Squares are floats, added in another order."""
    return [tuple(f"{one:.9g}" if isinstance(one, float) else one for one in row) for row in rows]


def main() -> int:
    """Run the benchmark, and print its results."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--postgres", metavar="URL", required=True, help="an empty database's address")
    options.add_argument("--steps", type=int, default=1_000_000)
    options.add_argument("--kills", type=int, default=5)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--folder", type=Path, help="where the source is made (default: a temporary folder)")
    asked = options.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        path = Path(folder) / "ledger.db"
        made = _timed(lambda: make_source(path, asked.steps))
        print(
            f"source: {asked.steps:,} steps written in {made:,.0f} s, {path.stat().st_size / 1e6:,.0f} MB", flush=True
        )
        for number, one in enumerate(interrupted(path, asked.postgres, asked.kills, asked.seed), 1):
            where = "in its last transaction" if one.last else "between"
            gone = f"began at entry {one.before:,}, left the mark at {one.after:,}"
            print(f"kill {number}: {gone} ({where}, after {one.seconds:,.1f} s)", flush=True)
            marks = one.after
        ended: list[Moved] = []
        seconds = _timed(lambda: ended.append(move(path, asked.postgres)))
        print(f"to its end: {ended[0].moved:,} entries in {seconds:,.1f} s", flush=True)
        whole = marks + ended[0].moved == ended[0].entries if asked.kills else True
        make_source(path, 2_000, first=asked.steps)
        seconds = _timed(lambda: ended.append(move(path, asked.postgres)))
        print(f"what came since: {ended[1].moved:,} entries in {seconds:,.1f} s", flush=True)
        again = move(path, asked.postgres)
        found = [line for one in (*ended, again) for line in one.differences]
        if not whole or again.moved:
            found.append("entries were moved twice")
        started = time.perf_counter()
        found += faults(path, asked.postgres)
        print(
            f"compared and verified on both sides in {time.perf_counter() - started:,.0f} s: {again.entries:,} entries"
        )
    for one in found:
        print(f"FAULT {one}")
    print(
        "FAILS" if found else "holds: verify passes on both sides, every row and sum is equal, nothing was moved twice"
    )
    return 1 if found else 0


def _timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
