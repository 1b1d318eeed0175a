"""lm-evaluation-harness: `samples_<task>_<time>.jsonl`, one file per task and model, as `--log_samples` writes it.

A line: `doc_id, doc, target, arguments, resps, filtered_resps, filter, metrics`, hashes, and one key per metric. Each
doc_id occurs once for each filter. Older versions did not name the filters, and wrote the file as one JSON array. The file
names neither the model nor the cost. `doc`, `doc_hash` and every metric (under the reply's `metrics`) are kept too.

Several responses (`repeats`): the reply is the first one, the others are `samples`. The filter's answer and the score were
logged once, so a sample has its raw response, and a score only if its text equals the first (a grader can grade the others).
If the filter kept several answers, the metric is of all of them, and none has a score. A metric that is a list has a score
of each. A vote (`maj@8`) is one reply, with the vote's answer and
score; `responses` are the votes. If a filter extracted the answer from a response, the reply's `response` is the whole.

Multiple choice: only log-likelihoods were recorded, so the reply has no answer. `logprobs` are in the order of the
choices, `choice` is the one the metric takes, and `signals.logprob` is its log-likelihood. With `--confidence logprob` the
confidence is its share of their softmax.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from cascade.core.errors import ConfigurationError, CorpusError
from cascade.importing.rows import Options, Row, choose, name_hint, prompt_fields, score_of, text_or_none
from cascade.importing.sources import json_lines

__all__ = ["read_lm_eval"]

_NAME = re.compile(r"samples_(?P<task>.+)_\d{4}-\d{2}-\d{2}T[0-9.:-]+\.jsonl(\.gz)?")
_KNOWN_KEYS = {"doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics"} | {
    "doc_hash", "prompt_hash", "target_hash",
}  # fmt: skip

_Lines = list[tuple[str, dict[str, Any]]]


def read_lm_eval(path: str, options: Options, rung: str | None) -> Iterator[Row]:
    """The items of one file, with replies of `rung`. Raises CorpusError."""
    if options.confidence not in (None, "logprob"):
        raise ConfigurationError(f"--confidence {options.confidence}: lm-eval has only logprob")
    named = _NAME.fullmatch(Path(path).name)
    task = named["task"] if named else None
    lines = list(json_lines(path))
    if not lines:
        raise CorpusError("the file is empty", where=path)
    chosen = _of_filter(lines, options.filter, path)
    if rung is None:
        where, line = chosen[0]
        _row(line, where, task, "", options)  # errors of the file itself take precedence
        hint = f"say it with --rung NAME={path}"
        raise CorpusError("the file does not say which model it was", where=path, hint=hint)
    for where, line in chosen:
        yield _row(line, where, task, rung, options)


def _of_filter(lines: _Lines, wanted: str | None, path: str) -> _Lines:
    """The lines of one filter. Unnamed filters are numbered, from 1, by their order in each document."""
    if any("filter" in line for _, line in lines):
        filters = tuple(dict.fromkeys(str(line.get("filter", "none")) for _, line in lines))
        name = choose(wanted, filters, "filter", path)
        return [(where, line) for where, line in lines if str(line.get("filter", "none")) == name]
    met, places = Counter[str](), list[int]()
    for _, line in lines:
        met[document := str(line.get("doc_id"))] += 1
        places.append(met[document])
    count = places.count(1) and max(places)
    if uneven := next((document for document, times in met.items() if times != count), None):
        problem = f"doc_id {uneven!r} occurs {met[uneven]} times and others {count} times, and no line names its filter"
        raise CorpusError(problem, where=path, hint="if these are several runs in one file, import one of them alone")
    names = tuple(str(place) for place in range(1, count + 1))
    if count == 1:
        if wanted is not None:
            problem = f"has no filter {wanted!r}, for no line names its filter (older versions of lm-eval wrote none)"
            raise CorpusError(problem, where=path, hint="it has the answers of one filter: leave --filter out")
        return lines
    if wanted not in names:
        problem = (
            f"has each document {count} times, for {count} filters without names (older versions of lm-eval wrote none)"
        )
        hint = f"choose one by its place in the task's filter_list: --filter {' or '.join(names)}"
        raise CorpusError(problem, where=path, hint=hint)
    return [line for line, place in zip(lines, places, strict=True) if str(place) == wanted]


def _row(line: dict[str, Any], where: str, task: str | None, rung: str, options: Options) -> Row:
    if (name := text_or_none(line.get("doc_id"))) is None:
        raise CorpusError(
            "has no doc_id", where=where, hint=f"is it a samples file of lm-eval? {name_hint('doc_id', line)}"
        )
    name = f"{task}/{name}" if task else name  # each task counts its documents from 0
    listed = line.get("metrics")
    metrics = tuple(str(key) for key in cast("list[object]", listed)) if isinstance(listed, list) else _numbers(line)
    metric = choose(options.metric, metrics, "metric", where)
    requests = _requests(line.get("arguments"))
    if not requests or not isinstance(prompt := requests[0][0], str):
        raise CorpusError("arguments: hold no prompt", where=where, item=name)
    value: object = line.get(metric)
    each = _each_scored(line, value, metric, (where, name))
    score = None if each else score_of(value, metric, where, name)
    reply: dict[str, Any] = {"metrics": {key: line.get(key) for key in metrics}}
    if likelihoods := _likelihoods(line, requests):
        reply |= {} if score is None else {"score": score}
        reply |= _choice_fields(likelihoods, metric, confident=options.confidence == "logprob")
    else:
        reply |= each or _answered(line, score)
    fields = {**prompt_fields(prompt), "expected": line.get("target")}
    if task:
        fields["task"] = task
    fields |= {key: line[key] for key in ("doc", "doc_hash") if key in line}
    check = line.get("doc_hash")
    return Row(name, where, fields, {rung: reply}, content_hash=check if isinstance(check, str) else None)


def _numbers(line: Mapping[str, Any]) -> tuple[str, ...]:
    """The metrics of an older file, which does not list them: all unknown keys with a number."""
    return tuple(key for key, value in line.items() if key not in _KNOWN_KEYS and isinstance(value, (int, float)))


def _requests(arguments: object) -> list[list[object]]:
    """Each request's arguments: `{"gen_args_0": {"arg_0": prompt, …}, …}`, or `[[prompt, …], …]` in older files."""
    found: list[object] = _listed(arguments)
    if found and isinstance(found[0], str):  # of one request, bare
        found = [found]
    return [parts for one in found if (parts := _listed(one))]


