"""The synthetic corpora that the project ships: made by the command that is told, and with the properties it claims."""

from __future__ import annotations

import gzip
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import pytest

from cascade.core.policy import StormGuard
from cascade.core.storm import Guard
from cascade.corpora.items import Corpus, Item, RecordedReply, text_of
from cascade.corpora.reading import read_corpus

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
SHIPPED = BENCHMARKS / "corpora" / "support.jsonl.gz"
RUNGS = ("haiku", "sonnet", "opus")
STORM = range(265, 340)
DEMO = 600  # the demo takes the first so many
THRESHOLD = 0.80
# List prices of November 2026, USD per million tokens: input, output.
PRICES = {"haiku": ("0.10", "0.50"), "sonnet": ("2", "10"), "opus": ("4", "20")}


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    """Read the shipped corpus, which checks every line of it."""
    return read_corpus(SHIPPED)


@pytest.fixture(scope="module")
def items(corpus: Corpus) -> tuple[Item, ...]:
    """Give its items, in order of arrival."""
    return corpus.items


@pytest.fixture(scope="module")
def regenerated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Run the command once; give the file it wrote and what it printed."""
    path = tmp_path_factory.mktemp("simulated") / "support.jsonl.gz"
    return path, simulate(path)


def simulate(path: Path, *options: str) -> str:
    """Run the command without site packages, in a time zone and hash order of its own, and give what it printed."""
    command = [sys.executable, "-S", str(BENCHMARKS / "simulate.py"), "support", "-o", str(path), *options]
    environment = {"PYTHONHASHSEED": "random", "PYTHONDONTWRITEBYTECODE": "1", "TZ": "Asia/Tokyo"}
    done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", timeout=60, check=True)
    return done.stdout


def replies_of(items: Sequence[Item], rung: str) -> list[RecordedReply]:
    """Give one rung's reply to each item."""
    return [item.reply(rung) for item in items]


def is_right(reply: RecordedReply) -> bool:
    """Tell whether it was graded right."""
    return reply.score == 1.0


def share(flags: Sequence[bool]) -> float:
    """Give the share of flags that are up."""
    return sum(flags) / len(flags)


def escalates(reply: RecordedReply) -> bool:
    """Tell whether its confidence would send it up at 0.80 (declined and numberless replies do)."""
    return reply.answer is None or reply.confidence is None or reply.confidence < THRESHOLD


def climb(item: Item) -> tuple[str, list[RecordedReply]]:
    """Give the rung that ships at 0.80, and all replies up to it."""
    paid: list[RecordedReply] = []
    for rung in RUNGS[:-1]:
        paid.append(item.reply(rung))
        if not escalates(paid[-1]):
            return rung, paid
    return RUNGS[-1], [*paid, item.reply(RUNGS[-1])]


def dollars(replies: Sequence[RecordedReply]) -> float:
    """Give what these replies cost together."""
    return sum(reply.cost_usd or 0.0 for reply in replies)


def auroc(replies: Sequence[RecordedReply]) -> float:
    """Give the chance that a right answer says more than a wrong one, pair by pair, ties half."""
    said = [(r.confidence, is_right(r)) for r in replies if r.answer is not None and r.confidence is not None]
    right, wrong = [sure for sure, ok in said if ok], [sure for sure, ok in said if not ok]
    won = sum((high > low) + (high == low) / 2 for high in right for low in wrong)
    return won / (len(right) * len(wrong))


def storms(items: Sequence[Item], settings: StormGuard) -> Iterator[tuple[int, str, str, str]]:
    """Give (place, kind, task, rung) of all that the real guard tells; while tripped it sends a rung's answers up."""
    guard = Guard(settings)
    for place, item in enumerate(items):
        for rung in RUNGS[:-1]:
            natural = escalates(item.reply(rung))
            action, changes = guard.observe(
                item.task or "", rung, natural=natural, failed=False, storm_cost=0, now=item.at or 0.0
            )
            yield from ((place, change.kind, change.task, change.rung) for change in changes)
            if not natural and action != "escalate":
                break


def test_regenerating_gives_the_shipped_bytes(regenerated: tuple[Path, str]) -> None:
    """The command alone, with the standard library alone, makes the file again (unpacked: zlib builds differ)."""
    assert gzip.decompress(regenerated[0].read_bytes()) == gzip.decompress(SHIPPED.read_bytes())


def test_another_seed_gives_another_corpus(tmp_path: Path, corpus: Corpus) -> None:
    """The seed is what the chance comes from, and without .gz the file is plain JSON lines."""
    path = tmp_path / "other.jsonl"
    simulate(path, "--seed", "1")
    other = read_corpus(path)
    assert len(other.items) == len(corpus.items)
    assert not {item.input for item in other.items if isinstance(item.input, str)} >= {
        item.input for item in corpus.items if isinstance(item.input, str)
    }


