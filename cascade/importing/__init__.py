"""Make a corpus of records that other tools left: `import_corpus`. A module per format reads `Row`s, `joining` joins them.

Read in this order: `rows` (what a format's module hands on), any format, `joining`.
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
from cascade.importing.inspect_logs import read_inspect
from cascade.importing.joining import Imported, Joiner
from cascade.importing.lm_eval import read_lm_eval
from cascade.importing.promptfoo import read_promptfoo
from cascade.importing.routerbench import read_routerbench
from cascade.importing.rows import Options, Row, name_hint

__all__ = ["FORMATS", "Imported", "Options", "import_corpus"]


@dataclass(frozen=True, slots=True)
class _Format:
    """`per_model`: each file is one model's, so a rung may be said by its file. `names_models`: the source says which.

    `takes`: which of the options it makes use of.
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
    """Read `sources`, files of one format, and join them on the item's id into a corpus called `name`.

    `rungs` is the ladder, cheapest first: pairs of a rung's name and what it is in the sources, a file of its own or a
    model's name; none: every model found, in the order they are met. `models`: pairs of a rung and its model's name, where
    the source has none or another one. Items that lack a rung's reply are left out, or
    kept with `keep_incomplete`. Raises ConfigurationError for what cannot be meant, CorpusError for what cannot be read.
    """
    if (chosen := FORMATS.get(format_name)) is None:
        raise ConfigurationError(f"there is no format {format_name!r} ({name_hint(format_name, FORMATS, 'formats:')})")
    options = options or Options()
    _refuse_unused(format_name, chosen, options)
    joiner = Joiner()
    of_their_own = {said for _, said in rungs if chosen.per_model and _is_file(chosen, said)}
    for rung, said in rungs:
        if said in of_their_own:
            joiner.add(chosen.read(said, options, rung))
    for path in sources:
        if path not in of_their_own:  # `--rung haiku=a.jsonl a.jsonl` says one file twice
            joiner.add(chosen.read(path, options, None))
    if not sources and not of_their_own:
        if chosen.per_model and rungs:
            raise ConfigurationError(f"--rung {'='.join(rungs[0])}: there is no such file (check the path)")
        raise ConfigurationError(f"there is nothing to read (cascade import {format_name} FILE …)")
    ladder = _with_models(_ladder(chosen, rungs, of_their_own, joiner), models)
    keys = {entry.rung: key for entry, key in ladder}
    grader = f"recorded {format_name} {options.metric or 'score'}" + (f" ({options.filter})" if options.filter else "")
    manifest = Manifest(name, tuple(entry for entry, _ in ladder), grader, notes=f"imported from {format_name}")
    imported = joiner.corpus(manifest, keys, keep_incomplete=keep_incomplete, estimate_usage=options.estimate_usage)
    return _marked(imported) if imported.estimated else imported


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


def _marked(imported: Imported) -> Imported:
    """With what was estimated in its manifest, in words and as a key."""
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
            raise ConfigurationError(f"--{option}: {format_name} makes no use of it (leave it out; it takes {takes})")


def _is_file(chosen: _Format, said: str) -> bool:
    """A model's name may have a slash too, so only the disk tells them apart; where no model has a name, it is a file."""
    return not chosen.names_models or Path(said).is_file()


def _ladder(
    chosen: _Format, rungs: Sequence[tuple[str, str]], files: set[str], joiner: Joiner
) -> list[tuple[LadderEntry, str]]:
    """Each rung, and the name that its replies have in the rows."""
    found = joiner.models
    if not rungs:
        return [
            (LadderEntry(key, joiner.model_names.get(key, key if chosen.names_models else None)), key) for key in found
        ]
    ladder: dict[str, tuple[LadderEntry, str]] = {}
    for rung, said in rungs:
        if said in files:
            key, model = rung, joiner.model_names.get(rung)
        elif chosen.names_models:
            key = model = said
        else:
            key, model = rung, said
        if key not in found:
            there = name_hint(key, found, "they have")
            raise ConfigurationError(f"--rung {rung}={said}: there is no {key!r} in the sources ({there})")
        if ladder.setdefault(rung, (LadderEntry(rung, model), key))[1] != key:
            raise ConfigurationError(f"--rung {rung}={said}: the rung is there already (give each a name of its own)")
    return list(ladder.values())
