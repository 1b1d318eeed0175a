"""Find a model's recorded reply by its name and the exact text of the last user turn."""

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
"""A corpus or its path."""


class Answers:
    """The recorded replies of one or more corpora, by model and text. Not thread-safe: only the server's loop uses it.

    Several replies of a model to one text are returned in corpus order, over and over. `canned`: a request without a
    recorded reply, of any model, gets an answer that says so instead of a 404.
    """

    def __init__(self, sources: Source | Iterable[Source], *, canned: bool = False) -> None:
        self._canned = canned
        self._replies: dict[tuple[str, str], list[RecordedReply]] = {}
        self._served: Counter[tuple[str, str]] = Counter()
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
        """Raise the API's 404 for a model that is in no corpus."""
        if model not in self.models and not self._canned:
            has = f"the corpus has {', '.join(self.models)}; {_HINT}"
            raise ApiError(404, "not_found_error", f"model: {model[:80]} ({has})")

    def find(self, request: ApiRequest, *, advance: bool = True) -> RecordedReply:
        """The next recorded reply; without `advance` the following request gets the same. Raises a 404 if there is none."""
        model, text = key = request.model, request.text
        if replies := self._replies.get(key):
            reply = replies[self._served[key] % len(replies)]
            if reply.has_answer:
                self._served[key] += advance
                return reply
            problem = "the text of the reply was not recorded"
        else:
            problem = "no reply was recorded"
        if self._canned:
            return _canned(request)
        sought = f"model {model!r}, last user turn {text[:80]!r}{'…' if len(text) > 80 else ''}"
        searched = f"{self._items} items of {len(self.models)} models"
        raise ApiError(404, "not_found_error", f"emulator: {problem} for {sought} (searched {searched}; {_HINT})")

    def _index(self, manifest: Manifest, items: Iterable[Item]) -> None:
        names = {entry.rung: entry.name for entry in manifest.ladder}
        for item in items:
            self._items += 1
            text = text_of(item.input)
            for rung, reply in item.replies.items():
                self._replies.setdefault((names[rung], text), []).append(reply)


_HINT = "`cascade emulate --any` gives a canned answer to unknown requests"
_CONFIDENCE = 0.9  # above the thresholds of the shipped policies


def _canned(request: ApiRequest) -> RecordedReply:
    text = f"[canned answer] The emulator has no recorded reply of {request.model} to this text."
    return RecordedReply(_CONFIDENCE, text if request.schema is None else example_of(request.schema, text))


def _listed(sources: Source | Iterable[Source]) -> Iterable[Source]:
    return (sources,) if isinstance(sources, Corpus | str | os.PathLike) else sources
