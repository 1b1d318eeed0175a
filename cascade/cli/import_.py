"""`cascade import`: convert other tools' logs to a corpus."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cascade.cli.output import pairs, print_json, stderr
from cascade.core.errors import ConfigurationError
from cascade.corpora import write_corpus
from cascade.corpora.items import RecordedReply
from cascade.importing import Imported, Options, import_corpus
from cascade.importing.estimating import METHODS
from cascade.importing.rows import listed

__all__ = ["ImportOptions", "run_import"]

_ENDINGS = (".jsonl", ".jsonl.gz", ".parquet")


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """The command's arguments; `rungs`, `maps` and `models` are NAME=VALUE texts."""

    format: str
    sources: tuple[str, ...]
    output: Path
    rungs: tuple[str, ...] = ()
    maps: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    filter: str | None = None
    metric: str | None = None
    confidence: str | None = None
    estimate_usage: bool = False
    grader: str | None = None
    name: str | None = None
    keep_incomplete: bool = False
    force: bool = False


def run_import(options: ImportOptions, *, as_json: bool) -> None:
    """Write the corpus; print its size on stdout, and what the sources lacked on stderr."""
    if not options.output.name.endswith(_ENDINGS):
        raise ConfigurationError(f"{options.output}: a corpus ends in {', '.join(_ENDINGS[:-1])} or {_ENDINGS[-1]}")
    if options.output.exists() and not options.force:
        raise ConfigurationError(f"{options.output}: exists (give another -o, or --force)")
    imported = import_corpus(
        options.format,
        options.sources,
        name=options.name or options.output.name.partition(".")[0] or "imported",
        rungs=pairs(options.rungs, "--rung"),
        models=pairs(options.models, "--model"),
        options=Options(
            options.filter,
            options.metric,
            pairs(options.maps, "--map"),
            options.confidence,
            options.estimate_usage,
            options.grader,
        ),
        keep_incomplete=options.keep_incomplete,
    )
    write_corpus(options.output, imported.manifest, imported.items)
    notices, obstacle = tuple(_notices(imported, ordered=bool(options.rungs))), _obstacle(imported)
    if as_json:
        print_json({**_fields(imported, options.output, notices), "cannot_be_replayed": obstacle})
        return
    for notice in notices:
        stderr.print(notice, markup=False)
    rungs = " → ".join(imported.manifest.rungs)
    sys.stdout.write(f"{options.output}: {_items(len(imported.items))}, {rungs}\n")
    if obstacle is not None:
        sys.stdout.write(f"cannot be replayed yet: {obstacle}\n")


def _fields(imported: Imported, path: Path, notices: Sequence[str]) -> dict[str, Any]:
    return {
        "corpus": str(path),
        "name": imported.manifest.name,
        "items": len(imported.items),
        "ladder": [{"rung": entry.rung, "model": entry.model} for entry in imported.manifest.ladder],
        "missing": dict(imported.missing),
        "failed": dict(imported.failed),
        "left_out": imported.left_out,
        "unusable": imported.unusable,
        "nulled": imported.nulled,
        "estimated": imported.estimated,
        "samples": {rung: asdict(counts) for rung, counts in imported.samples.items()},
        "graded": imported.graded,
        "ungraded": imported.ungraded,
        "differing_inputs": imported.differing,
        "other_models": list(imported.other_models),
        "unmapped": list(imported.unmapped),
        "without": {rung: dict(counts) for rung, counts in imported.without.items()},
        "notices": list(notices),
    }


