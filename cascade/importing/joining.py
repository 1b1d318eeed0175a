"""Join what several sources tell on the item's id: one corpus, with every gap counted and told."""

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
from cascade.importing.estimating import ESTIMATE, estimated, prices_of
from cascade.importing.rows import Row

__all__ = ["Imported", "Joiner"]

_UNSTORABLE: Final = (
    "holds what JSON cannot (an unpaired surrogate, which is half a character, or bytes) or nests too deep"
)


@dataclass(frozen=True, slots=True)
class Imported:
    """A corpus made of other people's records, and what was not in them.

    `missing`: how many items have no reply of a rung, `failed` of them because its call gave an error. `left_out`: items
    that lack one and were left out; `unusable`: left out, for their input cannot be asked or what they hold not be stored, `why` for the first. `differing`: items whose input reads
    otherwise in another source (the first one's is kept). `other_models`: found, and not on the ladder. `without`: how
    many replies have no confidence, score or cost, by rung. `unmapped`: columns of the tables that no `--map` names.
    `nulled`: items that held NaN or Infinity, which is null now. `estimated`: replies whose usage or cost is an estimate.
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
    why: str = ""
    nulled: int = 0
    estimated: int = 0


@dataclass(slots=True)
class _Joined:
    where: str
    about: dict[str, Any]
    check: str | None
    replies: dict[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    differs: bool = False


class Joiner:
    """Takes rows in, one source after the other, and gives the corpus of a ladder.

    `named`: the models' own names, for those that were met under a rung's.
    """

    def __init__(self) -> None:
        self._items: dict[str, _Joined] = {}
        self._failed: Counter[str] = Counter()
        self._models: dict[str, None] = {}
        self._unmapped: dict[str, None] = {}
        self.named: dict[str, str] = {}

    @property
    def models(self) -> tuple[str, ...]:
        """Every model that was met, in that order."""
        return tuple(self._models)

    def add(self, rows: Iterable[Row]) -> None:
        """Take a source's rows in. Raises CorpusError for a reply that is there twice, or an id that means two items."""
        for row in rows:
            held = self._items.setdefault(row.id, _Joined(row.where, {}, row.check))
            if None not in (held.check, row.check) and held.check != row.check:
                problem = f"is another item than that of this id at {held.where}"
                raise CorpusError(problem, where=row.where, item=row.id, hint="import runs of the same task")
            held.differs |= "input" in held.about and held.about["input"] != row.about.get("input", held.about["input"])
            held.about = {**row.about, **held.about}
            for model, reply in row.replies.items():
                if model in held.replies:
                    problem = f"has a second reply of {model!r}"
                    raise CorpusError(problem, where=row.where, item=row.id, hint="import each run once")
                held.replies[model] = reply
            for model in (*row.replies, *row.failed):
                self._models.setdefault(model)
                if row.named and self.named.setdefault(model, row.named) != row.named:
                    problem = f"{model!r} was {self.named[model]!r} before, and is {row.named!r} here"
                    raise CorpusError(problem, where=row.where, hint="a rung is one model")
            self._failed.update(row.failed)
            self._unmapped.update(dict.fromkeys(row.unmapped))

    def corpus(
        self, manifest: Manifest, models: Mapping[str, str], *, keep_incomplete: bool, estimate_usage: bool = False
    ) -> Imported:
        """The corpus of the manifest's ladder, `models` naming each rung's model in the sources. Raises CorpusError."""
        rungs = frozenset(manifest.rungs)
        if self._items and not rungs:
            raise CorpusError(f"none of the {len(self._items)} items has any model's reply", where="import")
        missing, items, unusable = Counter[str](), list[Item](), list[str]()
        rates = prices_of(manifest.ladder) if estimate_usage else {}
        left_out = differing = nulled = marked = 0
        for name, held in self._items.items():
            replies = {rung: held.replies[model] for rung, model in models.items() if model in held.replies}
            absent = [rung for rung in manifest.rungs if rung not in replies]
            missing.update(absent)
            if absent and not (keep_incomplete and replies):
                left_out += 1
                continue
            if (problem := _why_not(held.about.get("input"))) is not None:
                unusable.append(f"{held.where}: item {name[:80]!r}: {problem}")
                continue
            try:
                if estimate_usage:
                    replies = {rung: estimated(held.about, reply, rates.get(rung)) for rung, reply in replies.items()}
                item, holes = _item(name, held, replies, rungs)
            except (ValueError, RecursionError, TooDeep) as error:
                why = str(error) if isinstance(error, TooDeep) else _UNSTORABLE
                unusable.append(f"{held.where}: item {name[:80]!r}: {why}")
                continue
            items.append(item)
            differing += held.differs
            nulled += holes
            marked += sum(ESTIMATE in reply for reply in replies.values())
        failed = {rung: self._failed[models[rung]] for rung in manifest.rungs}
        if not items:
            gaps = ", ".join(
                f"{rung} lacks {missing[rung]}" + (f", {failed[rung]} failed" if failed[rung] else "")
                for rung in manifest.rungs
            )
            raise _nothing(len(self._items), gaps if left_out else "", unusable)
        return Imported(
            manifest=manifest,
            items=tuple(items),
            missing={rung: missing[rung] for rung in manifest.rungs},
            failed=failed,
            left_out=left_out,
            unusable=len(unusable),
            differing=differing,
            other_models=tuple(model for model in self._models if model not in set(models.values())),
            without=_without(items, manifest.ladder),
            unmapped=tuple(self._unmapped),
            why=unusable[0] if unusable else "",
            nulled=nulled,
            estimated=marked,
        )


