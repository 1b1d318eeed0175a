"""A certificate in a policy: what it holds for, what voids it, and who is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from cascade.core.errors import PolicyError
from cascade.core.policy import Policy, StormGuard
from cascade.core.policy.certificate import Escalation
from cascade.core.storm import Guard, Watch, storm_limit
from cascade.policy.binding import bind_policy
from cascade.policy.certificates import certified_escalation, changed_parts, hashes_of
from cascade.policy.loading import load_policy, parse_policy
from cascade.policy.roles import climb_roles
from cascade.policy.shipped import shipped
from cascade.replay.run import ReplayOptions, replay_corpus
from tests.calibration.certified import certificate_for, certified, with_keys
from tests.cli.conftest import Run

NEVER: dict[str, Any] = {"thresholds": {"haiku": None, "sonnet": None}}
PROVED = certified(load_policy("support"), escalation={"haiku": 0.4, "sonnet": 0.1})


def changed(**keys: Any) -> Policy:
    """The proved policy with these keys changed behind its certificate's back."""
    return with_keys(PROVED, **keys)


def rung(number: int, **keys: Any) -> Policy:
    """The proved policy with keys of one rung changed."""
    ladder = [one.model_dump(exclude_unset=True) for one in PROVED.ladder]
    ladder[number] |= keys
    return changed(ladder=ladder)


def written(policy: Policy, path: Path) -> str:
    """The policy as a YAML file."""
    path.write_text(yaml.safe_dump(policy.model_dump(mode="json", by_alias=True, exclude_unset=True), sort_keys=False))
    return str(path)


def test_a_policy_that_is_as_it_was_certified_says_so() -> None:
    """Its plan's answers carry the bound in short."""
    plan = bind_policy(PROVED)
    assert (plan.certificate, plan.stale) == ("certified: false_confident <= 0.02 at 0.95", ())
    assert bind_policy(load_policy("support")).certificate == "uncertified"


@pytest.mark.parametrize(
    ("policy", "parts"),
    [
        (rung(0, threshold=0.81), ("thresholds",)),
        (rung(0, threshold="never"), ("thresholds",)),
        (changed(tasks=[]), ("thresholds",)),
        (changed(checks=["not_empty", {"max_chars": 400}]), ("thresholds",)),
        (rung(0, model="claude-haiku-4-5"), ("models", "prices")),
        (rung(0, discount=0.1), ("prices",)),
        (rung(2, price={"input": "1", "output": "2"}), ("prices",)),
        (rung(0, max_tokens=77), ("ladder",)),
        (rung(1, effort="high"), ("ladder",)),
        (rung(1, base_url="https://example.com"), ("ladder",)),
        (changed(triage={"order": "answer_first"}), ("prompts",)),
        (changed(triage={"prompt": "Say how sure you are."}), ("prompts",)),
    ],
)
def test_what_was_proved_of_is_watched_part_by_part(policy: Policy, parts: tuple[str, ...]) -> None:
    """Each change voids the certificate, and is named."""
    assert changed_parts(policy) == parts
    plan = bind_policy(policy)
    assert (plan.certificate, plan.stale) == ("uncertified", parts)


@pytest.mark.parametrize(
    "keys", [{"name": "other"}, {"deadline_s": 7.0}, {"retry": {"attempts": 1}}, {"storm_guard": {"rate": 0.5}}]
)
def test_what_has_no_part_in_the_proof_may_change(keys: dict[str, Any]) -> None:
    """A name, a deadline, retries and the guard leave it standing; so does a default that is written out."""
    assert changed_parts(changed(**keys)) == ()
    assert hashes_of(changed(checks=["not_empty"])) == hashes_of(PROVED)


def test_who_grades_in_the_audit_has_no_part_in_the_proof() -> None:
    """A task's grader judges answers that were shipped; nor does what the certificate itself says of its path."""
    tasks = PROVED.model_dump(by_alias=True, exclude_unset=True)["tasks"]
    assert hashes_of(changed(tasks=[{**task, "grader": "exact"} for task in tasks])) == hashes_of(PROVED)
    more = {"path": [{"thresholds": {"haiku": None, "sonnet": None}}], "loss_by_task": {"refund": 0.04}}
    assert hashes_of(certified(load_policy("support"), **more)) == hashes_of(load_policy("support"))