def test_the_readme_shows_what_the_command_prints(regenerated: tuple[Path, str]) -> None:
    """The table in the corpora's README is the command's own, and is called synthetic."""
    table = regenerated[1].split("\nwrote ")[0].strip()
    assert table.startswith("synthetic")
    assert table in (SHIPPED.parent / "README.md").read_text(encoding="utf-8")


def test_the_printed_figures_are_those_of_the_corpus(regenerated: tuple[Path, str], items: tuple[Item, ...]) -> None:
    """Accuracy, AUROC and the cascade's row agree with a second computation."""
    printed = regenerated[1]
    for rung in RUNGS[:-1]:
        replies = replies_of(items, rung)
        told = [number for number in (reply.confidence for reply in replies) if number is not None]
        accuracy, mean = share([is_right(reply) for reply in replies]), sum(told) / len(told)
        assert re.search(rf"{rung} +{accuracy:.3f} +{mean:.3f} +{auroc(replies):.3f} ", printed)
    shipped = [climb(item) for item in items]
    quality = share([is_right(trail[-1]) for _, trail in shipped])
    cost = 1000 * sum(dollars(trail) for _, trail in shipped) / len(items)
    harm = share([rung != "opus" and not is_right(trail[-1]) for rung, trail in shipped])
    assert re.search(rf"cascade at 0.80 +{quality:.3f} +{cost:.4f} +{1 - quality:.3f} +{harm:.3f} ", printed)


def test_the_file_is_small_and_bears_no_time() -> None:
    """Under 2 MB, and nothing in the container says when it was packed."""
    packed = SHIPPED.read_bytes()
    assert len(packed) < 2_000_000
    assert packed[4:8] == bytes(4)


def test_the_manifest_says_what_it_is(corpus: Corpus) -> None:
    """Synthetic, for the 5.5 trio, 1,200 items; the reader has checked every line by now."""
    manifest = corpus.manifest
    assert (manifest.name, manifest.synthetic, manifest.grader, manifest.items) == ("support", True, "exact", 1200)
    assert [(entry.rung, entry.model) for entry in manifest.ladder] == [
        ("haiku", "claude-haiku-5-5"),
        ("sonnet", "claude-sonnet-5-5"),
        ("opus", "claude-opus-5-5"),
    ]
    assert all(set(item.replies) == set(RUNGS) and item.extra is None and item.group for item in corpus.items)


def test_the_mix_is_exact_in_both_halves(items: tuple[Item, ...]) -> None:
    """60 % routine, 25 % one tool, 10 % several steps, 5 % long: over all, and over what the demo takes."""
    mix = {"routine": 360, "single_tool": 150, "multi_step": 60, "long_transcript": 30}
    assert Counter(item.task for item in items[:DEMO]) == mix
    assert Counter(item.task for item in items[DEMO:]) == mix


def test_requests_arrive_one_in_two_seconds(items: tuple[Item, ...]) -> None:
    """Arrivals never go back, and their gaps are as spread as a Poisson process's (mean and deviation 2 s)."""
    times = [item.at or 0.0 for item in items]
    gaps = [later - sooner for sooner, later in pairwise(times)]
    mean = sum(gaps) / len(gaps)
    deviation = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert min(gaps) >= 0
    assert 1.8 < mean < 2.2
    assert 1.7 < deviation < 2.3


def test_no_two_requests_ask_with_the_same_text(items: tuple[Item, ...]) -> None:
    """The emulator finds an item by the text of the last user turn."""
    assert len({text_of(item.input) for item in items}) == len(items)


