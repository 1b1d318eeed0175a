"""The ratchet in force: requests climb at the step that is on record, in every process, and no request waits for it."""

from __future__ import annotations

import os
import subprocess
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from cascade import Policy
from cascade.core.policy.certificate import Escalation
from cascade.engine.ratchet import RatchetInForce
from cascade.hooks import Begun
from cascade.ledger.audit import AuditTables, Ratchet
from cascade.ledger.opening import open_ledger
from cascade.ledger.stores import LedgerDown
from cascade.policy.binding import bind_policy
from cascade.policy.certificates import epoch_of
from tests.calibration.certified import certified
from tests.live.audit.stepping import audited, settled, take_step
from tests.live.conftest import Asking, Clock, Driver, Emulator, ladder
from tests.servers import RedisServer
from tests.warm import WarmPython

ROOT = Path(__file__).resolve().parents[3]


class Begins:
    """A hook that keeps which arm began at which step."""

    def __init__(self) -> None:
        self.kept: list[tuple[str, int]] = []

    def begin(self, begun: Begun) -> None:
        """One more."""
        self.kept.append((begun.arm, begun.plan.ratchet))


def rung(driver: Driver) -> str | None:
    """Who answers the request of which the first rung is unsure: it says 0.5. No read is under way when it is sent."""
    settled()
    return driver.ask("unsure").rung


def refresh(driver: Driver, clock: Clock, at: float) -> None:
    """Send a request at this time, and wait for the read that it starts."""
    clock.now = at
    driver.ask("sure")
    settled()


def test_a_step_is_in_force_five_seconds_later_and_until_it_is_undone(asking: Asking, emulator: Emulator) -> None:
    """Without a restart; each change is logged once. Before the five seconds are over nothing is read."""
    policy, clock = audited(), Clock()
    driver = asking(policy, emulator, clock=clock)
    answers: list[str | None] = []
    with capture_logs() as events:
        answers.append(rung(driver))
        take_step(policy, 1)
        clock.now = 4.9
        answers.append(rung(driver))
        answers.append(rung(driver))
        refresh(driver, clock, 5.0)
        answers.append(rung(driver))
        take_step(policy, 0)
        refresh(driver, clock, 9.9)
        answers.append(rung(driver))
        refresh(driver, clock, 10.0)
        answers.append(rung(driver))
    assert answers == ["haiku", "haiku", "haiku", "sonnet", "sonnet", "haiku"]
    changes = [event for event in events if event["event"] == "ratchet_changed"]
    assert [(one["policy"], one["before"], one["step"], one["log_level"]) for one in changes] == [
        ("live", 0, 1, "warning"), ("live", 1, 0, "info"),
    ]  # fmt: skip
    assert all(one["thresholds"] for one in changes)


def test_a_new_driver_begins_at_the_step_on_record(asking: Asking, emulator: Emulator) -> None:
    """With its first request."""
    policy = audited()
    take_step(policy, 1)
    assert rung(asking(policy, emulator)) == "sonnet"


def test_a_new_certificate_undoes_the_ratchet(asking: Asking, emulator: Emulator) -> None:
    """A step goes with the certificate that it was taken from, or with none."""
    policy = audited()
    take_step(policy, 1)
    assert rung(asking(certified(policy), emulator)) == "haiku"
    assert rung(asking(policy, emulator)) == "sonnet"


@pytest.mark.parametrize("policy", [ladder(thresholds=(0.5, 0.8)), ladder(thresholds=(0.5, 0.8), audit={})])
def test_without_on_alarm_ratchet_nothing_is_read(asking: Asking, emulator: Emulator, policy: Policy) -> None:
    """Whatever is on record."""
    take_step(policy, 1)
    clock = Clock()
    driver = asking(policy, emulator, clock=clock)
    refresh(driver, clock, 10.0)
    assert rung(driver) == "haiku"


def test_only_what_the_ladder_answers_is_ratcheted(asking: Asking, emulator: Emulator) -> None:
    """Not the baseline's requests, nor what `mode: observe` puts to the ladder beside them."""
    hook = Begins()
    for mode, more in (("enforce", {}), ("off", {}), ("observe", {"observe": {"sample": 1.0}})):
        policy = audited(mode=mode, **more)
        take_step(policy, 1)
        driver = asking(policy, emulator, hooks=[hook])
        rung(driver)
        driver.close()
    assert hook.kept == [("cascade", 1), ("bypass", 0), ("observe", 0), ("shadow", 0)]


