"""How figures are written, and where the lines and bars of the charts are."""

from __future__ import annotations

import pytest

from cascade.dashboard.pages.charts import rate_spark, spend_chart
from cascade.dashboard.pages.texts import latency, percent, usd, visible
from cascade.dashboard.values import Episode, EscalationSeries, SpendPoint
from tests.dashboard.by_hand import NOW, PERIOD


def test_figures_are_written_as_people_read_them() -> None:
    """Small amounts with four figures, large ones without cents; unknown ones as a dash."""
    assert [usd(nano) for nano in (None, 0, 54_000, 12_600_000, 129_790_000_000, 4_200_000 * 10**9, -(10**9))] == [
        "–", "$0.00", "$0.000054", "$0.0126", "$129.79", "$4,200,000", "\u2212$1.00",
    ]  # fmt: skip
    assert (percent(None), percent(0.1234), percent(-0.5, 0)) == ("–", "12.3\u202f%", "\u221250\u202f%")
    assert (latency(559.4), latency(1_240)) == ("559\u202fms", "1.2\u202fs")
    assert visible("a\u202eb\x00" + "c" * 100, 10) == "a\\u202eb\\x00ccccc…"


def test_the_spend_chart_fits_its_plot() -> None:
    """Bars and baseline stand inside it, the scale is round, and an empty period has no plot to divide by."""
    points = [SpendPoint(900 * n, 900 * (n + 1), 10**9 * n, 3 * 10**9 * n, 10**9 * n, n) for n in range(10)]
    chart = spend_chart(points)
    assert all(0 <= bar.y <= 200 and bar.y + bar.height == pytest.approx(200) for bar in chart.bars)
    assert [tick.text for tick in chart.grid] == ["$30.00", "$20.00", "$10.00", "$0.00"]
    assert chart.path.startswith("M0.0 200.0H100.0L100.0 180.0H200.0")
    assert (chart.bars[9].title, len(chart.times)) == (
        "01 Jan 02:15 to 01 Jan 02:30: $9.00 for 9 requests; the baseline $27.00",
        5,
    )
    assert spend_chart(()).bars == ()
    assert spend_chart([SpendPoint(0, 900, 0, 0, 0, 0)]).path == ""


def test_a_sparkline_has_gaps_and_storms_where_they_were() -> None:
    """Of its own task; one that is short is seen all the same, and one that goes on ends at the end."""
    series = EscalationSeries("a", tuple((PERIOD.since + 900 * n, 0 if n == 2 else 10, n) for n in range(5)))
    episodes = (
        Episode("a", "haiku", PERIOD.since + 900, PERIOD.since + 901, 0.5, 0.3, "escalate"),
        Episode("a", "haiku", PERIOD.since + 3_600, None, 0.5, 0.3, "escalate"),
        Episode("b", "haiku", PERIOD.since, None, 0.5, 0.3, "escalate"),
        Episode(
            "a", "haiku", PERIOD.since, None, 0.5, 0.1, "alert", what="errors"
        ),  # a rung that failed is no storm of a task
    )
    spark = rate_spark(series, episodes, NOW)
    assert spark.path.count("M") == 2
    assert spark.highest == 0.4
    assert [(storm.x, storm.width) for storm in spark.storms] == [(32.0, 3.0), (128.0, 32.0)]
    assert "goes on" in spark.storms[1].title
