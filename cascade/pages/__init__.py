"""Self-contained HTML pages: a jinja2 template with its style inside, that loads nothing and escapes every text.

Names and texts of requests are hostile. A page's own policy lets the browser load its style and script, and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cascade.core.errors import ConfigurationError, MissingExtra

__all__ = ["BASE_STYLE", "render", "short", "write"]

BASE_STYLE = Path(__file__).parent / "page.css"
"""Colours by day and by night, headings, tables, texts and what is printed, for pages that are read from top to bottom."""


def render(
    template: Path,
    values: Callable[[], Mapping[str, Any]],
    styles: Sequence[Path],
    *,
    script: Path | None = None,
    filters: Mapping[str, Callable[..., object]] | None = None,
    what: str = "the page",
) -> str:
    """The page. The template is given what `values` returns, `style`, `script` and `policy` (the page's Content-Security-Policy).

    Raises MissingExtra without jinja2, naming `what`.
    """
    try:
        import jinja2  # noqa: PLC0415 - an extra
    except ImportError:
        raise MissingExtra(what, "report") from None
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(template.parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    own: dict[str, Any] = {"short": short, **(filters or {})}
    environment.filters.update(own)  # pyright: ignore[reportUnknownMemberType] - jinja2 does not type them
    style = "".join(path.read_text(encoding="utf-8") for path in styles)
    code = script.read_text(encoding="utf-8") if script else ""
    allowed = f"style-src '{_hash(style)}'; " + (f"script-src '{_hash(code)}'; " if script else "")
    policy = f"default-src 'none'; {allowed}base-uri 'none'; form-action 'none'"
    return environment.get_template(template.name).render(**values(), style=style, script=code, policy=policy)


def write(path: Path, page: str, option: str, *, private: bool = True) -> None:
    """Write a page atomically; `private`: readable by its owner alone, for it may hold what users wrote.

    Raises ConfigurationError if `path` cannot be written, naming the option.
    """
    try:
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
            draft = Path(folder) / "page"  # not a named temporary file: the page gets a new file's permissions
            if private:
                draft.touch(mode=0o600)
            draft.write_bytes(page.encode("utf-8", "replace"))
            draft.replace(path)
    except OSError as problem:
        reason = problem.strerror or str(problem)
        raise ConfigurationError(f"{option} {path}: cannot be written: {reason} (check the path)") from problem


def short(text: object, most: int = 4_000) -> str:
    """Names and texts may be very long; a page shows so many letters of them."""
    whole = str(text)
    return whole if len(whole) <= most else f"{whole[: most - 1]}…"


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
