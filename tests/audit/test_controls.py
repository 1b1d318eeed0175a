"""Control items find a judge that cannot judge, and its rates are withheld."""

from __future__ import annotations

from typing import Any

import pytest

from cascade.audit.controls import (
    control_due,
    first_controls,
    judge_standing,
    known_controls,
    restated,
    withheld_judges,
)
from cascade.audit.drift import read_drift
from cascade.core.control_items import FEWEST
from cascade.ledger.audit import Control, Relation
from tests.audit.auditing import Scene, fair, policy, said
from tests.audit.conftest import MakeScene


def _said(relations: list[Relation | None], *, is_right: bool, judge: str = "judge:opus") -> list[Control]:
    return [Control(judge, is_right, relation, 0.0) for relation in relations]


@pytest.mark.parametrize(
    ("judge", "why"),
    [
        (lambda _: said("agree"), "agrees with 100% of the answers that are known to be wrong"),
        (lambda _: said("disagree"), "disagrees with 100% of the answers that are known to be right"),
        (lambda _: said("cannot_tell"), "of 100% of the control items it says nothing usable"),
        (lambda _: [{"type": "text", "text": "They agree."}], "of 100% of the control items it says nothing usable"),
    ],
)
def test_a_judge_that_cannot_judge_is_found_and_its_rates_are_withheld(
    make_scene: MakeScene, judge: Any, why: str
) -> None:
    """After its first samples: the built-in items are asked before anything is judged."""
    scene = make_scene(judge=judge)
    scene.ship("question 1", "question 2 wrong")
    run = scene.audit()
    standing = run.standings["judge:opus"]
    assert FEWEST <= run.controls == standing.controls <= FEWEST + 2  # a tenth of the requests brings one more
    assert not standing.is_believed
    assert why in standing.why
    withheld = _withheld(scene)
    drift = read_drift(scene.policy, scene.tables, withheld)
    assert drift.rates[0].rate is None
    assert why in (drift.rates[0].withheld or "")


AGREES: Any = said("agree")


def test_a_judge_that_is_not_believed_is_paid_for_nothing_more(make_scene: MakeScene) -> None:
    """Once its control items have shown it: no shadow answer, no judgement, no control item; what needs no judge is graded."""
    scene = make_scene(judge=lambda _: AGREES, tasks=[{"name": "plain", "grader": "exact"}])
    scene.ship(*(f"question {number}" for number in range(6)))
    scene.ship("question 6", task="plain")
    scene.ship("question 7 hard")
    first = scene.audit(settings={"concurrency": 1})
    assert (first.graded, first.skipped, first.waiting) == (2, {}, {"judge:opus": 6})
    assert (first.controls, first.counts["open"], first.counts["leased"]) == (FEWEST, 6, 0)
    asked = scene.emulator.asked
    assert (asked["top", "question 0"], asked["top", "question 1"]) == (1, 0)
    assert not any(kind == "judge" for kind, _ in asked)
    second = scene.audit()
    assert (second.spent, second.controls, second.waiting) == (0, 0, {"judge:opus": 6})
    rates = {rate.task: rate for rate in read_drift(scene.policy, scene.tables, _withheld(scene)).rates}
    assert (rates[""].withheld or "").startswith("judge:opus is not believed: it agrees with 100%")
    assert rates["plain"].rate == 0


@pytest.mark.parametrize("changed", [{"judge": "sonnet"}, {"grader": "exact"}])
def test_the_next_run_with_another_judge_grades_what_waited_from_the_kept_shadow_answers(
    make_scene: MakeScene, changed: dict[str, Any]
) -> None:
    """At once, or with another grader; the top rung is not asked again for what it has answered."""
    replies = [AGREES] * FEWEST
    scene = make_scene(judge=lambda shown: replies.pop() if replies else fair(shown))
    scene.ship("question 1 wrong", "question 2")
    assert scene.audit(settings={"concurrency": 1}).waiting == {"judge:opus": 2}
    run = scene.audit(policy=policy(audit=changed))
    assert (run.graded, run.waiting, run.counts["open"]) == (2, {}, 0)
    assert [scene.samples[question].score for question in ("question 1 wrong", "question 2")] == [0.0, 1.0]
    assert (scene.emulator.asked["top", "question 1 wrong"], scene.emulator.asked["top", "question 2"]) == (1, 1)


