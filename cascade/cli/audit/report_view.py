"""The output of `cascade audit report` for people. Texts of requests are hostile: control characters are escaped, long ones cut."""

from __future__ import annotations

from cascade.audit.rates import graded_by
from cascade.audit.report.build import AuditReport, Disagreement
from cascade.cli.audit.report_fields import iso
from cascade.cli.audit.report_sections import Section, sections_of
from cascade.cli.output import escaped, one_line, stdout, table

__all__ = ["show_report"]

_MOST_DISAGREEMENTS = 20
_MOST_ROWS = 40
_MOST_LETTERS = 300


def show_report(report: AuditReport, where: str) -> None:
    """Print the report as text and tables. `where`: the ledger."""
    stdout.print(f"{report.period.label} · {where} · policy {report.policy}")
    for line in report.todo:
        stdout.print(f"to do       {one_line(line)}")
    if report.is_empty:
        return
    for section in sections_of(report):
        if section.facts or section.rows:
            _show(section)
    if report.disagreements:
        _show_disagreements(report)


def _show(section: Section) -> None:
    stdout.print(f"\n{section.title}")
    for fact in section.facts:
        stdout.print(f"  {fact.label:<10}  {fact.text}")
    if section.rows:
        shown = table(*section.columns, right=section.right)
        for row in section.rows[:_MOST_ROWS]:
            shown.add_row(*row)
        stdout.print(shown)
        if len(section.rows) > _MOST_ROWS:
            stdout.print(f"  {len(section.rows) - _MOST_ROWS} more rows are in --json and --html")
    if section.hint:
        stdout.print(f"  {section.hint}")


def _show_disagreements(report: AuditReport) -> None:
    shown = report.disagreements[:_MOST_DISAGREEMENTS]
    more = len(report.disagreements) + report.left_out - len(shown)
    stdout.print(f"\nDisagreements, newest first{f' ({more} more: --html, --json)' if more else ''}")
    for one in shown:
        stdout.print(f"  {heading_of(one)}")
        for label, text in texts_of(one):
            stdout.print(f"    {label:<8}  {_short(text)}")


def heading_of(one: Disagreement) -> str:
    """A disagreement in one line, without its texts; escaped."""
    sample = one.sample
    confidence = "" if sample.confidence is None else f", confidence {sample.confidence:.2f}"
    score = "" if sample.score is None else f", score {sample.score:g}"
    why = "" if sample.is_uniform else ", sampled for its low confidence"
    return one_line(
        f"{iso(sample.at)} {sample.request}: {sample.task}, {sample.answered_by}{confidence}; {graded_by(sample)}{score}{why}"
    )


def texts_of(one: Disagreement) -> list[tuple[str, str]]:
    """The texts that are kept, with their labels; control characters but line breaks are escaped."""
    grading = one.sample.grading
    named = (
        ("asked", one.question),
        ("shipped", one.answer),
        ("top rung", one.sample.shadow),
        ("reason", None if grading is None else grading.reason),
    )
    return [(label, escaped(text.replace("\r\n", "\n"))) for label, text in named if text]


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _MOST_LETTERS else f"{line[: _MOST_LETTERS - 1]}…"