def test_the_texts_are_phrased_in_hundreds_of_ways(items: tuple[Item, ...]) -> None:
    """Texts differ by more than their numbers, and long transcripts are the long ones, in both shapes."""
    assert len({re.sub(r"\d+", "#", text_of(item.input)) for item in items}) > 900
    long = [item.input for item in items if item.task == "long_transcript"]
    lists = [turns for turns in long if not isinstance(turns, str)]
    assert 15 < len(lists) < 45
    assert all(
        [turn["role"] for turn in turns] == ["user", "assistant"] * (len(turns) // 2) + ["user"] for turns in lists
    )
    assert min(len(thread) for thread in long if isinstance(thread, str)) > 1500
    assert max(len(text_of(item.input)) for item in items if item.task != "long_transcript") < 500


def test_a_right_answer_is_the_expected_one(items: tuple[Item, ...]) -> None:
    """An exact match grades every recorded answer as it was graded; a declined one is not right."""
    for item in items:
        assert all(is_right(reply) == (reply.answer == item.expected) for reply in item.replies.values())
        assert all(reply.answer != "" for reply in item.replies.values())


def test_every_reply_costs_its_usage_at_list_price(items: tuple[Item, ...]) -> None:
    """No cost is made up: it is the usage at the list prices, to the last digit."""
    for item in items:
        for rung, reply in item.replies.items():
            price_in, price_out = map(Decimal, PRICES[rung])
            exact = (price_in * reply.tokens.input_tokens + price_out * reply.tokens.output_tokens) / 1_000_000
            assert reply.cost_usd == float(exact)


def test_rungs_are_right_as_often_as_assumed(items: tuple[Item, ...]) -> None:
    """About .78, .90 and .95; the upper rungs err far more often where haiku erred (one difficulty drives all)."""
    right = {rung: [is_right(reply) for reply in replies_of(items, rung)] for rung in RUNGS}
    assert 0.76 < share(right["haiku"]) < 0.80
    assert 0.88 < share(right["sonnet"]) < 0.92
    assert 0.94 < share(right["opus"]) < 0.97
    where_haiku_erred = share([not up for low, up in zip(right["haiku"], right["sonnet"], strict=True) if not low])
    where_it_did_not = share([not up for low, up in zip(right["haiku"], right["sonnet"], strict=True) if low])
    assert where_haiku_erred > 3 * where_it_did_not


@pytest.mark.parametrize(("rung", "low", "high", "gap"), [("haiku", 0.66, 0.74, 0.05), ("sonnet", 0.71, 0.80, -0.04)])
def test_confidences_are_clumped_and_rank_poorly(
    items: tuple[Item, ...], rung: str, low: float, high: float, gap: float
) -> None:
    """11 to 20 levels, three hold about three quarters or more; a weak AUROC; haiku is overconfident."""
    replies = replies_of(items, rung)
    told = [reply.confidence for reply in replies if reply.confidence is not None]
    levels = Counter(told)
    assert 11 <= len(levels) <= 20
    assert {level for level, _ in levels.most_common(3)} == {0.85, 0.90, 0.95}
    assert 0.70 < sum(count for _, count in levels.most_common(3)) / len(told) < 0.95
    assert low < auroc(replies) < high
    assert sum(told) / len(told) - share([is_right(reply) for reply in replies]) > gap


def test_some_replies_decline_and_some_have_no_number(items: tuple[Item, ...]) -> None:
    """A few of each below the top; the top rung answers plainly: always, and never with a number."""
    haiku, opus = replies_of(items, "haiku"), replies_of(items, "opus")
    assert 5 <= sum(reply.answer is None for reply in haiku) <= 40
    assert 3 <= sum(reply.confidence is None for reply in haiku) <= 25
    assert all(reply.confidence is None and reply.answer is not None for reply in opus)


def test_a_cascade_at_080_is_cheap_and_confidently_wrong(items: tuple[Item, ...]) -> None:
    """The corpus flatters nobody: far cheaper than sonnet or opus alone, and wrong more often than sonnet alone."""
    shipped = [climb(item) for item in items]
    cost = sum(dollars(trail) for _, trail in shipped)
    confidently_wrong = share([rung != "opus" and not is_right(trail[-1]) for rung, trail in shipped])
    sonnet = replies_of(items, "sonnet")
    assert cost < dollars(sonnet) / 2 < dollars(replies_of(items, "opus")) / 2
    assert share([not is_right(reply) for reply in sonnet]) < confidently_wrong < 0.20


def test_haiku_loses_confidence_in_the_storm_and_regains_it(items: tuple[Item, ...]) -> None:
    """85 to 95 % of the outage's routine requests go up, 12 to 20 % of all others, over 150 of them after it."""
    routine = [(place, item.reply("haiku")) for place, item in enumerate(items) if item.task == "routine"]
    inside = [escalates(reply) for place, reply in routine if place in STORM]
    after = [escalates(reply) for place, reply in routine if STORM.stop <= place < DEMO]
    outside = [escalates(reply) for place, reply in routine if place not in STORM]
    assert 0.85 <= share(inside) <= 0.95
    assert len(after) >= 150
    assert share(after) < 0.20
    assert 0.12 <= share(outside) <= 0.20


@pytest.mark.parametrize(
    ("settings", "first"),
    [
        (StormGuard(rate=0.35, window=200, min_samples=50, dwell_s=60.0), DEMO),
        (StormGuard(rate=0.35, window=200, min_samples=50, dwell_s=60.0), 1200),
        (StormGuard(), 1200),
    ],
    ids=["demo", "demo's settings, all items", "default settings, all items"],
)
def test_the_guard_trips_once_and_releases_once(items: tuple[Item, ...], settings: StormGuard, first: int) -> None:
    """One storm at haiku's routine requests, told inside the outage and over after it; nothing else anywhere."""
    told = list(storms(items[:first], settings))
    assert [change[1:] for change in told] == [("tripped", "routine", "haiku"), ("released", "routine", "haiku")]
    assert told[0][0] in STORM
    assert told[1][0] >= STORM.stop
