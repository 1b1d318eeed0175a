"""Small jobs with checks of their own: `summarize`, `extract`, `rewrite`, `classify`, `translate`, and their twins for asyncio.

Each is one `ask`, which starts on the first rung: the helper's words (`core.prompts.delegation`) are the system prompt, the caller's text
is the user's message. What is over the limit or off the schema failed a check, and climbs by the ordinary rule.

A `Cascade` of one's own is an argument, `driver=`: so each job is one function beside `ask`, and no driver needs a method for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypedDict, TypeVar, Unpack, cast, overload

from cascade.core import delegation as checked
from cascade.core.errors import RequestError
from cascade.core.handoff.artifacts import LONGEST_PHRASE
from cascade.core.prompts import delegation as words
from cascade.core.text.answers import words_of
from cascade.core.text.counting import has_ideographs
from cascade.core.text.parsing import is_visible
from cascade.core.trail import Answer
from cascade.engine.api import PolicyLike, shared_driver
from cascade.engine.arguments import Arguments, AskArguments, AskOptions, lists_options
from cascade.engine.blocking import warn_of_blocking
from cascade.engine.drivers import AsyncCascade, Cascade
from cascade.engine.response_types import ResponseType, response_type, schema_type
from cascade.engine.unsupported import check_keywords
from cascade.policy.checks import CallerCheck

__all__ = [
    "AsyncDelegationOptions",
    "DelegationOptions",
    "aclassify",
    "aextract",
    "arewrite",
    "asummarize",
    "atranslate",
    "classify",
    "extract",
    "rewrite",
    "summarize",
    "translate",
]

_Data = TypeVar("_Data")
_Driver = TypeVar("_Driver", Cascade, AsyncCascade)
_Function = TypeVar("_Function", bound=Callable[..., Any])


class _Options(TypedDict, total=False):
    policy: PolicyLike
    task: str | None
    flags: Sequence[str] | None
    metadata: Mapping[str, str] | None
    max_tokens: int | None
    deadline_s: float | None
    cache: bool | None


class DelegationOptions(_Options, total=False):
    """The keyword arguments of every helper. None: not given.

    `driver`: a `Cascade` of your own, with its client and ledger, in place of a policy. `cascade.ask` documents the others. Without
    `max_tokens` there is generous room for the longest result that passes, or the rung's own where nothing limits it.
    """

    driver: Cascade | None


class AsyncDelegationOptions(_Options, total=False):
    """`DelegationOptions` of the twins for asyncio. `driver`: an `AsyncCascade`."""

    driver: AsyncCascade | None


_LONGEST_LANGUAGE = 60  # characters of a language's name or code
# Room for a result at its limit in the languages that take the most tokens: an answer that is cut off would climb as truncated.
_SPARE_TOKENS = 128
_TOKENS_PER_WORD = 8
_TOKENS_PER_CHARACTER = 2
_MOST_TOKENS = 32_000  # below what any of the models can answer


def _lists(function: _Function) -> _Function:
    return lists_options(function, DelegationOptions)


def _alists(function: _Function) -> _Function:
    return lists_options(function, AsyncDelegationOptions)


@_lists
def summarize(text: str, max_words: int, **options: Unpack[DelegationOptions]) -> Answer[None]:
    """A summary of at most `max_words` words, in the language of the text.

    Words are what white space separates; each Chinese or Japanese character (Han, kana) counts as one word. Thai, Lao, Khmer and
    Burmese put spaces between phrases, so there a phrase counts as one word: use `rewrite` with its `max_chars`.

    Checks: `max_words:N`; `shorter`: fewer characters than the text, or as many if the text is within `max_words` itself.
    Raises RequestError before anything is paid if an argument is invalid, and otherwise what `ask` raises.
    """
    return _blocking("summarize", options, _summary(text, max_words, options))


@_alists
async def asummarize(text: str, max_words: int, **options: Unpack[AsyncDelegationOptions]) -> Answer[None]:
    """`summarize` for asyncio: the same arguments and errors."""
    return await _awaited("summarize", options, _summary(text, max_words, options))


def _summary(text: str, max_words: int, options: _Options) -> Arguments:
    _check_text(text)
    _check_limit("max_words", max_words)
    system = words.summary_words(max_words, by_character=has_ideographs(text))
    checks = checked.of_summary(text, max_words)
    return _arguments("summarize", text, system, options, checks, _TOKENS_PER_WORD * max_words)


@overload
def extract(text: str, schema: type[_Data], **options: Unpack[DelegationOptions]) -> Answer[_Data]: ...
@overload
def extract(text: str, schema: object, **options: Unpack[DelegationOptions]) -> Answer[Any]: ...
@_lists
def extract(text: str, schema: Any, **options: Unpack[DelegationOptions]) -> Answer[Any]:
    """What the text says, in the form of `schema`: the answer's `data` is the value, its text the same as JSON.

    `schema`: a type that pydantic can validate, of which `data` is an instance; or a JSON Schema as a mapping, for which `data` is plain
    JSON (that needs the extra `schema`). A schema that the API cannot enforce is written into the prompt. Either way the value is
    validated here: what does not fit failed the check `response_model`, as in `ask`.
    """
    return _blocking("extract", options, _extraction(text, schema, options))


@overload
async def aextract(text: str, schema: type[_Data], **options: Unpack[AsyncDelegationOptions]) -> Answer[_Data]: ...
@overload
async def aextract(text: str, schema: object, **options: Unpack[AsyncDelegationOptions]) -> Answer[Any]: ...
@_alists
async def aextract(text: str, schema: Any, **options: Unpack[AsyncDelegationOptions]) -> Answer[Any]:
    """`extract` for asyncio: the same arguments and errors."""
    return await _awaited("extract", options, _extraction(text, schema, options))


def _extraction(text: str, schema: Any, options: _Options) -> Arguments:
    _check_text(text)
    form = _form_of(schema)
    return _with_form(_arguments("extract", text, words.extraction_words(), options), form)


@_lists
def rewrite(
    text: str, max_chars: int, keyword: str | None = None, **options: Unpack[DelegationOptions]
) -> Answer[None]:
    """The text in at most `max_chars` characters (Unicode code points), in its own language.

    `keyword`: words that must stand in it, in this order and unbroken. They are found in any case and as whole words: no letter, digit
    or underscore may adjoin them, but those of scripts without spaces (Chinese, Japanese, Thai, Lao, Khmer, Burmese). Line breaks,
    curly quotes, `*` and backticks make no difference; another inflection does.

    Checks: `max_chars:N`; `keyword`.
    """
    return _blocking("rewrite", options, _rewriting(text, max_chars, keyword, options))


@_alists
async def arewrite(
    text: str, max_chars: int, keyword: str | None = None, **options: Unpack[AsyncDelegationOptions]
) -> Answer[None]:
    """`rewrite` for asyncio: the same arguments and errors."""
    return await _awaited("rewrite", options, _rewriting(text, max_chars, keyword, options))


def _rewriting(text: str, max_chars: int, keyword: str | None, options: _Options) -> Arguments:
    _check_text(text)
    _check_limit("max_chars", max_chars)
    if keyword is not None:
        _check_line("keyword", keyword, LONGEST_PHRASE)
        if not words_of(keyword):
            raise RequestError("keyword: it has no letter and no digit (give words, or leave it out)")
        if len(keyword) > max_chars:
            raise RequestError(f"keyword: its {len(keyword)} characters do not fit into max_chars={max_chars}")
    checks = checked.of_rewriting(max_chars, keyword)
    system = words.rewriting_words(max_chars, keyword)
    return _arguments("rewrite", text, system, options, checks, _TOKENS_PER_CHARACTER * max_chars)


@_lists
def classify(text: str, labels: Sequence[str], **options: Unpack[DelegationOptions]) -> Answer[str]:
    """The one of `labels` that fits the text best. The answer's text is exactly that label, and so is its `data`.

    `labels` must differ in more than their case. The API enforces them, and the check `label` holds it: nothing else is ever
    returned. On the trail and in the ledger the answer stands as JSON, as any answer under a schema does.
    """
    arguments, known = _classification(text, labels, options)
    return _labelled(_blocking("classify", options, arguments), known)


@_alists
async def aclassify(text: str, labels: Sequence[str], **options: Unpack[AsyncDelegationOptions]) -> Answer[str]:
    """`classify` for asyncio: the same arguments and errors."""
    arguments, known = _classification(text, labels, options)
    return _labelled(await _awaited("classify", options, arguments), known)


def _classification(text: str, labels: Sequence[str], options: _Options) -> tuple[Arguments, Mapping[str, str]]:
    """The request, and the labels by their folded spelling: the API does not promise to keep the case of an enum."""
    _check_text(text)
    if isinstance(labels, (str, bytes)) or not isinstance(labels, Sequence):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise RequestError("labels: a list of names is needed, e.g. labels=['complaint', 'question']")
    if not labels:
        raise RequestError("labels: there are none (give at least one)")
    known: dict[str, str] = {}
    for label in labels:
        _check_line("labels", label, None)
        if checked.folded(label) in known:
            raise RequestError(f"labels: {label!r} is there twice, if case is ignored (give each once)")
        known[checked.folded(label)] = label
    names = list(known.values())
    room = max(len(name.encode("utf-8", "replace")) for name in names)
    arguments = _arguments("classify", text, words.classification_words(names), options, checked.of_label(names), room)
    schema = {"type": "string", "enum": names}
    return replace(arguments, given=replace(arguments.given, schema=schema)), known


def _labelled(answer: Answer[Any], known: Mapping[str, str]) -> Answer[str]:
    """The answer whose text is the bare label, as its caller spells it. Without text (the policy abstains) it stays as it is."""
    if answer.data is None:
        return answer
    label = known[checked.folded(answer.data)]
    return replace(answer, text=label, data=label)


@_lists
def translate(text: str, to: str, *, source: str | None = None, **options: Unpack[DelegationOptions]) -> Answer[None]:
    """The text in another language. `to` and `source`: a language's name or code, such as "German" or "pt-BR".

    Check, with a `source` that is not `to`: `translated`, prose must not come back as it was. Prose is a text with at
    least four words in lower case, or twelve Han characters or kana, and nothing that looks like code; names, figures and code may
    stay as they are. Without `source` that is not checked: a text may be in the language already, and is then right as it is.
    """
    return _blocking("translate", options, _translation(text, to, source, options))


@_alists
async def atranslate(
    text: str, to: str, *, source: str | None = None, **options: Unpack[AsyncDelegationOptions]
) -> Answer[None]:
    """`translate` for asyncio: the same arguments and errors."""
    return await _awaited("translate", options, _translation(text, to, source, options))


def _translation(text: str, to: str, source: str | None, options: _Options) -> Arguments:
    _check_text(text)
    _check_line("to", to, _LONGEST_LANGUAGE)
    if source is not None:
        _check_line("source", source, _LONGEST_LANGUAGE)
    system, checks = words.translation_words(to, source), checked.of_translation(text, to, source)
    return _arguments("translate", text, system, options, checks, len(text.encode("utf-8", "replace")))


def _arguments(
    helper: str,
    text: str,
    system: str,
    options: _Options,
    checks: Sequence[CallerCheck] = (),
    tokens: int | None = None,
) -> Arguments:
    """The request of a helper. `tokens`: room for the longest result that passes; None: there is no limit to go by."""
    for name in ("system", "checks", "response_model", "prompt"):
        if name in options:
            raise RequestError(f"{name}: {helper}() has its own (use cascade.ask for yours)")
    check_keywords(options, DelegationOptions.__annotations__, helper)
    passed = {name: value for name, value in options.items() if name not in ("policy", "driver")}
    given = cast("AskOptions", {**passed, "system": system, "checks": list(checks)})
    if given.get("max_tokens") is None and tokens is not None:
        given["max_tokens"] = min(_SPARE_TOKENS + tokens, _MOST_TOKENS)
    return AskArguments(text, None, given).read()


def _with_form(arguments: Arguments, form: ResponseType) -> Arguments:
    """The request for an answer of this type."""
    given = replace(arguments.given, schema=form.schema, prompt_schema=form.prompt_schema)
    return replace(arguments, given=given, accept=form.read)


def _form_of(schema: Any) -> ResponseType:
    if isinstance(schema, Mapping):
        return schema_type(cast("Mapping[str, Any]", schema))
    try:
        return response_type(schema)
    except RequestError as error:
        raise RequestError(str(error).replace("response_model", "schema")) from None


def _blocking(helper: str, options: DelegationOptions, arguments: Arguments) -> Answer[Any]:
    warn_of_blocking(helper)
    return _driver(Cascade, helper, options.get("policy"), options.get("driver")).respond(arguments)


async def _awaited(helper: str, options: AsyncDelegationOptions, arguments: Arguments) -> Answer[Any]:
    driver = _driver(AsyncCascade, f"a{helper}", options.get("policy"), options.get("driver"))
    return await driver.respond(arguments)


def _driver(kind: type[_Driver], helper: str, policy: PolicyLike, driver: _Driver | None) -> _Driver:
    if driver is None:
        return shared_driver(kind, policy)
    if policy is not None:
        raise RequestError("policy: a driver has one policy (give policy= or driver=, not both)")
    if not isinstance(driver, kind):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise RequestError(f"driver: {helper}() needs {kind.__name__}, not {type(driver).__name__}")
    return driver


def _check_text(text: object) -> None:
    if not isinstance(text, str):
        raise RequestError(f"text: must be a string, not {type(text).__name__}")
    if not is_visible(text):
        raise RequestError("text: it is empty (give the text itself)")


def _check_limit(name: str, limit: object) -> None:
    if type(limit) is not int:
        raise RequestError(f"{name}: must be a whole number, not {type(limit).__name__}")
    if limit < 1:
        raise RequestError(f"{name}: {limit} leaves no room (give at least 1)")


def _check_line(name: str, value: object, longest: int | None) -> None:
    """A short text without line breaks."""
    if not isinstance(value, str):
        raise RequestError(f"{name}: must be a string, not {type(value).__name__}")
    if not is_visible(value):
        raise RequestError(f"{name}: it is empty")
    if value.splitlines() != [value]:
        raise RequestError(f"{name}: it has a line break (give one line)")
    if longest is not None and len(value) > longest:
        raise RequestError(f"{name}: it has {len(value)} characters (give at most {longest})")
