"""Which roles a policy uses, and what a change of one role's words does to the certificates."""

from __future__ import annotations

from typing import Any

import pytest

from cascade.audit.grading import audit_prompts
from cascade.core.messages import Request
from cascade.core.policy import Policy
from cascade.core.triage import triage_version
from cascade.policy.binding import bind_baseline, bind_policy
from cascade.policy.certificates import changed_parts, changed_roles, changes_text, epoch_of, hashes_of
from cascade.policy.roles import climb_roles, plan_roles, prompts_of
from tests.calibration.certified import certified, with_keys
from tests.core.builders import policy_of
from tests.prompts.edited import edit

REVIEW = {"kind": "review", "rung": "r2", "below": 0.95}
MINE = {"name": "mine", "prompt": "Say how sure you are."}


def sampled(**samples: Any) -> Policy:
    """A policy whose first rung is asked up to three times."""
    ladder = [rung.model_dump(exclude_unset=True) for rung in policy_of().ladder]
    ladder[0]["samples"] = {"max": 3, "agree": 2, **samples}
    return with_keys(policy_of(), ladder=ladder)


POLICIES: dict[str, Policy] = {
    "plain": policy_of(),
    "own text": policy_of(triage={"prompt": "Say how sure you are."}),
    "variants": sampled(variants=["steps", MINE]),
    "judged": sampled(same="judge"),
    "reviewed": policy_of(checks=[REVIEW]),
    "reviewed task": policy_of(tasks=[{"name": "careful", "checks": [REVIEW]}]),
    "summarised": policy_of(prepare={"summarize": {"above_tokens": 500}}),
    "trimmed": policy_of(prepare={"trim": {}}),
    "doubting": policy_of(handoff="doubt"),
    "planned": policy_of(tasks=[{"name": "letter", "handoff": "artifact"}]),
    "planning": policy_of(plan={"planner": "r1", "reviewer": "r1"}),
    "audited": policy_of(audit={"grader": "judge"}),
}
ROLES = {
    "plain": ("triage",),
    "own text": ("triage",),
    "variants": ("triage/steps", "triage/mine"),
    "judged": ("triage", "judge"),
    "reviewed": ("triage", "review_gate"),
    "reviewed task": ("triage", "review_gate"),
    "summarised": ("triage", "summariser"),
    "trimmed": ("triage",),
    "doubting": ("triage", "handoff/doubt"),
    "planned": ("triage", "handoff/artifact"),
    "planning": ("triage",),
    "audited": ("triage",),
}


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_has_the_roles_that_it_uses_and_no_others(name: str) -> None:
    """Those of the climb: a certificate's. In the order in which a request may come to them."""
    rungs_below_the_top = policy_of().ladder[:-1]
    assert len(rungs_below_the_top) == 2, "the second is asked plainly in the policies with samples"
    expected = ROLES[name] if name != "variants" else (*ROLES[name], "triage")
    assert tuple(climb_roles(POLICIES[name])) == expected


# By the file that is edited and the words in it: the roles, of those above, that are changed.
EDITS = [
    ("triage", "A confident mistake is the worst outcome.", {"triage", "triage/steps"}),
    ("triage", "as short notes in at most five lines", {"triage/steps"}),
    ("triage", "what would make your own answer wrong", set[str]()),
    ("judge", "Group them by meaning", {"judge"}),
    ("review_gate", "Wording, length and style", {"review_gate"}),
    ("summariser", "Leave out greetings", {"summariser"}),
    ("handoff", "It refused to answer.", {"handoff/doubt"}),
    ("handoff", "Reply with the plan and nothing else.", {"handoff/artifact"}),
    ("audit_judge", "Wording, order, length", set[str]()),
    ("grading_judge", "hold it to be right", set[str]()),
    ("tools", "when you have the final answer", set[str]()),
    ("form", "without a code fence", set[str]()),
    ("planner", "Assign the cheapest rung that will do", set[str]()),
    ("executor", "Keep to the sources", set[str]()),
    ("reviewer", "Compare names, numbers, dates", set[str]()),
]


