"""What `response_model` may be: any type that pydantic can validate and make a JSON schema for."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast, get_type_hints

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from cascade.claude import schema_of
from cascade.core.errors import RequestError
from cascade.policy.checks import compile_schema

__all__ = ["ResponseType", "response_type", "schema_type"]

_MISSING = "x-no-schema"


@dataclasses.dataclass(frozen=True, slots=True)
class ResponseType:
    """The type of an answer. Exactly one of the two schemas is set.

    `schema`: for the API to enforce. `prompt_schema`: for a type that the API's schemas cannot express (an open
    dictionary, recursion, any value); it goes into the prompt instead. `read` validates an answer's JSON and returns its
    value; it raises if the JSON does not fit.
    """

    schema: Mapping[str, Any] | None
    prompt_schema: Mapping[str, Any] | None
    read: Callable[[str], Any]


def response_type(model: Any) -> ResponseType:
    """The type of an answer. Raises RequestError if `model` is not a type, or has no form in JSON."""
    try:
        return _cached(model)
    except TypeError:  # not hashable, as annotations may be
        return _make(model)


def schema_type(schema: Mapping[str, Any]) -> ResponseType:
    """The type of an answer under a JSON Schema, whose value is plain JSON (dictionaries, lists, strings).

    Raises RequestError if the schema cannot be used; MissingExtra without the package that tests values.
    """
    plain = dict(schema)
    try:
        is_valid = compile_schema(plain, "a JSON Schema")
        json.dumps(plain, ensure_ascii=False, allow_nan=False).encode()  # no NaN and no unpaired surrogate can be sent
    except ValueError as problem:
        raise RequestError(f"schema: {problem}") from None

    def read(text: str) -> Any:
        value = json.loads(text)
        if not is_valid(value):
            raise ValueError("not valid under the schema")
        return value

    enforced = schema_of(plain)
    return ResponseType(enforced, plain if enforced is None else None, read)


def _make(model: Any) -> ResponseType:
    _check_is_type(model)
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(model)
        schema = adapter.json_schema(schema_generator=_Generator)
        json.dumps(schema, ensure_ascii=False, allow_nan=False).encode()  # an unpaired surrogate cannot be sent
    except Exception as problem:  # noqa: BLE001 - the caller's types may run code that raises anything
        where = _field_at_fault(model)
        reason = (str(problem).splitlines() or [type(problem).__name__])[0]
        raise RequestError(f"response_model: {_name(model)}{where} cannot be used: {reason}") from None
    for path, reason in _without_schema(schema, ()):
        raise RequestError(
            f"response_model: {'.'.join((_name(model), *path))} has no form in JSON ({reason}; leave the field out, or use a"
            " type that JSON has)"
        )
    enforced = schema_of(schema)
    return ResponseType(enforced, schema if enforced is None else None, adapter.validate_json)


_cached = functools.lru_cache(maxsize=128)(_make)


class _Generator(GenerateJsonSchema):
    """Marks the parts of a type that have no JSON schema, so that the error can name the field."""

    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012 - pydantic's own attribute

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> dict[str, Any]:  # noqa: ARG002
        return {_MISSING: error_info}


def _check_is_type(model: Any) -> None:
    """Refuse what pydantic accepts although it is not a type: instances, names of types, functions."""
    is_instance = isinstance(model, BaseModel) or (dataclasses.is_dataclass(model) and not isinstance(model, type))
    if is_instance:
        kind = type(model).__name__
        raise RequestError(f"response_model: this is an instance of {kind} (give the class: response_model={kind})")
    if isinstance(model, (str, bytes, functools.partial)) or inspect.isroutine(model):
        raise RequestError("response_model: must be a type, not a name or a function, e.g. response_model=list[str]")


def _name(model: Any) -> str:
    return model.__name__ if isinstance(model, type) else str(model)[:80]


def _field_at_fault(model: Any) -> str:
    """The first field that cannot be used, as ".name", or the name that is not defined; "" if none is found."""
    try:
        hints = get_type_hints(model, include_extras=True) if isinstance(model, type) else {}
    except Exception as problem:  # noqa: BLE001 - see above
        return f" ({problem})"
    for name, hint in hints.items():
        try:
            TypeAdapter(hint).json_schema()
        except Exception:  # noqa: BLE001 - see above
            return f".{name}"
    return ""


def _without_schema(node: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    """The marked parts of a schema: the path of field names, and the reason."""
    if isinstance(node, list):
        for one in cast("list[Any]", node):
            yield from _without_schema(one, path)
    elif isinstance(node, dict):
        part = cast("dict[str, Any]", node)
        if _MISSING in part:
            yield path, str(part[_MISSING])
        for key, value in part.items():
            if key in ("properties", "$defs") and isinstance(value, dict):
                for name, child in cast("dict[str, Any]", value).items():
                    yield from _without_schema(child, (*path, name))
            else:
                yield from _without_schema(value, path)
