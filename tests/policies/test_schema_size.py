"""A schema that would take hours to test is refused, however its references are written; one that only looks so is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cascade.policy.checks import compile_schema

DEEP = 40


def doubling(refer: Callable[[int], str], name: Callable[[int], str], more: Callable[[int], dict[str, Any]]) -> Any:
    """Definitions of which each refers twice to the next, by an address that `refer` gives."""
    parts = {name(n): {**more(n), "anyOf": [{"$ref": refer(n + 1)}, {"$ref": refer(n + 1)}]} for n in range(DEEP)}
    return {"$defs": {**parts, name(DEEP): {**more(DEEP), "type": "number"}}, "$ref": refer(0)}


def plainly(number: int) -> str:
    """A definition's name."""
    return f"n{number}"


def nothing(_number: int) -> dict[str, Any]:
    """No name of its own."""
    return {}


@pytest.mark.parametrize(
    "schema",
    [
        doubling(lambda n: f"#/$defs/n{n}", plainly, nothing),
        doubling(lambda n: f"#n{n}", plainly, lambda n: {"$anchor": f"n{n}"}),
        doubling(lambda n: f"#/$defs/a~1{n}", lambda n: f"a/{n}", nothing),
        doubling(lambda n: f"#/$defs/a%20{n}", lambda n: f"a {n}", nothing),
        doubling(lambda n: f"https://example.com/{n}", plainly, lambda n: {"$id": f"https://example.com/{n}"}),
        {"$id": "https://example.com/x", **doubling(lambda n: f"x#/$defs/n{n}", plainly, nothing)},
        {"allOf": [*({"anyOf": [{"$ref": f"#/allOf/{n + 1}"}] * 2} for n in range(DEEP)), {"type": "number"}]},
        {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "definitions": {
                f"n{n}": {"anyOf": [{"$id": f"i{n}", "$ref": f"#/definitions/n{n + 1}", "definitions": {f"n{n + 1}": {}}}] * 2}
                for n in range(DEEP)
            },
            "$ref": "#/definitions/n0",
        },
    ],
    ids=["pointer", "anchor", "slash", "percent", "id", "own id", "index", "draft 7"],
)  # fmt: skip
def test_references_that_fan_out_are_counted(schema: Any) -> None:
    """It takes twice as long with each step. A model may have written it, or who tells it what to write."""
    with pytest.raises(ValueError, match="take too long to test"):
        compile_schema(schema)


@pytest.mark.parametrize(
    ("schema", "right", "wrong"),
    [
        ({"$anchor": "n", "type": "object", "properties": {"next": {"$ref": "#n"}}}, {"next": {}}, {"next": 3}),
        ({"properties": {"a/b": {"type": "string"}, "c": {"$ref": "#/properties/a~1b"}}}, {"c": "x"}, {"c": 1}),
        ({"const": {"$ref": "#/nowhere"}}, {"$ref": "#/nowhere"}, {}),
        ({"$id": "https://example.com/x", "type": "array", "items": {"$ref": "x"}}, [[]], [3]),
    ],
)
def test_references_within_a_schema_are_followed(schema: Any, right: Any, wrong: Any) -> None:
    """By name, by pointer, by address; a value that only looks like one is a value."""
    is_valid = compile_schema(schema)
    assert is_valid(right)
    assert not is_valid(wrong)


def test_nothing_is_fetched() -> None:
    """A reference out of the schema is refused."""
    with pytest.raises(ValueError, match=r"^'https://example\.com/x' is not fetched: a schema must be self-contained$"):
        compile_schema({"$ref": "https://example.com/x"})
