"""What each grader says of an answer: right, wrong, or that it cannot say, and never the last as a 0."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.core.errors import ConfigurationError
from cascade.corpora import Item
from cascade.corpora.grading import Grade, Ungraded, bind_grader, is_grader, judge_rung

RIGHT, WRONG = Grade(1.0), Grade(0.0)
CHOICES = {"choices": ["Paris", "Rome", "Oslo"]}


def item(expected: Any, extra: dict[str, Any] | None = None) -> Item:
    """An item with this expected answer."""
    return Item("i-1", "a question", {}, task="t", expected=expected, extra=extra)


TABLE: list[tuple[str, Any, Any, Grade]] = [
    ("exact", "Rome", "Rome", RIGHT),
    ("exact", "rome", "Rome", WRONG),
    ("exact", "Rome ", "Rome", WRONG),
    ("exact", "", "Rome", WRONG),
    ("exact", '{"b": [1], "a": 2.0}', {"a": 2, "b": [1]}, RIGHT),
    ("exact", {"a": True}, {"a": 1}, WRONG),
    ("exact", "no JSON", {"a": 1}, WRONG),
    ("exact", "3", 3, RIGHT),
    ("normalized", "  the ROME,\n Italy! ", "The Rome – Italy", RIGHT),
    ("normalized", "ﬁne “quotes”", "Fine quotes", RIGHT),
    ("normalized", "Straße", "STRASSE", RIGHT),
    ("normalized", "Rom", "Rome", WRONG),
    ("normalized", "", "Rome", WRONG),
    ("normalized", 42, "42", RIGHT),
    ("choice", "B", "B", RIGHT),
    ("choice", "(b)", "B", RIGHT),
    ("choice", "**C.** because it is so", "C", RIGHT),
    ("choice", "B) Rome", "(B)", RIGHT),
    ("choice", "I think the answer is (D).", "D", RIGHT),
    ("choice", "Option C", "D", WRONG),
    ("choice", "Answer: B", "b", RIGHT),
    ("choice", "rome.", "Rome", RIGHT),
    ("numeric", "42", 42, RIGHT),
    ("numeric", "It is $1,234.50 in all.", "1234.5", RIGHT),
    ("numeric", "\u22123", -3, RIGHT),
    ("numeric", "1e3", "1000", RIGHT),
    ("numeric", "45%", "45", RIGHT),
    ("numeric", ".5", 0.5, RIGHT),
    ("numeric", "42, yes: 42.0", 42, RIGHT),
    ("numeric", "0.3000001", 0.3, WRONG),
    ("numeric:0.01", "3.15", 3.14, RIGHT),
    ("numeric:0.01", "3.151", 3.14, WRONG),
    ("numeric:1%", "101", 100, RIGHT),
    ("numeric:1%", "-101", -100, RIGHT),
    ("numeric:1%", "102", 100, WRONG),
    ("contains", "It is in  ROME, Italy", "rome, italy", RIGHT),
    ("contains", "It is in Rome", ["rome", "Italy"], WRONG),
    ("contains", "Rome, Italy", ["rome", "Italy"], RIGHT),
    ("contains", "It is 17.", 17, RIGHT),
    ("pattern", "order A-17 ships", r"A-\d+", RIGHT),
    ("pattern", "order a-17 ships", r"A-\d+", WRONG),
    ("pattern:^yes$", "yes", None, RIGHT),
    ("pattern:a:b", "xa:by", None, RIGHT),
    ("pattern:^yes$", "yes!", None, WRONG),
    ("json_subset", '```json\n{"a": 1, "b": {"c": [1, 2], "d": 0}}\n```', {"b": {"c": [1, 2]}}, RIGHT),
    ("json_subset", '{"a": 1}', '{"a": 1.0}', RIGHT),
    ("json_subset", {"a": "1"}, {"a": 1}, WRONG),
    ("json_subset", '{"a": [1, 2]}', {"a": [1]}, WRONG),
    ("json_subset", '{"a": [{"b": 1, "c": 2}]}', {"a": [{"b": 1}]}, RIGHT),
    ("json_subset", "{}", {"a": None}, WRONG),
    ("json_subset", "3", [3], WRONG),
]


@pytest.mark.parametrize(("grader", "answer", "expected", "grade"), TABLE)
def test_a_grader_tells_right_from_wrong(grader: str, answer: Any, expected: Any, grade: Grade) -> None:
    """Every grader's table of answers that it can grade."""
    assert bind_grader(grader)(answer, item(expected)) == grade


