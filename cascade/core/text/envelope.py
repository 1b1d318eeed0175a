"""Reads a triage reply while it is being written: the confidence first, then the answer's text, piece by piece.

Only the form of the order confidence_first is read, `{"confidence": 0.83, "answer": "…"}`, and only as strict JSON. For
any other form there is no head, and the whole reply is judged by `core.verdicts` as usual: nothing is guessed here.
Each character is looked at once, however the reply is split.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from string import hexdigits

from cascade.core.text.parsing import is_visible

__all__ = ["EnvelopeReader", "Head"]

_SPACE = " \t\n\r"
_BEFORE_NUMBER = ("{", '"confidence"', ":")
_AFTER_NUMBER = (",", '"answer"', ":")
_IN_NUMBER = re.compile(r"[-+.0-9eE]*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_LONGEST_NUMBER = 40  # characters; a float needs no more than 25
_VALUE = frozenset('"{[-0123456789tf')  # what a JSON value other than null begins with

_SPECIAL = re.compile('["\\\\\x00-\x1f\ud800-\udfff]')
_HEX = re.compile(r"[0-9a-fA-F]{4}")
_SHORT = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


@dataclass(frozen=True, slots=True)
class Head:
    """What a reply says before its answer's text: enough to decide.

    `declined`: the answer begins as null. `position`: the characters of the reply up to and including the answer's first
    one (the opening quote, or the n of null), however the reply was split.
    """

    confidence: float
    declined: bool
    position: int


class EnvelopeReader:
    """Reads one reply. Feed it the reply's text in order, in pieces of any size.

    `head`: set once the number has ended and the answer has begun: at the n of null, or at the first character of a text
    that can be seen, since a blank answer is none. `failed`: no head will come. `ended`: the answer's closing quote
    has been read; what follows is ignored. After the head, `bad_unicode` says that the text held an unpaired surrogate,
    which is left out, and `broken` that it was not valid JSON; an escape that JSON does not have is kept as it stands.
    """

    __slots__ = (
        "_added", "_expected", "_number", "_pending", "_position", "_quoted_at", "_rest", "_structured", "bad_unicode",
        "broken", "ended", "failed", "head",
    )  # fmt: skip

    def __init__(self, *, structured: bool = False) -> None:
        """`structured`: the answer is a JSON value under a schema. Its first character is the head; no text is returned."""
        self.head: Head | None = None
        self.failed = self.ended = self.bad_unicode = self.broken = False
        self._structured = structured
        self._expected = [*reversed(_BEFORE_NUMBER)]  # what must come before the next value, the nearest last
        self._number: str | None = None
        self._rest = ""  # text before the answer that may be a part of what is expected
        self._position = 0  # characters before `_rest`, while the answer has not begun
        self._quoted_at = 0  # the position of the answer's opening quote; 0: it has not been read
        self._added: list[str] = []  # text to be returned; before the head, the white space that the answer begins with
        self._pending = ""  # an escape that is not complete yet

    def feed(self, text: str) -> str:
        """The next piece of the reply. Returns the answer's text that it adds, unescaped; "" before the head."""
        if self.failed or self.ended or not text:
            return ""
        if not self._quoted_at:
            if self.head is not None:
                return ""  # declined, or a structured answer
            self._rest += text
            self._read_head()
            if not self._quoted_at:
                return ""
            text, self._rest = self._rest, ""
        self._unescape(text)
        if self.head is None:
            if self.ended:
                self._fail()  # a blank answer is none
            return ""
        added = "".join(self._added)
        self._added.clear()
        return added

    def _fail(self) -> None:
        self.failed, self._rest, self._pending = True, "", ""
        self._added.clear()

    def _set_head(self, position: int, *, declined: bool) -> None:
        assert self._number is not None, "the answer stands behind the number"
        self.head = Head(float(self._number), declined, position)

    def _read_head(self) -> None:
        """Read `_rest` as far as it goes, up to the answer's first character."""
        while not self.failed and self._skip_space():
            if self._expected:
                if not self._read_expected(self._expected[-1]):
                    return
            elif self._number is None:
                if not self._read_number():
                    return
            else:
                self._read_first(self._rest[0])
                return

    def _skip_space(self) -> bool:
        """Whether there is anything but space left to read."""
        bare = self._rest.lstrip(_SPACE)
        self._position += len(self._rest) - len(bare)
        self._rest = bare
        return bool(bare)

    def _read_expected(self, expected: str) -> bool:
        """Whether the expected characters were read; not if they are incomplete yet, or if others stand there."""
        if self._rest.startswith(expected):
            self._expected.pop()
            self._drop(len(expected))
            return True
        if not expected.startswith(self._rest):
            self._fail()
        return False

    def _read_number(self) -> bool:
        """Whether the number was read; not if it may go on, or is no confidence."""
        found = _IN_NUMBER.match(self._rest)
        length = found.end() if found else 0
        if length > _LONGEST_NUMBER:
            self._fail()
            return False
        if length == len(self._rest):
            return False  # it may go on
        number = self._rest[:length]
        if not _NUMBER.fullmatch(number) or not 0 <= float(number) <= 1:
            self._fail()
            return False
        self._number, self._expected = number, [*reversed(_AFTER_NUMBER)]
        self._drop(length)
        return True

    def _read_first(self, first: str) -> None:
        """The answer's first character."""
        if first == "n":
            self._set_head(self._position + 1, declined=True)
        elif self._structured and first in _VALUE:
            self._set_head(self._position + 1, declined=False)
        elif first == '"' and not self._structured:
            self._drop(1)
            self._quoted_at = self._position
        else:
            self._fail()

    def _drop(self, count: int) -> None:
        self._position += count
        self._rest = self._rest[count:]

    def _unescape(self, text: str) -> None:
        """Read a piece of the answer's string, up to its closing quote."""
        if self._pending:
            text, self._pending = self._pending + text, ""
        at = 0
        while not self.failed and (found := _SPECIAL.search(text, at)) is not None:
            start = found.start()
            if start > at:
                self._add(text[at:start])
            special = found[0]
            if special == '"':
                self.ended = True
                return
            if special != "\\":
                self._add_raw(special)
                at = start + 1
                continue
            end = self._read_escape(text, start)
            if end is None:  # incomplete: the next piece completes it
                self._pending = text[start:]
                return
            at = end
        if at < len(text) and not self.failed:
            self._add(text[at:])

    def _add(self, text: str) -> None:
        if self.head is None and is_visible(text):
            self._set_head(self._quoted_at, declined=False)
        self._added.append(text)

    def _add_raw(self, character: str) -> None:
        """A character that JSON forbids here: a control character is kept, an unpaired surrogate is left out."""
        if character < " ":
            self._mark_broken(character)
        else:
            self._mark_bad_unicode()

    def _mark_broken(self, kept: str) -> None:
        if self.head is None:
            self._fail()  # the whole reply is read instead: it may be repaired
        else:
            self.broken = True
            self._added.append(kept)

    def _mark_bad_unicode(self) -> None:
        if self.head is None:
            self._fail()  # the whole reply is read instead: it is malformed
        else:
            self.bad_unicode = True

    def _read_escape(self, text: str, at: int) -> int | None:
        """Read the escape at this place. Returns where it ends; None if more of it must come."""
        if at + 1 >= len(text):
            return None
        kind = text[at + 1]
        if kind in _SHORT:
            self._add(_SHORT[kind])
            return at + 2
        code = _code(text, at) if kind == "u" else None
        if code is None:
            if kind == "u" and _is_begun(text[at + 2 :]):
                return None
            self._mark_broken("\\")
            return at + 1  # what follows the backslash is read as text
        if 0xD800 <= code < 0xDC00:
            return self._read_pair(text, at + 6, code)
        if 0xDC00 <= code < 0xE000:
            self._mark_bad_unicode()
        else:
            self._add(chr(code))
        return at + 6

    def _read_pair(self, text: str, at: int, high: int) -> int | None:
        """Read the second half of a character, whose first half ends at this place."""
        rest = text[at : at + 6]
        low = _code(text, at) if rest.startswith("\\u") else None
        if low is not None and 0xDC00 <= low < 0xE000:
            self._add(chr(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00)))
            return at + 6
        if low is None and ("\\u".startswith(rest) or (rest.startswith("\\u") and _is_begun(rest[2:]))):
            return None
        self._mark_bad_unicode()
        return at


def _code(text: str, at: int) -> int | None:
    r"""The number of the escape \uXXXX at this place; None if it is incomplete or not hexadecimal."""
    found = _HEX.match(text, at + 2)
    return int(found[0], 16) if found else None


def _is_begun(digits: str) -> bool:
    """Whether these may become the four digits of an escape once more of the text has come."""
    return len(digits) < 4 and all(digit in hexdigits for digit in digits)
