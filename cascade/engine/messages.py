"""`Cascade.messages`: the SDK's `client.messages`, whose every call climbs. Parameters and results are the SDK's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, overload

from cascade.core.errors import RequestError
from cascade.core.parameters import CannotClimb, check_top, read_parameters, split_keywords
from cascade.core.policy import Policy, Rung
from cascade.core.shapes import object_at, shown
from cascade.core.trail import Answer
from cascade.engine.arguments import Arguments
from cascade.providers import AsyncProviders, Providers

if TYPE_CHECKING:
    from cascade.claude.messages import (
        AsyncEvents,
        AsyncMessageStreamManager,
        AsyncStream,
        Events,
        Message,
        MessageStreamManager,
        ParsedMessage,
        Stream,
        TokensCount,
    )

__all__ = ["VIRTUAL", "AsyncMessages", "Messages", "message_arguments"]

VIRTUAL = "claude-cascade-"
"""The model's name of a policy begins so; the policy's name follows."""

_Format = TypeVar("_Format")
_RAW = "x-stainless-raw-response"  # by this header the SDK's wrappers ask for a raw response
_RESPONSES = "a climb is several HTTP responses: `cascade` on the message has the usage and the request id of each"
_UNAVAILABLE = {
    "with_raw_response": f"with_raw_response: not available on messages that climb ({_RESPONSES})",
    "with_streaming_response": f"with_streaming_response: not available on messages that climb ({_RESPONSES})",
    "batches": "batches: not available on messages that climb, since each of a batch is for one model (use the SDK's own client)",
}


class Driver(Protocol):
    """What a Cascade offers its messages."""

    policy: Policy

    def respond(self, arguments: Arguments) -> Answer: ...
    def events(self, arguments: Arguments) -> Events: ...


class AsyncDriver(Protocol):
    """What an AsyncCascade offers its messages."""

    policy: Policy

    async def respond(self, arguments: Arguments) -> Answer: ...
    def events(self, arguments: Arguments) -> AsyncEvents: ...


def message_arguments(
    body: Mapping[str, Any],
    policy: Policy,
    *,
    headers: Mapping[str, str] | None = None,
    deadline_s: float | None = None,
    streamed: bool = False,
) -> Arguments:
    """The request that a body of the Messages API makes, with the headers that go with every call (lower-case names).

    What cannot climb goes to the baseline if the policy says `bypass: baseline`, and the answer's notes say why. Raises
    RequestError otherwise, for what is invalid, and for a model's name that is another policy's.
    """
    _check_model(body.get("model"), policy)
    notes: tuple[str, ...] = ()
    try:
        request = read_parameters(body, headers)
        check_top(request, policy.ladder[policy.top].model)
    except CannotClimb as problem:
        if policy.bypass is None:
            raise
        request, notes = problem.request, (f"sent to the baseline unchanged: {problem}",)
    session = (headers or {}).get("x-cascade-session", "")
    cache = _read_cache((headers or {}).get("x-cascade-cache"))
    return Arguments(request, deadline_s, session=session, streamed=streamed, notes=notes, cache=cache)


def _read_cache(value: str | None) -> bool | None:
    """Whether the caller asks for the response cache, or for none: `x-cascade-cache`."""
    if value is None:
        return None
    if value not in ("on", "off"):
        raise RequestError(f"x-cascade-cache: must be on or off, not {shown(value)}")
    return value == "on"


def _check_model(model: object, policy: Policy) -> None:
    """Any other name than a policy's is the model that the caller would have used without the ladder."""
    if not isinstance(model, str) or not model:
        raise RequestError(f"model: must be a name, such as {VIRTUAL}{policy.name}, not {shown(model)}")
    if model.startswith(VIRTUAL) and model != f"{VIRTUAL}{policy.name}":
        raise RequestError(f"model: {shown(model)} is another policy; this one is {VIRTUAL}{policy.name}")


def _arguments(keywords: dict[str, Any], policy: Policy, *, streamed: bool) -> Arguments:
    """The arguments of a call with these keywords of the SDK."""
    from cascade.claude.messages import seconds_of  # noqa: PLC0415 - it imports the SDK

    deadline_s = seconds_of(keywords.pop("timeout", None))
    body, headers = split_keywords(keywords)
    if _RAW in headers:
        raise RequestError(_UNAVAILABLE["with_raw_response"])
    return message_arguments(body, policy, headers=headers, deadline_s=deadline_s, streamed=streamed)


