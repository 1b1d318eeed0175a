"""The documentation's pages as blocks that can be run, in the order in which a reader meets them.

A page's conventions:
- a block with a title (` ```yaml title="policy.yaml" `) is a file of the page's folder;
- ` ```console ` lines that start with `$` are commands, run in that folder, in order;
- the ` ```text ` block after them is what they print: each of its lines, but `…`, must be printed by them;
- ` ```python ` blocks are scripts; those with a `def test_` are tests;
- ` ```yaml ` blocks without a title are policies, or pieces of one;
- `<!-- not run: why -->` above a block leaves it out, and with commands what they print.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))

_FENCE = re.compile(r"^([ ]*)```(\w+)?(?:[ ]+title=\"([^\"]+)\")?[^\n]*\n(.*?)^\1```[ ]*$", re.DOTALL | re.MULTILINE)
_LEFT_OUT = re.compile(r"<!-- not run: .+ -->\s*$")


@dataclass(frozen=True)
class Block:
    """One fenced block. `title`: the file it is; `runs` False: the page says why it is not run."""

    language: str
    title: str | None
    text: str
    runs: bool


def blocks_of(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    source = page.read_text(encoding="utf-8")
    found: list[Block] = []
    for match in _FENCE.finditer(source):
        indent, language, title, text = match.groups()
        plain = "".join(line.removeprefix(indent) for line in text.splitlines(keepends=True))
        found.append(Block(language or "", title, plain, not _LEFT_OUT.search(source[: match.start()])))
    return found


def name_of(page: Path) -> str:
    """A page as a test's name."""
    return str(page.relative_to(ROOT))
