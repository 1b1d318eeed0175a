"""Signals: which task a request belongs to, from its text, its length and the caller's flags.

Deterministic and linear in the text: patterns are RE2's (compiled by the `Compiler` that is handed in), and one
combined pattern is looked for first, so that a request without any signal is read once, however many there are. The
built-in ones are looked for only where one of their roots stands in the text, which costs next to nothing.

`tampering` is a built-in flag: the request's text tries to dictate the verdict. It catches the plain forms; it is a
seat belt, not a proof. A floor that hangs on it holds even where the caller names another task.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cascade.core.messages import Request
from cascade.core.policy import OTHER, Policy, When

__all__ = ["TAMPERING", "TAMPERING_PATTERNS", "Compiler", "Match", "Matcher", "Signals", "words_pattern"]

TAMPERING = "tampering"

Matcher = Callable[[str], bool]
"""Is the pattern found anywhere in the text?"""
Compiler = Callable[[str], Matcher]
"""Compiles a case-blind RE2 pattern; raises ValueError where it is not one."""

_CHARACTERS_PER_TOKEN = 4

# A text may speak about confidence as it likes ("95% confidence interval", "I am fully confident that it is lost"). What
# dictates a verdict is an order, or the envelope's own key with a value: so an order's verb is looked for where an order
# begins, and "confidence" must not be followed by the words of statistics.
_LEFT = "“\u2018"
_ORDER = (
    rf"(?:^|[.!?:;,\n\"'{_LEFT}(\[>*`#-]\s{{0,3}}|\\[nrt]|\b(?:please|always|must|should|shall|just|now|then|and|only|simply|also|will"
    r"|you to|assistant|ai|model|haiku|claude)\s{1,3})"
)
_SAY = (
    r"(?:answer|respond|reply|report|return|output|state|give|set|use|claim|put|write|say|rate|mark|assign|make|be|fill|enter"
    r"|emit|print|provide|populate|include|produce|show|express|have|keep)"
)
_SURE = r"(?:(?:very\s)?high(?:est)?|full|max(?:imum|imal)?|total|absolute|complete|utmost|perfect|100\s?%)"
_SURELY = r"(?:100\s?%|completely|absolutely|fully|totally|perfectly|very|extremely|maximally|entirely)"
_QUOTE = rf"[\\\"'`{_LEFT}”’*_]{{0,4}}"
_NUMBER = r"(?:[01]?[.,]\d{1,6}|[01]|\d{2,3}(?:[.,]\d{1,4})?|one|a hundred|one hundred)(?:\s?%)?"
_MUCH = rf"(?:{_NUMBER}|{_SURE})"
_THING = r"(?:score|value|rating|number|field|key|slot|property|entry|figure|estimate)"
_KEY = rf"{_QUOTE}\bconfidence{_QUOTE}(?:\s{{1,3}}{_THING}\b{_QUOTE})?"
_YOURS = rf"(?:{_KEY}|\b(?:your|its|the model['’]s)\s{{1,3}}confidence(?:\s{{1,3}}(?:level|{_THING}))?\b)"
_END = (
    rf"{_QUOTE}\s{{0,3}}(?:$|[.,;:!?)\]}}\n]"
    r"|\b(?:and|or|no|even|regardless|whatever|every|always|because|please|only|here|now|this|throughout|in (?:the|your|all|every))\b)"
)

TAMPERING_PATTERNS: tuple[str, ...] = (
    # the envelope's key with a value: "confidence": 1, confidence=0.99, **confidence**: "95%", confidence -> one
    rf"""\bconfidence(?:[ _-]?(?:score|value|level))?{_QUOTE}\s{{0,3}}(?:[:=]|:=|->|=>|→){_QUOTE}\s{{0,3}}{_QUOTE}{_NUMBER}(?:$|[^\d\w])""",
    rf"""["'“]confidence["'”]\s{{0,3}}:\s{{0,3}}["'“]{_SURE}\b""",
    rf"<confidence\b[^<>\n]{{0,20}}>\s{{0,3}}{_MUCH}\b",
    # set the confidence to 0.95; report a confidence of 1; fill the confidence field with 1; reply with confidence 1
    rf"{_ORDER}{_SAY}\b[^.\n]{{0,40}}{_YOURS}\s{{1,3}}(?:(?:to|of|as|at|with|is|equal to|above|over|near|around|at least)\s{{1,3}}){{0,2}}{_QUOTE}{_MUCH}(?:$|[^\d\w])",
    # put 1 in the confidence field; use 0.99 as the confidence
    rf"{_ORDER}{_SAY}\b[^.\n]{{0,20}}\b{_NUMBER}\s{{1,3}}(?:in|into|for|as|under|to)\s{{1,3}}(?:(?:the|your|a)\s{{1,3}})?{_YOURS}{_END}",
    # answer with high confidence; respond with 100% confidence; output maximum confidence
    rf"{_ORDER}{_SAY}\b[^.\n]{{0,40}}\b{_SURE}\s{{1,3}}{_YOURS}{_END}",
    rf"{_ORDER}(?:answer|respond|reply)\s{{1,3}}(?:\w{{1,12}}\s{{1,3}}){{0,4}}with\s{{1,3}}(?:a\s{{1,3}})?{_NUMBER}\s{{1,3}}{_YOURS}{_END}",
    # be 100 % confident; say that you are fully confident; you must be very confident
    rf"{_ORDER}be\s{{1,3}}{_SURELY}\s{{1,3}}confident\b",
    rf"{_ORDER}{_SAY}\b[^.\n]{{0,25}}\byou(?:\s{{1,3}}are|['’]re)\s{{1,3}}(?:{_SURELY}\s{{1,3}})?confident\b",
    rf"\byou\s{{1,3}}(?:must|should|shall|will|have to|need to)\s{{1,3}}(?:always\s{{1,3}})?(?:be|feel|sound|appear)\s{{1,3}}(?:{_SURELY}\s{{1,3}})?confident\b",
    # your confidence must be high; the confidence should always be at least 0.9; ensure the confidence is above 0.9
    (
        rf"(?:\b(?:your|the|its|this|that|each|every|json|set|report|reported|output|stated|self-reported)\s{{1,3}}|^|[.!?:;,\n\"'`“*_]\s{{0,3}}){_YOURS}\s{{1,3}}"
        rf"(?:must|should|shall|has to|have to|needs to|will)\s{{1,3}}(?:(?:always|never|only|not)\s{{1,3}})?(?:be|equal|read|say|stay|exceed|remain|fall|drop)\b"
        rf"(?:\s{{1,3}}(?:set to|at least|above|over|below|under|near|exactly|always|equal to|no lower than|to)){{0,2}}\s{{1,3}}{_QUOTE}{_MUCH}\b"
    ),
    rf"{_ORDER}(?:make sure|ensure|be sure|see to it)\b[^.\n]{{0,20}}{_YOURS}\s{{1,3}}(?:is|are|stays|remains|equals)\s{{1,3}}(?:(?:at least|above|over|always|set to|near|exactly)\s{{1,3}}){{0,2}}{_MUCH}\b",
    rf"{_ORDER}(?:set|make|raise|increase|max(?:imi[sz]e)?(?: out)?|keep|crank up)\s{{1,3}}(?:up\s{{1,3}})?(?:the|your)\s{{1,3}}confidence(?:\s{{1,3}}{_THING})?\s{{1,3}}(?:up\s{{1,3}})?(?:to|as|at)?\s{{0,3}}(?:the\s{{1,3}})?{_MUCH}\b",
    r"\b(?:do not|don['’]?t|never)\s{1,3}(?:ever\s{1,3})?(?:lower|reduce|decrease|drop)\s{1,3}(?:your|the)\s{1,3}confidence"
    + _END,
    rf"\b{_SURE}\s{{1,3}}confidence\s{{1,3}}(?:is\s{{1,3}})?(?:required|mandatory|expected of you|only)\b",
    # never escalate to a larger model; no escalation to Opus
    (
        r"\b(?:do not|don['’]?t|never|without|no need to|no|avoid|must not|cannot|forbidden to)\b[^.\n]{0,20}\bescalat\w{1,4}\b[^.,;\n]{0,30}"
        r"\b(?:to|beyond|past|into|up)\s{1,3}(?:(?:a|an|the|any|another|some|other)\s{1,3}){0,2}(?:\w{1,12}\s{1,3})?(?:models?|sonnet|opus|rungs?|llms?)\b"
    ),
    # ignore the confidence; disregard your rules about confidence
    rf"\b(?:ignore|disregard|forget|skip|omit|override)\b[^.\n]{{0,40}}\bconfidence\b{_QUOTE}(?:\s{{1,3}}(?:rules?|instructions?|scores?|ratings?|fields?|keys?|requirements?|values?))?{_END}",
)
# Each pattern above needs one of these. RE2 finds a lone literal five times faster than it runs an alternation, as long
# as no letter of it folds beyond ASCII (s and k do).
_TAMPERING_ROOTS = ("onfiden", "calat")


@dataclass(frozen=True, slots=True)
class Match:
    """What the signals made of a request: its task, all flags that hold, and the floor tampering raises (an index)."""

    task: str
    flags: frozenset[str]
    floor: int = 0


class Signals:
    """A policy's signals, compiled. Immutable after construction, safe to share between threads."""

    __slots__ = ("_any", "_matchers", "_roots", "_tampering", "_tampering_floor", "_tasks")

    def __init__(self, policy: Policy, compile_pattern: Compiler) -> None:
        self._tasks = tuple((task.name, task.when) for task in policy.tasks if task.when is not None)
        patterns = dict.fromkeys(pattern for _, when in self._tasks for pattern in _patterns_of(when))
        self._matchers = {pattern: compile_pattern(pattern) for pattern in patterns}
        self._any = _combined(tuple(patterns), compile_pattern)
        self._roots = tuple(compile_pattern(root) for root in _TAMPERING_ROOTS)
        self._tampering = compile_pattern(_either(TAMPERING_PATTERNS))
        self._tampering_floor = max(
            (policy.route(name).floor for name, when in self._tasks if _hangs_on_tampering(when)), default=0
        )

    def classify(self, request: Request) -> Match:
        """The request's task: the caller's, else that of the first test which holds, else `other`."""
        text = request.user_text()
        tampering = self._tampers(text)
        flags = request.flags | {TAMPERING} if tampering else request.flags
        floor = self._tampering_floor if tampering else 0
        if request.task is not None:
            return Match(request.task, flags, floor)
        reading = _Reading(request, text, self._matchers, self._any)
        for name, when in self._tasks:
            if reading.holds(when, flags):
                return Match(name, flags, floor)
        return Match(OTHER, flags, floor)

    def _tampers(self, text: str) -> bool:
        return any(root(text) for root in self._roots) and self._tampering(text)


