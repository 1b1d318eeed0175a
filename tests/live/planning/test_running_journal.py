"""Runs with a name: kept on the disk, taken up by the same name, and refused where they were begun with something else."""

from __future__ import annotations

import json
import stat
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import anthropic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade import BudgetExceeded, Cascade, ConfigurationError, Result
from cascade.emulator import Emulator
from cascade.engine.planning.journal import journal_path, read_head
from cascade.home import home
from tests.live.conftest import COST, Asking, Emulate
from tests.live.planning.fleet import DIAMOND, GIVEN, Fleet, accepts, ledger_costs, planning


def wary(instruction: str, rung: str) -> str:
    """One executor is unsure of what it makes, at the first rung."""
    return "low" if (instruction, rung) == ("find the staff", "haiku") else "high"


def strict(instruction: str, result: str) -> str:
    """What the first rung made of the staff is sent back."""
    return "retry" if result == "find the staff by haiku" else accepts(instruction, result)


def outcome(result: Result) -> dict[str, tuple[Any, ...]]:
    """What a run made, without what it was called."""
    return {name: (one.status, one.text, one.rung, one.why, one.rests_on) for name, one in result.subtasks.items()}


def test_a_run_that_has_ended_is_read_from_its_journal(asking: Asking, emulate: Emulate) -> None:
    """Nothing is asked again; the Result is the same, but for the answers' trails."""
    fleet = Fleet(wary, strict)
    emulator = emulate((), script=fleet)
    first = asking(planning(), emulator).run(DIAMOND, inputs=GIVEN, run="report-1")
    calls = fleet.calls
    second = asking(planning(), emulator).run(DIAMOND, run="report-1")
    assert second == first
    assert first.ok
    assert fleet.calls == calls
    assert second.costs == ledger_costs()
    head = read_head("report-1")
    assert (head.plan, head.inputs, head.run) == (DIAMOND, GIVEN, first.id)


def test_the_journal_is_for_its_owner_alone(asking: Asking, emulate: Emulate) -> None:
    """Prompts and results stand in it."""
    asking(planning(), emulate((), script=Fleet())).run(DIAMOND, inputs=GIVEN, run="private")
    assert stat.S_IMODE((home() / "runs").stat().st_mode) == 0o700
    assert stat.S_IMODE((home() / "runs" / "private.jsonl").stat().st_mode) == 0o600


@pytest.mark.parametrize("name", ["", "../x", ".hidden", "a/b", "x" * 81, "a b", "é", 3])
def test_what_cannot_be_a_name_is_refused(asking: Asking, emulate: Emulate, name: Any) -> None:
    """Before anything is asked."""
    emulator = emulate((), script=Fleet())
    with pytest.raises(ConfigurationError, match="run: "):
        asking(planning(), emulator).run(DIAMOND, inputs=GIVEN, run=name)
    assert emulator.requests == ()


def test_a_run_that_was_begun_with_something_else_is_refused(asking: Asking, emulate: Emulate) -> None:
    """With what differs; another limit or deadline is no difference."""
    emulator = emulate((), script=Fleet())
    driver = asking(planning(), emulator)
    first = driver.run(DIAMOND, inputs=GIVEN, run="mine", max_usd=0.5)
    other_plan = replace(DIAMOND, subtasks=DIAMOND.subtasks[:3])
    for plan, more, why in (
        (other_plan, {}, "another plan"),
        ("compare other companies", {}, "another goal"),
        (DIAMOND, {"inputs": {"report": "Other."}}, r"other inputs \(report\)"),
        (replace(first, id="run_other"), {}, "another Result"),
    ):
        with pytest.raises(ConfigurationError, match=rf"mine\.jsonl: this run was begun with {why} "):
            driver.run(plan, run="mine", **{"inputs": GIVEN, **more})
    with pytest.raises(ConfigurationError, match="begun with another policy \\(live "):
        asking(planning(deadline_s=7.0), emulator).run(DIAMOND, run="mine")
    again = driver.run(DIAMOND, inputs=GIVEN, run="mine", max_usd=2.0, deadline_s=5.0, concurrency=1)
    assert outcome(again) == outcome(first)
    assert driver.run(DIAMOND.goal, run="mine").subtasks == again.subtasks


