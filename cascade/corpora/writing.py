"""Write a corpus (version 1; the README shows the format): the same manifest and items always make the same bytes, gzip's header included."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from cascade.core.errors import CorpusError
from cascade.corpora.items import NOT_RECORDED, Item, LadderEntry, Manifest, RecordedReply

__all__ = ["write_corpus"]

# Left out where there is nothing to say; what is not listed is always written, for null means something there.
_OPTIONAL = frozenset({"task", "group", "split", "at", "usage", "cost_usd", "signals", "grader", "licence", "notes"})


def write_corpus(path: str | os.PathLike[str], manifest: Manifest, items: Iterable[Item]) -> None:
    """Write a corpus to `path`, gzip where it ends in `.gz`; the file appears whole or not at all.

    A sequence of items also sets the manifest's count. Raises CorpusError for what is not JSON (NaN, objects), for a
    count that is not the manifest's, and where the file cannot be written.
    """
    if isinstance(items, Sequence):
        manifest = replace(manifest, items=len(items))
    target = Path(path)
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with ExitStack() as stack:
            stack.callback(draft.unlink, missing_ok=True)
            with draft.open("wb") as raw:
                _write_lines(raw, manifest, items, packed=target.suffix == ".gz", where=os.fspath(path))
            draft.replace(target)
    except OSError as error:
        problem = f"cannot be written: {error.strerror or error}"
        raise CorpusError(problem, where=os.fspath(path), mend="check the path and its rights") from error


def _write_lines(raw: BinaryIO, manifest: Manifest, items: Iterable[Item], *, packed: bool, where: str) -> None:
    with ExitStack() as stack:
        # No name and no time in gzip's header, or the same corpus would make other bytes every second.
        file = stack.enter_context(gzip.GzipFile("", "wb", 9, raw, mtime=0)) if packed else raw
        file.write(_encode(_raw_manifest(manifest), f"{where}:1", ""))
        count = 0
        for count, item in enumerate(items, 1):
            file.write(_encode(_raw_item(item), f"{where}:{count + 1}", item.id))
    if manifest.items not in (None, count):
        raise CorpusError(f"{count} items were given, the manifest says {manifest.items}", where=where)


def _encode(raw: dict[str, Any], where: str, item: str) -> bytes:
    try:
        return json.dumps(raw, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    except (TypeError, ValueError) as error:
        raise CorpusError(f"cannot be written as JSON: {error}", where=where, item=item) from error


def _raw_manifest(manifest: Manifest) -> dict[str, Any]:
    raw = {
        "corpus": manifest.name,
        "version": 1,
        "ladder": [_raw_rung(entry) for entry in manifest.ladder],
        "grader": manifest.grader,
        "right_at": manifest.right_at,
        "synthetic": manifest.synthetic,
        "licence": manifest.licence,
        "notes": manifest.notes,
    }
    if manifest.items is not None:
        raw["items"] = manifest.items
    return _compact(raw, manifest.extra)


def _raw_rung(entry: LadderEntry) -> dict[str, Any]:
    return {"rung": entry.rung, "model": entry.model, **(entry.extra or {})}


def _raw_item(item: Item) -> dict[str, Any]:
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
    }
    return _compact(raw, reply.extra)


def _compact(raw: Mapping[str, Any], extra: Mapping[str, Any] | None) -> dict[str, Any]:
    said = {
        key: value
        for key, value in raw.items()
        if value is not NOT_RECORDED and not (value is None and key in _OPTIONAL)
    }
    return {**said, **(extra or {})}
