"""Templates and assets. One environment for the process; what a template is given it escapes."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cascade.core.errors import MissingExtra
from cascade.dashboard.pages.charts import rate_spark, spend_chart
from cascade.dashboard.pages.frame import SPANS, Frame, concerns
from cascade.dashboard.pages.texts import FILTERS

if TYPE_CHECKING:
    import jinja2

__all__ = ["Asset", "asset", "render"]

_ASSETS: Final = Path(__file__).parent / "assets"
_TYPES: Final = {
    "dashboard.css": "text/css; charset=utf-8",
    "dashboard.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """A file that pages load. `mark`: changes with its bytes."""

    body: bytes
    kind: str
    mark: str


@cache
def asset(name: str) -> Asset | None:
    """A file by its name; None: there is none of that name."""
    kind = _TYPES.get(name)
    if kind is None:
        return None
    body = (_ASSETS / name).read_bytes()
    return Asset(body, kind, base64.urlsafe_b64encode(hashlib.sha256(body).digest()[:9]).decode())


def render(template: str, frame: Frame, **values: Any) -> str:
    """A page by its template's name, without `.html.j2`. Raises MissingExtra without jinja2."""
    return _environment().get_template(f"{template}.html.j2").render(frame=frame, **values)


@cache
def _environment() -> jinja2.Environment:
    try:
        import jinja2  # noqa: PLC0415 - an extra
    except ImportError:
        raise MissingExtra("the dashboard", "gateway") from None
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_ASSETS),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters.update(FILTERS)  # pyright: ignore[reportUnknownMemberType] - jinja2 does not type them
    own: dict[str, Any] = {
        "spans": SPANS,
        "concerns": concerns,
        "spend_chart": spend_chart,
        "rate_spark": rate_spark,
        "asset_url": _asset_url,
    }
    made.globals.update(own)  # pyright: ignore[reportUnknownMemberType]
    return made


def _asset_url(name: str) -> str:
    found = asset(name)
    assert found is not None
    return f"/dashboard/static/{name}?{found.mark}"
