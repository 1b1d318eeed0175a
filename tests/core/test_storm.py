"""One watch: when it trips, when it does not, when it releases. Seeded chance, time as an argument."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from decimal import Decimal

import pytest

from cascade.core.policy import StormGuard
from cascade.core.storm import Watch, wilson_lower_bound

DEFAULT = StormGuard()


def watch(**settings: object) -> Watch:
    """A watch with these settings, at their rate."""
    made = StormGuard.model_validate(settings)
    return Watch(made, made.rate)


def feed(one: Watch, hits: Iterable[bool], *, start: float = 0.0, every: float = 1.0) -> list[tuple[int, str]]:
    """Count these requests, one each `every` seconds; (number, what changed)."""
    told: list[tuple[int, str]] = []
    for number, hit in enumerate(hits, start=1):
        if change := one.observe(hit, start + number * every):
            told.append((number, change[0]))
    return told


def coins(rate: float, count: int, seed: int) -> list[bool]:
    """`count` requests that escalate at this rate."""
    chance = random.Random(seed)
    return [chance.random() < rate for _ in range(count)]


def newcombe(hits: int, n: int, z: str) -> Decimal:
    """Wilson's lower bound in the form of Newcombe, R. G. (1998), Statistics in Medicine 17, 857-872, method 3."""
    count, of, normal = Decimal(hits), Decimal(n), Decimal(z)
    root = (normal**2 + 4 * count * (of - count) / of).sqrt()
    return (2 * count + normal**2 - normal * root) / (2 * (of + normal**2))


@pytest.mark.parametrize(
    ("hits", "n"), [(0, 10), (1, 10), (5, 10), (35, 100), (80, 200), (81, 263), (10, 10), (499, 500)]
)
def test_the_lower_bound_is_wilsons(hits: int, n: int) -> None:
    """The published form, held to its published example (81 of 263 at 95 %, two-sided: 0.2553), gives the same."""
    assert round(newcombe(81, 263, "1.959963984540054"), 4) == Decimal("0.2553")
    assert wilson_lower_bound(hits, n) == pytest.approx(float(newcombe(hits, n, "1.6448536269514722")), abs=1e-14)


def test_the_lower_bound_solves_the_score_equation() -> None:
    """By its definition: the bound p has (x - p)² = z² p (1 - p) / n. And nothing seen bounds nothing."""
    z2 = 1.6448536269514722**2
    for hits, n in [(1, 3), (35, 100), (199, 200), (250, 500)]:
        bound = wilson_lower_bound(hits, n)
        assert (hits / n - bound) ** 2 == pytest.approx(z2 * bound * (1 - bound) / n)
        assert 0 < bound < hits / n
    assert wilson_lower_bound(0, 0) == 0


def test_a_storm_of_escalations_trips_at_the_twenty_third() -> None:
    """At the default rate .35: 23 straight escalations, and not 22."""
    one = watch()
    assert feed(one, [True] * 22) == []
    assert one.action is None
    assert feed(one, [True]) == [(1, "tripped")]
    assert one.action == "escalate"


def test_a_rate_of_nine_in_ten_is_seen_after_some_twenty_six() -> None:
    """Mean over 400 seeded storms; none of them takes more than 80."""
    delays = [feed(watch(), coins(0.9, 200, seed))[0][0] for seed in range(400)]
    assert 24 < sum(delays) / len(delays) < 31
    assert max(delays) < 80


@pytest.mark.parametrize("seed", range(4))
def test_no_false_alarm_in_twenty_thousand_ordinary_requests(seed: int) -> None:
    """True rate .30 below the limit of .35."""
    assert feed(watch(), coins(0.30, 20_000, seed)) == []


def test_a_slow_storm_is_seen_by_the_window() -> None:
    """.45 against .35, in a pattern that keeps the CUSUM low: at 200 requests and not before."""
    pattern = ([True] * 9 + [False] * 11) * 50
    told = feed(watch(), pattern)
    assert told
    assert told[0][1] == "tripped"
    assert 200 <= told[0][0] <= 500


def test_the_window_waits_for_its_samples() -> None:
    """With min_samples 300 the same pattern is not judged at 299."""
    pattern = ([True] * 9 + [False] * 11) * 50
    told = feed(watch(min_samples=300), pattern)
    assert told[0][0] >= 300


def test_the_window_forgets() -> None:
    """What is older than `window` requests does not count: a hot past and a calm present do not trip."""
    one = watch(window=200, min_samples=200)
    told = feed(one, ([True] * 3 + [False] * 7) * 20 + ([True] * 4 + [False] * 6) * 20 + [False] * 400)
    assert told == []


