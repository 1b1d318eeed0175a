"""`cascade doctor --deep` on real parts: what is well, what is not and what to do; and it leaves everything as it was."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from cascade.cli.doctor import Finding, run_doctor
from cascade.cli.doctor.deep import deep_findings
from cascade.emulator import Emulator
from cascade.gateway.keys.ring import KeyRing
from cascade.ledger.gateway import GatewayTables
from cascade.ledger.inspecting import LedgerStatus, inspect_ledger
from cascade.policy.loading import load_policy
from tests.gateway.conftest import emulate, endpoint, sdk, stack, start
from tests.gateway.serving import Gateway, policy_file
from tests.servers import PgBouncer, PostgresServer, RedisServer

__all__ = ["emulate", "endpoint", "sdk", "stack", "start"]


@pytest.fixture
def looked(tmp_path: Path) -> Callable[..., dict[str, Finding]]:
    """Look at everything; the findings by what they are about."""

    def look(gateway: str | None = None, key: str | None = None, more: str = "") -> dict[str, Finding]:
        path = policy_file(tmp_path, "deep")
        path.write_text(path.read_text() + more)
        return {one.what: one for one in deep_findings(load_policy(path), gateway, key)}

    return look


def rows_of(address: str) -> list[tuple[Any, ...]]:
    """Everything that a probe might leave in a ledger."""
    with psycopg.connect(address) as connection:
        tables = connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'cascade_ledger' ORDER BY 1"
        ).fetchall()
        counted = (connection.execute(f"SELECT count(*) FROM cascade_ledger.{name}").fetchone() for (name,) in tables)  # type: ignore[arg-type]
        return [(name, count) for (name,), count in zip(tables, counted, strict=True)]


def test_a_ledger_on_a_file_is_written_read_and_left_alone(
    looked: Callable[..., dict[str, Finding]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is not there is not made; one that is something else is named."""
    path = tmp_path / "books" / "ledger.db"
    monkeypatch.setenv("CASCADE_LEDGER", str(path))
    assert looked()["ledger"].found == f"{path}: made with the first request"
    assert not path.exists()
    GatewayTables(str(path)).put_key("k", 1.0, "{}")
    found = looked()
    assert (found["ledger"].state, found["ledger's disk"].state) == ("ok", "ok")
    assert "written, read and rolled back" in found["ledger"].found
    assert GatewayTables(str(path)).keys() == ("{}",)
    path.write_bytes(b"no database " * 1000)
    assert looked()["ledger"].state == "missing"


