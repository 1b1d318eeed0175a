"""Replay, tabulate and savings over shards: DuckDB's and Dask's figures are those of one process, and nothing is counted twice."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace as changed

pytest.importorskip("duckdb")
pytest.importorskip("distributed")

from cascade.calibration.tables.parquet import tabulate_corpus
from cascade.cli.engines import EngineOptions, Engines
from cascade.cluster import Cluster, Done, Task, open_cluster
from cascade.cluster.dask import DaskCluster
from cascade.core.errors import ConfigurationError, CorpusError
from cascade.corpora import open_corpus, read_corpus, write_corpus
from cascade.corpora.shards import find_shards, write_shards
from cascade.corpora.shards.duckdb import Limits
from cascade.corpora.shards.identity import find_twice, has_shared_groups, refuse_repeated_ids
from cascade.corpora.splits import Split
from cascade.policy.loading import parse_policy
from cascade.replay.fields import fields_of
from cascade.replay.run import ReplayOptions, replay_corpus
from cascade.savings import Mix, mix_of_corpus, read_usage
from cascade.savings.mix_shards import mix_of_shards

from .scenes import counting_of, draw_corpus, draw_policy, write_both
from .test_counting_equality import plain
from .test_usage import shards_of

LIMITS = Limits(memory=256 << 20, threads=1)
POLICY = """
version: 1
name: three
ladder:
  - {rung: gpt-4.1-nano, model: gpt-4.1-nano, threshold: 0.9, max_tokens: 100}
  - {rung: gpt-4.1-mini, model: gpt-4.1-mini, threshold: 0.8, max_tokens: 100}
  - {rung: gpt-4.1, model: gpt-4.1, max_tokens: 100}
"""


DRAWN = next(found for number in range(9) if (found := draw_policy(number)) is not None)


@pytest.fixture(scope="module")
def cluster() -> Iterator[DaskCluster]:
    """Two processes of this machine, for all tests here."""
    opened = open_cluster(None, 2)
    yield opened
    opened.close()


def engines(name: str, cluster: Cluster, workers: int = 2, *, trust_ids: bool = False) -> Engines:
    """An engine that counts with a cluster which is there already, in as many tasks as it is said to have `workers`."""
    options = EngineOptions(name, None, workers if name == "dask" else None, "256MiB", trust_ids)
    return Engines(options, cluster)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A random corpus of 60 items, in one file and in four shards. Not to be changed."""
    manifest, items = draw_corpus(5, gaps=False)
    return write_both(tmp_path_factory.mktemp("drawn"), manifest, items, shards=4)


@pytest.fixture(scope="module")
def mix_of_one(real_corpus: Callable[[str], Path]) -> Mix:
    """The mix that one process measures."""
    with open_corpus(real_corpus("mmlupro-gpt41")) as reader:
        return mix_of_corpus(reader, parse_policy(POLICY))


@pytest.mark.parametrize("name", ["duckdb", "dask"])
def test_figures_of_50_shards_are_those_of_one_process(
    name: str, recorded_shards: Path, real_corpus: Callable[[str], Path], mix_of_one: Mix, cluster: DaskCluster
) -> None:
    """A replay with its intervals, a table of counts, and a mix for `savings`: every field, to the digit."""
    one, own = real_corpus("mmlupro-gpt41"), engines(name, cluster, trust_ids=True)
    policy = parse_policy(POLICY)
    assert own.mix(recorded_shards, policy) == mix_of_one
    assert own.used == name
    if name == "dask":  # DuckDB's are held by test_counting_equality.py
        options = ReplayOptions(policy)
        assert fields_of(own.replay(recorded_shards, options), 0) == fields_of(replay_corpus(one, options), 0)
        table = engines(name, cluster).tabulate(recorded_shards, None, Split())
        assert plain(table) == plain(tabulate_corpus(one))
    assert own.notes == []


@pytest.mark.parametrize("name", ["duckdb", "dask"])
def test_a_usage_export_in_shards_is_the_same_bill(name: str, tmp_path: Path, cluster: DaskCluster) -> None:
    """Whatever adds it up."""
    rows = [
        {
            "model": f"claude-{('haiku', 'opus')[n % 2]}-5-5",
            "request_id": f"r-{n}",
            "input_tokens": 97 * n,
            "output_tokens": n,
        }
        for n in range(60)
    ]
    folder = shards_of(tmp_path / "usage", rows, 6)
    assert engines(name, cluster).usage(folder, {}, required=True) == read_usage(folder)


