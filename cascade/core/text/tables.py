"""Tables as plain text and as HTML. Cells are shown literally: control characters and markup are escaped."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from html import escape

__all__ = ["html_table", "text_entry", "text_list", "text_table"]

_CONTROL = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))}
_GAP = "  "
_NARROWEST = 8  # characters; a column is not wrapped below it


def text_table(rows: Sequence[Sequence[str]], width: int) -> str:
    """The rows, the first with the column heads, in aligned columns; the widest are wrapped to fit `width` characters."""
    clean = [[cell.translate(_CONTROL) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*clean, strict=True)]
    while sum(widths) + len(_GAP) * (len(widths) - 1) > width and max(widths) > _NARROWEST:
        widths[widths.index(max(widths))] -= 1
    lines: list[str] = []
    for row in clean:
        folded = [textwrap.wrap(cell, columns) or [""] for cell, columns in zip(row, widths, strict=True)]
        for at in range(max(map(len, folded))):
            pieces = (cell[at] if at < len(cell) else "" for cell in folded)
            lines.append(_GAP.join(map(str.ljust, pieces, widths)).rstrip())
    return "\n".join(lines)


def text_list(rows: Sequence[Sequence[str]], width: int) -> str:
    """The rows as a list, for where a table does not fit: the first cell, then heads with values, in `width` characters."""
    heads, *entries = [[cell.translate(_CONTROL) for cell in row] for row in rows]
    lines: list[str] = []
    for entry in entries:
        pairs = " · ".join(f"{head} {cell}" for head, cell in zip(heads[1:], entry[1:], strict=True) if cell)
        lines += [f"{heads[0]} {entry[0]}", *textwrap.wrap(pairs, width, initial_indent="  ", subsequent_indent="  ")]
    return "\n".join(lines)


def text_entry(text: str, width: int) -> str:
    """A line below an entry of a list, in `width` characters; further lines of it are indented more."""
    return textwrap.fill(text.translate(_CONTROL), width, initial_indent="  ", subsequent_indent="      ")


def html_table(rows: Sequence[Sequence[str]], *, above: str, below: str) -> str:
    """The rows, the first with the column heads, as an HTML table between two texts."""
    cells = [
        "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in row)
        for tag, row in zip(("th", *["td"] * (len(rows) - 1)), rows, strict=True)
    ]
    table = "<table>" + "".join(f"<tr>{row}</tr>" for row in cells) + "</table>"
    return f'<div><pre style="white-space: pre-wrap">{escape(above)}</pre>{table}<p>{escape(below)}</p></div>'
