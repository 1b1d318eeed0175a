"""An answer as people and programs meet it: as JSON, in a format string, in a terminal, in a notebook."""

from __future__ import annotations

import copy
import dataclasses
import io
import json
import pickle
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any

import pytest
from pydantic import BaseModel, Field
from rich.console import Console

from cascade.core.trail import Answer, Step

from .builders import COST, answer_of, policy_of, reply, request_of


class Mood(Enum):
    """An enum."""

    CALM = "calm"


class Order(BaseModel):
    """What a response_model may hold that JSON has not."""

    number: str = Field(alias="no")
    placed: datetime
    total: Decimal
    mood: Mood
    tags: set[str]


@dataclasses.dataclass(frozen=True)
class Line:
    """A plain dataclass."""

    article: str
    price: Decimal


ORDER = Order(no="A-17", placed=datetime(2026, 11, 2, tzinfo=UTC), total=Decimal("9.90"), mood=Mood.CALM, tags={"new"})
HOSTILE = "<script>alert(1)</script> [bold red] \x1b[2J & ümlaut"


def climbed(said: str = "hello there", **more: Any) -> Answer:
    """An answer of the second rung; the first was not sure."""
    request = request_of(
        "SECRET prompt", flags=frozenset({"vip", "b", "a"}), metadata={"customer": "c-17"}, id="casc_1"
    )
    answer = answer_of(policy_of(), reply(0.5, "perhaps"), reply(0.9, said), request=request)
    return dataclasses.replace(answer, **more)


def test_an_answer_is_json() -> None:
    """All of it, the trail and the caller's names included; money with its unit in its name, exact and in USD."""
    shown = json.loads(climbed().to_json())
    assert shown == climbed().to_dict()
    assert (shown["text"], shown["rung"], shown["confidence"], shown["data"]) == ("hello there", "r1", 0.9, None)
    assert (shown["cost_nanousd"], shown["cost_usd"]) == (2 * COST, pytest.approx(2 * COST / 1e9))
    assert (shown["flags"], shown["metadata"]) == (["a", "b", "vip"], {"customer": "c-17"})
    assert shown["usage"]["input_tokens"] == 200
    first, second = shown["steps"]
    assert (first["rung"], first["verdict"], first["reason"], first["cost_nanousd"]) == (
        "r0",
        "answered",
        "low_confidence",
        COST,
    )
    assert (second["rung"], second["reason"], second["cost_usd"]) == ("r1", None, pytest.approx(COST / 1e9))


@pytest.mark.parametrize(
    ("data", "written"),
    [
        (ORDER, {"no": "A-17", "placed": "2026-11-02T00:00:00Z", "total": "9.90", "mood": "calm", "tags": ["new"]}),
        ([ORDER.mood, 1, None], ["calm", 1, None]),
        (Line("lamp", Decimal("9.90")), {"article": "lamp", "price": "9.90"}),
        ({"a": float("nan")}, {"a": None}),
        (ValueError("no JSON has this"), "no JSON has this"),
    ],
    ids=["model", "list", "dataclass", "not a number", "anything"],
)
def test_data_is_written_by_pydantic(data: object, written: object) -> None:
    """Models by their aliases, as the model was asked for them; what JSON lacks as text or null."""
    assert json.loads(climbed(data=data).to_json())["data"] == written


def test_asdict_of_an_answer_is_json_too() -> None:
    """No field of a plain answer is a set."""
    assert json.loads(json.dumps(dataclasses.asdict(climbed())))["flags"] == ["a", "b", "vip"]


def test_an_answer_formats_as_its_text() -> None:
    """In a format string with any width, or none."""
    answer = climbed("yes")
    assert (f"{answer:>10}", f"{answer}", f"{answer:.2}", str(answer)) == ("       yes", "yes", "ye", "yes")
    assert f"{climbed(text=None, abstained='error'):>3}" == "   "


def test_its_repr_is_one_short_line() -> None:
    """However long the text and the trail."""
    assert repr(climbed("yes")) == "Answer('yes', rung='r1', confidence=0.9, cost_usd=0.000600, steps=2)"
    shown = repr(climbed("long\n" * 1000, degraded="deadline", arm="observe"))
    assert "\n" not in shown
    assert len(shown) < 220
    assert "…" in shown
    assert "degraded='deadline'" in shown
    assert "arm='observe'" in shown
    assert repr(climbed(text=None, rung=None, confidence=None, abstained="error")).startswith(
        "Answer(None, abstained='error'"
    )


@pytest.mark.parametrize(
    ("name", "meant"), [("cost", "cost_usd"), ("txt", "text"), ("confidense", "confidence"), ("choices", None)]
)
def test_an_unknown_attribute_lists_those_there_are(name: str, meant: str | None) -> None:
    """With the one that was meant, where one is near; of a step as of an answer."""
    answer = climbed()
    for one in (answer, answer.steps[0]):
        if meant is not None and not hasattr(one, meant):
            continue
        with pytest.raises(AttributeError, match=f"no '{name}'") as caught:
            getattr(one, name)
        said = str(caught.value)
        assert (f"did you mean {meant}?" in said) is (meant is not None)
        assert {"cost_nanousd", "cost_usd", "rung", "usage", "to_dict"} <= set(said.partition("it has ")[2].split(", "))
    assert not hasattr(answer, "cost")
    assert getattr(answer, "nothing of the kind", 7) == 7


def test_an_answer_is_copied_pickled_and_replaced_as_any_value() -> None:
    """What answers for unknown attributes does not stand in the way."""
    answer = climbed()
    assert pickle.loads(pickle.dumps(answer)) == copy.deepcopy(answer) == copy.copy(answer) == answer
    assert dataclasses.replace(answer, text="else").text == "else"
    assert isinstance(copy.copy(answer.steps[0]), Step)


@pytest.mark.parametrize("width", [60, 140])
def test_rich_shows_the_text_and_the_trail_as_they_are(width: int) -> None:
    """No markup of the answer's is obeyed, no line is wider than the terminal; a narrow one gets a list, which leaves nothing out."""
    stream = io.StringIO()
    Console(file=stream, width=width, force_terminal=False).print(climbed("[bold red] [/b] :smile:"))
    shown = stream.getvalue()
    assert "[bold red] [/b] :smile:" in shown
    assert "confidence" in shown
    assert "USD" in shown
    assert max(map(len, shown.splitlines())) <= width
    assert all(word in shown for word in ("model-0", "attempts", "ms"))
    assert "SECRET" not in shown


def test_a_notebook_shows_the_text_and_the_trail_escaped() -> None:
    """A page cannot be steered by an answer; nothing of the prompt, nor of the answers below, is in it."""
    shown = climbed(HOSTILE)._repr_html_()
    assert "<script" not in shown
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in shown
    assert shown.count("<tr>") == 3
    assert "up: low_confidence" in shown
    assert "SECRET" not in shown
    assert "perhaps" not in shown


def test_a_step_named_in_html_is_not_believed() -> None:
    """Names of rungs, models and checks are escaped as well."""
    answer = climbed()
    steps = tuple(dataclasses.replace(step, rung="<b>r</b>", model="<i>m</i>") for step in answer.steps)
    assert "<b>" not in dataclasses.replace(answer, steps=steps)._repr_html_()
    assert "<i>" not in dataclasses.replace(answer, steps=steps)._repr_html_()