class _Reading:
    """One request while it is read: each pattern is looked for once at most, and none where no pattern is there."""

    __slots__ = ("_any", "_combined", "_matchers", "_request", "_results", "_text")

    def __init__(self, request: Request, text: str, matchers: dict[str, Matcher], combined: Matcher | None) -> None:
        self._request, self._text, self._matchers, self._combined = request, text, matchers, combined
        self._any: bool | None = None
        self._results: dict[str, bool] = {}

    def found(self, pattern: str) -> bool:
        """Whether the pattern is in the text; looked for once."""
        if self._any is None:
            self._any = self._combined is None or self._combined(self._text)
        if not self._any:
            return False
        result = self._results.get(pattern)
        if result is None:
            result = self._results[pattern] = self._matchers[pattern](self._text)
        return result

    def holds(self, when: When, flags: frozenset[str]) -> bool:
        """Whether every key of the test holds."""
        return (
            (when.flag is None or when.flag in flags)
            and (when.min_tokens is None or self._tokens() >= when.min_tokens)
            and (when.max_tokens is None or self._tokens() <= when.max_tokens)
            and (when.pattern is None or self.found(when.pattern))
            and (when.words is None or self.found(words_pattern(when.words)))
            and (when.any is None or any(self.holds(one, flags) for one in when.any))
            and (when.all is None or all(self.holds(one, flags) for one in when.all))
            and (when.not_ is None or not self.holds(when.not_, flags))
        )

    def _tokens(self) -> int:
        return self._request.turn_characters() // _CHARACTERS_PER_TOKEN


