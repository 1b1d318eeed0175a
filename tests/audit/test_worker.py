"""The audit's worker: shadow answers, graders, what is skipped and why, resuming, caps, and failures of the endpoint."""

from __future__ import annotations

from tests.audit.conftest import MakeScene


def test_each_sampled_request_is_graded_once(make_scene: MakeScene) -> None:
    scene = make_scene(audit={"grader": "exact"})
    scene.ship("question 1", "question 2 wrong", "question 3 hard")
    run = scene.audit()
    assert (run.graded, run.skipped, run.stop) == (3, {}, None)
    found = {question: (one.grading.grader, one.score) for question, one in scene.samples.items() if one.grading}
    assert found == {
        "question 1": ("exact", 1.0),
        "question 2 wrong": ("exact", 0.0),
        "question 3 hard": ("top", 1.0),
    }
