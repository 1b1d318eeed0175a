"""Real processes on one Redis that is killed and comes back empty; `benchmarks/shared_state.py` is the large form."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from redis import Redis

from tests.servers import RedisServer
from tests.state.spender import LIMIT

_PATIENCE_S = 60.0
_ROOT = Path(__file__).parents[2]


def _start(url: str, seed: int) -> subprocess.Popen[str]:
    command = (sys.executable, "-m", "tests.state.spender", url, str(seed))
    return subprocess.Popen(command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _read(process: subprocess.Popen[str], until: str) -> None:
    """Read its lines up to this one."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == until:
            return
    raise AssertionError(f"it ended before it said {until}")


def _wait_for(url: str, least: int) -> None:
    """Wait until Redis has heard that so much is settled."""
    until = time.monotonic() + _PATIENCE_S
    with Redis.from_url(url) as client:
        while sum(int(client.hget(key, "S") or 0) for key in client.scan_iter("*budget:shared|*")) < least:  # type: ignore[arg-type]
            assert time.monotonic() < until


def test_three_processes_never_pass_the_limit_though_redis_is_killed(make_redis: Callable[..., RedisServer]) -> None:
    """Most of the budget can be spent, and never more; each goes on when Redis is back."""
    server = make_redis()
    processes = [_start(server.url, seed) for seed in range(3)]
    try:
        for process in processes:
            _read(process, "begun")
        _wait_for(server.url, LIMIT // 4)
        server.kill()
        for process in processes:
            _read(process, "state_down")
        server.start()
        for process in processes:
            _read(process, "state_back")
        _wait_for(server.url, LIMIT * 8 // 10)
        spent = [int(process.communicate(timeout=60)[0].split()[-1]) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert LIMIT * 0.8 < sum(spent) <= LIMIT
    assert all(spent)
