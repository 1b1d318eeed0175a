"""Decode a corpus line by line: JSON bytes in, checked values out. Raises `LineError` for an invalid line.

msgspec decodes and checks a line in one pass. Only a line that it refuses is decoded again, slowly, to keep unknown
keys or to describe the error. Messages never quote user content.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from typing import Any, Final, TypeVar, cast

from msgspec import DecodeError, Struct, ValidationError, convert, json
from msgspec.structs import replace

from cascade.corpora.items import (
    Count,
    Item,
    LadderEntry,
    Manifest,
    RecordedCheck,
    RecordedGroups,
    RecordedReply,
    RecordedReview,
    RecordedUsage,
)

__all__ = [
    "MAX_DEPTH",
    "MAX_SAMPLES",
    "LineError",
    "TooDeep",
    "Unreadable",
    "decode_item",
    "decode_manifest",
    "name_item",
    "parse",
]

MAX_DEPTH: Final = 200
"""Deeper JSON is refused: it can be read, but cannot be written everywhere."""

MAX_SAMPLES: Final = 10_000
"""The most samples of a rung, its first reply included."""

_ITEM = json.Decoder(Item)
_JSON = json.Decoder()
_NOT_JSON = (DecodeError, UnicodeDecodeError, RecursionError)
_INTERNAL = {"extra", "line"}  # fields that are not keys of the format
_ITEM_KEYS = frozenset(Item.__struct_fields__) - _INTERNAL
_REPLY_KEYS = frozenset(RecordedReply.__struct_fields__) - _INTERNAL
_RUNG_KEYS = frozenset(field.name for field in dataclasses.fields(LadderEntry)) - _INTERNAL
_MANIFEST_KEYS = frozenset(field.name for field in dataclasses.fields(Manifest)) - _INTERNAL - {"name"}
_T = TypeVar("_T")
_S = TypeVar("_S", bound=Struct)


class _Turn(Struct):
    """The required fields of a conversation's turn; it may have others."""

    role: str
    content: str | list[dict[str, Any]]


class _Usage(Struct):
    """The known fields of a usage; it may have others."""

    input_tokens: Count = 0
    output_tokens: Count = 0
    cache_read_input_tokens: Count | None = None
    cache_creation_input_tokens: Count | None = None
    cache_creation: dict[str, Count] | None = None
    output_tokens_details: dict[str, Count] | None = None


class LineError(Exception):
    """An invalid line: the problem, how to fix it, and the item's id if the caller cannot read it from the line."""

    def __init__(self, problem: str, hint: str = "", item: str = "") -> None:
        super().__init__(problem)
        self.problem, self.hint, self.item = problem, hint, item


class TooDeep(LineError):
    """A line that nests deeper than MAX_DEPTH."""


class Unreadable(LineError):
    """The file itself is damaged: nothing after this can be read, so the line cannot be skipped."""


def decode_manifest(line: bytes) -> Manifest:
    """Decode the manifest from line 1. Raises LineError."""
    raw = parse(line)
    if "corpus" not in raw:
        raise LineError("line 1 is not a manifest, it has no 'corpus'", "see the corpus format")
    version = raw.get("version")
    if type(version) is not int or version != 1:
        raise LineError("its corpus version is not supported", 'this release reads "version": 1')
    known, extra = _split_known(raw, _MANIFEST_KEYS)
    known["name"] = extra.pop("corpus")
    del extra["version"]
    if isinstance(ladder := known.get("ladder"), list):
        known["ladder"] = [_known_with_extra(rung, _RUNG_KEYS) for rung in cast("list[object]", ladder)]
    manifest = _build(Manifest, {**known, "extra": extra or None})
    if len(set(manifest.rungs)) != len(manifest.ladder):
        raise LineError("the ladder names a rung twice", "give each rung a name of its own")
    return manifest


def decode_item(line: bytes, rungs: frozenset[str]) -> Item:
    """Decode an item whose replies are of these rungs only. Raises LineError."""
    try:
        item = _ITEM.decode(line)
    except _NOT_JSON:
        item = _decode_slowly(parse(line))
    lists = line.count(b"[")  # also those in texts, so 0 means that there are none
    if lists + line.count(b"{") > MAX_DEPTH:
        _refuse_depth(item)
    replies = item.replies
    if not replies.keys() <= rungs:
        unknown = ", ".join(repr(rung[:80]) for rung in replies if rung not in rungs)
        raise LineError(f"has a reply of {unknown}, not on the ladder", f"the ladder has {', '.join(sorted(rungs))}")
    for rung, reply in replies.items():
        if reply.usage:
            _check_usage(reply.usage, rung)
        if reply.review is not None and reply.review.usage:
            _check_usage(reply.review.usage, rung, ".review")
    if lists:
        _check_lists(item)
    return item


