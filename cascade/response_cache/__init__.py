"""The response cache: answers to equal requests, returned again. Off unless the policy has `cache`.

    keys of requests      cascade.core.equal_requests, and `identities` for the caller's checks
    Entry                 what is stored of an answer
    Flights               equal requests that run at the same time: one climbs, the others wait
    AnswerCache           asks a store, for a bounded time, on a thread of its own
    SqliteAnswers         the store in a file; RedisAnswers: the one that many processes share

A store may be slow, locked, full, damaged or from a newer version: the request is then answered without it. Stored are the answers'
texts and the keys' hashes, nothing of the prompts.
"""

from __future__ import annotations

from cascade.response_cache.cache import AnswerCache
from cascade.response_cache.entries import Entry
from cascade.response_cache.flights import Flight, Flights, Landing
from cascade.response_cache.opening import check_cache, erase_answers, open_cache

__all__ = ["AnswerCache", "Entry", "Flight", "Flights", "Landing", "check_cache", "erase_answers", "open_cache"]
