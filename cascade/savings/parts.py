"""Where a saving comes from: climbing, prompt caching, batches, the response cache.

Each part is what its cause saves once those before it are in place, in this order, so that the parts add up to the whole
saving. A part below 0 costs more than it saves. In another order a part has another size: a cached token is cheaper to
begin with, so a batch then saves less on it.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Parts"]


@dataclass(frozen=True, slots=True)
class Parts:
    """Nano-USD.

    reference       one model for everything, live, nothing cached; and what the climbs would have cost that the response
                    cache spared, where that was observed
    climbing        by asking cheaper models, at live prices, nothing cached
    prompt_caching  by tokens that were read from the API's cache, less what writing them cost more
    batches         by Message Batches
    response_cache  by answers that were returned again
    """

    reference: int = 0
    climbing: int = 0
    prompt_caching: int = 0
    batches: int = 0
    response_cache: int = 0

    @property
    def saved(self) -> int:
        """All parts together."""
        return self.climbing + self.prompt_caching + self.batches + self.response_cache

    @property
    def paid(self) -> int:
        """What is left to pay."""
        return self.reference - self.saved

    def __add__(self, other: Parts) -> Parts:
        return Parts(
            self.reference + other.reference,
            self.climbing + other.climbing,
            self.prompt_caching + other.prompt_caching,
            self.batches + other.batches,
            self.response_cache + other.response_cache,
        )
