"""A goal becomes a plan on the planner's rung: one repair at most, what it costs is told, and nothing is paid for what cannot be."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from cascade import (
    BudgetExceeded,
    ConfigurationError,
    DeadlineExceeded,
    Plan,
    PlanError,
    Policy,
    RequestError,
    Subtask,
    UpstreamRejected,
)
from cascade.core.errors import AllRungsFailed
from cascade.core.planning.planner import planner_version
from cascade.emulator import ScriptedReply
from cascade.emulator.requests import ApiError
from tests.live.conftest import COST, SONNET, USAGE, Asking, Clock, Emulate, ladder
from tests.live.operation.test_books import bodies, entries
from tests.live.planning.fleet import GIVEN, planning
from tests.live.planning.planners import BAD, GOOD, Planner, reply_of, written

GOAL = "Compare the companies."


def made(policy: Policy) -> Plan:
    """The plan that GOOD is."""
    return Plan(
        GOAL,
        (
            Subtask("names", "do names", ("report",), "haiku", "names is easy"),
            Subtask("table", "do table", ("names",), "sonnet", "table is easy"),
        ),
        ("report",),
        "table",
        "sonnet",
        planner_version(policy),
    )


def test_a_goal_becomes_a_plan(asking: Asking, emulate: Emulate) -> None:
    """One call of the planner's rung, plainly and without triage; the ledger has it as the planner's."""
    planner, policy = Planner(), planning()
    driver = asking(policy, emulate(script=planner))
    plan = driver.plan(GOAL, inputs=GIVEN, metadata={"customer": "c-1"})
    driver.close()
    assert plan == made(policy)
    (body,) = planner.asked
    assert body["model"] == SONNET
    assert "confidence" not in body["output_config"]["format"]["schema"]["properties"]
    (asked,) = bodies(entries(), "request")
    assert asked["plan"]["run"].startswith("plan_")
    (came,) = bodies(entries(), "outcome")
    assert (came["arm"], came["cost"], came["rung"]) == ("planner", COST["sonnet"], "sonnet")


def test_a_plan_that_cannot_be_run_is_repaired_once(asking: Asking, emulate: Emulate) -> None:
    """The planner is shown its plan and everything that is wrong with it."""
    planner, policy = Planner(BAD, GOOD), planning()
    assert asking(policy, emulate(script=planner)).plan(GOAL, inputs=GIVEN) == made(policy)
    first, second = planner.asked
    assert second["messages"][:1] == first["messages"]
    assert second["messages"][1] == {"role": "assistant", "content": BAD}
    told = second["messages"][2]["content"]
    faults = json.JSONDecoder().raw_decode(told, told.index("["))[0]
    assert faults == [
        "subtask 'names' is there twice (give each subtask an id of its own)",
        "subtask 'names': there is no input or subtask 'reprot' (did you mean 'report'? known: names, report)",
        "subtask 'names': there is no rung 'fable' on the ladder (use one of haiku, sonnet, opus)",
    ]


@pytest.mark.parametrize(
    "broken", ["no plan at all", ScriptedReply([{"type": "text", "text": GOOD[:40]}], "max_tokens", usage=USAGE)]
)
def test_a_reply_without_a_plan_is_repaired_too(broken: Any, asking: Asking, emulate: Emulate) -> None:
    """Prose, and a reply that was cut off."""
    planner, policy = Planner(broken, GOOD), planning()
    assert asking(policy, emulate(script=planner)).plan(GOAL, inputs=GIVEN) == made(policy)


@pytest.mark.parametrize("broken", [BAD, "no plan at all"])
def test_a_planner_that_cannot_plan_is_an_error(broken: str, asking: Asking, emulate: Emulate) -> None:
    """After the repair, with what is wrong and what both calls cost."""
    planner = Planner(broken)
    with pytest.raises(
        PlanError, match=r"^the planner \(sonnet\) made no plan that can be run, not even in the repair: "
    ) as raised:
        asking(planning(), emulate(script=planner)).plan(GOAL, inputs=GIVEN)
    error = raised.value
    assert (len(planner.asked), error.exit_code, error.cost_nanousd) == (2, 3, 2 * COST["sonnet"])
    assert len(error.faults) == (3 if broken == BAD else 1)


def test_more_subtasks_than_allowed_are_no_plan(asking: Asking, emulate: Emulate) -> None:
    """The limit is the policy's."""
    planner = Planner(reply_of(written("a"), written("b"), written("c")))
    with pytest.raises(PlanError, match="it has 3 subtasks, and at most 2 are allowed"):
        asking(planning(plan={"max_subtasks": 2}), emulate(script=planner)).plan(GOAL)


def test_what_asking_again_would_not_mend_is_raised(asking: Asking, emulate: Emulate) -> None:
    """A refusal, and a request that the endpoint rejects."""
    refused = ScriptedReply([], "refusal", usage=USAGE)
    planner = Planner(refused)
    with pytest.raises(AllRungsFailed):
        asking(planning(), emulate(script=planner)).plan(GOAL)
    assert len(planner.asked) == 1

    def rejects(_body: Any, _headers: Any) -> Any:
        raise ApiError(400, "invalid_request_error", "no")

    with pytest.raises(UpstreamRejected):
        asking(planning(), emulate(script=rejects)).plan(GOAL)


