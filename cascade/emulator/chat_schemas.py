"""The strict schemas of the chat completions API: which it refuses, and recorded answers in their form. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn, cast

from cascade.emulator.checks import refuse

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["check_strict", "strict_answer"]

_REFUSED = (
    "oneOf", "allOf", "not", "if", "then", "else", "dependentRequired", "dependentSchemas", "patternProperties", "default",
    "minLength", "maxLength", "uniqueItems", "minProperties", "maxProperties", "propertyNames", "contains",
)  # fmt: skip


def check_strict(schema: dict[str, Any], what: str) -> None:
    """Raise the API's 400 for a schema that is not strict. `what` has the schema, e.g. "response_format 'reply'"."""
    if schema.get("type") != "object" or "anyOf" in schema:
        _refuse(what, (), "schema must be a JSON Schema of 'type: \"object\"', and must not have 'anyOf' at the root.")
    left: list[tuple[object, tuple[str, ...]]] = [(schema, ())]
    while left:
        node, path = left.pop()
        part = cast("dict[str, Any]", node) if isinstance(node, dict) else {}
        if (problem := _problem(part, is_root=not path)) is not None:
            _refuse(what, path, problem)
        for key in ("properties", "$defs"):
            left += [(child, (*path, key, name)) for name, child in part.get(key, {}).items()]
        left += [(child, (*path, "anyOf", str(at))) for at, child in enumerate(part.get("anyOf", ()))]
        if part.get("type") == "array":
            left.append((part.get("items"), (*path, "items")))


def _problem(part: dict[str, Any], *, is_root: bool) -> str | None:
    if found := [key for key in _REFUSED if key in part]:
        return f"{found[0]!r} is not permitted."
    if not part.keys() & {"type", "anyOf", "enum", "const", "$ref"}:
        return "schema must have a 'type' key."
    if "$ref" in part and len(part) > 1 and not is_root:
        return "$ref cannot have keywords beside it."
    if part.get("type") != "object":
        return None
    if part.get("additionalProperties") is not False:
        return "'additionalProperties' is required to be supplied and to be false."
    missing = [name for name in part.get("properties", ()) if name not in part.get("required", ())]
    if missing:
        return f"'required' is required to be an array including every key in properties. Missing '{missing[0]}'."
    return None


def _refuse(what: str, path: tuple[str, ...], problem: str) -> NoReturn:
    refuse(f"Invalid schema for {what}: In context={path}, {problem}")


def strict_answer(value: Any, schema: Mapping[str, Any], *, triage: bool) -> Any:
    """A recorded answer as a model that is bound to the strict schema writes it.

    What it left out is null, and what is no object stands in the root's one key.
    """
    properties: Mapping[str, Any] = schema["properties"]
    is_wrapped = isinstance(value, dict) and "answer" in value
    if not triage and list(properties) == ["answer"] and not is_wrapped:
        return {"answer": _filled(cast("Any", value), properties["answer"], schema.get("$defs", {}))}
    return _filled(cast("Any", value), schema, schema.get("$defs", {}))


def _filled(value: Any, node: Mapping[str, Any], definitions: Mapping[str, Any]) -> Any:
    while isinstance(reference := node.get("$ref"), str):
        node = definitions.get(reference.removeprefix("#/$defs/"), {})
    if isinstance(value, list):
        array = node if "items" in node else _choice(node, "items", definitions)
        items: Mapping[str, Any] = array["items"] if array is not None else {}
        return [_filled(item, items, definitions) for item in cast("list[Any]", value)]
    if not isinstance(value, dict):
        return value
    known = cast("dict[str, Any]", value)
    part = node if "properties" in node else _choice(node, "properties", definitions, set(known))
    if part is None:
        return known
    return {
        name: _filled(known[name], child, definitions) if name in known else None
        for name, child in part["properties"].items()
    }


def _choice(
    node: Mapping[str, Any], key: str, definitions: Mapping[str, Any], names: set[str] | None = None
) -> Mapping[str, Any] | None:
    """The choice of an `anyOf` that is an array, or an object that has these keys."""
    for choice in node.get("anyOf", ()):
        part: Mapping[str, Any] = choice
        while isinstance(reference := part.get("$ref"), str):
            part = definitions.get(reference.removeprefix("#/$defs/"), {})
        if key in part and (names is None or names <= part[key].keys()):
            return part
        if "anyOf" in part and (found := _choice(part, key, definitions, names)) is not None:
            return found
    return None
