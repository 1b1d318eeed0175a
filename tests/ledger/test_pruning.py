"""`ledger prune`: old months go, and what is left says the same of itself: chains, sums, what is open."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from cascade.core.errors import ConfigurationError
from cascade.ledger.opening import open_reader
from cascade.ledger.postgres.store import PostgresStore
from cascade.ledger.pruning import prune
from cascade.ledger.records import AuditRow, Batch, OutcomeBody, RequestBody, StepBody
from cascade.ledger.requests import gather
from cascade.ledger.sqlite.store import SqliteStore
from cascade.ledger.stores import LedgerDown, NoLedger, Reader, Store
from cascade.ledger.sums import add_outcome, add_step
from cascade.ledger.utc_months import month_start
from cascade.ledger.verifying.verification import Verification, heads, verify
from tests.cli.conftest import Run
from tests.ledger.books import Writer

NOVEMBER, DECEMBER = month_start(2025, 11), month_start(2025, 12)
JANUARY = month_start(2026, 1)
NOW = JANUARY + 86_400.0


@pytest.fixture(params=["sqlite", "postgres"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a ledger may be made."""
    if request.param == "sqlite":
        return str(tmp_path / "ledger.db")
    return request.getfixturevalue("postgres_database")


def open_store(address: str, clock: Callable[[], float]) -> Store:
    """A writer's connection."""
    if "://" in address:
        return PostgresStore(address, clock=clock)
    return SqliteStore(Path(address), synchronous="NORMAL", clock=clock)


def do(address: str, statement: str) -> int:
    """Change the tables behind the ledger's back; returns how many rows."""
    if "://" in address:
        with psycopg.connect(address) as connection:
            connection.execute("SET search_path = cascade_ledger")
            return connection.execute(statement.encode()).rowcount
    with closing(sqlite3.connect(address)) as connection, connection:
        return connection.execute(statement).rowcount


class Straddling(Writer):
    """A writer whose requests may last."""

    def last(self, name: str, begins: float, ends: float) -> None:
        """One request of a step each time."""
        asked = RequestBody("support", "p" * 64, "h" * 64, "refund", "cascade", {"workflow": "long"})
        batch = Batch()
        self.entry(batch, begins, "request", name, asked)
        for index, at in enumerate((begins, ends)):
            step = StepBody(
                index, "haiku", "claude-haiku", "answered", 700, 20, 5, reason=None if index else "low_confidence"
            )
            self.entry(batch, at, "step", name, step)
            add_step(batch, at, asked, step)
        self.store.write(batch)
        batch = Batch()
        outcome = OutcomeBody("cascade", 1_400, 2, 9.5, "haiku", "claude-haiku", resolved=True)
        self.entry(batch, ends, "outcome", name, outcome)
        add_outcome(batch, ends, asked, outcome)
        self.store.write(batch)


def fill(address: str) -> None:
    """Three months of two writers, with everything that must stay in November."""
    now = float(NOVEMBER)
    one = Straddling(open_store(address, lambda: now), "one")
    two = Straddling(open_store(address, lambda: now), "two")
    one.ask(0, at=NOVEMBER + 5, steps=2, text="first of one")
    two.ask(0, at=NOVEMBER + 6, text="first of two")
    one.ask(1, at=NOVEMBER + 7, ended=False, opens=True)
    audited = two.ask(1, at=NOVEMBER + 8, text="to be audited")
    row = AuditRow(
        audited, NOVEMBER + 8.0, "support", "e", "refund", "flow-1", "random", "haiku", 0, 0, 0.5, "self_reported", 5, None, "[]", None, 1
    )  # fmt: skip
    two.store.write(Batch(samples=[row]))
    for number in range(2, 8):
        one.ask(number, at=NOVEMBER + 3_600.0 * number, text=f"november {number}")
        two.ask(number, at=NOVEMBER + 3_600.0 * number, steps=2)
    now = DECEMBER + 1.0
    one.last("one-long", DECEMBER - 5.0, DECEMBER + 5.0)
    one.ask(8, at=DECEMBER - 9.0, text="its clock was set back")
    for number in range(9, 12):
        one.ask(number, at=DECEMBER + 3_600.0 * number, text=f"december {number}")
    now = JANUARY + 1.0
    one.ask(12, at=JANUARY + 5, text="january")
    one.store.close()
    two.store.close()


