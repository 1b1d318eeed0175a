"""Schemas in the other API's strict form, and answers back in the caller's."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.core.strict import strict_fault, strict_form, unstrict
from cascade.emulator.chat_schemas import check_strict, strict_answer

NAMES = st.sampled_from(["a", "b", "c", "d"])
LEAVES = st.sampled_from(
    [
        ({"type": "string"}, st.text(max_size=3)),
        ({"type": "integer"}, st.integers(-9, 9)),
        ({"enum": ["x", "y"]}, st.sampled_from(["x", "y"])),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, st.none() | st.just("s")),
        ({"type": ["boolean", "null"]}, st.none() | st.booleans()),
    ]
)


def _object(parts: dict[str, Any], required: set[str]) -> tuple[dict[str, Any], st.SearchStrategy[Any]]:
    schema = {
        "type": "object",
        "properties": {name: schema for name, (schema, _) in parts.items()},
        "required": [name for name in parts if name in required],
    }
    values = {name: value for name, (_, value) in parts.items()}
    needed = {name: value for name, value in values.items() if name in required}
    return schema, st.fixed_dictionaries(needed, optional={n: v for n, v in values.items() if n not in needed})


def _array(part: tuple[dict[str, Any], st.SearchStrategy[Any]]) -> tuple[dict[str, Any], st.SearchStrategy[Any]]:
    return {"type": "array", "items": part[0]}, st.lists(part[1], max_size=2)


def _optional(part: tuple[dict[str, Any], st.SearchStrategy[Any]]) -> tuple[dict[str, Any], st.SearchStrategy[Any]]:
    return {"anyOf": [part[0], {"type": "null"}]}, st.none() | part[1]


SCHEMAS = st.recursive(
    LEAVES,
    lambda inner: (
        st.builds(_object, st.dictionaries(NAMES, inner, max_size=3), st.sets(NAMES)) | inner.map(_array) | inner.map(_optional)
    ),
    max_leaves=6,
)  # fmt: skip
DRAWN = SCHEMAS.flatmap(lambda pair: st.tuples(st.just(pair[0]), pair[1]))


@given(DRAWN)
def test_an_answer_survives_the_way_there_and_back(drawn: tuple[dict[str, Any], Any]) -> None:
    """The strict form is one that the API takes; a model bound to it writes a value that comes back as the caller's.

    A caller's null stays one where his schema has it: only what stands for a key that was left out is removed.
    """
    schema, value = drawn
    form = strict_form(schema)
    check_strict(dict(form.schema), "it")
    written = strict_answer(value, form.schema, triage=False)
    assert unstrict(written, schema, wrapped=form.wrapped) == _without_nulls_left_out(value, schema)
    if not form.changed:
        assert written == value


def _without_nulls_left_out(value: Any, schema: dict[str, Any]) -> Any:
    """The value itself, but that an optional key which may be null is null where it was left out: there the two are one."""
    choices = [one for one in schema.get("anyOf", [schema]) if one != {"type": "null"}]
    part = choices[0] if len(choices) == 1 else schema
    if part is not schema and value is not None:
        return _without_nulls_left_out(value, part)
    if isinstance(value, list):
        return [_without_nulls_left_out(one, part["items"]) for one in value]
    if not isinstance(value, dict):
        return value
    made = {}
    for name, child in part["properties"].items():
        if name in value:
            made[name] = _without_nulls_left_out(value[name], child)
        elif {"type": "null"} in child.get("anyOf", ()) or "null" in child.get("type", ()):
            made[name] = None
    return made


def test_definitions_are_kept_and_recursion_with_them() -> None:
    """A reference stays one, and what it stands for is closed too."""
    tree = {"type": "object", "properties": {"next": {"$ref": "#/$defs/tree"}}}
    form = strict_form({"$ref": "#/$defs/tree", "$defs": {"tree": tree}})
    assert form.schema["$defs"]["tree"]["required"] == ["next"]
    check_strict(dict(form.schema), "it")
    value = {"next": {"next": None}}
    assert unstrict(value, {**tree, "$defs": {"tree": tree}}, wrapped=False) == {"next": {}}


def test_a_reference_with_a_description_is_written_out() -> None:
    """The API takes no keyword beside a reference."""
    schema = {
        "type": "object", "properties": {"a": {"$ref": "#/$defs/s", "description": "d"}}, "required": ["a"],
        "$defs": {"s": {"type": "string"}},
    }  # fmt: skip
    assert strict_form(schema).schema["properties"]["a"] == {"type": "string", "description": "d"}


def test_a_choice_between_objects_is_read_by_its_keys() -> None:
    """Each is pruned as itself."""
    one = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}, "required": ["a"]}
    other = {"type": "object", "properties": {"c": {"type": "string"}}}
    schema = {"type": "object", "properties": {"x": {"oneOf": [one, other]}}, "required": ["x"]}
    check_strict(dict(strict_form(schema).schema), "it")
    assert unstrict({"x": {"a": "1", "b": None}}, schema, wrapped=False) == {"x": {"a": "1"}}
    assert unstrict({"x": {"c": None}}, schema, wrapped=False) == {"x": {}}


def test_a_choice_with_the_same_keys_is_read_by_its_constants() -> None:
    """A null that is a value of its own under the one is what was left out under the other."""
    one = {"type": "object", "properties": {"k": {"const": "one"}, "x": {"type": "integer"}}, "required": ["k"]}
    null = {"type": ["integer", "null"]}
    other = {"type": "object", "properties": {"k": {"const": "other"}, "x": null}, "required": ["k", "x"]}
    schema = {"type": "object", "properties": {"u": {"anyOf": [one, other]}}, "required": ["u"]}
    assert unstrict({"u": {"k": "other", "x": None}}, schema, wrapped=False) == {"u": {"k": "other", "x": None}}
    assert unstrict({"u": {"k": "one", "x": None}}, schema, wrapped=False) == {"u": {"k": "one"}}


def test_what_the_strict_form_does_not_permit_is_said_in_words() -> None:
    """A default, a length: the endpoint refuses them as keys. Properties of these names are properties."""
    name = {"type": "string", "minLength": 2, "default": "x", "description": "A name."}
    schema = {"type": "object", "properties": {"name": name, "default": {"type": "string"}}, "required": ["default"]}
    form = strict_form(schema).schema
    check_strict(dict(form), "it")
    assert form["properties"]["name"]["anyOf"][0] == {
        "type": "string",
        "description": "A name.\n\n{default: x, minLength: 2}",
    }
    assert form["properties"]["default"] == {"type": "string"}


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({}, "any kind"),
        ({"type": "object", "additionalProperties": {"type": "string"}}, "additionalProperties"),
        ({"type": "array"}, "without items"),
        ({"type": "array", "items": True}, "any kind"),
        ({"type": "object", "properties": {"a": {"description": "x"}}}, "any kind"),
        ({"allOf": [{"type": "object"}, {"type": "object"}]}, "allOf"),
        ({"type": "object", "patternProperties": {".": {}}}, "patternProperties"),
        ({"type": "object", "properties": {"any": {"type": "object"}}}, "additionalProperties"),
        ({"type": "object", "properties": []}, "no JSON Schema"),
    ],
)
def test_what_has_no_strict_form_is_told(schema: dict[str, Any], why: str) -> None:
    """Before anything is sent."""
    fault = strict_fault(schema)
    assert fault is not None
    assert why in fault


def test_an_endless_schema_is_refused() -> None:
    """A thousand levels are no stack overflow."""
    deep: dict[str, Any] = {"type": "string"}
    for _ in range(1_000):
        deep = {"type": "array", "items": deep}
    assert strict_fault(deep) == "it is nested too deeply"