def test_a_policy_without_samples_keeps_the_hashes_of_the_version_before_them() -> None:
    """To the byte, or every certificate there is would be void. Prices are left out: their table changes."""
    hashes = hashes_of(PROVED)
    assert hashes["ladder"] == "sha256:cb28216478425647d1b7eb2962f45c3b215f96cfd71fed26d132e1d587ae6875"
    assert hashes["models"] == "sha256:b8eac298ae7e1788fefebd6f3089b4a5630270a2c1d5daaa6e40c7e7a72d6de9"
    assert hashes["prompts"] == "sha256:709103401cba5971121bd5fb463085c2727c4891133eb3f8fab14cf6522a8d84"
    assert hashes["thresholds"] == "sha256:d8f1e95fb5ff713959020051ad9807509238fbdc289aa5a545ae0fa2e4c4929b"


MINE = {"name": "mine", "prompt": "Say how sure you are."}
GUEST = {"name": "guest", "model": "guest-1", "prompt": "steps", "price": {"input": "1", "output": "2"}}
SAMPLES: dict[str, Any] = {"max": 5, "agree": 3, "variants": ["steps", MINE, GUEST]}
TASK_SAMPLES: dict[str, Any] = {"max": 3, "agree": 2, "variants": ["doubt"]}


def voting(rung: dict[str, Any], task: dict[str, Any] | None = None, **keys: Any) -> Policy:
    """A policy whose first rung, and of a task the second, are asked several times."""
    ladder = [one.model_dump(exclude_unset=True) for one in PROVED.ladder]
    ladder[0]["samples"] = SAMPLES | rung
    tasks = [{"name": "t", "samples": {"sonnet": TASK_SAMPLES | (task or {})}}]
    return with_keys(PROVED, ladder=ladder, tasks=tasks, **keys)


@pytest.mark.parametrize(
    ("policy", "parts"),
    [
        (voting({"at_once": 5}), set[str]()),
        (voting({}, {"at_once": 2}), set[str]()),
        (voting({"max": 6}), {"thresholds"}),
        (voting({"agree": 4}), {"thresholds"}),
        (voting({"same": "exact"}), {"thresholds"}),
        (voting({"same": "judge"}), {"thresholds", "prompts"}),
        (voting({}, {"max": 4}), {"thresholds"}),
        (voting({}, {"variants": ["answer_first"]}), {"thresholds", "prompts"}),
        (voting({"variants": ["steps", MINE | {"prompt": "Be sure."}, GUEST]}), {"prompts"}),
        (voting({"variants": ["steps", MINE | {"name": "his"}, GUEST]}), {"thresholds", "prompts"}),
        (voting({"variants": ["steps", MINE, GUEST | {"model": "guest-2"}]}), {"models"}),
        (voting({"variants": ["steps", MINE, GUEST | {"price": {"input": "1", "output": "3"}}]}), {"prices"}),
        (voting({}, triage={"order": "answer_first"}), {"prompts"}),
    ],
)
def test_of_samples_a_certificate_covers_what_decides(policy: Policy, parts: set[str]) -> None:
    """Numbers, names and how answers are compared; the used prompts by name; the models that vote, and their prices."""
    before, after = hashes_of(voting({})), hashes_of(policy)
    assert {part for part in before if before[part] != after[part]} == parts


def test_a_prompt_that_is_not_used_may_change() -> None:
    """Where no rung is asked with the policy's own triage, another one voids nothing."""
    ladder = [one.model_dump(exclude_unset=True) for one in PROVED.ladder]
    for one in ladder[:2]:
        one["samples"] = {"max": 3, "agree": 2, "variants": ["steps", "doubt"]}
    before = with_keys(PROVED, ladder=ladder)
    assert hashes_of(before) == hashes_of(with_keys(PROVED, ladder=ladder, triage={"prompt": "Be sure."}))
    assert hashes_of(before)["prompts"] != hashes_of(PROVED)["prompts"]


def test_no_threshold_is_not_never() -> None:
    """With samples an omitted threshold leaves it to their agreement, and `never` ships nothing: other thresholds."""
    ladder = [one.model_dump(exclude_unset=True) for one in PROVED.ladder]
    ladder[0] |= {"samples": {"max": 3, "agree": 2}, "threshold": None}
    never = hashes_of(with_keys(PROVED, ladder=ladder))
    del ladder[0]["threshold"]
    assert hashes_of(with_keys(PROVED, ladder=ladder))["thresholds"] != never["thresholds"]


