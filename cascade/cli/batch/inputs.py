"""Read the inputs of a batch run. JSON lines are read one by one, so that their number does not matter; the rest as `record` does."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from cascade.core.errors import CorpusError
from cascade.corpora.decoding import LineError, parse
from cascade.corpora.items import Item
from cascade.corpora.reading import MAX_LINE_BYTES
from cascade.engine.batching import BatchInput
from cascade.recording.inputs import input_lines, is_manifest, read_inputs

__all__ = ["batch_inputs"]

_ASKED = ("system", "task", "flags", "metadata", "max_tokens")
_READ = frozenset({"id", "input", *_ASKED})
_OF_CORPORA = frozenset({"group", "split", "at", "expected", "replies", "baseline"})
_HINT = 'an input is {"input": "…" or messages} and, if wanted, id, system, task, flags, metadata, max_tokens'


def batch_inputs(path: Path, maps: tuple[tuple[str, str], ...] = ()) -> Iterator[BatchInput]:
    """The inputs in order. `maps`: pairs of a field and the column or key that holds it. Raises CorpusError, which names the line."""
    lines = input_lines(path, MAX_LINE_BYTES)
    number, first = next(lines, (0, b""))
    first = first.removeprefix(codecs.BOM_UTF8)
    if maps or not first.lstrip().startswith(b"{") or first.strip() == b"{" or is_manifest(first):
        lines.close()
        for item in read_inputs(path, maps=maps).items:
            yield _of_item(item)
        return
    yield _of_line(first, f"{path}:{number}")
    for at, line in lines:
        yield _of_line(line, f"{path}:{at}")


def _of_line(line: bytes, where: str) -> BatchInput:
    try:
        raw = parse(line)
    except LineError as error:
        raise CorpusError(error.problem, where=where, hint=_HINT) from None
    if "input" not in raw:
        raise CorpusError("has no `input`", where=where, hint=_HINT)
    if unknown := sorted(raw.keys() - _READ - _OF_CORPORA):
        raise CorpusError(
            f"{unknown[0]!r} is not known here", where=where, hint=f"{_HINT}; what else belongs to it: metadata"
        )
    return cast("BatchInput", {name: value for name, value in raw.items() if name in _READ and value is not None})


def _of_item(item: Item) -> BatchInput:
    extra: dict[str, Any] = item.extra or {}
    options = {name: extra[name] for name in _ASKED if extra.get(name) is not None}
    task = {} if item.task is None else {"task": item.task}
    return cast("BatchInput", {"id": item.id, "input": item.input, **options, **task})
