"""How calls, texts and audited requests are named in the ledger, and what text a database takes."""

from __future__ import annotations

__all__ = ["audit_id", "call_number", "handed_part", "storable", "text_part"]

_STEP_BITS = 16  # of a call's number, for the index of its rung


def call_number(index: int, call: int) -> int:
    """A number for the `call`th call, from 0, of the rung at `index`: unique in a request, and `index` for a rung asked once."""
    return call << _STEP_BITS | index


def text_part(index: int, call: int | None = None) -> str:
    """The name of an answer's text: "step:1", or "step:1/2" for the third call of a rung that is asked more than once."""
    return f"step:{index}" if call is None else f"step:{index}/{call}"


def handed_part(index: int) -> str:
    """The name of a plan's text: "handed:1" for the one that the rung at 1 wrote."""
    return f"handed:{index}"


def audit_id(request: str) -> str:
    """The id under which the calls that grade a sampled request are recorded."""
    return f"{request}_audit"


def storable(text: str) -> str:
    """The text without what a database refuses: unpaired surrogates and NUL."""
    if "\0" in text:
        text = text.replace("\0", "\N{REPLACEMENT CHARACTER}")
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