class _Killing:
    """A cluster one of whose workers is killed once the first result is there."""

    def __init__(self, cluster: DaskCluster) -> None:
        self._cluster, self.killed = cluster, 0

    def run(self, tasks: Iterable[Task]) -> Iterator[Done]:
        for done in self._cluster.run(tasks):
            if not self.killed:
                self.killed = self._cluster.processes[0]
                os.kill(self.killed, signal.SIGKILL)
            yield done

    def stop(self) -> None:
        self._cluster.stop()

    def close(self) -> None:
        self._cluster.close()


def test_a_worker_killed_in_the_middle_changes_no_figure(drawn: tuple[Path, Path], cluster: DaskCluster) -> None:
    """What it had is counted again by another one, once."""
    killing = _Killing(cluster)
    table = engines("dask", killing, workers=4).tabulate(drawn[1], None, Split())
    assert killing.killed
    assert killing.killed not in cluster.processes
    assert plain(table) == plain(tabulate_corpus(drawn[0]))


@pytest.mark.parametrize(
    ("name", "what"),
    [("python", "replay"), ("duckdb", "replay"), ("duckdb", "mix"), ("dask", "tabulate"), ("dask", "replay")],
)
def test_a_damaged_shard_is_named_by_every_engine(
    name: str, what: str, drawn: tuple[Path, Path], tmp_path: Path, cluster: DaskCluster
) -> None:
    """And no figure of the others is given."""
    folder = tmp_path / "shards"
    shutil.copytree(drawn[1], folder)
    shard = sorted(folder.iterdir())[1]
    content = bytearray(shard.read_bytes())
    content[4:-2000] = bytes(byte ^ 0x5A for byte in content[4:-2000])
    shard.write_bytes(content)
    own = engines(name, cluster)
    calls: dict[str, Callable[[], object]] = {
        "replay": lambda: own.replay(folder, ReplayOptions()),
        "tabulate": lambda: own.tabulate(folder, None, Split()),
        "mix": lambda: own.mix(folder, DRAWN),
    }
    with pytest.raises(CorpusError) as told:
        calls[what]()
    assert told.value.where.startswith(str(shard))