def _decode_slowly(raw: dict[str, Any]) -> Item:
    known, extra = _split_known(raw, _ITEM_KEYS)
    replies: dict[str, RecordedReply] = {}
    if isinstance(raw_replies := known.get("replies"), dict):
        for rung, reply in cast("dict[str, object]", raw_replies).items():
            replies[rung] = _reply_slowly(reply, f"replies.{rung[:80]}")
        known["replies"] = {}
    return replace(_build(Item, known), replies=replies, extra=extra or None)


def _reply_slowly(raw: object, where: str, *, is_sample: bool = False) -> RecordedReply:
    """A reply with its unknown keys, and those of its samples, checks and groups."""
    if not isinstance(raw, dict):
        return _build(RecordedReply, raw, where)
    fields, extra = _split_known(cast("dict[str, Any]", raw), _REPLY_KEYS)
    parts: dict[str, Any] = {"extra": extra or None}
    if isinstance(samples := fields.get("samples"), list) and not is_sample:
        fields["samples"] = None
        parts["samples"] = tuple(
            _reply_slowly(sample, f"{where}.samples[{n}]", is_sample=True)
            for n, sample in enumerate(cast("list[object]", samples))
        )
    if isinstance(groups := fields.get("groups"), list):
        fields["groups"] = None
        parts["groups"] = tuple(
            _part_slowly(RecordedGroups, judged, f"{where}.groups[{n}]")
            for n, judged in enumerate(cast("list[object]", groups))
        )
    if isinstance(review := fields.get("review"), dict):
        fields["review"] = None
        parts["review"] = _part_slowly(RecordedReview, cast("object", review), f"{where}.review")
    if isinstance(checks := fields.get("checks"), dict):
        results = cast("dict[str, object]", checks)
        nested = {name: cast("object", result) for name, result in results.items() if isinstance(result, dict)}
        fields["checks"] = {**results, **dict.fromkeys(nested)}
        read = {name: _part_slowly(RecordedCheck, nested[name], f"{where}.checks.{name[:80]}") for name in nested}
        parts["checks"] = {**results, **read}
    return replace(_build(RecordedReply, fields, where), **parts)


def _part_slowly(of: type[_S], raw: object, where: str) -> _S:
    if not isinstance(raw, dict):
        return _build(of, raw, where)
    known, extra = _split_known(cast("dict[str, Any]", raw), frozenset(of.__struct_fields__) - _INTERNAL)
    return replace(_build(of, known, where), extra=extra or None)


def _check_lists(item: Item) -> None:
    if type(item.input) is list:
        try:
            convert(item.input, list[_Turn])
        except ValidationError:
            raise LineError(_BAD_INPUT) from None
    for rung, reply in item.replies.items():
        if reply.samples is not None or reply.groups is not None:
            _check_samples(reply, rung)


def _check_usage(usage: RecordedUsage, rung: str, within: str = "") -> None:
    """`within`: the part of the reply that has this usage."""
    for count in usage.values():
        if type(count) is not int or count < 0:
            _build(_Usage, usage, f"replies.{rung[:80]}{within}.usage")
            return


def _check_samples(reply: RecordedReply, rung: str) -> None:
    samples = reply.samples or ()
    if len(samples) >= MAX_SAMPLES:
        raise LineError(f"replies.{rung[:80]}.samples: there are more than {MAX_SAMPLES - 1}", "leave some out")
    for number, sample in enumerate(samples):
        if sample.usage:
            _check_usage(sample.usage, rung, f".samples[{number}]")
        if sample.review is not None and sample.review.usage:
            _check_usage(sample.review.usage, rung, f".samples[{number}].review")
        if sample.samples is not None or sample.groups is not None:
            key = "groups" if sample.samples is None else "samples"
            problem = f"replies.{rung[:80]}.samples[{number}].{key}: a sample has none of its own"
            raise LineError(
                problem, "put all samples of a rung, and the groups of their answers, beside its first reply"
            )
    seen: set[tuple[int, ...]] = set()
    for number, judged in enumerate(reply.groups or ()):
        part = f".groups[{number}]"
        if judged.usage:
            _check_usage(judged.usage, rung, part)
        if (problem := _problem_with_groups(judged, 1 + len(samples))) or judged.of in seen:
            problem = problem or "of: the same samples are grouped twice"
            raise LineError(f"replies.{rung[:80]}{part}.{problem}", "samples are numbered from 0, the reply itself")
        seen.add(judged.of)


