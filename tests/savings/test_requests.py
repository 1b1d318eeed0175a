"""How many requests there were: by a column, or by the user, and never both."""

from __future__ import annotations

from pathlib import Path

import pytest

from cascade.core.errors import UsageExportError
from cascade.policy.loading import load_policy
from cascade.savings import PriceBook, make_bill, read_usage, with_requests


def test_the_number_of_requests_sets_the_price_tier(tmp_path: Path) -> None:
    """Haiku 5.5 costs five times as much past 100,000 tokens: told by a column or by the user, the bill is the same."""
    header, row = "model,input_tokens,output_tokens", "claude-haiku-5-5,400000,0"
    bare, told = tmp_path / "bare.csv", tmp_path / "told.csv"
    bare.write_text(f"{header}\n{row}\n")
    told.write_text(f"{header},requests\n{row},2\n")
    book = PriceBook({}, load_policy("default"))
    of_column = make_bill(read_usage(told).slices, book)
    of_option = make_bill(with_requests(read_usage(bare), 2).slices, book)
    assert of_column.cost == of_option.cost == 5 * make_bill(read_usage(bare).slices, book).cost
    assert of_option.basis == "estimate"


def test_a_number_of_requests_that_the_export_tells_is_refused(tmp_path: Path) -> None:
    """Never ignored in silence; where only some rows tell it, the rest is spread over the others."""
    path = tmp_path / "usage.csv"
    path.write_text("model,input_tokens,output_tokens,requests\na,100,1,10\nb,300,0,\nc,100,0,\n")
    export = with_requests(read_usage(path), 50)
    assert {part.model: part.requests for part in export.slices} == {"a": 10, "b": 30, "c": 10}
    with pytest.raises(UsageExportError, match=r"--requests: .* 10 for a part of it"):
        with_requests(read_usage(path), 10)
    path.write_text("model,input_tokens,output_tokens,requests\na,100,1,10\n")
    with pytest.raises(UsageExportError, match=r"--requests: .* 10 \(leave it out"):
        with_requests(read_usage(path), 50)
