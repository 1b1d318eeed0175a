"""Decode what a corpus holds, a line at a time: bytes of JSON in, checked values out, or a `Flaw` that says what is wrong.

A line is decoded and checked in one go by pydantic's core. Only a line that this refuses is looked at again, slowly:
to keep the keys that this version does not know, or to say what is wrong. A flaw quotes nothing of what users wrote.
"""

from __future__ import annotations

import dataclasses
from typing import Any, cast

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json, to_json

from cascade.corpora.items import Item, LadderEntry, Manifest, RecordedReply

__all__ = ["Flaw", "Unreadable", "decode_item", "decode_manifest", "name_item", "parse"]

_ITEM = TypeAdapter(Item).validator
_MANIFEST = TypeAdapter(Manifest).validator
_OURS = {"extra", "line"}  # fields of the values that are not keys of the format
_ITEM_KEYS = frozenset(field.name for field in dataclasses.fields(Item)) - _OURS
_REPLY_KEYS = frozenset(field.name for field in dataclasses.fields(RecordedReply)) - _OURS
_RUNG_KEYS = frozenset(field.name for field in dataclasses.fields(LadderEntry)) - _OURS
_MANIFEST_KEYS = frozenset(field.name for field in dataclasses.fields(Manifest)) - _OURS - {"name"}


class Flaw(Exception):
    """What is wrong with a line, and how to mend it; `item` is its id, where only the one who raises can tell it."""

    def __init__(self, problem: str, mend: str = "", item: str = "") -> None:
        super().__init__(problem)
        self.problem, self.mend, self.item = problem, mend, item


class Unreadable(Flaw):
    """Wrong with the file itself: what follows cannot be read, so it is not a line that could be skipped."""


def decode_manifest(line: bytes) -> Manifest:
    """The manifest that line 1 holds. Raises Flaw."""
    raw = parse(line)
    if "corpus" not in raw:
        raise Flaw("line 1 is not a manifest, it has no 'corpus'", "see the corpus format")
    version = raw.get("version")
    if type(version) is not int or version != 1:
        raise Flaw("its corpus version is not supported", 'this release reads "version": 1')
    known, extra = _part(raw, _MANIFEST_KEYS)
    known["name"] = extra.pop("corpus")
    del extra["version"]
    if isinstance(ladder := known.get("ladder"), list):
        known["ladder"] = [_part_within(rung, _RUNG_KEYS) for rung in cast("list[object]", ladder)]
    manifest: Manifest = _build(_MANIFEST, {**known, "extra": extra or None})
    if len(set(manifest.rungs)) != len(manifest.ladder):
        raise Flaw("the ladder names a rung twice", "give each rung a name of its own")
    return manifest


def decode_item(line: bytes, rungs: frozenset[str]) -> Item:
    """The item that a line holds, with replies of no other rungs than these. Raises Flaw."""
    try:
        item: Item = _ITEM.validate_json(line)
    except ValidationError:
        item = _decode_slowly(parse(line))
    if item.replies.keys() <= rungs:
        return item
    strangers = ", ".join(repr(rung[:80]) for rung in item.replies if rung not in rungs)
    raise Flaw(f"has a reply of {strangers}, not on the ladder", f"the ladder has {', '.join(sorted(rungs))}")


def _decode_slowly(raw: dict[str, Any]) -> Item:
    known, extra = _part(raw, _ITEM_KEYS)
    if isinstance(replies := known.get("replies"), dict):
        by_rung = cast("dict[str, object]", replies)
        known["replies"] = {rung: _part_within(reply, _REPLY_KEYS) for rung, reply in by_rung.items()}
    return _build(_ITEM, {**known, "extra": extra or None})


def _build(validator: Any, raw: dict[str, Any]) -> Any:
    try:
        return validator.validate_json(to_json(raw))  # from bytes again: only there is strict about JSON's types
    except ValidationError as error:
        raise _explain(error) from None


def parse(line: bytes) -> dict[str, Any]:
    """The JSON object that a line holds. Raises Flaw."""
    if not line:
        raise Flaw("the file is empty", "line 1 of a corpus is its manifest")
    if line.isspace():
        raise Flaw("the line is blank", "take it out")
    try:
        raw: object = from_json(line, allow_inf_nan=False)
    except ValueError as error:
        raise Flaw(f"not JSON: {error}".replace("at line 1 column", "at column")) from None
    if not isinstance(raw, dict):
        raise Flaw("the line is not a JSON object")
    return cast("dict[str, Any]", raw)


def _part(raw: dict[str, Any], ours: frozenset[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    known = {key: value for key, value in raw.items() if key in ours}
    return known, {key: value for key, value in raw.items() if key not in ours}


def _part_within(value: object, ours: frozenset[str]) -> object:
    if not isinstance(value, dict):
        return value
    known, extra = _part(cast("dict[str, Any]", value), ours)
    return {**known, "extra": extra or None}


def _explain(error: ValidationError) -> Flaw:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where, what = [str(part) for part in first["loc"]], first["msg"]
    if where[:1] == ["input"] and len(where) > 1:  # the parts after it name branches of a union, not keys
        return Flaw("input: must be a text, or a list of messages {role, content} that is not empty")
    return Flaw(f"{'.'.join(where) or 'item'}: {what[:1].lower()}{what[1:]}")


def name_item(line: bytes) -> str:
    """The id on a line that is wrong, for a message; empty where it cannot be told."""
    try:
        name = parse(line).get("id")
    except Flaw:
        return ""
    return name[:80] if isinstance(name, str) else ""
