"""A recording under a policy with `prepare`: it trims as live, and refuses what it has no place for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cascade.core.errors import ConfigurationError
from cascade.core.policy import Policy
from cascade.corpora import Corpus
from cascade.recording.calls import make_recording_plan

from .conftest import POLICY, Killer, Record

Emulate = Callable[..., Killer]


def prepared(prepare: Any) -> Policy:
    """The policy, with this `prepare`."""
    return Policy.model_validate({**POLICY.model_dump(mode="json", exclude_unset=True), "prepare": prepare})


def test_a_policy_that_summarises_is_refused_before_anything_is_paid() -> None:
    """A recording has no place for summaries; it has one for trimmed prompts."""
    assert make_recording_plan(prepared({"trim": {}}))
    with pytest.raises(ConfigurationError, match="a recording has no place for summaries"):
        make_recording_plan(prepared({"summarize": {}}))


def test_what_was_recorded_with_another_trim_is_recorded_again() -> None:
    """It shapes the replies; a policy without it has the hash that it had."""
    plain = make_recording_plan(POLICY).hashes()
    trims = [make_recording_plan(prepared({"trim": {"max_tokens": most}})).hashes() for most in (500, 600)]
    assert len({one["ladder"] for one in (plain, *trims)}) == 3
    assert {one["baseline"] for one in trims} == {plain["baseline"]}


def test_a_recording_is_trimmed_as_live(corpus: Corpus, record: Record, emulate: Emulate) -> None:
    """The one conversation of several turns loses its older ones at each rung; the corpus keeps it whole."""
    emulator = emulate(corpus)
    report = record(emulator, policy=prepared({"trim": {"max_tokens": 1, "keep_turns": 1}}))
    assert report.is_final
    talks = [one.body["messages"] for one in emulator.requests if one.body["messages"][0]["content"] == "hello"]
    assert [[message["content"] for message in talk] for talk in talks] == [["hello", "question 3?"]] * 3
