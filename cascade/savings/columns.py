"""The column names of usage exports, and the field that each one is.

Names as the exports write them (November 2026): the Claude Console's usage CSV and the Admin API's usage report,
LiteLLM's spend logs and daily tables, Helicone's and Langfuse's request exports, OpenRouter's activity, OpenAI's usage
(its CSV and its API's JSON), OpenTelemetry's GenAI attributes. Case, spaces and punctuation are ignored; a nested JSON key
is named by its path.

There are two kinds of input. `input` was billed at the full input price (the Messages API's `input_tokens`, which excludes
cached tokens). `prompt` is the whole prompt, cached or not (LiteLLM, OpenTelemetry, and OpenAI, which also calls it
`input_tokens`). If a row has cached tokens and a total, the total decides which kind it is, whatever the name (`usage`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final, Literal, get_args

from cascade.core.errors import UsageExportError

__all__ = ["ALIASES", "FIELDS", "Field", "check_columns", "find_columns", "is_usage", "plain", "read_map", "unread"]

Field = Literal[
    "model", "requests", "input", "prompt", "output", "cache_read", "cache_write", "cache_write_5m", "cache_write_1h",
    "date", "tier", "request_id", "total",
]  # fmt: skip
"""`cache_write` has an unknown lifetime and counts as 5m, the API's default. `tier`: standard or batch. `total`: all tokens of
the row."""

FIELDS: Final[tuple[Field, ...]] = get_args(Field)

# The first name that the file has is used.
ALIASES: Final[Mapping[Field, tuple[str, ...]]] = {
    "model": (
        "model", "model_version", "model_id", "model_name", "provided_model_name", "request_model", "response_model",
        "gen_ai.request.model", "gen_ai.response.model", "slug", "model_group",
    ),
    "requests": (
        "requests", "api_requests", "request_count", "num_requests", "num_model_requests", "number_of_requests", "calls",
        "count",
    ),
    "input": (
        "usage_input_tokens_no_cache", "uncached_input_tokens", "input_uncached_tokens", "input_tokens_no_cache", "input_tokens",
        "usage.input_tokens", "usage_details.input", "input_usage", "input",
    ),
    "prompt": (
        "prompt_tokens", "usage.prompt_tokens", "gen_ai.usage.input_tokens", "total_input_tokens",
    ),
    "output": (
        "usage_output_tokens", "output_tokens", "completion_tokens", "usage.output_tokens", "usage.completion_tokens",
        "usage_details.output", "output_usage", "gen_ai.usage.output_tokens", "total_output_tokens", "output",
    ),
    "cache_read": (
        "usage_input_tokens_cache_read", "cache_read_input_tokens", "cache_read_tokens", "cache_read", "cached_tokens",
        "cached_input_tokens", "input_cached_tokens", "prompt_cache_read_tokens", "usage.cache_read_input_tokens",
        "usage_details.cache_read_input_tokens", "usage_details.input_cache_read", "usage_details.input_cached_tokens",
        "usage.prompt_tokens_details.cached_tokens", "gen_ai.usage.cache_read.input_tokens",
    ),
    "cache_write": (
        "cache_creation_input_tokens", "cache_write_tokens", "cache_write", "cache_creation_tokens",
        "prompt_cache_write_tokens", "usage.cache_creation_input_tokens", "usage_details.cache_creation_input_tokens",
        "usage_details.input_cache_creation", "input_cache_write_tokens", "gen_ai.usage.cache_creation.input_tokens", "usage_input_tokens_cache_write",
    ),
    "cache_write_5m": (
        "usage_input_tokens_cache_write_5m", "cache_write_5m_tokens", "cache_write_5m", "prompt_cache_write_5m",
        "cache_creation.ephemeral_5m_input_tokens", "usage.cache_creation.ephemeral_5m_input_tokens",
        "cache_creation_5m_input_tokens", "usage_details.input_cache_creation_5m",
    ),
    "cache_write_1h": (
        "usage_input_tokens_cache_write_1h", "cache_write_1h_tokens", "cache_write_1h", "prompt_cache_write_1h",
        "cache_creation.ephemeral_1h_input_tokens", "usage.cache_creation.ephemeral_1h_input_tokens",
        "cache_creation_1h_input_tokens", "usage_details.input_cache_creation_1h",
    ),
    "date": (
        "usage_date_utc", "usage_date", "date", "day", "starting_at", "start_time", "startTime", "request_created_at",
        "created_at", "timestamp", "time", "period",
    ),
    "tier": ("usage_type", "batch", "service_tier", "usage.service_tier", "processing"),
    "total": (
        "total_tokens", "usage.total_tokens", "usage_details.total", "usage_total_tokens", "gen_ai.usage.total_tokens",
        "total_usage", "total",
    ),
    "request_id": ("request_id", "trace_id", "call_id", "generation_id", "litellm_call_id"),
}  # fmt: skip

_BESIDE_PROMPT = {"promptcachereadtokens", "promptcachewritetokens"}  # Helicone's: its prompt_tokens excludes them

_OF_THE_WHOLE_PROMPT = {"inputtokens", "inputcachedtokens"}  # OpenAI's pair: its input_tokens includes the cached

_NEEDED: Final[tuple[Field, ...]] = ("model", "output")


def plain(name: str) -> str:
    """A column's name without case, spaces and punctuation: `Input Tokens` and `input_tokens` are one."""
    return re.sub(r"[\W_]+", "", name.casefold())


