"""Make a corpus from other tools' logs: `import_corpus`. A module per format yields `Row`s; `joining` joins them by id.

Read in this order: `rows` (what a format's module yields), any format, `joining`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from cascade.core.errors import ConfigurationError
from cascade.corpora.items import LadderEntry, Manifest
from cascade.importing.csv_map import read_csv
from cascade.importing.estimating import ESTIMATE, METHODS
from cascade.importing.grading import with_grades
from cascade.importing.inspect_logs import read_inspect
from cascade.importing.joining import Imported, Joiner
from cascade.importing.lm_eval import read_lm_eval
from cascade.importing.promptfoo import read_promptfoo
from cascade.importing.routerbench import read_routerbench
from cascade.importing.rows import Options, Row, name_hint

__all__ = ["FORMATS", "Imported", "Options", "import_corpus"]


@dataclass(frozen=True, slots=True)
class _Format:
    """How a format is read. `per_model`: a file holds one model's replies, so a rung may be given by its file.

    `names_models`: the source names its models. `takes`: the options that the format uses.
    """

    read: Callable[[str, Options, str | None], Iterator[Row]]
    per_model: bool = False
    names_models: bool = True
    takes: tuple[str, ...] = ()


FORMATS: Final[Mapping[str, _Format]] = {
    "lm-eval": _Format(read_lm_eval, per_model=True, names_models=False, takes=("filter", "metric", "confidence")),
    "routerbench": _Format(read_routerbench),
    "promptfoo": _Format(read_promptfoo, takes=("metric",)),
    "inspect": _Format(read_inspect, per_model=True, takes=("metric",)),
    "csv": _Format(read_csv, names_models=False, takes=("map",)),
}


def import_corpus(
    format_name: str,
    sources: Sequence[str],
    *,
    name: str,
    rungs: Sequence[tuple[str, str]] = (),
    models: Sequence[tuple[str, str]] = (),
    options: Options | None = None,
    keep_incomplete: bool = False,
) -> Imported:
    """Read `sources`, files of one format, and join them by item id into a corpus called `name`.

    `rungs`: the ladder, cheapest first, as pairs of a rung's name and its file or its model's name in the sources; empty:
    every model, in order of appearance. `models`: pairs of a rung and its model's name, if the source names none or
    another. Items without a reply of every rung are left out, unless `keep_incomplete`. Raises ConfigurationError for
    invalid arguments, CorpusError if a source cannot be read.
    """
    if (chosen := FORMATS.get(format_name)) is None:
        raise ConfigurationError(f"there is no format {format_name!r} ({name_hint(format_name, FORMATS, 'formats:')})")
    options = options or Options()
    _refuse_unused(format_name, chosen, options)
    joiner = Joiner()
    rung_files = {source for _, source in rungs if chosen.per_model and _is_file(chosen, source)}
    for rung, source in rungs:
        if source in rung_files:
            joiner.add(chosen.read(source, options, rung))
    for path in sources:
        if path not in rung_files:  # `--rung haiku=a.jsonl a.jsonl` names one file twice
            joiner.add(chosen.read(path, options, None))
    if not sources and not rung_files:
        if chosen.per_model and rungs:
            raise ConfigurationError(f"--rung {'='.join(rungs[0])}: there is no such file (check the path)")
        raise ConfigurationError(f"no sources given (cascade import {format_name} FILE …)")
    ladder = _with_models(_ladder(chosen, rungs, rung_files, joiner), models)
    keys = {entry.rung: key for entry, key in ladder}
    grader = f"recorded {format_name} {options.metric or 'score'}" + (f" ({options.filter})" if options.filter else "")
    manifest = Manifest(name, tuple(entry for entry, _ in ladder), grader, notes=f"imported from {format_name}")
    imported = joiner.corpus(manifest, keys, keep_incomplete=keep_incomplete, estimate_usage=options.estimate_usage)
    if imported.estimated:
        imported = _with_estimate_notes(imported)
    return with_grades(imported, options.grader) if options.grader else imported


def _with_models(
    ladder: list[tuple[LadderEntry, str]], models: Sequence[tuple[str, str]]
) -> list[tuple[LadderEntry, str]]:
    named, there = dict(models), [entry.rung for entry, _ in ladder]
    for rung, model in models:
        if rung not in there:
            raise ConfigurationError(
                f"--model {rung}={model}: there is no rung {rung!r} ({name_hint(rung, there, 'rungs:')})"
            )
    return [(replace(entry, model=named.get(entry.rung, entry.model)), key) for entry, key in ladder]


def _with_estimate_notes(imported: Imported) -> Imported:
    """With the estimates named in the manifest: in its notes and under a key."""
    count, notes = imported.estimated, imported.manifest.notes
    manifest = replace(
        imported.manifest,
        notes=f"{notes}; usage or cost of {count} replies is an estimate ({', '.join(METHODS.values())})",
        extra={ESTIMATE: {"replies": count, **METHODS}},
    )
    return replace(imported, manifest=manifest)


def _refuse_unused(format_name: str, chosen: _Format, options: Options) -> None:
    for option in ("filter", "metric", "map", "confidence"):
        if getattr(options, "maps" if option == "map" else option) and option not in chosen.takes:
            takes = ", ".join(f"--{one}" for one in chosen.takes) or "no such option"
            raise ConfigurationError(f"--{option}: {format_name} does not use it (leave it out; it takes {takes})")


def _is_file(chosen: _Format, source: str) -> bool:
    """Whether a rung's source is a file. Model names may contain slashes too, so only the disk tells them apart."""
    return not chosen.names_models or Path(source).is_file()


def _ladder(
    chosen: _Format, rungs: Sequence[tuple[str, str]], files: set[str], joiner: Joiner
) -> list[tuple[LadderEntry, str]]:
    """Each rung, and the key of its replies in the rows."""
    found = joiner.models
    if not rungs:
        return [
            (LadderEntry(key, joiner.model_names.get(key, key if chosen.names_models else None)), key) for key in found
        ]
    ladder: dict[str, tuple[LadderEntry, str]] = {}
    for rung, source in rungs:
        if source in files:
            key, model = rung, joiner.model_names.get(rung)
        elif chosen.names_models:
            key = model = source
        else:
            key, model = rung, source
        if key not in found:
            there = name_hint(key, found, "they have")
            raise ConfigurationError(f"--rung {rung}={source}: there is no {key!r} in the sources ({there})")
        if ladder.setdefault(rung, (LadderEntry(rung, model), key))[1] != key:
            raise ConfigurationError(f"--rung {rung}={source}: the rung is given twice (use a different name)")
    return list(ladder.values())
