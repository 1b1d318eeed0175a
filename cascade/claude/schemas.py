"""JSON schemas for structured outputs, and which schemas those cannot express."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

__all__ = ["schema_of"]

_PLAIN = frozenset({"string", "integer", "number", "boolean", "null"})
_MOST_OPTIONAL = 24
_MOST_UNIONS = 15  # the API's limit is 16, and the envelope's nullable answer is one
_MOST_PARTS = 10_000  # our own limit: references that fan out would take exponential time


def schema_of(schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """The schema for structured outputs, with bounds moved into descriptions. None if they cannot express it.

    They allow no recursion, no objects with arbitrary keys, no values of any type, no tuples, and only a limited number of
    optional keys and unions.
    """
    if not _is_expressible(schema):
        return None
    import anthropic  # noqa: PLC0415 - it takes a second to import

    try:
        return anthropic.transform_schema(dict(schema))
    except (ValueError, AssertionError):  # keywords that the SDK has no form for beside each other
        return None


def _is_expressible(schema: Mapping[str, Any]) -> bool:
    definitions: Mapping[str, Any] = schema.get("$defs", {})
    left: list[tuple[Any, tuple[str, ...]]] = [(schema, ())]
    parts = optional = unions = 0
    while left:
        node, within = left.pop()
        parts += 1
        if not isinstance(node, Mapping) or parts > _MOST_PARTS:
            return False
        part = cast("Mapping[str, Any]", node)
        if isinstance(reference := part.get("$ref"), str):
            name = reference.removeprefix("#/$defs/")
            if name in within:
                return False
            left.append((definitions.get(name), (*within, name)))
            continue
        inside = _inside(part)
        if inside is None:
            return False
        optional += len(part.get("properties", {})) - len(part.get("required", ()))
        unions += any(key in part for key in ("anyOf", "oneOf"))
        left.extend((child, within) for child in inside)
    return optional <= _MOST_OPTIONAL and unions <= _MOST_UNIONS


def _inside(part: Mapping[str, Any]) -> list[Any] | None:
    """The schemas that this one consists of; None if it cannot be expressed."""
    for key in ("anyOf", "oneOf", "allOf"):
        if isinstance(choices := part.get(key), list):
            return cast("list[Any]", choices)
    if "const" in part or "enum" in part:
        values: list[Any] = part["enum"] if "enum" in part else [part["const"]]
        plain = all(value is None or isinstance(value, (str, int, float)) for value in values)
        return [] if plain and values else None
    kind = part.get("type")
    if kind == "object":
        closed = "properties" in part and not part.get("additionalProperties") and not part.get("patternProperties")
        return list(part["properties"].values()) if closed else None
    if kind == "array":
        return [part["items"]] if part.get("items") and "prefixItems" not in part else None
    return [] if isinstance(kind, str) and kind in _PLAIN else None
