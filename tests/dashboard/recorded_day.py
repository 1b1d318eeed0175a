"""A recorded day of requests, as the engine would have left it: three policies, heavy and light workflows, every way in which a request ends.

    day = record_day(path)          written through the real store, in bulk: about a second for 10,000 requests
    day.period, day.now             the day as a period (whole quarters of an hour, UTC), and a moment near its end
    day.heavy, day.running, …       what a test looks for

The same seed always gives the same ledger. The day before has a tenth of the requests, so that changes have something to compare with.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple

import msgspec

from cascade.audit.controls import judge_id
from cascade.core.auditing import is_uniform
from cascade.core.control_items import FEWEST
from cascade.core.modes import arm_of, slot_of
from cascade.core.policy import Policy
from cascade.costs import Period
from cascade.ledger.audit import AuditTables, Control, Grading, Leased
from cascade.ledger.chain import content_digest, link, start
from cascade.ledger.marks import HappenedMark, MarkTables
from cascade.ledger.opening import is_postgres
from cascade.ledger.prompts import canonical
from cascade.ledger.records import AuditRow, Batch, Content, Kind, OpenBody, OutcomeBody, RequestBody, StepBody
from cascade.ledger.sqlite.store import SqliteStore
from cascade.ledger.stores import Store
from cascade.ledger.sums import add_open, add_outcome, add_step, settle_open
from cascade.policy.certificates import epoch_of
from tests.dashboard.recorded_policies import HELP_DESK, LABELS, REVIEWS, policies

__all__ = ["HOSTILE_TEXT", "HOSTILE_WORKFLOW", "NOW", "START", "RecordedDay", "record_day"]

START: Final = int(datetime(2026, 11, 26, tzinfo=UTC).timestamp())
"""The day's midnight, in Unix seconds."""
NOW: Final = START + 86_400 - 300.0

HOSTILE_WORKFLOW: Final = "<img src=x onerror=\"document.title='pwned'\">'&amp;{{7*7}}</script>\u202e"
HOSTILE_TEXT: Final = "<script>document.title='pwned'</script> \"quoted\" & 'single' \u202egnihton {{ 7*7 }}"

_HEAVY: Final = ("contract-review", "claims-intake", HOSTILE_WORKFLOW, "tax-letters")
_LIGHT: Final = (*(f"flow-{number:02}" for number in range(15)), "legacy-import")
_TASKS: Final[dict[str, tuple[tuple[str, int], ...]]] = {
    HELP_DESK: (("refund", 30), ("delivery", 30), ("order-status", 20), ("complaint", 8), ("other", 12)),
    REVIEWS: (("rename", 50), ("security", 20), ("other", 30)),
    LABELS: (("label", 100),),
}
_RUNGS: Final = ("haiku", "sonnet", "opus")
_MODELS: Final = ("claude-haiku-5-5", "claude-sonnet-5-5", "claude-opus-5-5")
_NANO: Final = ((100, 500), (2_000, 10_000), (4_000, 20_000))
"""Nano-USD per token, in and out."""
_BY_HOUR: Final = (1, 1, 1, 1, 2, 3, 5, 8, 12, 14, 14, 13, 11, 13, 14, 13, 12, 10, 8, 6, 5, 4, 3, 2)
_REASONS: Final = ("low_confidence", "low_confidence", "declined", "check_failed", "malformed")
_STORM: Final = (START + 13 * 3600, START + 14 * 3600 + 600)
_KEPT_S: Final = 2 * 3600
"""Texts are there of the last hours: those of earlier requests were removed, and their digests are left."""
_ENTRIES: Final = 2_000
"""In one transaction."""
_CUSTOMERS: Final = 300

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class RecordedDay:
    """What was written. `heavy`: the workflows that make most of the bill; `workflows`: all names; `running`: requests without an end."""

    address: str
    period: Period
    now: float
    requests: int
    policies: tuple[Policy, ...]
    heavy: tuple[str, ...]
    workflows: tuple[str, ...]
    running: tuple[str, ...]
    kept: str
    """A request whose texts are stored, `HOSTILE_TEXT` among them. This and the following are "" where a small day has none."""
    removed: str
    """One whose texts were removed, and whose digests are left."""
    unkept: str
    """One of a policy that keeps no texts."""
    escalated: str
    """One that climbed to the top."""
    failed: str
    """One that ended with an error."""


