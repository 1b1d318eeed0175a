"""What every test may use: hypothesis profiles, a home of its own, real servers, and the recorded corpora where they are."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from subprocess import CompletedProcess, run

import pytest
import structlog
from hypothesis import settings

from tests.servers import PostgresServer, RedisServer
from tests.warm import WarmPython

_RECORDED = Path(__file__).resolve().parents[2] / "shared" / "corpora"

# A slow machine is no failure, hence no deadline; CI draws the same examples on every run. `--hypothesis-profile thorough`
# draws ten times as many wherever a test does not say a number of its own.
settings.register_profile("local", deadline=None, max_examples=50)
settings.register_profile("ci", deadline=None, max_examples=50, derandomize=True)
settings.register_profile("thorough", deadline=None, max_examples=500)
settings.load_profile("ci" if os.environ.get("CI") else "local")


# Each worker of the suite has a processor: threads of numpy's own would only wait for each other. Read when numpy is imported.
for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(name, "1")


def pytest_collection_finish() -> None:
    """What was imported and collected stays: no later search for garbage goes through it, and there are fewer of them."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


@pytest.fixture(scope="session")
def real_corpus() -> Callable[[str], Path]:
    """Give the path of a recorded corpus by its name, e.g. "mmlupro-gpt41"; skip the test where it is absent."""

    def find(name: str) -> Path:
        path = _RECORDED / f"{name}.jsonl.gz"
        if not path.is_file():
            pytest.skip(f"no recorded corpus {name} at ../shared/corpora")
        return path

    return find


_numbers = count()


@pytest.fixture(scope="session", autouse=True)
def _homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """CASCADE_HOME for the whole session: no test writes to the user's own."""
    homes = tmp_path_factory.mktemp("homes")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("CASCADE_HOME", str(homes / "session"))
        yield homes


@pytest.fixture(autouse=True)
def _home(_homes: Path) -> Iterator[None]:
    """Each test's own CASCADE_HOME; it is there once something is written to it."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("CASCADE_HOME", str(_homes / str(next(_numbers))))
        yield


@pytest.fixture(autouse=True)
def _logs() -> Iterator[None]:
    """Structlog is not configured when a test begins: a command configures it, and so does its `capture_logs`."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def warm_python() -> Iterator[WarmPython]:
    """A `python` that has its libraries loaded, for all tests of the session."""
    with WarmPython() as warm:
        yield warm


@pytest.fixture(scope="session")
def printed_demo(warm_python: WarmPython, tmp_path_factory: pytest.TempPathFactory) -> CompletedProcess[str]:
    """`cascade demo` with an environment of its own: thousands of requests, once for all who read what it prints."""
    home = tmp_path_factory.mktemp("demo")
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONWARNINGS": "error"}
    command = [warm_python.python, "-m", "cascade.cli", "demo"]
    return run(command, env=environment, cwd=home, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A redis-server for all tests of the session; none may break it, and each keeps to names of its own."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def make_redis() -> Iterator[Callable[..., RedisServer]]:
    """Start a redis-server that the test may break: `make_redis("--appendonly", "yes")`."""
    with ExitStack() as servers:
        yield lambda *options: servers.enter_context(RedisServer(*options))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL for all tests of the session; none may break it."""
    with PostgresServer() as server:
        yield server


@pytest.fixture
def make_postgres() -> Iterator[Callable[[], PostgresServer]]:
    """Start a PostgreSQL that the test may break."""
    with ExitStack() as servers:
        yield lambda: servers.enter_context(PostgresServer())


@pytest.fixture
def postgres_database(postgres_server: PostgresServer) -> str:
    """The address of a fresh database."""
    return postgres_server.database()


@pytest.fixture(scope="module")
def _database_of_module(postgres_server: PostgresServer) -> str:
    return postgres_server.database()


@pytest.fixture
def emptied_postgres(postgres_server: PostgresServer, _database_of_module: str) -> str:
    """The address of a database without a ledger, the same for all tests of a module: for tests that leave nothing running."""
    postgres_server.empty(_database_of_module)
    return _database_of_module
