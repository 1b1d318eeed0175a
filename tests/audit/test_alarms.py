"""An alarm is told once, takes one step however many workers see it, and is undone by hand."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from cascade.audit.alarms import DriftWatch, undo
from cascade.audit.drift import Drift, Rate
from cascade.core.errors import PolicyError
from cascade.core.policy import Policy
from cascade.ledger.audit import AuditTables, Mark, Ratchet
from cascade.policy.binding import bind_policy
from cascade.policy.certificates import certificate_digest
from cascade.policy.ratchet import steps_of
from tests.audit.listeners import HEARD, LET_GO
from tests.audit.samples import graded, put
from tests.calibration.certified import certified
from tests.cli.within import Run, run
from tests.live.conftest import ladder
from tests.loading.builders import SOUND

__all__ = ["run"]


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    HEARD.clear()
    LET_GO.clear()


@pytest.fixture
def address(tmp_path: Path) -> str:
    """An SQLite ledger's address; nothing is there yet."""
    return str(tmp_path / "ledger.db")


def _policy(**audit: Any) -> Policy:
    """Uncertified, with three steps: 0.6 to 0.7, 0.8 and 0.9."""
    return ladder(thresholds=(0.6, 0.8), audit={"on_alarm": "ratchet", "arl": 100, **audit})


BAD = [0.0] * 4  # losses in a row: enough for a run length of 100


def _bad(policy: Policy, *, step: int = 0, after: float = 0.0) -> list[Any]:
    return [
        replace(one, request=f"{one.request}-{step}-{after:g}", at=one.at + after, graded_at=one.graded_at + after)
        for one in graded(policy, BAD, step=step)
    ]


@contextmanager
def _receiver() -> Iterator[tuple[str, list[Any]]]:
    """An address that takes posts, and what it was sent."""
    bodies: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/s3cret", bodies
        server.shutdown()
        thread.join()


def test_an_alarm_is_logged_and_sent_once_before_the_look_returns(address: str) -> None:
    """With the rate, its interval, alpha and the number of results; to a function as an object, to an address as JSON."""
    with _receiver() as (url, bodies), capture_logs() as events:
        policy = _policy(on_alarm="alert", notify=["tests.audit.listeners:take", url])
        put(address, _bad(policy))
        looking = DriftWatch(policy, AuditTables(address))
        for now in (100.0, 101.0, 102.0):
            drift = looking.look(now)
        assert [one.task for one in drift.alarms] == [""]
        assert [one["event"] for one in bodies] == ["audit_alarm"]
    (event,) = events
    assert (event["event"], event["log_level"], event["policy"]) == ("audit_alarm", "warning", "live")
    (notice,) = HEARD
    assert bodies == [json.loads(json.dumps({name: getattr(notice, name) for name in bodies[0]}))]
    assert (notice.rate, notice.alpha, notice.certified, notice.results, notice.losses) == (1.0, 0.02, False, 4, 4)
    assert notice.interval95 is not None
    assert notice.interval95[0] > 0.1
    assert "live: the audit finds more wrong answers than 0.02 (not certified): 4 of 4 results" in notice.text
    assert "s3cret" not in json.dumps(events)


def test_no_alarm_does_nothing(address: str) -> None:
    """And writes nothing."""
    policy = _policy()
    put(address, graded(policy, [1.0] * 8))
    tables = AuditTables(address)
    with capture_logs() as events:
        assert DriftWatch(policy, tables).look(100.0).alarms == ()
    assert (events, tables.marks("live"), tables.ratchet("live")) == ([], (), None)


def test_each_alarm_takes_one_step_and_the_detector_starts_anew_with_it(address: str) -> None:
    """A second look takes no second step: what the old thresholds shipped counts no more. The last step says what is left."""
    policy, tables = _policy(notify=["tests.audit.listeners:take"]), AuditTables(address)
    steps = steps_of(policy)
    assert steps == 3
    for step in range(1, steps + 1):
        put(address, _bad(policy, step=step - 1, after=100.0 * step))
        looking = DriftWatch(policy, tables)
        looking.look(100.0 * step + 50)
        assert looking.look(100.0 * step + 60).alarms == ()
        assert tables.ratchet("live") == Ratchet("live", "", step, 100.0 * step + 50)
    assert [one.event for one in HEARD] == ["audit_alarm", "audit_ratchet"] * 3
    assert [one.step for one in HEARD if one.event == "audit_ratchet"] == [1, 2, 3]
    assert "it was the last step" in HEARD[-1].text
    assert "it was the last step" not in HEARD[1].text
    assert [mark.kind for mark in tables.marks("live")] == ["alarm", "step"] * 3


def test_an_alarm_after_the_last_step_says_that_nothing_is_left(address: str) -> None:
    """Review the policy, calibrate again; the step stays."""
    policy, tables = _policy(), AuditTables(address)
    last = Ratchet("live", "", steps_of(policy), 1.0)
    assert tables.step_ratchet(None, last)
    put(address, _bad(policy, step=steps_of(policy)))
    with capture_logs() as events:
        DriftWatch(policy, tables).look(100.0)
    (event,) = events
    assert "nothing is left to ratchet: review the policy, and calibrate again" in event["text"]
    assert tables.ratchet("live") == last