def _problem_with_groups(judged: RecordedGroups, samples: int) -> str:
    """Why this is no grouping of some of a reply's samples; "" if it is one."""
    if max(judged.of) >= samples:
        return f"of: there is no sample {max(judged.of)}, the reply has {samples}"
    if len(set(judged.of)) != len(judged.of):
        return "of: a sample is named twice"
    if judged.groups is None:
        return ""
    if not all(judged.groups) or sorted(place for members in judged.groups for place in members) != sorted(judged.of):
        return "groups: not every sample under `of` is in exactly one group"
    return ""


def _refuse_depth(item: Item) -> None:
    level: list[object] = [item.input, item.expected, item.extra]
    for reply in item.replies.values():
        # Parquet holds all samples in one cell, so they are measured together.
        level += (reply.answer, _values_in(reply), [_values_in(sample) for sample in reply.samples or ()])
    for _ in range(MAX_DEPTH):
        level = [inner for value in level if isinstance(value, (dict, list)) for inner in _children(value)]  # pyright: ignore[reportUnknownArgumentType]
    if level:
        raise TooDeep(f"it nests deeper than {MAX_DEPTH} levels", "flatten it, or store it as a text")


def _values_in(reply: RecordedReply) -> list[object]:
    """The values of a reply that may be nested, each as deep as in its JSON."""
    checks = [
        [*(check.extra or {}).values()] for check in (reply.checks or {}).values() if isinstance(check, RecordedCheck)
    ]
    groups = [[judged.usage, *(judged.extra or {}).values()] for judged in reply.groups or ()]
    review = [reply.review.usage, *(reply.review.extra or {}).values()] if reply.review is not None else []
    return [reply.answer, reply.usage, *(reply.extra or {}).values(), checks, groups, review]


def _children(value: dict[str, object] | list[object]) -> Iterable[object]:
    return value.values() if isinstance(value, dict) else value


def _build(of: type[_T], raw: object, where: str = "") -> _T:
    try:
        return convert(raw, of)
    except ValidationError as error:
        raise _explain(_with_key(str(error), of, raw), where) from None


def _with_key(message: str, of: type[object], raw: object) -> str:
    """Msgspec's message, with the key's name where it gives only `[...]` for a value in a dict."""
    within = re.search(r"`\$\.(\w+)\[\.\.\.]", message)
    if within is None or not isinstance(raw, dict):
        return message
    fields = cast("dict[str, Any]", raw)
    for key, value in fields[name := within[1]].items():
        try:
            convert({**fields, name: {key: value}}, of)
        except ValidationError:
            return message.replace("[...]", f".{key[:80]}", 1)
    return message


_BAD_INPUT = "input: must be a text, or a list of messages {role, content} that is not empty"


def parse(line: bytes) -> dict[str, Any]:
    """Decode a line's JSON object. Raises LineError."""
    if not line:
        raise LineError("the file is empty", "line 1 of a corpus is its manifest")
    if line.isspace():
        raise LineError("the line is blank", "remove it")
    try:
        raw: object = _JSON.decode(line)
    except RecursionError:
        raise TooDeep("not JSON: it nests too deep") from None
    except _NOT_JSON as error:
        raise LineError(
            f"not JSON: {_reason_of(error)}", "fix the line, or leave out such lines with --skip-bad"
        ) from None
    if not isinstance(raw, dict):
        raise LineError("the line is not a JSON object")
    return cast("dict[str, Any]", raw)


def _reason_of(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8"
    message = str(error).removeprefix("JSON is malformed: ")
    return f"{message[:1].lower()}{message[1:]}"


def _split_known(raw: dict[str, Any], keys: frozenset[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    known = {key: value for key, value in raw.items() if key in keys}
    return known, {key: value for key, value in raw.items() if key not in keys}


def _known_with_extra(value: object, keys: frozenset[str]) -> object:
    if not isinstance(value, dict):
        return value
    known, extra = _split_known(cast("dict[str, Any]", value), keys)
    return {**known, "extra": extra or None}


def _explain(message: str, within: str) -> LineError:
    """Reword msgspec's message, such as "Expected `float`, got `str` - at `$.replies[...].score`"."""
    what, _, path = message.partition(" - at `$")
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
    """The id of an invalid line, for a message; "" if it cannot be read."""
    try:
        name = parse(line).get("id")
    except LineError:
        return ""
    return name[:80] if isinstance(name, str) else ""
