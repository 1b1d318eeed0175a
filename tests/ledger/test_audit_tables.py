"""The audit's tables: leases, the cap, what is found, ratchets; in SQLite and in Postgres."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cascade.ledger.audit import AuditTables, Control, Grading, Leased, Mark, Ratchet
from cascade.ledger.gateway import Feedback, GatewayTables
from cascade.ledger.naming import audit_id
from cascade.ledger.opening import open_reader
from cascade.ledger.postgres.store import PostgresStore
from cascade.ledger.records import AuditRow, Batch, Content, OpenCall, SpendKey
from cascade.ledger.sqlite import connection
from cascade.ledger.sqlite.store import SqliteStore
from cascade.ledger.stores import LedgerDown, Store
from tests.warm import WarmPython

DAY = 1_795_046_400.0
NOW = DAY + 3_600.0


@pytest.fixture(params=["sqlite", "postgres"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A ledger's address, where nothing is yet."""
    return str(tmp_path / "ledger.db") if request.param == "sqlite" else request.getfixturevalue("emptied_postgres")


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine is, a writer that waits for a lock gets it."""
    monkeypatch.setattr(connection, "BUSY_MS", 60_000)


def store_at(address: str, writer: str = "one") -> Store:
    """A writer's connection."""
    store = PostgresStore(address, seconds=60) if "://" in address else SqliteStore(Path(address), synchronous="NORMAL")
    store.open(writer)
    return store


def row(number: int, *, policy: str = "support", at: float = DAY, **more: Any) -> AuditRow:
    """A sampled request as it is written with its outcome."""
    shipped = AuditRow(
        f"r{number}", at + number, policy, "e1", "refund", "mail", "uniform", "haiku", 0, 0, 0.5, "self_reported", 100,
        900, '["urgent"]', None, 1,
    )  # fmt: skip
    return shipped._replace(**more)


@pytest.fixture
def put(address: str) -> Callable[..., AuditTables]:
    """Write samples as the writer does; the tables."""

    def puts(count: int = 3, **more: Any) -> AuditTables:
        with closing(store_at(address)) as store:
            store.write(Batch(samples=[row(number, **more) for number in range(count)]))
        return AuditTables(address)

    return puts


def take(tables: AuditTables, now: float = NOW, owner: str = "one", seconds: float = 60.0, bound: int = 10) -> Leased:
    """Lease a sample that is there."""
    leased = tables.lease("support", owner, now, seconds, bound=bound, cap=None, day=DAY)
    assert isinstance(leased, Leased)
    return leased


def test_nothing_is_made_by_looking(address: str, tmp_path: Path) -> None:
    """Where there is no ledger there is nothing to lease and nothing to see, and none is made."""
    tables = AuditTables(address)
    assert (tables.samples(), tables.controls("support"), tables.marks("support")) == ((), (), ())
    assert tables.ratchet("support") is None
    assert tables.lease("support", "one", NOW, 60, bound=1, cap=None, day=DAY) == "none"
    assert tables.counts("support") == {"open": 0, "leased": 0, "graded": 0, "skipped": 0}
    assert not (tmp_path / "ledger.db").exists()


def test_a_sample_is_read_as_it_was_written(put: Callable[..., AuditTables]) -> None:
    """Each field comes back, for one policy or all, in the order of time, within a period."""
    tables = put(2, why="both", is_top=1, place=2, estimate=None, confidence=None, source=None, degraded="deadline")
    first, second = tables.samples("support")
    assert (first.request, first.at, first.policy, first.epoch, first.task) == ("r0", DAY, "support", "e1", "refund")
    assert (first.why, first.is_uniform, first.rung, first.index, first.is_top) == ("both", True, "haiku", 2, True)
    assert (first.confidence, first.source, first.cost, first.estimate) == (None, None, 100, None)
    assert (first.workflow, first.flags, first.degraded, first.has_content) == ("mail", ("urgent",), "deadline", True)
    assert (first.state, first.number, first.grading, first.shadow, first.outcome) == ("open", 0, None, None, None)
    assert tables.samples(since=DAY + 1) == (second,)
    assert tables.samples(until=DAY + 1) == (first,)
    assert tables.samples("other") == ()