def tripped(**settings: object) -> Watch:
    """A watch that tripped at second 23."""
    one = watch(**settings)
    assert feed(one, [True] * 23) == [(23, "tripped")]
    return one


def test_a_release_needs_min_samples_since_the_trip() -> None:
    """199 calm requests are not enough, whatever time has passed; the 200th releases."""
    one = tripped()
    assert feed(one, [False] * 199, start=1_000) == []
    assert one.action == "escalate"
    assert feed(one, [False], start=1_200) == [(1, "released")]
    assert one.action is None


def test_a_release_needs_the_dwell() -> None:
    """Two hundred calm requests inside a minute release only when the minute is over."""
    one = tripped(dwell_s=60)
    assert feed(one, [False] * 5_000, start=23, every=0.01) == []
    assert feed(one, [False], start=82) == [(1, "released")]


@pytest.mark.parametrize(("hits_in_100", "released"), [(29, True), (31, False)])
def test_a_release_needs_a_rate_below_the_limit_less_a_margin(hits_in_100: int, released: bool) -> None:
    """Below .30 for a limit of .35: .29 releases, .31 does not."""
    spread = [(number * hits_in_100) % 100 < hits_in_100 for number in range(100)]
    assert any(what == "released" for _, what in feed(tripped(max_trip_s=1e9), spread * 4, start=1_000)) is released


@pytest.mark.parametrize("rate", [0.01, 0.03, 0.05, 0.06, 0.35, 0.95])
def test_every_limit_can_release(rate: float) -> None:
    """Also one below the margin: with nothing escalating at all, the storm is over."""
    one = watch(rate=rate, max_trip_s=1e9)
    assert feed(one, [True] * 2_000)[0][1] == "tripped"
    assert any(what == "released" for _, what in feed(one, [False] * 2_500, start=10_000))


def test_the_storms_own_past_does_not_outweigh_the_calm_after_it() -> None:
    """After 5,000 stormy requests the latest 200 decide."""
    one = tripped(max_trip_s=1e9)
    feed(one, [True] * 5_000, start=23)
    told = feed(one, [False] * 200, start=6_000)
    assert [what for _, what in told] == ["released"]
    assert told[0][0] > 100


def test_cusum_starts_again_after_a_release() -> None:
    """Again 23 straight escalations are needed, none of the old ones counts."""
    one = tripped()
    feed(one, [False] * 200, start=1_000)
    assert feed(one, [True] * 22, start=2_000) == []
    assert feed(one, [True], start=3_000) == [(1, "tripped")]


@pytest.mark.parametrize("seed", range(3))
def test_a_square_wave_of_storms_does_not_make_it_flap(seed: int) -> None:
    """Five storms of 1,000 requests at .8, 1,000 calm ones at .15 between: ten changes at most, trips and releases in turn."""
    wave = [
        hit for storm in range(5) for hit in (*coins(0.8, 1_000, 10 * seed + storm), *coins(0.15, 1_000, 99 + seed))
    ]
    told = [what for _, what in feed(watch(), wave)]
    assert told == ["tripped", "released"] * 5


def test_at_the_border_it_trips_once_and_stays() -> None:
    """Traffic at .42 for a limit of .35 is a storm that does not end: no release, no second trip."""
    told = feed(watch(max_trip_s=1e9), coins(0.42, 20_000, 5))
    assert [what for _, what in told] == ["tripped"]


def test_a_trip_that_lasts_says_that_the_limit_is_wrong_and_only_alerts() -> None:
    """After max_trip_s, once; then the action is alert until the release, and escalate at the next trip."""
    one = tripped(max_trip_s=3_600)
    told = feed(one, [True] * 5_000, start=23)
    assert told == [(3_601, "limit_wrong")]
    assert one.action == "alert"
    assert feed(one, [False] * 200, start=9_000)[-1][1] == "released"
    assert one.action is None
    feed(one, [True] * 23, start=20_000)
    assert one.action == "escalate"


@pytest.mark.parametrize("action", ["escalate", "hold", "alert"])
def test_the_action_is_the_policys(action: str) -> None:
    """None in calm, `on_trip` while tripped."""
    assert watch(on_trip=action).action is None
    assert tripped(on_trip=action).action == action


@pytest.mark.parametrize("make", [lambda: [True] * 30, lambda: coins(0.9, 60, 3)])
def test_a_trip_tells_the_rate_it_was_decided_on(make: Callable[[], list[bool]]) -> None:
    """The rate is of the samples it names, and above the limit."""
    one = watch()
    changes = [change for number, hit in enumerate(make()) if (change := one.observe(hit, float(number)))]
    kind, rate, samples = changes[0]
    assert kind == "tripped"
    assert rate > DEFAULT.rate
    assert rate * samples == pytest.approx(round(rate * samples))
