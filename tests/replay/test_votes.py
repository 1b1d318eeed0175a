"""Votes, replayed: the vectorised votes are the engine's own, item by item, and a plain count by hand agrees with both."""

from __future__ import annotations

import dataclasses
import random
from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from cascade import Policy
from cascade.core.errors import CorpusError
from cascade.core.policy import Samples
from cascade.core.sameness import key_function
from cascade.core.verification import Verifier
from cascade.core.voting import Vote, count, decided
from cascade.corpora import NOT_RECORDED, Corpus, Item, LadderEntry, Manifest, RecordedReply
from cascade.replay import replay_item
from cascade.replay.building import read_columns
from cascade.replay.columns import PolicyMapping
from cascade.replay.exact import ExactRun
from cascade.replay.mapping import mapping_of
from cascade.replay.outcomes import REASONS, STOPS
from cascade.replay.vectorised import evaluate

from .scenes import TEXTS as INPUTS
from .test_equality import both, complain, rows_of

VARIANTS = ["confidence_first", "steps"]
SAMES = ["exact", "normalized", "numeric", {"numeric": 0.5}, "json", {"json": ["a"]}, "choice", "builtins:len"]


LEVELS = [0.0, 0.25, 0.5, 0.7999999999999999, 0.8, 1.0]
ANSWERS = ["yes", "Yes.", "no", "", None, None, {"a": 1}, ["yes"], 3, "3.0", "long enough to fail", "(B)", "b"]
FAILURES = [None, None, "truncated", "refused", "malformed", "overflow", "failed", "failed"]


def samples_of(chance: random.Random) -> dict[str, Any]:
    """What a rung may have under `samples`."""
    most = chance.randint(2, 4)
    return {
        "max": most,
        "agree": chance.randint(2, most),
        "variants": chance.choice([[], ["confidence_first"], VARIANTS, ["steps", "steps", "confidence_first"]]),
        "same": chance.choice(SAMES),
        "at_once": chance.randint(1, 3),
    }


def reply_of(chance: random.Random, variant: str) -> RecordedReply:
    """One recorded sample: any confidence, answer or failure, its cost and usage, and the result of a check."""
    answer = chance.choice(ANSWERS)
    failure = chance.choice(FAILURES) if answer is None else None
    return RecordedReply(
        chance.choice([None, *LEVELS]),
        answer,
        chance.choice([0.0, 0.5, 1.0]),
        {"input_tokens": chance.randint(0, 5000), "output_tokens": chance.randint(1, 5000)},
        chance.choice([0.0, 1e-9, 0.000123, 1.5e-06]),
        variant=variant,
        checks={"tests": chance.choice([True, True, True, False, None])},
        extra={"verdict": failure} if failure else None,
    )


def item_of(chance: random.Random, names: tuple[str, ...], number: int) -> Item:
    """An item with four samples of each variant at each rung, in one of two orders."""
    replies: dict[str, RecordedReply] = {}
    for rung in names:
        order = chance.choice([VARIANTS * 4, ["steps"] * 4 + ["confidence_first"] * 4])
        favourite = reply_of(chance, order[0])  # most samples are alike, so that votes are reached
        every = [
            replace(favourite, variant=name) if chance.random() < 0.5 else reply_of(chance, name) for name in order
        ]
        replies[rung] = replace(every[0], samples=tuple(every[1:]))
    at = chance.choice([None, float(chance.randint(0, 60))])
    task = chance.choice([None, "one", "two", "three"])
    return Item(f"i{number}", chance.choice(INPUTS), replies, task=task, at=at, line=number + 2)


def scorer_of(chance: random.Random, names: tuple[str, ...]) -> dict[str, Any]:
    """A scorer of all rungs below the top, of what a vote makes known, too."""
    made: dict[str, Any] = {}
    for index, rung in enumerate(names[:-1]):
        lower = [f"{kind}:{one}" for one in names[:index] for kind in ("agrees", "agreement", "unanimous", "level")]
        known = ["level", "logit", "log_answer", "agreement", "unanimous", *lower]
        features = [
            {"name": name, "mean": 0.3, "scale": 0.5, "weight": chance.choice([-1.5, -0.3, 0.7, 2.0])}
            for name in chance.sample(known, chance.randint(0, len(known)))
        ]
        made[rung] = {"bias": chance.choice([-1.0986122886681098, 0.0, 1.3862943611198906]), "features": features}
    return made