def test_a_sample_is_leased_to_one_worker_until_its_lease_runs_out(put: Callable[..., AuditTables]) -> None:
    """The oldest first, each once; a lease that is over is given to another, who is told that it was tried."""
    tables = put(2)
    assert take(tables).sample.request == "r0"
    assert take(tables, owner="two").sample.request == "r1"
    assert tables.lease("support", "three", NOW, 60, bound=1, cap=None, day=DAY) == "none"
    assert tables.counts("support", NOW) == {"open": 2, "leased": 2, "graded": 0, "skipped": 0}
    again = take(tables, NOW + 60, owner="three")
    assert (again.sample.request, again.owner, again.tries, again.until) == ("r0", "three", 1, NOW + 120)


def test_a_worker_that_comes_back_late_changes_nothing(put: Callable[..., AuditTables]) -> None:
    """Its lease was taken by another, under the same name even: it can neither finish nor keep nor give back."""
    tables = put(1)
    late = take(tables)
    holder = take(tables, NOW + 60)
    assert not tables.keep_shadow(late, "late", 5, NOW + 61, 60)
    assert not tables.finish(late, Grading("exact", 0.0), NOW + 61)
    tables.release(late)
    assert tables.finish(holder, Grading("exact", 1.0), NOW + 62)
    assert not tables.finish(holder, Grading("exact", 0.0), NOW + 63)
    (sample,) = tables.samples()
    assert (sample.score, sample.shadow, sample.number) == (1.0, None, 1)


def test_a_lease_that_is_over_still_counts_where_nobody_took_it(put: Callable[..., AuditTables]) -> None:
    """The work was done and paid: it is not thrown away because it took long."""
    tables = put(1)
    leased = take(tables, seconds=1)
    assert tables.finish(leased, Grading("exact", 1.0), NOW + 99)


def test_what_is_given_back_is_not_leased_before_its_time(put: Callable[..., AuditTables]) -> None:
    """A call that failed is tried again later, and meanwhile the others are graded."""
    tables = put(1)
    tables.release(take(tables), retry_at=NOW + 30)
    assert tables.lease("support", "one", NOW + 29, 60, bound=1, cap=None, day=DAY) == "none"
    assert take(tables, NOW + 30).tries == 1


def test_a_shadow_answer_is_kept_with_the_lease(put: Callable[..., AuditTables]) -> None:
    """So that it is not paid for again by whoever leases it next; the lease goes on from then."""
    tables = put(1)
    leased = take(tables, seconds=60)
    assert tables.keep_shadow(leased, "opus \ud800said\0", 7, NOW + 50, 60)
    assert tables.lease("support", "two", NOW + 109, 60, bound=1, cap=None, day=DAY) == "none"
    again = take(tables, NOW + 110, owner="two")
    assert (again.sample.shadow, again.sample.shadow_cost) == ("opus ?said\N{REPLACEMENT CHARACTER}", 7)


def test_what_was_found_is_on_record_and_numbered(put: Callable[..., AuditTables]) -> None:
    """Graded samples are numbered in their order; one that was skipped has no number."""
    tables = put(3)
    first, second, third = (take(tables) for _ in range(3))
    said = Grading("judge:opus", 0.0, "disagree", "it names another date", None, 12)
    assert tables.finish(third, said, NOW + 1)
    assert tables.finish(first, Grading("", skipped="tool_use"), NOW + 2)
    assert tables.finish(second, Grading("judge:opus", None, "cannot_tell"), NOW + 3)
    found = {sample.request: sample for sample in tables.samples()}
    assert (found["r2"].grading, found["r2"].number, found["r2"].graded_at) == (said, 1, NOW + 1)
    assert (found["r0"].state, found["r0"].number, found["r0"].score) == ("skipped", 0, None)
    assert (found["r1"].state, found["r1"].number, found["r1"].score) == ("graded", 2, None)
    assert tables.counts("support") == {"open": 0, "leased": 0, "graded": 2, "skipped": 1}


def test_the_newest_real_outcome_outranks_the_grader(put: Callable[..., AuditTables], address: str) -> None:
    """What was said last of the answer counts, whatever time it names; it is there when the sample is leased, too."""
    tables = put(2)
    said = GatewayTables(address)
    said.add_feedback(Feedback("r0", 1.0, NOW + 5))
    said.add_feedback(Feedback("r0", 0.25, NOW))
    leased = take(tables)
    assert leased.sample.outcome == 0.25
    tables.finish(leased, Grading("exact", 1.0), NOW)
    assert [(sample.outcome, sample.score) for sample in tables.samples()] == [(0.25, 0.25), (None, None)]