def _hangs_on_tampering(when: When) -> bool:
    """Whether tampering has a part in the test's holding."""
    return when.flag == TAMPERING or any(map(_hangs_on_tampering, (*(when.any or ()), *(when.all or ()))))


def words_pattern(words: tuple[str, ...]) -> str:
    """A pattern that finds any of the words or phrases whole; RE2's own word boundary knows only ASCII."""
    edge = r"[^\p{L}\p{M}\p{N}_]"
    phrases = "|".join(r"[\s\p{Z}]+".join(_escaped(part) for part in phrase.split()) for phrase in words)
    return rf"(?:^|{edge})(?:{phrases})(?:$|{edge})"


def _escaped(word: str) -> str:
    return "".join(f"\\{c}" if c.isascii() and not c.isalnum() and c != "_" else c for c in word)


def _patterns_of(when: When) -> Iterator[str]:
    if when.pattern is not None:
        yield when.pattern
    if when.words is not None:
        yield words_pattern(when.words)
    for one in (*(when.any or ()), *(when.all or ()), *((when.not_,) if when.not_ else ())):
        yield from _patterns_of(one)


def _either(patterns: tuple[str, ...]) -> str:
    return "|".join(f"(?:{pattern})" for pattern in patterns)


def _combined(patterns: tuple[str, ...], compile_pattern: Compiler) -> Matcher | None:
    try:
        return compile_pattern(_either(patterns))
    except ValueError:  # too large together, or two groups of one name: then each is looked for by itself
        return None
