"""Refuse JSON schemas (`output_config.format`) that the API refuses: bounds and forms that it cannot enforce."""

from __future__ import annotations

from typing import Any, NoReturn, TypeVar, cast

from cascade.emulator.requests import ApiError

__all__ = ["check_schema", "example_of"]

_BOUNDS = frozenset(
    {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength"}
)
_Part = TypeVar("_Part", dict[str, Any], list[Any])
_MAX_OPTIONAL = 24
_MAX_UNIONS = 16
_MAX_PARTS = 10_000  # ours, not the API's: bounds the time that nested references take


def check_schema(schema: dict[str, Any]) -> None:
    """Raise 400 for a schema with recursion, numeric or string bounds, open objects, or too many options or unions."""
    definitions = _part(schema, "$defs", dict)
    parts = optional = unions = 0
    left: list[tuple[object, tuple[str, ...]]] = [(schema, ())]
    while left:
        node, names = left.pop()
        if not isinstance(node, dict):
            continue
        part = cast("dict[str, Any]", node)
        parts += 1
        if found := sorted(_BOUNDS & part.keys()):
            _refuse(f"For {part.get('type')!r} type, properties {', '.join(found)} are not supported")
        if isinstance(reference := part.get("$ref"), str):
            name = reference.removeprefix("#/$defs/")
            if name in names:
                _refuse(f"Circular reference detected in schema definitions: {name}")
            left.append((definitions.get(name), (*names, name)))
        properties, required = _part(part, "properties", dict), _part(part, "required", list)
        if part.get("type") == "object" and part.get("additionalProperties") is not False:
            _refuse("For 'object' type, 'additionalProperties' must be explicitly set to false")
        optional += sum(name not in required for name in properties)
        unions += "anyOf" in part or isinstance(part.get("type"), list)
        if optional > _MAX_OPTIONAL or unions > _MAX_UNIONS or parts > _MAX_PARTS:
            _refuse(f"is too complex: at most {_MAX_OPTIONAL} optional properties and {_MAX_UNIONS} unions")
        inside = [*properties.values(), *_part(part, "anyOf", list), *_part(part, "allOf", list), part.get("items")]
        left.extend((child, names) for child in inside)


def example_of(schema: dict[str, Any], text: str) -> Any:
    """A value that is valid under a schema that `check_schema` accepts; its strings are `text`."""
    return _example(schema, _part(schema, "$defs", dict), text)


def _example(node: object, definitions: dict[str, Any], text: str) -> Any:
    part = cast("dict[str, Any]", node) if isinstance(node, dict) else {}
    if isinstance(reference := part.get("$ref"), str):
        return _example(definitions.get(reference.removeprefix("#/$defs/")), definitions, text)
    if "const" in part:
        return part["const"]
    for choices in (_part(part, "enum", list), _part(part, "anyOf", list), _part(part, "allOf", list)):
        if choices:
            return choices[0] if "enum" in part else _example(choices[0], definitions, text)
    kinds = _part(part, "type", list) if isinstance(part.get("type"), list) else [part.get("type")]
    match kinds[0] if kinds else None:
        case "object":
            inside = _part(part, "properties", dict)
            return {name: _example(child, definitions, text) for name, child in inside.items()}
        case "array":
            return [_example(part.get("items"), definitions, text)] * (part.get("minItems") or 0)
        case "integer" | "number":
            return 0
        case "boolean":
            return False
        case "null":
            return None
        case _:
            return text


def _part(node: dict[str, Any], key: str, kind: type[_Part]) -> _Part:
    value = node.get(key)
    if value is None:
        return kind()
    if isinstance(value, kind):
        return value
    _refuse(f"{key!r} must be {'an object' if kind is dict else 'a list'}")
    return None


def _refuse(problem: str) -> NoReturn:
    raise ApiError(400, "invalid_request_error", f"output_config.format.schema: {problem}")