def spend(store: Store, cost: int, at: float = NOW, arm: str = "audit") -> None:
    """What a call cost, as the writer adds it up."""
    bucket = int(at) // 900 * 900
    key = SpendKey(bucket, "support", "refund", "", "", arm, "opus", "claude-opus")
    store.write(Batch(spend={key: [1, 0, cost, 10, 1, 0]}))


def test_the_cap_counts_what_was_spent_since_and_what_is_reserved(
    put: Callable[..., AuditTables], address: str
) -> None:
    """The audit's own spend from the day's start, running leases, calls without a result; not yesterday's, nor the ladder's."""
    tables = put(4)

    def lease(cap: int, now: float = NOW) -> str | Leased:
        return tables.lease("support", "one", now, 60, bound=10, cap=cap, day=DAY)

    with closing(store_at(address)) as store:
        spend(store, 500, at=DAY - 1)
        spend(store, 500, arm="cascade")
        spend(store, 30)
        assert lease(39) == "cap"
        first = lease(40)
        assert isinstance(first, Leased)
        assert lease(49) == "cap"  # 30 spent, 10 reserved
        spend(store, 4)
        assert tables.keep_shadow(first, "said", 4, NOW, 60)  # of the ten four are spent now
        assert lease(49) == "cap"
        assert isinstance(lease(50), Leased)
        call = OpenCall("gone_audit", 2, NOW, "support", "refund", "", "", "audit", 100)
        store.write(Batch(opened={("gone_audit", 2): call}))
        assert lease(159) == "cap"  # 34 spent, 6 and 10 reserved, 100 perhaps spent, 10 more
        assert isinstance(lease(160), Leased)
        assert isinstance(lease(154, NOW + 60), Leased)  # the leases are over


def test_each_call_is_reserved_in_place_of_the_one_before_and_renews_the_lease(
    put: Callable[..., AuditTables],
) -> None:
    """The cap counts the other leases and this call, not the call before it; without room, or a lease, nothing is changed."""
    tables = put(2)
    first, second = take(tables, bound=0), take(tables, owner="two", bound=30)

    def reserve(leased: Leased, bound: int, now: float = NOW) -> str:
        return tables.reserve(leased, bound, now, 60.0, cap=100, day=DAY)

    assert [reserve(first, 70), reserve(first, 71), reserve(first, 60)] == ["ok", "cap", "ok"]
    assert reserve(second, 41) == "cap"
    assert reserve(first, 10, NOW + 59) == "ok"
    assert reserve(second, 90, NOW + 59) == "ok"
    third = take(
        tables, NOW + 119.5, owner="three", bound=0
    )  # what the first one had: renewed until then, and not for longer
    assert third.sample == first.sample
    assert reserve(first, 1, NOW + 119.5) == "lost"


def test_a_lease_that_was_not_used_is_no_try(put: Callable[..., AuditTables]) -> None:
    """Given back for want of money, a sample is tried as often as before."""
    tables = put(1)
    tables.release(take(tables))
    tables.release(take(tables), tried=False)
    assert take(tables).tries == 1


def test_the_audits_spend_is_in_no_budget_of_the_policy(address: str) -> None:
    """It has a limit of its own: budgets are seeded without it; by its arm it is read."""
    with closing(store_at(address)) as store:
        spend(store, 30)
        spend(store, 5, arm="cascade")
    with closing(open_reader(address)) as reader:
        assert reader.spent("support", "policy", "", DAY, NOW + 900) == 5
        assert reader.spent("support", "task", "refund", DAY, NOW + 900) == 5
        assert reader.spent("support", "arm", "audit", DAY, NOW + 900) == 30


def at_once(works: Sequence[Callable[[], object]]) -> None:
    """Run them on threads of their own, begun together; what one raises is raised."""
    gate, problems = threading.Barrier(len(works)), list[BaseException]()

    def run(work: Callable[[], object]) -> None:
        try:
            gate.wait(30)
            work()
        except BaseException as problem:  # noqa: BLE001 - raised below
            problems.append(problem)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert problems == []


