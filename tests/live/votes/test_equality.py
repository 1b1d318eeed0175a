"""Live = replay = vectorised on ladders that ask some rungs several times, with faults in the middle of a vote."""

from __future__ import annotations

import dataclasses
import itertools
import random
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from cascade import AllRungsFailed, Answer, ClimbError, Policy
from cascade.core.trail import Step
from cascade.core.triage import triage_name
from cascade.corpora import Corpus, Item, LadderEntry, Manifest, RecordedReply
from cascade.corpora.items import RecordedGroups
from cascade.emulator.prompts import group_answers
from cascade.replay import replay_item
from cascade.replay.building import read_columns
from cascade.replay.columns import PolicyMapping
from cascade.replay.mapping import mapping_of
from cascade.replay.outcomes import NO_RUNG, REASONS
from cascade.replay.samples import variant_names
from cascade.replay.vectorised import evaluate
from tests.live.conftest import Connections, Driver

from .provider import BUSY, Asked, Provider, Said, grouping_of, message_of

FOUR = ["confidence_first", "answer_first", "steps", "doubt"]
OWN = "Be brief, and judge yourself."
SAMES = ["exact", "normalized", "numeric", "json", "choice", "judge", "judge", "builtins:len"]
LEVELS = [0.0, 0.25, 0.7999999999999999, 0.8, 1.0]
ANSWERS = ["yes", "Yes.", "no", "", "3", "3.0", '{"a": 1}', "(B)", "too long to pass", None, None, None]
FAILURES = [None, "truncated", "refused", "malformed", "overflow", "failed", "failed", "failed"]
JUDGED = {"input_tokens": 70, "output_tokens": 9}


def samples_of(chance: random.Random, name: str) -> dict[str, Any]:
    """What a rung may have under `samples`. Those of one wave are of different variants, so that each has its own reply."""
    most, at_once = chance.randint(2, 4), chance.randint(1, 3)
    panel = {"prompt": "steps", "model": f"other-{name}", "price": {"input": 1, "output": "0.3"}}
    own = {"prompt": OWN, "name": "own"}
    if at_once == 1:
        variants = chance.choice([[], ["steps"], ["steps", "steps", "doubt"], [own, panel]])
    else:
        variants = chance.sample([*FOUR, panel, own], most)
    return {
        "max": most, "agree": chance.randint(2, most), "variants": variants, "same": chance.choice(SAMES), "at_once": at_once,
    }  # fmt: skip


def policy_of(chance: random.Random) -> Policy:
    """Two to four rungs; some are asked several times, some by a task alone."""
    names = [f"r{n}" for n in range(chance.randint(2, 4))]
    ladder: list[dict[str, Any]] = []
    for name in names:
        price = {"input": chance.choice(["0", "0.1", "2"]), "output": chance.choice(["0.333", "15"])}
        rung: dict[str, Any] = {"rung": name, "model": f"model-{name}", "max_tokens": 100, "price": price}
        if name != names[-1]:
            if chance.random() < 0.7:
                rung["samples"] = samples_of(chance, name)
            if "samples" not in rung or chance.random() < 0.5:
                rung["threshold"] = chance.choice([None, *LEVELS])
        ladder.append(rung)
    tasks: list[dict[str, Any]] = []
    for name in chance.choice([(), ("one",), ("one", "two")]):
        floor = chance.randint(0, len(names) - 1)
        task: dict[str, Any] = {"name": name, "floor": names[floor]}
        task["ceiling"] = names[chance.randint(floor, len(names) - 1)]
        task["thresholds"] = {one: chance.choice(LEVELS) for one in names[:-1] if chance.random() < 0.3}
        task["samples"] = {one: samples_of(chance, one) for one in names[:-1] if chance.random() < 0.3}
        has_threshold = {rung["rung"] for rung in ladder if "threshold" in rung} | set(task["thresholds"])
        task["samples"] |= {one: None for one in names[:-1] if one in has_threshold and chance.random() < 0.2}
        tasks.append(task)
    return Policy.model_validate(
        {
            "version": 1, "name": "drawn", "ladder": ladder, "tasks": tasks, "retry": {"attempts": 1},
            "checks": chance.choice([[], [{"max_chars": 4}]]), "exhausted": chance.choice(["ship", "abstain"]),
        }
    )  # fmt: skip


