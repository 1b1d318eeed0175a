"""The scorer in a climb: a dot product of what is known when a rung has answered, in place of its self-report."""

from __future__ import annotations

from math import exp, log, log1p
from typing import Any

import pytest

from cascade.core.policy import Policy
from cascade.core.policy.scorer import Feature, Scoring
from cascade.core.scoring import Facts, confidence_of, logistic, score, value_of
from cascade.core.text.answers import normalised
from cascade.core.trail import Verdict
from cascade.corpora import Item, RecordedReply
from cascade.policy.binding import bind_policy
from cascade.replay import replay_item

from .builders import answer_of, policy_of, reply, request_of, run

PLAIN = reply(None, "the top's answer")


def term(name: str, weight: float, mean: float = 0.0, scale: float = 1.0) -> dict[str, Any]:
    """One feature, as a policy has it."""
    return {"name": name, "mean": mean, "scale": scale, "weight": weight}


def scoring(bias: float, *features: dict[str, Any]) -> dict[str, Any]:
    """A rung's scoring, as a policy has it."""
    return {"bias": bias, "features": list(features)}


def said(confidence: float, text: str | None) -> Verdict:
    """An answer with a self-report."""
    return Verdict("answered", confidence, "self_reported", text)


def test_a_score_is_the_logistic_of_bias_and_weighted_standardised_values() -> None:
    """By hand: level, logit, lengths, task and agreement, each (value - mean) / scale x weight."""
    scorer = Scoring.model_validate(
        scoring(
            0.3,
            term("level", 2.0, 0.5, 0.25),
            term("logit", -0.5, 1.0, 2.0),
            term("log_input", 0.1, 3.0, 0.5),
            term("log_answer", 0.2, 1.0, 0.5),
            term("task:law", 0.7, 0.2, 0.4),
            term("agrees:r0", 1.1, 0.6, 0.5),
            term("level:r0", 0.9, 0.5, 0.1),
            term("logit:r0", 0.4, 0.1, 0.3),
        )
    )
    facts = Facts(40, "law", (said(0.6, "Paris"), said(0.9, "paris!")))
    total = 0.3 + 2.0 * (0.9 - 0.5) / 0.25 - 0.5 * (log(9) - 1.0) / 2.0 + 0.1 * (log1p(40) - 3.0) / 0.5
    total += 0.2 * (log1p(6) - 1.0) / 0.5 + 0.7 * (1 - 0.2) / 0.4 + 1.1 * (1 - 0.6) / 0.5
    total += 0.9 * (0.6 - 0.5) / 0.1 + 0.4 * (log(1.5) - 0.1) / 0.3
    assert score(scorer, facts, ("r0", "r1")) == round(1 / (1 + exp(-total)), 6)


def test_a_gain_is_the_sum_itself_and_makes_a_lower_confidence_the_higher_it_is() -> None:
    """By hand: a level, an agreement, and the agreement times the logit; (1 - sum) / 2 of them."""
    features = (term("is:0.9", -0.2, 0.5, 0.5), term("agrees:r0", -0.1), term("agrees:r0*logit", -0.05, 1.0, 2.0))
    scorer = Scoring.model_validate({"target": "gain", **scoring(0.3, *features)})
    facts = Facts(40, "law", (said(0.6, "Paris"), said(0.9, "paris!")))
    gain = 0.3 - 0.2 * (1 - 0.5) / 0.5 - 0.1 - 0.05 * (log(9) - 1.0) / 2.0
    assert score(scorer, facts, ("r0", "r1")) == round((1 - gain) / 2, 6)
    less_sure = Facts(40, "law", (said(0.6, "Paris"), said(0.8, "Bonn")))
    assert score(scorer, less_sure, ("r0", "r1")) < score(scorer, facts, ("r0", "r1"))


