"""`response_model` takes whatever pydantic takes: what the API's schemas express is enforced, the rest is asked in words."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from enum import Enum, IntEnum
from functools import reduce
from operator import or_
from typing import Annotated, Any, Literal, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AnyUrl, BaseModel, ConfigDict, Field, create_model
from typing_extensions import TypedDict

from cascade import AllRungsFailed, RequestError
from cascade.core.triage import build_prompt
from cascade.corpora import Item
from cascade.emulator import Emulator
from cascade.emulator.schemas import check_schema
from cascade.engine.response_types import response_type
from tests.core.builders import policy_of, request_of
from tests.live.conftest import COST, MODELS, Asking, Emulate, corpus, ladder, reasons, reply


class Colour(Enum):
    """An enum of texts."""

    RED = "red"
    BLUE = "blue"


class Grade(IntEnum):
    """An enum of numbers."""

    GOOD = 1
    BAD = 5


@dataclasses.dataclass
class Point:
    """A standard dataclass."""

    x: int
    y: int = 0


class Person(TypedDict, total=False):
    """A typed dictionary."""

    name: str
    age: int


class Cat(BaseModel):
    """One kind."""

    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    """Another kind."""

    kind: Literal["dog"]
    tricks: list[str]


Pet = Annotated[Cat | Dog, Field(discriminator="kind")]


class Node(BaseModel):
    """Holds its own kind."""

    name: str
    children: list[Node] = []


class Prices(BaseModel):
    """An open dictionary in a model."""

    shop: str
    prices: dict[str, float]


class Loose(BaseModel):
    """Values of any type."""

    value: Any
    thing: object
    things: list[Any]
    bare: list  # type: ignore[type-arg]


class Open(BaseModel):
    """Takes keys that it does not name."""

    model_config = ConfigDict(extra="allow")
    name: str


class Pair(NamedTuple):
    """A tuple of two types."""

    name: str
    count: int


Wide = create_model("Wide", **{f"field_{n}": (int | None, None) for n in range(30)})  # type: ignore[call-overload]

ENFORCED: dict[str, tuple[Any, Any, Any]] = {
    "list of texts": (list[str], ["a", "ü"], ["a", "ü"]),
    "set": (set[int], [1, 2], {1, 2}),
    "Literal": (Literal["yes", "no"], "yes", "yes"),
    "enum": (Colour, "red", Colour.RED),
    "enum of numbers": (Grade, 5, Grade.BAD),
    "int": (int, 17, 17),
    "bool": (bool, False, False),
    "text": (str, "hello", "hello"),
    "bound": (Annotated[int, Field(ge=1, le=9)], 9, 9),
    "unhashable annotation": (Annotated[list[str], {"a": []}], ["a"], ["a"]),
    "dataclass": (Point, {"x": 1, "y": 2}, Point(1, 2)),
    "TypedDict": (Person, {"name": "Ann"}, {"name": "Ann"}),
    "union": (int | list[str], ["a"], ["a"]),
    "tagged union": (Pet, {"kind": "dog", "tricks": ["sit"]}, Dog(kind="dog", tricks=["sit"])),
    "list of models": (list[Cat], [{"kind": "cat", "lives": 7}], [Cat(kind="cat", lives=7)]),
    "a type's own format": (AnyUrl, "https://example.com/", AnyUrl("https://example.com/")),
}
IN_WORDS: dict[str, tuple[Any, Any, Any]] = {
    "recursion": (
        Node,
        {"name": "a", "children": [{"name": "b", "children": []}]},
        Node(name="a", children=[Node(name="b")]),
    ),
    "open dictionary": (dict[str, int], {"a": 1}, {"a": 1}),
    "open dictionary in a model": (
        Prices,
        {"shop": "s", "prices": {"lamp": 9.5}},
        Prices(shop="s", prices={"lamp": 9.5}),
    ),
    "bare dict": (dict, {"a": [1]}, {"a": [1]}),
    "Any": (Any, {"a": [None]}, {"a": [None]}),
    "object": (object, [1, "a"], [1, "a"]),
    "bare list": (list, [1, "a"], [1, "a"]),
    "list of any": (list[Any], [1, "a"], [1, "a"]),
    "any in a model": (
        Loose,
        {"value": 1, "thing": "a", "things": [None], "bare": []},
        Loose(value=1, thing="a", things=[None], bare=[]),
    ),
    "extra keys": (Open, {"name": "a", "more": 1}, Open(name="a", more=1)),  # type: ignore[call-arg]
    "tuple": (tuple[int, str], [1, "a"], (1, "a")),
    "NamedTuple": (Pair, ["a", 1], Pair("a", 1)),
    "too many options": (Wide, {"field_3": 3}, Wide(field_3=3)),
}
BAD: dict[str, tuple[Any, Any]] = {  # a type, and JSON that does not fit it
    "int": (int, "seventeen"),
    "Literal": (Literal["yes", "no"], "maybe"),
    "bound": (Annotated[int, Field(ge=1, le=9)], 10),
    "list": (list[str], [1]),
    "dataclass": (Point, {"y": 1}),
}


LEAVES = st.sampled_from(
    [int, str, bool, float, type(None), Colour, Point, Person, Cat, Node, Prices, Any, dict, list, Literal[1, "a"]]
)
TYPES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        inner.map(lambda one: list[one]),
        inner.map(lambda one: dict[str, one]),
        inner.map(lambda one: one | None),
        st.tuples(inner, inner).map(lambda two: tuple[two]),
        st.lists(inner, min_size=2, max_size=20).map(lambda many: reduce(or_, many)),
        st.dictionaries(st.sampled_from("abcdef"), st.tuples(inner, st.none() | st.just(...)), max_size=4).map(
            lambda fields: create_model("Made", **fields)  # type: ignore[call-overload]
        ),
    ),
    max_leaves=30,
)


@given(TYPES)
def test_no_schema_is_sent_that_the_api_would_refuse(kind: Any) -> None:
    """Whatever the type, in the envelope and bare; what it would refuse is asked in words."""
    wanted = response_type(kind)
    assert (wanted.schema is None) is not (wanted.prompt_schema is None)
    request = request_of(schema=wanted.schema, prompt_schema=wanted.prompt_schema)
    for index in (0, 2):
        schema = build_prompt(policy_of(), index, request).schema
        assert (schema is None) is (index == 2 and wanted.schema is None)
        if schema is not None:
            check_schema(dict(schema))


@pytest.mark.parametrize(("field", "most"), [((int | str, ...), 15), ((int, 0), 24)], ids=["unions", "options"])
def test_the_apis_limits_are_kept_to_the_last_one(field: tuple[Any, Any], most: int) -> None:
    """As many as it takes, the envelope's own union counted, are enforced; with one more the type is asked in words."""
    for number in (most, most + 1):
        made = create_model("Made", **{f"field_{n}": field for n in range(number)})  # type: ignore[call-overload]
        schema = response_type(made).schema
        assert (schema is not None) is (number == most)
        if schema is not None:
            check_schema(dict(build_prompt(policy_of(), 0, request_of(schema=schema)).schema or {}))


