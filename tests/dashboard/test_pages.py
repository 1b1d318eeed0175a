"""The pages by themselves: what they say, what they escape, what their headers forbid, and how they behave when the ledger does not."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest
from starlette.datastructures import Headers

from cascade.core.errors import ConfigurationError, LedgerError
from cascade.costs import Period, PeriodSums, costs
from cascade.dashboard.app import Settings
from cascade.dashboard.choosing import read_choice
from cascade.dashboard.forms import Refused, check_origin, page_address, wants_page
from cascade.dashboard.pages.frame import Frame, concerns
from cascade.dashboard.pages.rendering import render
from cascade.dashboard.reading import Busy, Reading
from cascade.dashboard.streams import FullHouse, Streams
from cascade.dashboard.switching import Asked
from cascade.gateway.dashboard_server import listen
from tests.dashboard.by_hand import NOW, Held, Pages, ask, overview

HOSTILE = "<script>document.title='pwned'</script>\"><img src=x onerror=alert(1)>{{7*7}}\u202egnp.exe" + "x" * 10_000
VIEWS = (
    "/",
    "/?policy=help-desk",
    "/dashboard/model?name=help-desk",
    "/dashboard/request?id=casc_1",
    "/dashboard/modes",
)


class _Page(HTMLParser):
    """The tags of a page, with their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of all elements of a kind."""
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def held() -> Held:
    """A ledger in memory."""
    return Held(overview())


@pytest.fixture(scope="module")
def pages(held: Held) -> Iterator[Pages]:
    """The dashboard over it."""
    with Pages(held) as running:
        yield running


@pytest.mark.parametrize("path", VIEWS)
def test_a_page_has_no_style_or_script_of_its_own_and_its_headers_forbid_them(pages: Pages, path: str) -> None:
    """The policy lets the browser load the dashboard's own two files, and nothing else."""
    answer = pages.ask("GET", path)
    assert answer.status == 200
    page = _Page(answer.text)
    assert {(one.get("src") or "").partition("?")[0] for one in page.of("script")} <= {"/dashboard/static/dashboard.js"}
    assert not page.of("style")
    assert not [name for _, attributes in page.tags for name in attributes if name == "style" or name.startswith("on")]
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "unsafe" not in policy
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", VIEWS)
def test_every_table_has_a_caption_and_every_picture_a_title(pages: Pages, path: str) -> None:
    """So do the fields of forms have labels, and ids stand once."""
    html = pages.ask("GET", path).text
    page = _Page(html)
    assert html.count("<table") == html.count("<caption")
    for attributes in page.of("svg"):
        assert attributes.get("role") == "img" or attributes.get("aria-hidden") == "true"
    assert len(re.findall(r'<svg[^>]*role="img"[^>]*>\s*<title', html)) == html.count('role="img"')
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {attributes.get("for") for attributes in page.of("label")} - {None} <= set(ids)
    assert all(attributes.get("scope") in ("row", "col") for attributes in page.of("th"))
    assert page.of("html")[0]["lang"] == "en"
    assert "#main" in {attributes.get("href") for attributes in page.of("a")}


@pytest.mark.parametrize("path", ["/", "/?policy=x", "/dashboard/model?name=", "/dashboard/request?id=casc_1"])
def test_hostile_names_and_texts_add_no_element_and_are_cut(path: str) -> None:
    """The same elements as with harmless names; what reorders text is shown as an escape; 10,000 letters do not fill the page."""
    plain = Held(overview("name", "name"))
    hostile = Held(replace(overview(HOSTILE, HOSTILE), ledger=HOSTILE))
    found: list[_Page] = []
    for source in (plain, hostile):
        with Pages(source) as running:
            answer = running.ask("GET", path + (source.found.models[0].name[:0] if "model" in path else ""))
        found.append(_Page(answer.text))
        assert len(answer.text) < 80_000
    assert [tag for tag, _ in found[0].tags] == [tag for tag, _ in found[1].tags]
    assert "\u202e" not in found[1].text
    assert "49" not in re.findall(r"onerror=alert\(1\)>(..)", found[1].text)


