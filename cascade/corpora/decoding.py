"""Decode what a corpus holds, a line at a time: bytes of JSON in, checked values out, or a `LineError` that says what is wrong.

A line is decoded and checked in one go by msgspec. Only a line that this refuses is looked at again, slowly: to keep
the keys that this version does not know, or to say what is wrong. A error quotes nothing of what users wrote.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from typing import Any, Final, TypeVar, cast

from msgspec import DecodeError, Struct, ValidationError, convert, json
from msgspec.structs import replace

from cascade.corpora.items import Count, Item, LadderEntry, Manifest, RecordedReply, RecordedUsage

__all__ = ["MAX_DEPTH", "LineError", "TooDeep", "Unreadable", "decode_item", "decode_manifest", "name_item", "parse"]

MAX_DEPTH: Final = 200
"""JSON that nests deeper is refused: it could be read, but not everywhere be written again."""

_ITEM = json.Decoder(Item)
_JSON = json.Decoder()
_NOT_JSON = (DecodeError, UnicodeDecodeError, RecursionError)
_OURS = {"extra", "line"}  # fields of the values that are not keys of the format
_ITEM_KEYS = frozenset(Item.__struct_fields__) - _OURS
_REPLY_KEYS = frozenset(RecordedReply.__struct_fields__) - _OURS
_RUNG_KEYS = frozenset(field.name for field in dataclasses.fields(LadderEntry)) - _OURS
_MANIFEST_KEYS = frozenset(field.name for field in dataclasses.fields(Manifest)) - _OURS - {"name"}
_T = TypeVar("_T")


class _Turn(Struct):
    """What every turn of a conversation must have; it may have more."""

    role: str
    content: str | list[dict[str, Any]]


class _Usage(Struct):
    """What we know of a usage; it may have more."""

    input_tokens: Count = 0
    output_tokens: Count = 0
    cache_read_input_tokens: Count | None = None
    cache_creation_input_tokens: Count | None = None
    cache_creation: dict[str, Count] | None = None
    output_tokens_details: dict[str, Count] | None = None


class LineError(Exception):
    """What is wrong with a line, and how to fix it; `item` is its id, where only the one who raises can tell it."""

    def __init__(self, problem: str, hint: str = "", item: str = "") -> None:
        super().__init__(problem)
        self.problem, self.hint, self.item = problem, hint, item


class TooDeep(LineError):
    """A line that nests deeper than can be written again everywhere."""


class Unreadable(LineError):
    """Wrong with the file itself: what follows cannot be read, so it is not a line that could be skipped."""


def decode_manifest(line: bytes) -> Manifest:
    """The manifest that line 1 holds. Raises LineError."""
    raw = parse(line)
    if "corpus" not in raw:
        raise LineError("line 1 is not a manifest, it has no 'corpus'", "see the corpus format")
    version = raw.get("version")
    if type(version) is not int or version != 1:
        raise LineError("its corpus version is not supported", 'this release reads "version": 1')
    known, extra = _part(raw, _MANIFEST_KEYS)
    known["name"] = extra.pop("corpus")
    del extra["version"]
    if isinstance(ladder := known.get("ladder"), list):
        known["ladder"] = [_part_within(rung, _RUNG_KEYS) for rung in cast("list[object]", ladder)]
    manifest = _build(Manifest, {**known, "extra": extra or None})
    if len(set(manifest.rungs)) != len(manifest.ladder):
        raise LineError("the ladder names a rung twice", "give each rung a name of its own")
    return manifest


def decode_item(line: bytes, rungs: frozenset[str]) -> Item:
    """The item that a line holds, with replies of no other rungs than these. Raises LineError."""
    try:
        item = _ITEM.decode(line)
    except _NOT_JSON:
        item = _decode_slowly(parse(line))
    if line.count(b"[") + line.count(b"{") > MAX_DEPTH:
        _refuse_depth(item)
    replies = item.replies
    if not replies.keys() <= rungs:
        strangers = ", ".join(repr(rung[:80]) for rung in replies if rung not in rungs)
        raise LineError(f"has a reply of {strangers}, not on the ladder", f"the ladder has {', '.join(sorted(rungs))}")
    if type(item.input) is list:
        _check_turns(item.input)
    for rung, reply in replies.items():
        if reply.usage:
            _check_usage(reply.usage, rung)
    return item


def _decode_slowly(raw: dict[str, Any]) -> Item:
    known, extra = _part(raw, _ITEM_KEYS)
    replies: dict[str, RecordedReply] = {}
    if isinstance(given := known.get("replies"), dict):
        for rung, reply in cast("dict[str, object]", given).items():
            said, further = (
                _part(cast("dict[str, Any]", reply), _REPLY_KEYS) if isinstance(reply, dict) else (reply, {})
            )
            replies[rung] = replace(_build(RecordedReply, said, f"replies.{rung[:80]}"), extra=further or None)
        known["replies"] = {}
    return replace(_build(Item, known), replies=replies, extra=extra or None)


def _check_turns(turns: list[dict[str, Any]]) -> None:
    try:
        convert(turns, list[_Turn])
    except ValidationError:
        raise LineError(_BAD_INPUT) from None


def _check_usage(usage: RecordedUsage, rung: str) -> None:
    for count in usage.values():
        if type(count) is not int or count < 0:
            _build(_Usage, usage, f"replies.{rung[:80]}.usage")
            return


def _refuse_depth(item: Item) -> None:
    level: list[object] = [item.input, item.expected, item.extra]
    for reply in item.replies.values():
        level += (reply.answer, reply.usage, reply.extra)
    for _ in range(MAX_DEPTH):
        level = [inner for value in level if isinstance(value, (dict, list)) for inner in _within(value)]  # pyright: ignore[reportUnknownArgumentType]
    if level:
        raise TooDeep(f"it nests deeper than {MAX_DEPTH} levels", "flatten it, or store it as a text")


def _within(value: dict[str, object] | list[object]) -> Iterable[object]:
    return value.values() if isinstance(value, dict) else value


def _build(of: type[_T], raw: object, where: str = "") -> _T:
    try:
        return convert(raw, of)
    except ValidationError as error:
        raise _explain(_with_key(str(error), of, raw), where) from None


def _with_key(said: str, of: type[object], raw: object) -> str:
    """What msgspec says, with the key's name where it says only that a value within a dict is wrong."""
    within = re.search(r"`\$\.(\w+)\[\.\.\.]", said)
    if within is None or not isinstance(raw, dict):
        return said
    fields = cast("dict[str, Any]", raw)
    for key, value in fields[name := within[1]].items():
        try:
            convert({**fields, name: {key: value}}, of)
        except ValidationError:
            return said.replace("[...]", f".{key[:80]}", 1)
    return said