UNGRADED: list[tuple[str, Any, Any, str]] = [
    *((name, "x", None, "no expected answer")
      for name in ("exact", "normalized", "choice", "numeric", "contains", "pattern", "json_subset")),
    ("normalized", "x", "?!", "nothing is left"),
    ("normalized", "x", ["x"], "expected answer is not a text"),
    ("normalized", {"a": 1}, "x", "the answer is not a text"),
    ("choice", "It may be B or C", "B", "no choice is found"),
    ("choice", "option A or option B", "B", "no choice is found"),
    ("choice", "A dog", "A", "no choice is found"),
    ("choice", "", "A", "no choice is found"),
    ("choice", "B", "Rome", "letter of the expected option is not known"),
    ("choice", "B", "...", "no choice"),
    ("choice", "B", ["B"], "not a text"),
    ("choice", ["B"], "B", "not a text"),
    ("numeric", "many", 3, "the answer has no number"),
    ("numeric", "42 km in 3 hours", 42, "the answer has several numbers"),
    ("numeric", "12,34", 12, "the answer has no number"),
    ("numeric", "1.234.567", 1, "the answer has no number"),
    ("numeric", True, 1, "the answer has no number"),
    ("numeric", "3", "three", "the expected answer has no number"),
    ("numeric", "3", "3 or 4", "the expected answer has several numbers"),
    ("numeric", "NaN", 3, "no number"),
    ("contains", "x", [], "neither a text nor a list"),
    ("contains", "x", " ", "neither a text nor a list"),
    ("contains", "x", [{"a": 1}], "neither a text nor a list"),
    ("contains", ["x"], "x", "not a text"),
    ("pattern", "x", 3, "not a pattern"),
    ("pattern", "x", r"(a)\1", "no linear-time pattern"),
    ("pattern", {"x": 1}, "x", "not a text"),
    ("json_subset", "no JSON", {"a": 1}, "the answer is not JSON"),
    ("json_subset", '{"a": 1}', "text", "no JSON object or list"),
    ("json_subset", "[" * 100_000, {"a": 1}, "not JSON"),
]  # fmt: skip


@pytest.mark.parametrize(("grader", "answer", "expected", "why"), UNGRADED)
def test_what_cannot_be_graded_is_not_a_zero(grader: str, answer: Any, expected: Any, why: str) -> None:
    """Every way in which an item cannot be graded is said, with its reason."""
    graded = bind_grader(grader)(answer, item(expected))
    assert isinstance(graded, Ungraded)
    assert why in graded.reason


def test_listed_choices_join_letters_and_texts() -> None:
    """With the item's `choices`, an option's text stands for its letter, on either side."""
    grade = bind_grader("choice")
    assert grade("Rome", item("B", CHOICES)) == RIGHT
    assert grade("(B)", item("Rome", CHOICES)) == RIGHT
    assert grade("oslo!", item("B", CHOICES)) == WRONG


def by_length(answer: str, expected: Any, told: Mapping[str, Any]) -> Any:
    """A caller's grader: `expected` says what it is to do."""
    match expected:
        case "raise":
            raise ValueError("secret")
        case "told":
            return told["id"] == "i-1" and told["task"] == "t" and told["input"] == "a question" and told["level"] == 3
        case _:
            return expected


async def awaited(*_: object) -> bool:
    """No plain function."""
    return True


@pytest.mark.parametrize(
    ("expected", "graded"),
    [
        ("told", RIGHT),
        (True, RIGHT),
        (False, WRONG),
        (0.25, Grade(0.25)),
        (1, RIGHT),
        (None, Ungraded("… returned None")),
        ("text", Ungraded("… returned str, not a score")),
        (1.5, Ungraded("… returned a score outside 0..1")),
        (-0.1, Ungraded("… returned a score outside 0..1")),
        (float("nan"), Ungraded("… returned a score outside 0..1")),
        ("raise", Ungraded("… raised ValueError")),
    ],
)
def test_a_function_of_ones_own_grades_or_cannot(expected: Any, graded: Grade | Ungraded) -> None:
    """`module:function` returns a bool or 0..1; whatever else it does, the answer is not graded, and nothing leaks."""
    path = f"{__name__}:by_length"
    wanted = Ungraded(graded.reason.replace("…", path)) if isinstance(graded, Ungraded) else graded
    assert bind_grader(path)("answer", item(expected, {"level": 3})) == wanted


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("exactly", "none called 'exactly'"),
        ("", "none called ''"),
        ("exact:1", "none called"),
        ("numeric:x", "tolerance 'x' is not a number"),
        ("numeric:-1", "is not a number"),
        ("numeric:nan", "is not a number"),
        (r"pattern:(a)\1", "cannot be used"),
        ("cascade.nowhere:f", "cannot be used"),
        ("cascade:nothing", "cannot be used"),
        ("cascade:__all__", "not a plain (synchronous) function"),
        (f"{__name__}:awaited", "not a plain (synchronous) function"),
        ("judge", "asks a model"),
    ],
)
def test_a_grader_that_is_none_is_refused_in_one_line(name: str, why: str) -> None:
    """A wrong name, tolerance, pattern or function is a ConfigurationError before anything is paid."""
    with pytest.raises(ConfigurationError, match="grader") as raised:
        bind_grader(name)
    assert why in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_manifests_free_words_are_no_grader() -> None:
    """`recorded exact match …` in a manifest is kept as it is, and grades nothing; a judge's name is one."""
    assert not is_grader("recorded exact match on a ten-way choice")
    assert is_grader("numeric:0.01")
    assert is_grader("judge:opus")
    assert (judge_rung("judge"), judge_rung("judge:opus"), judge_rung("exact")) == ("", "opus", None)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(
    name=st.sampled_from(
        ["exact", "normalized", "choice", "numeric", "numeric:1%", "contains", "pattern", "json_subset"]
    ),
    answer=JSON,
    expected=JSON,
)
def test_no_answer_makes_a_grader_fail(name: str, answer: Any, expected: Any) -> None:
    """Whatever JSON comes, the outcome is a score of 0 or 1 or a reason; without an expected answer always a reason."""
    graded = bind_grader(name)(answer, item(expected))
    assert isinstance(graded, Ungraded) or graded.score in (0.0, 1.0)
    if expected is None:
        assert isinstance(graded, Ungraded)


@given(JSON.filter(lambda value: value is not None))
def test_what_is_expected_is_exactly_right(expected: Any) -> None:
    """An answer that is the expected value scores 1 by `exact`."""
    assert bind_grader("exact")(expected, item(expected)) == RIGHT