class _Event(NamedTuple):
    at: float
    number: int
    request: str
    asked: RequestBody
    kind: Kind
    body: Any


def record_day(address: str | Path, *, requests: int = 10_000, seed: int = 17, grade: int = 24) -> RecordedDay:
    """Write the day into a new ledger at this address: a path, or postgresql://… `grade`: so many samples are graded."""
    traffic = _Traffic(Random(seed))
    events = [*traffic.day(START - 86_400, requests // 10), *traffic.day(START, requests), *traffic.running()]
    events.sort(key=lambda event: (event.at, event.number))
    with closing(_store(str(address))) as store:
        _write(store, events, traffic)
    _grade(str(address), traffic.policies[HELP_DESK], grade)
    _happened(MarkTables(str(address)))
    return RecordedDay(
        str(address), Period(START, START + 86_400), NOW, requests, tuple(traffic.policies.values()), _HEAVY,
        (*_HEAVY, *_LIGHT), traffic.begun, **traffic.found,
    )  # fmt: skip


class _Traffic:
    """Makes requests, each as its events; `found`: the examples that a test looks for."""

    def __init__(self, chance: Random) -> None:
        self._chance = chance
        self.policies = {policy.name: policy for policy in policies()}
        self.contents: dict[str, list[Content]] = {}
        self.begun: tuple[str, ...] = ()
        self.found = dict.fromkeys(("kept", "removed", "unkept", "escalated", "failed"), "")
        self._number = 0

    def day(self, midnight: int, count: int) -> Iterator[_Event]:
        """So many requests, over a day that is busy by daylight."""
        chance, by_hour = self._chance, [*accumulate(_BY_HOUR)]
        hours = chance.choices(range(24), cum_weights=by_hour, k=count)
        last = START + 86_400 - 700.0  # all of them have ended by `NOW`
        for hour in hours:
            at = min(midnight + hour * 3600 + chance.random() * 3600, last)
            name = LABELS if hour == 2 else HELP_DESK if chance.random() < 0.85 else REVIEWS
            yield from self._request(name, at)

    def running(self) -> Iterator[_Event]:
        """Requests that have not ended: one asked just now, one that waits for its first call, two that climb."""
        ids: list[str] = []
        for number, steps in enumerate((0, 0, 1, 2)):
            events = [*self._request(HELP_DESK, NOW - 60 + number, task="delivery", depth=2, arm="cascade")]
            done = [event for event in events if event.kind == "step"][:steps]
            ids.append(events[0].request)
            yield events[0]
            yield from done
            if number:
                at = (done[-1].at if done else events[0].at) + 0.25
                body = OpenBody(steps, _RUNGS[steps], _MODELS[steps], 30_000_000)
                yield events[0]._replace(at=at, number=events[0].number + 50, kind="open", body=body)
        self.begun = tuple(ids)

    def _request(
        self, name: str, at: float, *, task: str | None = None, depth: int | None = None, arm: str | None = None,
        observed_as: str | None = None,
    ) -> Iterator[_Event]:  # fmt: skip
        chance, request = self._chance, f"casc_{self._chance.getrandbits(128):032x}"
        task = task or chance.choices([one for one, _ in _TASKS[name]], [weight for _, weight in _TASKS[name]])[0]
        heavy = chance.random() < 0.2
        workflow = chance.choice(_HEAVY if heavy else _LIGHT) if chance.random() < 0.98 else ""
        customer = f"customer-{chance.randrange(_CUSTOMERS)}"
        metadata = {"customer": customer, "key": f"team-{chance.randrange(3)}"}
        metadata |= {"workflow": workflow} if workflow else {}
        policy = self.policies.get(name)
        arm = arm or self._arm(name, policy, customer, task, observed_as)
        asked = RequestBody(
            name, policy.hash if policy is not None else "0" * 64, f"{chance.getrandbits(256):064x}", task, arm, metadata,
            content=self._texts(request, at, name), observed_as=observed_as, prompts={"triage": "0123456789ab"},
        )  # fmt: skip
        yield self._event(at, request, asked, "request", asked)
        slot = -1 if policy is None else slot_of(policy.rollout, name, customer)
        steps, took = self._steps(at, asked, heavy, self._depth(task, at, heavy) if depth is None else depth)
        yield from (self._event(when, request, asked, "step", step) for when, step in steps)
        outcome = self._outcome(asked, [step for _, step in steps], took, slot)
        yield self._event(at + took, request, asked, "outcome", outcome)
        self._note(request, at, asked, outcome)
        if arm == "observe" and chance.random() < 0.3:
            yield from self._request(name, at + took, task=task, observed_as=request)

    def _event(self, at: float, request: str, asked: RequestBody, kind: Kind, body: Any) -> _Event:
        self._number += 1
        return _Event(at, self._number, request, asked, kind, body)

    def _arm(self, name: str, policy: Policy | None, customer: str, task: str, observed_as: str | None) -> str:
        if policy is None:
            return "batch"
        if observed_as is not None:
            return "shadow"
        if task == "order-status" and self._chance.random() < 0.3:
            return "cache"
        return arm_of(policy.mode, policy.rollout, name, customer)

    def _depth(self, task: str, at: float, heavy: bool) -> int:
        """How many rungs up it climbs."""
        rate = {"refund": 0.15, "delivery": 0.2, "complaint": 1.0, "security": 1.0, "label": 0.05}.get(
            task, 0.1
        ) + 0.15 * heavy
        if (task == "refund" and _STORM[0] <= at < _STORM[1]) or (task == "delivery" and at >= NOW - 4000):
            rate = 0.85
        return (self._chance.random() < rate) + (self._chance.random() < rate * 0.4)

    def _steps(
        self, at: float, asked: RequestBody, heavy: bool, depth: int
    ) -> tuple[list[tuple[float, StepBody]], float]:
        chance = self._chance
        if asked.arm == "cache":
            return [], 0.004
        length = chance.lognormvariate(6.0, 0.5) * (64 if heavy else 1)
        if chance.random() < 0.001:
            length *= 6  # a few are very long
        first = 0 if asked.arm in ("cascade", "batch", "shadow") else 2
        last = first or min(depth, 2)
        steps: list[tuple[float, StepBody]] = []
        took = 0.0
        for index in range(first, last + 1):
            latency = chance.lognormvariate(-0.3 + 0.5 * index, 0.4)
            took += latency
            up = index < last
            failed = up and chance.random() < 0.05
            reason = None if not up else "error" if failed else chance.choice(_REASONS)
            steps.append((at + took, self._step(index, length, latency, reason, ladder=not first)))
            if up and reason == "check_failed" and chance.random() < 0.3:  # a rung above had read the answer first
                review = self._step(index, length / 2, latency, None, ladder=False)
                fields = msgspec.structs.asdict(review) | {
                    "model": _MODELS[1], "call": 1, "more": True, "review": True, "variant": "review:sonnet",
                }  # fmt: skip
                steps.append((at + took + 0.001, StepBody(**fields)))
        return steps, took + 0.01

    def _step(self, index: int, length: float, latency: float, reason: str | None, *, ladder: bool) -> StepBody:
        chance = self._chance
        cached = int(length * 0.4) if chance.random() < 0.3 else 0
        tokens, out = int(length) - cached, 30 + int(chance.expovariate(1 / (120 * (1 + index))))
        cost = tokens * _NANO[index][0] + cached * _NANO[index][0] // 10 + out * _NANO[index][1]
        kind = {"error": "failed", "declined": "declined", "malformed": "malformed"}.get(reason or "", "answered")
        sure = kind == "answered" and ladder
        confidence = round(chance.uniform(0.4, 0.79) if reason == "low_confidence" else chance.uniform(0.8, 0.99), 2)
        return StepBody(
            index, _RUNGS[index], _MODELS[index], kind, cost if kind != "failed" else 0, tokens if kind != "failed" else 0,
            out if kind != "failed" else 0, cache_read=cached if kind != "failed" else 0, confidence=confidence if sure else None,
            source="self_reported" if sure else None, reason=reason, failed_checks=["max_chars"] if reason == "check_failed" else [],
            latency_ms=round(latency * 1000, 3), upstream_id=f"req_{chance.getrandbits(64):016x}",
        )  # fmt: skip

    def _outcome(self, asked: RequestBody, steps: list[StepBody], took: float, slot: int) -> OutcomeBody:
        chance, own = self._chance, [step for step in steps if not step.review]
        cost, arm = sum(step.cost for step in steps), asked.arm
        latency_ms = round(took * 1000, 3)
        if arm == "cache":
            return OutcomeBody(
                arm, 0, 0, latency_ms, "haiku", _MODELS[0], 0.9, "self_reported", resolved=True, estimate=150_000, slot=slot, cache="hit"
            )  # fmt: skip
        last, fate = own[-1], chance.random()
        is_ladder = arm in ("cascade", "batch", "shadow")
        priced = is_ladder and asked.metadata.get("workflow") != "legacy-import"
        prompt = last.input_tokens + last.cache_read
        estimate = prompt * _NANO[2][0] + last.output_tokens * _NANO[2][1] if priced else None
        cache = "miss" if asked.task == "order-status" and arm == "cascade" else None
        if fate < 0.008:
            return OutcomeBody(arm, cost, len(own), latency_ms, error="AllRungsFailed", slot=slot, cache=cache)
        if fate < 0.012 and is_ladder:
            return OutcomeBody(arm, cost, len(own), latency_ms, abstained="declined", slot=slot, cache=cache)
        degraded = None
        if is_ladder and fate < 0.025:
            degraded = chance.choice(("budget", "deadline", "storm"))
        return OutcomeBody(
            arm, cost, len(own), latency_ms, last.rung, last.model, last.confidence, last.source, degraded,
            resolved=degraded is None, estimate=estimate, slot=slot, cache=cache,
        )  # fmt: skip

    def _texts(self, request: str, at: float, name: str) -> dict[str, str]:
        """The digests of what was asked; the text itself, if it is still there."""
        if name != HELP_DESK:
            return {}
        salt = self._chance.getrandbits(128).to_bytes(16, "big")
        said = HOSTILE_TEXT if self._number % 20 == 0 else f"Where is my parcel, please? It is number {self._number}."
        text = canonical("Be kind.", [{"role": "user", "content": said}]).decode()
        if at >= NOW - _KEPT_S:
            self.contents[request] = [Content(request, "prompt", at, salt, text)]
            if said is HOSTILE_TEXT and at < NOW - 100:
                self.found["kept"] = request
        return {"prompt": content_digest(salt, text)}

    def _note(self, request: str, at: float, asked: RequestBody, outcome: OutcomeBody) -> None:
        """Remember the newest example of each kind."""
        if not START < at < NOW - 100:
            return
        if asked.policy == HELP_DESK and at < NOW - _KEPT_S:
            self.found["removed"] = request
        if asked.policy == REVIEWS:
            self.found["unkept"] = request
        if asked.arm == "cascade" and outcome.steps == 3 and outcome.resolved:
            self.found["escalated"] = request
        if outcome.error is not None:
            self.found["failed"] = request


def _store(address: str) -> Store:
    if is_postgres(address):
        from cascade.ledger.postgres.store import PostgresStore  # noqa: PLC0415 - an extra

        return PostgresStore(address)
    return SqliteStore(Path(address), synchronous="NORMAL")


def _write(store: Store, events: list[_Event], traffic: _Traffic) -> None:
    """Chain the events and write them, a few thousand in a transaction."""
    store.open("recorded")
    batch, digest = Batch(), start("recorded")
    epoch = epoch_of(traffic.policies[HELP_DESK], 0)
    opened: set[tuple[str, int]] = set()
    for seq, event in enumerate(events, 1):
        raw = _encode(event.body)
        digest = link(digest, seq, event.at, event.kind, event.request, raw)
        batch.entries.append((seq, event.at, event.kind, event.request, raw, digest))
        if event.kind == "request":
            batch.contents.extend(traffic.contents.get(event.request, ()))
        elif event.kind == "step":
            add_step(batch, event.at, event.asked, event.body)
            if (event.request, event.body.number) in opened:
                settle_open(batch, event.request, event.body.number)
        elif event.kind == "open":
            add_open(batch, event.at, event.asked, event.request, event.body)
            opened.add((event.request, event.body.number))
        else:
            add_outcome(batch, event.at, event.asked, event.body)
            batch.samples.extend(_sampled(event, epoch))
        if len(batch.entries) >= _ENTRIES:
            store.write(batch)
            batch = Batch()
    store.write(batch)


def _sampled(event: _Event, epoch: str) -> Iterator[AuditRow]:
    asked, outcome = event.asked, event.body
    if asked.policy != HELP_DESK or asked.arm != "cascade" or outcome.error or not is_uniform(event.request, 0.02):
        return
    place = _RUNGS.index(outcome.rung) if outcome.rung else -1
    yield AuditRow(
        event.request, event.at, asked.policy, epoch, asked.task, asked.metadata.get("workflow", ""), "uniform",
        outcome.rung or "", place, int(place == 2), outcome.confidence, outcome.source, outcome.cost, outcome.estimate, "[]",
        outcome.degraded, 1,
    )  # fmt: skip


def _grade(address: str, policy: Policy, count: int) -> None:
    """Grade the oldest samples: one in twenty is wrong."""
    tables = AuditTables(address)
    for number in range(FEWEST):
        right = number % 2 == 0
        tables.add_control(
            policy.name,
            Control(judge_id(policy, "judge:opus"), right, "agree" if right else "disagree", START + number, 100_000),
        )
    for number in range(count):
        at = NOW - 3600 + number
        leased = tables.lease(policy.name, "worker", at, 60, bound=0, cap=None, day=START)
        if not isinstance(leased, Leased):
            return
        wrong = number % 20 == 7
        grading = Grading("judge:opus", 0.0 if wrong else 1.0, "disagree" if wrong else "agree", cost=2_000_000)
        tables.finish(leased, grading, at)


def _happened(tables: MarkTables) -> None:
    """Two storms, of which one goes on, an outage, and budgets that alert."""
    storm = {"rung": "haiku", "limit": 0.35, "samples": 120, "action": "escalate"}
    calm = {**storm, "rate": 0.21}
    marks: list[tuple[float, str, str, dict[str, Any]]] = [
        (_STORM[0] + 240, HELP_DESK, "storm_tripped", {**storm, "task": "refund", "rate": 0.82}),
        (_STORM[1] + 600, HELP_DESK, "storm_released", {**calm, "task": "refund"}),
        (
            START + 16 * 3600,
            HELP_DESK,
            "errors_tripped",
            {**storm, "task": "other", "rate": 0.3, "limit": 0.1, "action": "alert"},
        ),
        (START + 16 * 3600 + 900, HELP_DESK, "errors_released", {**calm, "task": "other", "rate": 0.02, "limit": 0.1}),
        (NOW - 3600, HELP_DESK, "storm_tripped", {**storm, "task": "delivery", "rate": 0.79}),
        (NOW - 600, HELP_DESK, "storm_limit_wrong", {**storm, "task": "delivery", "rate": 0.8}),
    ]
    for at, policy, scope, value, share, limit in (
        (START + 71_000.0, HELP_DESK, "policy", HELP_DESK, 0.8, 95.0),
        (START + 60_000.0, REVIEWS, "policy", REVIEWS, 0.9, 45.0),
        (START + 77_000.0, REVIEWS, "policy", REVIEWS, 1.0, 45.0),
        (START + 68_000.0, HELP_DESK, "workflow", HOSTILE_WORKFLOW, 0.8, 18.0),
    ):
        account = policy if scope == "policy" else f"{policy}/{scope}={value}"
        text = f"the daily budget of {account}, {limit:g} USD: {share:.0%} of it is spent; this budget only alerts: calls go on"
        marks.append((at, policy, "budget_alert", {
            "budget": f"the daily budget of {account}, {limit:g} USD", "scope": scope, "value": value, "span": "daily",
            "period": "2026-11-26", "share": share, "spent_usd": limit * share, "limit_usd": limit, "on_exhausted": "alert", "text": text,
        }))  # fmt: skip
    for at, policy, kind, details in marks:
        tables.add(HappenedMark(at, policy, kind, (str(at),), details))  # type: ignore[arg-type]
