"""promptfoo: the JSON of `promptfoo eval -o results.json`, `results.results[]`, or its lines (`.jsonl`).

A result: `testIdx, promptId, provider {id, label}, prompt {raw}, vars, testCase, response {output, cached, cost}, score,
namedScores, failureReason, cost, tokenUsage {prompt, completion, cached}`. A result that failed of an error (and not of an
assertion) is no reply. What came out of promptfoo's own cache has neither usage nor cost: neither is the model's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, cast

from cascade.core.errors import CorpusError
from cascade.importing.rows import Options, Row, choose, name_hint, number, prompt_fields, score_of, text_or_none
from cascade.importing.sources import json_document, json_lines

__all__ = ["read_promptfoo"]

_FAILED: Final = 2  # ResultFailureReason.ERROR; 1 is a failed assertion, which is an answer that is wrong


def read_promptfoo(path: str, options: Options, _rung: str | None) -> Iterator[Row]:
    """The items of one run: a test and a prompt each, with every provider's reply. Raises CorpusError."""
    results = list(json_lines(path) if path.removesuffix(".gz").endswith(".jsonl") else _results(path))
    prompts: dict[str, int] = {}
    for _, result in results:
        prompts.setdefault(_prompt_key(result), len(prompts))
    for where, result in results:
        yield _row(result, where, prompts, options)


def _results(path: str) -> Iterable[tuple[str, dict[str, Any]]]:
    document = json_document(path)
    found: object = document.get("results")
    if isinstance(found, dict):
        found = cast("dict[str, Any]", found).get("results")
    if not isinstance(found, list):
        hint = f"write it with promptfoo eval -o FILE.json; {name_hint('results', document)}"
        raise CorpusError("has no results.results[]", where=path, hint=hint)
    for number_, result in enumerate(cast("list[object]", found)):
        where = f"{path}:results[{number_}]"
        if not isinstance(result, dict):
            raise CorpusError("is not a JSON object", where=where)
        yield where, cast("dict[str, Any]", result)


def _row(result: dict[str, Any], where: str, prompts: Mapping[str, int], options: Options) -> Row:
    if (test := text_or_none(result.get("testIdx"))) is None:
        raise CorpusError(
            "has no testIdx",
            where=where,
            hint=f"{name_hint('testIdx', result)}; export it with a promptfoo that writes version 3",
        )
    name = test if len(prompts) == 1 else f"{test}/{prompts[_prompt_key(result)]}"
    raw = _part(result, "prompt").get("raw")
    if not isinstance(raw, str):
        raise CorpusError("prompt.raw: is not a text", where=where, item=name)
    about = prompt_fields(raw)
    if len(prompts) > 1:
        about["group"] = test  # one test in several wordings: never to be split
    if (expected := _expected(result)) is not None:
        about["expected"] = expected
    if vars_ := result.get("vars"):
        about["vars"] = vars_
    model, response = _provider(result, where), _part(result, "response")
    if result.get("failureReason") == _FAILED or not response or response.get("error"):
        return Row(name, where, about, failed=(model,))
    return Row(name, where, about, {model: _reply(result, response, options, where, name)})


def _reply(
    result: dict[str, Any], response: Mapping[str, Any], options: Options, where: str, item: str
) -> dict[str, Any]:
    reply: dict[str, Any] = {}
    named = _part(result, "namedScores")
    if options.metric is None:
        value, metric = result.get("score"), "score"
    else:
        metric = choose(options.metric, tuple(named), "metric", where)
        value = named[metric]
    if (score := score_of(value, metric, where, item)) is not None:
        reply["score"] = score
    if response.get("output") is not None:
        reply["answer"] = response["output"]
    if named:
        reply["metrics"] = named
    if response.get("cached"):
        return reply | {"cached": True}
    tokens = _part(result, "tokenUsage")
    used, made = tokens.get("prompt"), tokens.get("completion")
    if isinstance(used, int) and isinstance(made, int) and (used or made) and not tokens.get("cached"):
        reply["usage"] = {"input_tokens": used, "output_tokens": made}
    # The result's own cost is 0 where the provider told none, so only the response's 0 is a price.
    cost = number(response.get("cost", result.get("cost") or None), "cost", where, item)
    return reply if cost is None else reply | {"cost_usd": cost}


def _provider(result: dict[str, Any], where: str) -> str:
    found = result.get("provider")
    if isinstance(found, dict):
        named = cast("dict[str, Any]", found)
        found = named.get("label") or named.get("id")
    if isinstance(found, str) and found:
        return found
    raise CorpusError("has no provider", where=where)


def _prompt_key(result: dict[str, Any]) -> str:
    """What tells prompts apart: the template's label (`promptIdx` counts columns, so it also tells providers apart)."""
    return str(_part(result, "prompt").get("label") or result.get("promptId") or "")


def _expected(result: dict[str, Any]) -> object:
    """The value of the test's one assertion, where that is equality: only this is a reference answer."""
    checks = _part(result, "testCase").get("assert")
    only = (
        cast("list[object]", checks)[0] if isinstance(checks, list) and len(cast("list[object]", checks)) == 1 else None
    )
    found = cast("dict[str, Any]", only) if isinstance(only, dict) else {}
    return found.get("value") if found.get("type") == "equals" else None


def _part(value: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = value.get(key)
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}
