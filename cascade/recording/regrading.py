"""Grading afterwards: a whole recording holds every reply that was paid, so no call is made for one to grade it anew.

whole corpus → the journal as it was → the recorder, which has nobody left to ask but a judge → corpus, written whole

A corpus that is whole stays as it is until it can be replaced by one that is whole as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from cascade.core.errors import CorpusError
from cascade.core.policy import Policy
from cascade.corpora.grading import bind_grader, is_grader, judge_rung
from cascade.corpora.items import Corpus, RecordedReply
from cascade.corpora.reading import open_corpus, read_corpus
from cascade.recording.calls import BASELINE, make_roster, plainly
from cascade.recording.inputs import Inputs
from cascade.recording.journal import journal_path
from cascade.recording.noise_floor import AGAIN, AGAIN_KEY, are_asked_twice, sample_of
from cascade.recording.progress import Settings

__all__ = ["check_grader", "entries_of", "grader_of", "is_graded", "is_settled", "kept_recording"]


def kept_recording(target: Path, head: Mapping[str, str]) -> Corpus | None:
    """The whole recording at `target` of what `head` has the hashes of; None where there is none."""
    if not target.exists():
        return None
    try:
        with open_corpus(target) as reader:
            told: object = (reader.manifest.extra or {}).get("recorded")
        if not isinstance(told, dict) or "missing" in told or cast("dict[str, Any]", told).get("hashes") != head:
            return None
        return read_corpus(target)
    except CorpusError:  # nothing that could be taken for a recording
        return None


def grader_of(settings: Settings, inputs: Inputs, kept: Corpus | None) -> str | None:
    """Who grades: the one that is asked for, else the one that has graded, else the one that the inputs name."""
    given = inputs.manifest.grader if inputs.manifest else None
    has_graded = kept.manifest.grader if kept else None
    return settings.grader or has_graded or (given if given and is_grader(given) else None)


def check_grader(name: str, policy: Policy) -> None:
    """Raises ConfigurationError for a grader that there is not, and a judge who cannot be asked."""
    judge = judge_rung(name)
    if judge is None:
        bind_grader(name)
    else:
        plainly(policy, judge or policy.ladder[policy.top].rung, "@judge")


def is_graded(kept: Corpus, inputs: Inputs, grader: str | None, policy: Policy) -> bool:
    """Whether it was graded by this grader, and beside these expected answers. Without a grader nothing is to be done.

    A judge is not paid again of itself because an expected answer changed.
    """
    if grader is None:
        return True
    if _named(grader, policy) != _named(kept.manifest.grader, policy):
        return False
    expected = [item.expected for item in inputs.items]
    return judge_rung(grader) is not None or [item.expected for item in kept.items] == expected


def is_settled(settings: Settings, inputs: Inputs) -> bool:
    """Whether it is recorded whole, and graded as wanted: a kill may come after the last write.

    Raises ConfigurationError for a grader that there is not, PolicyError as `make_roster` does.
    """
    roster = make_roster(settings.policy, settings.rungs, settings.baseline)
    if settings.grader:
        check_grader(settings.grader, settings.policy)
    if journal_path(settings.target).exists():
        return False
    kept = kept_recording(settings.target, {"inputs": inputs.hash, **roster.head()})
    if kept is None or not are_asked_twice(kept.items, sample_of(inputs.items, settings.baseline_twice)):
        return False
    return is_graded(kept, inputs, grader_of(settings, inputs, kept), settings.policy)


def entries_of(kept: Corpus) -> Iterator[dict[str, Any]]:
    """Its replies as the lines of the journal that they were written from."""
    for item in kept.items:
        for rung, reply in item.replies.items():
            yield _entry(item.id, rung, reply, reply.extra or {})
        for who, key in ((BASELINE, "baseline"), (AGAIN, AGAIN_KEY)):
            if (apart := item.separate_reply(key)) is not None:
                yield _entry(item.id, who, apart, (item.extra or {})[key])


def _entry(item: str, ask: str, reply: RecordedReply, told: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "item": item,
        "ask": ask,
        "verdict": told.get("verdict", "declined" if reply.answer is None else "answered"),
        "confidence": reply.confidence,
        "answer": reply.answer,
        "usage": reply.usage,
        "cost": round((reply.cost_usd or 0) * 1e9),
    }


def _named(grader: str | None, policy: Policy) -> str | None:
    """A grader's name, a judge's with the rung it means."""
    return f"judge:{policy.ladder[policy.top].rung}" if grader in ("judge", "judge:") else grader
