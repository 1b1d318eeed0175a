"""Keywords that `ask` does not take, and what to use instead."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from cascade.core.errors import RequestError
from cascade.core.text.suggestions import closest

__all__ = ["check_keywords"]

_MESSAGES = "ask() does not take it; Cascade().messages.create(…) does, with the SDK's own parameters"
_STREAM = "ask() returns whole answers; Cascade().messages.stream(…) gives them as they come"
_SAMPLING = "not available: the SDK's messages.create does not take it either (leave it out)"
_CLIENT = "pass it to the client: Cascade(client=Anthropic({}=…))"
_DRIVER = "pass it to the driver: Cascade({}=…)"
_RUNG = "set it in the policy, on the rung: {}"

_INSTEAD = {
    # of messages.create
    "messages": "the first argument takes the list of messages: ask([{'role': 'user', 'content': …}])",
    "model": "the policy names the models: policy= takes a path, a shipped name or a Policy (see `cascade policy show`)",
    "timeout": "use deadline_s=, in seconds for the whole climb; timeout_s on the policy's rung limits a single call",
    "thinking": _RUNG.format("thinking: adaptive, disabled or {budget_tokens: N}"),
    "output_config": "use response_model= for a format; set effort in the policy, on the rung",
    "output_format": "use response_model=",
    "extra_headers": _CLIENT.format("default_headers"),
    "extra_query": _CLIENT.format("default_query"),
    "betas": "pass the header to the client: Cascade(client=Anthropic(default_headers={'anthropic-beta': …}))",
    "cache_control": "set it on a block of system= or of a message: {'type': 'text', 'text': …, 'cache_control': …}",
    **dict.fromkeys(("temperature", "top_k", "top_p"), _SAMPLING),
    **dict.fromkeys(
        ("billing_policy", "compaction", "container", "context_management", "diagnostics", "extra_body",
         "fallback_credit_token", "fallbacks", "inference_geo", "mcp_servers", "service_tier", "speed", "stop_sequences",
         "thread", "tool_choice", "tools", "user_profile_id", "workspace_id"),
        _MESSAGES,
    ),
    "stream": _STREAM,
    # of the SDK's clients, and of our drivers
    "api_key": "set ANTHROPIC_API_KEY, or " + _CLIENT.format("api_key"),
    "base_url": "set base_url on the policy's rung or ANTHROPIC_BASE_URL, or " + _CLIENT.format("base_url"),
    "max_retries": "set it in the policy: retry: {attempts: N}",
    **{name: _DRIVER.format(name) for name in ("client", "hooks", "ledger", "state")},
    # under other names, here or elsewhere
    "effort": _RUNG.format("effort: low, medium, high, xhigh or max"),
    "max_output_tokens": "use max_tokens=",
    "max_completion_tokens": "use max_tokens=",
    "response_format": "use response_model=",
    "schema": "use response_model=",
    "stop": "Cascade().messages.create(stop_sequences=[…]) takes them",
    "user": "use metadata={'user_id': …}",
    "user_id": "use metadata={'user_id': …}",
}  # fmt: skip
_OF_A_DRIVER = "a driver has one policy: Cascade(policy), or cascade.ask(…, policy=…)"


def check_keywords(given: Iterable[str], known: Collection[str], function: str = "ask") -> None:
    """Raise RequestError, in one line, for all keywords that this function does not know."""
    unknown = [name for name in given if name not in known]
    if unknown:
        raise RequestError("; ".join(f"{name}: {_instead_of(name, known, function)}" for name in unknown))


def _instead_of(name: str, known: Collection[str], function: str) -> str:
    if name == "policy":
        return _OF_A_DRIVER
    if name in _INSTEAD:
        return _INSTEAD[name]
    meant = closest(name, [*known, *_INSTEAD])
    if meant is None:
        return f"{function}() has no such argument (it has {', '.join(sorted(known))})"
    other = f": {_INSTEAD[meant]}" if meant in _INSTEAD else ""
    return f"{function}() has no such argument; did you mean {meant}?{other}"