def _item(
    name: str, held: _Joined, replies: Mapping[str, Mapping[str, Any]], rungs: frozenset[str]
) -> tuple[Item, bool]:
    """The item, and whether anything of it was NaN or Infinity. Raises ValueError or TooDeep for what a corpus cannot hold."""
    raw = {**held.about, "id": name, "replies": replies}
    line, plain = to_json(raw, inf_nan_mode="null"), to_json(raw, inf_nan_mode="constants")
    if holes := line != plain:
        known = {rung: {key: _finite(key, value) for key, value in reply.items()} for rung, reply in replies.items()}
        line = to_json({**raw, "replies": known}, inf_nan_mode="null")
    try:
        return decode_item(line, rungs), holes
    except TooDeep:
        raise
    except LineError as error:
        raise CorpusError(error.problem, where=held.where, item=name[:80], hint=error.hint) from None


def _finite(key: str, value: Any) -> Any:
    """Without the numbers that cannot be stored, where the format has no null: in a reply's usage and signals."""
    if key not in {"usage", "signals"} or not isinstance(value, dict):
        return value
    held = cast("dict[str, object]", value)
    return {name: one for name, one in held.items() if not isinstance(one, float) or isfinite(one)}


def _why_not(given: object) -> str | None:
    """Why an input cannot be asked, as a replay would say it; None where it can, or is no input at all."""
    try:
        if isinstance(given, (str, list)):
            check_request(Request(messages=read_messages(cast("str | list[dict[str, Any]]", given))))
    except RequestError as problem:
        return str(problem)
    return None


def _nothing(items: int, gaps: str, unusable: Sequence[str]) -> CorpusError:
    """The error for a corpus without items, with the true reason."""
    if not items:
        return CorpusError("there is no item in the sources", where="import", hint="are they the right files?")
    lacking = f"no item of {items} has a reply of every rung ({gaps})" if gaps else ""
    asked = f"{len(unusable)} of {items} items cannot be used, the first: {unusable[0]}" if unusable else ""
    hint = "are the sources runs of the same items?" if gaps and not unusable else ""
    return CorpusError("; ".join(filter(None, (lacking, asked))), where="import", hint=hint)


def _without(items: Iterable[Item], ladder: Iterable[LadderEntry]) -> dict[str, dict[str, int]]:
    counts = {entry.rung: {"confidence": 0, "score": 0, "cost_usd": 0} for entry in ladder}
    for item in items:
        for rung, reply in item.replies.items():
            for key in counts[rung]:
                counts[rung][key] += getattr(reply, key) is None
    return counts
