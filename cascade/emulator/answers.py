"""Find what a model was recorded to answer: by its name, and by the exact text of the last user turn."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING

from cascade.core.errors import ConfigurationError
from cascade.corpora import Corpus, open_corpus, text_of
from cascade.emulator.requests import ApiError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cascade.corpora import Item, Manifest, RecordedReply

__all__ = ["Answers", "Source"]

Source = Corpus | str | os.PathLike[str]
"""A corpus, or the path of one."""


class Answers:
    """The recorded replies of one or more corpora, by model and text. Not thread-safe: the server's loop asks it.

    Repeats of one input are answered in corpus order, over and over, counted for each model by itself.
    """

    def __init__(self, sources: Source | Iterable[Source]) -> None:
        self._replies: dict[tuple[str, str], list[RecordedReply]] = {}
        self._taken: Counter[tuple[str, str]] = Counter()
        self._items = 0
        models: dict[str, None] = {}
        for source in _listed(sources):
            if isinstance(source, Corpus):
                self._index(source.manifest, source.items)
                manifest = source.manifest
            else:
                with open_corpus(source) as reader:
                    manifest = reader.manifest
                    self._index(manifest, reader)
            models.update((entry.name, None) for entry in manifest.ladder)
        if not models:
            raise ConfigurationError("emulator: there is nothing to answer from (give it a corpus)")
        self.models = tuple(models)

    def check_model(self, model: str) -> None:
        """Raise the API's 404 for a model that no corpus has."""
        if model not in self.models:
            raise ApiError(404, "not_found_error", f"model: {model[:80]} (the corpus has {', '.join(self.models)})")

    def find(self, model: str, text: str, *, take: bool = True) -> RecordedReply:
        """The next recorded reply; with `take` false the same again next time. Raises a 404 that says what was sought."""
        key = (model, text)
        if replies := self._replies.get(key):
            reply = replies[self._taken[key] % len(replies)]
            if reply.has_answer:
                self._taken[key] += take
                return reply
            problem = "the text of this reply was not recorded"
        else:
            problem = "no reply was recorded"
        sought = f"model {model!r}, last user turn {text[:80]!r}{'…' if len(text) > 80 else ''}"
        held = f"{self._items} items of {len(self.models)} models"
        raise ApiError(404, "not_found_error", f"emulator: {problem} for {sought} (looked through {held})")

    def _index(self, manifest: Manifest, items: Iterable[Item]) -> None:
        names = {entry.rung: entry.name for entry in manifest.ladder}
        for item in items:
            self._items += 1
            text = text_of(item.input)
            for rung, reply in item.replies.items():
                self._replies.setdefault((names[rung], text), []).append(reply)


def _listed(sources: Source | Iterable[Source]) -> Iterable[Source]:
    return (sources,) if isinstance(sources, Corpus | str | os.PathLike) else sources
