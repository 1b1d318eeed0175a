"""`cascade batch submit` and `resume`."""

from __future__ import annotations

import gc
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar

from cascade.batch.calls import BatchLimits
from cascade.batch.driver import Progress
from cascade.batch.items import ItemStore
from cascade.batch.runs import find_run
from cascade.cli.batch.inputs import batch_inputs
from cascade.cli.batch.status import exit_code, fields, print_status
from cascade.cli.output import pairs, print_json, stderr
from cascade.core.errors import CascadeError, ConfigurationError
from cascade.engine import Cascade, default_policy
from cascade.engine.batching import BatchRun
from cascade.policy.loading import load_policy

__all__ = ["SubmitOptions", "collect_rarely", "run_resume", "run_submit"]

_INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class SubmitOptions:
    """The command's own arguments."""

    inputs: Path
    policy: str | None
    max_usd: float | None
    run: str | None
    maps: tuple[str, ...] = ()


def run_submit(options: SubmitOptions, wait: bool, poll_s: float, ledger: str | None, *, as_json: bool) -> int:
    """Begin a run and send its first round; with `wait`, drive it to its end. Exit code 4 or 5 if inputs have no answer."""
    if options.max_usd is not None and not 0 < options.max_usd < float("inf"):
        raise ConfigurationError(
            f"--max-usd: {options.max_usd} must be an amount in USD above 0 (as in --max-usd 2.50)"
        )
    policy = load_policy(options.policy or default_policy())
    with Cascade(policy, ledger=ledger) as driver, _progress() as tell:
        run = driver.batch(
            batch_inputs(options.inputs, pairs(options.maps, "--map")), run=options.run, max_usd=options.max_usd, limits=BatchLimits(poll_s=poll_s),
            on_progress=tell,
        )  # fmt: skip
        stderr.print(f"batch run {run.id}: {run.counts.items} inputs")
        return _drive(run, run.drive if wait else run.send, as_json=as_json)


def run_resume(name: str, wait: bool, poll_s: float, ledger: str | None, *, as_json: bool) -> int:
    """Go on with a run, under the policy that it was begun with."""
    found = find_run(name)
    store = ItemStore(found.folder, read_only=True)
    try:
        policy = found.settings(store).policy
    finally:
        store.close()
    with Cascade(policy, ledger=ledger) as driver, _progress() as tell:
        run = driver.batch(run=name, limits=BatchLimits(poll_s=poll_s), on_progress=tell)
        return _drive(run, run.drive if wait else run.look, as_json=as_json)


def collect_rarely() -> None:
    """Have the process's garbage collector look less often, and not at what is loaded already: it takes a third of a long run's time.

    Nearly nothing of a run is in a reference cycle. The climbs that wait are kept, and would be looked through again and again.
    """
    gc.freeze()
    gc.set_threshold(50_000, 10, 10)


def _drive(run: BatchRun[Any], drive: Callable[[], object], *, as_json: bool) -> int:
    go_on = f"cascade batch resume {run.id}"
    collect_rarely()
    try:
        drive()
    except KeyboardInterrupt:
        stderr.print(f"cascade: stopped; what was sent is not lost and goes on without this process: {go_on} --wait")
        return _INTERRUPTED
    except CascadeError as error:
        error.add_note(f"what was sent is not lost: {go_on} --wait")
        raise
    counts = run.counts
    is_done = counts.done == counts.items
    if as_json:
        print_json(fields(run.id, counts))
    else:
        print_status(run.id, counts)
    if not is_done:
        stderr.print(f"the batches go on without this process: {go_on}")
        return 0
    return exit_code(counts)


@contextmanager
def _progress() -> Generator[Callable[[Progress], None]]:
    """A bar on stderr, if that is a terminal."""
    with Bar(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), console=stderr, transient=True,
        disable=not stderr.is_terminal,
    ) as bar:  # fmt: skip
        shown = bar.add_task("done", total=None)

        def tell(progress: Progress) -> None:
            bar.update(shown, total=progress.items, completed=progress.done)

        yield tell
