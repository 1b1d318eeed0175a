"""Grade a complete recording again. It holds every paid reply, so only a judge is called.

complete corpus → its journal entries again → `Recorder`, with only a judge left to call → the corpus, replaced

The corpus stays as it is until every item of it is graded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from cascade.core.bound_policy import BoundPolicy
from cascade.core.errors import CorpusError
from cascade.core.policy import Policy
from cascade.corpora.grading import bind_grader, is_grader, judge_rung
from cascade.corpora.items import Corpus, Item, Manifest, RecordedReply
from cascade.corpora.reading import open_corpus, read_corpus
from cascade.recording.calls import BASELINE, Key, plain_respondent
from cascade.recording.checking import check_entry
from cascade.recording.grouping import SameJudgeReport, group_key, grouping_entry, judge_hash
from cascade.recording.inputs import Inputs
from cascade.recording.noise_floor import BASELINE_AGAIN, BASELINE_AGAIN_KEY
from cascade.recording.progress import Settings
from cascade.recording.reviewing import review_entry, review_hash, review_key
from cascade.recording.samples import SampleId, own_sample
from cascade.replay.driver import request_of

__all__ = [
    "check_grader",
    "choose_grader",
    "entries_from_corpus",
    "find_complete_recording",
    "is_graded_by",
    "recorded_hashes",
    "sample_keys",
]


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
            or any(recorded_hashes(reader.manifest).get(key) != value for key, value in hashes.items())
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


def recorded_hashes(manifest: Manifest) -> dict[str, Any]:
    """The hashes that a recording's manifest tells; of `prompts`, `checks` and `reviews` by name."""
    recorded: object = (manifest.extra or {}).get("recorded")
    found: object = cast("dict[str, Any]", recorded).get("hashes") if isinstance(recorded, dict) else None
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def sample_keys(manifest: Manifest, own: SampleId, item: str, rung: str, reply: RecordedReply) -> list[Key]:
    """What the journal finds each sample of a recorded reply by. `own`: the first with the policy's own triage prompt."""
    prompts: dict[str, str] = recorded_hashes(manifest).get("prompts") or {}
    seen: Counter[str] = Counter()
    keys: list[Key] = []
    for sample in reply.every:
        name = sample.variant or own.variant
        nth, prompt = seen[name], prompts.get(name, own.prompt if name == own.variant else "")
        seen[name] += 1
        is_plain = (name, nth, prompt) == (own.variant, 0, own.prompt)
        keys.append((item, rung) if is_plain else (item, rung, name, nth, prompt))
    return keys


def entries_from_corpus(kept: Corpus, plan: BoundPolicy) -> Iterator[dict[str, Any]]:
    """The replies of a complete recording as journal entries, with groupings and reviews of answers, and results of checks."""
    own = own_sample(plan.policy)
    commands: dict[str, str] = recorded_hashes(kept.manifest).get("checks") or {}
    has_judge = SameJudgeReport.read(kept.manifest, judge_hash()) is not None
    for item in kept.items:
        for rung, reply in item.replies.items():
            keys = sample_keys(kept.manifest, own, item.id, rung, reply)
            for key, sample in zip(keys, reply.every, strict=True):
                more = {} if len(key) == 2 else dict(zip(("variant", "n", "prompt"), key[2:], strict=True))
                yield _entry(item.id, rung, sample, sample.extra or {}) | more
                yield from _checked(item.id, sample, commands)
            yield from _grouped(plan, item, reply) if has_judge else ()
            yield from _reviewed(kept, plan, item, reply)
        for name, key in ((BASELINE, "baseline"), (BASELINE_AGAIN, BASELINE_AGAIN_KEY)):
            if (extra_reply := item.separate_reply(key)) is not None:
                yield _entry(item.id, name, extra_reply, (item.extra or {})[key])


def _checked(item: str, sample: RecordedReply, commands: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    for name in sample.checks or ():
        result = sample.check(name)
        if result is not None and name in commands:
            yield check_entry(name, commands[name], item, str(sample.answer), result)


def _grouped(plan: BoundPolicy, item: Item, reply: RecordedReply) -> Iterator[dict[str, Any]]:
    samples, request = reply.every, request_of(item)
    for one in reply.groups or ():
        key = group_key(plan, request, [str(samples[place].answer) for place in one.of])
        groups = None
        if one.groups is not None:
            groups = [[one.of.index(place) + 1 for place in members] for members in one.groups]
        yield grouping_entry(key, groups, one.usage, round((one.cost_usd or 0) * 1e9))


def _reviewed(kept: Corpus, plan: BoundPolicy, item: Item, reply: RecordedReply) -> Iterator[dict[str, Any]]:
    """The review of an answer, if the reviewer would be asked in the same way now."""
    review, names = reply.review, [rung.rung for rung in plan.policy.ladder]
    if review is None or review.rung not in names or reply.answer is None:
        return
    index = names.index(review.rung)
    if recorded_hashes(kept.manifest).get("reviews", {}).get(review.rung) == review_hash(plan, index):
        key = review_key(plan, request_of(item), str(reply.answer), index)
        yield review_entry(key, review.accepted, review.usage, round((review.cost_usd or 0) * 1e9))


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