def reply_of(chance: random.Random, variant: str | None) -> RecordedReply:
    """Any confidence, answer or failure. A call that failed, or whose prompt did not fit, cost nothing."""
    answer = chance.choice(ANSWERS)
    failure = chance.choice(FAILURES) if answer is None else None
    usage = {"input_tokens": chance.randint(0, 5000), "output_tokens": chance.randint(1, 5000)}
    if failure in ("overflow", "failed"):
        usage = {"input_tokens": 0, "output_tokens": 0}
    extra = {"verdict": failure} if failure else None
    return RecordedReply(chance.choice([None, *LEVELS, 0.9]), answer, 1.0, usage, variant=variant, extra=extra)


def item_of(chance: random.Random, policy: Policy, number: int) -> Item:
    """An item with all samples of each rung in the policy's order; most are alike, so that votes are reached."""
    task, replies = chance.choice([None, "one", "two"]), dict[str, RecordedReply]()
    for rung, samples in zip(policy.ladder, policy.route(task or "").samples, strict=True):
        names = [None] if samples is None else list(variant_names(policy, samples))
        favourite = reply_of(chance, names[0])
        if (
            rung is policy.ladder[-1] and favourite.failed == "malformed"
        ):  # it answers plainly: prose is an answer there
            favourite = replace(favourite, answer="prose", extra=None)
        further = [replace(favourite, variant=one) if chance.random() < 0.6 else reply_of(chance, one) for one in names]
        every = [favourite, *further[1:]]
        groups = groups_of(every) if samples is not None and samples.same.kind == "judge" else None
        replies[rung.rung] = replace(every[0], samples=tuple(every[1:]) or None, groups=groups)
    return Item(f"i{number}", f"question {number}", replies, task=task, line=number + 2)


def groups_of(every: list[RecordedReply]) -> tuple[RecordedGroups, ...]:
    """How the provider's judge groups any of these answers."""
    texts = {number: reply.answer for number, reply in enumerate(every) if isinstance(reply.answer, str)}
    made: list[dict[str, Any]] = []
    for size in range(2, len(texts) + 1):
        for of in itertools.combinations(texts, size):
            found = group_answers([texts[number] for number in of])["groups"]
            made.append({"of": of, "groups": [[of[one - 1] for one in group] for group in found], "usage": JUDGED})
    return msgspec.convert(made, tuple[RecordedGroups, ...])


def provider_of(policy: Policy, corpus: Corpus, chance: random.Random) -> Provider:
    """Says what is recorded; a failed call is one of the ways in which an endpoint fails."""
    by_text = {str(item.input): item for item in corpus.items}
    rungs = {rung.model: rung.rung for rung in policy.ladder}
    own, top = triage_name(policy), policy.ladder[-1].model

    def say(asked: Asked) -> Said:
        if asked.to_group is not None:
            return grouping_of(asked, asked.model, JUDGED)
        item, is_panel = by_text[asked.text], asked.model.startswith("other-")
        rung = asked.model.removeprefix("other-") if is_panel else rungs[asked.model]
        label = f"{asked.model}/{asked.variant}" if is_panel else asked.variant
        alike = [one for one in item.replies[rung].every if (one.variant or own) == label]
        reply = item.replies[rung] if asked.model == top else alike[asked.turn]
        return (
            chance.choice(BUSY) if reply.failed == "failed" else message_of(reply, asked.model, bare=asked.model == top)
        )

    return Provider(say, {OWN: "own"})


def told_of(outcome: Answer | ClimbError) -> tuple[Any, ...]:
    """All of a trail that must be the same, whoever drove."""
    steps = [told_of_step(step) for step in outcome.steps]
    if isinstance(outcome, ClimbError):
        return (type(outcome).__name__, steps)
    shipped = (outcome.text, outcome.rung, outcome.confidence, outcome.confidence_source, outcome.cost_nanousd)
    return (*shipped, outcome.usage, outcome.degraded, outcome.abstained, steps)