def voting(seed: int) -> tuple[Corpus, PolicyMapping]:
    """A random ladder that asks some rungs several times, and a corpus with samples for it."""
    chance = random.Random(seed)
    names = tuple(f"r{n}" for n in range(chance.randint(2, 4)))
    ladder: list[dict[str, Any]] = []
    for name in names:
        rung: dict[str, Any] = {
            "rung": name, "model": f"model-{name}", "max_tokens": 100,
            "price": {"input": chance.choice(["0", "0.1", "2"]), "output": chance.choice(["0.1", "15"])},
        }  # fmt: skip
        if chance.random() < 0.7:
            rung["samples"] = samples_of(chance)
        if "samples" not in rung or chance.random() < 0.5:
            rung["threshold"] = chance.choice([None, *LEVELS])
        ladder.append(rung)
    ladder[-1] = {key: value for key, value in ladder[-1].items() if key not in ("samples", "threshold")}
    tasks: list[dict[str, Any]] = []
    for name in chance.choice([(), ("one",), ("one", "two")]):
        floor = chance.randint(0, len(names) - 1)
        task: dict[str, Any] = {"name": name, "floor": names[floor]}
        task["ceiling"] = names[chance.randint(floor, len(names) - 1)]
        task["samples"] = {one: samples_of(chance) for one in names[:-1] if chance.random() < 0.3}
        task["thresholds"] = {one: chance.choice(LEVELS) for one in names[:-1] if chance.random() < 0.3}
        task["checks"] = chance.choice([[], [{"max_chars": 4}]])
        tasks.append(task)
    guard = {"rate": 0.3, "window": 4, "min_samples": 2, "dwell_s": 0.0, "on_trip": chance.choice(["escalate", "hold"])}
    policy = Policy.model_validate(
        {
            "version": 1, "name": "drawn", "ladder": ladder, "tasks": tasks,
            "storm_guard": chance.choice([None, None, guard]),
            "scorer": chance.choice([None, scorer_of(chance, names)]),
            "exhausted": chance.choice(["ship", "abstain"]),
        }
    )  # fmt: skip
    manifest = Manifest("drawn", tuple(LadderEntry(name, f"model-{name}") for name in names))
    mapping = mapping_of(policy, manifest, reprice=chance.random() < 0.5)
    if chance.random() < 0.5:
        verifier = Verifier("tests", ("true",), on_error=chance.choice(["climb", "climb", "pass"]))
        mapping = dataclasses.replace(mapping, plan=dataclasses.replace(mapping.plan, shared_verifiers=(verifier,)))
    return Corpus(manifest, tuple(item_of(chance, names, number) for number in range(30))), mapping


def test_vectorised_votes_are_the_engines_own() -> None:
    """On 60 random ladders: who shipped, who was asked, why each rung sent it up, what stopped it, nano-USD, storms."""
    reasons: set[str] = set()
    stops: set[str] = set()
    for seed in range(60):
        corpus, mapping = voting(seed)
        _, _, fast, slow = both(corpus, mapping)
        assert rows_of(fast) == rows_of(slow), seed
        assert fast.storms == slow.storms, seed
        reasons.update(REASONS[code] for one in slow.reasons for code in one.tolist())
        stops.update(STOPS[code] for code in slow.stopped.tolist())
    assert reasons == set(REASONS)  # the drawn ladders know every reason there is
    assert {"", "ceiling", "storm", "declined"} - {"declined"} <= stops


def test_each_call_of_a_vote_is_counted() -> None:
    """The columns count as many samples and nano-USD as the item's own trail has."""
    votes = 0
    for seed in range(40):
        corpus, mapping = voting(seed)
        policy = mapping.plan.policy.model_copy(update={"storm_guard": None, "exhausted": "abstain"})
        mapping = dataclasses.replace(mapping, plan=dataclasses.replace(mapping.plan, policy=policy))
        columns, (mapped,) = read_columns(corpus.items, corpus.manifest, [mapping])
        fast = evaluate(columns, mapped)
        for row, item in enumerate(corpus.items):
            answer = replay_item(mapping.plan, item, cost_of=mapping.cost_of)
            assert answer.cost_nanousd == fast.cost[row]
            for step in answer.steps:
                ballot = mapped.vote(step.index)
                if step.samples:
                    assert ballot is not None
                    assert int(ballot.asked[row]) == len(step.samples)
                    assert step.cost_nanousd == sum(sample.cost_nanousd for sample in step.samples)
                    assert step.cost_nanousd == int(mapped.cost[step.index][row])
                    votes += 1
    assert votes > 500


