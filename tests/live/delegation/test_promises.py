"""Whatever the models write, what ships keeps the helper's promise; nothing ships otherwise."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from cascade import AllRungsFailed, Answer

from .conftest import Helping, Stage

FEW = settings(max_examples=40)
PIECES = ["a", "bc", " ", "\n", ".", "-", "ランプ", "日", "é", "😀", "lamp", "Lamp", "\u200b"]
texts = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)
prompts = texts.filter(lambda text: any(piece.isalnum() for piece in text))
three = st.tuples(texts, texts, texts)


@pytest.fixture(scope="module", params=["sync", "async"])
def helping(request: pytest.FixtureRequest, stage: Stage) -> Helping:
    """One driver for all examples of a way."""
    return Helping(stage, request.param)


def shipped(helping: Helping, said: tuple[str, str, str], helper: str, *given: Any) -> Answer[Any] | None:
    """The answer, where one ships; None where all three rungs fail. The rung that ships is the first that may."""
    helping.stage.says(*said)
    try:
        answer = helping(helper, *given)
    except AllRungsFailed:
        event("nothing ships")
        return None
    event(f"{answer.rung} ships")
    assert {step.reason for step in answer.steps[:-1]} <= {"check_failed"}
    return answer


def can_be_seen(text: str) -> bool:
    """Whether there is anything to read."""
    return any(character.isprintable() and character != " " for character in text)


def plainly_counted(text: str) -> int:
    """Words, counted by hand: runs between white space; a Japanese character is one, and splits the run."""
    count = 0
    for run in text.split():
        if not any(character in "ランプ日" for character in run):
            count += 1
            continue
        within = False
        for character in run:
            if character in "ランプ日":
                count, within = count + 1, False
            elif not character.isalnum():
                within = False
            elif not within:
                count, within = count + 1, True
    return count


@FEW
@given(text=prompts, most=st.integers(1, 6), said=three)
def test_a_summary_is_never_over_its_words(helping: Helping, text: str, most: int, said: tuple[str, str, str]) -> None:
    """Nor longer than the text, nor empty; and what may ship is not refused."""

    def may(summary: str) -> bool:
        shorter = len(summary) < len(text.strip()) + (plainly_counted(text) <= most)
        return can_be_seen(summary) and plainly_counted(summary) <= most and shorter

    answer = shipped(helping, said, "summarize", text, most)
    assert (str(answer) if answer else None) == next(filter(may, said), None)


@FEW
@given(text=prompts, most=st.integers(4, 12), keyword=st.sampled_from([None, "lamp", "ランプ", "bc"]), said=three)
def test_a_rewritten_text_is_never_over_its_characters(
    helping: Helping, text: str, most: int, keyword: str | None, said: tuple[str, str, str]
) -> None:
    """Nor without its keyword, nor empty; and the first that may ship does, unless its keyword is part of a word."""
    answer = shipped(helping, said, "rewrite", text, most, keyword)
    if answer is not None:
        assert len(str(answer)) <= most
        assert keyword is None or keyword in str(answer).casefold()
    elif keyword is None:
        assert not any(len(one) <= most and can_be_seen(one) for one in said)


labels = st.lists(
    st.sampled_from(["late", "odd", "ランプ", "a b", 'say "x"', "null", "1", "true"]), min_size=1, unique=True
)


@FEW
@given(
    text=prompts,
    known=labels,
    said=st.tuples(*[st.sampled_from(["late", "Late", "odd", "a b", "ランプ", 'say "x"', "null", "x"])] * 3),
)
def test_a_label_is_never_another(helping: Helping, text: str, known: list[str], said: tuple[str, str, str]) -> None:
    """Text and data are one of the labels as it is spelled there: the first that a rung says, in whatever case."""
    answer = shipped(helping, (*said[:2], json.dumps(said[2])), "classify", text, known)
    first = next((one.lower() for one in said if one.lower() in known), None)
    assert (answer and (answer.text, answer.data)) == (first and (first, first))


values = st.one_of(st.integers(-3, 3), st.none(), st.lists(st.integers(0, 2), max_size=2), st.sampled_from(["a", "bb"]))


@FEW
@given(text=prompts, said=st.tuples(values, values, values), low=st.integers(-1, 2), is_open=st.booleans())
def test_what_is_extracted_is_valid(
    helping: Helping, text: str, said: tuple[Any, Any, Any], low: int, is_open: bool
) -> None:
    """Under the JSON Schema, its bounds included, which the API does not enforce; also where the schema stands in the prompt."""
    count = {"type": "integer", "minimum": low}
    schema = {"type": "object", "properties": {"n": count}, "required": ["n"]}
    if is_open:
        schema = {"type": "object", "additionalProperties": count, "minProperties": 1}
    written = [json.dumps({"n": value}) for value in said]
    answer = shipped(helping, (written[0], written[1], written[2]), "extract", text, schema)
    fitting = next(({"n": value} for value in said if type(value) is int and value >= low), None)
    assert (answer and answer.data) == fitting