def told_of_step(step: Step) -> tuple[Any, ...]:
    """A step with each of its calls."""
    verdict = step.verdict
    vote = dataclasses.replace(verdict, detail="").vote
    calls = [
        (call.number, call.variant, call.model, call.is_judge, call.verdict.kind, call.verdict.text, call.verdict.confidence,
         call.verdict.failed_checks, call.usage, call.cost_nanousd)
        for call in step.samples
    ]  # fmt: skip
    shown = (
        verdict.kind,
        verdict.text,
        verdict.confidence,
        verdict.source,
        verdict.self_reported,
        verdict.failed_checks,
    )
    return (step.rung, step.model, step.reason, step.usage, step.cost_nanousd, *shown, vote, calls)


def replayed(mapping: PolicyMapping, item: Item) -> Answer | AllRungsFailed:
    """What replay makes of the same."""
    try:
        return replay_item(mapping.plan, item, cost_of="policy")
    except AllRungsFailed as failed:
        return failed


def asked_live(way: str, connections: Connections, policy: Policy, corpus: Corpus, seed: int) -> list[tuple[Any, ...]]:
    """What the live driver makes of the same."""
    told: list[tuple[Any, ...]] = []
    with provider_of(policy, corpus, random.Random(seed)) as provider:
        driver = Driver(way, connections, policy, provider.base_url, ledger="off")
        for item in corpus.items:
            try:
                told.append(told_of(driver.ask(item.input, task=item.task)))
            except ClimbError as error:
                told.append(told_of(error))
    return told


@pytest.mark.filterwarnings("ignore::cascade.core.errors.UncertifiedWarning")
def test_live_votes_are_replays_on_random_ladders(connections: Connections) -> None:
    """60 ladders, sync and async in turn, waves of 1 to 3: each call, verdict, reason and nano-USD; then the vectorised votes."""
    seen: set[str] = set()
    calls = 0
    for seed in range(60):
        chance = random.Random(seed)
        policy = policy_of(chance)
        items = tuple(item_of(chance, policy, number) for number in range(4))
        manifest = Manifest("drawn", tuple(LadderEntry(rung.rung, rung.model) for rung in policy.ladder))
        corpus, mapping = Corpus(manifest, items), mapping_of(policy, manifest, reprice=True)
        answers = [replayed(mapping, item) for item in items]
        expected = [told_of(answer) for answer in answers]
        assert asked_live(("sync", "async")[seed % 2], connections, policy, corpus, seed) == expected, seed
        columns, (mapped,) = read_columns(items, manifest, [mapping])
        fast = evaluate(columns, mapped)
        for row, answer in enumerate(answers):
            steps = answer.steps
            assert int(fast.cost[row]) == sum(step.cost_nanousd for step in steps), (seed, row)
            assert int(fast.last[row]) == steps[-1].index
            assert [REASONS[fast.reasons[step.index][row]] for step in steps[:-1]] == [
                step.reason for step in steps[:-1]
            ]
            shipped = answer.rung if isinstance(answer, Answer) else None
            names = [rung.rung for rung in policy.ladder]
            assert int(fast.shipped[row]) == (NO_RUNG if shipped is None else names.index(shipped)), (seed, row)
            seen.update(step.reason or "shipped" for step in steps)
            seen.update(f"sample {call.verdict.kind}" for step in steps for call in step.samples)
            seen.update("judge" for step in steps for call in step.samples if call.is_judge)
            calls += sum(len(step.samples) or 1 for step in steps)
    kinds = ("answered", "declined", "malformed", "truncated", "refused", "overflow", "failed")
    assert seen >= {
        "error",
        "overflow",
        "disagreement",
        "low_confidence",
        "judge",
        *(f"sample {kind}" for kind in kinds),
    }
    assert calls > 800
