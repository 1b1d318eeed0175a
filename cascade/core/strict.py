"""JSON schemas in the strict form of the chat completions API, and its answers back in the caller's form. Pure.

The strict form wants an object at the root, every property required and nothing further. So an optional property becomes
one that may be null, a root that is no object is wrapped, and `oneOf` becomes `anyOf`. `unstrict` turns an answer back: the
nulls that stand for what was left out are removed, and the wrapping with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

__all__ = ["Strict", "strict_fault", "strict_form", "unstrict"]

_WRAP = "answer"
_DEFINITIONS = ("$defs", "definitions")
_MOST_DEPTH = 64
_NOT_STRICT = (
    "allOf", "not", "if", "then", "else", "dependentRequired", "dependentSchemas", "patternProperties", "prefixItems",
    "unevaluatedProperties", "propertyNames", "contains",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Strict:
    """A schema in the strict form. `wrapped`: the answer is its one property. `changed`: answers must be turned back."""

    schema: Mapping[str, Any]
    wrapped: bool
    changed: bool


_UNENFORCED = ("default", "minLength", "maxLength", "uniqueItems", "minProperties", "maxProperties")
"""Not permitted in the strict form, and no part of what it enforces: they are told in the description."""

_ANY = "it takes a value of any kind, and the strict form needs a type"


class _Fault(Exception):
    """Why a schema has no strict form."""


class _Making:
    """Makes one strict schema; `optional`: whether a property had to become one that may be null."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self.optional = False

    def form(self, node: object, depth: int = 0) -> dict[str, Any]:
        """The strict form of one schema."""
        if not isinstance(node, Mapping):
            raise _Fault(_ANY)
        if depth > _MOST_DEPTH:
            raise _Fault("it is nested too deeply")
        part = self._plain(dict(cast("Mapping[str, Any]", node)))
        for definitions in _DEFINITIONS:
            if definitions in part:
                part[definitions] = self._each(part[definitions], depth)
        if "anyOf" in part:
            part["anyOf"] = [self.form(choice, depth + 1) for choice in part["anyOf"]]
        if "items" in part:
            part["items"] = self.form(part["items"], depth + 1)
        if part.get("type") == "object" or "properties" in part:
            self._close(part, depth)
        elif not part.keys() & {"type", "anyOf", "enum", "const", "$ref"}:
            raise _Fault(_ANY)
        elif part.get("type") == "array" and "items" not in part:
            raise _Fault("it has an array without items")
        return part

    def _plain(self, part: dict[str, Any]) -> dict[str, Any]:
        """One schema without what the strict form words in another way. Raises _Fault for what it cannot word."""
        if "$ref" in part and len(part) > 1:  # a reference must stand alone, so what it stands for is written out
            part = {**_resolved(part, self._root), **{key: value for key, value in part.items() if key != "$ref"}}
        if len(part.get("allOf", ())) == 1:
            part = {**part.pop("allOf")[0], **part}
        if part.get("default", 0) is None:
            del part["default"]
        if told := {key: part.pop(key) for key in _UNENFORCED if key in part}:
            words = f"{{{', '.join(f'{key}: {value}' for key, value in told.items())}}}"
            part["description"] = f"{part['description']}\n\n{words}" if part.get("description") else words
        if "oneOf" in part:
            part["anyOf"] = part.pop("oneOf")
            part.pop("discriminator", None)
        if found := [key for key in _NOT_STRICT if key in part]:
            raise _Fault(f"{found[0]} has no place in the strict form")
        return part

    def _each(self, parts: Mapping[str, Any], depth: int) -> dict[str, Any]:
        return {name: self.form(one, depth + 1) for name, one in parts.items()}

    def _close(self, part: dict[str, Any], depth: int) -> None:
        """Make an object's properties all required, and forbid others."""
        if part.get("additionalProperties") or (depth and not part.keys() & {"additionalProperties", "properties"}):
            raise _Fault("it has an object with keys of any name (additionalProperties)")
        properties = part.get("properties", {})
        required = part.get("required", ())
        made = self._each(properties, depth)
        for name in properties:
            if name not in required:
                self.optional = True
                made[name] = _nullable(made[name])
        part |= {"properties": made, "required": list(properties), "additionalProperties": False}


