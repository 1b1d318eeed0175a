"""Grade a complete recording again. It holds every paid reply, so only a judge is called.

complete corpus → its journal entries again → `Recorder`, with only a judge left to call → the corpus, replaced

The corpus stays as it is until every item of it is graded.
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
from cascade.recording.calls import BASELINE, plain_respondent
from cascade.recording.inputs import Inputs
from cascade.recording.noise_floor import BASELINE_AGAIN, BASELINE_AGAIN_KEY
from cascade.recording.progress import Settings

__all__ = ["check_grader", "choose_grader", "entries_from_corpus", "find_complete_recording", "is_graded_by"]


def find_complete_recording(target: Path, hashes: Mapping[str, str]) -> Corpus | None:
    """The complete recording at `target` of the inputs and settings with these hashes; None if there is none."""
    if not target.exists():
        return None
    try:
        with open_corpus(target) as reader:
            recorded: object = (reader.manifest.extra or {}).get("recorded")
        if (
            not isinstance(recorded, dict)
            or "missing" in recorded
            or cast("dict[str, Any]", recorded).get("hashes") != hashes
        ):
            return None
        return read_corpus(target)
    except CorpusError:  # not a corpus
        return None


def choose_grader(settings: Settings, inputs: Inputs, kept: Corpus | None) -> str | None:
    """The grader's name: of the settings, else of the complete recording, else of the inputs; None: no grading."""
    given = inputs.manifest.grader if inputs.manifest else None
    previous = kept.manifest.grader if kept else None
    return settings.grader or previous or (given if given and is_grader(given) else None)


def check_grader(name: str, policy: Policy) -> None:
    """Raises ConfigurationError for an unknown grader, or a judge whose rung is unknown."""
    judge = judge_rung(name)
    if judge is None:
        bind_grader(name)
    else:
        plain_respondent(policy, judge or policy.ladder[policy.top].rung, "@judge")


def is_graded_by(kept: Corpus, inputs: Inputs, grader: str | None, policy: Policy) -> bool:
    """Whether `kept` was graded by this grader against these expected answers. True without a grader.

    Changed expected answers do not make a judge grade again by itself, for its calls cost money.
    """
    if grader is None:
        return True
    if _full_name(grader, policy) != _full_name(kept.manifest.grader, policy):
        return False
    expected = [item.expected for item in inputs.items]
    return judge_rung(grader) is not None or [item.expected for item in kept.items] == expected


def entries_from_corpus(kept: Corpus) -> Iterator[dict[str, Any]]:
    """The replies of a complete recording as journal entries."""
    for item in kept.items:
        for rung, reply in item.replies.items():
            yield _entry(item.id, rung, reply, reply.extra or {})
        for name, key in ((BASELINE, "baseline"), (BASELINE_AGAIN, BASELINE_AGAIN_KEY)):
            if (extra_reply := item.separate_reply(key)) is not None:
                yield _entry(item.id, name, extra_reply, (item.extra or {})[key])


def _entry(item: str, ask: str, reply: RecordedReply, extra: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "item": item,
        "ask": ask,
        "verdict": extra.get("verdict", "declined" if reply.answer is None else "answered"),
        "confidence": reply.confidence,
        "answer": reply.answer,
        "usage": reply.usage,
        "cost": round((reply.cost_usd or 0) * 1e9),
    }


def _full_name(grader: str | None, policy: Policy) -> str | None:
    """A grader's name; a judge's with its rung."""
    return f"judge:{policy.ladder[policy.top].rung}" if grader in ("judge", "judge:") else grader
