"""Choose the reply to a request: the script's, else a recorded one, and bill its prompt by the cache if there is one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from cascade.emulator.faults import BREAKS_OFF
from cascade.emulator.messages import make_reply
from cascade.emulator.scripting import make_scripted, run_script
from cascade.emulator.signatures import read_signature

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cascade.emulator.answers import Answers
    from cascade.emulator.caching import PromptCache
    from cascade.emulator.faults import FaultKind
    from cascade.emulator.messages import EmulatedReply
    from cascade.emulator.requests import ApiRequest
    from cascade.emulator.scripting import Script

__all__ = ["Replies"]


class Replies:
    """The replies of an emulator. `seed`: of the choices that faults make. `cache`: None if prompts are not cached."""

    def __init__(self, seed: int, script: Script | None = None, cache: PromptCache | None = None) -> None:
        self._seed, self._script, self._cache = seed, script, cache
        self.signed: dict[str, str] = {}
        """The models of signatures that a script made up itself."""

    def check_model(self, answers: Answers, model: str) -> None:
        """Raise the API's 404 for a model that can have no reply; a script may know any."""
        if self._script is None:
            answers.check_model(model)

    async def choose(
        self, answers: Answers, request: ApiRequest, headers: Mapping[str, str], fault: FaultKind | None, number: int
    ) -> EmulatedReply:
        """The reply, changed by the fault if any. Raises ApiError if there is none. `number`: unique to the request."""
        reply = await self._scripted(request, headers, fault, number)
        if reply is None:
            answers.check_model(request.model)
            recorded = answers.find(request, advance=fault not in BREAKS_OFF)
            reply = make_reply(request, recorded, fault, self._seed)
        for block in reply.content:
            signature = block["signature"] if block["type"] == "thinking" else ""  # thinking that was cut off has none
            if signature and read_signature(signature, block["thinking"]) is None:
                self.signed[signature] = request.model
        if self._cache is None or not _TOLD.isdisjoint(reply.raw_usage):
            return reply
        return replace(reply, usage=self._cache.bill(request.model, request.cached or request.body, reply.usage))

    async def _scripted(
        self, request: ApiRequest, headers: Mapping[str, str], fault: FaultKind | None, number: int
    ) -> EmulatedReply | None:
        scripted = None if self._script is None else await run_script(self._script, request, headers)
        return None if scripted is None else make_scripted(request, scripted, fault, self._seed, number)


_TOLD = frozenset({"cache_creation", "cache_creation_input_tokens", "cache_read_input_tokens"})
"""A usage that has one of these says itself what was cached."""