def test_planning_spends_no_more_than_it_may(asking: Asking, emulate: Emulate) -> None:
    """A call that may cost more is not made; nor is a repair for which no money is left."""
    planner = Planner(BAD, GOOD)
    driver = asking(planning(), emulate(script=planner))
    with pytest.raises(BudgetExceeded) as refused:
        driver.plan(GOAL, inputs=GIVEN, max_usd=1e-6)
    assert planner.asked == []
    (most,) = re.findall(r"may cost (\S+) USD", str(refused.value))
    with pytest.raises(BudgetExceeded, match=r"the run's limit of \S+ USD has no room") as unrepaired:
        driver.plan(GOAL, inputs=GIVEN, max_usd=float(most) + 1e-6)
    assert len(planner.asked) == 1
    assert "the plan that 0.0004 USD were paid for cannot be run, and it is not repaired: subtask" in str(
        unrepaired.value
    )
    assert "nothing was paid" not in str(unrepaired.value)
    assert round(unrepaired.value.cost_usd * 1e9) == COST["sonnet"]


def test_planning_ends_at_its_deadline(asking: Asking, emulate: Emulate) -> None:
    """The repair has what the first call left."""
    clock = Clock()
    planner = Planner(BAD)

    def slow(body: Any, headers: Any) -> Any:
        clock.now += 6
        return planner(body, headers)

    with pytest.raises(DeadlineExceeded):
        asking(planning(), emulate(script=slow), clock=clock).plan(GOAL, deadline_s=5)
    assert len(planner.asked) == 1


def test_a_policy_without_plans_plans_nothing(asking: Asking, emulate: Emulate) -> None:
    """Nor does one in another mode, which would leave the answer to the baseline."""
    planner = Planner()
    emulator = emulate(script=planner)
    with pytest.raises(
        ConfigurationError,
        match=r"policy live has no plan block \(add `plan: \{\}`, or use the shipped policy `planning`\)",
    ):
        asking(ladder(), emulator).plan(GOAL)
    with pytest.raises(ConfigurationError, match="is in mode observe"):
        asking(planning(mode="observe"), emulator).plan(GOAL)
    assert planner.asked == []


@pytest.mark.parametrize(
    ("goal", "options", "told"),
    [
        (" ", {}, "goal: must be a text that says what is to be done, not an empty text"),
        (3, {}, "goal: must be a text that says what is to be done, not int"),
        ("\ud800", {}, "goal: it contains an unpaired surrogate"),
        (GOAL, {"inputs": ["a"]}, "inputs: must be texts by name"),
        (GOAL, {"inputs": {"A b": "x"}}, "inputs: 'A b' is no name"),
        (GOAL, {"inputs": {"a": b"x"}}, "inputs: a must be a text, not bytes"),
        (GOAL, {"inputs": {"a": "\ud800"}}, "inputs: a contains an unpaired surrogate"),
        (GOAL, {"max_usd": 0}, "max_usd: 0 must be an amount above 0, in USD"),
        (GOAL, {"deadline_s": -1}, "deadline_s: -1 must be a number of seconds above 0"),
        (GOAL, {"metadata": {"a": 1}}, "metadata: names and values must be strings"),
        (GOAL, {"session": ""}, "session: must be a name, not ''"),
        (GOAL, {"input": {}}, "input: plan() has no such argument; did you mean inputs?"),
        (GOAL, {"run": "a"}, "run: plan() has no such argument"),
    ],
)
def test_arguments_are_checked_before_anything_is_paid(
    goal: Any, options: Any, told: str, asking: Asking, emulate: Emulate
) -> None:
    """By name, and with what to give."""
    planner = Planner()
    with pytest.raises(RequestError) as raised:
        asking(planning(), emulate(script=planner)).plan(goal, **options)
    assert str(raised.value).startswith(told)
    assert planner.asked == []


@pytest.mark.parametrize("subtask", ["names", Subtask("a", "do a", schema=True)])  # pyright: ignore[reportArgumentType]
def test_what_is_no_plan_at_all_is_told_as_a_plans_faults_are(subtask: Any, asking: Asking, emulate: Emulate) -> None:
    """Types are not checked where a plan is made in code."""
    planner = Planner()
    with pytest.raises(PlanError, match="it is no plan"):
        asking(planning(), emulate(script=planner)).run(Plan("g", (subtask,)))
    assert not planner.fleet.calls


def test_the_error_of_a_reply_of_any_length_can_be_read(asking: Asking, emulate: Emulate) -> None:
    """It names the first faults; all of them are on it."""
    planner = Planner(reply_of(*({"id": "A"} for _ in range(60))))
    with pytest.raises(PlanError, match="; and 40 more ") as raised:
        asking(planning(), emulate(script=planner)).plan(GOAL)
    assert len(raised.value.faults) == 60


def test_a_goal_is_run_on_one_budget(asking: Asking, emulate: Emulate) -> None:
    """Planned first; the planner's calls are a role of the run's costs."""
    planner = Planner(BAD, GOOD)
    policy = planning()
    result = asking(policy, emulate(script=planner)).run(GOAL, inputs=GIVEN)
    assert (result.plan, result.ok) == (made(policy), True)
    assert result.text == "do table by sonnet"
    assert result.costs["planner"] == 2 * COST["sonnet"]
    assert result.costs["executor"] == 2 * COST["haiku"] + COST["sonnet"]
