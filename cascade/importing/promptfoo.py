"""promptfoo: the JSON of `promptfoo eval -o results.json`, `results.results[]`, or its lines (`.jsonl`).

A result: `testIdx, promptId, provider {id, label}, prompt {raw}, vars, testCase, response {output, cached, cost}, score,
namedScores, failureReason, cost, tokenUsage {prompt, completion, cached}`. A result that failed with an error (not an assertion)
is no reply. A reply from promptfoo's own cache gets neither usage nor cost, for they are not the model's.

With `--repeat` each repetition is a test of its own, with another testIdx: tests that are equal in all else are one item, and
the replies of the second and later ones further samples.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, cast

from cascade.core.errors import CorpusError
from cascade.importing.rows import (
    Options,
    Row,
    choose,
    name_hint,
    number,
    object_at,
    prompt_fields,
    score_of,
    text_or_none,
)
from cascade.importing.sources import json_document, json_lines, objects_in

__all__ = ["read_promptfoo"]

_FAILED: Final = 2  # ResultFailureReason.ERROR; 1 is a failed assertion: a wrong answer


def read_promptfoo(path: str, options: Options, _rung: str | None) -> Iterator[Row]:
    """The items of one run, one per test and prompt, with every provider's reply. Raises CorpusError."""
    results = list(json_lines(path) if path.removesuffix(".gz").endswith(".jsonl") else _results(path))
    prompts: dict[str, int] = {}
    for _, result in results:
        prompts.setdefault(_prompt_key(result), len(prompts))
    first: dict[str, str] = {}
    for where, result in results:
        yield _row(result, where, prompts, first, options)


def _results(path: str) -> Iterable[tuple[str, dict[str, Any]]]:
    document = json_document(path)
    found: object = document.get("results")
    if isinstance(found, dict):
        found = cast("dict[str, Any]", found).get("results")
    if not isinstance(found, list):
        hint = f"write it with promptfoo eval -o FILE.json; {name_hint('results', document)}"
        raise CorpusError("has no results.results[]", where=path, hint=hint)
    return objects_in(cast("list[object]", found), f"{path}:results")


def _row(
    result: dict[str, Any], where: str, prompts: Mapping[str, int], first: dict[str, str], options: Options
) -> Row:
    """A result as a row. `first`: the number of the first of equal tests, by what they ask; the result's is added."""
    if (test := text_or_none(result.get("testIdx"))) is None:
        raise CorpusError(
            "has no testIdx",
            where=where,
            hint=f"{name_hint('testIdx', result)}; export it with a promptfoo that writes version 3",
        )
    asked = [_prompt_key(result), result.get("prompt"), result.get("vars"), result.get("testCase")]
    index, test = test, first.setdefault(json.dumps(asked, sort_keys=True), test)
    repeat = "" if index == test else index
    name = test if len(prompts) == 1 else f"{test}/{prompts[_prompt_key(result)]}"
    raw = object_at(result, "prompt").get("raw")
    if not isinstance(raw, str):
        raise CorpusError("prompt.raw: is not a text", where=where, item=name)
    fields = prompt_fields(raw)
    if len(prompts) > 1:
        fields["group"] = test  # several wordings of one test: never split between halves
    if (expected := _expected(result)) is not None:
        fields["expected"] = expected
    if vars_ := result.get("vars"):
        fields["vars"] = vars_
    model, response = _provider(result, where), object_at(result, "response")
    if result.get("failureReason") == _FAILED or not response or response.get("error"):
        return Row(name, where, fields, failed=(model,))
    return Row(name, where, fields, {model: _reply(result, response, options, where, name)}, repeat=repeat)


def _reply(
    result: dict[str, Any], response: Mapping[str, Any], options: Options, where: str, item: str
) -> dict[str, Any]:
    reply: dict[str, Any] = {}
    named = object_at(result, "namedScores")
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
    tokens = object_at(result, "tokenUsage")
    sent, received = tokens.get("prompt"), tokens.get("completion")
    if isinstance(sent, int) and isinstance(received, int) and (sent or received) and not tokens.get("cached"):
        reply["usage"] = {"input_tokens": sent, "output_tokens": received}
    # The result's cost is 0 if the provider reported none, so only a 0 of the response is a price.
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
    """What distinguishes prompts: the label of the template. `promptIdx` counts columns, so it differs by provider too."""
    return str(object_at(result, "prompt").get("label") or result.get("promptId") or "")


def _expected(result: dict[str, Any]) -> object:
    """The value of the test's only assertion if that is `equals`: only this is a reference answer."""
    checks = object_at(result, "testCase").get("assert")
    only = (
        cast("list[object]", checks)[0] if isinstance(checks, list) and len(cast("list[object]", checks)) == 1 else None
    )
    found = cast("dict[str, Any]", only) if isinstance(only, dict) else {}
    return found.get("value") if found.get("type") == "equals" else None