def test_another_process_sees_the_step(
    asking: Asking, emulator: Emulator, warm_python: WarmPython, tmp_path: Path
) -> None:
    """It is taken there, and in force there at once, here five seconds later."""
    policy, clock = audited(), Clock()
    driver = asking(policy, emulator, clock=clock)
    assert rung(driver) == "haiku"
    code = (
        "import sys; from cascade import Cascade, Policy; from tests.live.audit.stepping import settled, take_step\n"
        "policy = Policy.model_validate_json(sys.stdin.read()); take_step(policy, 2)\n"
        "with Cascade(policy) as driver: settled(); print(driver.ask('unsure').rung)\n"
    )
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(tmp_path), "CASCADE_HOME": os.environ["CASCADE_HOME"],
        "ANTHROPIC_API_KEY": "test", "ANTHROPIC_BASE_URL": emulator.base_url, "PYTHONWARNINGS": "ignore",
        "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    ran = subprocess.run(
        [warm_python.python, "-c", code], env=environment, cwd=ROOT, input=policy.model_dump_json(exclude_unset=True),
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (ran.returncode, ran.stdout) == (0, "sonnet\n"), ran.stderr
    refresh(driver, clock, 5.0)
    assert rung(driver) == "sonnet"


def test_a_ledger_that_cannot_be_read_costs_no_answer(asking: Asking, emulator: Emulator, tmp_path: Path) -> None:
    """From the start on; it is logged once, however often it is tried."""
    broken, clock = tmp_path / "ledger.db", Clock()
    broken.write_bytes(b"no database" * 1_000)
    with capture_logs() as events:
        policy = audited()
        driver = asking(policy, emulator, clock=clock, ledger=broken)
        for at in (0.0, 5.0, 10.0, 15.0):
            refresh(driver, clock, at)
        assert rung(driver) == "haiku"
        broken.unlink()
        assert open_ledger(broken, policy.ledger).flush(60)  # its writer has no more to log
    (event,) = [event for event in events if event["event"] == "ratchet_unreadable"]
    assert (event["policy"], event["step"], event["log_level"]) == ("live", 0, "error")


def told(events: list[Any]) -> list[str]:
    """What was logged of the ratchet."""
    return [event["event"].removeprefix("ratchet_") for event in events if event["event"].startswith("ratchet_")]


NEVER: dict[str, Any] = {"thresholds": {"haiku": "never", "sonnet": "never"}}
PATH: list[dict[str, Any]] = [
    {"thresholds": {"haiku": 0.7, "sonnet": 0.8}, "escalation": {"haiku": 0.95, "sonnet": 0.5}}, NEVER,
]  # fmt: skip


def test_the_certified_path_is_climbed_to_its_end(asking: Asking, emulator: Emulator) -> None:
    """Its last step ships nothing below the top. An alarm has shown the certificate to be wrong: answers no longer carry it."""
    policy, clock = certified(audited(), path=PATH), Clock()
    driver, found = asking(policy, emulator, clock=clock), list[Any]()
    for step in (0, 1, 2):
        take_step(policy, step)
        refresh(driver, clock, 5.0 * (step + 1))
        answers = [driver.ask(text) for text in ("unsure", "sure")]
        found.append(([answer.rung for answer in answers], {answer.certificate for answer in answers}))
    assert found == [
        (["haiku", "haiku"], {"certified: false_confident <= 0.02 at 0.95"}),
        (["sonnet", "haiku"], {"uncertified"}),
        (["opus", "opus"], {"uncertified"}),
    ]


@pytest.mark.parametrize("shared", [False, True])
def test_the_storm_guard_expects_the_steps_escalation(
    asking: Asking, emulator: Emulator, redis_server: RedisServer, shared: bool
) -> None:
    """What is a storm before the step is none after it, and one again once it is undone: in memory and in Redis."""
    guard: dict[str, Any] = {"rate": 0.05, "window": 20, "min_samples": 20, "dwell_s": 0}
    written = audited(name=f"expecting-{uuid.uuid4().hex}", thresholds=(0.6, 0.8), storm_guard=guard)
    policy = certified(written, escalation={"haiku": 0.2}, path=PATH)
    clock = Clock()
    driver = asking(policy, emulator, clock=clock, state=redis_server.url if shared else "memory")

    def storms(step: int) -> set[str]:
        take_step(policy, step)
        refresh(driver, clock, clock.now + 5)
        with capture_logs() as events:
            for _ in range(25):
                driver.ask("unsure")
        return {event["event"] for event in events if event["event"].startswith("storm")}

    assert storms(1) == set()
    assert storms(0) == {"storm_tripped"}
    assert storms(1) == set()
    driver.close()


