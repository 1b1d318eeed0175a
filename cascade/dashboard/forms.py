"""What browsers send: forms, where they come from, and whether they want a page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, urlsplit

if TYPE_CHECKING:
    from starlette.datastructures import Headers
    from starlette.requests import Request

__all__ = ["Refused", "check_origin", "page_address", "read_form", "wants_page"]

_MOST_BYTES: Final = 16 * 1024
_MOST_FIELDS: Final = 16


class Refused(Exception):
    """A request that is answered with a page that says why not."""

    def __init__(self, status: int, title: str, text: str, headers: Mapping[str, str] | None = None) -> None:
        self.status, self.title, self.headers = status, title, dict(headers or {})
        super().__init__(text)


def wants_page(accept: str) -> bool:
    """Whether a browser asks, to show it: HTML is named, and what is not `*/*` alone."""
    return any(one.partition(";")[0].strip().lower() == "text/html" for one in accept.split(","))


def check_origin(headers: Headers) -> None:
    """Raise Refused unless a form was sent by a page of this very site. Every browser of today says where its forms come from."""
    origin, host = headers.get("origin", ""), headers.get("host", "")
    if not host or _place(origin) != host.lower():
        raise Refused(403, "Not from here", "Forms are accepted from the dashboard's own pages alone.")


def _place(origin: str) -> str:
    """The name and port of an origin; "" for `null`, and for what is none."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:  # such as "http://["
        return ""


async def read_form(request: Request) -> Mapping[str, str]:
    """The fields of a form; of those with one name the last. Raises Refused for what is too large, or is none."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise Refused(415, "Not a form", "A form is expected here.")
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > _MOST_BYTES:
            raise Refused(413, "Too large", "This form is too large.")
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS))
    except ValueError:
        raise Refused(400, "Not a form", "This form cannot be read.") from None


def page_address(text: str) -> str:
    """Where to go after a login: a page of the dashboard, and nothing elsewhere."""
    try:
        parts = urlsplit(text)
    except ValueError:  # such as "//["
        return "/"
    is_ours = not parts.scheme and not parts.netloc and (parts.path == "/" or parts.path.startswith("/dashboard/"))
    if not is_ours or "\\" in text or not text.isprintable() or parts.path == "/dashboard/login":
        return "/"
    return f"{parts.path}?{parts.query}" if parts.query else parts.path
