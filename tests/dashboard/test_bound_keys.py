"""What a key that is bound to a policy is told of the others, over a ledger that has their requests and texts: nothing, on no page."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import closing
from typing import NamedTuple

import pytest

from cascade.gateway.keys.ring import KeyRing
from cascade.gateway.settings import GatewaySettings
from cascade.ledger.gateway import GatewayTables
from cascade.ledger.opening import open_reader
from cascade.ledger.trails import newest_requests
from tests.dashboard.recorded_day import NOW, START, RecordedDay, record_day
from tests.dashboard.recorded_policies import HELP_DESK, LABELS, REVIEWS, write_policies
from tests.dashboard.test_pages_gateway import NOWHERE, Visitor
from tests.gateway.serving import Gateway

PERIOD = "from=2026-11-25&to=2026-11-27"


class Bound(NamedTuple):
    """A gateway with a recorded day, and two who have logged in: with a key of the policy of reviews, and with one of none."""

    visitor: Visitor
    lead: Visitor
    day: RecordedDay


@pytest.fixture(scope="module")
def bound(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bound]:
    """Two policies are served; the ledger has a third one's requests, too."""
    folder = tmp_path_factory.mktemp("bound")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANTHROPIC_API_KEY", "k")
        patch.setenv("CASCADE_HOME", str(folder / "home"))
        day = record_day(folder / "ledger.db", requests=400, grade=4)
        ring = KeyRing(GatewayTables(day.address))
        keys = ring.create("reviewers", policy=REVIEWS)[0], ring.create("lead")[0]
        named = tuple(map(str, write_policies(folder / "policies")))
        with Gateway(GatewaySettings(upstream=NOWHERE, port=0, ledger=day.address, policies=named)) as gateway:
            visitor, lead = Visitor(gateway), Visitor(gateway)
            for one, key in zip((visitor, lead), keys, strict=True):
                one.log_in(key)
            yield Bound(visitor, lead, day)


def test_no_page_names_another_policy_its_requests_or_the_ledger(bound: Bound) -> None:
    """Whatever its address asks for; the other key sees them all."""
    visitor, lead, day = bound
    with closing(open_reader(day.address)) as reader:
        own, others = (
            {one.id: one for one in newest_requests(reader, START - 86_400, NOW, 40, name)}
            for name in (REVIEWS, HELP_DESK)
        )
        tasks = {one.request.task for one in others.values()} - {one.request.task for one in own.values()}
    assert own
    assert others
    assert tasks
    paths = [
        f"/?{PERIOD}",
        f"/?{PERIOD}&policy={HELP_DESK}",
        "/dashboard/modes",
        "/dashboard/mode?mode=off&policy=" + REVIEWS,
    ]
    paths += [
        f"/dashboard/model?name={name}&{PERIOD}&policy={HELP_DESK}" for name in ("claude-haiku-5-5", "claude-opus-5-5")
    ]
    paths += [f"/dashboard/request?id={request}" for request in (*own, *others)]
    seen = {path: visitor.get(path) for path in paths}
    told = [HELP_DESK, LABELS, day.address, *tasks, *others]
    for path, page in seen.items():
        shown = page.text.replace(path.partition("id=")[2] or "\0", "")
        assert [name for name in told if re.search(rf"\b{re.escape(name)}\b", shown)] == [], path
    assert {seen[f"/dashboard/request?id={request}"].status for request in own} == {200}
    assert {seen[f"/dashboard/request?id={request}"].status for request in others} == {404}
    page = lead.get(f"/?{PERIOD}").text
    assert [name for name in (HELP_DESK, day.address) if name not in page] == []
    assert {lead.get(f"/dashboard/request?id={request}").status for request in list(others)[:2]} == {200}


def test_a_stream_says_that_the_ledger_has_grown_and_not_how_large_it_is(bound: Bound) -> None:
    """Nor does a page: neither has a number of the ledger's."""
    visitor = bound.visitor
    with closing(open_reader(bound.day.address)) as reader:
        (numbers,) = reader.select("SELECT max(id), count(*) FROM entries", {})
    with socket.create_connection(("127.0.0.1", visitor.gateway.port), timeout=20) as connection:
        connection.sendall(
            f"GET /dashboard/events HTTP/1.1\r\nhost: localhost\r\ncookie: {visitor.cookie}\r\n\r\n".encode()
        )
        stream = connection.makefile("rb")
        while not (line := stream.readline()).startswith(b"data:"):
            assert line
    version = re.search(r'data-version="([^"]+)"', visitor.get(f"/?{PERIOD}").text)
    assert version is not None
    assert line.decode().removeprefix("data:").strip() == version.group(1)
    assert not re.search(rf"(^|\D)({'|'.join(map(str, numbers))})(\D|$)", version.group(1).partition(":")[0])
