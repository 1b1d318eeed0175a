"""lm-evaluation-harness: `samples_<task>_<time>.jsonl`, one file a task and model, as `--log_samples` writes it.

A line: `doc_id, doc, target, arguments, resps, filtered_resps, filter, metrics`, hashes, and one key a metric. The same
doc_id comes once for each filter; older versions wrote them in turn, without a name, and the whole file as one JSON
list. It says neither which model it was nor what it cost. What is kept beside what we know: `doc`, `doc_hash`, and
every metric under the reply's `metrics`.

Several responses (`repeats`): the reply is the first, `samples` are the further ones. A filter's answer and a score
were logged once, so a further sample has its raw response, and a score only where it is word for word the first one.
Where the filter kept several, the metric is of all of them together, and none has a score. A vote (`maj@8`) is no
sample: the reply is the vote's answer and score, and `responses` are what was voted on. Where a filter took a part of
a response, the whole of it is the reply's `response`.

Of a multiple choice only log-likelihoods were recorded, no text, so such a reply has no answer. They are `logprobs`, in
the choices' order; `choice` is the one that the metric takes, and `signals.logprob` is its log-likelihood. With
`--confidence logprob` its share of their softmax is the reply's confidence.
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
_OURS = {"doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics"} | {
    "doc_hash", "prompt_hash", "target_hash",
}  # fmt: skip

_Lines = list[tuple[str, dict[str, Any]]]


def read_lm_eval(path: str, options: Options, rung: str | None) -> Iterator[Row]:
    """The items of one file, with replies of `rung`. Raises CorpusError."""
    if options.confidence not in (None, "logprob"):
        raise ConfigurationError(f"--confidence {options.confidence}: of lm-eval it can only be logprob")
    named = _NAME.fullmatch(Path(path).name)
    task = named["task"] if named else None
    lines = list(json_lines(path))
    if not lines:
        raise CorpusError("the file is empty", where=path)
    chosen = _of_filter(lines, options.filter, path)
    if rung is None:
        where, line = chosen[0]
        _row(line, where, task, "", options)  # what is wrong with the file itself is told first
        hint = f"say it with --rung NAME={path}"
        raise CorpusError("the file does not say which model it was", where=path, hint=hint)
    for where, line in chosen:
        yield _row(line, where, task, rung, options)


def _of_filter(lines: _Lines, wanted: str | None, path: str) -> _Lines:
    """The lines of one filter. Without names it is the file's first, second …: each filter goes through every document."""
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
    score = score_of(line.get(metric), metric, where, name)
    reply: dict[str, Any] = {"metrics": {key: line.get(key) for key in metrics}}
    if likelihoods := _likelihoods(line, requests):
        reply |= {} if score is None else {"score": score}
        reply |= _weighed(likelihoods, metric, confident=options.confidence == "logprob")
    else:
        reply |= _answered(line, score)
    about = {**prompt_fields(prompt), "expected": line.get("target")}
    if task:
        about["task"] = task
    about |= {key: line[key] for key in ("doc", "doc_hash") if key in line}
    check = line.get("doc_hash")
    return Row(name, where, about, {rung: reply}, content_hash=check if isinstance(check, str) else None)


def _numbers(line: Mapping[str, Any]) -> tuple[str, ...]:
    """Older files do not list their metrics: they are the numbers among the other keys."""
    return tuple(key for key, value in line.items() if key not in _OURS and isinstance(value, (int, float)))


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


def _answered(line: Mapping[str, Any], score: float | None) -> dict[str, Any]:
    """The reply of a model that wrote: the filter's answer, and the samples of one that was asked several times."""
    given, responses = _texts(line.get("filtered_resps")), _texts(line.get("resps"))
    scored = {} if score is None else {"score": score}
    if not given:
        return scored
    if len(given) > 1:  # the filter kept several, and one metric is of them all
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
    """Whether a filter's answer is not the first response's: by its name, or for only a further one has such a text."""
    return str(name).startswith("maj") or (answer not in responses[0] and answer in responses[1:])


def _texts(responses: object) -> list[str]:
    """The responses to a document's one request, bare or in a list of its own; none where there are several requests."""
    found = _listed(responses)
    if len(found) == 1 and isinstance(found[0], list):
        found = cast("list[object]", found[0])
    elif len(found) > 1:
        return []
    texts = [text for text in found if isinstance(text, str)]
    return texts if len(texts) == len(found) else []


def _likelihoods(line: Mapping[str, Any], requests: list[list[object]]) -> list[tuple[str, float]]:
    """Each choice and its log-likelihood; none where the model wrote, or where they cannot be read.

    A request is a prompt and a continuation, its response `[log-likelihood, is greedy]`, as texts in newer files. One
    with an empty prompt, after one with a prompt, asks how likely a choice is by itself: it is not a choice.
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


def _weighed(likelihoods: Sequence[tuple[str, float]], metric: str, *, confident: bool) -> dict[str, Any]:
    """What a reply holds of its choices' log-likelihoods; the choice is the one that the metric takes."""
    values = [value for _, value in likelihoods]
    taken = max(range(len(values)), key=lambda n: values[n] / _length(likelihoods[n][0], metric))
    joined: dict[str, Any] = {
        "signals": {"logprob": values[taken]}, "logprobs": values, "choice": likelihoods[taken][0],
    }  # fmt: skip
    if confident and len(values) > 1 and math.isfinite(top := max(values)) and not any(map(math.isnan, values)):
        joined["confidence"] = math.exp(values[taken] - top) / math.fsum(math.exp(value - top) for value in values)
    return joined


def _length(choice: str, metric: str) -> int:
    """What a metric divides a choice's log-likelihood by: `acc_norm` its characters, `acc_bytes` its bytes, others nothing."""
    bare = choice.lstrip()  # what parts it from the prompt is not counted
    if metric == "acc_norm":
        return max(1, len(bare))
    return max(1, len(bare.encode("utf-8", "replace"))) if metric == "acc_bytes" else 1
