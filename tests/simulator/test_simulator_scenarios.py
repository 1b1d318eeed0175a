"""The synthetic corpora `coding`, `history` and `storm`: made by the command that is told, and with the properties they claim."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from functools import cache
from pathlib import Path

import pytest

from cascade.core.messages import Request
from cascade.core.policy import StormGuard
from cascade.core.requests import read_messages
from cascade.core.storm import Guard
from cascade.corpora import Corpus, RecordedReply, read_corpus, text_of
from cascade.policy.binding import bind_policy
from cascade.policy.loading import load_policy
from cascade.replay import replay_item

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
SCENARIOS = ("coding", "history", "storm")
RUNGS = ("haiku", "sonnet", "opus")
PRICES = {"haiku": ("0.10", "0.50"), "sonnet": ("2", "10"), "opus": ("4", "20")}
OUTAGE = range(265, 340)
SUDDEN, SLOW, UPPER = range(300, 400), range(850, 1700), range(2250, 2340)

Made = Callable[[str], tuple[bytes, str]]


def shipped(name: str) -> Path:
    """The file in the checkout."""
    return BENCHMARKS / "corpora" / f"{name}.jsonl.gz"


@cache
def corpus(name: str) -> Corpus:
    """Read one of them, which checks every line."""
    return read_corpus(shipped(name))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Run the command without site packages, in a time zone and hash order of its own: what it wrote and printed."""

    @cache
    def make(name: str) -> tuple[bytes, str]:
        path = tmp_path_factory.mktemp("simulated") / f"{name}.jsonl"
        command = [sys.executable, "-S", str(BENCHMARKS / "simulate.py"), name, "-o", str(path)]
        environment = {"PYTHONHASHSEED": "random", "PYTHONDONTWRITEBYTECODE": "1", "TZ": "Asia/Tokyo"}
        done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", timeout=60, check=True)
        return path.read_bytes(), done.stdout

    return make


def escalates(reply: RecordedReply) -> bool:
    """Tell whether its confidence would send it up at 0.80."""
    return reply.answer is None or reply.confidence is None or reply.confidence < 0.80


def accuracy(name: str, task: str, rung: str) -> float:
    """Give the share of a rung's replies to a task that are right."""
    scores = [item.reply(rung).score or 0.0 for item in corpus(name).items if item.task == task]
    return sum(scores) / len(scores)


@pytest.mark.parametrize("name", SCENARIOS)
def test_regenerating_gives_the_shipped_bytes(name: str, made: Made) -> None:
    """The command alone, with the standard library alone, makes the file again; it is under 2 MB and bears no time."""
    packed = shipped(name).read_bytes()
    assert made(name)[0] == gzip.decompress(packed)
    assert len(packed) < 2_000_000
    assert packed[4:8] == bytes(4)


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_readme_shows_what_the_command_prints(name: str, made: Made) -> None:
    """The table in the corpora's README is the command's own, and is called synthetic."""
    table = made(name)[1].split("\nwrote ")[0].strip()
    assert table.startswith("synthetic")
    assert table in (BENCHMARKS / "corpora" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("name", "count"), [("coding", 1200), ("history", 2400), ("storm", 3000)])
def test_the_manifest_says_what_it_is(name: str, count: int) -> None:
    """Synthetic, for the 5.5 trio, graded, every rung recorded, every item grouped and timed."""
    manifest, items = corpus(name).manifest, corpus(name).items
    assert (manifest.name, manifest.synthetic, manifest.items, len(items)) == (name, True, count, count)
    assert "none was measured" in (manifest.notes or "")
    assert manifest.rungs == RUNGS
    assert all(set(item.replies) == set(RUNGS) and item.group and item.at is not None for item in items)
    times = [item.at or 0.0 for item in items]
    assert times == sorted(times)


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_reply_is_graded_and_priced_as_it_is(name: str) -> None:
    """Right is what equals the expected answer; the cost is the usage at list prices, to the last digit."""
    assert len({text_of(item.input) for item in corpus(name).items}) == len(corpus(name).items)
    for item in corpus(name).items:
        for rung, reply in item.replies.items():
            assert (reply.score == 1.0) == (reply.answer == item.expected)
            price_in, price_out = map(Decimal, PRICES[rung])
            exact = (price_in * reply.tokens.input_tokens + price_out * reply.tokens.output_tokens) / 1_000_000
            assert reply.cost_usd == float(exact)


@pytest.mark.parametrize("name", SCENARIOS)
def test_confidences_are_clumped_and_overconfident(name: str) -> None:
    """Few levels, three of them hold most; haiku says more than it holds; the top rung says none."""
    haiku = [item.reply("haiku") for item in corpus(name).items]
    told = [reply.confidence for reply in haiku if reply.confidence is not None]
    levels = Counter(told)
    assert 11 <= len(levels) <= 20
    assert sum(count for _, count in levels.most_common(3)) / len(told) > 0.7
    assert sum(told) / len(told) > sum(reply.score or 0.0 for reply in haiku) / len(haiku) + 0.05
    assert all(item.reply("opus").confidence is None for item in corpus(name).items)


def test_historys_shifts_are_like_the_demos_traffic() -> None:
    """Each shift of 600 has the mix that the first 600 of `support` have, and its own outage."""
    first = Counter(item.task for item in corpus("support").items[:600])
    for start in range(0, 2400, 600):
        shift = corpus("history").items[start : start + 600]
        assert Counter(item.task for item in shift) == first
        routine = [
            (place, escalates(item.reply("haiku"))) for place, item in enumerate(shift) if item.task == "routine"
        ]
        struck = [up for place, up in routine if place in OUTAGE]
        calm = [up for place, up in routine if place not in OUTAGE]
        assert sum(struck) / len(struck) > 0.75
        assert sum(calm) / len(calm) < 0.25