@pytest.mark.parametrize(("gain", "number"), [(-1.0, 1.0), (0.0, 0.5), (1.0, 0.0), (-7.0, 1.0), (1e308, 0.0)])
def test_a_gain_beyond_what_a_score_can_gain_is_a_confidence_all_the_same(gain: float, number: float) -> None:
    """Between 0 and 1, and never higher for a higher gain."""
    assert confidence_of("gain", gain) == number


def test_what_is_not_known_adds_nothing() -> None:
    """An answer whose text was not recorded, and a lower rung that gave none, stand at their means."""
    names = ("log_answer", "agrees:r0", "agrees:r0*logit", "level:r0", "logit:r0")
    scorer = Scoring(bias=0.4, features=tuple(Feature(name=one, mean=5, scale=1, weight=3) for one in names))
    facts = Facts(40, "other", (Verdict("malformed"), said(0.9, None)))
    assert [value_of(name, facts, ("r0", "r1")) for name in names] == [None] * 5
    assert score(scorer, facts, ("r0", "r1")) == logistic(0.4)


@pytest.mark.parametrize("confidence", [0.0, 1.0])
def test_a_flat_certainty_is_a_finite_number(confidence: float) -> None:
    """0 and 1 have no logit; they count as 1 and 99 in a hundred do."""
    facts = Facts(1, "other", (said(confidence, "x"),))
    assert value_of("logit", facts, ("r0",)) == pytest.approx((2 * confidence - 1) * log(99))


@pytest.mark.parametrize(("total", "number"), [(0.0, 0.5), (1e308, 1.0), (-1e308, 0.0), (float("inf"), 1.0)])
def test_a_score_stays_between_0_and_1(total: float, number: float) -> None:
    """However far the weights carry it."""
    assert logistic(total) == number


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("Paris", " paris. ", True),
        ("\uff21\uff22\uff23", "abc", True),
        ("B", "(b)", True),
        ("the cat, black", "the cat - black", True),
        ("1.5", "15", False),
        ("-3", "3", False),
        ("3", "3.", True),
        ("10:30", "1030", False),
        ("C", "C++", False),
        ("!", "?", False),
        ("…", "…", True),
        ("yes", "no", False),
        ("文", "字", False),
    ],
)
def test_answers_agree_by_their_words_and_numbers(one: str, other: str, alike: bool) -> None:
    """Case, width, white space and punctuation do not part two answers; a sign or a point in a number does."""
    facts = Facts(1, "other", (said(0.5, one), said(0.5, other)))
    assert value_of("agrees:r0", facts, ("r0", "r1")) == float(alike)
    assert normalised(normalised(one)) == normalised(one)


SCORED = {
    "r0": scoring(-2.0, term("level", 1.0)),
    "r1": scoring(-2.0, term("level", 1.0), term("agrees:r0", 4.0)),
}


def scored_policy(**more: Any) -> Policy:
    """Three rungs at 0.8, the lower two of them scored: a rung is sure only where the one below it agrees."""
    return policy_of(scorer=SCORED, **more)


def test_the_score_takes_the_place_of_the_self_report() -> None:
    """A proud first rung climbs; a second one that agrees ships by its score. Both self-reports stay on the trail."""
    answer = answer_of(scored_policy(), reply(0.99, "Berlin"), reply(0.5, "berlin"))
    assert (answer.rung, answer.text, answer.confidence_source) == ("r1", "berlin", "calibrated")
    assert answer.confidence == logistic(-2.0 + 0.5 + 4.0)
    first, second = (one.verdict for one in answer.steps)
    assert (first.confidence, first.source, first.self_reported) == (logistic(-2.0 + 0.99), "calibrated", 0.99)
    assert (second.self_reported, second.stated) == (0.5, 0.5)
    assert answer.steps[0].reason == "low_confidence"


