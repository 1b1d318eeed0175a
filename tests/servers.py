"""Real servers for the tests: redis-server, PostgreSQL and PgBouncer, each on a free port of the loopback, in a folder of its own.

    server = RedisServer()          made once (`start` is in it); `.url`, `.stop()`, `.start()`, `.kill()`, `.pause()`, `.resume()`
    server = PostgresServer()       the same; `.database()` makes a fresh database and gives its address
    server = PostgresReplica(of)    a hot standby of one; `.catch_up()` waits until it has all that the primary has
    server = PgBouncer(of)          a pooler in front of one, in transaction mode; `.through(address)` leads through it

A server keeps its port and its folder from one start to the next. Waiting is bounded, and ends when the server answers.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any, NoReturn, Self

import pytest

from cascade.ledger.postgres.schema import SCHEMA

__all__ = ["PgBouncer", "PostgresReplica", "PostgresServer", "RedisServer", "Server", "absent"]

_WAIT_S = 60.0  # a loaded machine is no failure
_PORTS_TRIED = 5


def absent(name: str, told: str) -> NoReturn:
    """Skip the test; where this run must have the server (`.ci/run` says so), fail it."""
    if name in os.environ.get("CASCADE_TESTS_REQUIRE", "").split(","):
        pytest.fail(f"{told}, and CASCADE_TESTS_REQUIRE names {name}", pytrace=False)
    pytest.skip(told)


def _free_port() -> int:
    with closing(socket.socket()) as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def _descendants(pid: int) -> list[int]:
    """A process and its children, the parent first; where there is no /proc, the process alone."""
    found = [pid]
    for one in found:
        with suppress(OSError):
            for task in Path(f"/proc/{one}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
    return found


class Server:
    """One server: what the two have in common."""

    name = ""

    def __init__(self) -> None:
        self._closing = ExitStack()
        self._process: subprocess.Popen[Any] | None = None
        self.folder = Path(
            tempfile.mkdtemp(prefix=f"cascade-{self.name}-")
        )  # short: pytest's own are closed to other users
        self._closing.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self.port = 0
        try:
            self._prepare()
            for left in reversed(range(_PORTS_TRIED)):
                self.port = _free_port()
                try:
                    self.start()
                    break
                except RuntimeError:  # somebody else was quicker to take the port
                    if not left:
                        raise
        except BaseException:
            self.close()
            raise

    @property
    def url(self) -> str:
        """Where it is."""
        raise NotImplementedError

    def _prepare(self) -> None:
        """What is done once, before the first start."""

    def _command(self) -> Sequence[str]:
        raise NotImplementedError

    def _answers(self) -> bool:
        raise NotImplementedError

    def _run_as(self) -> dict[str, Any]:
        return {}

    def start(self) -> None:
        """Start it on its port and wait until it answers; RuntimeError with its last words where it ends instead."""
        assert self._process is None, f"{self.name} runs already"
        until = time.monotonic() + _WAIT_S
        log = self.folder / "log"
        while True:
            with log.open("wb") as into:
                process = subprocess.Popen(
                    self._command(),
                    cwd=self.folder,
                    stdin=subprocess.DEVNULL,
                    stdout=into,
                    stderr=into,
                    **self._run_as(),
                )
            while process.poll() is None:
                if self._answers():
                    self._process = process
                    return
                if time.monotonic() > until:
                    process.kill()
                with suppress(subprocess.TimeoutExpired):
                    process.wait(0.02)
            said = log.read_text(errors="replace")
            if (
                "shared memory block" not in said or time.monotonic() > until
            ):  # else: a killed one's children are not gone yet
                raise RuntimeError(f"{self.name} did not start: {said[-2000:]}")

    def stop(self) -> None:
        """Stop it in good order, or at least stop it."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """SIGKILL: it, and what it has started."""
        if self._process is not None:
            for pid in reversed(_descendants(self._process.pid)):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """SIGSTOP: connections stay open, and nothing answers."""
        self._signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        """Go on after `pause`."""
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, number: signal.Signals) -> None:
        assert self._process is not None, f"{self.name} does not run"
        for pid in _descendants(self._process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(_WAIT_S / 2)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def close(self) -> None:
        """Kill it and remove its folder."""
        self.kill()
        self._closing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class RedisServer(Server):
    """redis-server without a file; with `--appendonly yes` among `options` it keeps what it holds from start to start."""

    name = "redis"

    def __init__(self, *options: str) -> None:
        self._binary = shutil.which("redis-server") or absent("redis", "redis-server is not installed")
        self._options = options
        super().__init__()

    @property
    def url(self) -> str:
        """redis://127.0.0.1:PORT/0."""
        return f"redis://127.0.0.1:{self.port}/0"

    def _command(self) -> Sequence[str]:
        listen = ("--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder))
        return (self._binary, *listen, "--save", "", "--appendonly", "no", *self._options)

    def _answers(self) -> bool:
        try:
            with closing(socket.create_connection(("127.0.0.1", self.port), timeout=5)) as asked:
                asked.sendall(b"PING\r\n")
                return asked.recv(16).startswith(b"+PONG")
        except OSError:
            return False


class PostgresServer(Server):
    """PostgreSQL. Root cannot run it: then it is the user `postgres` who does.

    Without fsync: tests kill processes, and what those have written is with the operating system by then.
    """

    name = "postgres"

    def __init__(self) -> None:
        self._bin = self._binaries()
        super().__init__()

    @staticmethod
    def _binaries() -> Path:
        on_path = shutil.which("postgres")
        here = [Path(on_path).parent] if on_path else []
        debian = sorted(
            Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: (len(path.parent.name), path), reverse=True
        )
        for folder in (*here, *debian):
            if (folder / "postgres").is_file() and (folder / "initdb").is_file():
                return folder
        absent("postgres", "PostgreSQL is not installed")

    def _run_as(self) -> dict[str, Any]:
        return {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}

    def _prepare(self) -> None:
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres", "postgres")
        command = (self._bin / "initdb", "--pgdata", self.folder / "data", "--username", "postgres", "--auth", "trust")
        done = subprocess.run(
            (*command, "--encoding", "UTF8", "--locale", "C", "--no-sync"),
            cwd=self.folder, stdin=subprocess.DEVNULL, capture_output=True, check=False, **self._run_as(),
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"initdb failed: {done.stderr.decode(errors='replace')[-2000:]}")

    def _address(self, database: str) -> str:
        return f"postgresql://postgres:not-asked-for@127.0.0.1:{self.port}/{database}"

    @property
    def url(self) -> str:
        """postgresql://postgres:…@127.0.0.1:PORT/postgres; any password will do."""
        return self._address("postgres")

    def database(self) -> str:
        """Make a fresh database; returns its address."""
        import psycopg.sql  # noqa: PLC0415 - few tests need it

        name = f"fresh_{secrets.token_hex(6)}"
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(name)))
        return self._address(name)

    def empty(self, address: str) -> None:
        """Remove the ledger from a database. Whoever used it must be done."""
        import psycopg.sql  # noqa: PLC0415 - as above

        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute("SET lock_timeout = '60s'")
            drop = psycopg.sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE")
            connection.execute(drop.format(psycopg.sql.Identifier(SCHEMA)))

    def _command(self) -> Sequence[str]:
        settings = (
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "max_connections=200",
            "shared_buffers=16MB",
            "fsync=off",
            "full_page_writes=off",
        )
        options = [part for setting in settings for part in ("-c", setting)]
        return (str(self._bin / "postgres"), "-D", str(self.folder / "data"), "-p", str(self.port), *options)

    def _answers(self) -> bool:
        import psycopg  # noqa: PLC0415 - as above

        try:
            psycopg.connect(self.url, connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True


class PostgresReplica(PostgresServer):
    """A hot standby of a server, which streams what that one writes."""

    name = "replica"

    def __init__(self, of: PostgresServer) -> None:
        self.primary = of
        super().__init__()

    def _prepare(self) -> None:
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres", "postgres")
        beside = self._bin / "pg_basebackup"
        program = beside if beside.is_file() else shutil.which("pg_basebackup")
        command = (
            program or absent("postgres", "pg_basebackup is not installed"),
            "--dbname",
            self.primary.url,
            "--pgdata",
            self.folder / "data",
        )
        done = subprocess.run(
            (*command, "--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-sync"),
            cwd=self.folder, stdin=subprocess.DEVNULL, capture_output=True, check=False, **self._run_as(),
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"pg_basebackup failed: {done.stderr.decode(errors='replace')[-2000:]}")

    def same(self, address: str) -> str:
        """Where a database of the primary is found here."""
        return self._address(address.rpartition("/")[2])

    def catch_up(self) -> None:
        """Wait until everything is here that the primary has now."""
        import psycopg  # noqa: PLC0415 - as above

        until = time.monotonic() + _WAIT_S
        with psycopg.connect(self.primary.url) as primary, psycopg.connect(self.url, autocommit=True) as here:
            told = primary.execute("SELECT pg_current_wal_lsn()").fetchone()
            assert told is not None
            while here.execute("SELECT pg_last_wal_replay_lsn() >= CAST(%s AS pg_lsn)", told).fetchone() != (True,):
                assert time.monotonic() < until, "the replica does not catch up"


class PgBouncer(Server):
    """PgBouncer in front of a server, in transaction mode: each transaction may get another connection. Root cannot run it, either."""

    name = "pgbouncer"

    def __init__(self, of: PostgresServer, connections: int = 2) -> None:
        self._binary = (
            shutil.which("pgbouncer")
            or shutil.which("pgbouncer", path="/usr/sbin")
            or absent("pgbouncer", "PgBouncer is not installed")
        )
        self._server, self._connections = of, connections
        super().__init__()

    def _run_as(self) -> dict[str, Any]:
        return self._server._run_as()

    def _command(self) -> Sequence[str]:
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres", "postgres")
        (self.folder / "users").write_text('"postgres" ""\n')
        settings = {
            "listen_addr": "127.0.0.1", "listen_port": self.port, "unix_socket_dir": "", "auth_type": "trust",
            "auth_file": self.folder / "users", "pool_mode": "transaction", "default_pool_size": self._connections,
            "max_client_conn": 100, "server_reset_query_always": 1,
        }  # fmt: skip
        lines = [f"[databases]\n* = host=127.0.0.1 port={self._server.port}\n[pgbouncer]"]
        (self.folder / "ini").write_text(
            "\n".join([*lines, *(f"{name} = {value}" for name, value in settings.items())])
        )
        return (self._binary, str(self.folder / "ini"))

    @property
    def url(self) -> str:
        """postgresql://postgres:…@127.0.0.1:PORT/postgres; any password will do."""
        return self.through(self._server.url)

    def through(self, address: str) -> str:
        """A database's address, by way of the pooler."""
        return address.replace(f":{self._server.port}/", f":{self.port}/")

    def _answers(self) -> bool:
        import psycopg  # noqa: PLC0415 - as above

        try:
            psycopg.connect(self.url, connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True