def scripted(emulate: Emulate, low: Any, top: Any, bare: str | None = None) -> Emulator:
    """An endpoint whose first rung answers `low`, the others `top`; "unsure" climbs to the last rung, whose text is `bare`."""
    last = {"opus": reply(None, top if bare is None else bare)}
    replies = {rung: reply(0.9, top) for rung in MODELS} | {"haiku": reply(0.9, low)} | last
    unsure = {rung: reply(0.1, top) for rung in MODELS} | last
    return emulate(corpus(Item("hello", "hello", replies), Item("unsure", "unsure", unsure)))


def texts(body: Any) -> str:
    """The system prompt of a request, as one text."""
    system = body.get("system", "")
    return system if isinstance(system, str) else "\n".join(block["text"] for block in system)


@pytest.mark.parametrize("name", ENFORCED)
def test_what_the_apis_schemas_express_is_enforced(asking: Asking, emulate: Emulate, name: str) -> None:
    """In the envelope as at the last rung, where it stands bare; `data` is the value, the text its JSON."""
    kind, written, value = ENFORCED[name]
    emulator = scripted(emulate, written, written, bare=json.dumps(written))
    driver = asking(ladder(), emulator)
    for prompt, rung in (("hello", "haiku"), ("unsure", "opus")):
        answer = driver.ask(prompt, response_model=kind)
        assert (answer.data, type(answer.data), answer.rung) == (value, type(value), rung)
        assert json.loads(str(answer)) == written
        assert json.loads(answer.to_json())["data"] == written
    for request in emulator.requests:
        assert request.body["output_config"]["format"]["type"] == "json_schema"
        assert "JSON Schema below" not in texts(request.body)