@pytest.mark.parametrize("lacking", ["sample", "cost", "text", "check"])
def test_both_paths_refuse_a_sample_that_was_not_recorded(lacking: str) -> None:
    """A sample that the vote asks for and cannot use is an error that names the item; one that is not asked for is none."""
    refused = passed = 0
    for seed in range(60):
        corpus, mapping = voting(seed)
        mapping = dataclasses.replace(mapping, cost_of="recorded")
        if lacking == "check":
            plan = dataclasses.replace(mapping.plan, shared_verifiers=(Verifier("tests", ("true",)),))
            mapping = dataclasses.replace(mapping, plan=plan)
        victim, place = seed % len(corpus.items), seed % 5
        items = [hurt(item, place, lacking) if n == victim else item for n, item in enumerate(corpus.items)]
        columns, (mapped,) = read_columns(items, corpus.manifest, [mapping])
        run = ExactRun(mapping)
        try:
            run.take(items)
            slow = run.outcomes()
        except CorpusError as problem:
            slow = problem
        if isinstance(slow, CorpusError):
            assert slow.item == f"i{victim}"
            assert complain(lambda c=columns, m=mapped: evaluate(c, m)).startswith(f"i{victim}: ")
            refused += 1
        else:
            assert rows_of(evaluate(columns, mapped)) == rows_of(slow)
            passed += 1
    assert refused >= 5
    assert passed >= 5


def hurt(item: Item, place: int, lacking: str) -> Item:
    """The item without the sample at `place`, its cost, its text or the result of its check; at the first rung."""
    every = [replace(item.replies["r0"], samples=None), *item.replies["r0"].every[1:]]
    if lacking == "sample":
        kept = every[: max(1, place)]
    else:
        change: dict[str, Any] = {
            "cost": {"cost_usd": None}, "text": {"answer": NOT_RECORDED, "extra": None}, "check": {"checks": None},
        }[lacking]  # fmt: skip
        kept = [replace(one, **change) if n == place else one for n, one in enumerate(every)]
    whole = replace(kept[0], samples=tuple(kept[1:]) or None)
    return replace(item, replies={**item.replies, "r0": whole})


GROUPS = st.lists(st.sampled_from(["a", "b", "c", None]), min_size=1, max_size=9)


@settings(max_examples=150)
@given(groups=GROUPS, agree=st.integers(2, 5))
def test_a_vote_is_curtailed_exactly(groups: list[str | None], agree: int) -> None:
    """It ends with the first prefix after which no further sample can change whether enough agree, and not before."""
    most = len(groups)
    if most < agree:
        return
    for asked in range(most + 1):
        vote = count(agree, most, groups[:asked])
        futures = _futures(groups[:asked], most, agree)
        assert decided(vote) is (len(futures) == 1)
        if len(futures) == 1:
            assert vote.reached is futures.pop()


def _futures(prefix: list[str | None], most: int, agree: int) -> set[bool]:
    """Whether enough can agree, for the best and the worst that the samples not yet asked may say."""
    sizes = Counter(group for group in prefix if group is not None)
    now = max(sizes.values(), default=0)
    best = now + most - len(prefix)
    return {now >= agree, best >= agree} if now < agree else {True}


@settings(max_examples=100)
@given(groups=GROUPS, agree=st.integers(2, 4))
def test_the_answer_of_a_vote_is_the_first_of_those_that_agree(groups: list[str | None], agree: int) -> None:
    """Reached: the first `agree` of one group, and no other group had as many before. Else the largest, the earliest on a tie."""
    vote = count(agree, max(agree, len(groups)), groups)
    sizes = Counter(group for group in groups if group is not None)
    assert vote.reached is any(size >= agree for size in sizes.values())
    if not sizes:
        assert vote.members == ()
        return
    group = groups[vote.members[0]]
    own = [number for number, one in enumerate(groups) if one == group]
    if vote.reached:
        assert list(vote.members) == own[:agree]
        last = vote.members[-1]
        before = Counter(one for one in groups[:last] if one is not None)
        assert all(size < agree for size in before.values())
    else:
        assert list(vote.members) == own
        assert len(own) == max(sizes.values())
        firsts = [groups.index(one) for one, size in sizes.items() if size == len(own)]
        assert own[0] == min(firsts)


def test_failed_calls_that_could_have_made_the_vote_stand_are_an_error() -> None:
    """Counting them as agreeing would have reached M: the outage is the reason, and it is not natural."""
    assert count(3, 4, ["a", None, "a", None], failed=2).reason == "error"
    assert count(3, 4, ["a", None, "b", None], failed=1).reason == "disagreement"
    assert count(3, 4, ["a", None], failed=0, overflow=True).reason == "overflow"
    assert Vote(2, 3, 2, (0, 1), reached=True, failed=1).reason is None


