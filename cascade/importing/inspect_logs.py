"""inspect: evaluation logs, as JSON or as `.eval`, a zip with an entry a sample (packed with deflate or zstd).

A log: `eval {task, model}` and samples: `id, epoch, input, target, output {completion, choices, usage}, scores {<scorer>:
{value}}, model_usage {<model>: {input_tokens, …, total_cost}}, error, attachments`. In the zip the header is `header.json`
(`_journal/start.json` in an unfinished log), and each sample is `samples/<id>_epoch_<n>.json`. A log names its model and has
no confidence. Each epoch after the first is an item of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

from cascade.core.errors import CorpusError
from cascade.core.text.suggestions import listed
from cascade.importing.rows import (
    Options,
    Row,
    choose,
    conversation_fields,
    name_hint,
    number,
    object_at,
    score_of,
    text_or_none,
)
from cascade.importing.sources import json_document, objects_in, parse_object
from cascade.importing.zips import Zip

__all__ = ["read_inspect"]

_SAMPLE = re.compile(r"samples/.+_epoch_\d+\.json")
_HEADERS = ("header.json", "_journal/start.json", "start.json")
_LETTERS: Final = {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0}  # correct, incorrect, partial, no answer
_WORDS: Final = {"yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}
_ATTACHED = "attachment://"


def read_inspect(path: str, options: Options, rung: str | None) -> Iterator[Row]:
    """The items of one log, with its model's replies, keyed by `rung` if given. Raises CorpusError."""
    header, samples = _open_eval(path) if path.endswith(".eval") else _open_json(path)
    spec = object_at(header, "eval")
    model, task = spec.get("model"), spec.get("task")
    if not isinstance(model, str) or not isinstance(task, str):
        hint = f"is it a log of inspect? it has {listed(header)}" if not spec else f"its eval has {listed(spec)}"
        raise CorpusError("names no eval.model and eval.task", where=path, hint=hint)
    for where, sample in samples:
        yield _row(sample, where, (task, model, rung or model), options)


def _open_json(path: str) -> tuple[dict[str, Any], Iterator[tuple[str, dict[str, Any]]]]:
    log = json_document(path)
    samples = log.get("samples")
    if not isinstance(samples, list):
        raise CorpusError("has no samples", where=path, hint="is it a log of inspect, written with --log-samples?")
    return log, objects_in(cast("list[object]", samples), f"{path}:samples")


def _open_eval(path: str) -> tuple[dict[str, Any], Iterator[tuple[str, dict[str, Any]]]]:
    with Zip(path) as opened:
        header = next((name for name in _HEADERS if name in opened.names), None)
        if header is None:
            raise CorpusError("has no header.json", where=path, hint="is it a log of inspect?")
        log = parse_object(opened.read(header), f"{path}:{header}")

    def each() -> Iterator[tuple[str, dict[str, Any]]]:
        with Zip(path) as opened:
            for name in opened.names:
                if _SAMPLE.fullmatch(name):
                    yield f"{path}:{name}", parse_object(opened.read(name), f"{path}:{name}")

    return log, each()


def _row(sample: dict[str, Any], where: str, names: tuple[str, str, str], options: Options) -> Row:
    task, model, key = names
    if (given := text_or_none(sample.get("id"))) is None:
        raise CorpusError("has no id", where=where, hint=name_hint("id", sample))
    epoch = sample.get("epoch", 1)
    name = f"{task}/{given}" if epoch == 1 else f"{task}/{given}#{epoch}"
    attached = object_at(sample, "attachments")
    fields: dict[str, Any] = {"task": task, "expected": sample.get("target")}
    fields |= _input(sample.get("input"), attached)
    fields |= {key: sample[key] for key in ("choices", "metadata") if sample.get(key)}
    if sample.get("error") is not None or sample.get("invalidation") is not None:
        return Row(name, where, fields, failed=(key,), model_name=model)
    return Row(name, where, fields, {key: _reply(sample, attached, model, options, (where, name))}, model_name=model)


def _input(given: object, attached: Mapping[str, Any]) -> dict[str, Any]:
    """The request: a text or a conversation."""
    if not isinstance(given, list):
        return {"input": _resolve(given, attached)}
    turns = [cast("dict[str, Any]", turn) for turn in cast("list[object]", given) if isinstance(turn, dict)]
    return conversation_fields(
        [{"role": turn.get("role"), "content": _resolve(turn.get("content"), attached)} for turn in turns]
    )