def _given(keywords: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """The keywords that were given, as plain values, and whether a stream is wanted."""
    from cascade.claude.messages import given  # noqa: PLC0415 - it imports the SDK

    known = given(keywords)
    stream = known.pop("stream", False)
    if not isinstance(stream, bool):
        raise RequestError(f"stream: must be true or false, not {shown(stream)}")
    return known, stream


def _formatted(keywords: Mapping[str, Any]) -> tuple[dict[str, Any], Any]:
    """The keywords with the schema of `output_format` in their `output_config`; and the type, or what says that there is none."""
    from cascade.claude.messages import NOT_GIVEN, format_of  # noqa: PLC0415 - it imports the SDK

    known, _ = _given(keywords)
    output_format = known.pop("output_format", None)
    if output_format is None:
        return known, NOT_GIVEN
    config = object_at("output_config", known.get("output_config", {}))
    return {**known, "output_config": {**config, "format": format_of(output_format)}}, output_format


def _counted(keywords: Mapping[str, Any], policy: Policy) -> tuple[dict[str, Any], Rung]:
    """The keywords of `count_tokens` for the first rung, and that rung."""
    known, _ = _given(keywords)
    _check_model(known.get("model"), policy)
    first = policy.ladder[0]
    return {**known, "model": first.model}, first


class _Resource:
    if not TYPE_CHECKING:  # hidden from type checkers, which would accept any attribute

        def __getattr__(self, name: str) -> Any:
            problem = f"{type(self).__name__} has no {name!r}; it has create, stream, parse and count_tokens"
            raise AttributeError(_UNAVAILABLE.get(name, problem), name=name)


class Messages(_Resource):
    """`client.messages` of the SDK, climbing. `model` is the policy's (`claude-cascade-NAME`), or what you would have used.

    A parameter is never dropped: one that the ladder cannot honour raises RequestError with its name, or sends the request
    to the baseline where the policy says `bypass: baseline`. Errors are those of `ask`. `timeout`, in seconds, is for the
    whole climb; None or left out: the policy's `deadline_s`.
    `extra_headers={"x-cascade-cache": "on"}` is `cache=True` of `ask`, "off" is False; `x-cascade-session` is its `session`.
    """

    def __init__(self, driver: Driver, providers: Providers) -> None:
        self._driver, self._providers = driver, providers

    @overload
    def create(self, *, stream: Literal[False] = False, **keywords: Any) -> Message: ...
    @overload
    def create(self, *, stream: Literal[True], **keywords: Any) -> Stream: ...
    @overload
    def create(self, *, stream: bool, **keywords: Any) -> Message | Stream: ...
    def create(self, **keywords: Any) -> Message | Stream:
        """As the SDK's `messages.create`: a message, or a stream of events. Both carry the Answer as `cascade`."""
        from cascade.claude.messages import Stream, message_of  # noqa: PLC0415 - it imports the SDK

        known, stream = _given(keywords)
        arguments = _arguments(known, self._driver.policy, streamed=stream)
        if stream:
            return Stream(self._driver.events(arguments))
        return message_of(self._driver.respond(arguments))

    @overload
    def stream(self, *, output_format: type[_Format], **keywords: Any) -> MessageStreamManager[_Format]: ...
    @overload
    def stream(self, **keywords: Any) -> MessageStreamManager[Any]: ...
    def stream(self, **keywords: Any) -> MessageStreamManager[Any]:
        """As the SDK's `messages.stream`: a context manager of a MessageStream, which carries the Answer as `cascade`."""
        from cascade.claude.messages import MessageStreamManager, Stream  # noqa: PLC0415 - it imports the SDK

        known, output_format = _formatted(keywords)
        arguments = _arguments(known, self._driver.policy, streamed=True)
        return MessageStreamManager(lambda: Stream(self._driver.events(arguments)), output_format)

    def parse(self, *, output_format: type[_Format], **keywords: Any) -> ParsedMessage[_Format]:
        """As the SDK's `messages.parse`: a message whose `parsed_output` is of the type `output_format`."""
        keywords["output_format"] = output_format
        with self.stream(**keywords) as stream:
            return stream.get_final_message()

    def count_tokens(self, **keywords: Any) -> TokensCount:
        """As the SDK's `messages.count_tokens`, for the model of the first rung and without its triage rules."""
        known, first = _counted(keywords, self._driver.policy)
        return self._providers.client_of(first).messages.count_tokens(**known)


class AsyncMessages(_Resource):
    """`Messages` for asyncio."""

    def __init__(self, driver: AsyncDriver, providers: AsyncProviders) -> None:
        self._driver, self._providers = driver, providers

    @overload
    async def create(self, *, stream: Literal[False] = False, **keywords: Any) -> Message: ...
    @overload
    async def create(self, *, stream: Literal[True], **keywords: Any) -> AsyncStream: ...
    @overload
    async def create(self, *, stream: bool, **keywords: Any) -> Message | AsyncStream: ...
    async def create(self, **keywords: Any) -> Message | AsyncStream:
        """As the SDK's `messages.create`: a message, or a stream of events. Both carry the Answer as `cascade`."""
        from cascade.claude.messages import AsyncStream, message_of  # noqa: PLC0415 - it imports the SDK

        known, stream = _given(keywords)
        arguments = _arguments(known, self._driver.policy, streamed=stream)
        if stream:
            return AsyncStream(self._driver.events(arguments))
        return message_of(await self._driver.respond(arguments))

    @overload
    def stream(self, *, output_format: type[_Format], **keywords: Any) -> AsyncMessageStreamManager[_Format]: ...
    @overload
    def stream(self, **keywords: Any) -> AsyncMessageStreamManager[Any]: ...
    def stream(self, **keywords: Any) -> AsyncMessageStreamManager[Any]:
        """As the SDK's `messages.stream`: a context manager of an AsyncMessageStream, which carries the Answer as `cascade`."""
        from cascade.claude.messages import AsyncMessageStreamManager, AsyncStream  # noqa: PLC0415 - it imports the SDK

        known, output_format = _formatted(keywords)
        arguments = _arguments(known, self._driver.policy, streamed=True)
        return AsyncMessageStreamManager(lambda: AsyncStream(self._driver.events(arguments)), output_format)

    async def parse(self, *, output_format: type[_Format], **keywords: Any) -> ParsedMessage[_Format]:
        """As the SDK's `messages.parse`: a message whose `parsed_output` is of the type `output_format`."""
        keywords["output_format"] = output_format
        async with self.stream(**keywords) as stream:
            return await stream.get_final_message()

    async def count_tokens(self, **keywords: Any) -> TokensCount:
        """As the SDK's `messages.count_tokens`, for the model of the first rung and without its triage rules."""
        known, first = _counted(keywords, self._driver.policy)
        return await (await self._providers.client_of(first)).messages.count_tokens(**known)
