"""A plan is a value: it comes back from its JSON as it was, and whatever keeps it from being run is said, a line each."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.core.errors import MissingExtra
from cascade.core.planning.graph import Plan, Subtask, faults_text, graph_faults, plan_faults, plan_of
from cascade.core.policy import Policy
from cascade.policy.checks import compile_schema
from tests.core.builders import policy_of
from tests.core.planning.plans import plans

PLAN = Plan(
    "Compare the makers of lamps.",
    (
        Subtask("names", "List the makers.", ("notes",), "r0", task="extract"),
        Subtask("prices", "Give each maker's price.", ("notes", "names"), "r0"),
        Subtask("report", "Write the comparison.", ("names", "prices"), "r1", "readers are demanding"),
    ),
    ("notes",),
)
VALID = PLAN.to_dict()


def policy(**more: Any) -> Policy:
    """A policy with plans; answers of the kind `extract` come from r1 at most."""
    return policy_of(
        0.8, 0.8, plan={"planner": "r1", "reviewer": "r1", **more}, tasks=[{"name": "extract", "ceiling": "r1"}]
    )


def changed(number: int, **more: Any) -> Plan:
    """The plan with another subtask."""
    subtasks = list(PLAN.subtasks)
    subtasks[number] = replace(subtasks[number], **more)
    return replace(PLAN, subtasks=tuple(subtasks))


@given(plans())
def test_a_plan_comes_back_from_its_json(plan: Plan) -> None:
    """And it is valid, with its subtasks on levels of which each rests on earlier ones only."""
    assert Plan.from_dict(plan.to_dict()) == plan
    assert list(graph_faults(plan)) == []
    seen: set[str] = set(plan.inputs)
    for level in plan.levels():
        assert all(set(one.inputs) <= seen for one in level)
        seen |= {one.id for one in level}
    assert seen == {*plan.inputs, *(one.id for one in plan.subtasks)}


def test_a_plan_prints_as_a_table() -> None:
    """A line for each subtask, with its rung, its kind and what it rests on."""
    assert str(changed(1, instruction="Give\neach " + "price " * 20)).splitlines() == [
        "subtask  rung  task     rests on       instruction",
        "names    r0    extract  notes          List the makers.",
        f"prices   r0    other    notes, names   {('Give each ' + 'price ' * 20)[:71]}…",
        "report   r1    other    names, prices  Write the comparison.",
    ]


def test_a_table_does_nothing_to_a_terminal() -> None:
    """Instructions are a model's words, and a model reads what anybody wrote."""
    assert (
        str(changed(1, instruction="Clear\x1b[2J and\x07 \u202eturn"))
        .splitlines()[2]
        .endswith("Clear\ufffd[2J and\ufffd \ufffdturn")
    )


def test_of_a_plan_far_too_large_its_size_is_the_one_fault() -> None:
    """Whatever else is wrong with it: a model can write thousands of subtasks."""
    plan = Plan("goal", tuple(Subtask("A", "do", ("none",)) for _ in range(3_000)))
    (fault,) = plan_faults(plan, policy())
    assert fault == "it has 3000 subtasks, and no plan may have more than 100 (use fewer)"


def test_faults_are_told_in_a_line_that_can_be_read() -> None:
    """The first ones, shortened, and how many more there are."""
    assert faults_text(["a", "b"]) == "a; b"
    told = faults_text(["x" * 10_000] * 3_000)
    assert told.endswith("; and 2,980 more")
    assert len(told) < 10_000


def test_what_a_plan_is_asked_for() -> None:
    """Its subtasks by their ids, what they rest on, and the one whose result is the run's."""
    assert PLAN["prices"].kind == "other"
    assert PLAN.needs(PLAN["report"]) == ("names", "prices")
    assert (PLAN.final, replace(PLAN, result="names").final) == ("report", "names")
    with pytest.raises(KeyError):
        _ = PLAN["notes"]


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ([], "a plan is a mapping"),
        ({**VALID, "version": 2}, "version: 2 is not known here (write version: 1)"),
        ({**VALID, "version": True}, "version: True is not known here"),
        ({**VALID, "goal": " "}, "goal is empty"),
        ({**VALID, "subtasks": []}, "subtasks is empty"),
        ({**VALID, "subtasks": "names"}, "subtasks has another form (give a list of subtasks)"),
        ({**VALID, "subtasks": [3]}, "subtasks[0]: it is no subtask (give a mapping with id and instruction)"),
        ({**VALID, "subtask": []}, "unknown key 'subtask' (did you mean 'subtasks'? known: goal, "),
        ({**VALID, "inputs": [1]}, "inputs has another form (give a list of names)"),
        ({**VALID, "subtasks": [{"id": "a"}]}, "subtask 'a': instruction is missing (add instruction: …)"),
        ({**VALID, "subtasks": [{"instruction": "b"}]}, "subtasks[0]: id is missing"),
        ({**VALID, "subtasks": [{"id": "a", "instruction": 3}]}, "subtask 'a': instruction has another form (give a text)"),
        ({**VALID, "subtasks": [{"id": "a", "instruction": "b", "input": []}]}, "did you mean 'inputs'?"),
        ({**VALID, "subtasks": [{"id": "a", "instruction": "b", "schema": "text"}]}, "(give a JSON Schema, which is a mapping)"),
        ({**VALID, "goal": "\ud800"}, "a text in it has an unpaired surrogate"),
        ({**VALID, "planner": object()}, "it is not JSON"),
    ],
)  # fmt: skip
def test_another_form_is_no_plan(values: Any, fault: str) -> None:
    """The one fault is named, and nothing that only follows from it."""
    plan, faults = plan_of(values)
    assert plan is None
    assert len(faults) == 1
    assert fault in faults[0]
    with pytest.raises(ValueError, match=r".+"):
        Plan.from_dict(values)