def test_workers_together_never_pass_the_cap(put: Callable[..., AuditTables], address: str) -> None:
    """Four of them, each call at a price below its bound: the cap holds, and what fits is graded, each sample once."""
    bound, cap, tables = 10, 150, put(40)
    chance = random.Random(5)
    prices = {f"r{number}": chance.randint(1, bound) for number in range(40)}

    def work(owner: str) -> None:
        own = AuditTables(address, seconds=60)
        with closing(store_at(address, owner)) as store:
            while isinstance(leased := own.lease("support", owner, NOW, 60, bound=bound, cap=cap, day=DAY), Leased):
                cost = prices[leased.sample.request]
                spend(store, cost)
                assert own.finish(leased, Grading("exact", 1.0, cost=cost), NOW)

    at_once([lambda owner=owner: work(owner) for owner in ("one", "two", "three", "four")])
    work("last")  # the four stopped where the others' reserves left no room
    with closing(open_reader(address)) as reader:
        spent = reader.spent("support", "arm", "audit", DAY, NOW + 900)
    assert cap - bound < spent <= cap
    graded = [sample for sample in tables.samples() if sample.state == "graded"]
    assert sum(sample.grading.cost for sample in graded if sample.grading) == spent
    assert sorted(sample.number for sample in graded) == list(range(1, len(graded) + 1))


def test_a_new_file_may_be_opened_by_many_at_once(tmp_path: Path) -> None:
    """SQLite does not wait where two switch a new file to a write-ahead log: whoever opens it tries again."""
    for number in range(25):
        address = str(tmp_path / f"{number}.db")

        def open_it(worker: int, address: str = address) -> None:
            AuditTables(address, seconds=60).step_ratchet(None, Ratchet("support", "c1", 1, NOW + worker))

        at_once([lambda worker=worker: open_it(worker) for worker in range(6)])
        assert AuditTables(address).ratchet("support") is not None


def test_one_of_several_workers_takes_the_ratchets_step(address: str) -> None:
    """They all saw the same state; the others are told that they came too late."""
    tables = AuditTables(address)
    before: Ratchet | None = None
    for step in (1, 2):
        took: list[int] = []

        def work(worker: int, before: Ratchet | None = before, step: int = step, took: list[int] = took) -> None:
            if AuditTables(address, seconds=60).step_ratchet(
                before, Ratchet("support", "c1", step, NOW + step + worker / 10)
            ):
                took.append(worker)

        at_once([lambda worker=worker: work(worker) for worker in range(4)])
        before = tables.ratchet("support")
        assert before == Ratchet("support", "c1", step, NOW + step + took[0] / 10)
        assert len(took) == 1
    assert tables.ratchet("other") is None


