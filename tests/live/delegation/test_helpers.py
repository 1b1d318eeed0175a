"""Each helper: what it promises ships from the first rung, and what breaks the promise climbs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from cascade import AllRungsFailed
from tests.live.conftest import COST, ladder, reasons

from .conftest import Helping, Stage

TEXT = "The lamp that I ordered on 3 May has not come yet, and nobody answers my letters."


class Order(BaseModel):
    """What may be extracted."""

    article: str
    late: bool


SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"article": {"type": "string", "minLength": 2}, "late": {"type": "boolean"}},
    "required": ["article", "late"],
}
OPEN: dict[str, Any] = {"type": "object", "additionalProperties": {"type": "integer"}}  # the API cannot enforce it
LABELS = ["complaint", "question", "Praise"]
FOUND = {"article": "lamp", "late": True}


@dataclass(frozen=True)
class Case:
    """A call; what a rung may answer, and what of it the answer has; what it may not, and the check that this fails."""

    helper: str
    given: tuple[Any, ...]
    good: str
    bad: str
    check: str
    data: Any = None
    text: str | None = None


CASES = {
    "summarize": Case("summarize", (TEXT, 5), "A lamp is late.", "A lamp is late since May.", "max_words:5"),
    "an empty summary": Case("summarize", (TEXT, 5), "A lamp is late.", " \n", "not_empty"),
    "a long summary": Case("summarize", ("I wait, wait, wait.", 3), "I wait.", "I'm impatiently waiting", "shorter"),
    "a short text": Case("summarize", ("I wait.", 3), "I wait.", "I'm waiting.", "shorter"),
    "rewrite": Case("rewrite", (TEXT, 16), "The lamp is late", "The lamp is late.", "max_chars:16"),
    "rewrite with a keyword": Case("rewrite", (TEXT, 40, "lamp"), "My LAMP is late.", "My lamps are late.", "keyword"),
    "an empty text": Case("rewrite", (TEXT, 40), "My lamp is late.", "", "not_empty"),
    "classify": Case("classify", (TEXT, LABELS), "complaint", "anger", "label", "complaint"),
    "a label in another case": Case("classify", (TEXT, LABELS), "praise", "praise.", "label", "Praise", "Praise"),
    "translate": Case("translate", (TEXT, "German"), "Die Lampe ist nicht da.", "\n", "not_empty"),
    "extract a type": Case(
        "extract", (TEXT, Order), json.dumps(FOUND), '{"article": "lamp"}', "response_model (ValidationError)",
        Order(article="lamp", late=True),
    ),
    "extract by a schema": Case(
        "extract", (TEXT, SCHEMA), json.dumps(FOUND), '{"article": "l", "late": true}', "response_model (ValueError)", FOUND
    ),
    "extract by an open schema": Case(
        "extract", (TEXT, OPEN), '{"lamp": 1}', '{"lamp": "one"}', "response_model (ValueError)", {"lamp": 1}
    ),
    "extract a literal": Case(
        "extract", (TEXT, Literal["lamp", "rug"]), '"lamp"', '"tub"', "response_model (ValidationError)", "lamp", '"lamp"'
    ),
}  # fmt: skip


def said(case: Case, text: str) -> tuple[str, str, str]:
    """A text as the three rungs write it: the top has no envelope, so a text under a schema is JSON there."""
    literal = case.helper == "extract" and case.text is not None
    below = json.loads(text) if literal else text
    return below, below, json.dumps(text) if case.helper == "classify" else text


@pytest.mark.parametrize("name", CASES)
def test_what_keeps_the_promise_ships_from_the_first_rung(helping: Helping, name: str) -> None:
    """One call, at the price of the first rung; text and data are what was asked for."""
    case = CASES[name]
    helping.stage.says(*said(case, case.good))
    answer = helping(case.helper, *case.given)
    assert (answer.rung, reasons(answer), answer.cost_nanousd) == ("haiku", [None], COST["haiku"])
    assert (str(answer), answer.data) == (case.text or case.good, case.data)
    assert len(helping.asked()) == 1


@pytest.mark.parametrize("name", CASES)
def test_what_breaks_it_climbs_and_the_next_rung_answers(helping: Helping, name: str) -> None:
    """check_failed, by the check's name, one rung up; both calls are paid."""
    case = CASES[name]
    bad, good = said(case, case.bad), said(case, case.good)
    helping.stage.says(bad[0], good[1], good[2])
    answer = helping(case.helper, *case.given)
    assert (answer.rung, reasons(answer)) == ("sonnet", ["check_failed", None])
    assert answer.steps[0].verdict.failed_checks == (case.check,)
    assert (str(answer), answer.data) == (case.text or case.good, case.data)
    assert answer.cost_nanousd == COST["haiku"] + COST["sonnet"]
    helping.stage.says(bad[0], bad[1], good[2])
    answer = helping(case.helper, *case.given)
    assert (answer.rung, str(answer), answer.data) == ("opus", case.text or case.good, case.data)


