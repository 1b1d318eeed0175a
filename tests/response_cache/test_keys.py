"""Keys: equal requests share one, and no others do."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anthropic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.core.equal_requests import OF_THE_CALLER, Asked, is_cached, key_of
from cascade.core.errors import RequestError
from cascade.core.messages import Request
from cascade.emulator import Emulator
from cascade.engine.cached import endpoint_of
from cascade.response_cache.identities import identities_of
from tests.live.conftest import ladder
from tests.response_cache.conftest import Drive, cached

LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from([0.0, 1.0, 0.5]), st.text("ab\ud800é", max_size=2)
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text("ab", max_size=1), inner, max_size=2),
    max_leaves=5,
)
BLOCKS = st.lists(st.dictionaries(st.text("ab", max_size=1), VALUES, max_size=2), max_size=2).map(tuple)
OBJECTS = st.dictionaries(st.text("ab", max_size=1), VALUES, max_size=2)
WORDS = st.text("ab", max_size=2)
REQUESTS = st.builds(
    Request,
    messages=BLOCKS, system=st.none() | WORDS | BLOCKS, task=st.none() | WORDS, flags=st.frozensets(WORDS, max_size=2),
    schema=st.none() | OBJECTS, max_tokens=st.none() | st.integers(1, 3),
    metadata=st.dictionaries(st.sampled_from(OF_THE_CALLER), WORDS, max_size=2), id=WORDS, prompt_schema=st.none() | OBJECTS,
    tools=BLOCKS, tool_choice=st.none() | OBJECTS, stop_sequences=st.lists(WORDS, max_size=2).map(tuple), extra=OBJECTS,
    top_extra=OBJECTS, headers=st.dictionaries(WORDS, WORDS, max_size=2), handoff=BLOCKS, wants_artifact=st.booleans(),
)  # fmt: skip
ASKED = st.builds(
    Asked,
    REQUESTS, WORDS, epoch=WORDS, ratchet=st.integers(0, 2), certificate=WORDS, checks=st.lists(WORDS, max_size=2).map(tuple),
    caller=WORDS, endpoint=WORDS, is_message=st.booleans(),
)  # fmt: skip


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal as JSON has them: by type, lists in order, names in any order."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


def shuffled(value: Any) -> Any:
    """The same value with its names in the other order, and lists for tuples."""
    if isinstance(value, Mapping):
        return {name: shuffled(value[name]) for name in reversed(value)}
    return [shuffled(one) for one in value] if isinstance(value, (list, tuple)) else value


def copied(asked: Asked) -> Asked:
    """An equal request of another making, with another id."""
    request = asked.request
    parts = {
        one.name: shuffled(getattr(request, one.name)) for one in fields(request) if one.name not in ("flags", "id")
    }
    return replace(asked, request=replace(request, id="another", **parts))


@settings(max_examples=40)
@given(ASKED)
def test_equal_requests_share_a_key_whatever_the_order_of_their_names(asked: Asked) -> None:
    """A request and a copy of it with its names in another order: their ids do not matter."""
    assert key_of(asked) == key_of(copied(asked)) is not None


@settings(max_examples=40)
@given(ASKED, st.data())
def test_requests_that_differ_in_any_one_thing_do_not_share_a_key(asked: Asked, data: st.DataObject) -> None:
    """Each part of a request is given another value in turn: the key changes exactly if the value does."""
    other = data.draw(ASKED)
    key = key_of(asked)
    for one in fields(Asked):
        if one.name != "request":
            changed = replace(asked, **{one.name: getattr(other, one.name)})
            assert (key_of(changed) == key) == same(getattr(asked, one.name), getattr(other, one.name)), one.name
    for one in fields(Request):
        if one.name not in ("id", "raw"):
            mine, others = getattr(asked.request, one.name), getattr(other.request, one.name)
            changed = replace(asked, request=replace(asked.request, **{one.name: others}))
            assert (key_of(changed) == key) == same(mine, others), one.name


@given(VALUES, VALUES)
def test_values_share_a_key_only_if_they_are_the_same(one: Any, other: Any) -> None:
    """1 is not 1.0 nor true, null is not missing, and an unpaired surrogate is not a character."""
    keys = [key_of(Asked(Request((), extra={"a": value}), "p")) for value in (one, other)]
    assert (keys[0] == keys[1]) == same(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": None}, {}),
        ({"a": 1}, {"a": True}),
        ({"a": [1, 2]}, {"a": [2, 1]}),
        ({"a": "\ud83d\ude00"}, {"a": "😀"}),
        ({"a": {}}, {"a": []}),
    ],
)
def test_lookalikes_do_not_share_a_key(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Values that careless encoders write alike."""
    assert key_of(Asked(Request((), extra=one), "p")) != key_of(Asked(Request((), extra=other), "p"))


@pytest.mark.parametrize("value", [float("nan"), {1: "a"}, object(), b"bytes"])
def test_what_is_no_json_has_no_key(value: Any) -> None:
    """Nobody can say what equals it."""
    assert key_of(Asked(Request((), extra={"a": value}), "p")) is None


