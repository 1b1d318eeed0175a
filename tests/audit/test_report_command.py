"""`cascade audit report` on a ledger of its own: what it tells is what was put in, and texts of requests do nothing."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from cascade.cli.audit.report import ReportOptions, run_report
from cascade.core.errors import ConfigurationError, LedgerError
from cascade.ledger.audit import AuditTables, Grading, Mark
from cascade.policy.certificates import epoch_of
from cascade.policy.loading import load_policy
from tests.audit.books import AuditBooks

NOW = datetime(2026, 11, 21, 10, 7, tzinfo=UTC).timestamp()
HOSTILE = "</pre><script>hacked=1</script>\x1b[31m{{ 7*7 }} '\" & <img src=x onerror=hacked=1>\u202e"
POLICY = """
version: 1
name: audited
ladder:
  - {rung: haiku, model: claude-haiku-5-5, threshold: 0.80, max_tokens: 1024, thinking: disabled}
  - {rung: sonnet, model: claude-sonnet-5-5, threshold: 0.80, max_tokens: 4096, effort: low}
  - {rung: opus, model: claude-opus-5-5, max_tokens: 8192}
ledger: {content: true}
audit: {sample: 1.0, cost_of_error_usd: 0.02}
"""


class Page(HTMLParser):
    """The elements of a page, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        """Note a text."""
        self.text += data


@pytest.fixture
def policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A policy's file, and no home but the test's own."""
    monkeypatch.setenv("CASCADE_HOME", str(tmp_path))
    monkeypatch.delenv("CASCADE_LEDGER", raising=False)
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY)
    return str(path)


@pytest.fixture
def books(tmp_path: Path, policy: str) -> AuditBooks:
    """The ledger where the command looks for it."""
    loaded = load_policy(policy)
    return AuditBooks(tmp_path / "ledger.db", loaded, NOW - 7_200, epoch_of(loaded, 0))


def fill(books: AuditBooks, *, agrees_with_wrong: bool = False) -> None:
    """Ten of haiku, of which one is wrong and one is open; two of opus; one with a low confidence, wrong."""
    graded = {books.ask(0, question=f"Question {n}?", answer="Yes."): Grading("exact", 1.0) for n in range(8)}
    wrong = books.ask(0, question=HOSTILE, answer=f"shipped {HOSTILE}", confidence=0.85)
    books.ask(0, question="Later?", answer="Yes.")
    graded |= {books.ask(2): Grading("top", 1.0) for _ in range(2)}
    low = books.ask(0, question="Low?", answer="No.", sampled="lowest", confidence=0.8)
    books.ask(1, sampled=None)
    graded |= {
        wrong: Grading("judge:opus", 0.0, "disagree", f"other {HOSTILE}"), low: Grading("exact", 0.0),
    }  # fmt: skip
    books.put_controls("judge:opus", agrees_with_wrong=agrees_with_wrong)
    books.grade(graded, shadow=f"shadow {HOSTILE}")
    books.close()


def told(policy: str, capsys: pytest.CaptureFixture[str], *, as_json: bool = False, html: Path | None = None) -> str:
    """What the command prints."""
    run_report(ReportOptions(policy, "30d", html, None), as_json=as_json, now=lambda: NOW)
    return capsys.readouterr().out


def test_the_json_tells_what_was_put_in(books: AuditBooks, policy: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Rates, faults, disagreements with both answers, profit, routing and drift: by the documented keys."""
    fill(books)
    found: dict[str, Any] = json.loads(told(policy, capsys, as_json=True))
    total = found["lines"][0]
    assert (found["policy"], found["requests"], found["audited"], found["alpha"], found["certified"]) == (
        "audited", 14, 12, 0.02, False,
    )  # fmt: skip
    assert {name: total[name] for name in ("audited", "below_top", "graded", "wrong", "open", "skipped", "rate")} == {
        "audited": 12, "below_top": 10, "graded": 9, "wrong": 1, "open": 1, "skipped": {}, "rate": 1 / 11,
    }  # fmt: skip
    assert (found["lowest_confidence"]["wrong"], found["lowest_confidence"]["rate"]) == (1, None)
    newest, other = found["disagreements"]
    assert (newest["why"], newest["question"], newest["answer"]) == ("lowest", "Low?", "No.")
    assert (other["question"], other["answer"], other["shadow"], other["reason"]) == (
        HOSTILE, f"shipped {HOSTILE}", f"shadow {HOSTILE}", f"other {HOSTILE}",
    )  # fmt: skip
    assert found["profit"]["saved"]["basis"] == "estimate"
    assert found["profit"]["cost_of_error_usd"] == 0.02
    assert found["profit"]["net_usd"] == pytest.approx(14 * 0.05 - 0.19 - 0.02 * found["profit"]["wrong_answers"])
    assert [row["threshold"] for row in found["thresholds"]] == [0.85, 0.9, None]
    assert found["routing"]["top"]["share"] == 2 / 14
    assert found["drift"]["rates"][0]["losses"] == 1
    assert (found["marks"], found["todo"]) == ([], ["1 sampled answer is not graded yet (cascade audit run)"])


