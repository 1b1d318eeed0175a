"""Reads the metadata of a stored request."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

__all__ = ["matches"]


class _Metadata(msgspec.Struct, frozen=True, gc=False):
    metadata: dict[str, str] = {}


_read_metadata = msgspec.json.Decoder(_Metadata)


def matches(body: bytes | str, wanted: Mapping[str, str]) -> bool:
    """Whether a request's metadata has all these names and values. False if the body cannot be read (`verify` reports that)."""
    try:
        metadata = _read_metadata.decode(body).metadata
    except msgspec.MsgspecError:
        return False
    return all(metadata.get(name) == value for name, value in wanted.items())