def test_with_alert_no_step_is_taken_and_an_alarm_that_stands_takes_one_when_that_is_changed(address: str) -> None:
    """The thresholds stay until the policy says ratchet."""
    policy, tables = _policy(on_alarm="alert"), AuditTables(address)
    put(address, _bad(policy))
    DriftWatch(policy, tables).look(100.0)
    assert tables.ratchet("live") is None
    ratchets = _policy()
    with capture_logs() as events:
        DriftWatch(ratchets, tables).look(101.0)
    assert [event["event"] for event in events] == ["audit_ratchet"]
    assert tables.ratchet("live") == Ratchet("live", "", 1, 101.0)


def test_a_certified_policy_ratchets_along_its_path(address: str) -> None:
    """A step goes with one certificate: what another one left behind is no step of it."""
    path = [{"thresholds": {"haiku": 0.9, "sonnet": 0.9}}, {"thresholds": {"haiku": None, "sonnet": None}}]
    policy, tables = certified(_policy(), grader="exact", loss="disagreement", path=path), AuditTables(address)
    assert tables.step_ratchet(None, Ratchet("live", "another", 2, 1.0))
    put(address, _bad(policy))
    with capture_logs() as events:
        drift = DriftWatch(policy, tables).look(100.0)
    assert (drift.step, drift.is_certified, len(drift.alarms)) == (0, True, 1)
    assert tables.ratchet("live") == Ratchet("live", certificate_digest(policy), 1, 100.0)
    assert "certified path: haiku 0.9, sonnet 0.9" in events[-1]["text"]
    assert (events[-1]["step"], events[-1]["steps"]) == (1, 2)


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_two_workers_that_look_at_once_take_one_step(kind: str, address: str, request: pytest.FixtureRequest) -> None:
    """Four threads, each with tables of its own, have all seen the alarm before the first of them acts."""
    where = address if kind == "sqlite" else request.getfixturevalue("postgres_database")
    policy = _policy()
    put(where, _bad(policy))
    together = threading.Barrier(4)

    class Together(DriftWatch):
        """Waits for the others between seeing the alarm and the step: the worst moment."""

        def _step(self, drift: Drift, now: float) -> None:
            together.wait(60)
            super()._step(drift, now)

    def work(now: float) -> None:
        Together(policy, AuditTables(where)).look(now)

    with capture_logs() as events, ThreadPoolExecutor(4) as workers:
        list(workers.map(work, [100.0] * 4))
    tables = AuditTables(where)
    assert tables.ratchet("live") == Ratchet("live", "", 1, 100.0)
    assert sum(mark.kind == "step" for mark in tables.marks("live")) == 1
    assert sum(event["event"] == "audit_ratchet" for event in events) == 1
    DriftWatch(policy, tables).look(101.0)
    assert tables.ratchet("live") == Ratchet("live", "", 1, 100.0)


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_workers_whose_looks_overlap_tell_an_alarm_once(
    kind: str, address: str, request: pytest.FixtureRequest
) -> None:
    """The one whose mark is first on record does, whatever time it names: its look may have begun later, or its clock be ahead."""
    where = address if kind == "sqlite" else request.getfixturevalue("postgres_database")
    policy = _policy(on_alarm="alert")
    put(where, _bad(policy))

    class Overtaken(DriftWatch):
        """Has seen the alarm when another worker, which looks later, tells it."""

        def _is_first(self, drift: Drift, rate: Rate, now: float) -> bool:
            DriftWatch(policy, AuditTables(where)).look(now + 1)
            return super()._is_first(drift, rate, now)

    with capture_logs() as events:
        Overtaken(policy, AuditTables(where)).look(100.0)
    assert [event["event"] for event in events] == ["audit_alarm"]


def test_a_reset_takes_the_steps_back_and_the_samples_so_far_no_longer_count(address: str) -> None:
    """The epoch is the same one as before the step; the old alarm does not come back, and a new one may."""
    policy, tables = _policy(), AuditTables(address)
    put(address, _bad(policy))
    looking = DriftWatch(policy, tables)
    looking.look(100.0)
    undone = undo(policy, tables, 200.0)
    assert (undone.step, undone.alarms) == (1, ())
    assert tables.ratchet("live") == Ratchet("live", "", 0, 200.0)
    after = looking.look(201.0)
    assert (after.step, after.rates[0].counted, after.alarms) == (0, 0, ())
    put(address, _bad(policy, after=300.0))
    assert [rate.counted for rate in looking.look(400.0).alarms] == [4]
    assert tables.ratchet("live") == Ratchet("live", "", 1, 400.0)


def test_a_reset_wins_over_a_worker_that_saw_the_alarm_before_it(address: str) -> None:
    """The worker's step was from what is no longer in force, so it is not taken."""
    policy, tables = _policy(), AuditTables(address)
    put(address, _bad(policy))

    class Late(DriftWatch):
        """Is slow between seeing the alarm and the step."""

        def _step(self, drift: Drift, now: float) -> None:
            undo(policy, tables, now + 1)
            super()._step(drift, now + 2)

    Late(policy, tables).look(100.0)
    assert tables.ratchet("live") == Ratchet("live", "", 0, 101.0)
    assert [mark.kind for mark in tables.marks("live")] == ["alarm", "reset"]