def test_the_text_tells_the_same_and_texts_of_requests_do_nothing_to_a_terminal(
    books: AuditBooks, policy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """No control character is printed, long texts are cut, each section is there."""
    fill(books)
    text = told(policy, capsys)
    for title in (
        "Shipped and wrong", "Drift", "By task and rung", "By grader", "Faults found", "Routing", "Profit and loss",
        "Other thresholds", "Disagreements, newest first",
    ):  # fmt: skip
        assert f"\n{title}\n" in text
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", text)
    words = " ".join(text.split())
    assert "rate 9.09 % (" in words
    assert "1 wrong of 1 graded, 1 sampled for their low confidence: in no rate" in words
    assert "shipped shipped </pre><script>" in words
    assert "at 0.020000 USD a wrong answer (audit.cost_of_error_usd)" in words


FORGED = "refund\n  all         0 of 900 wrong\r\x1b[2K\u202e\u2028x"


def test_a_task_named_by_a_caller_makes_up_no_line(
    books: AuditBooks, policy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In no part of the report: line breaks, terminal codes and overrides of the writing direction are shown, not obeyed."""
    requests = [books.ask(0, task=FORGED, question="Why?", answer="a\r\nb\x07") for _ in range(4)]
    books.grade({request: Grading("exact", 0.0) for request in requests}, shadow="\u2066s\x1b]0;title\x07")
    AuditTables(str(tmp_path / "ledger.db")).add_mark(
        Mark("audited", NOW - 60, "alarm", {"task": FORGED, "epoch": "e"})
    )
    text = told(policy, capsys, html=tmp_path / "audit.html")
    page = Page((tmp_path / "audit.html").read_text("utf-8")).text
    shown = r"refund\n  all         0 of 900 wrong\r\x1b[2K\u202e\u2028x"
    for whole in (text, page):
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]", whole)
        assert "\n  all         0 of 900" not in whole
        for place in (f"task {shown}", f": {shown}, haiku", r"\u2066s\x1b]0;title\x07"):
            assert place in whole, place
    assert "shipped   a b\\x07\n" in text
    assert "a\nb\\x07" in page


def test_a_judge_that_agrees_with_wrong_control_items_has_no_rates(
    books: AuditBooks, policy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its rates are withheld everywhere, with the reason; its disagreements are not shown either."""
    fill(books, agrees_with_wrong=True)
    found: dict[str, Any] = json.loads(told(policy, capsys, as_json=True))
    why = "it agrees with 100% of the answers that are known to be wrong"
    assert (found["lines"][0]["rate"], found["lines"][0]["wrong"], found["lines"][0]["why_withheld"]) == (
        None,
        None,
        why,
    )
    assert [one["rate"] for one in found["lines"][0]["graders"]] == [0.0, None]
    assert (found["profit"]["wrong_answers"], found["profit"]["net_usd"]) == (None, None)
    assert [one["question"] for one in found["disagreements"]] == ["Low?"]
    assert any(why in text for text in found["todo"])
    assert f"rate withheld: {why}" in " ".join(told(policy, capsys).split())


def test_the_page_holds_everything_and_runs_nothing(
    books: AuditBooks, policy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Hostile questions, answers and reasons are text; no script, no address, both answers side by side; its owner's alone."""
    fill(books)
    path = tmp_path / "audit.html"
    told(policy, capsys, html=path)
    page = Page(path.read_text("utf-8"))
    assert {tag for tag, _ in page.elements}.isdisjoint({"script", "img", "iframe", "link", "a"})
    assert all(
        not ({"src", "href", "style"} & attrs.keys() or any(name.startswith("on") for name in attrs))
        for _, attrs in page.elements
    )
    assert "default-src 'none'" in next(attrs["content"] or "" for tag, attrs in page.elements if "http-equiv" in attrs)
    shown = HOSTILE.replace("\x1b", "\\x1b").replace("\u202e", "\\u202e")
    for text in (f"shipped {shown}", f"shadow {shown}", f"other {shown}", "Other thresholds", "Profit and loss"):
        assert text in page.text
    assert sum(attrs.get("class") == "side" for _, attrs in page.elements) == 4
    assert path.stat().st_mode & 0o077 == 0
    with pytest.raises(ConfigurationError, match=r"--html .*cannot be written"):
        told(policy, capsys, html=tmp_path / "none" / "audit.html")


def test_an_empty_report_says_what_to_do(
    books: AuditBooks, policy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A ledger without a request of this policy: no table, and how to get one; also as a page. Without a ledger: an error."""
    books.close()
    text = told(policy, capsys, html=tmp_path / "audit.html")
    assert "the ladder was asked nothing in this period" in text
    assert "Shipped and wrong" not in text
    assert "the ladder was asked nothing in this period" in (tmp_path / "audit.html").read_text("utf-8")
    with pytest.raises(LedgerError, match="no ledger"):
        run_report(ReportOptions(policy, "30d", None, str(tmp_path / "none.db")), as_json=False, now=lambda: NOW)