def test_a_result_is_taken_up_in_memory_or_under_its_own_name(asking: Asking, emulate: Emulate) -> None:
    """Under another name it would have no journal of what was done; with other inputs or another policy it is another run."""
    emulator = emulate((), script=Fleet())
    driver = asking(planning(), emulator)
    first = driver.run(DIAMOND, inputs=GIVEN, run="mine")
    assert driver.run(first, run="mine") == first
    with pytest.raises(ConfigurationError, match="leave run= out"):
        driver.run(first, run="other")
    with pytest.raises(ConfigurationError, match="begun with other inputs"):
        driver.run(first, inputs={"report": "Other."})
    with pytest.raises(ConfigurationError, match="begun with another policy"):
        asking(planning(deadline_s=7.0), emulator).run(first)


def test_only_one_may_drive_a_run(emulate: Emulate) -> None:
    """A second one is refused while the first one runs, and not afterwards."""
    fleet, refused = Fleet(), list[str]()
    emulator = emulate((), script=fleet)
    client = anthropic.Anthropic(api_key="test", base_url=emulator.base_url)
    with client, Cascade(planning(), client=client) as driver:

        def drive_too() -> None:
            with pytest.raises(ConfigurationError) as caught:
                driver.run(DIAMOND, inputs=GIVEN, run="shared")
            refused.append(str(caught.value))

        def on_request(call: int) -> None:
            if call == 1:
                second = threading.Thread(target=drive_too)
                second.start()
                second.join()

        fleet.on_request = on_request
        assert driver.run(DIAMOND, inputs=GIVEN, run="shared").ok
        assert driver.run(DIAMOND, inputs=GIVEN, run="shared").ok
    assert [one.endswith("is being driven already (wait for it, or end it)") for one in refused] == [True]


def test_a_damaged_journal_is_told_with_its_line(asking: Asking, emulate: Emulate) -> None:
    """Nothing is guessed: what was paid may stand there."""
    driver = asking(planning(), emulate((), script=Fleet()))
    driver.run(DIAMOND, inputs=GIVEN, run="broken")
    path = journal_path("broken")
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    for number, wrong in (
        (3, b"{\n"),
        (4, b"[]\n"),
        (2, b'{"what": 1}\n'),
        (5, b'{"end": "casc_unknown", "cost": 1}\n'),
    ):
        path.write_bytes(b"".join([*lines[: number - 1], wrong, *lines[number:]]))
        with pytest.raises(ConfigurationError, match=rf"broken\.jsonl:{number}: is damaged"):
            driver.run(DIAMOND, inputs=GIVEN, run="broken")
    path.write_bytes(b'{"journal": "cascade record", "version": 2}\n')
    with pytest.raises(ConfigurationError, match=r"broken\.jsonl:1: is not the journal of a run"):
        driver.run(DIAMOND, inputs=GIVEN, run="broken")
    path.write_bytes(whole)
    assert driver.run(DIAMOND, inputs=GIVEN, run="broken").ok


def test_who_asks_for_a_run_that_is_not_there_is_told_where_it_would_be() -> None:
    """The name, or CASCADE_HOME, is another."""
    with pytest.raises(ConfigurationError, match=r"runs/absent\.jsonl: there is no run 'absent'"):
        read_head("absent")


def test_a_limit_holds_over_all_lives_of_a_run(asking: Asking, emulate: Emulate) -> None:
    """Taking it up gives no new money; a higher limit does."""
    driver = asking(planning(max_tokens=100), emulate((), script=Fleet()))
    first = driver.run(DIAMOND, inputs=GIVEN, run="poor", max_usd=0.002, concurrency=1)
    assert (first.stopped, first.of("accepted")) == ("budget", ("names",))
    again = driver.run(DIAMOND, run="poor", max_usd=0.002, concurrency=1)
    assert (again.stopped, again.of("accepted")) == ("budget", ("names",))
    assert again.cost_nanousd < 2_000_000
    assert driver.run(DIAMOND, run="poor", max_usd=0.0001).costs == again.costs
    last = driver.run(DIAMOND, run="poor", max_usd=1.0)
    assert last.ok
    assert last.costs == ledger_costs()


