"""Checks and typed answers inside a climb: what fails one goes up, and is never lost."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import BaseModel, field_validator

from cascade.core.bound_policy import BoundCheck
from cascade.core.errors import AllRungsFailed, PolicyError, RequestError
from cascade.core.events import Recorded
from cascade.core.policy import Check, Task
from cascade.core.trail import Verdict
from cascade.policy.binding import bind_policy
from cascade.policy.checks import bind_callables, bind_check

from .builders import answer_of, policy_of, reply, request_of

PLAN = bind_policy(policy_of())


def broken(text: str) -> bool:
    """A caller's check with a mistake in it."""
    raise KeyError(text)


CHECKS: list[tuple[Any, str]] = [
    (lambda _: False, "mine"),
    (lambda _: None, "mine (returned NoneType)"),
    (lambda _: 1, "mine (returned int)"),
    (lambda _: "yes", "mine (returned str)"),
    (broken, "mine (raised KeyError)"),
]


@pytest.mark.parametrize(("test", "name"), CHECKS)
def test_a_check_passes_with_true_alone_and_fails_by_name(test: Any, name: str) -> None:
    """False, None, 1, a text or an exception: the step says which check it was, keeps its answer and goes up."""
    with pytest.raises(AllRungsFailed) as caught:
        answer_of(PLAN, reply(0.9), reply(0.9), reply(None, "top"), checks=(BoundCheck("mine", test),))
    assert [one.verdict.failed_checks for one in caught.value.steps] == [(name,)] * 3
    assert [one.verdict.text for one in caught.value.steps] == ["yes", "yes", "top"]
    assert [one.reason for one in caught.value.steps][:2] == ["check_failed"] * 2


def test_every_failed_check_is_named_in_order() -> None:
    """The policy's first, then the task's, then the caller's; a failed one does not hide the next."""
    policy = policy_of(checks=({"max_chars": 3},), tasks=(Task(name="t", checks=(Check(pattern="^A"),)),))
    mine = bind_callables([broken])
    answer = answer_of(bind_policy(policy), reply(0.9, "no way"), reply(0.9, "Aha"), request=request_of(task="t"),
                       checks=(BoundCheck("last", lambda text: text == "Aha"),))  # fmt: skip
    assert answer.steps[0].verdict.failed_checks == ("max_chars", "pattern", "last")
    assert (answer.rung, mine[0].name) == ("r1", "broken")


def test_a_tasks_checks_are_not_another_tasks() -> None:
    """They bind to the task that lists them."""
    plan = bind_policy(policy_of(tasks=(Task(name="t", checks=(Check(pattern="^A"),)),)))
    assert answer_of(plan, reply(0.9, "no"), request=request_of(task="u")).rung == "r0"


def test_an_empty_answer_never_ships_whatever_the_policy_lists() -> None:
    """not_empty is in force even where the list of checks is empty; white space is empty."""
    plan = bind_policy(policy_of(checks=()))
    assert answer_of(plan, reply(1.0, ""), reply(1.0, " \n\t\u00a0"), reply(None, "top")).rung == "r2"


class City(BaseModel):
    """What the caller wants."""

    name: str
    people: int

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        return {"Bern": "Bern", "Ulm": "Ulm"}[name]  # a KeyError is no ValueError: pydantic lets it through


TYPED = request_of(schema=City.model_json_schema())


def city(name: str, people: Any) -> dict[str, Any]:
    """A city as the model would write it."""
    return {"name": name, "people": people}


def test_an_answer_of_the_callers_type_comes_as_data_and_as_text() -> None:
    """`data` is what accept made of the text, `text` is its JSON."""
    answer = answer_of(PLAN, reply(0.9, city("Bern", 7)), request=TYPED, accept=City.model_validate_json)
    assert (answer.data, json.loads(answer.text or "")) == (City(name="Bern", people=7), city("Bern", 7))


@pytest.mark.parametrize("wrong", [city("Bern", "many"), city("Atlantis", 7), {"name": "Bern"}, "Bern", [1]])
def test_an_answer_that_does_not_fit_goes_up(wrong: Any) -> None:
    """Whatever the caller's validators raise fails the check response_model; the top's bare JSON is accepted alike."""
    top = reply(None, json.dumps(city("Ulm", 1)))
    answer = answer_of(
        PLAN, reply(0.9, wrong), reply(0.2, city("Bern", 7)), top, request=TYPED, accept=City.model_validate_json
    )
    assert answer.steps[0].verdict.failed_checks[0].startswith("response_model (")
    assert (answer.steps[0].verdict.data, answer.data) == (None, City(name="Ulm", people=1))


def test_a_recorded_answer_without_its_text_is_taken_as_it_was_graded() -> None:
    """There is nothing to check; it may ship."""
    recorded = Recorded(Verdict("answered", 0.9, "self_reported"))
    assert answer_of(PLAN, recorded, checks=(BoundCheck("no", lambda _: False),)).rung == "r0"


BOUND: list[tuple[dict[str, Any], str, bool]] = [
    ({"not_empty": True}, " x", True),
    ({"not_empty": True}, "\n", False),
    ({"max_chars": 3}, "abc", True),
    ({"max_chars": 3}, "abcd", False),
    ({"pattern": r"^\d+$"}, "123", True),
    ({"pattern": r"^\d+$"}, "12a", False),
    ({"pattern": "yes"}, "YES", False),
    ({"json_schema": {"type": "object", "required": ["a"]}}, '{"a": 1}', True),
    ({"json_schema": {"type": "object", "required": ["a"]}}, "{}", False),
    ({"json_schema": {"type": "object"}}, "not JSON", False),
    ({"json_schema": {"type": "array"}}, "[" * 100_000, False),
    ({"function": "keyword:iskeyword"}, "class", True),
    ({"function": "keyword:iskeyword"}, "klass", False),
]


@pytest.mark.parametrize(("check", "text", "passes"), BOUND)
def test_each_kind_of_check_does_what_it_says(check: dict[str, Any], text: str, passes: bool) -> None:
    """Bound once, called with the text: True or False, never an exception."""
    assert bind_check(Check.model_validate(check)).test(text) is passes


UNUSABLE = [
    {"pattern": r"(a)\1"},
    {"function": "no_such_module:f"},
    {"function": "keyword:no_such_function"},
    {"function": "keyword:kwlist"},
    {"json_schema": {"type": "no such type"}},
    {"json_schema": {"$ref": "https://example.com/schema.json"}},
]


@pytest.mark.parametrize("check", UNUSABLE)
def test_a_check_that_cannot_be_made_is_a_policy_error(check: dict[str, Any]) -> None:
    """At once, on one line, and nothing is fetched from anywhere."""
    with pytest.raises(PolicyError) as caught:
        bind_check(Check.model_validate(check))
    assert "\n" not in str(caught.value)


def test_a_callers_check_must_be_a_plain_function() -> None:
    """A coroutine would be truthy whatever it says; a text is no function."""

    async def later(text: str) -> bool:
        return bool(text)

    for wrong in (later, "not_empty"):
        with pytest.raises(RequestError, match="checks:"):
            bind_callables([wrong])  # type: ignore[list-item]
