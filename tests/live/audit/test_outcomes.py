"""Outcomes: a caller reports whether an answer was right, from Python or from the command line."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

import cascade
from cascade import ConfigurationError, RequestError, cli
from cascade.core.errors import LedgerError
from cascade.ledger.gateway import GatewayTables
from tests.audit.books import AuditBooks
from tests.live.conftest import Asking, Emulator, ladder

SOME_ID = "casc_" + "0" * 32


def kept(address: str | None = None) -> list[tuple[str, float, str | None]]:
    """What was reported."""
    return [(one.request, one.score, one.note) for one in GatewayTables(address).feedback()]


@pytest.mark.parametrize(("right", "score"), [(True, 1.0), (False, 0.0), (1, 1.0), (0.25, 0.25), (0.0, 0.0)])
def test_an_outcome_is_on_record(asking: Asking, emulator: Emulator, right: Any, score: float) -> None:
    """With the time of the driver's own clock."""
    driver = asking(ladder(), emulator, wall=lambda: 17.0)
    answer = driver.ask("sure")
    driver.report_outcome(answer.request_id, right)
    assert kept() == [(answer.request_id, score, None)]
    assert [one.at for one in GatewayTables().feedback()] == [17.0]


INVALID: list[tuple[Any, ...]] = [
    (SOME_ID, math.nan), (SOME_ID, 1.01), (SOME_ID, -0.1), (SOME_ID, "yes"), (SOME_ID, None), (SOME_ID, math.inf),
    ("casc_1", True), (SOME_ID + "0", True), (SOME_ID.upper(), True), (f"{SOME_ID}\n", True), (17, True),
]  # fmt: skip


@pytest.mark.parametrize("given", INVALID)
def test_what_is_no_outcome_is_refused(asking: Asking, emulator: Emulator, given: tuple[Any, ...]) -> None:
    """Before anything is written."""
    for report in (asking(ladder(), emulator).report_outcome, cascade.report_outcome):
        with pytest.raises(RequestError, match=r"request_id: give|right: give"):
            report(*given)
    assert kept() == []


@pytest.mark.parametrize("note", [5, "n" * 4_001])
def test_a_note_is_a_text_of_bounded_length(asking: Asking, emulator: Emulator, note: Any) -> None:
    """As at the gateway."""
    with pytest.raises(RequestError, match="note: give"):
        asking(ladder(), emulator).report_outcome(SOME_ID, True, note=note)


def test_without_a_ledger_it_is_told_what_to_do(asking: Asking, emulator: Emulator) -> None:
    """Nothing is taken and lost."""
    reports: list[Any] = [
        asking(ladder(ledger="off"), emulator).report_outcome,
        asking(ladder(), emulator, ledger="off").report_outcome,
        lambda *given: cascade.report_outcome(*given, ledger="off"),
    ]
    for report in reports:
        with pytest.raises(ConfigurationError, match=r"the ledger, which is off \(remove `ledger: off`"):
            report(SOME_ID, True)


def test_a_ledger_that_cannot_be_written_is_an_error(asking: Asking, emulator: Emulator, tmp_path: Path) -> None:
    """Of the library's own, which names the ledger."""
    broken = tmp_path / "broken.db"
    broken.write_bytes(b"no database" * 1_000)
    driver = asking(ladder(), emulator, ledger=broken)
    for report in (driver.report_outcome, lambda *given: cascade.report_outcome(*given, ledger=broken)):
        with pytest.raises(LedgerError, match=r"broken\.db"):
            report(SOME_ID, True)


def test_a_note_is_kept_where_the_policy_keeps_content(asking: Asking, emulator: Emulator) -> None:
    """Elsewhere it is left out, and that is logged without it."""
    plain, keeping = asking(ladder(), emulator), asking(ladder(ledger={"content": True}), emulator)
    with capture_logs() as events:
        plain.report_outcome(SOME_ID, False, note="NOTE")
        keeping.report_outcome(SOME_ID, False, note="a NUL\0 and half a \ud83d")
    assert [note for _, _, note in kept()] == [None, "a NUL and half a ?"]
    assert [event["event"] for event in events] == ["outcome_note_not_kept"]
    assert "NOTE" not in repr(events)


def test_without_a_driver_a_note_is_kept_where_the_requests_texts_are(asking: Asking, emulator: Emulator) -> None:
    """From the first moment on, and until they are removed."""
    answers = [asking(ladder(ledger={"content": content}), emulator).ask("sure") for content in (True, False)]
    with capture_logs() as events:
        for answer in answers:
            cascade.report_outcome(answer.request_id, True, note="fine")
        cascade.report_outcome(SOME_ID, True, note="never asked")
    assert [(request, note) for request, _, note in kept()] == [
        (answers[0].request_id, "fine"), (answers[1].request_id, None), (SOME_ID, None),
    ]  # fmt: skip
    assert [event["event"] for event in events] == ["outcome_note_not_kept"] * 2


def test_the_command_reports_in_words_or_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """To the ledger that is named, and says whether the request is audited; anything else is an error that says what to give."""
    address = str(tmp_path / "ledger.db")
    audited = AuditBooks(tmp_path / "ledger.db", cascade.load_policy("default"), 0.0, "epoch").ask(0, request=SOME_ID)
    other = "casc_" + "1" * 32
    for word in ("right", "wrong", "0.5"):
        assert cli.run_command(["audit", "outcome", audited, word, "--ledger", address]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{SOME_ID}: recorded as {word}" for word in ("right", "wrong", "0.5")
    ]
    assert cli.run_command(["audit", "outcome", other, "right", "--ledger", address]) == 0
    assert "not among the audited requests" in capsys.readouterr().out
    for request, known in ((audited, True), (other, False)):
        assert cli.run_command(["audit", "outcome", request, "1", "--ledger", address, "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == {"request_id": request, "right": 1.0, "known": known}
    assert [score for _, score, _ in kept(address)] == [1.0, 0.0, 0.5, 1.0, 1.0, 1.0]
    for given in ([SOME_ID, "maybe"], [SOME_ID, "nan"], [SOME_ID, "2"], ["casc_1", "right"]):
        assert cli.run_command(["audit", "outcome", *given, "--ledger", address]) == 2
        assert "give" in capsys.readouterr().err
    assert len(kept(address)) == 6


def test_an_outcome_for_a_ledger_that_is_not_there_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a note or without; and none is made at the mistaken address."""
    address = str(tmp_path / "typo.db")
    for more in ([], ["--note", "why"]):
        assert cli.run_command(["audit", "outcome", SOME_ID, "right", *more, "--ledger", address]) == 2
        assert f"{address}: there is no ledger yet" in capsys.readouterr().err
    with pytest.raises(LedgerError, match="there is no ledger yet"):
        cascade.report_outcome(SOME_ID, True, ledger=address)
    assert list(tmp_path.iterdir()) == []