def test_a_change_waits_for_the_locks_of_others_longer_than_a_writer_does(
    put: Callable[..., AuditTables], address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several that change the tables at once all succeed, although a writer here would not wait at all."""
    put(0)
    monkeypatch.setattr(connection, "BUSY_MS", 0)

    def add(worker: int) -> None:
        for number in range(10):
            AuditTables(address, seconds=60).add_mark(Mark("support", NOW + number, "step", {"by": worker}))

    at_once([lambda worker=worker: add(worker) for worker in range(6)])
    assert len(AuditTables(address).marks("support")) == 60


def test_a_lock_that_is_held_too_long_is_an_error_that_says_how_long(tmp_path: Path) -> None:
    """As long as the caller gave; then the same call succeeds when the lock is free."""
    path = tmp_path / "ledger.db"
    with closing(store_at(str(path))):
        pass
    mark = Mark("support", NOW, "reset")
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerDown, match=r"locked by another process for more than 0\.25 s"):
            AuditTables(str(path), seconds=0.25).add_mark(mark)
        other.execute("ROLLBACK")
        AuditTables(str(path), seconds=0.25).add_mark(mark)
    assert list(AuditTables(str(path)).marks("support")) == [mark]


def test_controls_and_marks_are_kept_in_order(address: str) -> None:
    """By policy and from a time on."""
    tables = AuditTables(address)
    controls = [Control("opus", number % 2 == 0, ("agree", None)[number % 2], NOW + number, 3) for number in range(3)]
    marks = [Mark("support", NOW + 1, "alarm", {"task": "refund"}), Mark("support", NOW + 2, "step", {"step": 1})]
    for control in controls:
        tables.add_control("support", control)
    for mark in marks:
        tables.add_mark(mark)
    assert list(tables.controls("support")) == controls
    assert list(tables.controls("support", since=NOW + 1)) == controls[1:]
    assert list(tables.marks("support")) == marks
    assert (tables.controls("other"), tables.marks("support", since=NOW + 3)) == ((), ())


@pytest.mark.parametrize("way", ["erase", "keep_days"])
def test_texts_of_the_audit_go_with_those_of_the_request(
    way: str, put: Callable[..., AuditTables], address: str
) -> None:
    """Shadow answers, judges' reasons, what the audit's calls kept; what was found stays, and later nothing is added."""
    tables = put(3)
    graded, waiting, other = (take(tables) for _ in range(3))
    for leased in (graded, other):
        tables.keep_shadow(leased, "a secret", 5, NOW, 60)
        tables.finish(leased, Grading("judge:opus", 0.0, "disagree", "a secret"), NOW)
    with closing(store_at(address)) as store:
        texts = [Content(name, "step:2", DAY, b"salt", "a secret") for name in ("r0", audit_id("r0"), "r2")]
        store.write(Batch(contents=texts))
        if way == "keep_days":
            assert store.remove_content(DAY + 2) == 4  # r2 is younger; its text is not
        else:
            with closing(open_reader(address)) as reader:
                assert reader.erase(["r0", "r1"]) == 3
    assert not tables.samples()[1].has_content
    assert tables.keep_shadow(waiting, "a secret", 5, NOW, 60)
    assert tables.finish(waiting, Grading("judge:opus", 1.0, "agree", "a secret"), NOW)
    first, second, third = tables.samples()
    assert [(one.shadow, one.has_content, one.score) for one in (first, second)] == [
        (None, False, 0.0),
        (None, False, 1.0),
    ]
    assert first.grading == Grading("judge:opus", 0.0, "disagree")
    assert second.grading == Grading("judge:opus", 1.0, "agree")
    assert (third.shadow, third.has_content) == ("a secret", True)


WORKER = """
import os, sys
from cascade.ledger.audit import AuditTables, Grading
address, owner, now = sys.argv[1], sys.argv[2], float(sys.argv[3])
tables = AuditTables(address, seconds=60)
while not isinstance(leased := tables.lease("support", owner, now, 5, bound=1, cap=None, day=0), str):
    os.write(1, b"leased\\n")
    if tables.keep_shadow(leased, "said", 1, now, 5) and tables.finish(leased, Grading("exact", 1.0), now):
        os.write(1, leased.sample.request.encode() + b"\\n")
"""


def test_killed_workers_lose_nothing_and_nothing_is_finished_twice(
    put: Callable[..., AuditTables], address: str, warm_python: WarmPython
) -> None:
    """Two at a time, killed (SIGKILL) at a moment of chance; the next one finds what the dead left."""
    tables, chance, count = put(16), random.Random(11), 16
    finished: list[str] = []

    def lines(process: subprocess.Popen[str], most: int | None) -> Iterator[str]:
        assert process.stdout is not None
        for number, line in enumerate(process.stdout):
            if number == most:
                process.kill()
            if line.endswith("\n"):
                yield line.strip()

    for turn in range(2):
        now = NOW + 10 * turn  # the leases of the turn before are over
        command = ["-c", WORKER, address]
        names = ("a", "b") if turn < 1 else ("c",)
        started = [warm_python.start([*command, name, str(now)], env={"PATH": os.environ["PATH"]}) for name in names]
        for process in started:
            most = chance.randint(1, 10) if turn < 1 else None
            finished += [line for line in lines(process, most) if line != "leased"]
            process.communicate(timeout=60)
            assert process.returncode == (0 if most is None else process.returncode)
    samples = tables.samples()
    assert [sample.state for sample in samples] == ["graded"] * count
    assert sorted(sample.number for sample in samples) == list(range(1, count + 1))
    assert len(finished) == len(set(finished))  # the kill may fall between a finish and its line
    assert len(finished) >= count - 2
