"""Where the files that come with `cascade` are: its policies and its synthetic corpora.

A wheel carries them inside the package, under `_shipped/`; a checkout (an editable install too) has them beside the
package, where an edit is seen at once. The first of the two that exists is the only one looked at, so a stranger's
`policies/` next to an installed package is never taken for ours.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from cascade.core.errors import CorpusError
from cascade.core.suggestions import did_you_mean

__all__ = ["Kind", "find_corpus", "names", "shipped"]

Kind = Literal["policies", "corpora"]

_PACKAGE = Path(__file__).resolve().parents[1]
_CHECKOUT: dict[Kind, Path] = {
    "policies": _PACKAGE.parent / "policies",
    "corpora": _PACKAGE.parent / "benchmarks" / "corpora",
}
_SUFFIX: dict[Kind, str] = {"policies": ".yaml", "corpora": ".jsonl.gz"}


def shipped(kind: Kind, name: str) -> Path | None:
    """The file of the policy or corpus called `name` (no suffix, no folder), or None when none of that name ships."""
    return _folder(kind) / f"{name}{_SUFFIX[kind]}" if name in names(kind) else None


def names(kind: Kind) -> tuple[str, ...]:
    """The names of all that ships of one kind, sorted; empty where the folder is missing."""
    suffix = _SUFFIX[kind]
    return tuple(sorted(path.name.removesuffix(suffix) for path in _folder(kind).glob(f"*{suffix}")))


def find_corpus(path: str | Path) -> Path:
    """A file; where there is none of this name, the shipped corpus that has it. Raises CorpusError for a bare name of neither."""
    path = Path(path)
    if path.exists() or path.suffix or len(path.parts) > 1:
        return path
    if (found := shipped("corpora", str(path))) is None:
        known = names("corpora")
        hint = f"{did_you_mean(str(path), known)}give a path, or a corpus that ships: {', '.join(known)}"
        raise CorpusError("there is no such file, and none of that name ships", where=str(path), hint=hint)
    return found


def _folder(kind: Kind) -> Path:
    inside = _PACKAGE / "_shipped"
    return inside / kind if inside.is_dir() else _CHECKOUT[kind]