_BAD_INPUT = "input: must be a text, or a list of messages {role, content} that is not empty"


def parse(line: bytes) -> dict[str, Any]:
    """The JSON object that a line holds. Raises LineError."""
    if not line:
        raise LineError("the file is empty", "line 1 of a corpus is its manifest")
    if line.isspace():
        raise LineError("the line is blank", "take it out")
    try:
        raw: object = _JSON.decode(line)
    except RecursionError:
        raise TooDeep("not JSON: it nests too deep") from None
    except _NOT_JSON as error:
        raise LineError(
            f"not JSON: {_plainly(error)}", "fix the line, or pass over such ones with --skip-bad"
        ) from None
    if not isinstance(raw, dict):
        raise LineError("the line is not a JSON object")
    return cast("dict[str, Any]", raw)


def _plainly(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8"
    said = str(error).removeprefix("JSON is malformed: ")
    return f"{said[:1].lower()}{said[1:]}"


def _part(raw: dict[str, Any], ours: frozenset[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    known = {key: value for key, value in raw.items() if key in ours}
    return known, {key: value for key, value in raw.items() if key not in ours}


def _part_within(value: object, ours: frozenset[str]) -> object:
    if not isinstance(value, dict):
        return value
    known, extra = _part(cast("dict[str, Any]", value), ours)
    return {**known, "extra": extra or None}


def _explain(said: str, within: str) -> LineError:
    """What msgspec says, as in "Expected `float`, got `str` - at `$.replies[...].score`", in our words."""
    what, _, path = said.partition(" - at `$")
    path = re.sub(r"\[(\d+|\.\.\.)\]", r".\1", path.rstrip("`"))
    where = f"{within}{path}".strip(".")
    if where == "input" or where.startswith("input."):
        return LineError(_BAD_INPUT)
    if missing := re.fullmatch(r"Object missing required field `(\w+)`", what):
        return LineError(f"{where}.{missing[1]}: is missing".removeprefix("."))
    if what.startswith("Invalid enum value"):  # it quotes the value; `split` alone has a list of values
        what = "must be tune, certify or null"
    return LineError(f"{where or 'item'}: {what[:1].lower()}{what[1:]}")


def name_item(line: bytes) -> str:
    """The id on a line that is wrong, for a message; empty where it cannot be told."""
    try:
        name = parse(line).get("id")
    except LineError:
        return ""
    return name[:80] if isinstance(name, str) else ""
