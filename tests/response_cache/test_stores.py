"""The stores: bounded, private, and down rather than in the way."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from cascade.core.errors import ConfigurationError
from cascade.response_cache import AnswerCache, check_cache, erase_answers, open_cache
from cascade.response_cache.cache import RETRY_S
from cascade.response_cache.redis_store import RedisAnswers
from cascade.response_cache.sqlite_store import SqliteAnswers
from cascade.response_cache.stores import AnswerStore, Stored, StoreDown
from tests.live.conftest import Clock, ladder
from tests.response_cache.conftest import PATIENT_S
from tests.servers import RedisServer

NOW = 1_000_000.0


def stored(number: int, *, until: float = NOW + 10, request: str = "") -> Stored:
    """An answer under a key of its number."""
    return Stored(b"%032d" % number, b"answer %d" % number, request or f"casc_{number}", until)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a store's file is to be."""
    return tmp_path / "folder" / "answers.sqlite3"


@pytest.fixture(params=["sqlite", "redis"])
def store(request: pytest.FixtureRequest, path: Path) -> Iterator[AnswerStore]:
    """Both stores."""
    if request.param == "sqlite":
        made: AnswerStore = SqliteAnswers(path, 1000)
    else:
        server: RedisServer = request.getfixturevalue("redis_server")
        made = RedisAnswers(server.url)
    yield made
    made.close()


def test_a_store_gives_back_what_was_put_last(store: AnswerStore) -> None:
    """Under its key alone; after a close it connects again."""
    store.put(stored(1), NOW)
    store.put(Stored(stored(1).key, b"newer", "casc_9", NOW + 10), NOW)
    store.put(stored(2), NOW)
    assert (store.get(stored(1).key, NOW), store.get(stored(2).key, NOW)) == (b"newer", b"answer 2")
    assert store.get(stored(3).key, NOW) is None
    store.close()
    assert store.get(stored(2).key, NOW) == b"answer 2"
    store.ping()


def test_a_request_can_be_erased(store: AnswerStore) -> None:
    """Its answer goes, the others stay."""
    for number in range(11, 14):
        store.put(stored(number), NOW)
    assert store.erase(["casc_12", "casc_unknown"]) == 1
    assert [store.get(stored(number).key, NOW) for number in range(11, 14)] == [b"answer 11", None, b"answer 13"]
    assert store.erase([]) == 0


def test_an_answer_expires_by_the_clock_that_it_is_given(path: Path) -> None:
    """To the second, and its row goes with the next write."""
    store = SqliteAnswers(path, 1000)
    store.put(stored(1, until=NOW + 5), NOW)
    assert store.get(stored(1).key, NOW + 4.9) is not None
    assert store.get(stored(1).key, NOW + 5) is None
    store.put(stored(2, until=NOW + 50), NOW + 6)
    store.close()
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("SELECT key FROM answers").fetchall() == [(stored(2).key,)]


def test_the_file_is_bounded(path: Path) -> None:
    """At most so many answers at any time: those that expire first go; and the count stays true."""
    store = SqliteAnswers(path, 5)
    for number in range(40):
        store.put(stored(number, until=NOW + number), NOW - 100)
        store.put(stored(number, until=NOW + number), NOW - 100)  # again: it is not counted twice
    kept = [number for number in range(40) if store.get(stored(number).key, NOW - 100) is not None]
    assert kept == list(range(35, 40))
    store.close()
    smaller = SqliteAnswers(path, 2)  # the maximum was lowered
    smaller.put(stored(50, until=NOW + 50), NOW - 100)
    smaller.close()
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("SELECT count(*), (SELECT entries FROM sizes) FROM answers").fetchone() == (2, 2)


def test_the_file_is_its_owners_alone(path: Path) -> None:
    """Whatever the umask: the file, its log, and the folder that is made for it."""
    before = os.umask(0)
    try:
        store = SqliteAnswers(path, 5)
        store.put(stored(1), NOW)
        modes = {one.name: stat.S_IMODE(one.stat().st_mode) for one in path.parent.iterdir()}
        store.close()
    finally:
        os.umask(before)
    assert set(modes.values()) == {0o600}
    assert path.name in modes
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def newer(path: Path) -> None:
    """A file of a later version."""
    SqliteAnswers(path, 5).ping()
    with closing(sqlite3.connect(path)) as file:
        file.execute("PRAGMA user_version = 99")


def foreign(path: Path) -> None:
    """Another program's database."""
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as file:
        file.execute("CREATE TABLE theirs (id)")


def damaged(path: Path) -> None:
    """No database at all."""
    path.parent.mkdir()
    path.write_bytes(b"not a database, but long enough to be taken for one " * 100)


def folder(path: Path) -> None:
    """A folder in its place."""
    path.mkdir(parents=True)


@pytest.mark.parametrize("spoil", [newer, foreign, damaged, folder])
def test_a_file_that_cannot_be_used_is_left_alone(path: Path, spoil: Callable[[Path], None]) -> None:
    """It says so, whatever is asked, and nothing of the file changes."""
    spoil(path)
    before = None if path.is_dir() else path.read_bytes()
    store = SqliteAnswers(path, 5)
    for use in (
        lambda: store.get(stored(1).key, NOW),
        lambda: store.put(stored(1), NOW),
        lambda: store.erase(["casc_1"]),
        store.ping,
    ):
        with pytest.raises(StoreDown):
            use()
    assert before is None or path.read_bytes() == before
    assert check_cache(str(path))[1]


