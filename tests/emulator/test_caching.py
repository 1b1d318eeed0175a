from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import anthropic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.core.messages import Usage
from cascade.emulator import Emulator
from cascade.emulator.api import read_request
from cascade.emulator.caching import PromptCache, prompt_tokens
from cascade.emulator.requests import ApiError

from .conftest import CORPUS, HAIKU, SONNET, asking

_MARK: dict[str, Any] = {"type": "ephemeral"}
_HOUR: dict[str, Any] = {"type": "ephemeral", "ttl": "1h"}


class Clock:
    """A clock that only a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


def text(tokens: int, letter: str = "x", mark: dict[str, Any] | None = None) -> dict[str, Any]:
    """A text block of so many tokens, marked or not."""
    return {"type": "text", "text": letter * (4 * tokens), **({"cache_control": mark} if mark else {})}


def turns(*contents: Any) -> list[dict[str, Any]]:
    """User and assistant in turn."""
    return [{"role": "assistant" if at % 2 else "user", "content": content} for at, content in enumerate(contents)]


@pytest.fixture
def clock() -> Clock:
    """The clock of the caches."""
    return Clock()


@pytest.fixture
def bill(clock: Clock) -> Callable[..., tuple[int, int, int, int]]:
    """Ask one cache: the tokens that are read, written for 5 minutes, for 1 hour, and neither."""
    cache = PromptCache(clock)

    def ask(messages: list[dict[str, Any]], model: str = HAIKU, **more: Any) -> tuple[int, int, int, int]:
        body = {"model": model, "messages": messages, **more}
        usage = cache.bill(model, body, Usage(prompt_tokens(body), 5))
        assert usage.prompt_tokens == prompt_tokens(body)
        return usage.cache_read, usage.cache_write_5m, usage.cache_write_1h, usage.input_tokens

    return ask


Bill = Callable[..., tuple[int, int, int, int]]


def test_a_prefix_is_written_once_and_read_afterwards(bill: Bill) -> None:
    """What follows the mark is neither; another model has a cache of its own."""
    for model in (HAIKU, SONNET):
        assert bill(turns([text(600, mark=_MARK), text(10)]), model) == (0, 600, 0, 10)
        assert bill(turns([text(600, mark=_MARK), text(20, "y")]), model) == (600, 0, 0, 20)


@pytest.mark.parametrize(
    ("model", "minimum"),
    [
        (HAIKU, 512),
        (SONNET, 512),
        ("claude-opus-5-5", 512),
        ("claude-haiku-4-5", 4096),
        ("claude-sonnet-4-6", 1024),
        ("claude-opus-4-7", 2048),
        ("unknown", 1024),
    ],
)
def test_below_the_models_minimum_nothing_is_cached(bill: Bill, model: str, minimum: int) -> None:
    """Silently, as in the API; at the minimum it is."""
    assert bill(turns([text(minimum - 1, mark=_MARK)]), model) == (0, 0, 0, minimum - 1)
    assert bill(turns([text(minimum, mark=_MARK)]), model) == (0, minimum, 0, 0)


@pytest.mark.parametrize(
    ("mark", "lives_s", "written"), [(_MARK, 300, (0, 600, 0, 0)), (_HOUR, 3600, (0, 0, 600, 0))], ids=["5m", "1h"]
)
def test_a_cached_prefix_lives_as_long_as_it_is_used(
    bill: Bill, clock: Clock, mark: dict[str, Any], lives_s: int, written: tuple[int, ...]
) -> None:
    """Five minutes from the last use, or an hour if that was asked for."""
    messages = turns([text(600, mark=mark)])
    assert bill(messages) == written
    for _ in range(3):
        clock.now += lives_s - 1
        assert bill(messages) == (600, 0, 0, 0)
    clock.now += lives_s
    assert bill(messages) == written


def test_a_moving_mark_reads_what_the_turn_before_wrote(bill: Bill) -> None:
    """An agent marks only its last block: each turn reads the conversation up to the last one, and writes the new part."""
    contents: list[Any] = [[text(600, mark=_MARK)]]
    assert bill(turns(*contents)) == (0, 600, 0, 0)
    for turn in range(5):
        contents[-1] = [text(600 if turn == 0 else 50)]
        contents += [[text(30)], [text(50, mark=_MARK)]]
        assert bill(turns(*contents)) == (600 + 80 * turn, 80, 0, 0)


def test_a_mark_finds_no_prefix_more_than_twenty_blocks_before_it(bill: Bill) -> None:
    """Twenty blocks, the marked one counted: beyond, the whole prompt is written again."""
    bill(turns([text(600, mark=_MARK)]))
    assert bill(turns([text(600), *[text(1)] * 18, text(1, mark=_MARK)])) == (600, 19, 0, 0)
    bill(turns([text(600, "z", mark=_MARK)]))
    assert bill(turns([text(600, "z"), *[text(1)] * 19, text(1, mark=_MARK)])) == (0, 620, 0, 0)


def test_hours_are_written_up_to_the_last_mark_of_an_hour(bill: Bill) -> None:
    """The split that the API bills: read, then one hour, then five minutes, then the rest."""
    system = [text(600, "s", mark=_HOUR)]
    assert bill(turns([text(100, mark=_MARK), text(7)]), system=system) == (0, 100, 600, 7)
    assert bill(turns([text(100, "o", mark=_MARK), text(7)]), system=system) == (600, 100, 0, 7)


def test_the_mark_of_the_whole_request_stands_at_its_last_block(bill: Bill) -> None:
    """`cache_control` at the top, with content as a string or as blocks: these are the same prompt."""
    assert bill(turns("x" * 2400), cache_control=_MARK) == (0, 600, 0, 0)
    assert bill(turns([text(600)], [text(5)], "y" * 40), cache_control=_MARK) == (600, 15, 0, 0)


_TOOL = {"name": "look", "description": "d" * 2400, "input_schema": {"type": "object"}}
_FORM = {"format": {"type": "json_schema", "schema": {"type": "object", "additionalProperties": False}}}


@pytest.mark.parametrize(
    ("change", "keeps"),
    [
        ({}, "everything"),
        ({"thinking": {"type": "disabled"}}, "system"),
        ({"tool_choice": {"type": "none"}}, "system"),
        ({"output_config": _FORM}, "tools"),
        ({"system": [text(600, "t", mark=_MARK)]}, "tools"),
        ({"tools": [{**_TOOL, "description": "e" * 2400, "cache_control": _MARK}]}, "nothing"),
    ],
    ids=["none", "thinking", "tool_choice", "format", "system", "tools"],
)
def test_a_change_leaves_cached_what_stands_before_it(bill: Bill, change: dict[str, Any], keeps: str) -> None:
    """Tools come first, then the system prompt, then the messages."""
    parts: dict[str, Any] = {
        "tools": [{**_TOOL, "cache_control": _MARK}],
        "system": [text(600, "s", mark=_MARK)],
        "thinking": {"type": "adaptive"},
    }
    tools = prompt_tokens({"messages": [], "tools": parts["tools"]})
    messages = turns([text(600, mark=_MARK)])
    assert bill(messages, **parts)[0] == 0
    read = bill(messages, **{**parts, **change})[0]
    assert read == {"nothing": 0, "tools": tools, "system": tools + 600, "everything": tools + 1200}[keeps]


def test_what_a_tool_was_called_with_is_a_part_of_the_prefix(bill: Bill) -> None:
    """Another input, or another result, is another conversation; a mark inside of a result counts as one on it."""

    def loop(city: str, found: str) -> list[dict[str, Any]]:
        call = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"city": city}}
        result = {
            "type": "tool_result",
            "tool_use_id": "toolu_1",
            "content": [{**text(10, found), "cache_control": _MARK}],
        }
        return turns([text(600)], [call], [result])

    read, written, _, rest = bill(loop("Bern", "a"))
    assert (read, rest) == (0, 0)
    assert written > 610
    assert bill(loop("Bern", "a")) == (written, 0, 0, 0)
    assert bill(loop("Biel", "a"))[0] == bill(loop("Bern", "b"))[0] == 0


_THOUGHT = {"type": "thinking", "thinking": "hm", "signature": "s"}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"messages": turns([text(1, mark=_MARK), text(1, mark=_HOUR)])},
            "messages.0.content.1.cache_control.ttl: a ttl='1h' cache_control block must not come after a ttl='5m'",
        ),
        (
            {"tools": [{**_TOOL, "cache_control": _MARK}], "system": [text(1, mark=_HOUR)]},
            "system.0.cache_control.ttl: a",
        ),
        ({"messages": turns([text(1, mark=_MARK)]), "cache_control": _HOUR}, "cache_control.ttl: a ttl='1h'"),
        ({"cache_control": {"type": "ephemeral", "ttl": "2h"}}, "cache_control.ephemeral.ttl: Input should be '5m' or"),
        ({"cache_control": {"type": "lasting"}}, "cache_control: Input tag 'lasting'"),
        (
            {"messages": turns("a", [{**_THOUGHT, "cache_control": _MARK}, text(1)], "b")},
            "messages.1.content.0.thinking.cache_control: Extra inputs are not permitted",
        ),
        (
            {"tools": [{**_TOOL, "defer_loading": True, "cache_control": _MARK}]},
            "tools.0.cache_control: a tool with defer_loading=true cannot use cache_control",
        ),
        (
            {"system": [{"type": "text", "text": "s", "cache_control": 1}]},
            "system.0.cache_control: Input should be an object",
        ),
    ],
    ids=["order", "order of parts", "order at the top", "ttl", "type", "thinking", "deferred tool", "shape"],
)
def test_marks_that_the_api_refuses_are_refused(changes: dict[str, Any], told: str) -> None:
    """Whether prompts are cached or not; an hour before five minutes is taken."""
    with pytest.raises(ApiError) as caught:
        read_request({**asking(), **changes}, beta=False)
    assert caught.value.message.startswith(told)
    read_request({**asking(), "messages": turns([text(1, mark=_HOUR), text(1, mark=_MARK)])}, beta=False)


@given(
    blocks=st.lists(st.tuples(st.integers(1, 900), st.sampled_from([None, _MARK, _HOUR])), min_size=1, max_size=6),
    again=st.lists(st.integers(0, 5), max_size=8),
)
def test_every_token_is_billed_once(blocks: list[tuple[int, dict[str, Any] | None]], again: list[int]) -> None:
    """Whatever is marked: read, written and the rest add up to the prompt, and none is negative."""
    cache = PromptCache(lambda: 0.0)
    for end in [*again, len(blocks)]:
        chosen = blocks[: end + 1]
        made = [text(tokens, mark=mark) for tokens, mark in chosen]
        body = {"model": HAIKU, "messages": turns(made)}
        usage = cache.bill(HAIKU, body, Usage(prompt_tokens(body), 1))
        parts = (usage.cache_read, usage.cache_write_5m, usage.cache_write_1h, usage.input_tokens)
        assert min(parts) >= 0
        assert sum(parts) == prompt_tokens(body)
        if chosen[-1][1] and prompt_tokens(body) >= 512:
            assert cache.bill(HAIKU, body, Usage(prompt_tokens(body), 1)).cache_read == prompt_tokens(body)


@pytest.fixture
def start() -> Iterator[Callable[..., tuple[Emulator, anthropic.Anthropic]]]:
    """Start an emulator over the small corpus, and a client of it."""
    with ExitStack() as stack:

        def begin(**options: Any) -> tuple[Emulator, anthropic.Anthropic]:
            emulator = stack.enter_context(Emulator(CORPUS, **options))
            client = anthropic.Anthropic(base_url=emulator.base_url, api_key="t", max_retries=0)
            return emulator, stack.enter_context(client)

        yield begin


def test_the_sdk_reads_what_was_cached_and_so_does_the_bill(
    start: Callable[..., tuple[Emulator, anthropic.Anthropic]],
) -> None:
    """JSON and stream tell the same; the bill adds them up."""
    script: Any = lambda _body, _headers: [{"type": "text", "text": "fine"}]  # noqa: E731
    emulator, client = start(script=script, caching=True)
    messages: Any = turns([text(600, mark=_HOUR), text(5)])
    first = client.messages.create(model=HAIKU, max_tokens=50, messages=messages).usage
    with client.messages.stream(model=HAIKU, max_tokens=50, messages=messages) as stream:
        second = stream.get_final_message().usage
    assert Usage.from_api(first.to_dict()) == Usage(5, 1, cache_write_1h=600)
    assert Usage.from_api(second.to_dict()) == Usage(5, 1, cache_read=600)
    assert first.cache_creation_input_tokens == 600
    assert emulator.billed.usage == Usage(10, 2, cache_write_1h=600, cache_read=600)


def test_what_was_recorded_of_a_cache_is_told_as_it_was_recorded(
    start: Callable[..., tuple[Emulator, anthropic.Anthropic]],
) -> None:
    """With caching too; and without it, marks change nothing."""
    told = []
    for caching in (True, False):
        _, client = start(caching=caching)
        told.append(Usage.from_api(client.messages.create(**asking("cached"), cache_control=_MARK).usage.to_dict()))  # type: ignore[arg-type]
    assert told[0] == told[1]
    assert told[0].cache_read == 500
