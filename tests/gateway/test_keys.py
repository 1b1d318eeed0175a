"""Keys: who may use the gateway, by which policy, and for how much."""

from __future__ import annotations

import hashlib
import json
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from cascade.core.errors import ConfigurationError, LedgerError
from cascade.emulator import Emulator
from cascade.gateway.keys.ring import KeyRing
from cascade.gateway.keys.values import Key, id_of, make_key
from cascade.gateway.server import check_settings
from cascade.gateway.settings import GatewaySettings
from cascade.ledger.gateway import Feedback, GatewayTables
from cascade.ledger.opening import open_reader
from cascade.state.memory import process_counters
from tests.cli.conftest import Run
from tests.cli.within import run
from tests.gateway.serving import Gateway, policy_file
from tests.gateway.test_climbing import asked, script
from tests.gateway.test_limits import error_of
from tests.gateway.test_relay import body_of, post

__all__ = ["run"]


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    """The keys of the gateways that `start` starts."""
    return KeyRing(GatewayTables(str(tmp_path / "ledger.db")))


@pytest.fixture
def emulator(emulate: Callable[..., Emulator]) -> Emulator:
    """An emulator that plays the script of the climbs."""
    return emulate(script=script, keep_requests=100)


def ask(gateway: Gateway, headers: dict[str, str], **more: Any) -> bytes:
    """One request's response."""
    headers = {"anthropic-version": "2023-06-01", **headers}
    return gateway.send(post(json.dumps(asked(**more)).encode(), headers, target="/v1/messages"))


def test_a_key_has_256_random_bits_and_only_its_hash_is_stored(ring: KeyRing, tmp_path: Path) -> None:
    """Not even a part of the secret is in the database's bytes."""
    token, key = ring.create("ci")
    secret = token.split("-", 2)[2]
    assert len(secret) == 43
    assert id_of(token) == key.id
    assert key.digest == hashlib.sha256(token.encode()).hexdigest()
    stored = b"".join(path.read_bytes() for path in tmp_path.glob("ledger.db*"))
    assert key.id.encode() in stored
    assert secret[:8].encode() not in stored


def test_no_two_keys_are_the_same() -> None:
    """Neither their ids nor their secrets."""
    made = [make_key("n", 0.0)[0] for _ in range(100)]
    assert len({token.split("-", 2)[1] for token in made}) == len({token.split("-", 2)[2] for token in made}) == 100


def test_a_key_is_read_back_as_it_was(ring: KeyRing, tmp_path: Path) -> None:
    """By another process, too."""
    _, key = ring.create("ci", policy="small", daily_usd=Decimal("1.50"))
    other = KeyRing(GatewayTables(str(tmp_path / "ledger.db")))
    other.read()
    assert other.all() == (key,)


def test_keys_and_feedback_live_in_postgres_where_the_ledger_does(postgres_database: str) -> None:
    """Several gateways share them."""
    one, other = KeyRing(GatewayTables(postgres_database)), KeyRing(GatewayTables(postgres_database))
    token, key = one.create("ci", daily_usd=Decimal(3))
    other.read()
    assert other.find(token) == key
    one.revoke("ci")
    other.refresh()
    assert other.find(token) is None
    tables = GatewayTables(postgres_database)
    said = Feedback("casc_1", 0.5, 12.0, "so", key.id)
    tables.add_feedback(said)
    assert tables.feedback() == (said,)
    reader = open_reader(postgres_database)
    assert reader.erase(["casc_1"]) == 1
    reader.close()
    assert tables.feedback() == (replace(said, note=None),)