@pytest.mark.parametrize("name", ["duckdb", "dask"])
def test_an_id_in_two_shards_is_named_with_both(
    name: str, drawn: tuple[Path, Path], tmp_path: Path, cluster: DaskCluster
) -> None:
    """Unless ids are trusted, and then a table is not certified."""
    corpus = read_corpus(drawn[1])
    last = changed(corpus.items[-1], id=corpus.items[3].id)
    size = -(-len(corpus.items) // 3)
    shards = write_shards(tmp_path / "shards", corpus.manifest, [*corpus.items[:-1], last], items_per_shard=size)
    own = engines(name, cluster)
    with pytest.raises(CorpusError) as told:
        own.tabulate(tmp_path / "shards", None, Split())
    row = len(corpus.items) - 2 * size
    place = f"{shards[2]}:row {row}: item {last.id!r}"
    assert str(told.value).startswith(f"{place}: the id occurs twice, first in {shards[0]}:row 4")
    trusting = Engines(EngineOptions("duckdb", trust_ids=True))
    assert trusting.tabulate(tmp_path / "shards", None, Split()).grouped


@pytest.mark.parametrize("seed", range(4))
def test_ids_and_groups_are_compared_as_one_process_does(tmp_path: Path, seed: int) -> None:
    """Groups with names, equal inputs, and messages whose keys are in another order; in any number of pieces."""
    manifest, items = draw_corpus(seed, gaps=False)
    if seed % 2:
        items = [item for item in items if item.group is None][: 3 + seed]
        items.append(changed(items[0], id="m1", input=[{"role": "user", "content": "only here"}]))
        if seed == 3:
            items.append(changed(items[0], id="m2", input=[{"content": "only here", "role": "user"}]))
    one, many = write_both(tmp_path, manifest, items, shards=3)
    shards = find_shards(many)
    for pieces in (1, 3):
        refuse_repeated_ids(shards, LIMITS, None, pieces)
        assert has_shared_groups(shards, LIMITS, None, pieces) == tabulate_corpus(one).grouped
    assert find_twice(shards, "id", LIMITS) is None


@pytest.mark.parametrize("seed", range(4))
def test_a_mix_of_shards_is_that_of_one_process(tmp_path: Path, seed: int) -> None:
    """Also where costs are not known, or only as usage, and with abstained requests."""
    manifest, items = draw_corpus(seed, gaps=False)
    if seed % 2:
        items = [
            changed(item, replies={rung: changed(reply, cost_usd=None) for rung, reply in item.replies.items()})
            for item in items
        ]
    policy = next(found for number in range(seed, 99) if (found := draw_policy(number)) is not None)
    one, many = write_both(tmp_path, manifest, items, shards=2)

    def told(read: Callable[[], object]) -> object:
        try:
            return read()
        except CorpusError as error:
            return type(error), error.item

    def of_one() -> object:
        with open_corpus(one) as reader:
            return mix_of_corpus(reader, policy)

    expected = told(of_one)
    assert told(lambda: mix_of_shards(replace(counting_of(many), policy=policy))) == expected


VOTES: list[tuple[ReplayOptions, str]] = [
    (ReplayOptions(exact=True), "--exact-engine"),
    (ReplayOptions(skip_bad=True), "--skip-bad"),
    (ReplayOptions(against=DRAWN), "--against"),
]


@pytest.mark.parametrize(("options", "key"), VOTES, ids=[key for _, key in VOTES])
def test_what_an_engine_cannot_decide_is_left_to_this_process_or_refused(
    options: ReplayOptions, key: str, drawn: tuple[Path, Path]
) -> None:
    """`auto` reads item by item and notes why; an engine that was asked for names the key."""
    auto = Engines(EngineOptions())
    replay = auto.replay(drawn[1], options)
    assert auto.used == "python"
    assert replay.notes[-1].startswith(f"read item by item, in this process: {key}: ")
    assert replay.figures == replay_corpus(drawn[0], options).figures
    with pytest.raises(ConfigurationError, match=f"^{key}: .*--engine python"):
        Engines(EngineOptions("duckdb")).replay(drawn[1], options)


def test_a_single_file_is_read_as_ever(drawn: tuple[Path, Path], tmp_path: Path) -> None:
    """Unless an engine is asked for, which counts Parquet."""
    auto = Engines(EngineOptions())
    figures = auto.replay(drawn[0], ReplayOptions()).figures
    assert auto.used is None
    corpus = read_corpus(drawn[0])
    write_corpus(tmp_path / "one.parquet", corpus.manifest, corpus.items)
    write_corpus(tmp_path / "one.jsonl", corpus.manifest, corpus.items)
    own = Engines(EngineOptions("duckdb"))
    assert own.replay(tmp_path / "one.parquet", ReplayOptions()).figures == figures
    assert own.used == "duckdb"
    with pytest.raises(ConfigurationError, match=r"--engine duckdb: .*one\.jsonl is not Parquet"):
        own.replay(tmp_path / "one.jsonl", ReplayOptions())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"engine": "duck"},
            "--engine duck: there is no such engine (did you mean 'duckdb'? auto, python, duckdb or dask)",
        ),
        ({"engine": "duckdb", "workers": 2}, "--workers: --engine duckdb has no cluster (leave one of the two out)"),
        (
            {"engine": "python", "scheduler": "tcp://x:1"},
            "--scheduler: --engine python has no cluster (leave one of the two out)",
        ),
        ({"memory": "much"}, "--memory much: is not a size (give e.g. 512MiB or 2GiB)"),
    ],
)
def test_arguments_that_cannot_be_are_refused(given: dict[str, Any], said: str) -> None:
    """In one line."""
    with pytest.raises(ConfigurationError) as told:
        Engines(EngineOptions(**given))
    assert str(told.value) == said


@pytest.mark.parametrize(("text", "size"), [("1GiB", 1 << 30), ("512 MiB", 512 << 20), ("1.5gb", 1_500_000_000)])
def test_sizes_are_read_with_their_unit(text: str, size: int) -> None:
    """Powers of 1024 with an i, of 1000 without."""
    assert EngineOptions(memory=text).memory_bytes == size