def test_an_empty_ledger_says_what_to_do_and_a_silent_period_what_to_choose() -> None:
    """No figure stands in either page."""
    nothing = PeriodSums()
    empty = replace(overview(), costs=costs(nothing, nothing, "task"), last=(), exists=False, stamp="")
    with Pages(Held(empty)) as running:
        page = running.ask("GET", "/").text
    assert "No requests yet" in page
    assert "cascade ask" in page
    assert "data-figure" not in page
    with Pages(Held(replace(empty, exists=True, stamp="7"))) as running:
        assert "Nothing in this period" in running.ask("GET", "/").text


def test_what_needs_attention_stands_first_the_worst_before_the_rest(pages: Pages) -> None:
    """A storm that goes on, an alarm of the audit, a budget near its limit; or that there is nothing."""
    assert [(one.level, one.target) for one in concerns(overview())] == [
        ("alarm", "escalations"), ("alarm", "audits"), ("alert", "budgets"),
    ]  # fmt: skip
    page = pages.ask("GET", "/").text
    assert page.index("Storm: help-desk") < page.index("Daily budget of help-desk") < page.index("<h2>Spend")
    with Pages(Held(overview(episodes=(), audits=(), budgets=()))) as running:
        assert "No storm, no alarm" in running.ask("GET", "/").text


def test_a_period_is_chosen_by_a_plain_form(pages: Pages) -> None:
    """By length or by its ends, kept by links; what is none is refused in words, as a page."""
    page = pages.ask("GET", "/?since=7d&policy=help-desk").text
    assert '<button name="since" value="7d" id="span-7d" aria-current="true">' in page
    assert '<option value="help-desk" selected>' in page
    assert "since=7d&amp;policy=help-desk&amp;name=" in page
    page = pages.ask("GET", "/?from=2026-05-01T00:00&to=2026-05-02T00:10").text
    assert "2026-05-01 00:00 to 2026-05-02 00:15 UTC" in page
    for wrong in ("since=soon", "from=2026-05-02&to=2026-05-01", "from=now", "since=2999-01-01"):
        answer = pages.ask("GET", f"/?{wrong}")
        assert (answer.status, "This cannot be shown" in answer.text) == (400, True)