@pytest.mark.parametrize("named", [True, False])
def test_what_failed_without_cost_is_tried_again_and_what_cost_is_not(
    asking: Asking, emulate: Emulate, named: bool
) -> None:
    """An endpoint that is down fails subtasks and loses nothing; one that was paid for stays as it is, and so does the rest."""
    fleet = Fleet(
        says=lambda instruction, rung: (
            "refused" if "find" in instruction and (rung, instruction) != ("haiku", "find the prices") else "high"
        )
    )
    driver = asking(planning(), emulate((), script=fleet))
    more = {"run": "down"} if named else {}
    first = driver.run(DIAMOND, inputs=GIVEN, **more)
    assert [(one.status, one.cost_nanousd > 0) for one in first.subtasks.values()] == [
        ("accepted", True), ("failed", True), ("failed", False), ("skipped", False),
    ]  # fmt: skip
    fleet.says = lambda *_: "high"
    for _ in range(2):
        again = driver.run(DIAMOND if named else first, **more)
        assert [one.status for one in again.subtasks.values()] == ["accepted", "failed", "accepted", "skipped"]
        assert len(again.subtasks["staff"].attempts) == 1
        assert fleet.made["find the staff", "haiku"] == 2
        assert again.costs == ledger_costs()
        first = again


def test_a_goal_is_planned_once(asking: Asking, emulate: Emulate) -> None:
    """Its plan is in the journal, and what planning cost is in the Result."""
    fleet = Fleet(plan=DIAMOND)
    emulator = emulate((), script=fleet)
    driver = asking(planning(max_tokens=100), emulator)
    with pytest.raises(BudgetExceeded):
        driver.run(DIAMOND.goal, inputs=GIVEN, run="goal", max_usd=0.0001)
    first = driver.run(DIAMOND.goal, inputs=GIVEN, run="goal", max_usd=1.0)
    assert first.ok
    assert first.costs == {"planner": COST["sonnet"], "executor": 4 * COST["haiku"] + COST["sonnet"]} == ledger_costs()
    assert driver.run(DIAMOND.goal, run="goal") == first
    assert driver.run(first.plan, run="goal") == first
    assert fleet.planned == 1


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, Result]:
    """A run's whole journal, and its Result."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("CASCADE_HOME", str(tmp_path_factory.mktemp("whole")))
        with driven(Fleet(wary, strict)) as drive:
            result = drive()
        return journal_path("cut").read_bytes(), result


class driven:  # noqa: N801 - used as a function
    """A driver on an emulator with this fleet, in a `with` block: call it to run the plan."""

    def __init__(self, fleet: Fleet) -> None:
        self._emulator = Emulator(script=fleet)

    def __enter__(self) -> Callable[[], Result]:
        self._emulator.start()
        self._client = anthropic.Anthropic(api_key="test", base_url=self._emulator.base_url)
        self._driver = Cascade(planning(), client=self._client, ledger="off")
        return lambda: self._driver.run(DIAMOND, inputs=GIVEN, run="cut", concurrency=2)

    def __exit__(self, *_: object) -> None:
        self._driver.close()
        self._client.close()
        self._emulator.stop()


@settings(max_examples=8)
@given(at=st.floats(0, 1))
def test_wherever_a_journal_ends_the_run_goes_on_from_there(
    whole: tuple[bytes, Result], tmp_path_factory: pytest.TempPathFactory, at: float
) -> None:
    """In the middle of a line, too. What had come is not asked again, and what had been reserved counts."""
    content, undisturbed = whole
    kept = content[: int(len(content) * at)]
    lines = [json.loads(line) for line in kept[: kept.rfind(b"\n") + 1].splitlines()]
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("CASCADE_HOME", str(tmp_path_factory.mktemp("cut")))
        path = journal_path("cut")
        path.parent.mkdir(parents=True)
        path.write_bytes(kept)
        fleet = Fleet(wary, strict)
        with driven(fleet) as drive:
            result = drive()
    assert outcome(result) == outcome(undisturbed)
    done = {(line["subtask"], line["attempt"]["number"]) for line in lines if isinstance(line.get("attempt"), dict)}
    to_do = {
        (DIAMOND[name].instruction, rung)
        for name, one in undisturbed.subtasks.items()
        for attempt in one.attempts
        for rung, _ in attempt.rungs
        if (name, attempt.number) not in done
    }
    assert set(fleet.made) == to_do
    bounds = [sum(line["bound"] for line in lines if kind in line) for kind in ("reserve", "settle")]
    assert result.maybe_nanousd == bounds[0] - bounds[1]
