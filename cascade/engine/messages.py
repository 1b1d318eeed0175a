"""`Cascade.messages`: the SDK's `client.messages`, whose every call climbs. Parameters and results are the SDK's own."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Protocol, overload

from cascade.core.errors import RequestError
from cascade.core.parameters import CannotClimb, check_top, read_parameters
from cascade.core.policy import Policy
from cascade.core.shapes import shown
from cascade.core.trail import Answer
from cascade.engine.arguments import MessageArguments, check_deadline

if TYPE_CHECKING:
    from cascade.claude.messages import (
        AsyncEvents,
        AsyncMessageStreamManager,
        AsyncStream,
        Events,
        Message,
        MessageStreamManager,
        Stream,
    )

__all__ = ["MODEL_PREFIX", "AsyncMessages", "Messages", "message_arguments"]

MODEL_PREFIX = "claude-cascade-"
"""What the model's name of a policy begins with; the policy's name follows."""

_RAW = "x-stainless-raw-response"  # by this header the SDK's wrappers ask for a raw response


class _Driver(Protocol):
    policy: Policy

    def respond(self, arguments: MessageArguments) -> Answer: ...
    def events(self, arguments: MessageArguments) -> Events: ...
    def count_tokens(self, params: Mapping[str, Any]) -> Any: ...


class _AsyncDriver(Protocol):
    policy: Policy

    async def respond(self, arguments: MessageArguments) -> Answer: ...
    def events(self, arguments: MessageArguments) -> AsyncEvents: ...
    async def count_tokens(self, params: Mapping[str, Any]) -> Any: ...


def message_arguments(
    params: Mapping[str, Any], policy: Policy, *, deadline_s: float | None = None, key: str = "", session: str = ""
) -> MessageArguments:
    """The request that these parameters of `messages.create` make, or this JSON body. `model` must not name another policy.

    What cannot climb goes to the baseline if the policy says `bypass: baseline`; the answer's notes then say why. Raises
    RequestError otherwise, and for what is invalid.
    """
    check_model(params.get("model"), policy)
    notes: tuple[str, ...] = ()
    try:
        request = read_parameters(params)
        check_top(request, policy.ladder[policy.top].model)
    except CannotClimb as problem:
        if policy.bypass is None:
            raise
        request = problem.request
        notes = (f"sent to the baseline unchanged: {problem}",)
    request = replace(request, id=f"casc_{uuid.uuid4().hex}")
    return MessageArguments(request, deadline_s=deadline_s, key=key, session=session, notes=notes)


def check_model(model: object, policy: Policy) -> None:
    """Raises RequestError for the name of another policy. Any other name is the model that the caller would have used."""
    if not isinstance(model, str) or not model:
        raise RequestError(f"model: must be a name, such as {MODEL_PREFIX}{policy.name}, not {shown(model)}")
    if model.startswith(MODEL_PREFIX) and model != f"{MODEL_PREFIX}{policy.name}":
        raise RequestError(f"model: {shown(model)} is another policy; this one is {MODEL_PREFIX}{policy.name}")


def _arguments(params: Mapping[str, Any], policy: Policy) -> MessageArguments:
    """The arguments of one call, in the SDK's types."""
    from cascade.claude.messages import given, seconds_of  # noqa: PLC0415 - it imports the SDK

    known = given(params)
    headers = known.get("extra_headers")
    if isinstance(headers, Mapping) and any(str(name).lower() == _RAW for name in headers):  # pyright: ignore
        raise RequestError(_UNAVAILABLE["with_raw_response"])
    deadline_s = seconds_of(known.pop("timeout", None))
    check_deadline(deadline_s, "timeout")
    return message_arguments(known, policy, deadline_s=deadline_s)


def _streams(params: Mapping[str, Any]) -> bool:
    from cascade.claude.messages import given  # noqa: PLC0415 - it imports the SDK

    stream = given({"stream": params.get("stream", False)}).get("stream", False)
    if not isinstance(stream, bool):
        raise RequestError(f"stream: must be true or false, not {shown(stream)}")
    return stream


def _formatted(params: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """The parameters with the schema of `output_format` in their `output_config`, and the type itself."""
    import anthropic  # noqa

    from cascade.claude.messages import NOT_GIVEN, format_of, given  # noqa: PLC0415 - it imports the SDK

    known = given(params)
    output_format = known.pop("output_format", None)
    if output_format is None:
        return known, NOT_GIVEN
    config = known.get("output_config") or {}
    return {**known, "output_config": {**config, "format": format_of(output_format)}}, output_format


_RAW_ADVICE = "a climb is several HTTP responses: the answer's `cascade` has the usage, model and request id of each"
_UNAVAILABLE = {
    "with_raw_response": f"with_raw_response: not available on a climbing client ({_RAW_ADVICE})",
    "with_streaming_response": f"with_streaming_response: not available on a climbing client ({_RAW_ADVICE})",
    "batches": "batches: not available on a climbing client, since a batch goes to one model (use the SDK's own client)",
}


class _Resource:
    """What both resources lack, and say so."""

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            _raise_unavailable(type(self).__name__, name)


def _raise_unavailable(owner: str, name: str) -> NoReturn:
    problem = _UNAVAILABLE.get(name, f"{owner} has no {name!r}; it has create, stream, parse and count_tokens")
    raise AttributeError(problem, name=name)