def _resolve(value: Any, attached: Mapping[str, Any]) -> Any:
    """A value with references to `attachments`, which hold long texts, replaced by those texts."""
    if isinstance(value, str) and value.startswith(_ATTACHED):
        return attached.get(value.removeprefix(_ATTACHED), value)
    if isinstance(value, list):
        return [_resolve(part, attached) for part in cast("list[object]", value)]
    if isinstance(value, dict):
        return {key: _resolve(part, attached) for key, part in cast("dict[str, object]", value).items()}
    return value


def _reply(
    sample: dict[str, Any], attached: Mapping[str, Any], model: str, options: Options, place: tuple[str, str]
) -> dict[str, Any]:
    where, item = place
    output, reply = object_at(sample, "output"), dict[str, Any]()
    if (answer := _completion(output, attached)) is not None:
        reply["answer"] = answer
    scores = object_at(sample, "scores")
    if scores:
        scorer, _, part = (
            (options.metric or "").partition(".") if options.metric not in scores else (options.metric, "", "")
        )
        scorer = choose(scorer or None, tuple(scores), "metric", where)
        value = object_at(scores, scorer).get("value")
        value = cast("dict[str, Any]", value).get(part) if part and isinstance(value, dict) else value
        if (score := _score(value, scorer, where, item)) is not None:
            reply["score"] = score
        reply["metrics"] = {name: object_at(scores, name).get("value") for name in scores}
    usage = object_at(object_at(sample, "model_usage"), model) or object_at(output, "usage")
    if (tokens := _usage(usage)) is not None:
        reply["usage"] = tokens
    if (cost := number(usage.get("total_cost"), "total_cost", where, item)) is not None:
        reply["cost_usd"] = cost
    return reply


def _completion(output: Mapping[str, Any], attached: Mapping[str, Any]) -> str | None:
    choices = output.get("choices")
    if not isinstance(choices, list) or not choices:  # no reply
        return None
    if isinstance(text := _resolve(output.get("completion"), attached), str) and text:
        return text
    first = cast("list[object]", choices)[0]
    message = object_at(cast("dict[str, Any]", first), "message") if isinstance(first, dict) else {}
    content = _resolve(message.get("content"), attached)
    if isinstance(content, list):
        blocks = [cast("dict[str, Any]", block) for block in cast("list[object]", content) if isinstance(block, dict)]
        content = "\n".join(str(block.get("text", "")) for block in blocks if block.get("type") == "text")
    return content if isinstance(content, str) else None


def _score(value: object, scorer: str, where: str, item: str) -> float | None:
    """A score as inspect reads it. Of a value with several parts `--metric scorer.part` selects one."""
    if isinstance(value, str):
        found = _LETTERS.get(value, _WORDS.get(value.lower()))
        if found is not None:
            return found
        try:
            value = float(value)
        except ValueError:
            raise CorpusError(f"{scorer}: is not a known score", where=where, item=item) from None
    if isinstance(value, dict):
        parts = ", ".join(cast("dict[str, Any]", value))
        raise CorpusError(
            f"{scorer}: has several parts", where=where, item=item, hint=f"choose with --metric {scorer}.X: {parts}"
        )
    return score_of(value, scorer, where, item)


def _usage(usage: Mapping[str, Any]) -> dict[str, int] | None:
    """Billed tokens under the API's names; None if they are unknown.

    Providers differ in whether the input count includes cached tokens. The total tells; if it does not, the usage is
    unknown.
    """
    read, written = (usage.get(f"input_tokens_cache_{way}") or 0 for way in ("read", "write"))
    sent, received, total = (usage.get(key) for key in ("input_tokens", "output_tokens", "total_tokens"))
    if not all(isinstance(count, int) and count >= 0 for count in (read, written, sent, received)):
        return None
    assert isinstance(sent, int)
    assert isinstance(received, int)
    if read or written:
        if total == sent + received and sent >= read + written:
            sent -= read + written
        elif total != sent + received + read + written:
            return None
    tokens = {"input_tokens": sent, "output_tokens": received}
    cached = {"cache_read_input_tokens": read, "cache_creation_input_tokens": written}
    return tokens | {key: count for key, count in cached.items() if count}
