"""A cluster of processes: each task's result comes once, whatever becomes of the workers."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cascade.cluster import Task, TaskFailed, open_cluster
from cascade.cluster.dask import DaskCluster
from cascade.cluster.worker import perform
from cascade.core.errors import ConfigurationError, CorpusError
from tests.cluster.work import die_once, fail, pid, square, until_stopped

pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def cluster() -> Iterator[DaskCluster]:
    """Two processes for all tests here."""
    opened = open_cluster(None, 2)
    yield opened
    opened.close()


def test_each_tasks_result_comes_once(cluster: DaskCluster) -> None:
    """More tasks than are handed out at a time; they are taken as there is room."""
    taken = list[int]()

    def tasks() -> Iterator[Task]:
        for number in range(30):
            taken.append(number)
            yield Task(f"n{number}", square, (number,))

    results = cluster.run(tasks())
    first = next(results)
    assert len(taken) <= 5
    found = [first, *results]
    assert {done.name: done.result for done in found} == {f"n{number}": number * number for number in range(30)}
    assert len(found) == 30


def test_they_run_in_other_processes(cluster: DaskCluster) -> None:
    """In those that the cluster tells."""
    pids = {done.result for done in cluster.run(Task(f"n{number}", pid, (number,)) for number in range(8))}
    assert pids <= set(cluster.processes)
    assert os.getpid() not in pids


def test_an_error_of_a_task_is_raised_as_it_is(cluster: DaskCluster) -> None:
    """Not only its text: what it carries too. The cluster is as good as before."""
    with pytest.raises(CorpusError) as caught:
        list(cluster.run([Task("t", fail)]))
    assert str(caught.value) == "shard-3.parquet: item 'i-7': is damaged (restore it)"
    assert (caught.value.where, caught.value.item, caught.value.hint) == ("shard-3.parquet", "i-7", "restore it")
    assert [done.result for done in cluster.run([Task("t", square, (3,))])] == [9]


def test_a_dead_workers_task_is_run_again(cluster: DaskCluster, tmp_path: Path) -> None:
    """Killed with -9 twice; the other tasks come too, each once."""
    path = tmp_path / "begun"
    tasks = [Task("dies", die_once, (str(path), 2)), *(Task(f"n{number}", square, (number,)) for number in range(6))]
    found = {done.name: done.result for done in cluster.run(tasks)}
    assert found == {"dies": 3, **{f"n{number}": number * number for number in range(6)}}


def test_a_task_that_kills_its_workers_is_given_up(cluster: DaskCluster, tmp_path: Path) -> None:
    """By its name, with what to do."""
    with pytest.raises(TaskFailed, match=r"deadly: 4 workers died with this task \(look at what ended them"):
        list(cluster.run([Task("deadly", die_once, (str(tmp_path / "begun"), 100))]))
    assert [done.result for done in cluster.run([Task("t", square, (3,))])] == [9]


def test_running_tasks_can_be_stopped(tmp_path: Path) -> None:
    """Those that run come to an end and are told; those that wait are never begun; nothing is left behind."""
    cluster = open_cluster(None, 1)
    path = tmp_path / "begun"

    def stop() -> None:
        while not path.exists():
            threading.Event().wait(0.01)
        cluster.stop()

    stopping = threading.Thread(target=stop)
    stopping.start()
    found = list(cluster.run([Task("runs", until_stopped, (str(path),)), Task("waits", square, (1,))]))
    stopping.join()
    folder, processes = cluster.folder, cluster.processes
    cluster.close()
    cluster.close()
    assert [(done.name, done.result) for done in found] == [("runs", "stopped")]
    assert folder is not None
    assert not folder.exists()
    assert not any(Path(f"/proc/{one}/exe").exists() for one in processes)


def test_a_given_scheduler_is_used_and_outlives_the_client(cluster: DaskCluster) -> None:
    """The local cluster's own scheduler serves as one that somebody else has started."""
    other = open_cluster(cluster.address, 2)
    assert [done.result for done in other.run([Task("t", square, (3,))])] == [9]
    assert other.folder is None
    other.close()
    assert [done.result for done in cluster.run([Task("t", square, (4,))])] == [16]


def test_a_scheduler_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to do, in a line."""
    monkeypatch.setattr("cascade.cluster.dask._CONNECT_S", 0.5)
    with pytest.raises(
        ConfigurationError, match=r"^--scheduler tcp://127\.0\.0\.1:9: cannot be reached: .*dask scheduler"
    ):
        open_cluster("tcp://127.0.0.1:9", 2)
    with pytest.raises(ConfigurationError, match=r"^--scheduler nowhere://x: cannot be reached: "):
        open_cluster("nowhere://x", 2)


def test_other_versions_are_refused() -> None:
    """A worker with another cascade, or another Python, might write what nobody here reads."""
    with pytest.raises(
        ConfigurationError, match=r"the cluster has cascade 0\.0\.1 with Python 3\.11, and this process"
    ):
        perform("run", ("0.0.2", "3.11"), b"never read", here=("0.0.1", "3.11"))
