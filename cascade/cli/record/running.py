"""A recording under way: what is said before it, its progress line, and its workers where it has several."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cascade.cli.output import stderr, usd
from cascade.cli.stopping import stop_on_signals
from cascade.cluster import Cluster, open_cluster
from cascade.recording.inputs import Inputs
from cascade.recording.progress import RecordingProgress, Report, Settings
from cascade.recording.recorder import Recorder
from cascade.recording.workers import RECORDING_MODULES, Spreading

__all__ = ["progress_bar", "record_spread", "say_what_follows"]


def progress_bar(items: int) -> tuple[Progress, Callable[[RecordingProgress], None]]:
    """A line that shows the progress, on a terminal, and what moves it on."""
    bar = Progress(
        TextColumn("recording"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[money]} USD"),
        TimeRemainingColumn(), console=stderr, transient=True, disable=not stderr.is_terminal,
    )  # fmt: skip
    task = bar.add_task("record", total=items, money="0")

    def show_progress(progress: RecordingProgress) -> None:
        bar.update(task, completed=progress.complete, money=usd(progress.spent))

    return bar, show_progress


def say_what_follows(recorder: Recorder, inputs: Inputs, *, is_known: bool = False) -> None:
    """Say what the user should know before calls are paid. `is_known`: the replies are those of a ledger."""
    if recorder.grader is None:
        stderr.print(
            "cascade: no grader, so scores will be null; the same command with --grader grades them later without further calls"
        )
    elif not is_known and all(item.expected is None for item in inputs.items):
        stderr.print(
            "cascade: no input has an `expected` answer: answers are graded by agreement with the baseline's. If you know"
            " the right answers, give them as `expected` (--map expected=COLUMN)"
        )
    if recorder.samples and not is_known:
        counts = ", ".join(f"{rung} {count} times" for rung, count in recorder.samples.items())
        stderr.print(f"cascade: asks {counts} an item: {recorder.calls_left:,} calls to make, judgements aside")


async def record_spread(settings: Settings, inputs: Inputs, workers: int, scheduler: str | None) -> Report:
    """Record by the workers of a cluster. Raises as `Spreading` and `open_cluster` do."""
    bar, show_progress = progress_bar(len(inputs.items))
    spreading = Spreading(settings, inputs, workers, on_progress=show_progress)
    try:
        say_what_follows(spreading.before, inputs)
        cluster = await asyncio.to_thread(open_cluster, scheduler, workers, modules=RECORDING_MODULES)
        try:
            longest = settings.policy.deadline_s
            stop_on_signals(
                spreading,
                lambda name: (
                    f"no further call is made; waiting for the workers' calls in flight, at most {longest:g} s."
                    f" {name} again stops at once, and loses their replies"
                ),
            )
            with bar:
                await _spread(spreading, cluster)
                return await spreading.finish()
        finally:
            await asyncio.to_thread(cluster.close)
    finally:
        spreading.close()


async def _spread(spreading: Spreading, cluster: Cluster) -> None:
    """Have the workers record. Cancelled, it ends them at once: only then does the thread that waits for them end."""
    try:
        await asyncio.to_thread(spreading.spread, cluster)
    except asyncio.CancelledError:
        cluster.close()
        raise