def _listed(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(cast("dict[str, object]", value).values())
    return cast("list[object]", value) if isinstance(value, list) else []


def _each_scored(line: Mapping[str, Any], value: object, metric: str, place: tuple[str, str]) -> dict[str, Any]:
    """The reply and its samples if the metric is a list with a score of each response; empty if it is not."""
    scores: list[object] = cast("list[object]", value) if isinstance(value, list) else []
    for texts in (_texts(line.get("filtered_resps")), _texts(line.get("resps"))):
        if scores and len(texts) == len(scores):
            known = [score_of(score, metric, *place) for score in scores]
            first, *further = [
                {"answer": text} | ({} if score is None else {"score": score})
                for text, score in zip(texts, known, strict=True)
            ]
            return {**first, "samples": further} if further else first
    return {}


def _answered(line: Mapping[str, Any], score: float | None) -> dict[str, Any]:
    """The reply of a model that wrote text: the filter's answer, and further samples if there are several responses."""
    given, responses = _texts(line.get("filtered_resps")), _texts(line.get("resps"))
    scored = {} if score is None else {"score": score}
    if not given:
        return scored
    if len(given) > 1:  # the filter kept several, and the metric is of all of them
        return {"answer": given[0], "samples": [{"answer": text} for text in given[1:]]}
    (answer,) = given
    if not responses or responses == [answer]:
        return {"answer": answer, **scored}
    first, *further = responses
    if further and _is_vote(line.get("filter"), answer, responses):
        return {"answer": answer, **scored, "responses": responses}
    reply: dict[str, Any] = {"answer": answer, **scored} | ({"response": first} if first != answer else {})
    if further:
        same = dict(reply)
        reply["samples"] = [dict(same) if text == first else {"answer": text} for text in further]
    return reply


def _is_vote(name: object, answer: str, responses: Sequence[str]) -> bool:
    """Whether the answer is a vote's, not the first response's: by the filter's name, or because only others contain it."""
    return str(name).startswith("maj") or (answer not in responses[0] and answer in responses[1:])


def _texts(responses: object) -> list[str]:
    """The responses to a document's only request, nested in a list or not; empty if it has several requests."""
    found = _listed(responses)
    if len(found) == 1 and isinstance(found[0], list):
        found = cast("list[object]", found[0])
    elif len(found) > 1:
        return []
    texts = [text for text in found if isinstance(text, str)]
    return texts if len(texts) == len(found) else []


def _likelihoods(line: Mapping[str, Any], requests: list[list[object]]) -> list[tuple[str, float]]:
    """Each choice and its log-likelihood; empty if the model wrote text, or if they cannot be read.

    A request is a prompt and a continuation, its response `[log-likelihood, is greedy]`, as texts in newer files. A
    request with an empty prompt, after one with a prompt, measures a choice by itself and is not a choice.
    """
    values = _listed(line.get("filtered_resps")) or [(_listed(one) or [None])[0] for one in _listed(line.get("resps"))]
    if len(values) != len(requests):
        return []
    found: list[tuple[str, float]] = []
    for (prompt, *rest), value in zip(requests, values, strict=True):
        parts = _listed(value)
        if len(parts) == 1:  # in a list of its own
            parts = _listed(parts[0])
        if not rest or not isinstance(rest[0], str) or len(parts) != 2:
            return []
        try:
            likelihood = float(cast("str", parts[0]))
        except (ValueError, TypeError):
            return []
        if prompt or not requests[0][0]:
            found.append((rest[0], likelihood))
    return found


def _choice_fields(likelihoods: Sequence[tuple[str, float]], metric: str, *, confident: bool) -> dict[str, Any]:
    """The reply's keys from its choices' log-likelihoods. The choice is the one that the metric takes."""
    values = [value for _, value in likelihoods]
    taken = max(range(len(values)), key=lambda n: values[n] / _length(likelihoods[n][0], metric))
    reply: dict[str, Any] = {
        "signals": {"logprob": values[taken]}, "logprobs": values, "choice": likelihoods[taken][0],
    }  # fmt: skip
    if confident and len(values) > 1 and math.isfinite(top := max(values)) and not any(map(math.isnan, values)):
        reply["confidence"] = math.exp(values[taken] - top) / math.fsum(math.exp(value - top) for value in values)
    return reply


def _length(choice: str, metric: str) -> int:
    """The divisor of a choice's log-likelihood: its characters for `acc_norm`, its bytes for `acc_bytes`, else 1."""
    bare = choice.lstrip()  # the space after the prompt does not count
    if metric == "acc_norm":
        return max(1, len(bare))
    return max(1, len(bare.encode("utf-8", "replace"))) if metric == "acc_bytes" else 1