def test_choices_are_whole_quarters_of_an_hour() -> None:
    """As `cascade costs --since` reads them."""
    assert read_choice({}, NOW)[1] == Period(int(NOW // 900 + 1) * 900 - 86_400, int(NOW // 900 + 1) * 900)
    choice, period = read_choice({"from": "2026-05-01T00:01", "policy": "p"}, NOW)
    assert period.until == -(-NOW // 900) * 900
    assert (choice.start, choice.policy) == ("2026-05-01T00:01", "p")
    with pytest.raises(ConfigurationError, match="must begin before it ends"):
        read_choice({"from": "2026-05-02", "to": "2026-05-02"}, NOW)
    for end in ("9999-12-31T23:59-23:59", "2999-01-01"):
        assert read_choice({"from": "2026-05-01", "to": end}, NOW)[1].until == int(NOW // 900 + 1) * 900
        with pytest.raises(ConfigurationError, match="before now"):
            read_choice({"from": "9999-12-31T23:59-23:59", "to": end}, NOW)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("PUT", "/dashboard/login", 405), ("GET", "/dashboard/nothing", 404), ("POST", "/dashboard/events", 405), ("GET", "/dashboard/request?id=no", 404),
        ("GET", "/dashboard/static/base.html.j2", 404), ("GET", "/dashboard/static/..", 404), ("POST", "/dashboard/mode", 403),
        ("GET", "/dashboard/mode?mode=off&policy=help-desk", 403), ("POST", "/dashboard/logout", 403), ("DELETE", "/dashboard/modes", 405),
        ("GET", "/v1/messages", 404), ("POST", "/", 404), ("HEAD", "/dashboard/events", 405),
    ],
)  # fmt: skip
def test_what_is_not_served_is_refused(pages: Pages, method: str, path: str, status: int) -> None:
    """And nothing is switched where nobody can log in."""
    assert pages.ask(method, path).status == status


def test_read_only_pages_show_the_command_that_switches(pages: Pages) -> None:
    """There is no form, and no link that leads to one."""
    page = pages.ask("GET", "/dashboard/modes").text
    assert "<form" not in page
    assert "/dashboard/mode?" not in page
    assert "<code>cascade mode off</code>" in page


def test_nothing_of_another_site_and_no_other_name_is_served(pages: Pages) -> None:
    """A name that leads to this machine by now, and a page of another site, get nothing."""
    assert pages.ask("GET", "/", {"host": "evil.example"}).status == 403
    assert pages.ask("GET", "/", {"origin": "http://evil.example"}).status == 403
    with pytest.raises(ConfigurationError, match="loopback alone"):
        listen("0.0.0.0", 0)


def test_a_ledger_that_cannot_be_read_is_a_page_that_says_so() -> None:
    """With the reason, and the pages answer again once it is back."""
    source = Held(overview())
    source.problem = LedgerError("ledger.db is <gone>")
    with Pages(source) as running:
        answer = running.ask("GET", "/")
        assert (answer.status, "ledger.db is &lt;gone&gt;" in answer.text) == (503, True)
        source.problem = None
        assert running.ask("GET", "/").status == 200


def test_a_slow_ledger_keeps_nobody_else_waiting() -> None:
    """While its figures are being read, other pages and files are served; all who asked get the same answer."""
    source = Held(overview())
    source.gate.clear()
    with Pages(source) as running:
        answers: list[Any] = []
        waiting = [threading.Thread(target=lambda: answers.append(running.ask("GET", "/").status)) for _ in range(5)]
        for one in waiting:
            one.start()
        assert running.ask("GET", "/dashboard/request?id=casc_1").status == 200
        assert running.ask("GET", "/dashboard/static/dashboard.css").status == 200
        assert not answers
        source.gate.set()
        for one in waiting:
            one.join()
        assert answers == [200] * 5


def test_streams_say_when_the_ledger_has_grown_and_end_with_the_server() -> None:
    """The first event names the version that is there; the server does not wait for streams that would never end."""
    source = Held(overview())
    running = Pages(source)
    with running, socket.create_connection(("127.0.0.1", running.port), timeout=20) as connection:
        connection.sendall(b"GET /dashboard/events HTTP/1.1\r\nhost: localhost\r\n\r\n")
        stream = connection.makefile("rb")
        assert _event(stream).startswith("1:")
        source.changed = 2
        assert _event(stream).startswith("2:")
        running.stop()
        assert b"event:" not in stream.read()


def _event(stream: Any) -> str:
    """The next event's data."""
    while line := stream.readline():
        if line.startswith(b"data: "):
            return line[6:].decode().strip()
    raise AssertionError("the stream has ended")


def test_a_page_says_which_version_it_shows(pages: Pages, held: Held) -> None:
    """So that its script knows whether a stream's first event is news."""
    page = _Page(pages.ask("GET", "/").text)
    assert page.of("html")[0]["data-version"] == f"{held.changed}:{int(NOW // 900)}"


def test_figures_are_never_older_than_the_version_beside_them() -> None:
    """They are kept for a moment, by the version: one that is new brings new figures with it."""
    now = [0.0]
    source = Held(overview())
    with Pages(source, Settings(wall=lambda: NOW, clock=lambda: now[0])) as running:

        def seen() -> tuple[str, bool]:
            answer = running.ask("GET", "/").text
            return _Page(answer).of("html")[0]["data-version"] or "", "4,321" in answer

        assert seen() == (f"1:{int(NOW // 900)}", False)
        now[0] = 1.0
        total = replace(source.found.costs.total, requests=4_321)
        source.found = replace(source.found, costs=replace(source.found.costs, total=total))
        source.changed = 2
        assert seen() == (f"1:{int(NOW // 900)}", False)
        now[0] = 1.6  # the version is looked at again, while the figures of the one before it are still kept
        assert seen() == (f"2:{int(NOW // 900)}", True)


def test_too_many_who_wait_and_a_ledger_that_never_answers_are_told() -> None:
    """What was begun goes on in its thread, and serves who comes later."""

    async def scene() -> None:
        gate, clock = threading.Event(), [0.0]
        reading = Reading(lambda: clock[0], patience_s=0.01)
        with pytest.raises(Busy, match="has not answered"):
            await reading.read("key", gate.wait)
        begun = [asyncio.ensure_future(reading.run(gate.wait)) for _ in range(70)]
        found = await asyncio.gather(*begun, return_exceptions=True)
        assert sum("too many" in str(one) for one in found) == 70 - 63
        gate.set()
        later = Reading(lambda: clock[0])
        assert await later.read("key", lambda: 1) == 1
        assert await later.read("key", lambda: 2) == 1
        clock[0] = 2.0
        assert await later.read("key", lambda: 2) == 2
        with pytest.raises(LedgerError):
            await later.read("other", _fail)
        assert await later.read("other", lambda: 3) == 3
        reading.close()
        later.close()

    asyncio.run(scene())


def _fail() -> int:
    raise LedgerError("gone")


def test_streams_are_bounded_and_look_only_while_somebody_watches() -> None:
    """One look serves all; whose login has ended hears no more."""

    async def scene() -> None:
        looks: list[int] = []

        async def look() -> str:
            looks.append(1)
            return "v1"

        allowed = [True]

        async def still() -> bool:
            return allowed[0]

        streams = Streams(look, look_s=3_600, most=2)
        assert not looks
        first, second = streams.enter(still), streams.enter(still)
        with pytest.raises(FullHouse):
            streams.enter(still)  # their places are theirs before they begin
        del second  # one that never begins gives its place back
        second = streams.enter(still)
        for one in (first, second):
            assert await anext(one) == b"retry: 3000\n\n"
            assert await anext(one) == b"event: version\ndata: v1\n\n"
        assert (streams.open, len(looks)) == (2, 1)
        allowed[0] = False
        await second.aclose()
        streams.end()
        assert [one async for one in first] == []
        assert streams.open == 0

    asyncio.run(scene())


def test_files_are_kept_for_good_under_their_own_bytes_name(pages: Pages) -> None:
    """A new version has another name."""
    page = _Page(pages.ask("GET", "/").text)
    for address in (page.of("link")[1]["href"], page.of("script")[0]["src"]):
        assert address is not None
        answer = pages.ask("GET", address)
        assert (answer.status, "immutable" in answer.headers["cache-control"]) == (200, True)
        assert "immutable" not in pages.ask("GET", address.partition("?")[0]).headers["cache-control"]


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("/?since=7d", "/?since=7d"), ("/dashboard/modes", "/dashboard/modes"), ("", "/"), ("//evil.example/", "/"), ("https://evil.example/", "/"),
        ("/\\evil.example", "/"), ("/v1/messages", "/"), ("/dashboard/login?next=/", "/"), ("javascript:alert(1)", "/"), ("/dashboard/x\r\ny", "/"),
        ("//[", "/"), ("http://[::", "/"),
    ],
)  # fmt: skip
def test_a_login_leads_to_our_own_pages_alone(text: str, address: str) -> None:
    """Whatever the link to it said."""
    assert page_address(text) == address