def strict_form(schema: Mapping[str, Any]) -> Strict:
    """The schema in the strict form. Raises ValueError if it has none, which says why."""
    making = _Making(schema)
    try:
        made = making.form(schema)
    except _Fault as fault:
        raise ValueError(str(fault)) from None
    except (AttributeError, TypeError):
        raise ValueError("it is no JSON Schema") from None
    if made.get("type") == "object" and "anyOf" not in made:
        return Strict(made, wrapped=False, changed=making.optional)
    shared = {key: made.pop(key) for key in _DEFINITIONS if key in made}
    root = {"type": "object", "properties": {_WRAP: made}, "required": [_WRAP], "additionalProperties": False}
    return Strict({**root, **shared}, wrapped=True, changed=True)


def strict_fault(schema: Mapping[str, Any]) -> str | None:
    """Why a schema has no strict form; None if it has one."""
    try:
        strict_form(schema)
    except ValueError as fault:
        return str(fault)
    return None


def unstrict(value: Any, schema: Mapping[str, Any], *, wrapped: bool) -> Any:
    """A strict answer as one that is valid under the caller's schema."""
    if wrapped:
        if not isinstance(value, dict) or _WRAP not in value:
            return cast("Any", value)
        value = cast("dict[str, Any]", value)[_WRAP]
    return _pruned(value, schema, schema)


def _pruned(value: Any, node: Mapping[str, Any], root: Mapping[str, Any]) -> Any:
    """The value without the nulls that stand for a property that was left out."""
    node = _resolved(node, root)
    if isinstance(value, list):
        items = node.get("items")
        if items is None and (branch := _branch(value, node, root)) is not None:
            items = branch["items"]
        return [_pruned(item, items or {}, root) for item in cast("list[Any]", value)]
    if not isinstance(value, dict):
        return value
    branch = node if "properties" in node else _branch(value, node, root)
    if branch is None:
        return cast("Any", value)
    properties: Mapping[str, Any] = branch.get("properties", {})
    required = branch.get("required", ())
    kept: dict[str, Any] = {}
    for name, inside in cast("dict[str, Any]", value).items():
        form = properties.get(name)
        if form is None:
            kept[name] = inside
        elif inside is not None or name in required or _takes_null(form, root):
            kept[name] = _pruned(inside, form, root)
    return kept


def _branch(value: Any, node: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The choice that a value was made for: the object with its keys, or the array."""
    for choice in (*node.get("anyOf", ()), *node.get("oneOf", ()), *node.get("allOf", ())):
        one = _resolved(choice, root)
        if isinstance(value, list) and "items" in one:
            return one
        if isinstance(value, dict) and "properties" in one and _fits(cast("dict[str, Any]", value), one, root):
            return one
        if ("anyOf" in one or "oneOf" in one) and (found := _branch(value, one, root)) is not None:
            return found
    return None


def _fits(value: Mapping[str, Any], node: Mapping[str, Any], root: Mapping[str, Any]) -> bool:
    """Whether an object was made for this choice: it has its keys, and its constants."""
    properties: Mapping[str, Any] = node["properties"]
    if properties.keys() != value.keys():
        return False
    for name, child in properties.items():
        form: Mapping[str, Any] = {} if isinstance(child, bool) else _resolved(child, root)
        known = [form["const"]] if "const" in form else form.get("enum")
        is_left_out = value[name] is None and name not in node.get("required", ())
        if known is not None and value[name] not in known and not is_left_out:
            return False
    return True


def _takes_null(node: Any, root: Mapping[str, Any]) -> bool:
    """Whether null is a value of its own under a schema."""
    if not isinstance(node, Mapping):
        return True
    part = _resolved(cast("Mapping[str, Any]", node), root)
    kinds = part.get("type")
    if kinds == "null" or (isinstance(kinds, list) and "null" in kinds) or part.get("const", 0) is None:
        return True
    if None in part.get("enum", ()):
        return True
    return any(_takes_null(choice, root) for choice in (*part.get("anyOf", ()), *part.get("oneOf", ())))


def _resolved(node: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema that a reference stands for."""
    for _ in range(_MOST_DEPTH):
        reference = node.get("$ref")
        if not isinstance(reference, str):
            return node
        found = root
        for key in filter(None, reference.removeprefix("#").split("/")):
            found = cast("Mapping[str, Any]", found.get(key) or {})
        node = found
    return node


def _nullable(form: dict[str, Any]) -> dict[str, Any]:
    """The schema, or null."""
    choices = form["anyOf"] if set(form) == {"anyOf"} else [form]
    if {"type": "null"} in choices:
        return form
    return {"anyOf": [*choices, {"type": "null"}]}
