"""The SDK's own messages and streams, made of answers and events. To import this module is to import the SDK.

A message carries its answer as `cascade`, beside the SDK's fields: it is no part of `model_dump` and of comparisons.
"""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

import anthropic
import pydantic
from anthropic import types
from anthropic._base_client import AsyncAPIClient, SyncAPIClient  # the base of all platforms' clients
from anthropic.lib import streaming

from cascade.core.errors import ConfigurationError, RequestError
from cascade.core.message_events import message_dict
from cascade.core.trail import Answer

__all__ = [
    "NOT_GIVEN",
    "AsyncEvents",
    "AsyncMessageStream",
    "AsyncMessageStreamManager",
    "AsyncStream",
    "Events",
    "Message",
    "MessageStream",
    "MessageStreamManager",
    "ParsedMessage",
    "Stream",
    "TokensCount",
    "event_of",
    "format_of",
    "given",
    "is_async",
    "message_of",
    "seconds_of",
]

if TYPE_CHECKING:

    class Message(types.Message):
        """A message of the SDK, with the answer that it was made of."""

        cascade: Answer

else:
    Message = types.Message  # the very type: code that compares types sees no difference

NOT_GIVEN = anthropic.NOT_GIVEN
ParsedMessage = types.ParsedMessage
TokensCount = types.MessageTokensCount

_Format = TypeVar("_Format")

_EVENTS: dict[str, Any] = {
    "message_start": types.RawMessageStartEvent,
    "message_delta": types.RawMessageDeltaEvent,
    "message_stop": types.RawMessageStopEvent,
    "content_block_start": types.RawContentBlockStartEvent,
    "content_block_delta": types.RawContentBlockDeltaEvent,
    "content_block_stop": types.RawContentBlockStopEvent,
}


class Events(Protocol):
    """The events of one request; `answer` is there after the last of them."""

    @property
    def answer(self) -> Answer | None: ...  # noqa: D102
    def __iter__(self) -> Iterator[dict[str, Any]]: ...
    def close(self) -> None: ...  # noqa: D102


class AsyncEvents(Protocol):
    """`Events` for asyncio."""

    @property
    def answer(self) -> Answer | None: ...  # noqa: D102
    def __aiter__(self) -> AsyncIterator[dict[str, Any]]: ...
    async def aclose(self) -> None: ...  # noqa: D102


def is_async(client: object) -> bool:
    """Whether a client of the SDK is async. Raises ConfigurationError if it is no client of the SDK."""
    if isinstance(client, (AsyncAPIClient, SyncAPIClient)):
        return isinstance(client, AsyncAPIClient)
    raise ConfigurationError(f"client: {type(client).__name__} is not a client of the anthropic SDK")


def message_of(answer: Answer) -> Message:
    """The answer as a message of the SDK. Its `_request_id` is the API's id of the call that answered."""
    message = types.Message.construct(**message_dict(answer))
    shipped = answer.shipped
    object.__setattr__(message, "_request_id", shipped.request_id if shipped is not None else None)
    return _with_answer(cast("Message", message), answer)


def event_of(event: Mapping[str, Any]) -> types.RawMessageStreamEvent:
    """A stream's event as the SDK's."""
    return _EVENTS[event["type"]].construct(**event)


_Model = TypeVar("_Model", bound=pydantic.BaseModel)


def _with_answer(message: _Model, answer: Answer) -> _Model:
    object.__setattr__(message, "cascade", answer)  # past pydantic, which would make it a field
    return message