@pytest.mark.parametrize("how", ["authorization", "x-api-key", "x-cascade-key"])
def test_with_a_key_a_caller_is_admitted_however_it_sends_it(
    start: Callable[..., Gateway], emulator: Emulator, ring: KeyRing, how: str
) -> None:
    """As the SDKs of either generation do, or in a header of our own. The key goes no further, and its id is on the ledger."""
    token, key = ring.create("ci")
    gateway = start(emulator.base_url)
    value = f"Bearer {token}" if how == "authorization" else token
    assert ask(gateway, {how: value}).startswith(b"HTTP/1.1 200 ")
    assert ask(gateway, {how: value}, model="claude-haiku-5-5").startswith(b"HTTP/1.1 200 ")
    assert token not in repr(emulator.raw_requests)
    gateway.stop()
    assert [record.request.metadata for record in gateway.records()] == [{"key": key.id}] * 2


def test_wrong_missing_and_revoked_keys_are_refused_alike(
    start: Callable[..., Gateway], emulator: Emulator, ring: KeyRing
) -> None:
    """At every path but those that say nothing; and nothing goes upstream."""
    token, _ = ring.create("ci")
    revoked, other = ring.create("old")
    ring.revoke(other.id)
    gateway = start(emulator.base_url)
    almost = token[:-1] + ("A" if token[-1] != "A" else "B")
    for value in ("", almost, revoked, token.upper(), "casc-", "sk-ant-1", "casc-000000000000-" + "A" * 43, "é"):
        headers = {"authorization": f"Bearer {value}"} if value else {}
        assert error_of(ask(gateway, headers)) == (401, "authentication_error")
    for path in ("/v1/models", "/metrics", "/v1/answers/casc_1", "/nothing"):
        request = f"GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".encode()
        assert error_of(gateway.send(request))[0] == 401
    health = gateway.send(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
    assert body_of(health) == b'{"status":"ok"}'
    assert emulator.requests == ()


def test_a_revoked_key_stops_working_within_a_second(
    start: Callable[..., Gateway], emulator: Emulator, ring: KeyRing
) -> None:
    """In a gateway that runs; and a new one begins to work as soon."""
    ring.create("stays")
    gateway = start(emulator.base_url)
    token, key = ring.create("ci")
    wait_until(lambda: ask(gateway, {"x-api-key": token}).startswith(b"HTTP/1.1 200 "))
    ring.revoke(key.id)
    wait_until(lambda: ask(gateway, {"x-api-key": token}).startswith(b"HTTP/1.1 401 "))


def wait_until(holds: Callable[[], bool], seconds: float = 1.0) -> None:
    """Ask until it holds: within a second, and ten on a machine that has other work to do."""
    until = time.monotonic() + 10 * seconds
    while not holds():
        assert time.monotonic() < until


def test_with_auth_forward_the_key_comes_in_its_own_header(
    start: Callable[..., Gateway], emulator: Emulator, ring: KeyRing
) -> None:
    """And the caller's own credentials go upstream."""
    token, _ = ring.create("ci")
    gateway = start(emulator.base_url, auth="forward")
    assert error_of(ask(gateway, {"x-api-key": token}))[0] == 401
    assert ask(gateway, {"x-cascade-key": token, "x-api-key": "mine"}).startswith(b"HTTP/1.1 200 ")
    sent = [pair for pair in emulator.raw_requests[0].headers if pair[0].lower() == b"authorization"]
    assert [value for _, value in sent] == [b"Bearer mine"]


def test_a_key_s_policy_holds_for_all_of_its_requests(
    start: Callable[..., Gateway], emulator: Emulator, ring: KeyRing, tmp_path: Path
) -> None:
    """Whatever real model they name; other policies are refused, and not listed."""
    token, _ = ring.create("ci", policy="small")
    lost, _ = ring.create("lost", policy="gone")
    policies = tuple(str(policy_file(tmp_path, name)) for name in ("other", "small"))
    gateway = start(emulator.base_url, policies=policies)
    response = ask(gateway, {"x-api-key": token}, model="claude-opus-5-5")
    assert b"\r\nx-cascade-policy: small\r\n" in response
    assert error_of(ask(gateway, {"x-api-key": token}, model="claude-cascade-other")) == (403, "permission_error")
    assert error_of(ask(gateway, {"x-api-key": lost})) == (403, "permission_error")
    listed = gateway.send(
        f"GET /v1/models HTTP/1.1\r\nhost: localhost\r\nx-api-key: {token}\r\nconnection: close\r\n\r\n".encode()
    )
    ids = [one["id"] for one in json.loads(body_of(listed))["data"]]
    assert "claude-cascade-small" in ids
    assert "claude-cascade-other" not in ids


@pytest.mark.parametrize("model", ["claude-cascade-small", "claude-sonnet-5-5"])
def test_a_key_s_daily_budget_holds(
    start: Callable[..., Gateway], emulator: Emulator, ring: KeyRing, model: str
) -> None:
    """For climbs and passed-through requests together; what is reserved and not spent is given back."""
    token, key = ring.create("ci", daily_usd=Decimal("0.1"))
    poor, _ = ring.create("poor", daily_usd=Decimal("0.000001"))
    gateway = start(emulator.base_url)
    assert error_of(ask(gateway, {"x-api-key": poor}, model=model)) == (429, "rate_limit_error")
    responses = [ask(gateway, {"x-api-key": token}, model=model, max_tokens=500) for _ in range(8)]
    served = sum(response.startswith(b"HTTP/1.1 200 ") for response in responses)
    assert served >= 3  # the most that one may cost is reserved: not all of it stays so
    gateway.stop()
    spent = sum(record.outcome.cost for record in gateway.records() if record.outcome is not None)
    assert spent <= 100_000_000
    assert all(record.request.metadata == {"key": key.id} for record in gateway.records())


def test_streams_that_are_left_early_do_not_use_up_a_key(
    start: Callable[..., Gateway], emulate: Callable[..., Emulator], ring: KeyRing
) -> None:
    """They count as what came of them, as on the ledger: not as the most that the whole ladder may cost."""
    emulator = emulate(script=script, token_latency_s=0.02)
    token, key = ring.create("ci", daily_usd=Decimal("0.1"))  # room for one worst case, and not for two
    gateway = start(emulator.base_url)
    body = json.dumps(asked(stream=True)).encode()
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as connection:
            connection.sendall(post(body, {"x-api-key": token}, target="/v1/messages"))
            seen = b""
            while b"content_block_delta" not in seen:
                piece = connection.recv(65536)
                assert piece, seen
                seen += piece
        wait_until(lambda: emulator.open_replies == 0)
        request_id = seen.partition(b"x-cascade-request-id: ")[2].partition(b"\r\n")[0].decode()
        path = f"GET /v1/answers/{request_id} HTTP/1.1\r\nhost: localhost\r\nx-api-key: {token}\r\nconnection: close\r\n\r\n"
        wait_until(lambda path=path: gateway.send(path.encode()).startswith(b"HTTP/1.1 200 "))
        found = json.loads(body_of(gateway.send(path.encode())))
        assert (found["error"]["type"], [step["rung"] for step in found["steps"]]) == ("cancelled", ["haiku"])
        assert found["cost_nanousd"] > 0
    gateway.stop()
    spent = sum(record.outcome.cost for record in gateway.records() if record.outcome is not None)
    day = datetime.now(UTC).strftime("%Y-%m-%d")
    assert process_counters("gateway").spent(f"gateway/key={key.id}|daily|{day}") == (spent, 0)


def test_what_a_key_has_spent_is_known_after_a_restart(
    start: Callable[..., Gateway], emulator: Emulator, ring: KeyRing, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The ledger knows it: of climbs, and of what was passed through."""
    token, _ = ring.create("ci", daily_usd=Decimal("0.1"))
    gateway = start(emulator.base_url)
    for model in ("claude-cascade-small", "claude-sonnet-5-5"):
        assert ask(gateway, {"x-api-key": token}, model=model).startswith(b"HTTP/1.1 200 ")
    gateway.stop()
    spent = sum(record.outcome.cost for record in gateway.records() if record.outcome is not None)
    assert spent > 1_000_000
    monkeypatch.setenv("CASCADE_HOME", str(tmp_path / "elsewhere"))  # counters belong to a home: these start at zero
    rich, _ = ring.create("same", daily_usd=Decimal("0.1"))
    again = start(emulator.base_url)
    body = {"model": "claude-sonnet-5-5", "max_tokens": 9_450}  # 99 milli-USD: room in 100, not beside what was spent
    assert ask(again, {"x-api-key": rich}, **body).startswith(b"HTTP/1.1 200 ")
    assert error_of(ask(again, {"x-api-key": token}, **body)) == (429, "rate_limit_error")


def test_without_a_key_it_listens_on_loopback_alone(ring: KeyRing, tmp_path: Path) -> None:
    """Anybody could spend the money."""
    settings = GatewaySettings(host="0.0.0.0", ledger=str(tmp_path / "ledger.db"))
    with pytest.raises(ConfigurationError, match=r"--host 0\.0\.0\.0: without keys .*cascade serve keys create"):
        check_settings(settings)
    ring.create("ci")
    check_settings(settings)


def test_without_a_key_no_web_page_is_served(start: Callable[..., Gateway], emulator: Emulator, ring: KeyRing) -> None:
    """A page in a browser on this machine reaches the loopback, too; with a key it may."""
    gateway = start(emulator.base_url)
    for origin in ("https://evil.example", "null"):
        assert error_of(ask(gateway, {"origin": origin, "content-type": "text/plain"})) == (403, "permission_error")
    assert emulator.requests == ()
    token, _ = ring.create("page")
    wait_until(
        lambda: ask(gateway, {"origin": "https://mine.example", "x-api-key": token}).startswith(b"HTTP/1.1 200 ")
    )


def to_host(gateway: Gateway, *hosts: str, path: str = "/healthz", more: str = "") -> bytes:
    """The response to a request with these `Host` headers."""
    lines = "".join(f"host: {host}\r\n" for host in hosts)
    return gateway.send(f"GET {path} HTTP/1.1\r\n{lines}{more}connection: close\r\n\r\n".encode())


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:8484", "127.evil.example", "localhost@evil.example",
     "10.0.0.1", "0.0.0.0", "[::2]:8484", "::1", "localhost:80:80", "127.0.0.999", ""],
)  # fmt: skip
def test_without_a_key_a_request_to_another_name_is_refused(
    start: Callable[..., Gateway], emulator: Emulator, ring: KeyRing, host: str
) -> None:
    """A page's own name that leads to this machine by now: to the browser it is no foreign page. With a key any name is served."""
    gateway = start(emulator.base_url)
    for path in ("/healthz", "/v1/models"):
        assert error_of(to_host(gateway, host, path=path)) == (403, "permission_error")
    assert emulator.requests == ()
    token, _ = ring.create("ci")
    wait_until(lambda: to_host(gateway, host, more=f"x-api-key: {token}\r\n").startswith(b"HTTP/1.1 200 "))


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8484", "127.0.0.1", "127.8.9.1:1", "[::1]", "[::1]:8484"])
def test_without_a_key_every_name_of_the_loopback_is_served(
    start: Callable[..., Gateway], emulator: Emulator, host: str
) -> None:
    """With a port, and without."""
    assert to_host(start(emulator.base_url), host).startswith(b"HTTP/1.1 200 ")


def test_a_request_without_one_host_is_malformed(
    start: Callable[..., Gateway], emulator: Emulator, ring: KeyRing
) -> None:
    """In HTTP/1.1 there must be exactly one, with keys and without. HTTP/1.0 has none."""
    gateway = start(emulator.base_url)
    old = gateway.send(b"GET /healthz HTTP/1.0\r\n\r\n")
    assert old.split(b" ")[1] == b"200"
    for hosts in ((), ("localhost", "evil.example"), ("localhost", "localhost")):
        assert error_of(to_host(gateway, *hosts)) == (400, "invalid_request_error")
    ring.create("ci")
    wait_until(lambda: to_host(gateway, "evil.example", path="/v1/models").startswith(b"HTTP/1.1 401 "))
    assert error_of(to_host(gateway)) == (400, "invalid_request_error")


@pytest.mark.parametrize("host", ["localhost.evil.example", "127.evil.example", "::11", "0.0.0.0", ""])
def test_only_the_loopback_itself_is_listened_on_without_a_key(tmp_path: Path, host: str) -> None:
    """A name that begins like it is another machine's."""
    with pytest.raises(ConfigurationError, match="listens on loopback alone"):
        check_settings(GatewaySettings(host=host, ledger=str(tmp_path / "ledger.db")))


def test_a_key_is_made_listed_and_revoked_by_commands(run: Run, tmp_path: Path) -> None:
    """The key is shown once; the list has neither it nor its hash."""
    ledger = str(tmp_path / "ledger.db")
    made = run(
        "serve", "keys", "create", "--name", "ci", "--policy", "small", "--daily-usd", "2.50", "--ledger", ledger
    )
    token = made.out.strip()
    assert made.code == 0
    assert id_of(token) is not None
    listed = run("serve", "keys", "list", "--json", "--ledger", ledger)
    (shown,) = json.loads(listed.out)
    assert (shown["name"], shown["policy"], shown["daily_usd"], shown["revoked"]) == ("ci", "small", "2.50", None)
    assert "digest" not in shown
    assert run("serve", "keys", "revoke", "ci", "--ledger", ledger).code == 0
    assert json.loads(run("serve", "keys", "list", "--json", "--ledger", ledger).out)[0]["revoked"] is not None
    unknown = run("serve", "keys", "revoke", "nobody", "--ledger", ledger)
    assert (unknown.code, unknown.err.count("\n")) == (2, 1)


def test_two_active_keys_cannot_have_one_name(run: Run, tmp_path: Path) -> None:
    """`revoke NAME` could not tell them apart. The name of a revoked key is free again."""
    create = ("serve", "keys", "create", "--name", "ci", "--ledger", str(tmp_path / "l.db"))
    assert run(*create).code == 0
    again = run(*create)
    assert (again.code, again.out, again.err.count("\n")) == (2, "", 1)
    assert "--name ci: there is an active key of this name" in again.err
    assert run("serve", "keys", "revoke", "ci", "--ledger", str(tmp_path / "l.db")).code == 0
    assert run(*create).code == 0
    assert [run("serve", "keys", "create", *create[-2:]).code for _ in range(2)] == [0, 0]  # they have no name


@pytest.mark.parametrize("usd", ["0", "-1", "nan", "a lot", "1e99"])
def test_a_budget_that_is_none_is_refused(run: Run, tmp_path: Path, usd: str) -> None:
    """In one line that names the option."""
    made = run("serve", "keys", "create", "--daily-usd", usd, "--ledger", str(tmp_path / "l.db"))
    assert made.code == 2
    assert "--daily-usd" in made.err


def test_a_damaged_row_is_told_and_does_not_open_the_gateway(ring: KeyRing, tmp_path: Path) -> None:
    """An unreadable key is not as good as none."""
    GatewayTables(str(tmp_path / "ledger.db")).put_key("1", 1.0, "{}")
    with pytest.raises(LedgerError, match="gateway_keys"):
        ring.read()


def test_a_revoked_key_still_keeps_the_gateway_closed(ring: KeyRing) -> None:
    """Whoever revokes the last one does not mean to admit everybody."""
    _, key = ring.create("ci")
    ring.revoke(key.id)
    ring.read()
    assert not ring.is_empty


def test_keys_compare_as_values() -> None:
    """A document and back."""
    key = Key("1", "n", "d", 1.0, "p", Decimal("1.5"), 2.0)
    assert Key.from_dict(json.loads(json.dumps(key.to_dict()))) == key