TEXTS = st.lists(
    st.sampled_from(
        ["yes", "Yes.", "YES ", "no", "1", "1.0", "01", "1.2", "1.4", "-1", "(B)", "b", "Answer: B", '{"a": 1, "b": 2}',
         '{"b": 2, "a": 1.0}', '{"a": true}', "[1]", "[1.0]", "", " ", "²", "½ cup", "null"]
    ),
    min_size=1,
    max_size=6,
)  # fmt: skip


@pytest.mark.parametrize("same", SAMES)
@settings(max_examples=30)
@given(texts=TEXTS, data=st.data())
def test_being_the_same_is_an_equivalence_whatever_the_order(same: Any, texts: list[str], data: st.DataObject) -> None:
    """Any permutation of the answers gives the same groups."""
    key = key_function(Samples(max=2, agree=2, same=same).same, len)
    shuffled = data.draw(st.permutations(range(len(texts))))

    def groups(order: list[int]) -> set[frozenset[int]]:
        made: dict[Any, set[int]] = {}
        for number in order:
            found = key(texts[number])
            if found is not None:
                made.setdefault(found, set()).add(number)
        return {frozenset(one) for one in made.values()}

    assert groups(list(range(len(texts)))) == groups(shuffled)


def judged(groups: dict[tuple[int, ...], tuple[tuple[int, ...], ...] | None], *answers: str) -> Item:
    """One item of two rungs: samples with these answers, and a judge's groups of some prefixes."""
    every = [RecordedReply(0.9, answer, float(answer == "right"), cost_usd=0.001) for answer in answers]
    recorded = tuple({"of": of, "groups": found, "cost_usd": 0.0001} for of, found in groups.items())
    raw = {
        "id": "one", "input": "?",
        "replies": {
            "cheap": {**msgspec.to_builtins(every[0]), "samples": [msgspec.to_builtins(one) for one in every[1:]],
                      "groups": recorded},
            "dear": {"answer": "right", "score": 1.0, "cost_usd": 0.01},
        },
    }  # fmt: skip
    for reply in (raw["replies"]["cheap"], *raw["replies"]["cheap"]["samples"]):
        reply.pop("(extra)", None)
    return msgspec.convert(raw, Item)


def test_a_judge_groups_answers_by_meaning_and_its_calls_count() -> None:
    """From sample M on, one call for each prefix of different texts; a grouping that contradicts itself agrees on nothing."""
    values = {
        "version": 1, "name": "judged",
        "ladder": [
            {"rung": "cheap", "model": "m1", "max_tokens": 9, "price": {"input": 1, "output": 1},
             "samples": {"max": 4, "agree": 3, "same": "judge"}},
            {"rung": "dear", "model": "m2", "max_tokens": 9, "price": {"input": 1, "output": 1}},
        ],
    }  # fmt: skip
    manifest = Manifest("judged", (LadderEntry("cheap", "m1"), LadderEntry("dear", "m2")))
    mapping = mapping_of(Policy.model_validate(values), manifest)
    agreeing = judged({(0, 1, 2): ((0, 2), (1,)), (0, 1, 2, 3): ((0, 2, 3), (1,))}, "right", "b", "correct", "yes")
    answer = replay_item(mapping.plan, agreeing)
    assert (answer.text, answer.rung, answer.confidence_source) == ("right", "cheap", "agreement")
    assert [sample.is_judge for sample in answer.steps[0].samples] == [False, False, False, True, False, True]
    assert answer.cost_nanousd == 4_000_000 + 2 * 100_000
    torn = judged({(0, 1, 2): None, (0, 1, 2, 3): None}, "right", "b", "c", "d")
    answer = replay_item(mapping.plan, torn)
    assert (answer.rung, answer.steps[0].reason) == ("dear", "disagreement")
    assert [one.verdict.kind for one in answer.steps[0].samples if one.is_judge] == ["malformed", "malformed"]
    for item in (agreeing, torn):
        _, _, fast, slow = both(Corpus(manifest, (item,)), mapping)
        assert rows_of(fast) == rows_of(slow)
    alike = judged({}, "right", "right", "right", "b")  # texts that are equal need no judge
    assert replay_item(mapping.plan, alike).cost_nanousd == 3_000_000
    lacking = judged({}, "right", "b", "c", "d")
    with pytest.raises(CorpusError, match="grouping of samples 1, 2, 3"):
        replay_item(mapping.plan, lacking)
