"""Pages over values that a test made by hand, served on loopback as `cascade dashboard` serves them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from http.client import HTTPConnection, HTTPResponse
from typing import Any, Self

from cascade.core.policy import Policy
from cascade.costs import Period, PeriodSums, SpendRow, TrafficRow, costs
from cascade.costs.tallies import lines_of, totals
from cascade.dashboard.app import Settings
from cascade.dashboard.source import Source
from cascade.dashboard.values import (
    AuditState,
    BudgetState,
    Episode,
    EscalationSeries,
    Event,
    LargeRequest,
    ModelPage,
    Overview,
    PolicyMode,
    PolicyPage,
    RequestRow,
    SpendPoint,
    StepRow,
)
from cascade.gateway.dashboard_server import listen, serve_dashboard
from cascade.gateway.server import GatewayServer
from cascade.ledger.records import NO_SLOT

__all__ = ["NOW", "PERIOD", "Held", "Pages", "overview"]

NOW = 1_780_000_000.0
PERIOD = Period(1_779_926_400 // 900 * 900, 1_779_926_400 // 900 * 900 + 86_400)
_WAIT_S = 30.0


def overview(name: str = "help-desk", text: str = "all is well", **changes: Any) -> Overview:
    """A page with something in every section. `name`: of the policy, task, workflow and rung; `text`: what is said of them."""
    spend = SpendRow(20_000, name, name, name, "", "cascade", name, name, 3, 1, 30 * 10**9, 10, 10, 0)
    traffic = TrafficRow(20_000, name, name, name, "cascade", name, NO_SLOT, 3, 3, 2, 1, 30 * 10**9, 0.0, 90 * 10**9, 3)
    sums = PeriodSums((spend,), (traffic,))
    found = costs(sums, PeriodSums(), "task")
    step = StepRow(name, name, "answered", 0.9, None, 10**9, 120.0, detail=text, failed_checks=(text,), text=text)
    row = RequestRow(
        "casc_1", NOW - 60, name, name, name, "cascade", (step, replace(step, rung="top")), True, "top", None, None, 2 * 10**9, 400.0,
        prompt=text, answer=text,
    )  # fmt: skip
    lines = {by: lines_of(totals(sums, by), {}, by) for by in ("rung", "model", "workflow", "policy")}
    made = Overview(
        "ledger.db", PERIOD, NOW, "", found, found.saving, 3_600,
        spend=(SpendPoint(PERIOD.since, PERIOD.since + 43_200, 10**9, 3 * 10**9, 10**9, 1), SpendPoint(PERIOD.since + 43_200, PERIOD.until, 0, 0, 0, 0)),
        escalations=(EscalationSeries(name, ((PERIOD.since, 2, 1), (PERIOD.since + 43_200, 0, 0))),),
        episodes=(Episode(name, name, PERIOD.since + 60, None, 0.6, 0.35, "escalate"),),
        audits=(AuditState(name, "alarmed", text, 20, 1, 0.1, (0.0, 0.3), (text,)),),
        budgets=(BudgetState(name, "daily", "daily", "workflow", name, 10**10, 9 * 10**9, 0.8, "hold", alerts=((NOW, text),)),),
        large=(LargeRequest("casc_1", 2 * 10**9, task=name, workflow=name),), large_above=10**9, last=(row,),
        events=(Event(NOW, "storm_tripped", name, text),), modes=(PolicyMode(name, "enforce", "policy", "enforce"),),
        rungs=lines["rung"], models=lines["model"], workflows=lines["workflow"], by_policy=lines["policy"], stamp="1",
    )  # fmt: skip
    return replace(made, **changes)


class Held(Source):
    """A ledger that says what it is told. `changed` counts up: its version."""

    def __init__(self, found: Overview, policies: Sequence[Policy] = ()) -> None:
        self.found, self._policies, self.changed = found, policies, 1
        self.problem: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()

    @property
    def where(self) -> str:
        """As it is shown."""
        return self.found.ledger

    @property
    def policies(self) -> Sequence[Policy]:
        """Those that were given."""
        return self._policies

    def overview(self, period: Period) -> Overview:
        """The same for every period, once the gate is open."""
        assert self.gate.wait(_WAIT_S)
        if self.problem is not None:
            raise self.problem
        return replace(self.found, period=period)

    def policy(self, name: str, period: Period) -> PolicyPage:
        """The same, as one policy's."""
        return PolicyPage(
            replace(self.found, period=period, policy=name),
            is_here=True,
            ladder=((name, name, 0.8), ("top", name, None)),
        )

    def model(self, name: str, period: Period, policy: str) -> ModelPage:
        """The first model's figures."""
        found = self.found
        line = found.models[0] if name == found.models[0].name else None
        return ModelPage(
            found.ledger, period, NOW, name, line, 3_600, found.spend, found.by_policy, found.costs.lines, found.rungs
        )

    def request(self, request: str) -> RequestRow | None:
        """The one that it has."""
        return next((row for row in self.found.last if row.request == request), None)

    def version(self) -> str:
        """Changes with `changed`."""
        return str(self.changed)


class Pages:
    """The dashboard in a thread of this process, on a free port. A context manager."""

    def __init__(self, source: Source, settings: Settings | None = None) -> None:
        self._source, self._settings = source, settings or Settings(wall=lambda: NOW, look_s=0.05, why_not="read-only")
        self._listening = listen("127.0.0.1", 0)
        self.port: int = self._listening.getsockname()[1]
        self.base_url = f"http://127.0.0.1:{self.port}"
        self._server: GatewayServer | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dashboard", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(_WAIT_S)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """What SIGTERM does; it must end by itself."""
        if self._server is not None:
            self._server.should_exit = True
        self._thread.join(_WAIT_S)
        assert not self._thread.is_alive(), "the dashboard did not stop"

    def _run(self) -> None:
        def ready(server: GatewayServer) -> None:
            self._server = server
            self._ready.set()

        with self._listening, suppress(KeyboardInterrupt):
            asyncio.run(serve_dashboard(self._source, self._settings, self._listening, ready=ready))

    def ask(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: str | None = None
    ) -> Answered:
        """One request, as a browser's unless `headers` say otherwise."""
        return ask(self.port, method, path, headers, body)


class Answered:
    """What came back. The whole body is read."""

    def __init__(self, response: HTTPResponse) -> None:
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.text = response.read().decode()


def ask(
    port: int, method: str, path: str, headers: Mapping[str, str] | None = None, body: str | None = None
) -> Answered:
    """One request on a connection of its own."""
    connection = HTTPConnection("127.0.0.1", port, timeout=_WAIT_S)
    try:
        connection.request(method, path, body, {"accept": "text/html", **(headers or {})})
        return Answered(connection.getresponse())
    finally:
        connection.close()