def test_a_reset_where_the_audit_has_nothing_writes_nothing(tmp_path: Path) -> None:
    """Not even a ledger."""
    undone = undo(_policy(), AuditTables(str(tmp_path / "none.db")), 1.0)
    assert (undone.step, undone.alarms, list(tmp_path.iterdir())) == (0, (), [])


def test_a_target_that_hangs_does_not_stop_the_audit(address: str) -> None:
    """The look ends in bounded time, the step is taken, and the log says that it was not delivered."""
    with ExitStack() as closing, capture_logs() as events:
        closing.callback(LET_GO.set)
        policy = _policy(notify=["tests.audit.listeners:hang"], notify_timeout_s=0.05)
        put(address, _bad(policy))
        looking, tables = DriftWatch(policy, AuditTables(address)), AuditTables(address)
        looking.look(100.0)
        assert tables.ratchet("live") == Ratchet("live", "", 1, 100.0)
        assert looking.close(30.0)
    assert "notice_failed" in {event["event"] for event in events}


def test_a_notify_that_cannot_be_used_is_refused_with_the_policy() -> None:
    """By `policy check`, before an alarm needs it."""
    with pytest.raises(PolicyError, match=r"audit\.notify"):
        bind_policy(ladder(audit={"notify": ["tests.audit.listeners:not_there"]}))


SHOWN = SOUND + "audit: {on_alarm: ratchet, arl: 100}\n"


@pytest.fixture
def home(run: Run, tmp_path: Path) -> Callable[..., Any]:
    """Run a command on a policy file with an audit; the ledger is `ledger.db` beside it."""
    path = tmp_path / "desk.yaml"
    path.write_text(SHOWN, encoding="utf-8")

    def runs(*arguments: str) -> Any:
        environment = {"CASCADE_LEDGER": str(tmp_path / "ledger.db")}
        return run(*arguments, "-p", str(path), environment=environment)

    return runs


def test_policy_show_says_what_the_audit_does_without_a_ledger_and_makes_none(home: Any, tmp_path: Path) -> None:
    """Only the settings: nothing was ratcheted."""
    shown = home("policy", "show")
    assert shown.code == 0, shown.err
    assert "on an alarm: ratchet" in shown.out
    assert "ratcheted since" not in shown.out
    state = json.loads(home("policy", "show", "--json").out)["audit_state"]
    assert (state["step"], state["alarms"]) == (0, [])
    assert not (tmp_path / "ledger.db").exists()
    reset = home("audit", "reset")
    assert (reset.code, "there is no ledger yet" in reset.err) == (2, True)
    assert not (tmp_path / "ledger.db").exists()


def test_a_reset_of_a_policy_without_an_audit_is_an_error(home: Any, tmp_path: Path) -> None:
    """The wrong policy was named: nothing is said to be cleared."""
    (tmp_path / "desk.yaml").write_text(SOUND, encoding="utf-8")
    reset = home("audit", "reset")
    assert (reset.code, reset.out, "no `audit` block" in reset.err) == (2, "", True)


def test_policy_show_says_which_step_is_in_force_and_which_alarm_stands_until_a_reset(
    home: Any, tmp_path: Path
) -> None:
    """And how to undo it; the reset says what it has undone."""
    from cascade.policy.loading import load_policy  # noqa: PLC0415

    policy, tables = load_policy(str(tmp_path / "desk.yaml")), AuditTables(str(tmp_path / "ledger.db"))
    put(str(tmp_path / "ledger.db"), _bad(policy))
    tables.add_mark(Mark(policy.name, 50.0, "alarm", {"epoch": _bad(policy)[0].epoch, "task": "refund"}))
    assert "alarm since 1970-01-01 00:00 UTC: task refund" in home("policy", "show").out
    DriftWatch(policy, tables).look(86_400.0)
    shown = home("policy", "show")
    assert f"ratcheted since 1970-01-02 00:00 UTC: step 1 of {steps_of(policy)}" in shown.out
    assert "cascade audit reset" in shown.out
    state = json.loads(home("policy", "show", "--json").out)["audit_state"]
    assert (state["step"], state["since"]) == (1, 86_400.0)
    reset = home("audit", "reset")
    assert (reset.code, "1 step of the ratchet undone" in reset.out) == (0, True), reset.err
    assert "ratcheted since" not in home("policy", "show").out
    again = home("audit", "reset")
    assert "no ratchet was in force" in again.out
    undone = json.loads(home("audit", "reset", "--json").out)["undone"]
    assert undone == {"steps": 0, "alarms": []}


def test_policy_show_does_not_fail_where_the_ledger_cannot_be_read(home: Any, tmp_path: Path) -> None:
    """It says that it does not know."""
    (tmp_path / "ledger.db").write_bytes(b"this is no database" * 100)
    shown = home("policy", "show")
    assert (shown.code, "whether it was ratcheted is not known" in shown.out) == (0, True), shown.err