def sums(reader: Reader) -> Any:
    """All that `costs` reads."""
    return (
        sorted(reader.spend(0, 1 << 40)), sorted(reader.traffic(0, 1 << 40)), sorted(reader.spend(NOVEMBER, JANUARY, by_days=False)),
        reader.spent("support", "policy", "", 0, NOW),
    )  # fmt: skip


def look(address: str, against: Any = None) -> Verification:
    """Verify it."""
    with closing(open_reader(address)) as reader:
        return verify(reader, against)


def read(address: str, ask: Callable[[Reader], Any]) -> Any:
    """One question."""
    with closing(open_reader(address)) as reader:
        return ask(reader)


def test_a_month_goes_and_everything_still_holds(address: str) -> None:
    """Sums, chains and heads are as before; what is open, or reaches into December, is there whole; twice changes nothing."""
    fill(address)
    before = read(address, sums)
    held, calls = read(address, heads), look(address).unsettled
    requests = {one.id: one for one in read(address, lambda reader: list(gather(reader)))}
    planned = prune(address, DECEMBER, dry_run=True, now=lambda: NOW)
    assert look(address).pruned == 0
    assert read(address, sums) == before
    done = prune(address, DECEMBER, dry_run=False, now=lambda: NOW)
    assert done == planned
    assert (done.before, done.writers, done.requests) == ("2025-12", 2, 15)
    if "://" in address:
        assert {"entries_2025_11", "contents_2025_11"} == set(done.months)
    found = look(address, held)
    assert (found.findings, found.unsettled, found.pruned, found.pruned_before) == ((), calls, done.entries, DECEMBER)
    assert found.heads == held
    assert read(address, heads) == held
    assert read(address, sums) == before
    left = {one.id: one for one in read(address, lambda reader: list(gather(reader)))}
    assert {name: left[name] for name in ("one-1", "one-long", "two-1")} == {
        name: requests[name] for name in ("one-1", "one-long", "two-1")
    }
    assert set(left) == {"one-1", "two-1", "one-long", *(f"one-{number}" for number in range(9, 13))}
    kept = read(address, lambda reader: {one.request for one in reader.contents([*requests])})
    assert kept == set(left) - {"one-long", "one-1"}
    again = prune(address, DECEMBER, dry_run=False, now=lambda: NOW)
    assert (again.entries, again.texts, again.kept) == (0, 0, done.kept)
    assert look(address).pruned == done.entries


def test_what_was_open_goes_once_it_is_settled(address: str) -> None:
    """The next pruning begins where the last one ended, with all that it had left."""
    fill(address)
    first = prune(address, DECEMBER, dry_run=False, now=lambda: NOW)
    do(address, "UPDATE audit_samples SET state = 'graded'")
    second = prune(address, DECEMBER, dry_run=False, now=lambda: NOW)
    assert second.requests == 1, "the audited one; its writer's anchor stays behind it"
    assert look(address).findings == ()
    third = prune(address, JANUARY, dry_run=False, now=lambda: NOW)
    found = look(address)
    assert (found.findings, found.unsettled) == ((), 1), "the call of a process that was killed stays open"
    assert found.pruned == first.entries + second.entries + third.entries
    assert found.pruned_before == JANUARY
    store = open_store(address, lambda: NOW)
    Writer(store, "three").ask(0, at=NOW)
    store.close()
    assert look(address).findings == ()


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("UPDATE entries SET body = replace(body, '500', '1') WHERE request = 'one-1' AND kind = 'open'", "seq 6 (open of request one-1) was changed"),
        ("DELETE FROM entries WHERE request = 'two-1' AND kind = 'outcome'", "seq 6 is missing, which was left"),
        ("UPDATE entries SET seq = 2 WHERE request = 'two-1' AND kind = 'step'", "seq 2 (step of request two-1) is older than what was pruned"),
        ("DELETE FROM entries WHERE request = 'one-9' AND kind = 'request'", "missing"),
        ("UPDATE anchors SET seq = seq - 3", "missing"),
        ("UPDATE spend SET cost = cost + 1 WHERE bucket >= 1764547200", "the sums of steps"),
        ("UPDATE anchors SET ends = 9e12", "its anchor was changed"),
    ],
)  # fmt: skip
def test_what_is_done_to_a_shortened_ledger_is_found(tmp_path: Path, statement: str, told: str) -> None:
    """An entry that was left is held as firmly as one that was not touched; so are the sums from the months that are there."""
    path = str(tmp_path / "ledger.db")
    fill(path)
    prune(path, DECEMBER, dry_run=False, now=lambda: NOW)
    assert do(path, statement) > 0
    assert any(told in one.message for one in look(path).findings)


