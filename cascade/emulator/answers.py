"""Find what a model was recorded to answer: by its name, and by the exact text of the last user turn."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING

from cascade.core.errors import ConfigurationError
from cascade.corpora import Corpus, RecordedReply, open_corpus, text_of
from cascade.emulator.requests import ApiError
from cascade.emulator.schemas import example_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cascade.corpora import Item, Manifest
    from cascade.emulator.requests import ApiRequest

__all__ = ["Answers", "Source"]

Source = Corpus | str | os.PathLike[str]
"""A corpus, or the path of one."""


class Answers:
    """The recorded replies of one or more corpora, by model and text. Not thread-safe: the server's loop asks it.

    `canned`: what is not recorded, whatever text and model, gets an answer that says what it is, in place of a 404. Repeats of one input are answered in corpus order, over and over, counted for each model by itself.
    """

    def __init__(self, sources: Source | Iterable[Source], *, canned: bool = False) -> None:
        self._canned = canned
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
        if not models and not canned:
            raise ConfigurationError("emulator: there is nothing to answer from (give it a corpus)")
        self.models = tuple(models)

    def check_model(self, model: str) -> None:
        """Raise the API's 404 for a model that no corpus has."""
        if model not in self.models and not self._canned:
            has = f"the corpus has {', '.join(self.models)}; {_HINT}"
            raise ApiError(404, "not_found_error", f"model: {model[:80]} ({has})")

    def find(self, asked: ApiRequest, *, take: bool = True) -> RecordedReply:
        """The next recorded reply; with `take` false the same again next time. Raises a 404 that says what was sought."""
        model, text = key = asked.model, asked.text
        if replies := self._replies.get(key):
            reply = replies[self._taken[key] % len(replies)]
            if reply.has_answer:
                self._taken[key] += take
                return reply
            problem = "the text of this reply was not recorded"
        else:
            problem = "no reply was recorded"
        if self._canned:
            return _canned(asked)
        sought = f"model {model!r}, last user turn {text[:80]!r}{'…' if len(text) > 80 else ''}"
        held = f"{self._items} items of {len(self.models)} models"
        raise ApiError(404, "not_found_error", f"emulator: {problem} for {sought} (looked through {held}; {_HINT})")

    def _index(self, manifest: Manifest, items: Iterable[Item]) -> None:
        names = {entry.rung: entry.name for entry in manifest.ladder}
        for item in items:
            self._items += 1
            text = text_of(item.input)
            for rung, reply in item.replies.items():
                self._replies.setdefault((names[rung], text), []).append(reply)


_HINT = "`cascade emulate --any` gives a canned answer to what it does not know"
_CONFIDENCE = 0.9  # ships at the thresholds of the policies that ship


def _canned(asked: ApiRequest) -> RecordedReply:
    text = f"[canned answer] The emulator has no recorded reply of {asked.model} to this text."
    return RecordedReply(_CONFIDENCE, text if asked.schema is None else example_of(asked.schema, text))


def _listed(sources: Source | Iterable[Source]) -> Iterable[Source]:
    return (sources,) if isinstance(sources, Corpus | str | os.PathLike) else sources