@pytest.mark.parametrize(
    ("plan", "fault"),
    [
        (changed(0, id="Names"), "subtask 'Names' has no usable id"),
        (changed(0, id="prices"), "subtask 'prices' is there twice"),
        (changed(0, id="notes"), "subtask 'notes' has the name of an input"),
        (changed(2, inputs=("name",)), "subtask 'report': there is no input or subtask 'name' (did you mean 'names'?"),
        (changed(0, inputs=("names",)), "subtasks rest on each other: names -> names"),
        (changed(0, inputs=("report",)), "subtasks rest on each other: names -> report -> names"),
        (replace(PLAN, result="reports"), "result: there is no subtask 'reports' (did you mean 'report'?"),
        (replace(PLAN, inputs=("notes", "A b")), "the input 'A b' has no usable name"),
        (changed(0, rung="r9"), "subtask 'names': there is no rung 'r9' on the ladder"),
        (changed(0, rung="r2"), "rung 'r2' is above the ceiling of task 'extract' (use r1 or one below it)"),
        (changed(1, task="extrct"), "the policy has no task 'extrct' (did you mean 'extract'? known: extract, other)"),
        (changed(1, schema={"type": "lost"}), "subtask 'prices': its schema cannot be used: "),
        (changed(1, schema={"$ref": "https://example.com/s"}), "subtask 'prices': its schema cannot be used: "),
    ],
)
def test_what_cannot_be_run_is_said(plan: Plan, fault: str) -> None:
    """In a line that names the subtask and what to do."""
    faults = list(plan_faults(plan, policy(), compile_schema=compile_schema))
    assert any(fault in one for one in faults), faults


def test_a_valid_plan_has_no_fault() -> None:
    """At the most subtasks that the policy allows; one more is one too many."""
    plan = changed(1, schema={"type": "object"}, task="other")
    assert list(plan_faults(plan, policy(max_subtasks=3), compile_schema=compile_schema)) == []
    (fault,) = plan_faults(plan, policy(max_subtasks=2))
    assert fault == "it has 3 subtasks, and at most 2 are allowed (plan.max_subtasks)"


def test_inputs_that_are_not_given_are_missing() -> None:
    """What the caller gives counts, not what the plan lists; what no subtask refers to is not missed."""
    assert list(plan_faults(replace(PLAN, inputs=("notes", "letter")), policy(), ["notes"])) == []
    assert [one.partition(":")[0] for one in plan_faults(PLAN, policy(), [])] == ["subtask 'names'", "subtask 'prices'"]


def test_a_schema_that_cannot_be_tried_is_a_fault_of_the_plan() -> None:
    """Where the package is not installed, the planner is told so, and can do without."""

    def missing(_schema: Any) -> object:
        raise MissingExtra("a schema", "schema")

    (fault,) = plan_faults(changed(1, schema={}), policy(), compile_schema=missing)
    assert "pip install" in fault


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12))
def test_a_cycle_is_found_where_there_is_one(edges: list[tuple[int, int]]) -> None:
    """It is a real one: each subtask in it rests on the next."""
    names = [f"s{number}" for number in range(6)]
    needs = {name: tuple(names[to] for at, to in edges if names[at] == name) for name in names}
    plan = Plan("goal", tuple(Subtask(name, "do", needs[name]) for name in names))
    told = [str(one) for one in graph_faults(plan)]
    try:
        plan.levels()
    except ValueError:
        (fault,) = told
        circle = fault.partition(": ")[2].partition(" (")[0].split(" -> ")
        assert circle[0] == circle[-1]
        assert all(after in needs[before] for before, after in pairwise(circle))
    else:
        assert told == []
