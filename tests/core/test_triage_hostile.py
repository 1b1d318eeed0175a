"""Thousands of hostile replies: only verdicts come of them, soon, and never a confidence that was not said."""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from json_repair import loads

from cascade.core.messages import Reply, Usage
from cascade.core.text.parsing import Repair
from cascade.core.trail import Verdict
from cascade.core.verdicts import read_reply

NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
SOUND = [
    json.dumps({"confidence": 0.9, "answer": "Your parcel A-17 is on its way."}),
    json.dumps({"answer": 'if (a["b"]) { return "c\\n"; } // 0.5', "confidence": 0.35}, indent=2),
    json.dumps({"confidence": 1, "answer": None}),
    json.dumps({"confidence": 0.25, "answer": {"city": "Ulm", "n": [1, {"confidence": 0.99}]}}),
    "```json\n" + json.dumps({"confidence": 0.7, "answer": "déjà vu 😀"}) + "\n```",
]
SPLICES = [
    '"', "'", "\\", "{", "}", "[", "]", ",", ":", "\n", "\x00", "\ud800", "\ufeff", "null", "NaN", "Infinity", "-", "1e999",
    "0.99", "90%", "confidence", '"confidence": 1,', "'confidence': 0.99", "answer", "```", "//", "/*", "*/", "#", "\\u0022",
    "\\ud83d", "<think>", "true", " " * 3_000, "[" * 2_000, '{"a":' * 1_000, "9" * 6_000, "```json", '"' * 500, "\u202e", "...",
]  # fmt: skip


def mutated(chance: random.Random) -> str:
    """A sound reply after up to six cuts, splices, swaps and doublings."""
    text = chance.choice(SOUND)
    for _ in range(chance.randint(0, 6)):
        at, other = sorted(chance.choices(range(len(text) + 1), k=2))
        match chance.randrange(5):
            case 0:
                text = text[:at] + text[other:]
            case 1:
                text = text[:at] + chance.choice(SPLICES) + text[at:]
            case 2:
                text = text[:at]
            case 3:
                text = text + text[at:other]
            case _:
                text = text[:at] + chance.choice(SPLICES) + text[other:]
    return text


def holds(text: str, verdict: Verdict) -> bool:
    """Whether the verdict is one that this text may have."""
    if verdict.kind == "malformed":
        return verdict.confidence is None and verdict.text is None
    if verdict.kind not in ("answered", "declined") or verdict.confidence is None:
        return False
    said = {float(number) for number in NUMBER.findall(text)}
    return 0 <= verdict.confidence <= 1 and verdict.confidence in said and "confidence" in text.replace("\\u", "")


def read(text: str, repair: Repair | None, *, structured: bool) -> Verdict:
    """The verdict on a triage reply."""
    return read_reply(Reply(text, "end_turn", Usage()), triage=True, structured=structured, repair=repair)


@pytest.mark.parametrize("repair", [None, loads], ids=["strict", "repairing"])
def test_over_two_thousand_mutated_replies_bring_only_verdicts(repair: Repair | None) -> None:
    """No exception, no confidence outside 0..1 or made up, and 20 seconds for them all are plenty."""
    chance = random.Random(20_261_121)
    started, kinds = time.perf_counter(), set[str]()
    for _ in range(2_500):  # one in seven is left sound
        text, structured = mutated(chance), chance.random() < 0.5
        verdict = read(text, repair, structured=structured)
        assert holds(text, verdict), (text, verdict)
        kinds.add(verdict.kind)
    assert kinds == {"answered", "declined", "malformed"}
    assert time.perf_counter() - started < 20


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["confidence", "answer", "x"]), inner, max_size=3)
    ),
    max_leaves=12,
)
ENVELOPES = st.fixed_dictionaries({"confidence": JSON, "answer": JSON})


@given(text=st.text() | JSON.map(json.dumps) | ENVELOPES.map(json.dumps), structured=st.booleans())
@settings(max_examples=150)
def test_any_text_and_any_json_bring_only_verdicts(text: str, structured: bool) -> None:
    """Whatever is drawn, with and without the repair; the two differ only where a repair was made and said."""
    strict, repaired = (read(text, repair, structured=structured) for repair in (None, loads))
    assert holds(text, strict)
    assert holds(text, repaired)
    assert repr(strict) == repr(repaired) or repaired.repaired


@given(data=st.data())
def test_an_envelope_is_answered_only_with_a_true_confidence(data: st.DataObject) -> None:
    """A number from 0 to 1 and a text: answered. Anything else is not."""
    envelope = data.draw(ENVELOPES)
    verdict = read(json.dumps(envelope), loads, structured=False)
    confidence, answer = envelope["confidence"], envelope["answer"]
    sound = isinstance(confidence, (int, float)) and not isinstance(confidence, bool) and 0 <= confidence <= 1
    assert (verdict.kind == "answered") == (sound and isinstance(answer, str))
    assert (verdict.kind == "declined") == (sound and answer is None)


LONG: list[Callable[[int], str]] = [
    lambda n: " " * n + "x",
    lambda n: "```" + " " * n + "x" + " " * n,
    lambda n: '{"confidence": 0.9, "answer": "' + '"a' * (n // 2) + "}",
    lambda n: '{"confidence": 0.9, "answer": ' + '{"a":' * (n // 5) + "}",
    lambda n: "{'confidence': 0.9, 'answer': " + "[" * n + "}",
    lambda n: "{confidence" + ":" * n + " 0.9, answer: 1}",
    lambda n: "{" + '"confidence" : ' * (n // 14) + "}",
    lambda n: '{"confidence": 0.9, "answer": "yes"' + "," * n + "}",
    lambda n: '{"confidence": 0.9, "answer": "yes" ' + "/*" * (n // 2) + "}",
    lambda n: '{"confidence": 0.' + "9" * n + ', "answer": "yes",}',
    lambda n: '{"confidence": 0.9, "answer": "' + "\\" * n + "}",
    lambda n: "{'confidence': 0.9, 'answer': 'a'" + "\n" * n + "}",
]


def test_a_megabyte_made_to_hurt_is_read_in_bounded_time() -> None:
    """Each shape at 100 kB and at 1 MB, repairing included: seconds for all of them, where a square would take hours."""
    started = time.perf_counter()
    for shape in LONG:
        for size in (100_000, 1_000_000):
            for structured in (True, False):
                text = shape(size)
                assert read(text, loads, structured=structured).kind in ("answered", "malformed")
    assert time.perf_counter() - started < 30