def test_metadata_that_name_no_caller_are_no_part_of_the_key() -> None:
    """A ticket's number does not change the answer; the caller's key, user and sample divide requests."""
    keys = {
        name: key_of(Asked(Request((), metadata={name: "1"}), "p")) for name in ("ticket", "workflow", *OF_THE_CALLER)
    }
    assert keys["ticket"] == keys["workflow"] == key_of(Asked(Request(()), "p"))
    assert len(set(keys.values())) == 1 + len(OF_THE_CALLER)


@pytest.mark.parametrize(
    ("marked", "task", "requests", "expected"),
    [
        (None, None, "marked", False), (None, None, "all", True), (True, None, "marked", True), (False, None, "all", False),
        (None, "on", "marked", True), (None, "off", "all", False), (None, "plain", "all", True), (None, "plain", "marked", False),
        (False, "on", "all", False), (True, "off", "marked", True), (None, "unknown", "all", True),
    ],
)  # fmt: skip
def test_the_callers_word_beats_the_tasks_and_the_tasks_the_policys(
    marked: bool | None, task: str | None, requests: str, *, expected: bool
) -> None:
    """Who is cached, in every combination that matters."""
    tasks = [{"name": "on", "cache": True}, {"name": "off", "cache": False}, {"name": "plain"}]
    policy = ladder(cache={"requests": requests}, tasks=[{"when": {"flag": "f"}, **one} for one in tasks])
    assert is_cached(policy, marked, task) is expected


def test_a_mark_without_a_cache_is_an_error() -> None:
    """Nothing that a caller asks for is dropped without a word."""
    assert not is_cached(ladder(), None, None)
    assert not is_cached(ladder(), False, None)
    with pytest.raises(RequestError, match="no response cache"):
        is_cached(ladder(), True, None)


def is_short(text: str) -> bool:
    """A check of this module."""
    return len(text) < 10


def _closing_over(most: int) -> Callable[[str], bool]:
    def is_shorter(text: str) -> bool:
        return len(text) < most

    return is_shorter


class _Holder:
    def method(self, text: str) -> bool:
        """A check with an object's state."""
        return bool(text)


def test_a_function_of_a_module_is_identified_by_its_name_and_code() -> None:
    """The same function twice is the same check, and a redefined one is another."""
    found = identities_of([is_short])
    assert found == identities_of([is_short])
    before, is_short.__code__ = is_short.__code__, (lambda text: len(text) < 11).__code__
    try:
        assert identities_of([is_short]) != found
    finally:
        is_short.__code__ = before


def is_within(text: str, most: int) -> bool:
    """A test whose limit is bound to it."""
    return len(text) <= most


def test_a_function_with_values_bound_to_it_is_identified_by_them_too() -> None:
    """Equal values, by name or by place alike, are one check each time; others are another; and what is no JSON is none."""
    assert identities_of([partial(is_within, most=3)]) == identities_of([partial(is_within, most=3)])
    limits = [identities_of([partial(is_within, most=most)]) for most in (3, 4)]
    assert len({*limits, identities_of([is_within])}) == 3
    assert identities_of([partial(is_within, most=object())]) == "partial"  # type: ignore[arg-type]
    assert identities_of([partial(_closing_over(3))]) == "partial"


@pytest.mark.parametrize("check", [_closing_over(3), lambda text: len(text) > 2, _Holder().method, len, str.isdigit])
def test_a_function_whose_surroundings_decide_is_not_identified(check: Callable[[str], bool]) -> None:
    """It is named, so that the caller can be told."""
    assert identities_of([is_short, check]) == check.__name__


def test_the_endpoint_is_a_part_of_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """An emulator's answers are never returned in production, nor a beta's without it; the API itself has one name."""
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with (
        anthropic.Anthropic(api_key="k") as plain,
        anthropic.Anthropic(api_key="k", default_headers={"Anthropic-Beta": "b"}) as beta,
    ):
        assert endpoint_of(plain) == endpoint_of(None) != endpoint_of(beta)
    clients = [
        SimpleNamespace(base_url=url)
        for url in ("https://api.anthropic.com", "http://127.0.0.1:1", "http://127.0.0.1:1/")
    ]
    usual, emulator, same_emulator = map(endpoint_of, clients)
    assert usual == endpoint_of(None) != emulator == same_emulator
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:1")
    assert endpoint_of(None) == emulator
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1")
    assert len({endpoint_of(None), endpoint_of(clients[0]), emulator, usual}) == 4


def test_a_change_of_a_policys_own_function_makes_other_keys(
    drive: Drive, echoing: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer that the old code let pass is not returned under the new one, though the policy is the same."""
    (tmp_path / "own_rules.py").write_text("def passes(text):\n    return len(text) > 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_rules", raising=False)
    policy = cached(checks=["own_rules:passes"])
    assert [drive(policy).ask("a").cache for _ in range(2)] == ["miss", "hit"]
    monkeypatch.setattr(sys.modules["own_rules"], "passes", _other_code())
    assert [drive(policy).ask("a").cache for _ in range(2)] == ["miss", "hit"]
    assert len(echoing.requests) == 2


def _other_code() -> Any:
    made: dict[str, Any] = {"__name__": "own_rules"}
    exec("def passes(text):\n    return len(text) > 2\n", made)  # as a new deployment has it
    return made["passes"]