def test_another_model_is_another_judge_though_its_rung_is_the_same(make_scene: MakeScene) -> None:
    """Or with other settings: it starts with a clean record, and is tested."""
    scene = make_scene(judge=lambda _: AGREES, audit={"judge": "sonnet"})
    scene.ship("question 1 wrong")
    assert scene.audit().waiting == {"judge:sonnet": 1}
    haiku, sonnet, opus = scene.policy.model_dump(mode="json", exclude_defaults=True)["ladder"]
    other = policy(audit={"judge": "sonnet"}, ladder=[haiku, {**sonnet, "effort": "high"}, opus])
    run = scene.audit(policy=other)
    assert (run.controls, run.waiting, run.standings["judge:sonnet"].controls) == (FEWEST, {"judge:sonnet": 1}, FEWEST)


def _withheld(scene: Scene) -> dict[str, str]:
    return withheld_judges(known_controls(scene.policy, scene.tables, scene.now))


def test_a_fair_judge_is_believed_and_its_rates_are_told(make_scene: MakeScene) -> None:
    """Its first control items are asked once, whatever runs at once; the money is on the ledger."""
    scene = make_scene(judge=fair)
    scene.ship("question 1", "question 2 wrong", "question 3", "question 4")
    run = scene.audit()
    standing = run.standings["judge:opus"]
    assert (standing.is_believed, standing.why) == (True, "")
    assert (standing.false_agree, standing.false_disagree, standing.unusable) == (0.0, 0.0, 0.0)
    assert FEWEST <= run.controls <= FEWEST + 4
    assert all(one.cost > 0 for one in scene.tables.controls("shop"))
    drift = read_drift(scene.policy, scene.tables, _withheld(scene))
    assert (drift.rates[0].losses, drift.rates[0].counted) == (1, 4)


@pytest.mark.parametrize(
    ("right", "wrong", "is_believed"),
    [
        (["agree"] * 6, ["disagree"] * 6, True),
        (["agree"] * 5 + ["disagree"], ["disagree"] * 5 + ["agree"], True),
        (["agree"] * 4 + ["disagree"] * 2, ["disagree"] * 6, False),
        (["agree"] * 6, ["disagree"] * 4 + ["agree"] * 2, False),
        (["agree"] * 5 + [None], ["disagree"] * 5 + ["cannot_tell"], True),
        (["agree"] * 4 + [None] * 2, ["disagree"] * 5 + [None], False),
        (["agree"] * 20, ["disagree"] * 5, False),
        ([], [], False),
    ],
)
def test_a_judge_is_believed_up_to_a_fifth_of_errors_on_either_side(
    right: list[Relation | None], wrong: list[Relation | None], is_believed: bool
) -> None:
    """On six right and six wrong items at least; what is not usable counts by itself."""
    controls = [*_said(right, is_right=True), *_said(wrong, is_right=False)]
    standing = judge_standing(controls, "judge:opus")
    assert standing.is_believed is is_believed
    assert bool(standing.why) is not is_believed
    assert standing.controls == len(controls)


def test_only_a_judges_own_newest_items_count() -> None:
    """One that has become worse is found; another judge's items say nothing of it."""
    good = [one for _ in range(50) for one in (*_said(["agree"], is_right=True), *_said(["disagree"], is_right=False))]
    bad = [one for _ in range(15) for one in (*_said(["agree"], is_right=True), *_said(["agree"], is_right=False))]
    assert judge_standing(good, "judge:opus").is_believed
    assert not judge_standing([*good, *bad], "judge:opus").is_believed
    assert judge_standing(good, "judge:sonnet").controls == 0
    assert set(withheld_judges([*good, *bad], ("judge:sonnet",))) == {"judge:opus", "judge:sonnet"}


def test_the_first_items_are_six_right_and_six_wrong_and_a_tenth_of_the_requests_brings_one_more() -> None:
    """Decided by the request's id; a third of the later ones is the shadow answer in another form."""
    again = restated("so?", "line one\nline two")
    assert again.answer != again.reference
    assert again.answer.split() == again.reference.split()

    def due(controls: list[Control], request: str) -> Any:
        return control_due(controls, "judge:opus", again, request, follows=False)

    controls: list[Control] = []
    for _ in range(FEWEST):
        item = due(controls, "r")
        assert item in first_controls()
        controls += _said(["agree"], is_right=item.is_right)
    assert sum(one.is_right for one in controls) == FEWEST // 2
    later = [item for item in (due(controls, f"request-{number}") for number in range(3_000)) if item is not None]
    assert 240 <= len(later) <= 360
    assert 60 <= later.count(again) <= 140
    assert sum(not item.is_right for item in later) > 60
    follows = (control_due(controls, "judge:opus", again, f"request-{n}", follows=True) for n in range(100))
    assert not any(follows)


def test_every_built_in_item_has_an_answer_of_its_own() -> None:
    """No question has the same answer as right and as wrong, and none is its reference word for word."""
    items = first_controls()
    assert len({(item.question, item.answer) for item in items}) == len(items) >= FEWEST
    assert all(item.answer != item.reference for item in items)
