"""What is made of a reply: stop_reason, then strict JSON, then a repair that adds nothing and loses nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from json_repair import loads

from cascade.core.messages import Reply, Usage
from cascade.core.trail import Verdict
from cascade.core.verdicts import read_reply

GOOD = '{"confidence": 0.9, "answer": "yes"}'


def read(
    text: str, *, stop: str = "end_turn", triage: bool = True, structured: bool = False, repair: bool = True
) -> Verdict:
    """What is made of a reply with this text."""
    return read_reply(
        Reply(text, stop, Usage()), triage=triage, structured=structured, repair=loads if repair else None
    )  # type: ignore[arg-type]


STOPS = [
    ("end_turn", "answered"),
    ("stop_sequence", "answered"),
    ("max_tokens", "truncated"),
    ("refusal", "refused"),
    ("model_context_window_exceeded", "overflow"),
    ("tool_use", "malformed"),
    ("pause_turn", "malformed"),
    ("", "malformed"),
    ("something_new", "answered"),
]


@pytest.mark.parametrize("triage", [True, False])
@pytest.mark.parametrize(("stop", "kind"), STOPS)
def test_the_stop_reason_is_read_first(stop: str, kind: str, triage: bool) -> None:
    """A sound envelope that was cut, refused or overflowed has no confidence and no text, below the top and at it."""
    verdict = read(GOOD, stop=stop, triage=triage)
    assert verdict.kind == kind
    if kind != "answered":
        assert (verdict.confidence, verdict.text) == (None, None)


@pytest.mark.parametrize(("text", "triage"), [(GOOD, True), ("yes", False)])
def test_a_complete_text_that_stopped_for_an_unknown_reason_is_marked(text: str, triage: bool) -> None:
    """It is an answer, but its confidence is not taken: nobody knows what the reason means."""
    verdict = read(text, stop="something_new", triage=triage)
    assert verdict == Verdict("answered", text="yes", detail="stopped by something_new", unknown_stop=True)


def test_what_stopped_for_an_unknown_reason_is_not_repaired() -> None:
    """A text that needs it may have been cut."""
    broken = "{'confidence': 0.9, 'answer': 'yes'}"
    assert read(broken).kind == "answered"
    assert read(broken, stop="something_new") == Verdict("malformed", detail="stopped by something_new")


@given(confidence=st.floats(0, 1) | st.sampled_from([0, 1]), answer=st.text())
def test_a_sound_envelope_is_read_to_the_letter(confidence: float, answer: str) -> None:
    """The very number and the very text, unrepaired, in either order of the keys."""
    for pairs in ({"confidence": confidence, "answer": answer}, {"answer": answer, "confidence": confidence}):
        verdict = read(json.dumps(pairs))
        assert verdict == Verdict("answered", float(confidence), "self_reported", answer)


BAD_CONFIDENCE = [
    "1.0000001", "-0.1", "2", "90", "-1", "1e400", "-1e400", "NaN", "Infinity", "-Infinity", '"0.9"', '"high"', "true",
    "false", "null", "[0.9]", '{"value": 0.9}', "9" * 5_000, '""', "0.9.1", "0,9", ".9", "90%", "0x1", "+0.9", "1_0", "\u0660.\u0669",
]  # fmt: skip


@pytest.mark.parametrize("repair", [True, False])
@pytest.mark.parametrize("confidence", BAD_CONFIDENCE)
def test_a_confidence_that_is_no_number_from_0_to_1_makes_the_reply_malformed(confidence: str, repair: bool) -> None:
    """Out of range, missing, NaN, a string, a boolean, a percentage: never clamped, converted or guessed."""
    for text in (
        f'{{"confidence": {confidence}, "answer": "yes"}}',
        f'{{"answer": "yes", "confidence": {confidence}}}',
    ):
        verdict = read(text, repair=repair)
        assert (verdict.kind, verdict.confidence, verdict.text) == ("malformed", None, None)


MALFORMED = [
    "", " ", "yes", "The answer is yes, confidence 0.9", "null", "0.9", "[]", '"yes"', "{}", '{"answer": "yes"}',
    '{"confidence": 0.9}', '{"confidence": 0.9, "Answer": "yes"}', '{"Confidence": 0.9, "answer": "yes"}',
    f"{GOOD}{GOOD}", f"{GOOD}\n{GOOD}", f"[{GOOD}]", f"Here it is: {GOOD}", f"{GOOD} I hope this helps!",
    '{"confidence": 0.9, "answer": 7}', '{"confidence": 0.9, "answer": ["yes"]}', '{"confidence": 0.9, "answer": true}',
    '{"envelope": {"confidence": 0.9, "answer": "yes"}}', '{"answer": {"confidence": 0.9, "answer": "yes"}}',
    '{"confidence": 0.9, "answer": "yes", "why": NaN}',
    # a key twice: which one was meant?
    '{"confidence": 0.2, "confidence": 0.9, "answer": "yes"}', '{"confidence": 0.9, "answer": "no", "answer": "yes"}',
    '{"confidence": 0.9, "answer": "no", "answer": "yes",}', '```json\n{"confidence": 0.9, "answer": "a", "answer": "b"}\n```',
    # cut: nobody knows what was to come
    '{"confidence": 0.9, "answer": "yes', '{"confidence": 0.9, "answer": "yes"', '{"confidence": 0.9, "answer":',
    '{"confidence": 0.9', '{"confidence": 0.', '{"answer": "yes", "confidence": 0.9', '{"answer": "yes", "confidence": 0.}',
    '{"confidence": 0.9, "answer": "if (x) { return 1; }', '{"confidence": 0.9, "answer": "a = {\\"b\\": \\"c\\"}',
    '{"confidence": 0.9, "answer": }', '{"confidence": , "answer": "yes"}', '{"confidence": "answer": "yes"}',
    # a repair would have to choose: the answer's end, or the confidence
    '{"confidence": 0.9, "answer": "He said "no", "yes": and left"}',
    "{'confidence': 0.2, 'answer': 'my \"confidence\": 0.9'}", "{'confidence': 90%, 'answer': 'yes'}",
    "{'confidence': '0.9', 'answer': 'yes'}", "{'confidence': 0.9, 'answer': 'yes', 'why': 'because'}",
    # half a surrogate pair cannot be written to anything
    '{"confidence": 0.9, "answer": "\\ud800"}', '{"confidence": 0.9, "answer": "a\\udfffb"}',
]  # fmt: skip


@pytest.mark.parametrize("repair", [True, False])
@pytest.mark.parametrize("text", MALFORMED)
def test_what_is_not_one_whole_envelope_is_malformed(text: str, repair: bool) -> None:
    """Prose, two objects, a key twice, cut JSON: with the repair at hand as without."""
    verdict = read(text, repair=repair)
    assert (verdict.kind, verdict.confidence, verdict.text) == ("malformed", None, None)
    assert verdict.detail


REPAIRED = [
    "{'confidence': 0.9, 'answer': 'yes'}",
    '{"confidence": 0.9, "answer": "yes",}',
    '{confidence: 0.9, answer: "yes"}',
    '{"confidence": 0.9\n"answer": "yes"}',
    "```json\n{'confidence': 0.9, 'answer': 'yes'}\n```",
    f"```json\n{GOOD}\n```",
    f"```\n{GOOD}```",
    f"  ```JSON {GOOD} ```\n",
]


@pytest.mark.parametrize("text", REPAIRED)
def test_what_is_repaired_says_so(text: str) -> None:
    """Quotes, commas and fences may be repaired: the number and the text stood there, once and whole."""
    assert read(text) == Verdict("answered", 0.9, "self_reported", "yes", repaired=True)


def test_a_fence_comes_off_without_the_extra_and_nothing_else_does() -> None:
    """A fence around sound JSON needs no repair."""
    assert read(f"```json\n{GOOD}\n```", repair=False).text == "yes"
    assert {read(text, repair=False).kind for text in REPAIRED[:5]} == {"malformed"}


@pytest.mark.parametrize(
    "value", [0.9, {"confidence": 1.0, "answer": "yes"}, {"confidence": 0.95, "answer": "yes"}, [], "", None]
)
def test_a_repair_that_makes_a_number_up_is_not_believed(value: object) -> None:
    """Whatever it returns, the confidence is the one that stands in the text."""
    broken = '{"confidence": 0.9, "answer": "yes",}'
    verdict = read_reply(Reply(broken, "end_turn", Usage()), triage=True, structured=False, repair=lambda _: value)
    assert verdict.kind == "malformed"


def test_a_repair_that_fails_is_a_malformed_reply() -> None:
    """A stranger's parser may raise anything on a broken text."""

    def fails(text: str) -> object:
        raise IndexError(text)

    broken = '{"confidence": 0.9, "answer": "yes",}'
    assert (
        read_reply(Reply(broken, "end_turn", Usage()), triage=True, structured=False, repair=fails).kind == "malformed"
    )


