"""The files that come with `cascade`: its policies and synthetic corpora.

A wheel has them inside the package, under `_shipped/`; a checkout or an editable install has them beside it. Only the
first of the two that exists is searched, so an unrelated `policies/` beside an installed package is never used.
"""

from __future__ import annotations

from glob import has_magic
from pathlib import Path
from typing import Literal

from cascade.core.errors import CorpusError
from cascade.core.text.suggestions import did_you_mean

__all__ = ["Kind", "find_corpus", "names", "shipped"]

Kind = Literal["policies", "corpora"]

_PACKAGE = Path(__file__).resolve().parents[1]
_CHECKOUT: dict[Kind, Path] = {
    "policies": _PACKAGE.parent / "policies",
    "corpora": _PACKAGE.parent / "benchmarks" / "corpora",
}
_SUFFIX: dict[Kind, str] = {"policies": ".yaml", "corpora": ".jsonl.gz"}


def shipped(kind: Kind, name: str) -> Path | None:
    """The file of the shipped policy or corpus `name` (no suffix, no folder), or None."""
    return _folder(kind) / f"{name}{_SUFFIX[kind]}" if name in names(kind) else None


def names(kind: Kind) -> tuple[str, ...]:
    """The names of the shipped files of one kind, sorted; empty if the folder is missing."""
    suffix = _SUFFIX[kind]
    return tuple(sorted(path.name.removesuffix(suffix) for path in _folder(kind).glob(f"*{suffix}")))


def find_corpus(path: str | Path) -> Path:
    """The path itself if it exists, or is a pattern of shards, else the shipped corpus of that name.

    Raises CorpusError for an unknown bare name.
    """
    path = Path(path)
    if path.exists() or path.suffix or len(path.parts) > 1 or has_magic(str(path)):
        return path
    if (found := shipped("corpora", str(path))) is None:
        known = names("corpora")
        hint = f"{did_you_mean(str(path), known)}give a path, or a shipped corpus: {', '.join(known)}"
        raise CorpusError("there is no such file, and no shipped corpus of that name", where=str(path), hint=hint)
    return found


def _folder(kind: Kind) -> Path:
    inside = _PACKAGE / "_shipped"
    return inside / kind if inside.is_dir() else _CHECKOUT[kind]
