"""Join the rows of several sources by item id into one corpus, and count every gap."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Final, cast

from pydantic_core import to_json

from cascade.core.errors import CorpusError, RequestError
from cascade.core.messages import Request
from cascade.core.requests import read_messages
from cascade.core.triage import check_request
from cascade.corpora.decoding import LineError, TooDeep, decode_item
from cascade.corpora.items import Item, LadderEntry, Manifest
from cascade.importing.estimating import ESTIMATE, list_prices, with_estimates
from cascade.importing.rows import Row

__all__ = ["Imported", "Joiner", "SampleCounts", "count_missing", "count_samples"]

_UNSTORABLE: Final = (
    "holds what JSON cannot (an unpaired surrogate, which is half a character, or bytes) or nests too deep"
)


@dataclass(frozen=True, slots=True)
class SampleCounts:
    """The samples of a rung beyond its replies: how many, without a score, and without both cost and usage."""

    further: int
    without_score: int = 0
    without_cost: int = 0


@dataclass(frozen=True, slots=True)
class Imported:
    """An imported corpus, and what the sources lacked.

    `missing`: how many items have no reply, by rung; `failed`: how many of them because the call failed. `left_out`: items
    without every rung's reply that were left out. `unusable`: items that cannot be asked or stored, and were left out;
    `first_problem`: the first one's reason. `differing`: items with another input in a later source (the first is kept).
    `other_models`: models that are not on the ladder. `without`: how many replies have no confidence, score or cost, by
    rung. `unmapped`: columns that no `--map` names. `nulled`: items with NaN or Infinity, which became null. `estimated`:
    replies whose usage or cost is an estimate. `samples`: how many further samples each rung has, and how many of them lack
    something. `graded`: answers that `grader` graded; `ungraded`: those that it could not grade.
    """

    manifest: Manifest
    items: tuple[Item, ...]
    missing: Mapping[str, int]
    failed: Mapping[str, int]
    left_out: int
    unusable: int
    differing: int
    other_models: tuple[str, ...]
    without: Mapping[str, Mapping[str, int]]
    unmapped: tuple[str, ...] = ()
    first_problem: str = ""
    nulled: int = 0
    estimated: int = 0
    samples: Mapping[str, SampleCounts] = field(default_factory=dict[str, SampleCounts])
    graded: int = 0
    ungraded: int = 0


@dataclass(slots=True)
class _Joined:
    where: str
    fields: dict[str, Any]
    content_hash: str | None
    replies: dict[str, dict[str, Mapping[str, Any]]] = field(default_factory=dict[str, dict[str, Mapping[str, Any]]])
    differs: bool = False

    def reply(self, model: str) -> Mapping[str, Any]:
        """A model's reply; those of further repetitions are its samples."""
        first, *further = self.replies[model].values()
        return {**first, "samples": [*first.get("samples", ()), *further]} if further else first


class Joiner:
    """Collects the rows of each source and makes the corpus of a ladder.

    `model_names`: the model's name for replies that are keyed by a rung's name.
    """

    def __init__(self) -> None:
        self._items: dict[str, _Joined] = {}
        self._failed: Counter[str] = Counter()
        self._models: dict[str, None] = {}
        self._unmapped: dict[str, None] = {}
        self.model_names: dict[str, str] = {}

    @property
    def models(self) -> tuple[str, ...]:
        """All models, in order of appearance."""
        return tuple(self._models)

    def add(self, rows: Iterable[Row]) -> None:
        """Add a source's rows. Raises CorpusError for a second reply of a model, or an id that means two items."""
        for row in rows:
            joined = self._items.setdefault(row.id, _Joined(row.where, {}, row.content_hash))
            if None not in (joined.content_hash, row.content_hash) and joined.content_hash != row.content_hash:
                problem = f"differs from the item with this id at {joined.where}"
                raise CorpusError(problem, where=row.where, item=row.id, hint="import runs of the same task")
            joined.differs |= "input" in joined.fields and joined.fields["input"] != row.fields.get(
                "input", joined.fields["input"]
            )
            joined.fields = {**row.fields, **joined.fields}
            for model, reply in row.replies.items():
                given = joined.replies.setdefault(model, {})
                if row.repeat in given:
                    problem = f"has a second reply of {model!r}"
                    raise CorpusError(problem, where=row.where, item=row.id, hint="import each run once")
                given[row.repeat] = reply
            for model in (*row.replies, *row.failed):
                self._models.setdefault(model)
                if row.model_name and self.model_names.setdefault(model, row.model_name) != row.model_name:
                    problem = f"{model!r} was {self.model_names[model]!r} before, and is {row.model_name!r} here"
                    raise CorpusError(problem, where=row.where, hint="a rung is one model")
            self._failed.update(row.failed)
            self._unmapped.update(dict.fromkeys(row.unmapped))

    def corpus(
        self, manifest: Manifest, models: Mapping[str, str], *, keep_incomplete: bool, estimate_usage: bool = False
    ) -> Imported:
        """The corpus of the manifest's ladder. `models`: each rung's key in the rows. Raises CorpusError."""
        rungs = frozenset(manifest.rungs)
        if self._items and not rungs:
            raise CorpusError(f"none of the {len(self._items)} items has any model's reply", where="import")
        missing, items, unusable = Counter[str](), list[Item](), list[str]()
        rates = list_prices(manifest.ladder) if estimate_usage else {}
        left_out = differing = nulled = marked = 0
        for name, joined in self._items.items():
            replies = {rung: joined.reply(model) for rung, model in models.items() if model in joined.replies}
            absent = [rung for rung in manifest.rungs if rung not in replies]
            missing.update(absent)
            if absent and not (keep_incomplete and replies):
                left_out += 1
                continue
            if (problem := _input_problem(joined.fields.get("input"))) is not None:
                unusable.append(f"{joined.where}: item {name[:80]!r}: {problem}")
                continue
            try:
                if estimate_usage:
                    replies = {
                        rung: with_estimates(joined.fields, reply, rates.get(rung)) for rung, reply in replies.items()
                    }
                item, has_nulls = _item(name, joined, replies, rungs)
            except (ValueError, RecursionError, TooDeep) as error:
                why = str(error) if isinstance(error, TooDeep) else _UNSTORABLE
                unusable.append(f"{joined.where}: item {name[:80]!r}: {why}")
                continue
            items.append(item)
            differing += joined.differs
            nulled += has_nulls
            marked += sum(ESTIMATE in reply for reply in replies.values())
        failed = {rung: self._failed[models[rung]] for rung in manifest.rungs}
        if not items:
            gaps = ", ".join(
                f"{rung} lacks {missing[rung]}" + (f", {failed[rung]} failed" if failed[rung] else "")
                for rung in manifest.rungs
            )
            raise _empty_error(len(self._items), gaps if left_out else "", unusable)
        return Imported(
            manifest=manifest,
            items=tuple(items),
            missing={rung: missing[rung] for rung in manifest.rungs},
            failed=failed,
            left_out=left_out,
            unusable=len(unusable),
            differing=differing,
            other_models=tuple(model for model in self._models if model not in set(models.values())),
            without=count_missing(items, manifest.ladder),
            unmapped=tuple(self._unmapped),
            first_problem=unusable[0] if unusable else "",
            nulled=nulled,
            estimated=marked,
            samples=count_samples(items, manifest.rungs),
        )


