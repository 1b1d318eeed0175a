"""The storm guard of many processes: `guard.lua`, the twin of `core.storm.Guard`, called through a `RedisConnection`.

Its watches belong to one content of a policy (its hash), because two versions of a policy escalate at different rates; those for
storms also to the rates that are expected, which change when the policy is ratcheted. They use the server's clock, so that machines whose clocks differ agree on how long a trip has lasted.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from typing import Any, cast

from cascade.core.climb import Observation
from cascade.core.policy import OTHER, Policy, StormGuard
from cascade.core.policy.certificate import Escalation
from cascade.core.storm import (
    CUSUM_TRIPS_AT,
    ERRORS,
    HOUR_S,
    MOST_WATCHES,
    RELEASE_MARGIN,
    Z_ONE_SIDED_95,
    Action,
    Change,
    Tripped,
    cusum_steps,
    storm_limit,
)  # fmt: skip
from cascade.state.circuit import RedisConnection, Script

__all__ = ["SharedGuard"]

_KEEP_S = 30 * 86_400  # unused keys expire
_RUNG = "rung:"  # of guard.lua's names in the hash of errors, which has something else, too
_SCRIPT, _TRIPPED = Script("guard.lua"), Script("tripped.lua")


class SharedGuard:
    """`Guard.observe`, of all processes that share the connection's server. `at`: Unix seconds; None: the server's own clock."""

    def __init__(
        self, policy: Policy, escalation: Escalation, connection: RedisConnection, at: Callable[[], float] | None = None
    ) -> None:
        self._settings, self._connection, self._at = policy.storm_guard, connection, at
        self._certified, self._expected = escalation, (escalation, "")
        self._prefix = f"cascade:{{{policy.name}}}:guard:{policy.hash[:16]}"
        self._fixed = (_KEEP_S, MOST_WATCHES, *_texts(Z_ONE_SIDED_95, CUSUM_TRIPS_AT, RELEASE_MARGIN), *_errors())
        self._storms = _storms(self._settings)

    def expect(self, escalation: Escalation) -> None:
        """As `State.expect`."""
        self._expected = escalation, "" if escalation == self._certified else f"@{_digest(escalation)}"

    def observe(self, observation: Observation) -> tuple[Action | None, tuple[Change, ...]] | None:
        """Count a step. Returns the action before it, and the changes that it caused; None: no reply.

        Only this caller gets these changes. If the reply is lost, the step is counted but nobody logs them.
        """
        task, rung = observation.task, observation.rung
        watch, shared = f"{rung}|{task}", f"{rung}|{OTHER}"
        escalation, rates = self._expected
        keys = (
            f"{self._prefix}:storms{rates}",
            f"{self._prefix}:errors",
            f"{self._prefix}:failed:{rung}",
            f"{self._prefix}:recent{rates}:{watch}",
            f"{self._prefix}:recent{rates}:{shared}",
            f"{self._prefix}:extra",
        )
        reply = self._connection.run(
            _SCRIPT,
            keys,
            (
                "" if self._at is None else repr(self._at()),
                "" if observation.natural is None else int(observation.natural),
                int(observation.failed),
                observation.storm_cost,
                watch,
                shared,
                rung,
                *self._fixed,
                *self._storms,
                *self._limits(escalation.rate(task, rung)),
                *self._limits(escalation.rate(OTHER, rung)),
                repr(HOUR_S),
            ),
        )
        if reply is None:
            return None
        action, errors, storm = cast("tuple[bytes, list[Any], list[Any]]", reply)
        changes = (*_change("errors", OTHER, rung, errors), *_change("storm", task, rung, storm))
        return cast("Action | None", action.decode() or None), changes

    def tripped(self) -> tuple[Tripped, ...] | None:
        """As `State.tripped`; None: no reply."""
        keys = (f"{self._prefix}:storms{self._expected[1]}", f"{self._prefix}:errors")
        reply = self._connection.run(_TRIPPED, keys, ())
        if reply is None:
            return None
        storms, errors = (_calm_left_out(watches) for watches in cast("list[list[bytes]]", reply))
        found = [name.partition("|") for name in storms]
        return (
            *(Tripped("storm", task, rung) for rung, _, task in found),
            *(Tripped("errors", OTHER, name[len(_RUNG) :]) for name in errors if name.startswith(_RUNG)),
        )

    def _limits(self, expected: float | None) -> tuple[str, ...]:
        if self._settings is None:
            return ("1", "0", "0")
        limit = storm_limit(self._settings, expected)
        return _texts(limit, *cusum_steps(limit))


def _calm_left_out(watches: list[bytes]) -> list[str]:
    """The names of the tripped ones, of names and states in turn; a calm one's state begins with "-"."""
    pairs = zip(watches[::2], watches[1::2], strict=True)
    return [name.decode("utf-8", "surrogatepass") for name, state in pairs if not state.startswith(b"-")]


def _digest(escalation: Escalation) -> str:
    rates = [dict(escalation.rungs), {task: dict(own) for task, own in escalation.tasks.items()}]
    return sha256(json.dumps(rates, sort_keys=True).encode()).hexdigest()[:12]


def _texts(*numbers: float) -> tuple[str, ...]:
    return tuple(repr(float(number)) for number in numbers)


def _errors() -> tuple[str | int, ...]:
    return (
        *_texts(ERRORS.rate, *cusum_steps(ERRORS.rate)),
        ERRORS.window,
        ERRORS.min_samples,
        *_texts(ERRORS.dwell_s, ERRORS.max_trip_s),
    )


def _storms(settings: StormGuard | None) -> tuple[str | int, ...]:
    one = settings or StormGuard()
    cap = one.max_extra_usd_per_hour
    return (
        int(settings is not None),
        one.window,
        one.min_samples,
        *_texts(one.dwell_s, one.max_trip_s),
        one.on_trip,
        "" if cap is None else repr(cap * 1e9),
    )


def _change(what: Any, task: str, rung: str, fields: list[Any]) -> tuple[Change, ...]:
    if not fields:
        return ()
    kind, rate, limit, samples, lasted = fields
    return (Change(kind.decode(), what, task, rung, float(rate), float(limit), int(samples), float(lasted)),)
