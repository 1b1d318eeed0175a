"""A second opinion: an emulator of the Messages API that others wrote answers `ask` as well.

It is npm's `@copilotkit/aimock`: `make aimock` installs it under .cache/, or CASCADE_AIMOCK names its `llmock`.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from cascade import AllRungsFailed, UpstreamRejected
from cascade.core.messages import Usage
from tests.live.conftest import COST, HAIKU, MODELS, OPUS, SONNET, Asking, ladder, reasons, verdict

_INSTALLED = Path(__file__).resolve().parents[3] / ".cache" / "aimock" / "node_modules" / ".bin" / "llmock"
_START_S = 30.0


class Order(BaseModel):
    """What one test wants."""

    number: str
    count: int


@dataclass(frozen=True)
class Endpoint:
    """Where the independent emulator listens."""

    base_url: str


def says(model: str, text: str, content: str, **more: Any) -> dict[str, Any]:
    """A fixture: what `model` says to a text."""
    usage = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
    return {"match": {"model": model, "userMessage": text}, "response": {"content": content, "usage": usage, **more}}


def fails(model: str, text: str, status: int, kind: str) -> dict[str, Any]:
    """A fixture: an error."""
    response = {"error": {"message": "no", "type": kind}, "status": status}
    return {"match": {"model": model, "userMessage": text}, "response": response}


FIXTURES = [
    says(HAIKU, "sure", verdict(0.9, "haiku's – Ü")),
    *(says(model, "hard", verdict(0.2, "hm")) for model in (HAIKU, SONNET)),
    says(OPUS, "hard", "opus's"),
    *(says(model, "typed", verdict(0.3, None)) for model in (HAIKU, SONNET)),
    says(OPUS, "typed", '{"number": "A-17", "count": 2}'),
    fails(HAIKU, "broken", 529, "overloaded_error"),
    says(SONNET, "broken", verdict(0.8, "sonnet's")),
    *(fails(model, "all down", 500, "api_error") for model in MODELS.values()),
    fails(HAIKU, "not yours", 403, "permission_error"),
    says(HAIKU, "prose", "Well, it depends."),
    says(SONNET, "prose", verdict(1, "sonnet's")),
]


@pytest.fixture(scope="module")
def aimock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """The independent emulator, running; tests are skipped where it is not installed."""
    program = os.environ.get("CASCADE_AIMOCK") or str(_INSTALLED)
    if not shutil.which(program) or not shutil.which("node"):
        pytest.skip("the independent emulator is not installed (make aimock, needs npm)")
    fixtures = tmp_path_factory.mktemp("aimock") / "fixtures.json"
    fixtures.write_text(json.dumps({"fixtures": FIXTURES}))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    command = [program, "-p", str(port), "-f", str(fixtures), "--strict", "--log-level", "silent"]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as child:
        try:
            _wait_for(port, child)
            yield Endpoint(f"http://127.0.0.1:{port}")
        finally:
            child.terminate()


def _wait_for(port: int, child: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + _START_S
    while child.poll() is None and time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    pytest.fail(f"the independent emulator did not start within {_START_S:g} s (exit code {child.poll()})")


@pytest.mark.parametrize("max_tokens", [500, 30_000], ids=["whole", "streamed"])
def test_it_answers_at_the_first_rung(asking: Asking, aimock: Endpoint, max_tokens: int) -> None:
    """Text, confidence and cost, by JSON and by its own stream of events."""
    answer = asking(ladder(max_tokens=max_tokens), aimock).ask("sure")
    assert (answer.text, answer.rung, answer.confidence) == ("haiku's – Ü", "haiku", 0.9)
    assert (answer.usage, answer.cost_nanousd) == (Usage(100, 20), COST["haiku"])


@pytest.mark.parametrize("max_tokens", [500, 30_000], ids=["whole", "streamed"])
def test_it_is_climbed_to_the_top(asking: Asking, aimock: Endpoint, max_tokens: int) -> None:
    """One rung after the other, the last one plainly."""
    answer = asking(ladder(max_tokens=max_tokens), aimock).ask("hard")
    assert (answer.text, answer.confidence) == ("opus's", None)
    assert reasons(answer) == ["low_confidence", "low_confidence", None]
    assert answer.cost_nanousd == sum(COST.values())


def test_its_errors_climb_after_their_retries(asking: Asking, aimock: Endpoint) -> None:
    """Overloaded: three attempts, then the next rung."""
    answer = asking(ladder(), aimock).ask("broken")
    assert (answer.text, reasons(answer), answer.attempts) == ("sonnet's", ["error", None], 4)
    assert answer.cost_nanousd == COST["sonnet"]


def test_its_outage_raises_with_the_trail(asking: Asking, aimock: Endpoint) -> None:
    """Nothing is made up."""
    with pytest.raises(AllRungsFailed) as caught:
        asking(ladder(), aimock).ask("all down")
    assert [step.attempts for step in caught.value.steps] == [3, 3, 3]


def test_its_refusals_are_raised_at_once(asking: Asking, aimock: Endpoint) -> None:
    """A 403 of its own; and in strict mode what it has no fixture for, which is an error of one kind or the other."""
    with pytest.raises(UpstreamRejected, match="HTTP 403"):
        asking(ladder(), aimock).ask("not yours")
    with pytest.raises((UpstreamRejected, AllRungsFailed)):
        asking(ladder(), aimock).ask("nobody wrote this down")


def test_prose_in_the_place_of_json_climbs(asking: Asking, aimock: Endpoint) -> None:
    """It does not keep to the format that we ask for: malformed, paid, next rung."""
    answer = asking(ladder(), aimock).ask("prose")
    assert (reasons(answer), answer.cost_nanousd) == (["malformed", None], COST["haiku"] + COST["sonnet"])


def test_typed_answers_come_from_its_bare_json(asking: Asking, aimock: Endpoint) -> None:
    """Declined twice, then the schema bare at the top."""
    answer = asking(ladder(), aimock).ask("typed", response_model=Order)
    assert (answer.data, reasons(answer)) == (Order(number="A-17", count=2), ["declined", "declined", None])