def test_a_locked_file_is_given_up_and_used_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process holds the lock: StoreDown after a bounded wait, and no error afterwards."""
    monkeypatch.setattr("cascade.response_cache.sqlite_store._BUSY_S", 0.01)
    store = SqliteAnswers(path, 5)
    store.ping()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreDown, match="SQLITE_BUSY"):
            store.put(stored(1), NOW)
    store.put(stored(1), NOW)
    assert store.get(stored(1).key, NOW) == b"answer 1"
    store.close()


def test_a_store_in_redis_that_is_gone_or_hangs_is_down(make_redis: Callable[..., RedisServer]) -> None:
    """Within its own time-out, and it is used again once it is back."""
    server = make_redis()
    store = RedisAnswers(server.url)
    store.put(stored(1), NOW)
    server.pause()
    with pytest.raises(StoreDown, match="TimeoutError"):
        store.get(stored(1).key, NOW)
    server.resume()
    server.kill()
    with pytest.raises(StoreDown, match="ConnectionError"):
        store.put(stored(1), NOW)
    server.start()
    store.put(stored(1), NOW)
    assert store.get(stored(1).key, NOW) == b"answer 1"
    store.close()


class Hanging:
    """A store that hangs until it is let go, like a disk that is gone."""

    where = "a disk"

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.asked = 0

    def get(self, key: bytes, now: float) -> bytes | None:
        """Hang."""
        self.asked += 1
        self.let_go.wait(PATIENT_S)
        return b"late"

    def put(self, stored: Stored, now: float) -> None:
        """Hang."""
        self.get(stored.key, now)

    def erase(self, requests: object) -> int:
        """Nothing is here."""
        return 0

    def ping(self) -> None:
        """It answers."""

    def close(self) -> None:
        """Nothing is open."""

    def renew(self) -> None:
        """Nothing is open."""


def done(job: Future[Any] | None) -> Any:
    """A job's result."""
    assert job is not None
    return job.result(PATIENT_S)


def test_a_store_that_hangs_is_asked_once_and_told_once() -> None:
    """Nobody asks it again while it hangs; once it is let go and the time has passed, the next one does, and that is told as well."""
    store, clock = Hanging(), Clock()
    cache = AnswerCache(store, "p", clock=clock, wall=lambda: NOW)
    with capture_logs() as logs:
        job = cache.find(b"key")
        assert job is not None
        cache.give_up(job)
        clock.now += 10 * RETRY_S
        assert cache.find(b"key") is None
        assert cache.keep(stored(1)) is None
        store.let_go.set()
        done(job)
        clock.now += RETRY_S
        assert done(cache.find(b"key")) == b"late"
        assert done(cache.find(b"key")) == b"late"
    assert store.asked == 3
    assert [one["event"] for one in logs] == ["response_cache_down", "response_cache_back"]
    assert logs[1]["missed"] == cache.down == 3


def test_after_a_failure_one_request_tries_again(path: Path) -> None:
    """The others do not wait meanwhile."""
    foreign(path)
    clock = Clock()
    cache = AnswerCache(SqliteAnswers(path, 5), "p", clock=clock, wall=lambda: NOW)
    with capture_logs() as logs:
        assert done(cache.find(b"key")) is None
        assert cache.find(b"key") is None
        clock.now += RETRY_S
        assert done(cache.find(b"key")) is None
        assert cache.find(b"key") is None
        path.unlink()
        clock.now += RETRY_S
        assert done(cache.keep(stored(1))) is None
        assert done(cache.find(stored(1).key)) == b"answer 1"
    assert [one["event"] for one in logs] == ["response_cache_down", "response_cache_back"]
    cache.close()


def test_a_forked_child_makes_its_own_connection(path: Path) -> None:
    """The parent's thread and connection stay with the parent: both go on."""
    cache = AnswerCache(SqliteAnswers(path, 5), "p", clock=Clock(), wall=lambda: NOW)
    done(cache.keep(stored(1)))
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if done(cache.find(stored(1).key)) == b"answer 1" and done(cache.keep(stored(2))) is None else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert done(cache.find(stored(2).key)) == b"answer 2"
    cache.close()


def test_an_address_names_a_file_or_a_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By the argument, then CASCADE_CACHE, then a file under CASCADE_HOME; any other is an error without its password."""
    clocks: dict[str, Any] = {"clock": Clock(), "wall": lambda: NOW}
    policy = ladder(cache={})
    assert open_cache("redis://localhost:1/0", ladder(), **clocks) is None

    def where(address: str | None) -> str:
        cache = open_cache(address, policy, **clocks)
        assert cache is not None
        return cache.where

    monkeypatch.setenv("CASCADE_HOME", str(tmp_path))
    assert where(None) == str(tmp_path / "response_cache.sqlite3")
    monkeypatch.setenv("CASCADE_CACHE", "redis://user:secret@localhost:1/0")
    assert where(None) == "redis://localhost:1/0"
    assert where("~/a.db") == str(Path("~/a.db").expanduser())
    with pytest.raises(ConfigurationError, match=r"cache: postgresql://… is not a response cache") as error:
        where("postgresql://user:secret@localhost/db")
    assert "secret" not in str(error.value)
    assert list(tmp_path.iterdir()) == []  # nothing is made before it is used


def test_erasing_makes_no_file_and_says_where_it_cannot(path: Path) -> None:
    """A store that was never used has nothing to erase."""
    assert erase_answers(str(path), ["casc_1"]) == (str(path), 0)
    assert not path.exists()
    foreign(path)
    assert erase_answers(str(path), ["casc_1"]) == (str(path), None)