def test_only_browsers_are_shown_pages() -> None:
    """Clients of the API send no `accept`, or `*/*`, or JSON."""
    assert wants_page("text/html,application/xhtml+xml,*/*;q=0.8")
    assert not any(wants_page(accept) for accept in ("", "*/*", "application/json", "text/plain"))


def test_one_request_can_be_asked_without_reading_the_others(pages: Pages) -> None:
    """By HEAD, too."""
    assert ask(pages.port, "HEAD", "/").text == ""


@pytest.mark.parametrize("origin", ["", "null", "http://[", "http://evil.example", "//"])
def test_a_form_of_nowhere_is_no_form_of_ours(origin: str) -> None:
    """An origin that is none, or cannot be read; a client that names no host either."""
    for host in ("127.0.0.1:8484", ""):
        with pytest.raises(Refused):
            check_origin(Headers({"origin": origin, "host": host}))


def test_an_address_without_the_last_stroke_leads_to_the_overview(pages: Pages) -> None:
    """`/dashboard` is what people type."""
    for path in ("/dashboard", "/dashboard/"):
        answer = pages.ask("GET", path)
        assert (answer.status, answer.headers["location"]) == (303, "/")
    assert pages.ask("GET", "/dashboard", {"accept": "*/*"}).status == 404


def test_what_stands_between_backticks_is_code_and_still_escaped() -> None:
    """Ours, such as a command; a caller's `<b>` stays a text."""
    said = Asked("off", "", "?", "Do it", ("run `cascade mode` or `<b>`", "an odd ` one"))
    page = render("confirm", Frame("", NOW), asked=said)
    assert "<li>run <code>cascade mode</code> or <code>&lt;b&gt;</code></li><li>an odd ` one</li>" in page