def test_a_rung_without_a_score_keeps_its_self_report() -> None:
    """And its source says so: confidences of two sources are never compared with one another."""
    policy = policy_of(scorer={"r1": SCORED["r1"]})
    answer = answer_of(policy, reply(0.9, "yes"))
    assert (answer.confidence, answer.confidence_source, answer.steps[0].verdict.self_reported) == (
        0.9,
        "self_reported",
        None,
    )


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        (reply(0.9, None), "declined"),
        (reply(None, "no JSON"), "malformed"),
        (reply(0.9, ""), "check_failed"),
    ],
)
def test_a_score_gives_nothing_a_right_to_ship(outcome: Any, reason: str) -> None:
    """However high it is: what declined, could not be read or failed a check still climbs."""
    policy = policy_of(scorer={"r0": scoring(30.0)})
    assert answer_of(policy, outcome, reply(0.9)).steps[0].reason == reason


def test_the_top_is_never_scored() -> None:
    """It answers plainly."""
    answer = answer_of(scored_policy(), reply(0.1, "a"), reply(0.1, "b"), PLAIN)
    assert (answer.rung, answer.confidence, answer.confidence_source) == ("r2", None, None)


@pytest.mark.parametrize("texts", [("Berlin", "berlin."), ("Berlin", "Bonn"), ("Berlin", None)])
def test_a_score_means_live_what_it_means_in_replay(texts: tuple[str, str | None]) -> None:
    """The same request and replies, live and recorded: the same numbers to the last digit, the same rung."""
    lengths = (term("log_input", 0.3, 2.0, 0.7), term("log_answer", -0.2, 1.0, 0.3), term("task:geo", 0.5))
    features = {name: {**one, "features": [*one["features"], *lengths]} for name, one in SCORED.items()}
    plan = bind_policy(policy_of(scorer=features))
    live = run(
        plan, [reply(0.9, texts[0]), reply(0.7, texts[1]), PLAIN], request=request_of("where?", task="geo")
    ).answer
    replies = {
        "r0": RecordedReply(confidence=0.9, answer=texts[0], cost_usd=0.0),
        "r1": RecordedReply(confidence=0.7, answer=texts[1], cost_usd=0.0),
        "r2": RecordedReply(answer="the top's answer", cost_usd=0.0),
    }
    recorded = replay_item(plan, Item("i", "where?", replies, task="geo"))
    assert live is not None
    assert [one.verdict for one in live.steps] == [one.verdict for one in recorded.steps]
    assert (live.rung, live.confidence) == (recorded.rung, recorded.confidence)


def test_a_changed_weight_is_another_policy() -> None:
    """The policy's hash, which stands on every answer, knows the scorer."""
    other = {"r0": scoring(-2.0, term("level", 1.000001))}
    assert len({policy_of().hash, policy_of(scorer={"r0": SCORED["r0"]}).hash, policy_of(scorer=other).hash}) == 3


def test_a_policy_without_a_target_is_the_one_it_was_before_there_were_targets() -> None:
    """Its text, its hash and so its certificate: the default is left out wherever a scorer is written."""
    told = {"r0": {"target": "right", **SCORED["r0"]}}
    assert policy_of(scorer=told).hash == policy_of(scorer={"r0": SCORED["r0"]}).hash
    assert "target" not in Scoring.model_validate(told["r0"]).model_dump()
    gained = {"r0": {"target": "gain", **SCORED["r0"]}}
    assert policy_of(scorer=gained).hash != policy_of(scorer=told).hash
    assert Scoring.model_validate(gained["r0"]).model_dump(mode="json")["target"] == "gain"


def test_a_gain_ships_what_no_rung_above_would_better() -> None:
    """The same rule, confidence >= threshold; the source is `calibrated`, and the self-report stays on the trail."""
    scorer = {"r0": {"target": "gain", **scoring(-0.7, term("is:0.4", 0.5))}}
    answer = answer_of(policy_of(scorer=scorer), reply(0.3, "no idea"))
    assert (answer.rung, answer.confidence, answer.confidence_source) == ("r0", 0.85, "calibrated")
    assert answer.steps[0].verdict.self_reported == 0.3
    assert answer_of(policy_of(scorer=scorer), reply(0.4, "no idea"), reply(0.9)).rung == "r1"
