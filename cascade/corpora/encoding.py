"""Encode manifests and items as JSON. Absent values are left out, except where null has a meaning.

Everything that writes a corpus, whole or item by item, writes these bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from cascade.core.errors import CorpusError
from cascade.corpora.items import (
    NOT_RECORDED,
    Item,
    LadderEntry,
    Manifest,
    RecordedCheck,
    RecordedGroups,
    RecordedReply,
    RecordedReview,
)

__all__ = ["encode_line", "raw_item", "raw_manifest"]

# Keys left out if None. Others are always written: null has a meaning there.
_OPTIONAL = frozenset(
    {
        "task", "group", "split", "at", "usage", "cost_usd", "signals", "variant", "checks", "samples", "groups", "review",
        "grader", "licence", "notes", "temperature",
    }
)  # fmt: skip


def encode_line(raw: dict[str, Any], where: str, item: str) -> bytes:
    """One line of JSON. Raises CorpusError, naming `where` and the item, for what is not JSON (NaN, objects)."""
    try:
        return json.dumps(raw, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise CorpusError(f"cannot be written as JSON: {error}", where=where, item=item) from error


def raw_manifest(manifest: Manifest) -> dict[str, Any]:
    """The manifest as a JSON object."""
    raw = {
        "corpus": manifest.name,
        "version": 1,
        "ladder": [_raw_rung(entry) for entry in manifest.ladder],
        "grader": manifest.grader,
        "right_at": manifest.right_at,
        "synthetic": manifest.synthetic,
        "licence": manifest.licence,
        "notes": manifest.notes,
        "temperature": manifest.temperature,
    }
    if manifest.items is not None:
        raw["items"] = manifest.items
    return _compact(raw, manifest.extra)


def _raw_rung(entry: LadderEntry) -> dict[str, Any]:
    return {**(entry.extra or {}), "rung": entry.rung, "model": entry.model}


def raw_item(item: Item) -> dict[str, Any]:
    """An item as a JSON object."""
    raw = {
        "id": item.id,
        "task": item.task,
        "group": item.group,
        "split": item.split,
        "at": item.at,
        "input": item.input,
        "expected": item.expected,
        "replies": {rung: _raw_reply(reply) for rung, reply in item.replies.items()},
    }
    return _compact(raw, item.extra)


def _raw_reply(reply: RecordedReply) -> dict[str, Any]:
    raw = {
        "confidence": reply.confidence,
        "answer": reply.answer,
        "score": reply.score,
        "usage": reply.usage,
        "cost_usd": reply.cost_usd,
        "signals": reply.signals,
        "variant": reply.variant,
        "checks": None if reply.checks is None else {name: _raw_check(check) for name, check in reply.checks.items()},
        "samples": None if reply.samples is None else [_raw_reply(sample) for sample in reply.samples],
        "groups": None if reply.groups is None else [_raw_groups(judged) for judged in reply.groups],
        "review": None if reply.review is None else _raw_review(reply.review),
    }
    return _compact(raw, reply.extra)


def _raw_check(check: bool | RecordedCheck | None) -> bool | dict[str, Any] | None:
    if not isinstance(check, RecordedCheck):
        return check
    return _compact({"passed": check.passed, "seconds": check.seconds}, check.extra)


def _raw_groups(judged: RecordedGroups) -> dict[str, Any]:
    raw: dict[str, Any] = {"of": judged.of, "usage": judged.usage, "cost_usd": judged.cost_usd}
    return {**_compact(raw, judged.extra), "groups": judged.groups}


def _raw_review(review: RecordedReview) -> dict[str, Any]:
    raw = {"rung": review.rung, "accepted": review.accepted, "usage": review.usage, "cost_usd": review.cost_usd}
    return _compact(raw, review.extra)


def _compact(raw: Mapping[str, Any], extra: Mapping[str, Any] | None) -> dict[str, Any]:
    known = {
        key: value
        for key, value in raw.items()
        if value is not NOT_RECORDED and not (value is None and key in _OPTIONAL)
    }
    return {**known, **{key: value for key, value in (extra or {}).items() if key not in raw}}
