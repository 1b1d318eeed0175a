"""`cascade doctor --deep`: each part of a deployment is tried out, and left as it was."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

from cascade.cli.doctor.findings import Finding, tried
from cascade.cli.doctor.serving import gateway_findings
from cascade.core.errors import LedgerError
from cascade.core.policy import Policy
from cascade.home import home
from cascade.ledger.inspecting import LedgerStatus, inspect_ledger
from cascade.ledger.stores import LedgerDown
from cascade.policy.budgets import zone_of
from cascade.response_cache import check_cache
from cascade.state.inspecting import StateStatus, inspect_state

__all__ = ["deep_findings"]

_LEAST_FREE = 1 << 30
_MOST_SKEW_S = 5.0
_SLOW_STATE_MS = 10.0  # a request waits for 50 ms at most, several times
_SLOW_LEDGER_MS = 200.0
_SERVING = {"starlette": "gateway", "uvicorn": "gateway", "aiohttp": "gateway", "prometheus_client": "prometheus"}


def deep_findings(policy: Policy, gateway: str | None, key: str | None) -> list[Finding]:
    """What each part says. `gateway`: the address of one to look at; `key`: to look at it with. Nothing that costs money is asked."""
    findings = list(_home())
    if policy.ledger.enabled:
        findings += tried("ledger", "see the address in CASCADE_LEDGER, and its server", _ledger)
        if os.environ.get("CASCADE_LEDGER_REPLICA"):
            findings += tried("ledger's replica", "correct CASCADE_LEDGER_REPLICA, or unset it", _replica)
    findings += tried("state", "correct CASCADE_STATE, or unset it", _state)
    if policy.cache is not None:
        findings += tried("response cache", "correct CASCADE_CACHE, or unset it", _cache)
    findings += _time_zones(policy)
    findings += _serving_extras()
    if gateway is not None:
        findings += tried("gateway", "correct --gateway", lambda: gateway_findings(gateway, key))
    return findings


def _home() -> Iterator[Finding]:
    """Who may read what is under `CASCADE_HOME`."""
    folder = home()
    try:
        found = _looked_into(folder)
    except FileNotFoundError:
        yield Finding("home", "ok", f"{folder}: made with the first request, closed to others")
        return
    except OSError as problem:
        yield Finding("home", "missing", f"{folder}: {problem.strerror}", "fix its permissions, or set CASCADE_HOME")
        return
    if os.name != "posix":
        yield Finding("home", "ok", str(folder))
        return
    open_ones = [one for one, status in found.items() if stat.S_IMODE(status.st_mode) & 0o077]
    foreign = [one for one, status in found.items() if status.st_uid != os.geteuid()]
    if foreign:
        told = f"{', '.join(str(one) for one in foreign[:3])}: owned by another user"
        yield Finding("home", "warning", told, "run cascade as the user that owns its home, or chown it")
    # What is inside of a closed folder nobody else reaches.
    if folder in open_ones:
        told = f"{', '.join(str(one) for one in open_ones[:3])}: others of this machine may read it"
        yield Finding("home", "warning", told, f"chmod -R go= {folder}")
    elif not foreign:
        yield Finding("home", "ok", f"{folder}: closed to other users")
    if not os.access(folder, os.W_OK):
        yield Finding("home", "missing", f"{folder}: cannot be written", "fix its permissions, or set CASCADE_HOME")


def _looked_into(folder: Path) -> dict[Path, os.stat_result]:
    """The folder and what is in it. Raises OSError if it cannot be looked into, FileNotFoundError if it is not there."""
    found = {folder: folder.stat()}
    for one in sorted(folder.iterdir()):
        with suppress(OSError):  # gone meanwhile, or a link to nothing
            found[one] = one.stat()
    return found


def _ledger() -> Iterator[Finding]:
    try:
        status = inspect_ledger(None)
    except LedgerDown as down:
        raise LedgerError(str(down)) from None
    if not status.is_made:
        if status.may_make:
            yield Finding("ledger", "ok", f"{status.where}: made with the first request")
        else:
            yield Finding(
                "ledger",
                "missing",
                f"{status.where}: cannot be made",
                "let its user create it (GRANT CREATE ON DATABASE, or the folder's permissions)",
            )
    elif (status.version or 0) > status.newest:
        found = f"{status.where}: version {status.version}, written by a newer cascade; known here: {status.newest}"
        yield Finding("ledger", "missing", found, "upgrade this one, or name another database")
    elif status.version != status.newest:
        yield Finding(
            "ledger",
            "warning",
            f"{status.where}: version {status.version}, brought to {status.newest} by the first request",
            "where it is large, run `cascade ledger upgrade` at a quiet hour",
        )
    elif status.is_replica:
        yield Finding(
            "ledger",
            "missing",
            f"{status.where}: a replica, which cannot be written",
            "name the primary in CASCADE_LEDGER",
        )
    else:
        yield _written(status)
    yield from _database(status)


def _replica() -> Iterator[Finding]:
    try:
        status = inspect_ledger(os.environ["CASCADE_LEDGER_REPLICA"])
    except LedgerDown as down:
        yield Finding("ledger's replica", "warning", str(down), "reports cannot be read from it; see its server")
        return
    if status.is_replica:
        yield Finding("ledger's replica", "ok", f"{status.where}: replays the primary")
    else:
        to_do = "name a replica in CASCADE_LEDGER_REPLICA, or unset it"
        yield Finding("ledger's replica", "warning", f"{status.where}: is no replica", to_do)


def _written(status: LedgerStatus) -> Finding:
    took = status.write_ms or 0.0
    found = f"{status.where}: written, read and rolled back in {took:.1f} ms (version {status.version})"
    if took > _SLOW_LEDGER_MS:
        return Finding("ledger", "warning", found, "slow: see its load and its disk; rows wait in memory meanwhile")
    return Finding("ledger", "ok", found)


def _database(status: LedgerStatus) -> Iterator[Finding]:
    if status.clock_skew_s is not None:
        yield _clock("ledger's clock", status.clock_skew_s)
    if status.free_bytes is not None:
        found = f"{status.free_bytes / 1e9:.1f} GB free" + (
            f", {status.size_bytes / 1e6:.1f} MB used by it" if status.size_bytes else ""
        )
        scarce = status.free_bytes < _LEAST_FREE
        yield Finding(
            "ledger's disk",
            "warning" if scarce else "ok",
            found,
            "make room: on a full disk rows wait in memory, and are lost with the process" if scarce else "",
        )
    elif status.size_bytes is not None:
        yield Finding(
            "ledger's size",
            "ok",
            f"the database has {status.size_bytes / 1e6:.1f} MB; its free disk is for its own monitoring",
        )
    if status.connections is not None:
        used, most = status.connections
        scarce = used > most * 0.8
        to_do = "put PgBouncer in front of it, or raise max_connections" if scarce else ""
        yield Finding(
            "ledger's connections",
            "warning" if scarce else "ok",
            f"{used} of {most} in use" + (", through a pooler" if status.is_pooled else ""),
            to_do,
        )
    if status.months is not None:
        missing = status.misses_month(time.time())
        if not status.months and not status.strays:
            yield Finding("ledger's partitions", "ok", "none yet: the first row makes them")
        elif missing is not None:
            yield Finding(
                "ledger's partitions",
                "warning",
                f"none for {missing}",
                "the next writer makes it; if not, its log says why (ledger_down)",
            )
        elif status.strays:
            yield Finding(
                "ledger's partitions",
                "warning",
                f"{status.strays} rows are in no month's",
                "they are moved when their month's is made; a wrong clock makes such rows",
            )
        else:
            yield Finding(
                "ledger's partitions",
                "ok",
                f"{len(status.months)} months, the last {max(status.months, default='none')}",
            )


def _clock(what: str, skew_s: float) -> Finding:
    if abs(skew_s) > _MOST_SKEW_S:
        return Finding(
            what,
            "warning",
            f"{abs(skew_s):.0f} s {'ahead of' if skew_s > 0 else 'behind'} this machine's",
            "set both clocks (NTP): budgets' days and audits rest on them",
        )
    return Finding(what, "ok", f"within {max(1, round(abs(skew_s)))} s of this machine's")


def _state() -> Iterator[Finding]:
    status = inspect_state(None)
    if status is None:
        yield Finding("state", "ok", "memory: enough for one process; several need CASCADE_STATE=redis://…")
        return
    if status.problem is not None:
        yield Finding(
            "state",
            "missing",
            f"{status.where}: {status.problem}",
            "start it, or correct CASCADE_STATE; until then each process is on its own",
        )
        return
    found = f"{status.where}: Redis {status.version}, {status.round_trip_ms:.2f} ms a round trip, all {status.scripts} scripts load"
    slow = status.round_trip_ms > _SLOW_STATE_MS
    yield Finding(
        "state",
        "warning" if slow else "ok",
        found,
        "too far away: several round trips a request are waited for" if slow else "",
    )
    yield from _kept(status)
    yield _clock("state's clock", status.clock_skew_s)


def _kept(status: StateStatus) -> Iterator[Finding]:
    if status.is_replica:
        yield Finding(
            "state's role", "missing", "a replica, which cannot be written", "name the primary in CASCADE_STATE"
        )
    if status.eviction != "noeviction":
        found = f"maxmemory-policy {status.eviction or 'unknown'}: a budget's counter may be evicted, and is then handed out anew"
        yield Finding("state's memory", "warning", found, "CONFIG SET maxmemory-policy noeviction")
    else:
        limit = f" of {status.max_memory / 1e6:.0f} MB" if status.max_memory else ", without a limit"
        yield Finding("state's memory", "ok", f"noeviction, {status.used_memory / 1e6:.1f} MB{limit}")
    if status.append_only:
        yield Finding("state's persistence", "ok", "append-only file")
    elif status.snapshots:
        yield Finding(
            "state's persistence", "ok", "snapshots: after a restart what came since the last is taken from the ledger"
        )
    elif status.snapshots is None:
        yield Finding("state's persistence", "ok", "its server does not say")
    else:
        yield Finding(
            "state's persistence",
            "warning",
            "none: after a restart storms and tool loops are forgotten, budgets wait for every process",
            "CONFIG SET appendonly yes",
        )


def _cache() -> Iterator[Finding]:
    where, problem = check_cache(None)
    if problem is not None:
        yield Finding(
            "response cache",
            "warning",
            f"{where}: {problem}",
            "start it, or correct CASCADE_CACHE; until then equal requests are paid again",
        )
    elif "://" not in where:
        yield Finding("response cache", "ok", f"{where}: of this machine alone")
    else:
        yield Finding("response cache", "ok", f"{where}: shared")


def _time_zones(policy: Policy) -> Iterator[Finding]:
    """Where the days of budgets begin."""
    zones = sorted({one.timezone for one in policy.budget} or {"UTC"})
    now = datetime.now(UTC)
    days = [f"{name} (now {now.astimezone(zone_of(name)):%Y-%m-%d %H:%M})" for name in zones]
    yield Finding("time zone", "ok", f"budgets' days begin by {', '.join(days)}")


def _serving_extras() -> Iterator[Finding]:
    absent = sorted({extra for module, extra in _SERVING.items() if find_spec(module) is None})
    if absent:
        yield Finding(
            "serving",
            "warning",
            f"not installed: {', '.join(absent)}",
            f"pip install 'cascade-ladder[{','.join(absent)}]'",
        )
