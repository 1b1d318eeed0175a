"""Which requests may share an answer: who is cached, and the key under which equal requests meet.

A key is a SHA-256 over canonical JSON, so it holds nothing of the prompt that could be read. Equal values give the same bytes
whatever the order of their names; values that differ in anything give others: 1 is not 1.0, a name with null is not a missing
name, and lists keep their order. Every field of a Request is part of the key unless `_NOT_ASKED` names it, so a field that is
added later counts from the beginning.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, cast

from cascade.core.errors import RequestError
from cascade.core.messages import Request
from cascade.core.policy import Policy

__all__ = ["OF_THE_CALLER", "Asked", "is_cached", "key_of", "needs_task"]

OF_THE_CALLER = ("key", "user_id", "sample")
"""The names of metadata that divide callers, and a caller's samples of one prompt, from each other."""

_FORMAT = 1  # of the key: raise it when its meaning changes
_NOT_ASKED = frozenset({"id", "metadata", "raw"})
_FIELDS = tuple(field.name for field in fields(Request) if field.name not in _NOT_ASKED)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request with all that its answer depends on beside it.

    `checks`: what identifies the functions among the checks, the policy's and the caller's. `policy_hash`, `epoch`, `ratchet` and `certificate`: of the plan. `caller`:
    the gateway key's id. `endpoint`: where the models are asked. `is_message`: the caller can read the API's own messages.
    """

    request: Request
    policy_hash: str
    epoch: str = ""
    ratchet: int = 0
    certificate: str = ""
    checks: tuple[str, ...] = ()
    caller: str = ""
    endpoint: str = ""
    is_message: bool = False


def is_cached(policy: Policy, marked: bool | None, task: str | None) -> bool:
    """Whether a request uses the response cache. `marked`: by its caller. `task`: its task; None if it is not needed (`needs_task`).

    The caller's word comes first, then the task's, then the policy's. Raises RequestError for a mark that has no effect.
    """
    cache = policy.cache
    if cache is None:
        if marked:
            raise RequestError(
                f"cache: policy {policy.name} has no response cache (add `cache: {{}}` to it, or leave cache=True out)"
            )
        return False
    if marked is not None:
        return marked
    own = next((one.cache for one in policy.tasks if one.name == task), None)
    return own if own is not None else cache.requests == "all"


def needs_task(policy: Policy, marked: bool | None) -> bool:
    """Whether it depends on the request's task whether it is cached."""
    return policy.cache is not None and marked is None and any(task.cache is not None for task in policy.tasks)


def key_of(asked: Asked) -> bytes | None:
    """The key of a request; None if a value of it is no JSON, so that nobody can say what equals it."""
    request = asked.request
    whole = {
        "format": _FORMAT,
        "request": {name: getattr(request, name) for name in _FIELDS},
        "metadata": {name: request.metadata[name] for name in OF_THE_CALLER if name in request.metadata},
        "beside": [getattr(asked, name) for name in _BESIDE],
    }
    try:
        text = json.dumps(_plain(whole), sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError):
        return None
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


_BESIDE = tuple(field.name for field in fields(Asked) if field.name != "request")


def _plain(value: object) -> object:
    """The value as JSON has it. Raises TypeError for what JSON has not; names that are no strings would become equal to some that are."""
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, Mapping):
        known = cast("Mapping[Any, Any]", value)
        if not all(isinstance(name, str) for name in known):
            raise TypeError("a name that is no string")
        return {name: _plain(one) for name, one in known.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in cast("list[object]", value)]
    if isinstance(value, (set, frozenset)):  # the flags: their order says nothing
        return sorted(map(str, cast("set[object]", value)))
    raise TypeError("no JSON value")
