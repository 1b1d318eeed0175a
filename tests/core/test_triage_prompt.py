"""What a rung is asked: the caller's words untouched, our rules behind them, room for the envelope and for thinking."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.core.errors import RequestError
from cascade.core.policy import Policy
from cascade.core.prompts.triage import RULES
from cascade.core.triage import build_prompt, check_request, wants_triage

from .builders import THRESHOLDS, policy_of, request_of

POLICY = policy_of()
SYSTEM: tuple[dict[str, Any], ...] = (
    {"type": "text", "text": "You are Ada. ", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
    {"type": "text", "text": "Reply in Dutch.\n"},
)
TRIO = ("claude-haiku-5-5", "claude-sonnet-5-5", "claude-opus-5-5")


def trio(**changes: dict[str, Any]) -> Policy:
    """The 5.5 trio with these changes to its rungs."""
    rungs = [
        {"rung": "haiku", "model": TRIO[0], "threshold": 0.8, "max_tokens": 800},
        {"rung": "sonnet", "model": TRIO[1], "threshold": 0.8, "max_tokens": 800},
        {"rung": "opus", "model": TRIO[2], "max_tokens": 800},
    ]
    ladder = [rung | changes.get(str(rung["rung"]), {}) for rung in rungs]
    return Policy.model_validate({"version": 1, "name": "trio", "ladder": ladder})


def test_a_system_text_stays_first_and_unchanged() -> None:
    """As the first block, to the letter; our rules are the second."""
    prompt = build_prompt(POLICY, 0, request_of(system="  You are Ada.\n"))
    assert prompt.system == (
        {"type": "text", "text": "  You are Ada.\n"},
        {"type": "text", "text": RULES["confidence_first"]},
    )


def test_system_blocks_stay_first_and_byte_identical() -> None:
    """Cache marks included: the caller's prompt cache survives. The very same objects are passed on, unchanged."""
    before = copy.deepcopy(SYSTEM)
    prompt = build_prompt(POLICY, 0, request_of(system=SYSTEM))
    assert isinstance(prompt.system, tuple)
    assert all(mine is theirs for mine, theirs in zip(prompt.system, SYSTEM, strict=False))
    assert json.dumps(prompt.system[:-1]) == json.dumps(before)
    assert prompt.system[-1] == {"type": "text", "text": RULES["confidence_first"]}


@pytest.mark.parametrize("system", [None, "", ()])
def test_without_a_system_prompt_the_rules_stand_alone(system: Any) -> None:
    """No empty block, which the API refuses."""
    assert build_prompt(POLICY, 0, request_of(system=system)).system == (
        {"type": "text", "text": RULES["confidence_first"]},
    )


@pytest.mark.parametrize("system", [None, "You are Ada.", SYSTEM])
def test_the_last_rung_is_asked_plainly(system: Any) -> None:
    """The caller's system prompt and messages as they are, no rules, no format, the caller's own bound."""
    request = request_of("hi", system=system, max_tokens=77)
    prompt = build_prompt(POLICY, 2, request)
    assert (prompt.system, prompt.messages, prompt.schema, prompt.max_tokens) == (system, request.messages, None, 77)
    assert [wants_triage(POLICY, index) for index in range(3)] == [True, True, False]


@given(text=st.text(min_size=20).filter(str.strip))
def test_the_users_text_is_never_in_the_rules(text: str) -> None:
    """It stays in the user's turn, the same object; the rules are a constant."""
    request = request_of(text, system="S")
    prompt = build_prompt(POLICY, 0, request)
    assert prompt.messages is request.messages
    assert prompt.system == ({"type": "text", "text": "S"}, {"type": "text", "text": RULES["confidence_first"]})


@given(first=THRESHOLDS, second=THRESHOLDS)
def test_the_threshold_does_not_change_the_prompt(first: float | str, second: float | str) -> None:
    """Tuning it must not change the replies it was tuned on."""
    request = request_of(system="S")
    one, other = (build_prompt(policy_of(threshold, 0.8), 0, request) for threshold in (first, second))
    assert (one.messages, one.system, one.schema, one.max_tokens) == (
        other.messages, other.system, other.schema, other.max_tokens,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("order", "keys"),
    [("confidence_first", ["confidence", "answer"]), ("answer_first", ["answer", "confidence"])],
)
def test_the_envelope_follows_the_triages_order(order: str, keys: list[str]) -> None:
    """In the schema, where the order binds, and in the rules, where it is said."""
    prompt = build_prompt(policy_of(triage={"order": order}), 0, request_of())
    assert prompt.schema is not None
    assert (list(prompt.schema["properties"]), prompt.schema["required"]) == (keys, keys)
    assert prompt.schema["additionalProperties"] is False
    assert prompt.schema["properties"]["answer"] == {"anyOf": [{"type": "string"}, {"type": "null"}]}
    assert isinstance(prompt.system, tuple)
    assert f"order: {', '.join(keys)}." in prompt.system[0]["text"]


def test_a_prompt_of_ones_own_takes_the_rules_place() -> None:
    """`triage.prompt` is the whole block."""
    prompt = build_prompt(policy_of(triage={"prompt": "Judge yourself."}), 0, request_of())
    assert prompt.system == ({"type": "text", "text": "Judge yourself."},)


