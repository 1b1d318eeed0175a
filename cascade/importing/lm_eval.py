"""lm-evaluation-harness: `samples_<task>_<time>.jsonl`, one file a task and model, as `--log_samples` writes it.

A line: `doc_id, doc, target, arguments, resps, filtered_resps, filter, metrics`, hashes, and one key a metric. The same
doc_id comes once for each filter. It says neither which model it was nor what it cost. What is kept beside what we
know: `doc`, `doc_hash`, and every metric under the reply's `metrics`. Of a multiple choice only likelihoods were
recorded, no text, so such a reply has no answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from cascade.core.errors import CorpusError
from cascade.importing.rows import Options, Row, as_asked, pick, plain, score_of, text_or_none
from cascade.importing.sources import json_lines

__all__ = ["read_lm_eval"]

_NAME = re.compile(r"samples_(?P<task>.+)_\d{4}-\d{2}-\d{2}T[0-9.:-]+\.jsonl(\.gz)?")
_OURS = {"doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics"} | {
    "doc_hash", "prompt_hash", "target_hash",
}  # fmt: skip


def read_lm_eval(path: str, options: Options, rung: str | None) -> Iterator[Row]:
    """The items of one file, with replies of `rung`. Raises CorpusError."""
    named = _NAME.fullmatch(Path(path).name)
    task = named["task"] if named else None
    lines = list(json_lines(path))
    if not lines:
        raise CorpusError("the file is empty", where=path)
    filters = tuple(dict.fromkeys(str(line.get("filter", "none")) for _, line in lines))
    wanted = pick(options.filter, filters, "filter", path)
    chosen = [(where, line) for where, line in lines if str(line.get("filter", "none")) == wanted]
    if rung is None:
        where, line = chosen[0]
        _row(line, where, task, "", options)  # what is wrong with the file itself is told first
        mend = f"say it with --rung NAME={path}"
        raise CorpusError("the file does not say which model it was", where=path, mend=mend)
    for where, line in chosen:
        yield _row(line, where, task, rung, options)


def _row(line: dict[str, Any], where: str, task: str | None, rung: str, options: Options) -> Row:
    if (name := text_or_none(line.get("doc_id"))) is None:
        raise CorpusError("has no doc_id", where=where, mend="is it a samples file of lm-eval?")
    name = f"{task}/{name}" if task else name  # each task counts its documents from 0
    listed = line.get("metrics")
    metrics = tuple(str(key) for key in cast("list[object]", listed)) if isinstance(listed, list) else _numbers(line)
    metric = pick(options.metric, metrics, "metric", where)
    reply: dict[str, Any] = {"metrics": {key: plain(line.get(key)) for key in metrics}}
    if (score := score_of(line.get(metric), metric, where, name)) is not None:
        reply["score"] = score
    if (answer := _only_text(line.get("filtered_resps"))) is not None:
        reply["answer"] = answer
    about = {**_prompt(line.get("arguments"), where, name), "expected": plain(line.get("target"))}
    if task:
        about["task"] = task
    about |= {key: plain(line[key]) for key in ("doc", "doc_hash") if key in line}
    check = line.get("doc_hash")
    return Row(name, where, about, {rung: reply}, check=check if isinstance(check, str) else None)


def _numbers(line: Mapping[str, Any]) -> tuple[str, ...]:
    """Older files do not list their metrics: they are the numbers among the other keys."""
    return tuple(key for key, value in line.items() if key not in _OURS and isinstance(value, (int, float)))


def _prompt(arguments: object, where: str, item: str) -> dict[str, Any]:
    """`{"gen_args_0": {"arg_0": prompt, …}}`, or `[[prompt, …]]` in older files; a conversation is JSON in a list."""
    first: object = arguments
    if isinstance(first, dict):
        first = cast("dict[str, Any]", first).get("gen_args_0")
        first = cast("dict[str, Any]", first).get("arg_0") if isinstance(first, dict) else first
    for _ in range(2):
        if isinstance(first, list) and first:
            first = cast("list[object]", first)[0]
    if not isinstance(first, str):
        raise CorpusError("arguments: hold no prompt", where=where, item=item)
    return as_asked(first)


def _only_text(responses: object) -> str | None:
    """The one filtered response, bare or in a list of its own; None for several, or for likelihoods."""
    for _ in range(2):
        if isinstance(responses, list) and len(cast("list[object]", responses)) == 1:
            responses = cast("list[object]", responses)[0]
    return responses if isinstance(responses, str) else None