def test_a_head_of_another_chain_is_seen_at_the_anchor(tmp_path: Path) -> None:
    """A chain made anew before it was pruned has another digest where it was cut."""
    path = str(tmp_path / "ledger.db")
    fill(path)
    prune(path, JANUARY, dry_run=False, now=lambda: NOW)
    head = read(path, heads)["two"]
    assert look(path, {"two": head}).findings == ()
    changed = type(head)(head.seq, "0" * 64)
    assert [one.kind for one in look(path, {"two": changed}).findings] == ["rewritten"]
    longer = type(head)(head.seq + 1, head.digest)
    assert [one.kind for one in look(path, {"two": longer}).findings] == ["cut"]


def test_a_late_entry_stays(postgres_database: str) -> None:
    """What comes for a month that is gone is a stray, after the anchor, and part of the chain."""
    now = float(NOVEMBER)
    store = PostgresStore(postgres_database, clock=lambda: now)
    writer = Writer(store, "one")
    writer.ask(0, at=NOVEMBER + 5)
    now = NOW
    prune(postgres_database, DECEMBER, dry_run=False, now=lambda: NOW)
    writer.ask(1, at=NOVEMBER + 50)
    store.close()
    found = look(postgres_database)
    assert (found.findings, found.entries, found.pruned) == ((), 3, 3)


def test_a_reader_in_the_way_is_told(postgres_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A month is not dropped under a reader; nothing has changed then."""
    monkeypatch.setattr("cascade.ledger.pruning._LOCK", "50ms")
    fill(postgres_database)
    with psycopg.connect(postgres_database) as reading:
        reading.execute("SELECT count(*) FROM cascade_ledger.entries")
        with pytest.raises(LedgerDown, match="locked by another session"):
            prune(postgres_database, DECEMBER, dry_run=False, now=lambda: NOW)
    assert look(postgres_database).pruned == 0


def test_what_cannot_be_pruned(tmp_path: Path) -> None:
    """No ledger is made, and no month to come is dropped."""
    path = str(tmp_path / "ledger.db")
    with pytest.raises(NoLedger):
        prune(path, DECEMBER, dry_run=False, now=lambda: NOW)
    assert not Path(path).exists()
    with pytest.raises(ConfigurationError, match="the month is to come"):
        prune(path, month_start(2026, 2), dry_run=True, now=lambda: NOW)


def test_the_command_says_what_would_go(tmp_path: Path, run: Run) -> None:
    """Nothing is changed without --yes; then `verify` says what is gone, and `costs` the same as ever."""
    path = str(tmp_path / "ledger.db")
    fill(path)
    costs = [*["costs", "--since", "2025-11-01", "--until", "2026-02-01", "--json", "--ledger"], path]
    before = run(*costs).out
    command = ("ledger", "prune", "--before", "2025-12", "--ledger", path)
    told = run(*command).out
    assert "52 entries of 15 requests and 19 texts from before 2025-12 would go; all sums stay" in told
    assert "nothing was changed" in told
    assert json.loads(run(*command, "--json").out)["pruned"] is False
    assert look(path).pruned == 0
    assert "are gone" in run(*command, "--yes").out
    assert "52 from before 2025-12 are pruned, their sums stay" in run("ledger", "verify", "--ledger", path).out
    verified = json.loads(run("ledger", "verify", "--json", "--ledger", path).out)
    assert (verified["sound"], verified["pruned"], verified["pruned_before"]) == (True, 52, DECEMBER)
    assert run(*costs).out == before
    assert "nothing is older" in run(*command, "--yes").out
    assert "not a month" in run("ledger", "prune", "--before", "2025-13", "--ledger", path).err
    assert "was up to date" in run("ledger", "upgrade", "--ledger", path).out
