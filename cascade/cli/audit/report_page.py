"""The report as one self-contained HTML page. Texts of requests and names are hostile, so jinja2 escapes all of them."""

from __future__ import annotations

import base64
import hashlib
import tempfile
from pathlib import Path
from typing import Any

from cascade.audit.report.build import AuditReport
from cascade.cli.audit.report_sections import sections_of
from cascade.cli.audit.report_view import heading_of, texts_of
from cascade.cli.output import one_line
from cascade.core.errors import ConfigurationError, MissingExtra

__all__ = ["render_page", "write_page"]

_ASSETS = Path(__file__).parent / "assets"
_MOST_LETTERS = 4_000  # of a text
_MOST_ROWS = 400


def write_page(path: Path, report: AuditReport, where: str) -> None:
    """Write the page atomically, readable by its owner alone: it may hold what users wrote.

    Raises MissingExtra without jinja2, ConfigurationError if `path` cannot be written.
    """
    page = render_page(report, where).encode("utf-8", "replace")
    try:
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
            draft = Path(folder) / "page"
            draft.touch(mode=0o600)
            draft.write_bytes(page)
            draft.replace(path)
    except OSError as problem:
        reason = problem.strerror or str(problem)
        raise ConfigurationError(f"--html {path}: cannot be written: {reason} (check the path)") from problem


def render_page(report: AuditReport, where: str) -> str:
    """The page. It has no script and needs no network. `where`: the ledger."""
    try:
        import jinja2  # noqa: PLC0415 - an extra
    except ImportError:
        raise MissingExtra("the page", "report") from None
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_ASSETS),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Any] = {"short": _short}
    environment.filters.update(filters)  # pyright: ignore[reportUnknownMemberType] - jinja2 does not type them
    style = _ASSETS.joinpath("audit.css").read_text(encoding="utf-8")
    allowed = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return environment.get_template("audit.html.j2").render(
        report=report,
        where=where,
        sections=() if report.is_empty else [one for one in sections_of(report) if one.facts or one.rows],
        todo=[one_line(line) for line in report.todo],
        disagreements=[(heading_of(one), texts_of(one)) for one in report.disagreements],
        most_rows=_MOST_ROWS,
        style=style,
        # Only this style may load: the browser refuses the network, scripts, and anything injected.
        policy=f"default-src 'none'; style-src 'sha256-{allowed}'; base-uri 'none'; form-action 'none'",
    )


def _short(text: str, most: int = _MOST_LETTERS) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