@given(answer=st.text(alphabet="ab \"'\\{}[],:\n`é1.", max_size=30))
def test_a_repaired_answer_keeps_every_letter(answer: str) -> None:
    """An answer written without escaping is either read whole, up to punctuation, or not at all."""
    verdict = read('{"confidence": 0.9, "answer": "' + answer + '"}')
    if verdict.kind == "answered" and verdict.repaired:
        letters = [c for c in answer.replace("\\\\", "") if c.isalnum()]
        assert verdict.text is not None
        assert sum(map(str.isalnum, verdict.text)) >= len(letters) - answer.count("\\")


def test_declining_is_a_verdict_of_its_own() -> None:
    """`answer: null` with a confidence; without a sound one the reply is malformed."""
    assert read('{"confidence": 0.3, "answer": null}') == Verdict("declined", 0.3, "self_reported")
    assert read('{"confidence": 7, "answer": null}').kind == "malformed"


def test_an_answer_with_a_schema_comes_as_data() -> None:
    """The value and its JSON text, below the top in its envelope and at the top bare."""
    data: Any = {"city": "Zürich", "n": [1, 2.5, None]}
    below = read(json.dumps({"confidence": 0.9, "answer": data}), structured=True)
    at_top = read(json.dumps(data), triage=False, structured=True)
    assert (below.data, at_top.data, below.confidence, at_top.confidence) == (data, data, 0.9, None)
    assert below.text == at_top.text == json.dumps(data, ensure_ascii=False)