@pytest.mark.parametrize("name", IN_WORDS)
def test_what_they_cannot_express_is_asked_in_words_and_validated(asking: Asking, emulate: Emulate, name: str) -> None:
    """The schema stands in the prompt, the caller's system prompt first; the answer is JSON in a string."""
    kind, written, value = IN_WORDS[name]
    emulator = scripted(emulate, json.dumps(written), json.dumps(written))
    driver = asking(ladder(), emulator)
    for prompt, rung in (("hello", "haiku"), ("unsure", "opus")):
        answer = driver.ask(prompt, response_model=kind, system="Be brief.")
        assert (answer.data, type(answer.data), answer.rung) == (value, type(value), rung)
        assert json.loads(str(answer)) == written
        assert answer.confidence == (0.9 if rung == "haiku" else None)
    first, *_, top = (request.body for request in emulator.requests)
    assert first["system"][0] == top["system"][0] == {"type": "text", "text": "Be brief."}
    assert "JSON Schema below" in texts(first)
    assert '"answer", that key holds this JSON as a string' in texts(first)
    assert '"answer"' not in texts(top)
    assert "format" not in top.get("output_config", {})
    assert first["output_config"]["format"]["schema"]["properties"]["answer"]["anyOf"][0] == {"type": "string"}


@pytest.mark.parametrize("name", BAD)
def test_a_value_that_does_not_fit_climbs(asking: Asking, emulate: Emulate, name: str) -> None:
    """It was paid for, and it is not shipped."""
    kind, bad = BAD[name]
    with pytest.raises(AllRungsFailed, match="response_model"):
        asking(ladder(), scripted(emulate, bad, bad)).ask("hello", response_model=kind)


@pytest.mark.parametrize(
    ("low", "reason", "cost"),
    [
        ('{"a": "one"}', "check_failed", COST["haiku"] + COST["sonnet"]),
        ("one", "malformed", COST["haiku"] + COST["sonnet"]),
        ('{"a": NaN}', "malformed", COST["haiku"] + COST["sonnet"]),
        ('{"a": 1, "a": 2}', "malformed", COST["haiku"] + COST["sonnet"]),
        (None, "declined", COST["haiku"] + COST["sonnet"]),
        ('```json\n{"a": 1}\n```', None, COST["haiku"]),
    ],
    ids=["does not fit", "prose", "not a number", "a key twice", "declined", "fenced"],
)
def test_json_that_nobody_enforced_is_read_strictly(
    asking: Asking, emulate: Emulate, low: Any, reason: str | None, cost: int
) -> None:
    """Nothing is guessed: what is no JSON of the type goes up; a fence around sound JSON is taken off."""
    answer = asking(ladder(), scripted(emulate, low, '{"a": 1}')).ask("hello", response_model=dict[str, int])
    assert (reasons(answer)[0], answer.data, answer.cost_nanousd) == (reason, {"a": 1}, cost)
    assert answer.steps[0].verdict.repaired or reason is not None


def test_at_the_top_prose_is_no_json(asking: Asking, emulate: Emulate) -> None:
    """No data is made of it."""
    with pytest.raises(AllRungsFailed, match="not JSON"):
        asking(ladder(), scripted(emulate, "prose", "prose")).ask("unsure", response_model=dict[str, int])


def a_function(text: str) -> str:
    """No type, though pydantic takes it for one."""
    return text


class Odd:
    """A class of which pydantic knows nothing."""


@dataclasses.dataclass
class Holding:
    """A dataclass with a field that pydantic does not know."""

    fine: int
    odd: Odd


class Handler(BaseModel):
    """A field that JSON does not have."""

    name: str
    call: Callable[[int], int]


class Outer(BaseModel):
    """Holds it."""

    inner: Handler


class Later(BaseModel):
    """Names a type that never comes."""

    other: Missing  # type: ignore[name-defined]  # noqa: F821


JUNK: dict[str, tuple[Any, tuple[str, ...]]] = {
    "model instance": (Cat(kind="cat", lives=7), ("an instance of Cat", "response_model=Cat")),
    "dataclass instance": (Point(1), ("an instance of Point",)),
    "name of a type": ("Cat", ("must be a type",)),
    "function": (a_function, ("must be a type",)),
    "number": (3, ("3",)),
    "schema": ({"type": "object"}, ("cannot be used",)),
    "list of types": ([str], ("cannot be used",)),
    "unknown class": (Odd, ("Odd",)),
    "unknown class in a field": (Holding, ("Holding.odd",)),
    "no JSON": (Handler, ("Handler.call",)),
    "no JSON deep inside": (list[Outer], ("Handler.call",)),
    "undefined name": (Later, ("Later", "Missing")),
}


@pytest.mark.parametrize("name", JUNK)
def test_what_is_no_type_is_refused_before_anything_is_sent(asking: Asking, emulate: Emulate, name: str) -> None:
    """By RequestError, in one line that names the class and the field."""
    given, said = JUNK[name]
    emulator = scripted(emulate, "a", "a")
    with pytest.raises(RequestError, match=r"^response_model: ") as caught:
        asking(ladder(), emulator).ask("hello", response_model=given)
    assert all(part in str(caught.value) for part in said), caught.value
    assert "\n" not in str(caught.value)
    assert not emulator.requests
