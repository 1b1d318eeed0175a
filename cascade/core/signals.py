"""Signals: which task a request belongs to, from its text, its length and the caller's flags.

Deterministic and linear in the text. Patterns are RE2's, compiled by the injected `Compiler`. All patterns joined into
one are searched first, so a request without any signal is read only once.

`tampering` is a built-in flag (`core.text.tampering`): the text tries to dictate its own verdict. A floor of a task that
tests this flag applies even if the caller names another task.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cascade.core.messages import Request
from cascade.core.policy import OTHER, Policy, When
from cascade.core.text import tampering

__all__ = ["CHARACTERS_PER_TOKEN", "Compiler", "Match", "Matcher", "Signals", "words_pattern"]

Matcher = Callable[[str], bool]
"""Whether the pattern is found anywhere in the text."""
Compiler = Callable[[str], Matcher]
"""Compiles a case-blind RE2 pattern; raises ValueError if it is invalid."""

CHARACTERS_PER_TOKEN = 4
"""Lengths in tokens are estimated as characters / 4."""


@dataclass(frozen=True, slots=True)
class Match:
    """A request's task, its flags, and the floor that tampering raises (an index)."""

    task: str
    flags: frozenset[str]
    floor: int = 0


class Signals:
    """A policy's signals, compiled. Immutable after construction, safe to share between threads."""

    __slots__ = ("_any", "_matchers", "_tampering", "_tampering_floor", "_tasks")

    def __init__(self, policy: Policy, compile_pattern: Compiler) -> None:
        self._tasks = tuple((task.name, task.when) for task in policy.tasks if task.when is not None)
        patterns = dict.fromkeys(pattern for _, when in self._tasks for pattern in _patterns_of(when))
        self._matchers = {pattern: compile_pattern(pattern) for pattern in patterns}
        self._any = _combined(tuple(patterns), compile_pattern)
        self._tampering = compile_pattern(_either(tampering.PATTERNS))
        self._tampering_floor = max(
            (policy.route(name).floor for name, when in self._tasks if _tests_tampering(when)), default=0
        )

    def classify(self, request: Request) -> Match:
        """The request's task: the caller's, else the first one whose `when` holds, else `other`."""
        text = request.user_text()
        tampers = tampering.has_root(text) and self._tampering(text)
        flags = request.flags | {tampering.FLAG} if tampers else request.flags
        floor = self._tampering_floor if tampering.FLAG in flags else 0
        if request.task is not None:
            return Match(request.task, flags, floor)
        tests = _Tests(request, text, self._matchers, self._any)
        for name, when in self._tasks:
            if tests.holds(when, flags):
                return Match(name, flags, floor)
        return Match(OTHER, flags, floor)


class _Tests:
    """Tests on one request. Each pattern is searched at most once, and none if the combined pattern is not found."""

    __slots__ = ("_any", "_combined", "_matchers", "_request", "_results", "_text")

    def __init__(self, request: Request, text: str, matchers: dict[str, Matcher], combined: Matcher | None) -> None:
        self._request, self._text, self._matchers, self._combined = request, text, matchers, combined
        self._any: bool | None = None
        self._results: dict[str, bool] = {}

    def found(self, pattern: str) -> bool:
        """Whether the pattern is in the text."""
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
        return self._request.turn_characters() // CHARACTERS_PER_TOKEN


def _tests_tampering(when: When) -> bool:
    """Whether the test asks for the tampering flag, in `not` aside."""
    return when.flag == tampering.FLAG or any(map(_tests_tampering, (*(when.any or ()), *(when.all or ()))))


def words_pattern(words: tuple[str, ...]) -> str:
    """A pattern that finds any of the words or phrases, as whole words. RE2's word boundary knows only ASCII."""
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
    except ValueError:  # too large together, or two groups of one name: each is searched by itself
        return None
