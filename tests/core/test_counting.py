"""Words, counted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.core.handoff.artifacts import mentions
from cascade.core.text.counting import count_words, has_ideographs


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", 0), (" \n\t", 0), ("one", 1), ("so-called  e-mail\nat 10:30 a.m.", 5), ("a - b", 3), ("l'été", 1),
        ("안녕하세요 세계", 2), ("สวัสดีชาวโลก ยินดีต้อนรับ", 2),
        ("東京", 2), ("東京、大阪。", 4), ("「カメラ」", 3), ("AI技術 2.0", 4), ("USBメモリ3本", 6), ("𠮷野家", 3), ("ﾗﾝﾌﾟ", 4), ("、。", 1),
    ],
)  # fmt: skip
def test_words_are_what_white_space_separates_and_each_ideograph(text: str, words: int) -> None:
    """Letters and digits beside ideographs are words too; punctuation beside them is none."""
    assert count_words(text) == words


@given(text=st.text())
def test_without_ideographs_it_is_what_split_says(text: str) -> None:
    """For any text."""
    if has_ideographs(text):
        assert count_words(text) >= len(text.split())
    else:
        assert count_words(text) == len(text.split())


@given(first=st.text(max_size=20), second=st.text(max_size=20))
def test_two_texts_have_the_words_of_both(first: str, second: str) -> None:
    """So no text is over a limit that its parts are not."""
    assert count_words(f"{first} {second}") == count_words(first) + count_words(second)


@pytest.mark.parametrize(
    ("text", "phrase", "found"),
    [
        ("東京タワー", "東京", True), ("最新AI技術", "AI", True), ("最新AIM技術", "AI", False), ("ราคาถูกมาก", "ถูก", True),
        ("東京tower", "tower", True), ("towers", "tower", False), ("안녕하세요", "안녕", False),
    ],
)  # fmt: skip
def test_a_phrase_needs_no_spaces_where_its_script_has_none(text: str, phrase: str, found: bool) -> None:
    """Chinese, Japanese and Thai have no ends of words that could be seen; other scripts, Korean too, do."""
    assert mentions(text, phrase) is found
