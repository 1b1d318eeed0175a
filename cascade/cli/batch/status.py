"""`cascade batch status`, and what the other commands say of a run."""

from __future__ import annotations

import random
import time
from typing import Any

from cascade.batch.items import Counts, ItemStore
from cascade.batch.runs import Run, find_run, list_runs
from cascade.batch.store import BatchView, views_of
from cascade.claude.batches import retrieve
from cascade.cli.output import print_json, stderr, stdout, table, usd
from cascade.core.errors import CascadeError
from cascade.providers import Providers

__all__ = ["exit_code", "fields", "print_status", "run_list", "run_status"]

_UPSTREAM, _BUDGET = 4, 5


def exit_code(counts: Counts) -> int:
    """5 if a budget refused inputs, 4 if other inputs failed."""
    failed = {kind for kind in counts.by_kind if kind not in ("answer", "abstained")}
    return _BUDGET if "BudgetExceeded" in failed else _UPSTREAM if failed else 0


def fields(run: str, counts: Counts) -> dict[str, Any]:
    """How far a run is, for --json."""
    return {
        "run": run, "items": counts.items, "done": counts.done, "finished": counts.done == counts.items,
        "cost_usd": counts.cost / 1e9, "ended": counts.by_kind, "shipped": counts.by_rung,
    }  # fmt: skip


def print_status(run: str, counts: Counts) -> None:
    """The same for people."""
    shipped = ", ".join(f"{rung} {count}" for rung, count in counts.by_rung.items())
    stdout.print(
        f"{run}: {counts.done} of {counts.items} inputs are done; {usd(counts.cost)} USD{shipped and f'; shipped by {shipped}'}"
    )
    for kind, count in counts.by_kind.items():
        if kind != "answer":
            stdout.print(f"  {kind}: {count}")
    if "BudgetExceeded" in counts.by_kind:
        stderr.print(
            f"a budget or --max-usd had no room for what these inputs may cost; `cascade batch results {run}` says which: submit"
            " them in a run of another name, with a higher limit"
        )


def run_status(name: str, *, as_json: bool) -> None:
    """One run, and its batches. The endpoint is asked for those under way; if it cannot be, what is stored is shown."""
    run = find_run(name)
    counts, views = _counts(run), _views(run)
    if as_json:
        print_json({**fields(name, counts), "batches": [view.fields for view in views]})
        return
    print_status(name, counts)
    if views:
        shown = table("round", "batch", "requests", "state", right=("round", "requests"))
        for view in views:
            shown.add_row(str(view.round), view.batch or "(not known yet)", str(view.calls), view.state)
        stdout.print(shown)
    if counts.done < counts.items:
        stderr.print(f"go on: cascade batch resume {name} [--wait]")


def run_list(*, as_json: bool) -> None:
    """All runs on this machine."""
    found = [(run, counts) for run in list_runs() if (counts := _counts(run)).items]
    if as_json:
        print_json([fields(run.id, counts) for run, counts in found])
        return
    if not found:
        stdout.print("no batch run")
        return
    shown = table("run", "inputs", "done", "USD", right=("inputs", "done", "USD"))
    for run, counts in found:
        shown.add_row(run.id, str(counts.items), str(counts.done), usd(counts.cost))
    stdout.print(shown)


def _counts(run: Run) -> Counts:
    store = ItemStore(run.folder, read_only=True)
    try:
        return store.counts()
    finally:
        store.close()


def _views(run: Run) -> list[BatchView]:
    """The run's batches, those under way as the endpoint describes them."""
    store = ItemStore(run.folder, read_only=True)
    try:
        retry = run.settings(store).policy.retry
    finally:
        store.close()
    providers = Providers(retry.model_copy(update={"attempts": 1}), clock=time.monotonic, chance=random.Random())  # noqa: S311 - jitter

    def state_of(view: BatchView) -> str:
        try:
            info = retrieve(
                providers.client_of(view.rung), view.batch or "", retry=retry.model_copy(update={"attempts": 1})
            )
        except CascadeError as problem:
            stderr.print(f"cascade: the endpoint cannot be asked: {problem}")
            return view.state
        return f"{info.status}, {info.processing} to do" if info.status != "ended" else "ended, not read yet"

    try:
        return views_of(run.folder, state_of)
    finally:
        providers.close()
