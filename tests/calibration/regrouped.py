"""Recorded runs of one request put together as the samples of one item."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from cascade.corpora.items import Item

__all__ = ["in_samples"]


def in_samples(items: Sequence[Item]) -> list[Item]:
    """One item for each (group, task): the first of its items, whose replies have those of the others as samples."""
    together: dict[tuple[str | None, str | None], list[Item]] = {}
    for item in items:
        together.setdefault((item.group, item.task), []).append(item)
    return [
        replace(
            first,
            replies={
                rung: replace(reply, samples=tuple(one.replies[rung] for one in others))
                for rung, reply in first.replies.items()
            },
        )
        for first, *others in together.values()
    ]
