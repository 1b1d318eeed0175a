"""Answers of a type: `response_model=` makes `answer.data` an instance, and what does not fit climbs."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field, RootModel

from cascade import AllRungsFailed
from cascade.corpora import Item
from cascade.emulator import Emulator
from tests.live.conftest import COST, MODELS, Asking, Emulate, corpus, ladder, reasons, reply


class Mood(StrEnum):
    """An enum."""

    CALM = "calm"
    CROSS = "cross"


class Line(BaseModel):
    """A nested model: it becomes a definition."""

    article: str
    count: Annotated[int, Field(ge=1)]


class Order(BaseModel):
    """Nested, a list, an enum, a date and an option."""

    number: str
    lines: list[Line]
    mood: Mood
    placed: datetime
    note: str | None = None


class Lines(RootModel[list[Line]]):
    """A list at the root."""


GOOD = {
    "number": "A-17",
    "lines": [{"article": "lamp – Ü", "count": 2}],
    "mood": "calm",
    "placed": "2026-11-02T10:00:00Z",
}
INSTANCE = Order(
    number="A-17",
    lines=[Line(article="lamp – Ü", count=2)],
    mood=Mood.CALM,
    placed=datetime(2026, 11, 2, 10, tzinfo=UTC),
)
# What the schema as the API takes it lets through, or a model that does not keep to it: each is caught here.
BAD = {
    "bound": {**GOOD, "lines": [{"article": "lamp", "count": 0}]},
    "missing": {"number": "A-17"},
    "enum": {**GOOD, "mood": "Calm"},
    "date": {**GOOD, "placed": "yesterday"},
    "text": "A-17",
    "list": [1],
    "number": 3,
}


@pytest.fixture
def emulator(emulate: Emulate) -> Emulator:
    """Over answers that are objects: good ones, and bad ones below a good one."""
    all_good = {rung: reply(0.9, GOOD) for rung in MODELS}
    items = [
        Item("good", "good", all_good),
        Item("unsure", "unsure", {**all_good, "haiku": reply(0.1, GOOD), "sonnet": reply(0.1, GOOD)}),
        Item("declined", "declined", {**all_good, "haiku": reply(0.9, None)}),
        Item("lines", "lines", {rung: reply(0.9, GOOD["lines"]) for rung in MODELS}),
        Item("all bad", "all bad", {rung: reply(0.9, BAD["bound"]) for rung in MODELS}),
        *(Item(f"bad {name}", f"bad {name}", {**all_good, "haiku": reply(0.9, bad)}) for name, bad in BAD.items()),
    ]
    return emulate(corpus(*items))


@pytest.mark.parametrize("max_tokens", [500, 30_000], ids=["whole", "streamed"])
def test_data_is_an_instance_of_the_callers_class(asking: Asking, emulator: Emulator, max_tokens: int) -> None:
    """Nested models, enums and dates are themselves; the text is the same object as JSON."""
    answer = asking(ladder(max_tokens=max_tokens), emulator).ask("good", response_model=Order)
    assert (answer.data, answer.rung, answer.confidence) == (INSTANCE, "haiku", 0.9)
    assert Order.model_validate_json(str(answer)) == INSTANCE
    assert "Ü" in str(answer)


def test_the_last_rung_gets_the_schema_bare_and_its_json_is_read(asking: Asking, emulator: Emulator) -> None:
    """Without an envelope, hence without a confidence."""
    answer = asking(ladder(), emulator).ask("unsure", response_model=Order)
    assert (answer.data, answer.rung, answer.confidence) == (INSTANCE, "opus", None)
    first, _, top = (request.body["output_config"]["format"]["schema"] for request in emulator.requests)
    assert list(top["properties"]) == ["number", "lines", "mood", "placed", "note"]
    assert list(first["properties"]) == ["confidence", "answer"]
    assert first["$defs"] == top["$defs"]
    branch, null = first["properties"]["answer"]["anyOf"]
    assert branch["properties"] == top["properties"]
    assert null == {"type": "null"}


def test_null_declines_whatever_the_type(asking: Asking, emulator: Emulator) -> None:
    """It is not taken for a value that does not fit."""
    answer = asking(ladder(), emulator).ask("declined", response_model=Order)
    assert (reasons(answer), answer.data) == (["declined", None], INSTANCE)


@pytest.mark.parametrize("bad", BAD)
def test_an_answer_that_does_not_fit_climbs(asking: Asking, emulator: Emulator, bad: str) -> None:
    """check_failed, by name, however confident; it was paid for."""
    answer = asking(ladder(), emulator).ask(f"bad {bad}", response_model=Order)
    assert (reasons(answer), answer.data, answer.rung) == (["check_failed", None], INSTANCE, "sonnet")
    assert answer.steps[0].verdict.failed_checks == ("response_model (ValidationError)",)
    assert answer.steps[0].verdict.data is None
    assert answer.cost_nanousd == COST["haiku"] + COST["sonnet"]


def test_where_nothing_fits_nothing_is_shipped(asking: Asking, emulator: Emulator) -> None:
    """Not from the top either: `data` is an instance, or there is an error."""
    with pytest.raises(AllRungsFailed, match="response_model"):
        asking(ladder(), emulator).ask("all bad", response_model=Order)


def test_a_list_may_stand_at_the_root(asking: Asking, emulator: Emulator) -> None:
    """Where the schema is no object."""
    answer = asking(ladder(), emulator).ask("lines", response_model=Lines)
    assert answer.data == Lines([Line(article="lamp – Ü", count=2)])


def test_checks_see_the_text_of_the_object(asking: Asking, emulator: Emulator) -> None:
    """As JSON, so that patterns and functions work on it as on any text."""
    seen: list[Any] = []

    def looks_good(text: str) -> bool:
        seen.append(Order.model_validate_json(text))
        return True

    asking(ladder(), emulator).ask("good", response_model=Order, checks=[looks_good])
    assert seen == [INSTANCE]


@pytest.mark.parametrize("fault", ["prose", "truncated_json", "refusal", "empty", "bad_confidence"])
def test_a_typed_answer_fails_as_any_other_does(asking: Asking, emulator: Emulator, fault: str) -> None:
    """The next rung answers; at the top prose is no JSON and never becomes data."""
    emulator.faults = f"{fault},times=1"
    assert asking(ladder(), emulator).ask("good", response_model=Order).data == INSTANCE
    emulator.faults = fault
    if fault == "bad_confidence":  # the top is not asked for one
        assert asking(ladder(), emulator).ask("good", response_model=Order).rung == "opus"
        return
    with pytest.raises(AllRungsFailed):
        asking(ladder(), emulator).ask("good", response_model=Order)