def _notices(imported: Imported, *, ordered: bool) -> Iterator[str]:
    if not ordered:
        yield "the ladder is in the order of the sources; --rung NAME=… gives another order, cheapest first"
    if imported.other_models:
        yield f"not on the ladder: {', '.join(imported.other_models)}"
    if imported.unmapped:
        yield f"not imported, as no --map names them: the columns {listed(imported.unmapped)}"
    for rung, count in imported.missing.items():
        if count:
            failed = f", its call failed in {imported.failed[rung]:,}" if imported.failed[rung] else ""
            yield f"{rung}: no reply in {_items(count)}{failed}"
    if imported.left_out:
        yield f"left out: {_items(imported.left_out)}, because a rung's reply is missing (--keep-incomplete keeps them)"
    if imported.unusable:
        yield f"left out: {_items(imported.unusable)} that cannot be asked or stored, the first: {imported.first_problem}"
    if imported.differing:
        yield f"{_items(imported.differing)} with another text in another source; the first source's text is kept"
    if imported.nulled:
        yield f"{_items(imported.nulled)} held NaN or Infinity, which JSON does not have: null in the corpus"
    yield from _samples(imported)
    yield from _lacking(imported)


def _samples(imported: Imported) -> Iterator[str]:
    for rung, counts in imported.samples.items():
        lacking = [
            f"{count:,} of them without {what}"
            for count, what in (
                (counts.without_score, "a score, so that a vote for one cannot be graded (--grader NAME grades them)"),
                (counts.without_cost, "cost and usage (--estimate-usage estimates them)"),
            )
            if count
        ]
        yield ", ".join((f"{rung} was asked more than once: {counts.further:,} further samples", *lacking))
    if imported.graded or imported.ungraded:
        failed = f"; {imported.ungraded:,} could not be graded" if imported.ungraded else ""
        yield f"graded here, as the source had no score: {imported.graded:,} answers{failed}"


def _lacking(imported: Imported) -> Iterator[str]:
    if imported.estimated:
        by = ", ".join(METHODS.values())
        yield f"estimate: usage or cost of {imported.estimated:,} replies, from the lengths of their texts ({by})"
    replies = {rung: sum(rung in item.replies for item in imported.items) for rung in imported.manifest.rungs}
    top = imported.manifest.rungs[-1]
    priceable = all(reply.can_be_priced for item in imported.items for reply in item.replies.values())
    meanings = {
        "confidence": "below the top rung they never ship",
        "score": "grade them before you replay",
        "cost_usd": "replay with --reprice" if priceable else "not all have usage that could be priced instead",
    }
    for key, so in meanings.items():
        lacking = {rung: counts[key] for rung, counts in imported.without.items() if counts[key]}
        if key == "confidence":
            lacking.pop(top, None)  # the top rung is not asked for a confidence
        if lacking:
            by_rung = ", ".join(f"{rung} {count:,} of {replies[rung]:,}" for rung, count in lacking.items())
            yield f"replies without {key}: {by_rung} ({so})"


def _obstacle(imported: Imported) -> str | None:
    """Why no item can be replayed, and what to add; None if some can."""
    rungs = imported.manifest.rungs
    problems: list[str] = []
    if len(rungs) == 1:
        problems.append(
            f"{rungs[0]} is its only rung, add a stronger one (--rung, or with csv --map NAME.score=COLUMN)"
        )
    if bare := _missing_everywhere(imported, lambda reply: reply.score is not None):
        problems.append(f"no score ({bare}), add one to every reply")
    unpaid = _missing_everywhere(imported, lambda reply: reply.cost_usd is not None)
    unused = _missing_everywhere(imported, lambda reply: reply.can_be_priced)
    if unpaid and unused:
        way = "" if imported.estimated else ", or estimate the usage: --estimate-usage"
        problems.append(f"no cost ({unpaid}) and no usage ({unused}), add cost_usd, or input and output tokens{way}")
    return "; ".join(problems) or None


def _missing_everywhere(imported: Imported, known: Callable[[RecordedReply], bool]) -> str:
    """How many items lack a known value, by rung; empty if some item has it for every rung."""
    lacking = dict.fromkeys(imported.manifest.rungs, 0)
    for item in imported.items:
        without = [rung for rung in lacking if rung not in item.replies or not known(item.replies[rung])]
        if not without:
            return ""
        for rung in without:
            lacking[rung] += 1
    return ", ".join(f"{rung} lacks {count:,} of {len(imported.items):,}" for rung, count in lacking.items() if count)


def _items(count: int) -> str:
    return "1 item" if count == 1 else f"{count:,} items"