def test_a_sampled_request_is_of_the_step_that_shipped_it(asking: Asking, emulator: Emulator) -> None:
    """Rates are of one epoch; the outcome that was reported of it goes with it."""
    policy, clock = audited(audit={"on_alarm": "ratchet", "sample": 1.0}), Clock()
    driver = asking(policy, emulator, clock=clock)
    settled()
    first = driver.ask("sure")
    take_step(policy, 1)
    refresh(driver, clock, 5.0)
    last = driver.ask("sure")
    driver.report_outcome(last.request_id, 0.25)
    samples = {sample.request: sample for sample in AuditTables().samples(policy.name)}
    assert (samples[first.request_id].epoch, samples[first.request_id].score) == (epoch_of(policy, 0), None)
    assert (samples[last.request_id].epoch, samples[last.request_id].score) == (epoch_of(policy, 1), 0.25)


class Table:
    """What the reads find, in turn: a step, or that the ledger is down. `may_end`: a read waits for it."""

    def __init__(self, *found: int | None, may_end: threading.Event | None = None) -> None:
        self._found: Iterator[int | None] = iter(found)
        self.may_end = may_end
        self.began = threading.Event()
        self.reads = 0

    def __call__(self) -> Ratchet:
        """Read."""
        self.reads += 1
        self.began.set()
        if self.may_end is not None:
            self.may_end.wait(60)
        step = next(self._found)
        if step is None:
            raise LedgerDown("ledger.db: is locked")
        return Ratchet("live", "", step, 0.0)


def no_guard(escalation: Escalation) -> None:
    """Nobody expects anything."""


def test_a_step_stays_while_the_ledger_is_down() -> None:
    """It never goes back without a reset that was read. Each outage is logged once, and steps there are not are not taken."""
    table = Table(2, None, None, 1, None, 99)
    steps: list[int] = []
    with capture_logs() as events:
        ratchet = RatchetInForce(bind_policy(audited()), table, no_guard, 0.0, first_s=60)
        for number in range(6):
            ratchet.plan(5.0 * number)
            settled()
            steps.append(ratchet.plan(5.0 * number).ratchet)
    assert steps == [2, 2, 2, 1, 1, 4]
    assert told(events) == ["changed", "unreadable", "changed", "unreadable", "changed"]


def test_a_step_stays_when_the_ledger_is_gone() -> None:
    """Its file was moved or deleted: that is no reset, which would be on record. It is logged once, until a step is read again."""
    found = iter((Ratchet("live", "", 2, 0.0), None, None, Ratchet("live", "", 0, 1.0)))
    steps: list[int] = []
    with capture_logs() as events:
        ratchet = RatchetInForce(bind_policy(audited()), lambda: next(found), no_guard, 0.0, first_s=60)
        for number in range(4):
            ratchet.plan(5.0 * number)
            settled()
            steps.append(ratchet.plan(5.0 * number).ratchet)
    assert steps == [2, 2, 2, 0]
    assert told(events) == ["changed", "unreadable", "changed"]


def test_no_request_waits_for_a_read_that_hangs() -> None:
    """Nor does another read begin beside it; what it finds at last is in force."""
    may_end = threading.Event()
    table = Table(1, 1, may_end=may_end)
    with capture_logs() as events:
        ratchet = RatchetInForce(bind_policy(audited()), table, no_guard, 0.0, first_s=0.01)
        steps = [ratchet.plan(at).ratchet for at in (0.0, 5.0, 10.0, 1000.0)]
        may_end.set()
        settled()
        steps.append(ratchet.plan(1000.0).ratchet)
    assert (steps, table.reads) == ([0, 0, 0, 0, 1], 1)
    assert told(events) == ["unreadable", "changed"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_that_is_forked_during_a_read_reads_for_itself() -> None:
    """The parent's thread is not there: it would be waited for, for ever."""
    may_end = threading.Event()
    table = Table(3, may_end=may_end)
    with capture_logs():
        ratchet = RatchetInForce(bind_policy(audited()), table, no_guard, 0.0, first_s=0.01)
        assert table.began.wait(60)
        child = os.fork()
        if not child:
            table.may_end = None
            ratchet.plan(5.0)
            settled()
            os._exit(ratchet.plan(5.0).ratchet)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
        may_end.set()
        settled()
    assert ratchet.plan(0.0).ratchet == 3
