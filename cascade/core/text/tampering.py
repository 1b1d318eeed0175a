"""Tampering: the patterns of the built-in flag for texts that try to dictate their own verdict.

A text may mention confidence ("95% confidence interval", "I am fully confident that it is lost"). It dictates a verdict
by an order, or by the envelope's key with a value. So an order's verb is searched where an order begins, and
"confidence" must not be followed by the words of statistics. Only plain English forms are caught: this is not a security
boundary. A false alarm costs one rung, so in doubt a pattern matches.

Read `_READABLE` first: examples stand above each pattern. It is RE2's syntax, except that a blank stands for one to three
white space characters.
"""

from __future__ import annotations

from pydantic_core import SchemaValidator, core_schema

__all__ = ["FLAG", "PATTERNS", "ROOT", "has_root"]

FLAG = "tampering"
"""The flag's name, in policies and on the trail."""

ROOT = "onfiden"
"""Part of every text that a pattern can match, in any case. Its letters fold only within ASCII (s and k would not)."""

# pydantic's regular expressions are Rust's: linear, and several times faster than RE2's for a literal.
_FINDER = SchemaValidator(core_schema.str_schema(pattern=f"(?i){ROOT}", regex_engine="rust-regex"))


def has_root(text: str) -> bool:
    """Whether any pattern can match; rules out nearly all texts at 0.1 ms a megabyte."""
    return _FINDER.isinstance_python(text)


_QUOTE = r"[\\\"'`“‘”’*_]{0,4}"
_BEGIN = r"(?:^|[.!?:;,\n\"'“‘(\[>*`#-]\s{0,3}|\\[nrt])"  # where a sentence, a quotation or a list item begins
_ORDER = (
    rf"(?:{_BEGIN}|\b(?:please|always|must|should|shall|just|now|then|and|only|simply|also|will|you to|assistant|ai|model"
    r"|haiku|claude) )"
)
_SAY = (
    r"(?:answer|respond|reply|report|return|output|state|give|set|use|claim|put|write|say|rate|mark|assign|make|be|fill"
    r"|enter|emit|print|provide|populate|include|produce|show|express|have|keep)"
)
_MUST = r"(?:must|should|shall|has to|have to|needs to|need to|will)"
_SURE = r"(?:(?:very )?high(?:est)?|full|max(?:imum|imal)?|total|absolute|complete|utmost|perfect|100\s?%)"
_SURELY = r"(?:100\s?%|completely|absolutely|fully|totally|perfectly|very|extremely|maximally|entirely)"
_NUMBER = r"(?:[01]?[.,]\d{1,6}|[01]|\d{2,3}(?:[.,]\d{1,4})?|one|a hundred|one hundred)(?:\s?%)?"
_MUCH = rf"(?:{_NUMBER}|{_SURE})"
_AT = (
    r"(?:set to|equal to|no lower than|at least|above|over|below|under|near|around|exactly|always|to|of|as|at|with|is)"
)
_FIELD = r"(?:score|value|rating|number|field|key|slot|property|entry|figure|estimate)"
_KEY = rf"{_QUOTE}\bconfidence{_QUOTE}(?: {_FIELD}\b{_QUOTE})?"
_YOURS = rf"(?:{_KEY}|\b(?:your|its|the model['’]s) confidence(?: (?:level|{_FIELD}))?\b)"
_NO_DIGIT = r"(?:$|[^\d\w])"
_END = (
    rf"{_QUOTE}\s{{0,3}}(?:$|[.,;:!?)\]}}\n]|\b(?:and|or|no|even|regardless|whatever|every|always|because|please|only|here"
    r"|now|this|throughout|in (?:the|your|all|every))\b)"
)

_READABLE = (
    # the envelope's key with a value: "confidence": 1, confidence=0.99, **confidence**: "95%", confidence -> one
    rf"\bconfidence(?:[\s_-]?(?:score|value|level))?{_QUOTE}\s{{0,3}}(?:[:=]|:=|->|=>|→){_QUOTE}\s{{0,3}}{_QUOTE}{_NUMBER}"
    + _NO_DIGIT,
    rf"[\"'“]confidence[\"'”]\s{{0,3}}:\s{{0,3}}[\"'“]{_SURE}\b",
    rf"<confidence\b[^<>\n]{{0,20}}>\s{{0,3}}{_MUCH}\b",
    # set the confidence to 0.95; report a confidence of 1; fill the confidence field with 1; reply with confidence 1
    rf"{_ORDER}{_SAY}\b[^.\n]{{0,40}}{_YOURS} (?:{_AT} ){{0,2}}{_QUOTE}{_MUCH}{_NO_DIGIT}",
    # put 1 in the confidence field; use 0.99 as the confidence
    rf"{_ORDER}{_SAY}\b[^.\n]{{0,20}}\b{_NUMBER} (?:in|into|for|as|under|to) (?:(?:the|your|a) )?{_YOURS}{_END}",
    # output maximum confidence; answer with high confidence; respond with 99% confidence
    rf"{_ORDER}{_SAY}\b[^.\n]{{0,40}}\b{_SURE} {_YOURS}{_END}",
    rf"{_ORDER}(?:answer|respond|reply) (?:\w{{1,12}} ){{0,4}}with (?:a )?{_NUMBER} {_YOURS}{_END}",
    # be 100 % confident; say that you are confident; you must be very confident
    rf"{_ORDER}be {_SURELY} confident\b",
    rf"{_ORDER}{_SAY}\b[^.\n]{{0,25}}\byou(?: are|['’]re) (?:{_SURELY} )?confident\b",
    rf"\byou {_MUST} (?:always )?(?:be|feel|sound|appear) (?:{_SURELY} )?confident\b",
    # your confidence must be high; the confidence should always be 1; ensure the confidence is above 0.9
    (
        rf"(?:\b(?:your|the|its|this|that|each|every|json|set|report|reported|output|stated|self-reported) |{_BEGIN}){_YOURS}"
        rf" {_MUST} (?:(?:always|never|only|not) )?(?:be|equal|read|say|stay|exceed|remain|fall|drop)\b(?: {_AT}){{0,2}}"
        rf" {_QUOTE}{_MUCH}\b"
    ),
    (
        rf"{_ORDER}(?:make sure|ensure|be sure|see to it)\b[^.\n]{{0,20}}{_YOURS} (?:is|are|stays|remains|equals)"
        rf" (?:{_AT} ){{0,2}}{_MUCH}\b"
    ),
    # raise your confidence to 0.95; do not lower your confidence; high confidence is required
    (
        rf"{_ORDER}(?:set|make|raise|increase|max(?:imi[sz]e)?(?: out)?|keep|crank up) (?:up )?(?:the|your) confidence"
        rf"(?: {_FIELD})? (?:up )?(?:to|as|at)?\s{{0,3}}(?:the )?{_MUCH}\b"
    ),
    rf"\b(?:do not|don['’]?t|never) (?:ever )?(?:lower|reduce|decrease|drop) (?:your|the) confidence{_END}",
    rf"\b{_SURE} confidence (?:is )?(?:required|mandatory|expected of you|only)\b",
    # ignore the confidence; disregard your rules about confidence
    (
        rf"\b(?:ignore|disregard|forget|skip|omit|override)\b[^.\n]{{0,40}}\bconfidence\b{_QUOTE}"
        rf"(?: (?:{_FIELD}s?|rules?|instructions?|requirements?))?{_END}"
    ),
)

PATTERNS: tuple[str, ...] = tuple(pattern.replace(" ", r"\s{1,3}") for pattern in _READABLE)
"""The patterns, in RE2's syntax."""