_KNOWN: Final = frozenset(plain(alias) for aliases in ALIASES.values() for alias in aliases)


def read_map(pairs: Iterable[str]) -> dict[Field, str]:
    """Read `--map field=column`. Raises UsageExportError for an unknown field."""
    given: dict[Field, str] = {}
    for pair in pairs:
        field, equals, column = (part.strip() for part in pair.partition("="))
        if not equals or not column or field not in FIELDS:
            raise UsageExportError(
                f"{pair!r} is not FIELD=COLUMN", where="--map", hint=f"FIELD is one of {', '.join(FIELDS)}"
            )
        if field in given:
            raise UsageExportError(f"{field!r} is mapped twice", where="--map", hint="leave one of them out")
        given[field] = column
    return given


def find_columns(names: Iterable[str], given: Mapping[Field, str]) -> dict[Field, str]:
    """The column of each field; `given` (from `--map`) takes precedence. Fields without a column are left out."""
    there = list(dict.fromkeys(names))
    by_plain = {plain(name): name for name in reversed(there)}
    found: dict[Field, str] = {}
    for field in FIELDS:
        aliases = (given[field],) if field in given else ALIASES[field]
        if field in given and given[field] in there:
            found[field] = given[field]
            continue
        for alias in aliases:
            column = by_plain.get(plain(alias))
            if column is not None and (field in given or column not in given.values()):
                found[field] = column
                break
    if "prompt" in found and "input" not in found and "prompt" not in given and _BESIDE_PROMPT & by_plain.keys():
        found["input"] = found["prompt"]
    if (
        by_plain.keys() >= _OF_THE_WHOLE_PROMPT
        and "input" not in given
        and plain(found.get("input", "")) == "inputtokens"
    ):
        found.setdefault("prompt", found["input"])
        del found["input"]
    if "input" in found and "prompt" not in given:
        found.pop("prompt", None)  # both are there: `input` is exact
    return found


def unread(names: Iterable[str], found: Mapping[Field, str]) -> list[str]:
    """Columns not read although their names suggest cached tokens or the number of requests."""
    taken, counted = set(found.values()), bool(found.keys() & {"requests", "request_id"})
    return [
        name
        for name in names
        if name not in taken
        and (bare := plain(name)) not in _KNOWN
        and ("cache" in bare or ("request" in bare and not counted and not bare.endswith("websearchrequests")))
    ]


def is_usage(found: Mapping[Field, str]) -> bool:
    """Whether rows with these columns have usage (a trace's other spans do not)."""
    return bool(found.keys() & {"model", "input", "prompt", "output"})


def check_columns(found: Mapping[Field, str], names: Iterable[str], where: str, given: Mapping[Field, str]) -> None:
    """Raise UsageExportError that names the missing columns, or says that it is a cost export, which has no tokens."""
    there = list(names)
    missing: list[Field] = [field for field in _NEEDED if field not in found]
    if "input" not in found and "prompt" not in found:
        missing.append("input")
    if missing:
        problem = _missing_text(missing, {plain(name) for name in there})
        if missing[0] in given:
            problem = f"has no column {given[missing[0]]!r}, which --map says is {missing[0]!r}"
        shown = ", ".join(name[:60] for name in there[:30])
        raise UsageExportError(problem, where=where, hint=f"it has: {shown}{', …' if len(there) > 30 else ''}")


def _missing_text(missing: list[Field], there: set[str]) -> str:
    if {"tokentype", "costusd"} <= there:
        return "this is a cost export: it has amounts but no tokens; export the usage instead"
    which = ", ".join(repr(field) for field in missing)
    return f"no column is known to be {which}; name it with --map {missing[0]}=COLUMN"
