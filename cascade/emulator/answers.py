"""Find a model's recorded reply by its name and the exact text of the last user turn."""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from msgspec.structs import replace

from cascade.core.errors import ConfigurationError
from cascade.core.policy.samples import ORDERS
from cascade.corpora import Corpus, RecordedReply, open_corpus, text_of
from cascade.emulator.prompts import NAMES, UNRECORDED, group_answers, plan_for, said_by_reviewer
from cascade.emulator.requests import ApiError
from cascade.emulator.schemas import example_of
from cascade.logs import log_event

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cascade.corpora import Item, Manifest
    from cascade.corpora.items import RecordedReview
    from cascade.emulator.requests import ApiRequest

__all__ = ["Answers", "Source"]

Source = Corpus | str | os.PathLike[str]
"""A corpus or its path."""


class Answers:
    """The recorded replies of one or more corpora, by model, text and variant of triage. Thread-safe.

    Several replies of a model to one text are returned in corpus order, over and over: all samples of the variant that is
    asked for, else those that name none, since they were asked with the policy's own triage, else sample 0. `fallbacks`
    counts the requests whose variant was not recorded; the first of each is logged. Where a variant is another model's vote
    ("model/prompt"), that model answers with it. `canned`: a request without a recorded reply, of any model, gets an answer
    that says so instead of a 404. `may_be_empty`: no corpus is needed, since a script answers too.
    """

    def __init__(self, sources: Source | Iterable[Source], *, canned: bool = False, may_be_empty: bool = False) -> None:
        self._canned = canned
        self.names: Mapping[str, str] = NAMES
        self._replies: dict[tuple[str, str], list[RecordedReply]] = {}
        self._reviews: dict[tuple[str, str, str], RecordedReview] = {}
        self._served: Counter[tuple[str, str, str | None]] = Counter()
        self._fallbacks: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()
        self._items = 0
        models: dict[str, None] = {}
        voters: dict[str, None] = {}
        for source in _listed(sources):
            if isinstance(source, Corpus):
                self._index(source.manifest, source.items, voters)
                manifest = source.manifest
            else:
                with open_corpus(source) as reader:
                    manifest = reader.manifest
                    self._index(manifest, reader, voters)
            models.update((entry.name, None) for entry in manifest.ladder)
        if not models and not canned and not may_be_empty:
            raise ConfigurationError("emulator: there is nothing to answer from (give it a corpus)")
        self.models = tuple(models | voters)

    @property
    def fallbacks(self) -> Mapping[tuple[str, str], int]:
        """How many requests got another variant's reply since theirs was not recorded, by model and variant."""
        with self._lock:
            return dict(self._fallbacks)

    def recognise(self, prompts: Mapping[str, str]) -> None:
        """Know further triage prompts: texts by the variant's name in the corpora. The built-in ones are known."""
        self.names = {**self.names, **{text: name for name, text in prompts.items()}}

    def reset(self) -> None:
        """Start again with the first sample of everything."""
        with self._lock:
            self._served.clear()

    def check_model(self, model: str) -> None:
        """Raise the API's 404 for a model that is in no corpus."""
        if model not in self.models and not self._canned:
            has = f"the corpus has {', '.join(self.models)}; {_HINT}"
            raise ApiError(404, "not_found_error", f"model: {model[:80]} ({has})")

    def find(self, request: ApiRequest, *, advance: bool = True) -> RecordedReply:
        """The next recorded reply; without `advance` the following request gets the same. Raises a 404 if there is none."""
        if request.to_group is not None:
            return RecordedReply(answer=group_answers(request.to_group))
        if request.to_review is not None:
            review = self._reviews.get((request.model, *request.to_review))
            if review is None:
                return RecordedReply(answer=UNRECORDED)
            return RecordedReply(answer=said_by_reviewer(review.accepted), usage=review.usage)
        if request.plan is not None:
            return RecordedReply(answer=self._planned(request.text, str(request.plan.get("intent", ""))))
        model, text = request.model, request.text
        if replies := self._replies.get((model, text)):
            reply = self._next(request, replies, advance=advance)
            if reply.has_answer:
                return RecordedReply(reply.confidence, plan_for(reply.answer)) if request.to_plan else reply
            problem = "the text of the reply was not recorded"
        else:
            problem = "no reply was recorded"
        if self._canned:
            return (
                _canned(request) if not request.to_plan else RecordedReply(_CONFIDENCE, plan_for(_canned_text(request)))
            )
        sought = f"model {model!r}, last user turn {text[:80]!r}{'…' if len(text) > 80 else ''}"
        searched = f"{self._items} items of {len(self.models)} models"
        raise ApiError(404, "not_found_error", f"emulator: {problem} for {sought} (searched {searched}; {_HINT})")

    def _planned(self, text: str, intent: str) -> object:
        """The recorded answer to this text that begins with the plan's intent; the intent itself if there is none."""
        recorded = [one for model in self.models for one in self._replies.get((model, text), ())]
        for answer in (one.answer for reply in recorded for one in reply.every):
            written = answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False, default=str)
            if intent and written.startswith(intent):
                return answer
        return intent

    def _next(self, request: ApiRequest, recorded: list[RecordedReply], *, advance: bool) -> RecordedReply:
        samples = [sample for reply in recorded for sample in reply.every]
        names = (request.variant, None) if request.variant else (None, _OWN_PROMPT)
        found = next((name for name in names if any(sample.variant == name for sample in samples)), _FIRST)
        replies = recorded if found == _FIRST else [sample for sample in samples if sample.variant == found]
        with self._lock:
            key = (request.model, request.text, found)
            reply = replies[self._served[key] % len(replies)]
            self._served[key] += advance and reply.has_answer
            # A corpus that names no variant was asked in a policy's own order, for which nobody had to name one.
            lacks = found == _FIRST or (found is None and request.variant not in _UNNAMED)
            if not lacks or not request.triage:
                return reply
            variant = request.variant or _OWN_PROMPT
            self._fallbacks[request.model, variant] += 1
            is_news = self._fallbacks[request.model, variant] == 1
        if is_news:
            event = "emulator: no sample of this variant was recorded, another's is returned"
            log_event("warning", event, model=request.model, variant=variant)
        return reply

    def _index(self, manifest: Manifest, items: Iterable[Item], voters: dict[str, None]) -> None:
        names = {entry.rung: entry.name for entry in manifest.ladder}
        for item in items:
            self._items += 1
            text = text_of(item.input)
            for rung, reply in item.replies.items():
                self._replies.setdefault((names[rung], text), []).append(reply)
                if reply.review is not None and reply.review.rung in names:
                    answer = (
                        reply.answer if isinstance(reply.answer, str) else json.dumps(reply.answer, ensure_ascii=False)
                    )
                    self._reviews[names[reply.review.rung], text, answer] = reply.review
                if reply.variant is None and reply.samples is None:
                    continue
                for sample in reply.every:
                    if (vote := _voter_of(sample.variant)) is not None:
                        model, prompt = vote
                        voters[model] = None
                        single = replace(sample, variant=prompt, samples=None, groups=None)
                        self._replies.setdefault((model, text), []).append(single)


def _voter_of(variant: str | None) -> tuple[str, str] | None:
    """The model and the prompt of a variant that is another model's vote; None if it is not one."""
    model, _, prompt = (variant or "").rpartition("/")
    return (model, prompt) if model and prompt in _PROMPTS else None


_OWN_PROMPT = "prompt"  # the name of a policy's own text, as a variant
_PROMPTS = frozenset({*ORDERS, _OWN_PROMPT})
_UNNAMED = (None, "confidence_first", "answer_first")
_FIRST = ""  # no variant has this name
_HINT = "`cascade emulate --any` gives a canned answer to unknown requests"
_CONFIDENCE = 0.9  # above the thresholds of the shipped policies


def _canned(request: ApiRequest) -> RecordedReply:
    text = _canned_text(request)
    return RecordedReply(_CONFIDENCE, text if request.schema is None else example_of(request.schema, text))


def _canned_text(request: ApiRequest) -> str:
    return f"[canned answer] The emulator has no recorded reply of {request.model} to this text."


def _listed(sources: Source | Iterable[Source]) -> Iterable[Source]:
    return (sources,) if isinstance(sources, Corpus | str | os.PathLike) else sources