def test_a_ledger_in_postgres_tells_of_its_clock_its_connections_and_its_size(
    looked: Callable[..., dict[str, Finding]], postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is left behind in any table; a clock that is off, a user without rights and a schema that is too new are named."""
    address = postgres_server.database()
    monkeypatch.setenv("CASCADE_LEDGER", address)
    assert looked()["ledger"].found.endswith("made with the first request")
    GatewayTables(address).put_key("k", 1.0, "{}")
    before = rows_of(address)
    found = looked()
    told = ("ledger", "ledger's clock", "ledger's connections", "ledger's size")
    assert [found[what].state for what in told] == ["ok"] * 4
    assert "not-asked-for" not in repr(found)  # the password
    assert rows_of(address) == before
    late = inspect_ledger(address, wall=lambda: 0.0)
    assert late.clock_skew_s is not None
    assert late.clock_skew_s > 1e9
    assert not late.is_pooled
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute("CREATE ROLE weak LOGIN PASSWORD 'not-asked-for'")
        monkeypatch.setenv("CASCADE_LEDGER", address.replace("//postgres:", "//weak:"))
        assert "grant the user the rights on its schema" in looked()["ledger"].found
        connection.execute("DROP ROLE weak")
        monkeypatch.setenv("CASCADE_LEDGER", address)
        connection.execute("UPDATE cascade_ledger.version SET made = 99")
        newer = looked()["ledger"]
    assert (newer.state, newer.to_do) == ("missing", "upgrade this one, or name another database")


def test_a_pooler_before_the_ledger_is_seen(
    looked: Callable[..., dict[str, Finding]], postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In transaction mode, which the probe works with; a replica that is none is named."""
    address = postgres_server.database()
    GatewayTables(address).put_key("k", 1.0, "{}")
    with PgBouncer(postgres_server) as pooler:
        monkeypatch.setenv("CASCADE_LEDGER", pooler.through(address))
        monkeypatch.setenv("CASCADE_LEDGER_REPLICA", address)
        found = looked()
    assert (found["ledger"].state, found["ledger's partitions"].found) == ("ok", "none yet: the first row makes them")
    assert found["ledger's connections"].found.endswith("through a pooler")
    assert found["ledger's replica"].found.endswith("is no replica")


def test_a_missing_month_is_named() -> None:
    """This one, or the next; a ledger that is not partitioned has none to miss."""
    at = 1_796_000_000.0  # in November 2026
    status = LedgerStatus("x", True, True, months=("2026-11", "2026-12"))
    assert status.misses_month(at) is None
    assert LedgerStatus("x", True, True, months=("2026-11",)).misses_month(at) == "2026-12"
    assert LedgerStatus("x", True, True, months=("2026-12",)).misses_month(at) == "2026-11"
    assert LedgerStatus("x", True, True).misses_month(at) is None


def test_a_redis_that_forgets_or_evicts_is_named(
    looked: Callable[..., dict[str, Finding]],
    make_redis: Callable[..., RedisServer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both lose money's counters; and one that is gone is missing."""
    good = make_redis("--appendonly", "yes", "--maxmemory", "64mb", "--maxmemory-policy", "noeviction")
    monkeypatch.setenv("CASCADE_STATE", good.url)
    found = looked()
    about = ("state", "state's memory", "state's persistence", "state's clock")
    assert [found[what].state for what in about] == ["ok"] * 4
    assert "all 5 scripts load" in found["state"].found
    good.stop()
    assert looked()["state"].state == "missing"
    bad = make_redis("--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru")
    monkeypatch.setenv("CASCADE_STATE", bad.url)
    found = looked()
    assert [found[what].state for what in about] == ["ok", "warning", "warning", "ok"]
    assert found["state's memory"].to_do == "CONFIG SET maxmemory-policy noeviction"


def test_a_home_that_others_may_read_is_named(
    looked: Callable[..., dict[str, Finding]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the command that closes it."""
    folder = tmp_path / "home"
    monkeypatch.setenv("CASCADE_HOME", str(folder))
    assert looked()["home"].state == "ok"
    folder.mkdir(mode=0o755)
    (folder / "mode").write_text("")
    assert looked()["home"].to_do == f"chmod -R go= {folder}"
    folder.chmod(0o700)
    assert looked()["home"].found == f"{folder}: closed to other users"


def test_a_home_or_a_ledger_that_cannot_be_looked_into_is_a_finding(
    looked: Callable[..., dict[str, Finding]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link to nothing in it is none; what is no folder, and a path that the system refuses, are missing."""
    folder, file = tmp_path / "home", tmp_path / "file"
    folder.mkdir(mode=0o700)
    (folder / "gone").symlink_to(folder / "nothing")
    file.write_text("")
    monkeypatch.setenv("CASCADE_HOME", str(folder))
    assert looked()["home"].found == f"{folder}: closed to other users"
    monkeypatch.setenv("CASCADE_HOME", str(file))
    assert (looked()["home"].state, looked()["home"].found) == ("missing", f"{file}: Not a directory")
    monkeypatch.setenv("CASCADE_LEDGER", str(tmp_path / ("x" * 300) / "ledger.db"))
    assert (looked()["ledger"].state, "permissions of its folder" in looked()["ledger"].found) == ("missing", True)


def test_a_gateway_is_looked_at_as_its_callers_and_prometheus_see_it(
    looked: Callable[..., dict[str, Finding]],
    start: Callable[..., Gateway],
    emulate: Callable[..., Emulator],
    tmp_path: Path,
) -> None:
    """Without a key little is told; with a wrong one, that it is wrong."""
    emulator = emulate(keep_requests=100)
    gateway = start(emulator.base_url)
    found = looked(gateway.base_url)
    states = {one.what: one.state for one in found.values() if one.what.startswith("gateway")}
    assert states == dict.fromkeys(
        (
            "gateway", "gateway's access", "gateway's ledger", "gateway's state", "gateway's policy small", "gateway's models",
            "gateway's metrics",
        ), "ok",
    )  # fmt: skip
    token, _ = KeyRing(GatewayTables(str(tmp_path / "ledger.db"))).create("me")
    locked = start(emulator.base_url)
    assert looked(locked.base_url)["gateway's parts"].to_do == "put one of its keys into CASCADE_GATEWAY_KEY"
    assert looked(locked.base_url, "wrong")["gateway's key"].state == "missing"
    assert looked(locked.base_url, token)["gateway's metrics"].state == "ok"
    assert {one.path.partition("?")[0] for one in emulator.requests} == {"/v1/models"}  # no model was asked


def test_a_gateway_that_is_gone_or_is_none(
    looked: Callable[..., dict[str, Finding]], start: Callable[..., Gateway], emulate: Callable[..., Emulator]
) -> None:
    """Each in one line; so is an address that is none."""
    gateway = start(emulate().base_url, state="redis://127.0.0.1:1/0")
    found = looked(gateway.base_url)["gateway's state"]
    assert (found.state, found.to_do) == (
        "missing",
        "the gateway cannot reach its state: see the address that it was given",
    )
    gateway.stop()
    assert looked(gateway.base_url)["gateway"].state == "missing"
    assert "no gateway of cascade" in looked(emulate().base_url)["gateway"].found
    wrong = (
        "localhost",
        "127.0.0.1:8484",
        "http://127.0.0.1:x",
        "http://127.0.0.1:99999",
        "http://me:secret@127.0.0.1",
    )
    found_in = [looked(one)["gateway"] for one in wrong]
    assert {(one.state, one.to_do) for one in found_in} == {("missing", "correct --gateway")}
    assert "secret" not in repr(found_in)


def test_the_command_prints_it_as_json_and_ends_with_its_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """2 where something is missing."""
    monkeypatch.setenv("CASCADE_STATE", "redis://127.0.0.1:1/0")
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    assert run_doctor(str(policy_file(tmp_path)), as_json=True, deep=True) == 2
    said = json.loads(capsys.readouterr().out)
    states = {one["what"]: one["state"] for one in said["findings"]}
    assert (said["ok"], states["state"], states["ledger"], states["time zone"]) == (False, "missing", "ok", "ok")
