"""A run in a session: it is told what earlier runs decided, and what it decides itself is kept for the session's next request.

Both call the state, which may take a round trip where it is remote.
"""

from __future__ import annotations

from collections.abc import Mapping

from cascade.core.planning.decisions import decided_text, decisions_of
from cascade.core.planning.result import Result
from cascade.engine.decided import session_of
from cascade.engine.runtime import Runtime

__all__ = ["keep_decided", "recall_decided"]


def recall_decided(runtime: Runtime, session: str | None, metadata: Mapping[str, str] | None, *, run: str = "") -> str:
    """What planner and executors are told of the session's earlier runs; "" if there is nothing to tell.

    `run`: the id of the run itself, which is no earlier one where it is taken up again.
    """
    known = session_of(runtime.policy, session or "", metadata or {})
    return (
        "" if known is None else decided_text([one for one in known.recall(runtime.state) if not run or one.run != run])
    )


def keep_decided(
    runtime: Runtime, session: str | None, metadata: Mapping[str, str] | None, result: Result
) -> str | None:
    """Keep what a run decided, however far it came. Call it again when the run was taken up again. A note if nothing is kept."""
    if not session:
        return None
    known, ledger = session_of(runtime.policy, session, metadata or {}), runtime.policy.ledger
    if known is None:
        return (
            f"session: nothing is carried, {'ledger.content is false' if ledger.enabled else 'ledger.enabled is false'}"
        )
    if not known.keep(runtime.state, decisions_of(result)):
        return "session: nothing is carried, ledger.redact failed"
    return None
