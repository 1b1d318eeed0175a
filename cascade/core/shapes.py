"""Values from outside, of whatever type: each is what it must be, or a RequestError names where it is not.

An error says what a value is in JSON's words. It does not show it: it may be a part of a prompt.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from cascade.core.errors import RequestError
from cascade.core.text.parsing import is_unicode

if TYPE_CHECKING:
    from typing_extensions import TypeIs  # typing's is there from Python 3.13 on

__all__ = ["kind_of", "list_at", "object_at", "shown", "text_at", "type_at", "unicode_at"]

_KINDS: dict[type, str] = {bool: "a boolean", int: "a number", float: "a number", str: "a string", type(None): "null"}


def _is_object(value: object) -> TypeIs[Mapping[object, object]]:
    return type(value) is dict or isinstance(value, Mapping)  # the usual type first: it is several times faster


def object_at(where: str, value: object) -> Mapping[str, Any]:
    """The value, if it is an object."""
    if _is_object(value) and all(isinstance(name, str) for name in value):
        return cast("Mapping[str, Any]", value)
    raise RequestError(f"{where}: must be an object, not {kind_of(value)}")


def list_at(where: str, value: object, of: str = "") -> tuple[Any, ...]:
    """The value as a tuple, if it is a list. `of`: what the list holds, for the error."""
    if isinstance(value, (list, tuple)):
        return tuple(cast("list[Any]", value))
    raise RequestError(f"{where}: must be a list{of and f' of {of}'}, not {kind_of(value)}")


def text_at(where: str, value: object) -> str:
    """The value, if it is a string."""
    if isinstance(value, str):
        return value
    raise RequestError(f"{where}: must be a string, not {kind_of(value)}")


def unicode_at(where: str, value: object) -> str:
    """The value, if it is a string that can be encoded."""
    text = text_at(where, value)
    if not is_unicode(text):
        raise RequestError(f"{where}: it contains an unpaired surrogate (decode the text as UTF-8)")
    return text


def type_at(where: str, value: object) -> str:
    """The type of a block of content, which is an object that says its type."""
    kind = value.get("type") if _is_object(value) else None
    if isinstance(kind, str):
        return kind
    raise RequestError(f"{where}: must be a block, an object with a type, not {kind_of(value)}")


def kind_of(value: object) -> str:
    """What a value is, in JSON's words."""
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, (list, tuple)):
        return "a list"
    return _KINDS.get(type(value), type(value).__name__)


def shown(value: object) -> str:
    """A name or a number, shortened; of anything else what it is."""
    return repr(value)[:60] if isinstance(value, (str, int, float)) else kind_of(value)
