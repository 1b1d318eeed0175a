"""The batch endpoints: which request is meant for which, and its answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from cascade.emulator.requests import ApiError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cascade.emulator.batches import Batches
    from cascade.emulator.faults import Fault, Place

__all__ = ["BATCHES", "BatchVisit", "answer_visit", "kept_body", "pieces_of", "read_visit"]

BATCHES: Final = "/v1/messages/batches"
_ENDPOINTS: Final[dict[tuple[str, str], Place]] = {
    ("POST", ""): "create",
    ("GET", ""): "list",
    ("GET", "/{id}"): "retrieve",
    ("DELETE", "/{id}"): "delete",
    ("GET", "/{id}/results"): "results",
    ("POST", "/{id}/cancel"): "cancel",
}
"""By method and what follows the path of them all."""
_KEPT_WHOLE: Final = 1000  # requests
_LINES: Final = 100  # results written at once
_CUT: Final = 10  # bytes that are missing of the last line of results that break off


@dataclass(frozen=True, slots=True)
class BatchVisit:
    """One request to a batch endpoint. `body`: its JSON. `headers` have lower-case names."""

    place: Place
    batch_id: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    body: object


def read_visit(
    method: str, route: str, query: Mapping[str, list[str]], headers: Mapping[str, str], body: object
) -> BatchVisit | None:
    """The request, if its path is one of batches; else None. Raises the API's 404 for what is not emulated."""
    if route != BATCHES and not route.startswith(BATCHES + "/"):
        return None
    batch_id, _, action = route.removeprefix(BATCHES).lstrip("/").partition("/")
    place = _ENDPOINTS.get((method, ("/{id}" if batch_id else "") + (f"/{action}" if action else "")))
    if place is None:
        raise ApiError(404, "not_found_error", f"{method} {route[:80]} is not emulated")
    return BatchVisit(place, batch_id, query, headers, body)


async def answer_visit(batches: Batches, visit: BatchVisit, fault: Fault | None) -> dict[str, Any]:
    """The answer to any of them but the results. Raises the API's errors."""
    batch_id, url = visit.batch_id, f"http://{visit.headers.get('host', '')}{BATCHES}"
    match visit.place:
        case "create":
            beta = visit.query.get("beta") == ["true"] or "anthropic-beta" in visit.headers
            slow = fault if fault is not None and fault.kind == "slow_end" else None
            return batches.create(visit.body, visit.headers, beta=beta, slow=slow, url=url)
        case "list":
            return await batches.page(visit.query, url)
        case "cancel":
            return batches.cancel(batch_id, url)
        case "delete":
            return batches.delete(batch_id)
        case _:
            return await batches.retrieve(batch_id, url)


def kept_body(body: object) -> object:
    """A body as it is recorded: of a large batch only its custom_ids, since thousands of bodies are kept."""
    requests = cast("dict[str, Any]", body).get("requests") if isinstance(body, dict) else None
    if not isinstance(requests, list) or len(found := cast("list[Any]", requests)) <= _KEPT_WHOLE:
        return cast("object", body)
    return {"requests": [cast("dict[str, Any]", one).get("custom_id") for one in found if isinstance(one, dict)]}


def pieces_of(lines: list[bytes], *, cut: bool) -> Iterator[bytes]:
    """Results as they are written. `cut`: they break off midway, within a line."""
    if cut:
        yield b"".join(lines[: len(lines) // 2 + 1])[:-_CUT]
        return
    for at in range(0, len(lines), _LINES):
        yield b"".join(lines[at : at + _LINES])