@pytest.mark.parametrize(("file", "words", "changed"), EDITS)
def test_other_words_void_the_certificates_that_rest_on_them_and_no_others(
    monkeypatch: pytest.MonkeyPatch, file: str, words: str, changed: set[str]
) -> None:
    """Of every policy here; with the roles in the certificate the change has a name, and one without them is void too."""
    named = {name: certified(policy, roles=climb_roles(policy)) for name, policy in POLICIES.items()}
    unnamed = {name: certified(policy) for name, policy in POLICIES.items()}
    edit(monkeypatch, file, words, f"{words} ")
    own = {"own text": {"triage"}, "variants": {"triage/mine"}}
    for name, policy in POLICIES.items():
        expected = tuple(role for role in climb_roles(policy) if role in changed - own.get(name, set()))
        assert changed_roles(named[name]) == expected, name
        assert changed_parts(named[name]) == changed_parts(unnamed[name]) == (("prompts",) if expected else ()), name
        assert changed_roles(unnamed[name]) == ()


def test_a_change_of_the_replys_schema_alone_voids_a_certificate_that_names_the_roles(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The one hash of all prompts is of the words: it cannot see that."""
    before = {roles: certified(POLICIES["judged"], **({"roles": climb_roles(POLICIES["judged"])} if roles else {}))
              for roles in (True, False)}  # fmt: skip
    edit(
        monkeypatch,
        "judge",
        '"type": "array", "items": {"type": "integer"}',
        '"type": "array", "items": {"type": "number"}',
    )
    assert (changed_parts(before[True]), changed_parts(before[False])) == (("prompts",), ())


def test_a_stale_certificate_names_the_roles_where_it_can() -> None:
    """In words, for the command line."""
    proved = certified(POLICIES["judged"], roles=climb_roles(POLICIES["judged"]))
    other = with_keys(proved, triage={"order": "steps"})
    assert changes_text(other, changed_parts(other)) == "prompts (triage) and thresholds changed"
    older = with_keys(certified(policy_of()), triage={"order": "steps"})
    assert changes_text(older, changed_parts(older)) == "prompts changed"
    gone = with_keys(proved, ladder=[rung.model_dump(exclude_unset=True) for rung in policy_of().ladder])
    assert changed_roles(gone) == ("judge",), "a role that is no longer used"


def test_roles_that_come_to_no_climb_leave_the_certificate_in_force() -> None:
    """A planner's, an executor's and a reviewer's own prompts, and the audit's judge."""
    proved = certified(policy_of(), roles=climb_roles(policy_of()))
    prompts = {"planner": "Plan.", "executor": "Do it.", "reviewer": "Read it."}
    for keys in ({"plan": {"planner": "r1", "reviewer": "r1", "prompts": prompts}}, {"audit": {"grader": "judge"}}):
        assert changed_parts(with_keys(proved, **keys)) == ()
        assert epoch_of(with_keys(proved, **keys), 0) == epoch_of(proved, 0)


def test_the_summarisers_words_are_a_part_of_what_a_certificate_holds_for() -> None:
    """Of a policy that summarises, if only for one task; the hash of one that does not is as it was before."""
    plain, summarised, trimmed = (hashes_of(POLICIES[name])["prompts"] for name in ("plain", "summarised", "trimmed"))
    task = hashes_of(policy_of(tasks=[{"name": "chat", "prepare": "summarize"}]))["prompts"]
    assert plain == trimmed != summarised == task


def test_each_role_of_a_plan_has_a_version_of_its_own() -> None:
    """The policy's own text for one of them changes that one, and the requests of that role alone are recorded with it."""
    built_in = plan_roles(POLICIES["planning"])
    assert tuple(built_in) == ("planner", "executor", "reviewer")
    for role in built_in:
        plan = {"planner": "r1", "reviewer": "r1", "prompts": {role: "Do as you see fit."}}
        policy = policy_of(plan=plan)
        own = plan_roles(policy)
        assert [one for one in own if own[one] != built_in[one]] == [role]
        assert [one.role for one in prompts_of(policy) if one.source == "the policy's own text"] == [role]
        assert dict(bind_policy(policy).plan_prompts) == own
    assert plan_roles(policy_of()) == {}


def test_where_the_words_come_from_is_told() -> None:
    """Built in, or the policy's own; the audit's judge beside those of the climb, if a judge grades."""
    assert {one.role: one.source for one in prompts_of(POLICIES["variants"])} == {
        "triage/steps": "built in", "triage/mine": "the policy's own text", "triage": "built in",
    }  # fmt: skip
    assert prompts_of(POLICIES["own text"])[0].source == "the policy's own text"
    assert [one.role for one in audit_prompts(POLICIES["audited"])] == ["audit_judge"]
    assert audit_prompts(policy_of(audit={"grader": "exact"})) == audit_prompts(policy_of()) == ()


def test_two_texts_under_one_name_are_one_role_that_changes_with_either() -> None:
    """At different rungs the same name may stand for different texts."""

    def policy(second: str) -> Policy:
        ladder = [rung.model_dump(exclude_unset=True) for rung in policy_of().ladder]
        for at, text in enumerate(("Say how sure you are.", second)):
            ladder[at]["samples"] = {"max": 3, "agree": 2, "variants": [{"name": "mine", "prompt": text}]}
        return with_keys(policy_of(), ladder=ladder)

    same, other, third = (climb_roles(policy(text)) for text in ("Say how sure you are.", "Be sure.", "Be certain."))
    assert tuple(same) == tuple(other) == ("triage/mine",)
    assert len({one["triage/mine"] for one in (same, other, third)}) == 3


def test_a_request_has_the_roles_of_its_task_and_of_what_it_brings() -> None:
    """Tools, and a schema that the API cannot enforce. A request that is passed on as it is has none, and neither has the baseline's."""
    plan = bind_policy(POLICIES["reviewed task"])
    plain, schema = Request(()), Request((), prompt_schema={"type": "object"})
    tools, raw = Request((), tools=({"name": "look_up"},)), Request((), raw={"model": "m"})
    assert plan.prompts_for("other", plain) == {"triage": triage_version(plan.policy)}
    assert set(plan.prompts_for("careful", plain)) == {"triage", "review_gate"}
    assert plan.prompts_for("unheard of", plain) == plan.prompts_for("other", plain)
    assert set(plan.prompts_for("other", tools)) == {"triage", "tools"}
    assert set(plan.prompts_for("other", schema)) == {"triage", "form"}
    assert plan.prompts_for("careful", raw) == {}
    baseline = bind_baseline(plan)
    assert baseline.prompts_for("careful", plain) == {}
    assert set(baseline.prompts_for("careful", schema)) == {"form"}


@pytest.mark.parametrize(
    ("role", "unused", "used"),
    [
        ("planner", "You plan a piece of work.", "The plan is one JSON object."),
        ("executor", "You do one subtask of a larger piece of work.", "The answer is one JSON object"),
        ("reviewer", "You review the result of one part", '"enum": ["accept"'),
    ],
)
def test_words_of_ones_own_have_a_version_without_those_that_they_replace(
    role: str, unused: str, used: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not asked any more may change; what stands beside one's own may not."""
    policy = policy_of(plan={"planner": "r1", "reviewer": "r1", "prompts": {role: "Do it well."}})
    before = plan_roles(policy)
    with monkeypatch.context() as patched:
        edit(patched, role, unused, "Work.")
        assert plan_roles(policy) == before
    edit(monkeypatch, role, used, used.upper())
    assert {name for name, version in plan_roles(policy).items() if version != before[name]} == {role}