def _item(
    name: str, joined: _Joined, replies: Mapping[str, Mapping[str, Any]], rungs: frozenset[str]
) -> tuple[Item, bool]:
    """The item, and whether it had NaN or Infinity. Raises ValueError or TooDeep if a corpus cannot hold it."""
    raw = {**joined.fields, "id": name, "replies": replies}
    line, plain = to_json(raw, inf_nan_mode="null"), to_json(raw, inf_nan_mode="constants")
    if has_nulls := line != plain:
        known = {rung: _finite_reply(reply) for rung, reply in replies.items()}
        line = to_json({**raw, "replies": known}, inf_nan_mode="null")
    try:
        return decode_item(line, rungs), has_nulls
    except TooDeep:
        raise
    except LineError as error:
        raise CorpusError(error.problem, where=joined.where, item=name[:80], hint=error.hint) from None


def _finite_reply(reply: Mapping[str, Any]) -> dict[str, Any]:
    """A reply whose numbers, and those of its samples, are finite where the format has no null."""
    finite = {key: _finite(key, value) for key, value in reply.items()}
    if isinstance(samples := reply.get("samples"), list):
        finite["samples"] = [_finite_reply(sample) for sample in cast("list[dict[str, Any]]", samples)]
    return finite


def _finite(key: str, value: Any) -> Any:
    """A reply's usage or signals without NaN and Infinity, for which the format has no null there; others unchanged."""
    if key not in {"usage", "signals"} or not isinstance(value, dict):
        return value
    numbers = cast("dict[str, object]", value)
    return {name: one for name, one in numbers.items() if not isinstance(one, float) or isfinite(one)}


def _input_problem(given: object) -> str | None:
    """Why an input cannot be asked, as a replay would say; None if it can, or is not an input."""
    try:
        if isinstance(given, (str, list)):
            check_request(Request(messages=read_messages(cast("str | list[dict[str, Any]]", given))))
    except RequestError as problem:
        return str(problem)
    return None


def _empty_error(items: int, gaps: str, unusable: Sequence[str]) -> CorpusError:
    """The error for a corpus without items, with its reason."""
    if not items:
        return CorpusError("the sources have no items", where="import", hint="are they the right files?")
    lacking = f"no item of {items} has a reply of every rung ({gaps})" if gaps else ""
    asked = f"{len(unusable)} of {items} items cannot be used, the first: {unusable[0]}" if unusable else ""
    hint = "are the sources runs of the same items?" if gaps and not unusable else ""
    return CorpusError("; ".join(filter(None, (lacking, asked))), where="import", hint=hint)


def count_samples(items: Sequence[Item], rungs: Iterable[str]) -> dict[str, SampleCounts]:
    """The further samples of each rung that has some."""
    by_rung = {
        rung: [one for item in items if rung in item.replies for one in item.replies[rung].every[1:]] for rung in rungs
    }
    return {
        rung: SampleCounts(
            len(samples),
            sum(one.score is None for one in samples),
            sum(one.cost_usd is None and not one.can_be_priced for one in samples),
        )
        for rung, samples in by_rung.items()
        if samples
    }


def count_missing(items: Iterable[Item], ladder: Iterable[LadderEntry]) -> dict[str, dict[str, int]]:
    """How many replies have no confidence, score or cost, by rung."""
    counts = {entry.rung: {"confidence": 0, "score": 0, "cost_usd": 0} for entry in ladder}
    for item in items:
        for rung, reply in item.replies.items():
            for key in counts[rung]:
                counts[rung][key] += getattr(reply, key) is None
    return counts
