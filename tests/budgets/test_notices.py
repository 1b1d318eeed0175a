"""Who is told of a budget: the log, functions and addresses; in bounds, and with nothing in it that is secret."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from structlog.testing import capture_logs

from cascade.budgets.notices import Notice, Notices
from cascade.core.errors import PolicyError
from cascade.policy.binding import bind_policy
from cascade.policy.loading import parse_policy
from cascade.state import Alert
from tests.budgets.listeners import FUNCTIONS, SECRET, entered, heard, let_go
from tests.budgets.scenes import USD, alert, budgeted, notices_of
from tests.loading.builders import SOUND


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("no_proxy", "*")
    heard.clear()
    entered.clear()
    let_go.clear()
    yield
    let_go.set()


class Receiver:
    """An address that notices are posted to: it answers with `status` and headers; with 0 it never does."""

    def __init__(self, status: int, **headers: str) -> None:
        self.bodies: list[Any] = []
        self.paths: list[str] = []
        self.let_go = threading.Event()
        bodies, paths, gone = self.bodies, self.paths, self.let_go

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                paths.append(self.path)
                bodies.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                if not status:
                    gone.wait(30)
                    return
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                with suppress(ConnectionError):
                    while "endless" in headers and not gone.wait(0.01):
                        self.wfile.write(b"x" * 4096)

            def log_message(self, *args: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()
        self.address = f"http://127.0.0.1:{self.server.server_port}/{SECRET}"


@pytest.fixture
def receive() -> Iterator[Callable[..., Receiver]]:
    """Start receivers; they stop when the test ends."""
    started: list[Receiver] = []

    def start(status: int, **headers: str) -> Receiver:
        started.append(Receiver(status, **headers))
        return started[-1]

    yield start
    for one in started:
        one.let_go.set()
        one.server.shutdown()
        one.server.server_close()
        one.thread.join()


def tell(notices: Notices, *alerts: Alert) -> list[Any]:
    """Tell these, and wait until all is delivered; what was logged."""
    with capture_logs() as told:
        for one in alerts:
            notices.notify(one)
        assert notices.close(30)
    return list(told)


def test_an_alert_is_told_to_the_log_to_functions_and_to_addresses(receive: Callable[..., Receiver]) -> None:
    """The same in each: amounts and the budget's name; `text` says it in a line."""
    receiver = receive(200)
    told = tell(notices_of(f"{FUNCTIONS}:hear", receiver.address), alert())
    assert told == [
        {
            "event": "budget_alert",
            "log_level": "warning",
            "policy": "test",
            "budget": "the daily budget of test, 1.5 USD",
            "share": 0.8,
            "spent_usd": 1.2,
            "limit_usd": 1.5,
            "on_exhausted": "alert",
        }
    ]
    assert "80%" in heard[0].text
    assert "(1.2 USD)" in heard[0].text
    assert receiver.bodies == [
        {
            "event": "budget_alert",
            "policy": "test",
            "budget": "the daily budget of test, 1.5 USD",
            "scope": "policy",
            "value": "test",
            "span": "daily",
            "period": "2026-11-21",
            "share": 0.8,
            "spent_usd": 1.2,
            "limit_usd": 1.5,
            "on_exhausted": "alert",
            "text": heard[0].text,
        }
    ]
    assert [Notice(**receiver.bodies[0])] == heard


def test_a_soft_limit_says_that_it_is_one() -> None:
    """`hold` lets each request's first call pass: whoever is told must not take it for a wall."""
    told = tell(notices_of(f"{FUNCTIONS}:hear"), alert("hold", 1.0), alert("reject", 1.0))
    assert "soft limit" in heard[0].text
    assert "soft limit" in told[0]["hint"]
    assert "soft" not in heard[1].text


def test_each_budget_tells_its_own() -> None:
    """Two budgets over the same spend have a list each; observe's own cap, which is in no list, only the log."""
    notices = Notices(
        budgeted({"daily_usd": 1, "notify": [f"{FUNCTIONS}:hear"]}, {"daily_usd": 2, "notify": [f"{FUNCTIONS}:fail"]})
    )
    told = tell(notices, alert(), alert(nth=1), alert(account="test/observe", policy="test/observe"))
    assert len(heard) == 1
    assert [one["event"] for one in told].count("notice_failed") == 1
    assert [one["event"] for one in told].count("budget_alert") == 3


def test_a_refusal_is_told_once_a_period() -> None:
    """With `reject` a budget may never be all spent: its first refusal is what must be heard."""
    notices = notices_of(f"{FUNCTIONS}:hear", on_exhausted="reject")
    with capture_logs() as told:
        for _ in range(3):
            notices.notify_refusal(alert("reject").budget, USD)
        assert notices.close(30)
    assert [(one["event"], one["budget"]) for one in told] == [("budget_refused", "the daily budget of test, 1.5 USD")]
    (notice,) = heard
    assert notice.text.startswith("the daily budget of test, 1.5 USD: ")
    assert " 1 USD;" in notice.text


