"""Any acyclic plan, with any executors and any reviewer: whatever stops it, it is taken up to the same end, and the money is the ledger's."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade import Plan, Result
from cascade.core.modes import share_of
from cascade.emulator import Emulator
from cascade.ledger.opening import open_ledger, open_reader
from cascade.ledger.verifying.verification import verify
from tests.core.planning.scheduling import plans
from tests.live.conftest import Clock, Connections, Driver
from tests.live.planning.fleet import CONTROLS_KNOWN, Fleet, planning
from tests.live.planning.test_running_journal import outcome

LEVELS = ("high", "high", "high", "medium", "low", "unsure", "unsure", "refused")
VERDICTS = ("accept", "accept", "accept", "retry", "retry", "escalate", "prose")


def chosen(seed: int, among: tuple[str, ...], *names: str) -> str:
    """Always the same one for the same names."""
    return among[int(share_of(f"{seed}", "\0".join(names)) * len(among))]


def reviews(seed: int, instruction: str, result: str) -> str:
    """A reviewer that knows the control items, and says anything of results."""
    known = CONTROLS_KNOWN.get((instruction, result))
    return chosen(seed, VERDICTS, instruction, result) if known is None else "accept" if known else "retry"


@dataclass
class Bench:
    """An emulator and a driver of one way, with a clock, a ledger and a fleet of its own."""

    connections: Connections
    folder: Path
    way: str
    seed: int
    clock: Clock = field(default_factory=Clock)

    def __enter__(self) -> Self:
        self.fleet = Fleet(partial(chosen, self.seed, LEVELS), partial(reviews, self.seed))
        self._emulator = Emulator(script=self.fleet)
        self._emulator.start()
        self._ledger = (
            self.folder
            / f"{hashlib.sha256(repr(self).encode()).hexdigest()[:12]}-{len(list(self.folder.iterdir()))}.db"
        )
        self.driver = Driver(
            self.way, self.connections, planning(max_tokens=200), self._emulator.base_url, clock=self.clock, ledger=self._ledger
        )  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        self._emulator.stop()

    def books(self) -> Counter[str]:
        """What the ledger has, by role."""
        open_ledger(str(self._ledger), planning().ledger).flush()
        reader = open_reader(str(self._ledger))
        try:
            assert not verify(reader).findings
            costs: Counter[str] = Counter()
            for entry in reader.entries():
                if entry.kind == "outcome":
                    body: dict[str, Any] = msgspec.json.decode(entry.body)
                    costs[body["arm"]] += body["cost"]
            return +costs
        finally:
            reader.close()


@settings(max_examples=8)
@given(
    plan=plans(),
    seed=st.integers(0, 10**6),
    way=st.sampled_from(["sync", "async"]),
    concurrency=st.integers(1, 8),
    stops=st.lists(st.tuples(st.sampled_from(["budget", "deadline"]), st.floats(0, 1)), min_size=1, max_size=3),
    named=st.booleans(),
)
def test_whatever_stops_a_run_it_ends_as_if_nothing_had(  # noqa: PLR0917 - what is drawn
    connections: Connections,
    tmp_path_factory: pytest.TempPathFactory,
    plan: Plan,
    seed: int,
    way: str,
    concurrency: int,
    stops: list[tuple[Literal["budget", "deadline"], float]],
    named: bool,
) -> None:
    """A limit that is never passed, a deadline at any call: each life's costs are the ledger's, and the last one's results the same."""
    folder = tmp_path_factory.mktemp("any")
    with Bench(connections, folder, way, seed) as bench:
        whole = bench.driver.run(plan, concurrency=concurrency)
        assert whole.stopped is None
        assert not whole.of("pending")
        assert whole.costs == bench.books()
        calls, spent = bench.fleet.calls, whole.cost_nanousd
    with pytest.MonkeyPatch.context() as patched, Bench(connections, folder, way, seed) as bench:
        patched.setenv("CASCADE_HOME", str(folder / "home"))
        more: dict[str, Any] = {"run": "any"} if named else {}
        result: Result | None = None
        for kind, share in stops:
            first = bench.fleet.calls

            def on_request(call: int, at: int = first + 1 + int(share * calls)) -> None:
                if call == at:
                    bench.clock.now += 10_000.0

            bench.fleet.on_request = on_request if kind == "deadline" else lambda _: None
            limit = 2e-9 + (spent + 30_000_000) * share / 1e9  # the most that one call may cost is near that
            bound: dict[str, Any] = {"max_usd": limit} if kind == "budget" else {"deadline_s": 5_000.0}
            result = bench.driver.run(
                plan if result is None or named else result, concurrency=concurrency, **bound, **more
            )
            assert result.stopped in (None, kind)
            assert (result.stopped is None) == (not result.of("pending"))
            assert result.costs == bench.books()
            if kind == "budget" and stops[0][0] == "budget" and len(stops) == 1:
                assert result.cost_nanousd + result.maybe_nanousd <= limit * 1e9
        bench.fleet.on_request = lambda _: None
        assert result is not None
        end = bench.driver.run(plan if named else result, concurrency=concurrency, **more)
        assert outcome(end) == outcome(whole)
        assert end.costs == bench.books()
        assert bench.driver.run(plan if named else end, **more).costs == end.costs