def test_codings_mix_is_exact_and_its_tasks_are_the_policys_own() -> None:
    """Every text is given its task by the signals of policies/coding.yaml; reviews and refactorings have no row there."""
    shares = {"extraction": 144, "reformat": 120, "lint": 144, "rename": 96, "translate": 72, "review": 240,
              "refactor": 120, "cross_cutting": 60, "architecture": 96, "trust_boundary": 108}  # fmt: skip
    assert Counter(item.task for item in corpus("coding").items) == shares
    signals = bind_policy(load_policy("coding")).signals
    for item in corpus("coding").items:
        expected = "other" if item.task in ("review", "refactor") else item.task
        assert signals.classify(Request(read_messages(item.input))).task == expected, item.input


def test_codings_quiet_mistakes_are_not_found_by_confidence() -> None:
    """Where the policy has a floor haiku is wrong far more often than it is unsure; in mechanical work it is good."""
    for task in ("architecture", "cross_cutting", "trust_boundary"):
        mine = [item.reply("haiku") for item in corpus("coding").items if item.task == task]
        assert accuracy("coding", task, "haiku") < 0.65
        assert sum(map(escalates, mine)) / len(mine) < 0.35
        assert accuracy("coding", task, "sonnet") > accuracy("coding", task, "haiku") + 0.1
    for task in ("extraction", "reformat", "lint", "rename", "translate"):
        assert accuracy("coding", task, "haiku") > 0.84


def test_codings_texts_differ_by_more_than_their_numbers() -> None:
    """Hundreds of ways to ask, also without digits."""
    texts = {re.sub(r"\d+", "#", text_of(item.input)) for item in corpus("coding").items}
    assert len(texts) > 1_000


def test_storms_lie_where_they_are_said_to_lie() -> None:
    """Nine in ten in the sudden one, four in ten once the slow one has risen, eight in ten at sonnet in the upper one."""
    routine = [(place, item) for place, item in enumerate(corpus("storm").items) if item.task == "routine"]

    def rate(places: range, rung: str) -> float:
        mine = [escalates(item.reply(rung)) for place, item in routine if place in places]
        return sum(mine) / len(mine)

    assert rate(SUDDEN, "haiku") > 0.85
    assert 0.35 < rate(range(SLOW.start + 250, SLOW.stop), "haiku") < 0.47
    assert rate(UPPER, "haiku") > 0.80
    assert rate(UPPER, "sonnet") > 0.70
    calm = [
        escalates(item.reply("haiku")) for place, item in routine if not any(place in s for s in (SUDDEN, SLOW, UPPER))
    ]
    assert sum(calm) / len(calm) < 0.20
    assert {json.loads(f"[{number.replace('-', ',')}]")[0] for number in re.findall(r"\d+-\d+", corpus("storm").manifest.notes or "")} == {
        SUDDEN.start, SLOW.start, UPPER.start,
    }  # fmt: skip


class _Watched(Guard):
    """The real guard; remembers what it told."""

    def __init__(self, settings: StormGuard) -> None:
        super().__init__(settings)
        self.told: list[tuple[str, str, str, int]] = []

    def observe(self, task: str, rung: str, **seen: object) -> object:  # type: ignore[override]
        """As the guard does."""
        action, changes = super().observe(task, rung, **seen)  # type: ignore[arg-type]
        self.told += [(change.kind, change.task, change.rung, change.samples) for change in changes]
        return action, changes


def test_the_default_guard_trips_and_releases_once_in_each_storm() -> None:
    """Sudden and slow at haiku, the last at haiku and sonnet; each is told inside its storm and over before the next."""
    policy = load_policy("default")
    assert policy.storm_guard == StormGuard()
    plan, guard = bind_policy(policy), _Watched(StormGuard())
    told: list[tuple[int, str, str, str, int]] = []
    for place, item in enumerate(corpus("storm").items):
        before = len(guard.told)
        replay_item(plan, item, guard=guard)
        told += [(place, *change) for change in guard.told[before:]]
    assert {change[2] for change in told} == {"routine"}
    changes = [(change[1], change[3]) for change in told]
    assert changes[:4] == [("tripped", "haiku"), ("released", "haiku")] * 2
    assert sorted(changes[4:6]) == [("tripped", "haiku"), ("tripped", "sonnet")]
    assert sorted(changes[6:]) == [("released", "haiku"), ("released", "sonnet")]
    places = [change[0] for change in told]
    assert places[0] in SUDDEN
    assert SUDDEN.stop <= places[1] < SLOW.start
    assert places[2] in SLOW
    assert told[2][4] == StormGuard().window  # the window found it, not the test on sudden changes
    assert SLOW.stop <= places[3] < UPPER.start
    assert {places[4], places[5]} <= set(UPPER)
    assert min(places[6:]) >= UPPER.stop


def test_the_guard_is_calm_on_coding() -> None:
    """There is no storm in it: under its own policy nothing is told."""
    policy = load_policy("coding")
    assert policy.storm_guard is not None
    guard = _Watched(policy.storm_guard)
    plan = bind_policy(policy)
    for item in corpus("coding").items:
        replay_item(plan, item, guard=guard)
    assert guard.told == []