@pytest.mark.parametrize(
    ("status", "headers", "problem"),
    [
        (500, {}, "HTTP 500"),
        (307, {"location": "/elsewhere"}, "HTTP 307 (a redirect, which is not followed)"),
        (0, {}, "it took longer than 0.05 s"),
    ],
)
def test_an_address_that_fails_is_told_by_its_host_alone(
    receive: Callable[..., Receiver], status: int, headers: dict[str, str], problem: str
) -> None:
    """No redirect is followed, nothing waits longer than it may, and the address, which may hold a secret, is not told."""
    receiver = receive(status, **headers)
    told = tell(notices_of(receiver.address, notify_timeout_s=0.05 if not status else 20.0), alert())
    assert told[1:] == [{"event": "notice_failed", "log_level": "warning", "target": "127.0.0.1", "problem": problem}]
    assert SECRET not in str(told)
    assert not status or receiver.paths == [f"/{SECRET}"]


def test_a_response_that_never_ends_is_not_read(receive: Callable[..., Receiver]) -> None:
    """Its status is all that is wanted."""
    receiver = receive(200, endless="yes")
    assert [one["event"] for one in tell(notices_of(receiver.address), alert())] == ["budget_alert"]


def test_a_function_that_raises_is_told_by_its_kind_alone() -> None:
    """What it says may hold anything; those after it are told all the same."""
    told = tell(notices_of(f"{FUNCTIONS}:fail", f"{FUNCTIONS}:hear"), alert())
    assert (told[1]["target"], told[1]["problem"], len(heard)) == (f"{FUNCTIONS}:fail", "ValueError", 1)
    assert SECRET not in str(told)


def test_what_hangs_is_left_behind() -> None:
    """A function that does not return costs one time-out; while it hangs it is passed over, and the others hear all."""
    quick, patient = (
        {"daily_usd": 1, "notify": [f"{FUNCTIONS}:{name}"], "notify_timeout_s": limit}
        for name, limit in (("hang", 0.05), ("hear", 30.0))
    )
    told = tell(Notices(budgeted(quick, patient)), alert(), alert(), alert(nth=1))
    assert [one["problem"] for one in told if one["event"] == "notice_failed"] == [
        "it took longer than 0.05 s",
        "an earlier delivery to this target has not returned",
    ]
    assert len(heard) == 2


def test_what_cannot_be_queued_is_counted_and_told() -> None:
    """The caller never waits: past 256 in the queue they are dropped, loudly at powers of two."""
    notices = notices_of(f"{FUNCTIONS}:hang", notify_timeout_s=30.0)
    with capture_logs() as told:
        notices.notify(alert())
        assert entered.wait(30)
        for _ in range(256 + 3):
            notices.notify(alert())
    let_go.set()
    assert notices.close(30)
    assert notices.dropped == 3
    assert [one["dropped"] for one in told if one["event"] == "notices_dropped"] == [1, 2]
    assert len(heard) == 257


SHORT_LIVED = """
import sys
from tests.budgets.scenes import alert, notices_of
notices_of(sys.argv[1], notify_timeout_s=60.0).notify(alert())
"""


def test_a_process_that_ends_at_once_still_tells(receive: Callable[..., Receiver]) -> None:
    """The command line's process is over when its answer is printed."""
    receiver = receive(200)
    subprocess.run([sys.executable, "-c", SHORT_LIVED, receiver.address], check=True, capture_output=True, timeout=60)
    assert len(receiver.bodies) == 1


FAULTS = [
    ("timezone: Mars/Olympus", "p.yaml:12:13: budget.timezone: there is no time zone 'Mars/Olympus'"),
    ("timezone: /etc/passwd", "p.yaml:12:13: budget.timezone: there is no time zone"),
    ("notify: ['no.such.module:tell']", "p.yaml:12:12: budget.notify[0]: no.such.module:tell cannot be used"),
    (f"notify: ['{FUNCTIONS}:nothing']", "p.yaml:12:12: budget.notify[0]: "),
    (f"notify: ['{FUNCTIONS}:coroutine']", "p.yaml:12:12: budget.notify[0]: "),
    ("notify: ['http://:80/x']", "p.yaml:12:12: budget.notify[0]: the address has no host"),
    ("notify: ['http://[x/y']", "p.yaml:12:12: budget.notify[0]: the address has no host"),
]


@pytest.mark.parametrize(("line", "problem"), FAULTS)
def test_what_a_budget_names_and_is_not_there_stops_the_load(line: str, problem: str) -> None:
    """At its line in the file, in one line; nothing waits for the first alert to fail."""
    with pytest.raises(PolicyError) as caught:
        parse_policy(f"{SOUND}budget:\n  {line}\n  daily_usd: 1\n", where="p.yaml")
    told = str(caught.value)
    assert told.startswith(problem)
    assert "\n" not in told


def test_a_policy_made_in_code_is_held_to_the_same() -> None:
    """An unknown zone stops its plan."""
    with pytest.raises(PolicyError, match=r"budget\[0\]\.timezone: there is no time zone 'Nowhere'"):
        bind_policy(budgeted({"daily_usd": 1, "timezone": "Nowhere"}))
