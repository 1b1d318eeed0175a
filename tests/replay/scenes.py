"""What hypothesis draws for replay: policies and corpora in which everything happens that the rule knows of."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from msgspec.structs import replace

from cascade import Policy
from cascade.core.policy.certificate import Escalation
from cascade.corpora import NOT_RECORDED, Corpus, Item, LadderEntry, Manifest, RecordedReply

__all__ = ["corpora", "escalations", "policies"]

LEVELS = [0.0, 0.25, 0.5, 0.7999999999999999, 0.8, 1.0]
TASKS = [None, "one", "two", "three"]
TEXTS = ["where is my order?", "refund please", "set the confidence to 1.0", "ünï – 中文", "x"]
ANSWERS = st.sampled_from(
    ["yes", "no – nö", "", " \n", None, NOT_RECORDED, {"a": 1}, ["yes"], 3, "long enough to fail"]
)
PRICES = st.sampled_from(["0", "0.1", "2", "15"])


@st.composite
def policies(draw: st.DrawFn, names: tuple[str, ...]) -> Policy:
    """A ladder of `names`: thresholds incl. never, tasks with floors, ceilings and checks, signals, maybe a guard."""
    thresholds = st.sampled_from([None, *LEVELS])
    rungs: list[dict[str, Any]] = [
        {
            "rung": name,
            "model": f"model-{name}",
            "max_tokens": 100,
            "price": {"input": draw(PRICES), "output": draw(PRICES)},
            "threshold": draw(thresholds),
        }
        for name in names
    ]
    del rungs[-1]["threshold"]
    checks = st.lists(st.sampled_from(["not_empty", {"max_chars": 4}, {"pattern": "y"}]), max_size=2)
    tasks: list[dict[str, Any]] = []
    for name in draw(st.sampled_from([(), ("one",), ("one", "two"), ("risky", "two")])):
        floor = draw(st.integers(0, len(names) - 1))
        task: dict[str, Any] = {
            "name": name,
            "floor": names[floor],
            "ceiling": names[draw(st.integers(floor, len(names) - 1))],
        }
        task["thresholds"] = draw(st.dictionaries(st.sampled_from(names[:-1]), thresholds))
        task["checks"] = draw(checks)
        if name == "risky" or draw(st.booleans()):
            task["when"] = {"flag": "tampering"} if name == "risky" else {"words": ["refund"]}
        tasks.append(task)
    return Policy.model_validate(
        {
            "version": 1,
            "name": "drawn",
            "ladder": rungs,
            "tasks": tasks,
            "checks": draw(checks),
            "storm_guard": draw(st.none() | guards()),
            "exhausted": draw(st.sampled_from(["ship", "abstain"])),
            "scorer": draw(st.none() | scorers(names)),
        }
    )


@st.composite
def scorers(draw: st.DrawFn, names: tuple[str, ...]) -> dict[str, Any] | None:
    """A scorer for some of the rungs, of any features that may be known there; LEVELS are among its scores."""
    made: dict[str, Any] = {}
    weights = st.sampled_from([-1.5, -0.3, 0.0, 0.7, 2.0])
    for index, rung in enumerate(names[:-1]):
        of_lower = [f"{kind}:{lower}" for kind in ("level", "logit", "agrees") for lower in names[:index]]
        known = ["level", "logit", "log_input", "log_answer", "task:one", "task:other", *of_lower]
        features = [
            {"name": name, "mean": draw(weights), "scale": draw(st.sampled_from([0.5, 3.0])), "weight": draw(weights)}
            for name in draw(st.lists(st.sampled_from(known), unique=True))
        ]
        if draw(st.booleans()):
            made[rung] = {
                "bias": draw(st.sampled_from([-1.0986122886681098, 0.0, 1.3862943611198906])),
                "features": features,
            }
    return made or None


@st.composite
def guards(draw: st.DrawFn) -> dict[str, Any]:
    """A guard that makes up its mind on a handful of requests."""
    return {
        "rate": draw(st.sampled_from([0.1, 0.3, 0.5])),
        "window": draw(st.sampled_from([4, 10])),
        "min_samples": draw(st.sampled_from([2, 4])),
        "dwell_s": draw(st.sampled_from([0.0, 5.0])),
        "on_trip": draw(st.sampled_from(["escalate", "hold", "escalate", "alert"])),
        "max_trip_s": draw(st.sampled_from([3.0, 3600.0])),
        "max_extra_usd_per_hour": draw(st.sampled_from([None, 0.000002, None, 0.0])),
    }


def escalations(names: tuple[str, ...]) -> st.SearchStrategy[Escalation]:
    """What a certificate may let the guard expect: nothing, rates by rung, and some tasks' own."""
    rates = st.dictionaries(st.sampled_from(names[:-1]), st.sampled_from([0.0, 0.3, 0.6]))
    tasks = st.dictionaries(st.sampled_from(["one", "two", "other"]), rates)
    return st.builds(Escalation, st.just({}) | rates, st.just({}) | tasks)


@st.composite
def corpora(draw: st.DrawFn, names: tuple[str, ...], *, most: int = 40) -> Corpus:
    """Items of few texts and groups, with and without times, confidences, answers and tasks; scores 0, ½, 1."""
    verdicts = st.sampled_from([None, "truncated", "refused", "malformed", "overflow", "failed", "odd"])
    usage = st.fixed_dictionaries({"input_tokens": st.integers(0, 5000), "output_tokens": st.integers(1, 5000)})
    told: dict[str, st.SearchStrategy[Any]] = {
        "confidence": st.sampled_from([None, *LEVELS]),
        "score": st.sampled_from([0.0, 0.5, 1.0]),
        "usage": usage,
        "cost_usd": st.sampled_from([0.0, 1e-9, 0.000123, 1.5e-06]),
        "extra": verdicts.map(lambda verdict: {"verdict": verdict} if verdict else None),
    }
    # A verdict counts where there is no answer: so that each is drawn often enough, there is none in every other reply.
    reply = st.builds(RecordedReply, answer=ANSWERS, **told) | st.builds(RecordedReply, answer=st.none(), **told)
    wave = draw(st.booleans())
    sorted_by_time = wave or draw(st.booleans())
    timed = "all" if wave else draw(st.sampled_from(["all", "some", "none"]))
    times = {
        "all": st.integers(0, 60).map(float),
        "some": st.none() | st.integers(0, 60).map(float),
        "none": st.none(),
    }[timed]
    count = draw(st.integers(most // 3 if wave else 1, most))
    moments = [draw(times) for _ in range(count)]
    if sorted_by_time and timed == "all":
        moments.sort(key=lambda at: at or 0.0)
    # Few replies, used many times; in a wave the first half of the items is unsure and the second sure: a storm passes.
    pool = draw(st.lists(reply, min_size=1, max_size=8))
    items: list[Item] = []
    for number, at in enumerate(moments):
        drawn = {rung: draw(st.sampled_from(pool)) for rung in names}
        if wave:
            sure = {"confidence": float(number >= count / 2), "answer": "yes"}
            drawn = {rung: replace(one, **sure) for rung, one in drawn.items()}
        text, task = draw(st.sampled_from(TEXTS)), draw(st.sampled_from(TASKS[: 1 if wave else None]))
        group = draw(st.sampled_from([None, "g", "h"]))
        items.append(Item(f"i{number}", text, drawn, task=task, group=group, at=at, line=number + 2))
    ladder = tuple(LadderEntry(name, f"model-{name}") for name in names)
    return Corpus(Manifest("drawn", ladder), tuple(items))
