"""The servers that other tests lean on."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest
import redis

from tests.servers import PostgresServer, RedisServer


def test_a_postgres_that_was_killed_comes_back_with_what_it_had(make_postgres: Callable[[], PostgresServer]) -> None:
    """Killed with a connection open, it starts again where it was; nobody is there in between."""
    server = make_postgres()
    address = server.database()
    with psycopg.connect(address) as connection:
        connection.execute("CREATE TABLE kept (n int)")
        connection.commit()
        server.kill()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(address, connect_timeout=5)
    server.start()
    with psycopg.connect(address) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)
    server.stop()


@pytest.mark.parametrize(("options", "kept"), [((), None), (("--appendonly", "yes", "--appendfsync", "always"), b"1")])
def test_a_redis_that_was_killed_comes_back(
    make_redis: Callable[..., RedisServer], options: tuple[str, ...], kept: bytes | None
) -> None:
    """Empty, or with what it had where it was told to keep it."""
    server = make_redis(*options)
    with redis.Redis.from_url(server.url) as client:
        client.set("a", 1)
    server.kill()
    with redis.Redis.from_url(server.url) as client, pytest.raises(redis.ConnectionError):
        client.ping()
    server.start()
    with redis.Redis.from_url(server.url) as client:
        assert client.get("a") == kept


def test_what_ci_requires_is_not_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the program the test is skipped, and says so; where the run requires it, it fails."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CASCADE_TESTS_REQUIRE", "postgres")
    with pytest.raises(pytest.skip.Exception, match="redis-server is not installed"):
        RedisServer()
    monkeypatch.setenv("CASCADE_TESTS_REQUIRE", "redis,postgres")
    with pytest.raises(pytest.fail.Exception, match="redis-server is not installed"):
        RedisServer()
