"""The dashboard at the gateway: its login, its sessions, the mode switch, and what the API's callers see of it, which is nothing."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from cascade.dashboard.access import Attempts, KeyHolder, Sessions
from cascade.engine.mode_switch import read_switch_file, switch_path
from cascade.gateway.keys.ring import KeyRing
from cascade.gateway.settings import GatewaySettings
from cascade.ledger.gateway import GatewayTables
from tests.dashboard.by_hand import Answered, ask
from tests.gateway.serving import Gateway, policy_file
from tests.servers import RedisServer

NOWHERE = "http://127.0.0.1:9"
FORM = {"content-type": "application/x-www-form-urlencoded"}


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Gateway]]:
    """Start a gateway with two policies, which no test here sends a request through."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "k")
    monkeypatch.setenv("CASCADE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("CASCADE_MODE", raising=False)
    with ExitStack() as opened:

        def begin(**options: Any) -> Gateway:
            named = tuple(str(policy_file(tmp_path, name)) for name in ("small", "other"))
            ledger = str(tmp_path / "ledger.db")
            settings = GatewaySettings(
                **{"upstream": NOWHERE, "port": 0, "ledger": ledger, "policies": named, **options}
            )
            return opened.enter_context(Gateway(settings))

        yield begin


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    """The gateway's keys."""
    return KeyRing(GatewayTables(str(tmp_path / "ledger.db")))


class Visitor:
    """A browser without the browser: it keeps its cookie, and says where its forms come from."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway, self.cookie = gateway, ""
        self.origin = gateway.base_url

    def get(self, path: str, **headers: str) -> Answered:
        """A page."""
        return ask(self.gateway.port, "GET", path, {"cookie": self.cookie, **headers})

    def post(self, path: str, body: str, **headers: str) -> Answered:
        """A form."""
        own = {"cookie": self.cookie, "origin": self.origin, **FORM, **headers}
        return ask(self.gateway.port, "POST", path, own, body)

    def log_in(self, key: str) -> Answered:
        """Send the form of the login page."""
        answer = self.post("/dashboard/login", f"key={key}&next=%2F%3Fsince%3D7d")
        self.cookie = answer.headers.get("set-cookie", "").partition(";")[0]
        return answer

    @property
    def csrf(self) -> str:
        """What the pages' forms carry."""
        found = re.search(r'name="csrf" value="([^"]+)"', self.get("/dashboard/modes").text)
        assert found is not None
        return found.group(1)


def test_a_key_opens_a_session_whose_cookie_no_script_reads(start: Callable[..., Gateway], ring: KeyRing) -> None:
    """A page asks for it and leads back to itself; the session ends with a logout."""
    token, _ = ring.create("lead")
    visitor = Visitor(start())
    answer = visitor.get("/?since=7d")
    assert (answer.status, answer.headers["location"]) == (303, "/dashboard/login?next=%2F%3Fsince%3D7d")
    page = visitor.get(answer.headers["location"]).text
    assert 'type="password"' in page
    assert 'name="next" value="/?since=7d"' in page
    answer = visitor.log_in(token)
    assert (answer.status, answer.headers["location"]) == (303, "/?since=7d")
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(answer.headers["set-cookie"].split("; "))
    assert token not in answer.headers["set-cookie"]
    assert "No requests yet" in visitor.get("/?since=7d").text
    assert visitor.get("/dashboard/login").headers["location"] == "/"
    assert visitor.post("/dashboard/logout", "csrf=guess").status == 403
    kept, csrf = visitor.cookie, visitor.csrf
    assert visitor.post("/dashboard/logout", f"csrf={csrf}").status == 303
    visitor.cookie = kept
    assert visitor.get("/").status == 303


def test_a_cookie_is_secure_where_the_browser_came_by_https(start: Callable[..., Gateway], ring: KeyRing) -> None:
    """As the proxy before the gateway says, or the browser itself."""
    token, _ = ring.create("lead")
    visitor = Visitor(start())
    assert "Secure" not in visitor.log_in(token).headers["set-cookie"]
    answer = visitor.post("/dashboard/login", f"key={token}", **{"x-forwarded-proto": "https"})
    assert "Secure" in answer.headers["set-cookie"]
    visitor.origin = visitor.origin.replace("http://", "https://")
    assert "Secure" in visitor.log_in(token).headers["set-cookie"]


def test_wrong_keys_are_told_and_bounded(start: Callable[..., Gateway], ring: KeyRing) -> None:
    """The eleventh attempt of a minute is not heard, and is told when to come again; the key of another form is never shown."""
    ring.create("lead")
    visitor = Visitor(start())
    answers = [visitor.log_in(f"casc-000000000000-{number}") for number in range(11)]
    assert [answer.status for answer in answers] == [403] * 10 + [429]
    assert "unknown here, or revoked" in answers[0].text
    assert "casc-000000000000" not in answers[0].text
    assert 0 < int(answers[-1].headers["retry-after"]) <= 60


def test_attempts_are_counted_by_place_for_a_minute() -> None:
    """By an injected clock."""
    now = [0.0]
    attempts = Attempts(lambda: now[0])
    for number in range(10):
        now[0] = float(number)
        assert attempts.wait_s("a") == 0
        attempts.failed("a")
    assert (attempts.wait_s("a"), attempts.wait_s("b")) == (51.0, 0.0)
    now[0] = 60.0
    assert attempts.wait_s("a") == 0


def test_a_session_is_known_to_all_who_share_the_state() -> None:
    """What is held is the key's id, under a digest of the cookie, and a revoked key's session is over."""
    held: dict[str, str] = {}

    class Shared:
        def remember(self, keys: Any, value: str, ttl_s: float) -> None:
            assert ttl_s == 12 * 3600
            held[keys[0]] = value

        def recall(self, keys: Any) -> str | None:
            return held.get(keys[0])

    holders = {"1": KeyHolder("1", "lead")}
    session = Sessions(Shared(), holders.get).begin(holders["1"])
    viewer = Sessions(Shared(), holders.get).find(session.token)
    assert viewer is not None
    assert (viewer.name, viewer.may_switch, viewer.sent(viewer.csrf), viewer.sent("")) == ("lead", True, True, False)
    assert set(json.loads(held[f"dashboard session {session.token}"])) == {"key", "csrf"}
    assert Sessions(Shared(), lambda _: None).find(session.token) is None


def test_two_gateways_with_one_redis_know_one_session(
    start: Callable[..., Gateway], ring: KeyRing, redis_server: RedisServer
) -> None:
    """As workers do: a login at one is a login at the other, and so is a logout."""
    token, _ = ring.create("lead")
    first, second = (Visitor(start(state=redis_server.url)) for _ in range(2))
    first.log_in(token)
    second.cookie = first.cookie
    assert second.get("/").status == 200
    second.post("/dashboard/logout", f"csrf={second.csrf}")
    assert first.get("/").status == 303


def test_modes_are_switched_after_a_page_that_says_what_will_happen(
    start: Callable[..., Gateway], ring: KeyRing
) -> None:
    """As `cascade mode` switches them: for one policy, for all, and back."""
    token, _ = ring.create("lead")
    visitor = Visitor(start())
    visitor.log_in(token)
    page = visitor.get("/dashboard/mode?mode=off&policy=small").text
    assert "Switch policy small to off?" in page
    assert "small: enforce now, off then; its baseline is sonnet." in page
    assert read_switch_file(switch_path()).policies == {}
    answer = visitor.post("/dashboard/mode", f"csrf={visitor.csrf}&mode=off&policy=small")
    assert (answer.status, answer.headers["location"]) == (303, "/dashboard/modes")
    assert read_switch_file(switch_path()).policies == {"small": "off"}
    page = visitor.get("/dashboard/mode?mode=observe").text
    assert "small keeps its own switch, off." in page
    assert "other: enforce now, observe then" in page
    visitor.post("/dashboard/mode", f"csrf={visitor.csrf}&mode=observe&policy=")
    assert read_switch_file(switch_path()).all == "observe"
    visitor.post("/dashboard/mode", f"csrf={visitor.csrf}&mode=clear&policy=")
    assert not switch_path().exists()


def test_a_switch_that_nobody_here_confirmed_changes_nothing(start: Callable[..., Gateway], ring: KeyRing) -> None:
    """Another site's form, a guessed token, no token, no mode, no policy."""
    token, _ = ring.create("lead")
    visitor = Visitor(start())
    visitor.log_in(token)
    own = f"csrf={visitor.csrf}&"
    refused: list[tuple[str, dict[str, str], int]] = [
        ("mode=off&policy=small", {}, 403), ("csrf=guess&mode=off&policy=small", {}, 403), (own + "mode=off&policy=small", {"origin": ""}, 403),
        (own + "mode=off&policy=small", {"origin": "http://evil.example"}, 403), (own + "mode=fast&policy=small", {}, 400),
        (own + "mode=off&policy=nobody", {}, 400), (own + "mode=off", {"content-type": "application/json"}, 415), (own + "x" * 20_000, {}, 413),
    ]  # fmt: skip
    for body, headers, status in refused:
        assert visitor.post("/dashboard/mode", body, **headers).status == status, (body, headers)
    assert not switch_path().exists()


def test_a_key_bound_to_a_policy_sees_that_policy_and_switches_nothing(
    start: Callable[..., Gateway], ring: KeyRing
) -> None:
    """Whatever its address asks for. A key that comes with each request sees, and does not switch either."""
    bound, _ = ring.create("team", policy="small")
    free, _ = ring.create("lead")
    visitor = Visitor(start())
    visitor.log_in(bound)
    page = visitor.get("/?policy=other").text
    assert "Policy small" in page
    assert "other" not in page
    assert visitor.get("/dashboard/mode?mode=off&policy=small").status == 403
    assert visitor.post("/dashboard/mode", f"csrf={visitor.csrf}&mode=off&policy=small").status == 403
    visitor.cookie = ""
    for headers in ({"x-cascade-key": free}, {"authorization": f"Bearer {free}"}, {"x-api-key": free}):
        assert visitor.get("/", **headers).status == 200
        assert visitor.get("/dashboard/mode?mode=off&policy=small", **headers).status == 403
    assert not switch_path().exists()


def test_a_session_is_no_key_of_the_api_and_the_api_answers_as_before(
    start: Callable[..., Gateway], ring: KeyRing
) -> None:
    """`/` is a page for browsers alone: to others it is not served, or needs a key, in the API's words."""
    gateway = start()
    assert _error(ask(gateway.port, "GET", "/", {"accept": "*/*"})) == (404, "not_found_error")
    assert _error(ask(gateway.port, "POST", "/", {"accept": "text/html"})) == (404, "not_found_error")
    assert ask(gateway.port, "GET", "/").status == 200
    assert "cascade mode" in ask(gateway.port, "GET", "/dashboard/modes").text
    assert ask(gateway.port, "GET", "/", {"origin": "http://evil.example"}).status == 403
    assert ask(gateway.port, "GET", "/", {"host": "evil.example"}).status == 403
    token, _ = ring.create("lead")
    gateway = start()
    visitor = Visitor(gateway)
    visitor.log_in(token)
    assert visitor.get("/").status == 200
    assert visitor.get("/v1/models").status == 401
    assert _error(ask(gateway.port, "GET", "/", {"accept": "application/json"})) == (401, "authentication_error")
    assert ask(gateway.port, "GET", "/dashboard/events").status == 401


def test_the_dashboard_can_be_left_out(start: Callable[..., Gateway]) -> None:
    """By a setting; without a ledger there is none either, and that is said."""
    assert ask(start(dashboard=False).port, "GET", "/").status == 404
    answer = ask(start(ledger="off").port, "GET", "/")
    assert (answer.status, "--ledger off" in answer.text) == (404, True)


def test_an_open_stream_does_not_keep_the_gateway_from_ending(start: Callable[..., Gateway]) -> None:
    """It ends with the server, long before the grace of running requests is over; a stream whose reader has left is forgotten."""
    gateway = start()
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as connection:
        connection.sendall(b"GET /dashboard/events HTTP/1.1\r\nhost: localhost\r\n\r\n")
        stream = connection.makefile("rb")
        while not stream.readline().startswith(b"retry:"):
            pass
        gateway.stop()
        assert stream.read().endswith(b"0\r\n\r\n")


def _error(answer: Answered) -> tuple[int, str]:
    return answer.status, json.loads(answer.text)["error"]["type"]
