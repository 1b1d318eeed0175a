"""Choose the reply to a request: the script's, else a recorded one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cascade.emulator.faults import BREAKS_OFF
from cascade.emulator.messages import make_reply
from cascade.emulator.scripting import make_scripted, run_script

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cascade.emulator.answers import Answers
    from cascade.emulator.faults import FaultKind
    from cascade.emulator.messages import EmulatedReply
    from cascade.emulator.requests import ApiRequest
    from cascade.emulator.scripting import Script

__all__ = ["Replies"]


class Replies:
    """The replies of an emulator. `seed`: of the choices that faults make."""

    def __init__(self, answers: Answers, seed: int, script: Script | None = None) -> None:
        self._answers, self._seed, self._script = answers, seed, script

    def check_model(self, model: str) -> None:
        """Raise the API's 404 for a model that can have no reply; a script may know any."""
        if self._script is None:
            self._answers.check_model(model)

    async def choose(
        self, request: ApiRequest, headers: Mapping[str, str], fault: FaultKind | None, number: int
    ) -> EmulatedReply:
        """The reply, changed by the fault if any. Raises ApiError if there is none. `number`: unique to the request."""
        if self._script is not None:
            scripted = await run_script(self._script, request, headers)
            if scripted is not None:
                return make_scripted(request, scripted, fault, self._seed, number)
            self._answers.check_model(request.model)
        recorded = self._answers.find(request, advance=fault not in BREAKS_OFF)
        return make_reply(request, recorded, fault, self._seed)