def test_the_callers_schema_is_the_answers_and_its_definitions_move_up() -> None:
    """References point to the root, so $defs go there; the last rung gets the schema bare; the caller's is unchanged."""
    schema = {
        "type": "object",
        "properties": {"home": {"$ref": "#/$defs/City"}},
        "required": ["home"],
        "$defs": {"City": {"type": "object", "properties": {"name": {"type": "string"}}}},
    }
    before = copy.deepcopy(schema)
    request = request_of(schema=schema)
    envelope = build_prompt(POLICY, 0, request).schema
    assert envelope is not None
    assert envelope["$defs"] == schema["$defs"]
    bare = {key: value for key, value in schema.items() if key != "$defs"}
    assert envelope["properties"]["answer"] == {"anyOf": [bare, {"type": "null"}]}
    assert build_prompt(POLICY, 2, request).schema is schema
    assert schema == before


ROOM: list[tuple[str, int, dict[str, Any], int]] = [
    ("an unknown model", -1, {}, 64 + 100),
    ("haiku thinks by default, medium", 0, {}, 64 + 100 + 4_096),
    ("haiku without thinking", 0, {"thinking": "disabled"}, 64 + 100),
    ("haiku, low effort", 0, {"effort": "low"}, 64 + 100 + 2_048),
    ("sonnet by default, high", 1, {}, 64 + 100 + 8_192),
    ("sonnet, max", 1, {"effort": "max"}, 64 + 100 + 32_768),
    ("opus at the top: no envelope", 2, {}, 4_096),
    ("a budget of tokens", 0, {"model": "claude-haiku-4-5", "thinking": {"budget_tokens": 2_000}}, 64 + 100 + 2_000),
    ("haiku 4.5 does not think by default", 0, {"model": "claude-haiku-4-5"}, 64 + 100),
]


@pytest.mark.parametrize(("index", "changes", "allowance"), [row[1:] for row in ROOM], ids=[row[0] for row in ROOM])
def test_max_tokens_bounds_the_answer_and_the_rest_is_added(
    index: int, changes: dict[str, Any], allowance: int
) -> None:
    """64 tokens and an eighth for the envelope, and what the model's thinking may take; the answer keeps its 800."""
    policy = policy_of() if index < 0 else trio(**{("haiku", "sonnet", "opus")[index]: changes})
    request = request_of(max_tokens=800)
    assert build_prompt(policy, max(index, 0), request).max_tokens == 800 + allowance


@pytest.mark.parametrize(
    ("index", "changes", "asked", "sent"),
    [
        (0, {"model": "claude-haiku-4-5"}, 64_000, 64_000),
        (0, {"model": "us.anthropic.claude-haiku-4-5-20251001-v1:0"}, 60_000, 64_000),
        (0, {"model": "claude-haiku-4-5", "thinking": {"budget_tokens": 2_000}}, 63_000, 64_000),
        (1, {}, 127_000, 128_000),
        (2, {}, 128_000, 128_000),
        (2, {"model": "a-model-of-our-own", "price": {"input": 1, "output": 1}}, 10**9, 10**9),
    ],
)
def test_the_allowances_never_go_past_what_the_model_can_answer_with(
    index: int, changes: dict[str, Any], asked: int, sent: int
) -> None:
    """Where the answer may be as long as it can be, there is no room to add; of an unknown model nothing is assumed."""
    policy, request = trio(**{("haiku", "sonnet", "opus")[index]: changes}), request_of(max_tokens=asked)
    check_request(request, [policy.ladder[index]])
    assert build_prompt(policy, index, request).max_tokens == sent


def test_the_callers_bound_replaces_the_rungs() -> None:
    """Without one the rung's own counts."""
    policy = trio(haiku={"thinking": "disabled"})
    assert build_prompt(policy, 0, request_of()).max_tokens == 800 + 64 + 100
    assert build_prompt(policy, 0, request_of(max_tokens=8)).max_tokens == 8 + 64 + 1


CITED = {"type": "document", "source": {"type": "text", "data": "d"}, "citations": {"enabled": True}}
REFUSED: list[tuple[Any, dict[str, Any], str]] = [
    ([{"role": "user", "content": "a"}, {"role": "assistant", "content": "{"}], {}, "prefill"),
    ([{"role": "user", "content": [CITED, {"type": "text", "text": "q"}]}], {}, "citations"),
    ("q", {"max_tokens": 0}, "max_tokens"),
    ("q", {"max_tokens": -5}, "max_tokens"),
]


@pytest.mark.parametrize(("prompt", "more", "word"), REFUSED)
def test_what_a_rung_cannot_take_is_refused_not_dropped(prompt: Any, more: dict[str, Any], word: str) -> None:
    """One line that names it and says what to do."""
    with pytest.raises(RequestError, match=word) as caught:
        check_request(request_of(prompt, **more))
    assert "\n" not in str(caught.value)


def test_what_a_rung_can_take_passes() -> None:
    """Citations turned off, images, earlier turns of the assistant."""
    uncited = {**CITED, "citations": {"enabled": False}}
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aa"}}
    turns = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": [uncited, image]},
    ]
    request = request_of(turns, max_tokens=1)
    check_request(request)
    assert build_prompt(POLICY, 0, request).messages == tuple(turns)


NO_MESSAGES: list[Any] = [
    "", " \n", [], 7, b"hello", None, ["hi"], [{"role": "system", "content": "x"}], [{"role": "user"}],
    [{"role": "user", "content": ""}], [{"role": "user", "content": []}], [{"role": "user", "content": 7}],
]  # fmt: skip


@pytest.mark.parametrize("prompt", NO_MESSAGES)
def test_what_is_no_prompt_is_refused(prompt: Any) -> None:
    """Nothing empty, nothing of a wrong shape reaches a model."""
    with pytest.raises(RequestError, match=r"^prompt: "):
        request_of(prompt)
