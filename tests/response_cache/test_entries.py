"""What is stored of an answer comes back as it was; nothing else is ever read."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.core.messages import Message, Usage
from cascade.core.prepared import Handed
from cascade.core.trail import Answer, Step, Verdict
from cascade.response_cache import Entry

TEXTS = st.text(max_size=5)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda one: st.lists(one, max_size=2) | st.dictionaries(TEXTS, one, max_size=2),
    max_leaves=4,
)
MESSAGES = st.builds(
    Message, st.just(""), st.lists(st.fixed_dictionaries({"type": TEXTS, "text": TEXTS}), max_size=2).map(tuple),
    st.sampled_from(["end_turn", "stop_sequence"]), st.none() | TEXTS, st.dictionaries(TEXTS, JSON, max_size=2),
)  # fmt: skip
ENTRIES = st.builds(
    Entry, TEXTS, st.floats(0, 1e10), TEXTS, JSON, TEXTS, TEXTS, st.none() | st.floats(0, 1), st.sampled_from([None, "self_reported", "calibrated"]),
    TEXTS, st.lists(TEXTS, max_size=2).map(tuple), TEXTS, st.integers(0, 10**12), st.none() | MESSAGES,
)  # fmt: skip


@settings(max_examples=50)
@given(ENTRIES)
def test_an_entry_comes_back_as_it_was_stored(entry: Entry) -> None:
    """All of its values, and the message's."""
    stored = entry.to_bytes()
    assert stored is not None
    found = Entry.read(stored)
    assert found == entry
    assert found is not None
    assert (found.message and found.message.more) == (entry.message and entry.message.more)


@settings(max_examples=50)
@given(ENTRIES, st.data())
def test_a_damaged_entry_is_never_half_read(entry: Entry, data: st.DataObject) -> None:
    """A value of another type, a missing name, another version, or cut bytes: a miss, and no error."""
    stored = entry.to_bytes() or b""
    fields = json.loads(stored)
    name = data.draw(st.sampled_from(sorted(set(fields) - {"data"})))
    without = {key: value for key, value in fields.items() if key != name}
    assert Entry.read(json.dumps(without)) is None
    assert Entry.read(json.dumps({**fields, name: {"unexpected": [1]}})) is None
    assert Entry.read(json.dumps({**fields, "more": 1})) is None
    assert Entry.read(stored[: data.draw(st.integers(0, len(stored) - 1))]) is None


@given(st.binary(max_size=20) | JSON.map(lambda value: json.dumps(value).encode()))
def test_whatever_else_lies_in_the_store_is_a_miss(value: bytes) -> None:
    """Bytes of another program."""
    assert Entry.read(value) is None
    assert Entry.read(None) is None
    assert Entry.read(b"[" * 100_000) is None


def answered(**more: Any) -> Answer:
    """An answer that may be returned again; `more` are other values of it. `verdict`, `reason`, `handed`: of its step."""
    verdict = Verdict("answered", 0.9, "self_reported", "yes", **more.pop("verdict", {}))
    step = Step(0, "haiku", "m", verdict, reason=more.pop("reason", None), handed=more.pop("handed", None))
    plain = Answer(
        "yes", None, "haiku", "m", 0.9, "self_reported", (step,), Usage(), 5, None, None, 1, 0.1, "casc_1", "other", (), {}, "p", "h"
    )  # fmt: skip
    return replace(plain, **more)


def test_what_stood_by_itself_is_stored() -> None:
    """With the id of its request, what its climb had cost, and until when it holds."""
    entry = Entry.of(answered(), 7.0, typed=False)
    assert entry is not None
    assert (entry.request, entry.until, entry.text, entry.rung, entry.cost) == ("casc_1", 7.0, "yes", "haiku", 5)


@pytest.mark.parametrize(
    "more",
    [
        {"degraded": "budget"}, {"degraded": "storm"}, {"abstained": "declined", "text": None}, {"arm": "holdout"}, {"arm": "bypass"},
        {"arm": "observe"}, {"arm": "batch"}, {"arm": "cache"}, {"notes": ("continued on sonnet",)}, {"reason": "storm"},
        {"handed": Handed("artifact")}, {"verdict": {"unknown_stop": True}},
        {"verdict": {"message": Message("m", ({"type": "tool_use", "id": "1"},), "tool_use")}},
        {"verdict": {"message": Message("m", (), "end_turn", None, {"container": {"id": "c"}})}},
        {"rung": None}, {"steps": ()},
    ],
)  # fmt: skip
def test_what_did_not_stand_by_itself_is_not_stored(more: dict[str, Any]) -> None:
    """Degraded, abstained, of another arm, with notes, decided by a storm, of a tool call, or of another turn's plan."""
    assert Entry.of(answered(**more), 7.0, typed=False) is None


def test_a_value_of_a_callers_type_is_not_stored_but_made_again() -> None:
    """And a value that is no JSON is not stored at all."""
    entry = Entry.of(answered(data=object()), 7.0, typed=True)
    assert entry is not None
    assert entry.to_bytes() is not None
    other = Entry.of(answered(data=object()), 7.0, typed=False)
    assert other is not None
    assert other.to_bytes() is None
