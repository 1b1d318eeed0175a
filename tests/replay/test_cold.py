"""`prompt_cache: auto` at the policy's prices: what a climb comes to is written to a cold cache, in both replays and in calibrate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from cascade import Policy
from cascade.calibration.search.levels import code_columns
from cascade.core.messages import Usage
from cascade.core.prices import cost
from cascade.corpora import Corpus, Item, LadderEntry, Manifest, RecordedReply, write_corpus
from cascade.policy.pricing import rates_of
from cascade.replay.building import read_columns
from cascade.replay.columns import PolicyMapping
from cascade.replay.mapping import mapping_of
from cascade.replay.outcomes import singles_of
from cascade.replay.vectorised import evaluate
from tests.cli.conftest import Run

from .scenes import corpora, policies
from .test_equality import both, rows_of

NAMES = ("r0", "r1", "r2")
MODELS = ("claude-haiku-5-5", "claude-sonnet-5-5", "claude-opus-5-5")
TURNS: list[dict[str, Any]] = [
    {"role": "user", "content": "h" * 3_000}, {"role": "assistant", "content": "so"}, {"role": "user", "content": "and?"}
]  # fmt: skip
USAGES = st.fixed_dictionaries(
    {"input_tokens": st.sampled_from([3, 600, 5_000]), "output_tokens": st.integers(1, 900)},
    optional={
        "cache_read_input_tokens": st.sampled_from([0, 700]),
        "cache_creation_input_tokens": st.sampled_from([0, 90]),
        "cache_creation": st.sampled_from([{"ephemeral_1h_input_tokens": 90}, {"ephemeral_5m_input_tokens": 90}]),
    },
)


def cached(policy: Policy, early_stop: bool = False, **more: Any) -> Policy:
    """The policy on real models, with prompt caching."""
    values = policy.model_dump(by_alias=True, exclude_unset=True)
    for rung, model in zip(values["ladder"], MODELS, strict=True):
        rung |= {
            "model": model,
            "price": {**rung["price"], "cache_write": "20", "cache_read": "0.3"},
            **more.get(rung["rung"], {}),
        }
    return Policy.model_validate({**values, "prompt_cache": "auto", "early_stop": early_stop})


@st.composite
def scenes(draw: st.DrawFn) -> tuple[Corpus, PolicyMapping]:
    """A corpus with conversations, systems, tools and caches in its usage; a policy with prompt caching, with early stop, votes."""
    corpus = draw(corpora(NAMES, most=20))
    items: list[Item] = []
    for item in corpus.items:
        replies = {rung: replace(one, usage=draw(USAGES)) for rung, one in item.replies.items()}
        if draw(st.booleans()):
            again = replace(replies["r1"], usage=draw(USAGES))
            replies["r1"] = replace(replies["r1"], samples=(again, again))
        extra = draw(
            st.sampled_from(
                [None, {"system": "s" * 2_500}, {"tools": [{"name": "t", "description": "d" * 2_500}]}, {"tools": "?"}]
            )
        )
        items.append(replace(item, input=draw(st.sampled_from([item.input, TURNS])), replies=replies, extra=extra))
    policy = cached(draw(policies(NAMES)), early_stop=draw(st.booleans()))
    return Corpus(corpus.manifest, tuple(items)), mapping_of(
        policy, corpus.manifest, reprice=draw(st.sampled_from([True, True, False]))
    )


@settings(max_examples=30)
@given(scene=scenes())
def test_both_replays_price_the_same_cold_writes(scene: tuple[Corpus, PolicyMapping]) -> None:
    """To the nano-USD, with a guard and early stop; recorded costs stay what they are."""
    corpus, mapping = scene
    _, mapped, fast, slow = both(corpus, mapping)
    assert rows_of(fast) == rows_of(slow)
    assert bool(mapped.climb_cost) == (mapping.cost_of == "policy")
    dearer = any((mapped.call_cost(at) != mapped.single_cost(at)).any() for at in (1, 2))
    event("cold writes" if dearer else "none")
    assert (mapped.call_cost(0) == mapped.single_cost(0)).all(), "the first rung pays what was recorded"


def test_votes_above_the_first_rung_are_priced_alike() -> None:
    """Each sample is written anew: they may be asked at once, and then none can read what another wrote."""
    used = {"input_tokens": 2_000, "output_tokens": 10}
    sample = RecordedReply(0.9, "yes", 1.0, used)
    voted = replace(sample, samples=(sample, sample))
    item = Item("a", TURNS, {"r0": RecordedReply(0.1, "no", 0.0, used), "r1": voted, "r2": sample})
    corpus = Corpus(Manifest("voted", tuple(map(LadderEntry, NAMES, MODELS))), (item,))
    policy = Policy.model_validate({
        "version": 1, "name": "voted", "prompt_cache": "auto",
        "ladder": [
            {"rung": "r0", "model": MODELS[0], "max_tokens": 9, "threshold": 0.8},
            {"rung": "r1", "model": MODELS[1], "max_tokens": 9, "samples": {"max": 3, "agree": 2, "same": "exact"}},
            {"rung": "r2", "model": MODELS[2], "max_tokens": 9},
        ],
    })  # fmt: skip
    _, _, fast, slow = both(corpus, mapping_of(policy, corpus.manifest, reprice=True))
    assert rows_of(fast) == rows_of(slow)
    rates = [rates_of(rung) for rung in policy.ladder]
    prefix = 760
    (total,) = fast.cost.tolist()
    cold = cost(rates[1], Usage(2_000 - prefix, 10, cache_write_5m=prefix))
    assert total == pytest.approx(cost(rates[0], Usage(2_000, 10)) + 2 * cold, rel=0.02)
    assert total > cost(rates[0], Usage(2_000, 10)) + 2 * cost(rates[1], Usage(2_000, 10))


def test_by_hand_an_escalation_writes_and_a_single_model_does_not() -> None:
    """A read of 10,000 tokens on Sonnet, recorded warm, is a write after a climb: 25 times as much."""
    warm = {"input_tokens": 10, "output_tokens": 0, "cache_read_input_tokens": 10_000}
    replies = {
        "r0": RecordedReply(0.1, "no", 0.0, warm),
        "r1": RecordedReply(0.9, "yes", 1.0, warm),
        "r2": RecordedReply(None, "yes", 1.0, warm),
    }
    corpus = Corpus(Manifest("warm", tuple(map(LadderEntry, NAMES, MODELS))), (Item("a", "hi", replies),))
    plain = Policy.model_validate({
        "version": 1, "name": "warm",
        "ladder": [
            {"rung": rung, "model": model, "max_tokens": 9, **({"threshold": 0.8} if rung != "r2" else {})}
            for rung, model in zip(NAMES, MODELS, strict=True)
        ],
    })  # fmt: skip
    paid: dict[str, tuple[int, int]] = {}
    for policy in (plain, plain.model_copy(update={"prompt_cache": "auto"})):
        mapping = mapping_of(policy, corpus.manifest, reprice=True)
        columns, mapped, fast, _ = both(corpus, mapping)
        single = singles_of(columns, mapped)["r1"]
        assert single is not None
        paid[policy.prompt_cache] = int(fast.cost[0]), single.cost
    haiku, sonnet = 10 * 100 + 10_000 * 10, 10 * 2_000
    assert paid["off"] == (haiku + sonnet + 10_000 * 100, sonnet + 10_000 * 100)
    assert paid["auto"] == (haiku + sonnet + 10_000 * 2_500, sonnet + 10_000 * 100)


@settings(max_examples=15)
@given(scene=scenes())
def test_calibrate_prices_the_same_climbs(scene: tuple[Corpus, PolicyMapping]) -> None:
    """Its cost of each item, at the policy's own thresholds, is the replay's; a single model's is the recorded usage's."""
    corpus, mapping = scene
    policy = Policy.model_validate(
        mapping.plan.policy.model_dump(by_alias=True, exclude_unset=True) | {"storm_guard": None, "early_stop": False}
    )
    columns, (mapped,) = read_columns(
        corpus.items, corpus.manifest, [mapping_of(policy, corpus.manifest, reprice=True)]
    )
    coded = code_columns(columns, mapped)
    by_task = [[x if x is not None else np.inf for x in policy.route(task).thresholds[:-1]] for task in mapped.tasks]
    levels = [[int(np.searchsorted(coded.levels[at], x)) + 1 for at, x in enumerate(own)] for own in by_task]
    costs = coded.costs(np.array(levels)[mapped.task])
    assert costs.tolist() == evaluate(columns, mapped).cost.tolist()
    plain = [
        [cost(mapping.plan.rates[at], item.replies[rung].tokens) for at, rung in enumerate(NAMES)]
        for item in corpus.items
    ]
    assert coded.model_cost.tolist() == plain
    assert coded.counts().cost.sum() >= coded.model_cost.sum()


@pytest.fixture
def warm(tmp_path: Path) -> tuple[str, str]:
    """A corpus of twenty conversations, recorded without caches, and a policy with prompt caching: their paths."""
    used = {"input_tokens": 3_000, "output_tokens": 10}
    items = [
        Item(
            f"i{at}",
            [*TURNS, {"role": "assistant", "content": str(at)}, {"role": "user", "content": "on"}],
            {
                "r0": RecordedReply(0.9 if at % 2 else 0.1, "no", 1.0, used, 0.001),
                "r1": RecordedReply(0.9, "yes", 1.0, used, 0.01),
                "r2": RecordedReply(None, "yes", 1.0, used, 0.1),
            },
        )
        for at in range(20)
    ]
    write_corpus(
        tmp_path / "warm.jsonl", Manifest("warm", tuple(map(LadderEntry, NAMES, MODELS)), synthetic=True), items
    )
    rungs = "".join(
        f"  - {{rung: {rung}, model: {model}, max_tokens: 9{', threshold: 0.8' if rung != 'r2' else ''}}}\n"
        for rung, model in zip(NAMES, MODELS, strict=True)
    )
    (tmp_path / "auto.yaml").write_text(f"version: 1\nname: auto\nprompt_cache: auto\nladder:\n{rungs}")
    (tmp_path / "off.yaml").write_text(f"version: 1\nname: off-\nladder:\n{rungs}")
    return str(tmp_path / "warm.jsonl"), str(tmp_path / "auto.yaml")


def test_the_commands_tell_the_cold_writes_and_call_them_an_estimate(run: Run, warm: tuple[str, str]) -> None:
    """`replay --reprice` and `calibrate --reprice` agree; without --reprice nothing is added, and that is said."""
    corpus, auto = warm
    off = auto.replace("auto.yaml", "off.yaml")
    told = {policy: run("replay", corpus, "--policy", policy, "--reprice", "--json").json for policy in (auto, off)}
    added = told[auto]["cold_writes_usd"]
    assert added > 0
    assert told[auto]["cost_usd"] - told[off]["cost_usd"] == pytest.approx(added, abs=1e-12)
    assert told[auto]["baselines"] == told[off]["baselines"] | {"random_mix": told[auto]["baselines"]["random_mix"]}
    assert "cold_writes_usd" not in told[off]
    assert any("an estimate" in note and "cold cache write" in note for note in told[auto]["notes"])
    exact = run("replay", corpus, "--policy", auto, "--reprice", "--exact-engine", "--json").json
    assert (exact["cost_usd"], exact["cold_writes_usd"]) == (told[auto]["cost_usd"], added)
    plain = run("replay", corpus, "--policy", auto, "--json").json
    assert "cold_writes_usd" not in plain
    assert any("--reprice adds the cold writes" in note for note in plain["notes"])

    def dearest(policy: str, *more: str) -> dict[str, Any]:
        return run("calibrate", corpus, "--policy", policy, "--frontier", *more, "--json").json

    chosen = {policy: dearest(policy, "--reprice") for policy in (auto, off)}
    assert any("an estimate" in note for note in chosen[auto]["notes"])
    assert dearest(auto)["frontier"] == dearest(off)["frontier"], "recorded costs have no cold writes"
    assert chosen[auto]["frontier"][-1]["cost_per_request_usd"] >= chosen[off]["frontier"][-1]["cost_per_request_usd"]


def test_what_cannot_be_repriced_is_refused(run: Run, warm: tuple[str, str]) -> None:
    """Tables of counts hold costs and no usage, signals are compared at the recorded costs, a certificate has none."""
    corpus, auto = warm
    for more in (("--counts", "--frontier"), ("--signals",), ("--against", auto)):
        ran = run("calibrate", corpus, *(() if "--against" in more else ("--policy", auto)), *more, "--reprice")
        assert ran.code == 2, more
        assert "reprice" in ran.err or "no other option" in ran.err
