"""Long conversations: what each rung is asked where the policy says `prepare`. Pure.

    measuring    how long content is, in characters
    turns        the parts of a conversation: what stays whole, and what may go
    trimming     drops the oldest tool results, then the oldest turns, until a prompt fits
    summarising  what a rung is asked for a summary, and the conversation with it
    settings     what the policy says of it, in words
    preparing    the state of one climb: the request as each rung is asked

The caller's request stays as it is: tasks, tool loops and the scorer go by the original.
"""

from cascade.core.context.preparing import Context, context_of, take_prepared, trimmed_request
from cascade.core.context.settings import describe_prepare, every_prepare, not_recorded, summarisers
from cascade.core.context.summarising import build_summary_prompt

__all__ = [
    "Context",
    "build_summary_prompt",
    "context_of",
    "describe_prepare",
    "every_prepare",
    "not_recorded",
    "summarisers",
    "take_prepared",
    "trimmed_request",
]