def test_a_price_that_changes_leaves_the_guard_what_it_expects() -> None:
    """The rates of escalation are the traffic's; a new threshold makes others, and then the guard has its own rate."""
    proved = Escalation({"haiku": 0.4, "sonnet": 0.1})
    assert certified_escalation(PROVED, ("prices",)) == proved
    assert bind_policy(rung(0, discount=0.1)).escalation == proved
    assert bind_policy(rung(0, threshold=0.81)).escalation == Escalation()


def test_the_storm_guards_limit_stands_above_the_certified_rate() -> None:
    """max(rate, certified + 0.10), at the rung it was certified for."""
    settings = StormGuard()
    limits = [storm_limit(settings, rate) for rate in (None, 0.1, 0.25, 0.4, 0.95)]
    assert limits == pytest.approx([0.35, 0.35, 0.35, 0.5, 1.05])


def escalate(guard: Guard, rung: str, times: int, every: int) -> list[str]:
    """A stream in which all but one in `every` requests escalate; what the guard says of it."""
    said: list[str] = []
    for second in range(times):
        _, changes = guard.observe(
            "other", rung, natural=second % every != 0, failed=False, storm_cost=0, now=float(second)
        )
        said += [change.kind for change in changes]
    return said


def test_a_task_that_naturally_escalates_does_not_trip_where_that_was_certified() -> None:
    """Half of the requests, for 2,000 of them: a storm at 0.35, normal where 0.45 was certified; 0.8 is one there too."""
    assert "tripped" in escalate(Guard(StormGuard()), "haiku", 2_000, 2)
    proved = Guard(StormGuard(), Escalation({"haiku": 0.45}))
    assert escalate(proved, "haiku", 2_000, 2) == []
    assert "tripped" in escalate(proved, "haiku", 2_000, 5)
    assert "tripped" in escalate(proved, "sonnet", 2_000, 2)


def test_a_task_with_a_certified_rate_of_its_own_is_held_to_that() -> None:
    """Half of the requests: normal where 0.45 was certified of all tasks, but not of a task of which 0.1 was."""
    by_task = Guard(StormGuard(), Escalation({"haiku": 0.45}, {"other": {"haiku": 0.1}, "hard": {"sonnet": 0.9}}))
    assert "tripped" in escalate(by_task, "haiku", 2_000, 2)
    by_task = Guard(StormGuard(), Escalation({"haiku": 0.45}, {"other": {"sonnet": 0.1}, "hard": {"haiku": 0.1}}))
    assert escalate(by_task, "haiku", 2_000, 2) == []


def test_replay_expects_the_certified_rate_as_the_live_guard_does() -> None:
    """On the shipped synthetic tickets, both engines alike: with every rate certified the guard has nothing to say."""
    corpus = shipped("corpora", "support")
    assert corpus is not None

    def told(escalation: dict[str, float], *, exact: bool) -> dict[str, Any]:
        policy = certified(load_policy("support"), escalation=escalation)
        return dict(replay_corpus(corpus, ReplayOptions(policy, exact=exact)).storms)

    bare, proved = told({}, exact=False), told({"haiku": 0.95, "sonnet": 0.95}, exact=False)
    assert bare["tripped"]
    assert not proved["tripped"]
    assert proved == told({"haiku": 0.95, "sonnet": 0.95}, exact=True)


def test_a_rung_whose_certified_limit_is_above_all_rates_never_trips() -> None:
    """Where 95 % escalate by certificate, not even all of them are a storm."""
    watch = Watch(StormGuard(), storm_limit(StormGuard(), 0.95))
    assert all(watch.observe(hit=True, now=float(second)) is None for second in range(5_000))