NOT_DATA = ["", "no JSON", '{"a": 1', '{"a": 1, "a": 2}', "NaN", "1e999", '"\\ud800"', "[" * 5_000, '{"a": Infinity}']


@pytest.mark.parametrize("text", NOT_DATA)
def test_a_bare_answer_that_is_not_json_is_malformed(text: str) -> None:
    """At the top as below it: what cannot be written as JSON again was none."""
    assert read(text, triage=False, structured=True).kind == "malformed"
    assert read('{"confidence": 0.9, "answer": ' + text + "}", structured=True).kind == "malformed"


def test_depth_is_no_crash_at_any_level() -> None:
    """What parses at the edge of the recursion limit may not be written again: malformed, not an error."""
    for depth in (*range(100, 3_000, 100), *range(900, 1_000, 3), 100_000):
        text = '{"confidence": 0.9, "answer": ' + "[" * depth + "]" * depth + "}"
        assert read(text, structured=True, repair=False).kind in ("answered", "malformed")


def test_the_top_answers_in_its_own_words() -> None:
    """Plain text is passed on as it is, even where it looks like an envelope; half a surrogate is not text."""
    assert read(GOOD, triage=False) == Verdict("answered", text=GOOD)
    assert read("", triage=False) == Verdict("answered", text="")
    assert read("\ud800", triage=False).kind == "malformed"