@pytest.mark.parametrize("name", CASES)
def test_where_every_rung_breaks_it_nothing_ships(helping: Helping, name: str) -> None:
    """An error with the trail, in place of a result that is over the limit."""
    case = CASES[name]
    helping.stage.says(*said(case, case.bad))
    with pytest.raises(AllRungsFailed) as failed:
        helping(case.helper, *case.given)
    assert [step.verdict.failed_checks for step in failed.value.steps] == [(case.check,)] * 3


def test_a_text_in_a_known_other_language_must_not_come_back(helping: Helping) -> None:
    """Prose that comes back as it was climbs, however its spaces and capitals are written."""
    helping.stage.says(TEXT.upper().replace(" ", "  "), "Die Lampe ist nicht da.")
    answer = helping("translate", TEXT, "German", source="English")
    assert (reasons(answer), answer.steps[0].verdict.failed_checks) == (["check_failed", None], ("translated",))


@pytest.mark.parametrize(
    ("text", "more"),
    [
        (TEXT, {}),  # nobody said that it is not English already
        (TEXT, {"source": "english"}),
        ("Angela Merkel, Hamburg", {"source": "German"}),
        ("for key in sorted(found): print(key, found[key])", {"source": "German"}),
        ("3.14", {"source": "German"}),
        ("東京タワー", {"source": "Japanese"}),
        ("see www.example.com/a for all that was said", {"source": "German"}),
    ],
)
def test_what_may_be_right_as_it_is_may_come_back(helping: Helping, text: str, more: dict[str, Any]) -> None:
    """Names, figures and code; and a text whose language nobody has named, or that is in the language."""
    helping.stage.says(text)
    answer = helping("translate", text, "English", **more)
    assert (answer.rung, str(answer)) == ("haiku", text)


@pytest.mark.parametrize(
    ("text", "keyword"),
    [
        ("Our C++ course", "c++"), ("Ein Café am See", "CAFE\u0301"), ("**Late** lamps", "late"), ("東京タワーへ行く", "東京タワー"),
        ("最新のAI技術", "ai"), ("so very\n late", "very late"), ("Don’t wait", "don't wait"), ("ราคาถูกมาก", "ถูก"),
    ],
)  # fmt: skip
def test_a_keyword_is_found_as_it_is_written(helping: Helping, text: str, keyword: str) -> None:
    """In any case and composition, over line breaks and emphasis, and where scripts have no spaces between words."""
    helping.stage.says(text)
    assert helping("rewrite", TEXT, 60, keyword).rung == "haiku"


@pytest.mark.parametrize(
    ("text", "keyword"), [("Cafés", "café"), ("unlate", "late"), ("late lamps", "lamps late"), ("la te", "late"), ("AIR", "ai")]
)  # fmt: skip
def test_a_part_of_a_word_is_no_keyword(helping: Helping, text: str, keyword: str) -> None:
    """Another word that contains it is another word."""
    helping.stage.says(text, f"{text} {keyword}")
    assert helping("rewrite", TEXT, 60, keyword).rung == "sonnet"


def test_chinese_and_japanese_characters_are_words(helping: Helping) -> None:
    """Each of them, and the model is told so; punctuation is none."""
    text = "注文したランプがまだ届いていません。誰も手紙に返事をくれません。"
    helping.stage.says("ランプが、届かない。", "ランプ未着。")
    assert [helping("summarize", text, most).rung for most in (8, 7, 5)] == ["haiku", "sonnet", "sonnet"]
    assert "character counts as a word" in json.dumps(helping.asked()[-1]["system"])


@pytest.mark.parametrize("way", ["sync", "async"])
def test_the_limit_holds_where_the_ladder_is_switched_off(stage: Stage, way: str) -> None:
    """The baseline answers, and its answer is checked as any other."""
    helping = Helping(stage, way, ladder(mode="off"))
    stage.says("a b c")
    assert helping("summarize", TEXT, 3).arm == "bypass"
    with pytest.raises(AllRungsFailed, match="max_words:2"):
        helping("summarize", TEXT, 2)


@pytest.mark.parametrize("way", ["sync", "async"])
def test_a_policy_that_abstains_has_no_label(stage: Stage, way: str) -> None:
    """In place of an error, an answer without text and data."""
    helping = Helping(stage, way, ladder(exhausted="abstain"))
    stage.says("anger", "anger", '"anger"')
    answer = helping("classify", TEXT, LABELS)
    assert (answer.text, answer.data, answer.abstained) == (None, None, "check_failed")
