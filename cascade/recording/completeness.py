"""Whether a complete recording holds the samples, groupings, reviews and results of checks that a command asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from cascade.core.verification import Verifier
from cascade.corpora.items import Corpus, Item, Manifest, RecordedReply
from cascade.recording.calls import BASELINE, Key, RecordingPlan, Respondent
from cascade.recording.checking import check_hash
from cascade.recording.grouping import SameJudgeReport, agreeing_texts, judge_hash, prefixes
from cascade.recording.regrading import recorded_hashes, sample_keys
from cascade.recording.reviewing import review_hash, reviewable
from cascade.recording.samples import own_sample
from cascade.replay.driver import request_of

__all__ = ["BATCHES", "holds_reviews", "holds_samples", "more_hashes", "recorded_in_batches"]


def holds_samples(complete: Corpus, recording: RecordingPlan) -> bool:
    """Whether no call and no check is left to make for a rung's samples."""
    plan = recording.plan
    asks_judge = any(one.is_judged for many in recording.samples.values() for one in many)
    if asks_judge and SameJudgeReport.read(complete.manifest, judge_hash()) is None:
        return False
    if not (recording.samples or recording.verifiers):
        return True
    own = own_sample(plan.policy)
    rungs = [one for one in recording.respondents if one.name != BASELINE]
    for item in complete.items:
        task = plan.signals.classify(request_of(item)).task
        for rung in rungs:
            reply = item.replies[rung.name]
            samples = dict(
                zip(sample_keys(complete.manifest, own, item.id, rung.name, reply), reply.every, strict=True)
            )
            wanted = recording.samples_for(task, rung)
            if not all(one.key(item.id) in samples for one in wanted):
                return False
            if not _is_checked(complete, reply, plan.checks_for(task).verifiers):
                return False
            if not _is_grouped(recording, item, task, wanted, samples):
                return False
    return True


def holds_reviews(complete: Corpus, recording: RecordingPlan) -> bool:
    """Whether no review is left to ask for."""
    if not recording.has_reviews:
        return True
    plan, hashes = recording.plan, recorded_hashes(complete.manifest).get("reviews", {})
    for item in complete.items:
        task = plan.signals.classify(request_of(item)).task
        for one in recording.respondents:
            reviewer = recording.reviewer_of(task, one)
            reply = item.replies[one.name] if reviewer is not None else None
            if reviewer is None or reply is None or reviewable(plan, task, reply) is None:
                continue
            rung = plan.policy.ladder[reviewer].rung
            if reply.review is None or reply.review.rung != rung or hashes.get(rung) != review_hash(plan, reviewer):
                return False
    return True


def _is_checked(complete: Corpus, reply: RecordedReply, verifiers: Sequence[Verifier]) -> bool:
    commands: dict[str, str] = recorded_hashes(complete.manifest).get("checks", {}) if verifiers else {}
    answered = [sample for sample in reply.every if sample.answer is not None]
    return all(
        commands.get(verifier.name) == check_hash(verifier) and all(one.check(verifier.name) for one in answered)
        for verifier in verifiers
    )


def _is_grouped(
    recording: RecordingPlan, item: Item, task: str, wanted: Sequence[Respondent], samples: Mapping[Key, RecordedReply]
) -> bool:
    if not wanted or not wanted[0].is_judged:
        return True
    asked = recording.plan.policy.route(task).samples[wanted[0].index]
    assert asked is not None
    keys, replies = list(samples), [samples[one.key(item.id)] for one in wanted]
    grouped = {one.of for one in next(iter(samples.values())).groups or ()}
    places = [keys.index(one.key(item.id)) for one in wanted]
    texts = agreeing_texts(recording.plan, task, replies)
    return all(tuple(places[n] for n in of) in grouped for of in prefixes(texts, asked.agree))


BATCHES = "asked through the Message Batches API, at half the price; cost_usd is what a live call costs"
"""The value of the manifest's key `recorded.batches`."""


def recorded_in_batches(manifest: Manifest) -> bool:
    """Whether any reply of a recording was asked for through batches."""
    recorded: object = (manifest.extra or {}).get("recorded")
    return isinstance(recorded, dict) and "batches" in cast("dict[str, Any]", recorded)


def more_hashes(plan: RecordingPlan, complete: Corpus | None, prompts: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Hashes by name: of the samples' prompts, of the checks' commands and of how reviews are asked for.

    Those that a complete corpus tells are kept.
    """
    before = recorded_hashes(complete.manifest) if complete else {}
    checks = {**before.get("checks", {}), **{one.name: check_hash(one) for one in plan.verifiers}}
    reviews = dict(before.get("reviews", {}))
    for gate in (plan.plan.shared_review, *plan.plan.reviews.values()) if plan.has_reviews else ():
        if gate is not None:
            reviews[gate.rung] = review_hash(plan.plan, gate.index)
    found: dict[str, dict[str, str]] = {"prompts": dict(prompts), "checks": checks, "reviews": reviews}
    return {name: hashes for name, hashes in found.items() if hashes}