def given(params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that were given, with the SDK's objects as plain values: a reply's blocks may be sent back as they are.

    Raises RequestError for a parameter that refers to itself.
    """
    try:
        return {name: _plain(value) for name, value in params.items() if _is_given(value)}
    except RecursionError:
        raise RequestError("the parameters are nested too deeply, or refer to themselves") from None


def _is_given(value: object) -> bool:
    return not isinstance(value, (anthropic.NotGiven, anthropic.Omit))


def _plain(value: Any) -> Any:
    if isinstance(value, (str, bytes, int, float, type)) or value is None:
        return value
    if isinstance(value, pydantic.BaseModel):
        return value.model_dump(mode="json", by_alias=True, exclude_unset=True, warnings=False)
    if isinstance(value, Mapping):
        known = cast("Mapping[Any, Any]", value)
        return {name: _plain(inside) for name, inside in known.items() if _is_given(inside)}
    if isinstance(value, Collection) or (isinstance(value, Iterator) and not isinstance(value, io.IOBase)):
        return [_plain(inside) for inside in cast("Iterable[Any]", value)]
    return value  # a file, for one: the SDK reads it when it sends the request


def format_of(output_format: Any) -> dict[str, Any]:
    """The `output_config.format` for a type, as the SDK makes it. Raises RequestError if `output_format` is no such type."""
    if isinstance(output_format, Mapping):
        raise RequestError("output_format: give a type; a schema goes into output_config={'format': …}")
    try:
        schema = pydantic.TypeAdapter[Any](output_format).json_schema()
        return {"type": "json_schema", "schema": anthropic.transform_schema(schema)}
    except Exception as problem:  # noqa: BLE001 - the caller's types may run code that raises anything
        reason = (str(problem).splitlines() or [type(problem).__name__])[0]
        raise RequestError(f"output_format: no JSON schema can be made of it: {reason}") from None


def seconds_of(timeout: object) -> float | None:
    """A `timeout` of the SDK as the deadline of a climb; None: the policy's. Raises RequestError for httpx's object."""
    if timeout is None or isinstance(timeout, (int, float)):
        return timeout
    raise RequestError("timeout: give a number of seconds, for the whole climb; finer limits belong to the client")


class Stream(anthropic.Stream[types.RawMessageStreamEvent]):
    """What `create(stream=True)` returns: the SDK's events, one by one. `cascade` is the answer, after the last one."""

    def __init__(self, events: Events) -> None:
        self._climb, self._read = events, self._events(events)

    @staticmethod
    def _events(events: Events) -> Iterator[types.RawMessageStreamEvent]:
        try:
            for event in events:
                yield event_of(event)
        finally:
            events.close()

    @property
    def cascade(self) -> Answer:
        """The answer. Raises AttributeError before the last event."""
        return _ended(self._climb.answer)

    def __iter__(self) -> Iterator[types.RawMessageStreamEvent]:
        return self._read

    def __next__(self) -> types.RawMessageStreamEvent:
        return next(self._read)

    def close(self) -> None:
        """End the request, if it is still running."""
        self._climb.close()

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            raise _no_attribute(self, name)


class AsyncStream(anthropic.AsyncStream[types.RawMessageStreamEvent]):
    """`Stream` for asyncio."""

    def __init__(self, events: AsyncEvents) -> None:
        self._climb, self._read = events, self._events(events)

    @staticmethod
    async def _events(events: AsyncEvents) -> AsyncIterator[types.RawMessageStreamEvent]:
        try:
            async for event in events:
                yield event_of(event)
        finally:
            await events.aclose()

    @property
    def cascade(self) -> Answer:
        """The answer. Raises AttributeError before the last event."""
        return _ended(self._climb.answer)

    def __aiter__(self) -> AsyncIterator[types.RawMessageStreamEvent]:
        return self._read

    async def __anext__(self) -> types.RawMessageStreamEvent:
        return await anext(self._read)

    async def close(self) -> None:
        """End the request, if it is still running."""
        await self._climb.aclose()

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            raise _no_attribute(self, name)


def _ended(answer: Answer | None) -> Answer:
    if answer is None:
        raise AttributeError("the answer is there after the last event (read the stream to its end)", name="cascade")
    return answer


def _no_attribute(stream: object, name: str) -> AttributeError:
    hint = " (several HTTP responses make up a climb: see cascade.steps)" if name == "response" else ""
    return AttributeError(f"{type(stream).__name__} has no {name!r}{hint}", name=name)


class MessageStream(streaming.MessageStream[_Format]):
    """The SDK's helper on a climb's stream. `cascade` is the answer, after the last event."""

    def __init__(self, stream: Stream, output_format: Any) -> None:
        super().__init__(stream, output_format)
        self._climb = stream

    @property
    def cascade(self) -> Answer:
        """The answer. Raises AttributeError before the last event."""
        return self._climb.cascade

    @property
    def request_id(self) -> str | None:
        """The API's id of the call that answered."""
        shipped = self.cascade.shipped
        return shipped.request_id if shipped is not None else None

    def get_final_message(self) -> types.ParsedMessage[_Format]:
        """The whole message, with its answer as `cascade`, once the stream has been read to its end."""
        message = super().get_final_message()
        return _with_answer(message, self.cascade)


class MessageStreamManager(streaming.MessageStreamManager[_Format]):
    """What `messages.stream` returns: the climb begins where the block is entered."""

    def __init__(self, begin: Callable[[], Stream], output_format: Any) -> None:
        super().__init__(begin, output_format=output_format)
        self._begin, self._format = begin, output_format
        self._stream: MessageStream[_Format] | None = None

    def __enter__(self) -> MessageStream[_Format]:
        self._stream = MessageStream(self._begin(), self._format)
        return self._stream

    def __exit__(self, *_: object) -> None:
        if self._stream is not None:
            self._stream.close()


class AsyncMessageStream(streaming.AsyncMessageStream[_Format]):
    """`MessageStream` for asyncio."""

    def __init__(self, stream: AsyncStream, output_format: Any) -> None:
        super().__init__(stream, output_format)
        self._climb = stream

    @property
    def cascade(self) -> Answer:
        """The answer. Raises AttributeError before the last event."""
        return self._climb.cascade

    @property
    def request_id(self) -> str | None:
        """The API's id of the call that answered."""
        shipped = self.cascade.shipped
        return shipped.request_id if shipped is not None else None

    async def get_final_message(self) -> types.ParsedMessage[_Format]:
        """The whole message, with its answer as `cascade`, once the stream has been read to its end."""
        message = await super().get_final_message()
        return _with_answer(message, self.cascade)


class AsyncMessageStreamManager(streaming.AsyncMessageStreamManager[_Format]):
    """What `messages.stream` of an AsyncCascade returns: the climb begins where the block is entered."""

    def __init__(self, begin: Callable[[], AsyncStream], output_format: Any) -> None:
        self._begin, self._format = begin, output_format
        self._stream: AsyncMessageStream[_Format] | None = None

    async def __aenter__(self) -> AsyncMessageStream[_Format]:
        self._stream = AsyncMessageStream(self._begin(), self._format)
        return self._stream

    async def __aexit__(self, *_: object) -> None:
        if self._stream is not None:
            await self._stream.close()