def test_a_certificate_in_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    """From YAML to YAML, the hashes included."""
    read = load_policy(written(PROVED, tmp_path / "p.yaml"))
    assert read.certificate == PROVED.certificate
    assert changed_parts(read) == ()
    named = certified(load_policy("support"), roles=climb_roles(PROVED))
    assert load_policy(written(named, tmp_path / "named.yaml")).certificate == named.certificate


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"loss": "none"}, r"certificate\.loss"),
        ({"alpha": 0}, r"certificate\.alpha"),
        ({"upper_bound": 0.03}, "the upper bound is above alpha"),
        ({"errors": 400}, "more errors than units"),
        ({"n": 0}, r"certificate\.n"),
        ({"roles": {"triage": "no version"}}, r"certificate\.roles\.triage"),
        ({"escalation": {"opus": 0.2}}, "no rung 'opus' below the top"),
        (
            {"escalation_by_task": {"billing": {"opus": 0.2}}},
            r"escalation_by_task\.billing\.opus.*no rung 'opus' below the top",
        ),
        ({"escalation_by_task": {"billing": {"haiku": -0.1}}}, r"certificate\.escalation_by_task"),
        ({"escalation": {"haiku": 1.2}}, r"certificate\.escalation"),
        (
            {"path": [NEVER | {"escalation": {"opus": 0.1}}]},
            r"path\[0\]\.escalation\.opus.*no rung 'opus' below the top",
        ),
        (
            {"path": [{"thresholds": {"opus": 0.1}}, NEVER]},
            r"path\[0\]\.thresholds\.opus.*no rung 'opus' below the top",
        ),
        ({"path": [NEVER | {"tasks": {"billing": {"haiku": None}}}]}, r"path\[0\]\.tasks\.billing.*no task 'billing'"),
        ({"path": [NEVER | {"tasks": {"upset": {"opus": None}}}]}, r"path\[0\]\.tasks\.upset\.opus.*no rung 'opus'"),
        ({"path": [NEVER, {"thresholds": {"haiku": 0.9, "sonnet": None}}]}, r"path\[1\].*must not ship below the top"),
        ({"path": [{"thresholds": {"haiku": None}}]}, r"path\[0\].*must not ship below the top"),
        ({"path": [NEVER | {"tasks": {"upset": {"sonnet": 0.9}}}]}, r"path\[0\].*must not ship below the top"),
        ({"loss_by_task": {"billing": 1.2}}, r"certificate\.loss_by_task"),
        ({"hashes": {"corpus": "x"}}, r"certificate\.hashes"),
        ({"surprise": 1}, "unknown key"),
    ],
)
def test_a_certificate_that_does_not_add_up_is_refused(keys: dict[str, Any], problem: str) -> None:
    """With its place in the file."""
    values = PROVED.model_dump(mode="json", by_alias=True, exclude_unset=True)
    values["certificate"] |= keys
    with pytest.raises(PolicyError, match=problem) as caught:
        parse_policy(yaml.safe_dump(values, sort_keys=False), where="p.yaml")
    assert str(caught.value).startswith("p.yaml:")


def test_groups_are_told_with_their_weighting() -> None:
    """What counts alike is not left to be guessed."""
    found = certificate_for(load_policy("support"), units="groups", errors=None)
    assert found.weighting == "each group weighted equally"


def test_policy_check_passes_a_certificate_that_holds_and_fails_on_one_that_does_not(run: Run, tmp_path: Path) -> None:
    """Exit 2, and one line that names the file, the key, what changed and what to do."""
    good = written(PROVED, tmp_path / "good.yaml")
    stale = written(rung(0, model="claude-haiku-4-5"), tmp_path / "stale.yaml")
    ran = run("policy", "check", good)
    assert (ran.code, ran.err) == (0, "")
    assert "certified: false_confident <= 0.02 at 0.95" in ran.out
    ran = run("policy", "check", stale)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.count("\n") == 1
    for part in ("stale.yaml: certificate:", "models and prices changed", "calibrate again"):
        assert part in ran.err


def test_policy_show_and_explain_tell_the_standing(run: Run, tmp_path: Path) -> None:
    """What was proved on how much; or what has changed since. The guard's certified limits are shown."""
    good = written(PROVED, tmp_path / "good.yaml")
    stale = written(rung(0, threshold=0.5), tmp_path / "stale.yaml")
    shown = " ".join(run("policy", "show", good).out.split())
    assert "certified: false_confident <= 0.02 at 0.95 (386 items, 3 errors, each item weighted equally" in shown
    assert "by certificate: haiku 0.5, sonnet 0.35" in shown
    for command in (("policy", "show", stale), ("policy", "explain", "hello", "--policy", stale)):
        assert "uncertified: thresholds changed since its certificate was made" in " ".join(run(*command).out.split())
    body = run("policy", "show", stale, "--json").json
    assert (body["standing"], body["changed"], body["certificate"]["n"]) == ("uncertified", ["thresholds"], 386)
