"""A triage reply that is read while it is written: its head, then its answer's text, however it is split."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.core.messages import Reply, Usage
from cascade.core.text.envelope import EnvelopeReader, Head
from cascade.core.text.parsing import is_visible
from cascade.core.verdicts import read_reply


def read(pieces: Iterable[str], *, structured: bool = False) -> tuple[str, EnvelopeReader]:
    """The text that a reader returns for these pieces, and the reader."""
    reader = EnvelopeReader(structured=structured)
    return "".join([reader.feed(piece) for piece in pieces]), reader


def envelope(confidence: str, answer: str) -> str:
    """A reply as models write it; both values are JSON."""
    return f'{{"confidence": {confidence}, "answer": {answer}}}'


def splits(text: str, chance: random.Random) -> Iterator[str]:
    """The text in pieces of random sizes, many of one character."""
    at = 0
    while at < len(text):
        size = chance.choice((1, 1, 2, 3, 5, 8, 40))
        yield text[at : at + size]
        at += size


ALPHABET = [
    "a",
    "é",
    " ",
    "\n",
    "\t",
    '"',
    "\\",
    "/",
    "\b",
    "\f",
    "\r",
    "\0",
    "\x1f",
    "\x7f",
    "\u2028",
    "漢",
    "😀",
    "\U0010ffff",
    "u",
    "{",
    "}",
]


def written(text: str, chance: random.Random) -> str:
    """The text as a JSON string, each character escaped in one of the ways that JSON allows."""
    short = {'"': '\\"', "\\": "\\\\", "/": "\\/", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    pieces: list[str] = []
    for character in text:
        escaped = json.dumps(character)[1:-1]
        units = character.encode("utf-16-be")
        hexadecimal = "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
        ways = [escaped, hexadecimal, hexadecimal.upper().replace("\\U", "\\u"), short.get(character, escaped)]
        if character >= " " and character not in '"\\':
            ways.append(character)
        pieces.append(chance.choice(ways))
    return f'"{"".join(pieces)}"'


def test_every_piece_concatenated_is_the_answer() -> None:
    """For random texts, escaped in random ways and split in random places, the text is what JSON says it is."""
    chance = random.Random(13)
    for _ in range(1_500):
        answer = "".join(chance.choices(ALPHABET, k=chance.randrange(1, 40)))
        number = json.dumps(chance.choice((chance.random(), 0, 1, 0.5, 1e-7)))
        space = chance.choice(("", " ", "\n  "))
        reply = f'{space}{{{space}"confidence"{space}:{space}{number}{space},{space}"answer":{space}{written(answer, chance)}{space}}}'
        text, reader = read(splits(reply, chance))
        if not is_visible(answer):
            assert (reader.head, reader.failed, text) == (None, True, "")
            continue
        assert text == json.loads(reply)["answer"] == answer
        assert reader.head is not None
        assert reader.head.confidence == json.loads(reply)["confidence"]
        assert reply[reader.head.position - 1] == '"'
        assert reader.head.position == reply.index('"', reply.index('"answer"') + 8) + 1
        assert (reader.ended, reader.failed, reader.broken, reader.bad_unicode) == (True, False, False, False)


@given(answer=st.text(min_size=1), ascii_only=st.booleans(), data=st.data())
def test_any_text_survives_any_split(answer: str, ascii_only: bool, data: st.DataObject) -> None:
    """As above, with texts and two places to split at that hypothesis looks for."""
    reply = json.dumps({"confidence": 0.9, "answer": answer}, ensure_ascii=ascii_only)
    first = data.draw(st.integers(0, len(reply)))
    second = data.draw(st.integers(first, len(reply)))
    text, reader = read([reply[:first], reply[first:second], reply[second:]])
    assert text == (answer if is_visible(answer) else "")
    assert reader.failed is not is_visible(answer)


def test_the_head_comes_with_the_first_character_of_the_answer() -> None:
    """Not before, since an empty answer is none; and its position is where the answer begins."""
    reply = envelope("0.83", r'"\n \u0020x, and more"')
    reader = EnvelopeReader()
    decided_at = next(number for number, character in enumerate(reply) if reader.feed(character) or reader.head)
    assert reply[decided_at] == "x"
    assert reader.head == Head(0.83, declined=False, position=len('{"confidence": 0.83, "answer": "'))


def test_a_null_declines_at_its_first_character() -> None:
    """The rest of it need not come."""
    for pieces in (['{"confidence": 0.4, "answer": n'], list('{"confidence": 0.4, "answer": n')):
        text, reader = read([*pieces, "ull}"])
        assert (text, reader.head) == ("", Head(0.4, declined=True, position=len('{"confidence": 0.4, "answer": n')))


FAILING = [
    "I cannot say.",
    "```json\n" + envelope("0.9", '"yes"'),
    "[" + envelope("0.9", '"yes"'),
    '{"answer": "yes", "confidence": 0.9}',
    '{"Confidence": 0.9, "answer": "yes"}',
    '{"confidence": 0.9}',
    '{"confidence": 0.9, "reasoning": "", "answer": "yes"}',
    '{"confidence" 0.9, "answer": "yes"}',
    '{"confidence": 0.9; "answer": "yes"}',
    '{"confidence": , "answer": "yes"}',
    *(envelope(number, '"yes"') for number in ("1.0000001", "-0.1", "2", "90", "1e400", "NaN", "Infinity", '"0.9"', "true", "null")),
    *(envelope(number, '"yes"') for number in ("[0.9]", "{}", "0.9.1", ".9", "90%", "0x1", "+0.9", "1_0", "0,9", "00.9", "1.", "0.9e", "9" * 5_000)),
    *(envelope("0.9", answer) for answer in ("7", "true", "[]", "{}", "yes", '""', r'" \n\t\u0020 "', r'"\ud800yes"', '"\nyes"', r'"\yes"', r'"\u12zz"')),
]  # fmt: skip


@pytest.mark.parametrize("reply", FAILING)
def test_what_is_not_the_envelope_never_has_a_head(reply: str) -> None:
    """Whether it comes at once or by the character; nothing of it is returned, however long it goes on."""
    for pieces in ([reply], list(reply)):
        text, reader = read([*pieces, "more"])
        assert (text, reader.head, reader.failed) == ("", None, True)


@pytest.mark.parametrize(
    "reply", ["", "{", '{"confidence": 0.9', '{"confidence": 0.9, "answer": ', '{"confidence": 0.9, "answer": " ']
)
def test_a_reply_that_ends_before_its_head_is_undecided(reply: str) -> None:
    """The end is not known to the reader: there is no head, and the whole reply is judged."""
    text, reader = read([reply])
    assert (text, reader.head, reader.failed) == ("", None, False)


@pytest.mark.parametrize(
    ("string", "kept"),
    [
        (r'"a\ud800"', "a"),
        (r'"a\ud800b"', "ab"),
        (r'"a\udc00b"', "ab"),
        (r'"a\ud800\nb"', "a\nb"),
        (r'"a\ud800\u0062"', "ab"),
        (r'"a\ud83d\ud83d\ude00"', "a😀"),
        ('"a\ud800b"', "ab"),
    ],
)
def test_an_unpaired_surrogate_is_marked_and_never_returned(string: str, kept: str) -> None:
    """The reply as a whole would be malformed, since its text cannot be encoded."""
    reply = envelope("0.9", string)
    assert read_reply(Reply(reply, "end_turn", Usage()), triage=True, structured=False).kind == "malformed"
    for pieces in ([reply], list(reply)):
        text, reader = read(pieces)
        assert (text, reader.bad_unicode, reader.ended) == (kept, True, True)
        assert text.encode()


@pytest.mark.parametrize(
    ("string", "kept"), [('"a\nb"', "a\nb"), (r'"a\qb"', r"a\qb"), (r'"a\u12zzb"', r"a\u12zzb"), (r'"a\u12"', r"a\u12")]
)
def test_what_json_forbids_in_a_string_is_kept_and_marked(string: str, kept: str) -> None:
    """It was decided on the head, so the text goes on as it stands."""
    for pieces in ([envelope("0.9", string)], list(envelope("0.9", string))):
        text, reader = read(pieces)
        assert (text, reader.broken, reader.bad_unicode, reader.ended) == (kept, True, False, True)


@pytest.mark.parametrize("answer", ['{"a": 1}', "[1]", '"text"', '""', "0", "-1", "true", "false"])
def test_a_structured_answer_is_decided_at_its_first_character(answer: str) -> None:
    """Its text is not returned: only the whole value can be read."""
    for pieces in ([envelope("0.9", answer)], list(envelope("0.9", answer))):
        text, reader = read(pieces, structured=True)
        assert (text, reader.head) == (
            "",
            Head(0.9, declined=False, position=len('{"confidence": 0.9, "answer": ') + 1),
        )


def test_the_head_agrees_with_the_reading_of_the_whole_reply() -> None:
    """For random replies, broken in random places: a head's number and refusal are what the whole reply says, if it is sound."""
    chance = random.Random(7)
    alike = 0
    for _ in range(3_000):
        reply = list(
            envelope(
                chance.choice(("0.9", "1", "0", "0.125")),
                chance.choice(('"yes \\ud83d\\ude00"', "null", '" "', '"\\u0000"')),
            )
        )
        for _ in range(chance.randrange(3)):
            reply[chance.randrange(len(reply))] = chance.choice('0.{}", \\nu:')
        whole = "".join(reply)
        text, reader = read(splits(whole, chance))
        verdict = read_reply(Reply(whole, "end_turn", Usage()), triage=True, structured=False)
        if verdict.kind == "malformed":
            continue
        alike += 1
        head = reader.head
        assert (head is None) is (verdict.kind == "answered" and not is_visible(verdict.text or ""))
        if head is not None:
            assert (head.confidence, head.declined, text) == (
                verdict.confidence,
                verdict.kind == "declined",
                verdict.text or "",
            )
    assert alike > 1_000
