"""What every check of a request needs: the shape of a value, or the API's 400."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NoReturn, cast

from cascade.emulator.requests import ApiError

__all__ = ["check_fields", "join_names", "list_of", "object_of", "refuse", "shorten", "tag_of"]


def refuse(message: str) -> NoReturn:
    """Raise the API's 400."""
    raise ApiError(400, "invalid_request_error", message)


def check_fields(value: dict[str, Any], known: Collection[str], where: str) -> None:
    """Refuse fields that are not known."""
    for key in value:
        if key not in known:
            refuse(f"{where}{key[:80]}: Extra inputs are not permitted")


def tag_of(value: dict[str, Any], known: Collection[str], where: str) -> str:
    """The value's `type`, if it is known."""
    tag = value.get("type")
    if isinstance(tag, str) and tag in known:
        return tag
    refuse(f"{where}: Input tag {shorten(tag)} found using 'type' does not match any of the expected tags")
    return None


def object_of(value: object, where: str) -> dict[str, Any]:
    """The value, if it is an object."""
    if isinstance(value, dict):
        return cast("dict[str, Any]", value)
    refuse(f"{where}: Input should be an object")
    return None


def list_of(value: object, where: str) -> list[object]:
    """The value, if it is a list."""
    if isinstance(value, list):
        return cast("list[object]", value)
    refuse(f"{where}: Input should be a valid list")
    return None


def shorten(value: object) -> str:
    """A value in an error, at most 80 characters of it."""
    return repr(value)[:80]


def join_names(names: Collection[str]) -> str:
    """Names in an error, sorted."""
    return ", ".join(repr(name) for name in sorted(names))
