"""The words of every role, pinned: an edit of them is noticed here.

CHANGE KNOWINGLY. Other words are other replies: certificates, recordings and the ledger's past rest on these versions. A version that
changes here voids every certificate of a policy that uses the role, and its recordings are made again. Is that what you want? Then put
the new version here, and say so in the changelog.
"""

from __future__ import annotations

import pytest

from cascade.core.policy import Policy, Variant
from cascade.core.policy.samples import ORDERS
from cascade.core.prompts import (
    audit_judge,
    delegation,
    executor,
    form,
    grading_judge,
    handoff,
    judge,
    planner,
    review_gate,
    reviewer,
    session,
    summariser,
    tools,
)
from cascade.core.triage import triage_version
from tests.core.builders import policy_of
from tests.prompts.edited import edit

VERSIONS = {
    "triage/confidence_first": "1fa878d64245",
    "triage/answer_first": "b50252f39046",
    "triage/steps": "35af860bd215",
    "triage/doubt": "5426b69434c3",
    "tools": "7bd17b409a08",
    "form": "9d1fe153ba9c",
    "judge": "057251f0bab5",
    "review_gate": "904983e8b506",
    "summariser": "b38473c84cc7",
    "handoff/doubt": "6ea03021a6d7",
    "handoff/artifact": "a563fd6140d6",
    "audit_judge": "ca9842e9585c",
    "grading_judge": "c9e94942ffe6",
    "planner": "1e3c61ee2c3a",
    "executor": "25d8067b6245",
    "reviewer": "0024995c65a7",
    "session": "d01b3967fe72",
    "delegation": "2feb1d59811a",
}


def versions() -> dict[str, str]:
    """The version of every built-in role now."""
    policy: Policy = policy_of()
    return {
        **{f"triage/{order}": triage_version(policy, Variant(prompt=order)) for order in ORDERS},
        "tools": tools.VERSION,
        "form": form.VERSION,
        "judge": judge.VERSION,
        "review_gate": review_gate.VERSION,
        "summariser": summariser.VERSION,
        "handoff/doubt": handoff.DOUBT_VERSION,
        "handoff/artifact": handoff.ARTIFACT_VERSION,
        "audit_judge": audit_judge.VERSION,
        "grading_judge": grading_judge.VERSION,
        "planner": planner.VERSION,
        "executor": executor.VERSION,
        "reviewer": reviewer.VERSION,
        "session": session.VERSION,
        "delegation": delegation.VERSION,
    }


def test_nobody_changed_words_by_accident() -> None:
    """Every built-in role. If this fails, read the top of this file."""
    assert versions() == VERSIONS


# The file, some of its words, and the roles that they belong to.
WORDS = [
    ("triage", "A confident mistake is the worst outcome.", {f"triage/{order}" for order in ORDERS}),
    ("triage", "as short notes in at most five lines", {"triage/steps"}),
    ("triage", "what would make your own answer wrong", {"triage/doubt"}),
    ("tools", "when you have the final answer", {"tools"}),
    ("tools", "Why, in a few words.", {"tools"}),
    ("form", "without a code fence", {"form"}),
    ("judge", "Group them by meaning", {"judge"}),
    ("review_gate", "Wording, length and style", {"review_gate"}),
    ("summariser", "Leave out greetings", {"summariser"}),
    ("summariser", "which another model wrote", {"summariser"}),
    ("handoff", "It refused to answer.", {"handoff/doubt"}),
    ("handoff", "its answer was not used", {"handoff/doubt"}),
    ("handoff", "Reply with the plan and nothing else.", {"handoff/artifact"}),
    ("audit_judge", "further\n  correct detail do not", {"audit_judge"}),
    ("grading_judge", "hold it to be right", {"grading_judge"}),
    ("planner", "Assign the cheapest rung that will do", {"planner"}),
    ("executor", "Keep to the sources", {"executor"}),
    ("executor", "sent it back", {"executor"}),
    ("reviewer", "Compare names, numbers, dates", {"reviewer"}),
]
# The same of the reply's schema, with another one.
SCHEMAS = [
    ("judge", '"required": ["groups"]', '"required": []', {"judge"}),
    ("review_gate", '"enum": ["accept", "reject"]', '"enum": ["accept", "reject", "other"]', {"review_gate"}),
    ("handoff", '"tone": {"type": "string"}', '"tone": {"type": "integer"}', {"handoff/artifact"}),
    ("audit_judge", '"enum": ["agree", "disagree", "cannot_tell"]', '"enum": ["agree", "disagree"]', {"audit_judge"}),
    ("planner", '"result": text', '"result": subtask', {"planner"}),
    ("reviewer", '"enum": ["accept", "retry", "escalate"]', '"enum": ["accept", "retry"]', {"reviewer"}),
]


@pytest.mark.parametrize(
    ("role", "old", "new", "changed"), [*((role, old, f"{old} ", changed) for role, old, changed in WORDS), *SCHEMAS]
)
def test_another_word_is_another_version_of_its_role_and_of_no_other(
    monkeypatch: pytest.MonkeyPatch, role: str, old: str, new: str, changed: set[str]
) -> None:
    """The schema of the reply belongs to it, where the API enforces one."""
    before = versions()
    edit(monkeypatch, role, old, new)
    after = versions()
    assert {one for one in before if before[one] != after[one]} == changed
