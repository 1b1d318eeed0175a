"""RouterBench: a wide table, CSV or Parquet, with a row per prompt and three columns per model.

`sample_id, prompt, eval_name, <model>` (its score)`, <model>|model_response, <model>|total_cost` (USD). It is published as a
pickle, which is refused without being opened. Other columns are kept as unknown keys.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cascade.core.errors import CorpusError
from cascade.core.text.suggestions import listed
from cascade.importing.rows import Options, Row, name_hint, number, score_of, text_or_none
from cascade.importing.sources import table

__all__ = ["read_routerbench"]

_RESPONSE, _COST = "|model_response", "|total_cost"
_ITEM_COLUMNS = {"sample_id", "prompt", "eval_name", ""}  # the empty name is pandas' index


def read_routerbench(path: str, _options: Options, _rung: str | None) -> Iterator[Row]:
    """The items of a table, with every model's reply. Raises CorpusError."""
    models: tuple[str, ...] = ()
    for where, cells in table(path):
        models = models or _models(cells, where)
        if (name := text_or_none(cells.get("sample_id"))) is None:
            raise CorpusError("has no sample_id", where=where, hint=name_hint("sample_id", cells))
        used = _ITEM_COLUMNS.union(*((model, model + _RESPONSE, model + _COST) for model in models))
        fields: dict[str, Any] = {"input": cells.get("prompt")}
        if task := cells.get("eval_name"):
            fields["task"] = task
        fields |= {key: cell for key, cell in cells.items() if key not in used and cell not in (None, "")}
        replies = {model: reply for model in models if (reply := _reply(cells, model, where, name))}
        yield Row(name, where, fields, replies)


def _models(cells: dict[str, Any], where: str) -> tuple[str, ...]:
    found = [key.removesuffix(_RESPONSE).removesuffix(_COST) for key in cells if key.endswith((_RESPONSE, _COST))]
    if not found:
        hint = f"they are <model>, <model>|model_response, <model>|total_cost; it has {listed(cells)}"
        raise CorpusError("has no model's columns", where=where, hint=hint)
    return tuple(dict.fromkeys(found))


def _reply(cells: dict[str, Any], model: str, where: str, item: str) -> dict[str, Any]:
    score = score_of(_parsed(cells.get(model)), model, where, item)
    cost = number(_parsed(cells.get(model + _COST)), model + _COST, where, item)
    answer = cells.get(model + _RESPONSE)
    reply = {"score": score, "cost_usd": cost, "answer": answer if isinstance(answer, str) and answer else None}
    return {key: value for key, value in reply.items() if value is not None}


def _parsed(cell: object) -> object:
    """The value of a CSV's cell. Empty is None; pandas writes scores as True and False."""
    if not isinstance(cell, str):
        return cell
    if cell in ("", "True", "False"):
        return None if not cell else cell == "True"
    try:
        return float(cell)
    except ValueError:
        return cell
