"""Retrying one rung: what may pass is tried again, within the attempts, the waits and the time there are."""

from __future__ import annotations

import random
import socket
import time
from contextlib import closing
from typing import Any

import pytest

from cascade import AllRungsFailed, Cascade, UpstreamRejected
from cascade.core.messages import Usage
from cascade.core.policy import Retry
from cascade.emulator import Emulator
from tests.live.conftest import (
    COST,
    HAIKU,
    SONNET,
    USAGE,
    Asking,
    Emulate,
    Script,
    error_body,
    ladder,
    message_body,
    reasons,
    verdict,
)

GOOD = (200, {}, message_body(verdict(0.9, "at last")))
# In nano-USD: what a stream of Haiku's is billed that breaks off after its first event has told of one token.
BROKEN_OFF = 100 * 100 + 1 * 500
STREAMED = ladder(max_tokens=30_000)
PASSING = [408, 409, 429, 500, 501, 502, 503, 504, 529, 599]


class Least(random.Random):
    """Draws the least there is, so that nobody waits for chance, and remembers between what it was to draw."""

    def __init__(self) -> None:
        super().__init__(0)
        self.asked: list[tuple[float, float]] = []

    def uniform(self, a: float, b: float) -> float:
        """The lower bound."""
        self.asked.append((a, b))
        return a


def failing(status: int, **headers: str) -> tuple[int, dict[str, str], Any]:
    """A response of this status; a 429 always says when to come again."""
    if status == 429:
        headers.setdefault("retry_after", "0")
    return status, {name.replace("_", "-"): text for name, text in headers.items()}, error_body("api_error")


@pytest.mark.parametrize("status", PASSING)
def test_what_may_pass_is_tried_again_and_told(asking: Asking, script: Script, status: int) -> None:
    """Two failures, then the answer of the same rung: three attempts on the step and on the answer."""
    endpoint = script(failing(status), failing(status), GOOD)
    answer = asking(ladder(), endpoint).ask("sure")
    assert (answer.text, answer.rung, answer.attempts, answer.steps[0].attempts) == ("at last", "haiku", 3, 3)
    assert (endpoint.requests, answer.cost_nanousd) == (3, COST["haiku"])


@pytest.mark.parametrize("fault", ["reset", "cut", "overloaded", "server_error", "timeout,delay_s=0"])
def test_connections_that_break_are_tried_again(asking: Asking, emulate: Emulate, fault: str) -> None:
    """On the emulator: broken before the reply, in it, and refused."""
    emulator = emulate(faults=f"{fault},times=2")
    answer = asking(ladder(), emulator).ask("sure")
    assert (answer.rung, answer.attempts, len(emulator.requests)) == ("haiku", 3, 3)


@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_attempts_are_bounded_by_the_policy(asking: Asking, script: Script, attempts: int) -> None:
    """The first one included; then the next rung is asked."""
    policy = ladder(retry=Retry(attempts=attempts, max_wait_s=0.001))
    endpoint = script(*[failing(500)] * attempts, GOOD)
    answer = asking(policy, endpoint).ask("sure")
    assert endpoint.models == [HAIKU] * attempts + [SONNET]
    assert [step.attempts for step in answer.steps] == [attempts, 1]


@pytest.mark.parametrize("code", [{}, {"details": {"error_code": "enforced_spend_limit_reached"}}])
def test_a_spend_cap_is_not_waited_for(asking: Asking, script: Script, code: dict[str, Any]) -> None:
    """A 429 that names a cap, or Anthropic's own that does not say when to come again: one attempt, then up."""
    headers = {"retry-after": "0"} if code else {"request-id": "req_1"}
    endpoint = script((429, headers, error_body("rate_limit_error", **code)), GOOD)
    answer = asking(ladder(), endpoint).ask("sure")
    assert (endpoint.models, reasons(answer)) == ([HAIKU, SONNET], ["error", None])
    assert answer.steps[0].verdict.detail.startswith("spend_cap")


def test_another_platforms_throttling_is_waited_for(asking: Asking, script: Script) -> None:
    """Theirs does not say when to come again, and is no cap."""
    endpoint = script((429, {}, error_body("throttled")), GOOD)
    assert asking(ladder(), endpoint).ask("sure").rung == "haiku"


def test_the_emulators_spend_cap_is_not_waited_for(asking: Asking, emulate: Emulate) -> None:
    """The vendor's own shape of it."""
    assert asking(ladder(), emulate(faults=f"spend_cap,model={HAIKU}")).ask("sure").attempts == 2


def test_retry_after_is_waited_for(asking: Asking, emulate: Emulate) -> None:
    """At least as long as the endpoint asks, where chance would not have waited at all."""
    driver = asking(ladder(retry=Retry(attempts=2, max_wait_s=5)), emulate(), chance=Least())
    driver.ask("sure")
    again = asking(
        ladder(retry=Retry(attempts=2, max_wait_s=5)),
        emulate(faults="rate_limit,retry_after=0.15,times=1"),
        chance=Least(),
    )
    started = time.monotonic()
    assert again.ask("sure").attempts == 2
    assert 0.15 <= time.monotonic() - started < 5


def test_retry_after_is_capped_by_the_longest_wait(asking: Asking, script: Script) -> None:
    """An endpoint that says "in an hour" is asked again after max_wait_s."""
    endpoint = script(failing(429, retry_after="3600"), failing(529, retry_after="3600"), GOOD)
    assert asking(ladder(retry=Retry(attempts=3, max_wait_s=0.01)), endpoint).ask("sure").attempts == 3


@pytest.mark.parametrize("fault", ["rate_limit", "unavailable", "overloaded"])
@pytest.mark.parametrize("form", ["seconds", "ms", "date", "rfc850", "asctime"])
def test_a_wait_is_known_in_each_form_and_told(asking: Asking, emulate: Emulate, fault: str, form: str) -> None:
    """Ten minutes are not waited for; that they were asked for stands in the trail and in the error."""
    emulator = emulate(faults=f"{fault},retry_after=600,retry_after_as={form}")
    with pytest.raises(AllRungsFailed, match=r"asks to wait 600 s") as caught:
        asking(ladder(retry=Retry(attempts=2, max_wait_s=0.001)), emulator).ask("sure")
    assert [step.attempts for step in caught.value.steps] == [2, 2, 2]
    assert caught.value.steps[0].verdict.detail.endswith(", asks to wait 600 s")


def test_a_wait_in_milliseconds_is_waited_for(asking: Asking, emulate: Emulate) -> None:
    """On a 429 that says no more than this, which is no spend cap."""
    emulator = emulate(faults="rate_limit,retry_after=0.15,retry_after_as=ms,times=1")
    answer = asking(ladder(retry=Retry(attempts=2, max_wait_s=5)), emulator, chance=Least()).ask("sure")
    assert (answer.rung, answer.attempts) == ("haiku", 2)
    assert 0.15 <= answer.latency_s < 5


def test_an_endpoint_that_says_not_to_try_again_is_obeyed(asking: Asking, emulate: Emulate) -> None:
    """`x-should-retry: false` on what is else tried again."""
    answer = asking(ladder(), emulate(faults=f"overloaded,should_retry=false,model={HAIKU}")).ask("sure")
    assert ([step.attempts for step in answer.steps], reasons(answer)) == ([1, 1], ["error", None])


def test_an_endpoint_that_says_to_try_again_is_obeyed(asking: Asking, emulate: Emulate, script: Script) -> None:
    """`x-should-retry: true` on what is else given up: a 429 that names no wait, and a status of the caller's fault."""
    emulator = emulate(faults="rate_limit,retry_after=0,should_retry=true,times=2")
    assert asking(ladder(), emulator).ask("sure").attempts == 3
    endpoint = script(failing(404, x_should_retry="true"), GOOD)
    assert asking(ladder(), endpoint).ask("sure").attempts == 2
    with pytest.raises(UpstreamRejected) as caught:
        asking(ladder(), script(failing(404, x_should_retry="true"))).ask("sure")
    assert caught.value.steps[0].attempts == 3


def test_missing_permission_inside_a_stream_is_not_retried(asking: Asking, emulate: Emulate) -> None:
    """What is the caller's fault is raised at once, though it comes with HTTP 200; what was billed is counted."""
    emulator = emulate(faults="stream_unauthorized")
    with pytest.raises(UpstreamRejected, match="HTTP 401: invalid bearer token") as caught:
        asking(STREAMED, emulator).ask("sure")
    assert (caught.value.status, len(emulator.requests)) == (401, 1)
    assert [(step.attempts, step.cost_nanousd) for step in caught.value.steps] == [(1, BROKEN_OFF)]


@pytest.mark.parametrize(
    ("kind", "message", "reason"),
    [("overloaded_error", "busy", None), ("invalid_request_error", "Prompt is too long", "overflow")],
)
def test_an_error_as_the_body_of_a_200_means_what_it_says(
    asking: Asking, script: Script, kind: str, message: str, reason: str | None
) -> None:
    """As some proxies send it where no stream was asked for."""
    endpoint = script((200, {}, error_body(kind, message)), GOOD)
    answer = asking(ladder(), endpoint).ask("sure")
    assert (answer.steps[0].reason, answer.attempts) == (reason, 2)
    with pytest.raises(UpstreamRejected, match="HTTP 403: not yours"):
        asking(ladder(), script((200, {}, error_body("permission_error", "not yours")))).ask("sure")


@pytest.mark.parametrize("said", ["soon", "Wed, 99 Oct 2026 07:28:00 GMT", "-5", "nan", "inf", ""])
def test_a_retry_after_that_cannot_be_read_does_no_harm(asking: Asking, script: Script, said: str) -> None:
    """It is retried by our own waits."""
    endpoint = script(failing(529, retry_after=said), GOOD)
    assert asking(ladder(), endpoint).ask("sure").attempts == 2


class Dead:
    """An address where nobody listens; with credentials and a query in it."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        with closing(socket.create_server(("127.0.0.1", 0))) as taken:
            self.address = f"{host}:{taken.getsockname()[1]}"
        self.base_url = f"http://user:hidden@{self.address}/v9?key=hidden"


@pytest.mark.parametrize(
    ("endpoint", "why"), [(Dead(), "connection refused"), (Dead("nobody.invalid"), "the name does not resolve")]
)
def test_an_endpoint_that_never_answered_and_is_not_there_is_given_up_soon(
    asking: Asking, endpoint: Dead, why: str
) -> None:
    """One more attempt a rung, a quarter of a second later at most; the error names the address, and no credentials."""
    chance = Least()
    policy = ladder(retry=Retry(attempts=4, max_wait_s=30))
    with pytest.raises(AllRungsFailed) as caught:
        asking(policy, endpoint, chance=chance).ask("sure")
    assert [step.attempts for step in caught.value.steps] == [2, 2, 2]
    assert set(chance.asked) == {(0, 0.25)}
    told = f"haiku, sonnet, opus: failed [unreachable, http://{endpoint.address}/v9: {why}]"
    assert told in str(caught.value)
    assert str(caught.value).endswith("; check the endpoint: `cascade doctor`")
    assert "hidden" not in str(caught.value)


def test_one_attempt_is_one_attempt_where_nobody_listens(asking: Asking) -> None:
    """A policy that does not retry does not do so here either."""
    with pytest.raises(AllRungsFailed) as caught:
        asking(ladder(retry=Retry(attempts=1)), Dead()).ask("sure")
    assert [step.attempts for step in caught.value.steps] == [1, 1, 1]


def test_an_endpoint_that_answered_before_may_be_starting_again(asking: Asking, emulate: Emulate) -> None:
    """It has all the policy's attempts, and the address is named all the same; what another endpoint did is not its own."""
    emulator = emulate()
    driver = asking(ladder(), emulator)
    assert driver.ask("sure").attempts == 1
    emulator.stop()
    with pytest.raises(AllRungsFailed, match=rf"connection, {emulator.base_url}: connection refused") as caught:
        driver.ask("sure")
    assert [step.attempts for step in caught.value.steps] == [3, 3, 3]


def test_a_rung_above_with_an_endpoint_of_its_own_still_answers(emulator: Emulator) -> None:
    """A dead endpoint is one rung's trouble: the climb goes on, and the trail says where nobody was."""
    dead = Dead()
    first, *above = ladder().ladder
    here = first.model_copy(update={"base_url": f"http://{dead.address}"})
    there = [rung.model_copy(update={"base_url": emulator.base_url}) for rung in above]
    with Cascade(ladder().model_copy(update={"ladder": (here, *there)})) as driver:
        answer = driver.ask("sure")
    assert (answer.rung, reasons(answer)) == ("sonnet", ["error", None])
    assert answer.steps[0].verdict.detail == f"unreachable, http://{dead.address}: connection refused"


def test_nobody_waits_longer_than_there_is_time(asking: Asking, script: Script) -> None:
    """A wait that the deadline does not allow is not begun: the rung has failed, and the next one is asked at once."""
    endpoint = script(failing(429, retry_after="20"), GOOD)
    answer = asking(ladder(retry=Retry(attempts=4, max_wait_s=30)), endpoint).ask("sure", deadline_s=10)
    assert (endpoint.models, reasons(answer)) == ([HAIKU, SONNET], ["error", None])
    assert answer.latency_s < 5


def test_waits_are_drawn_between_nothing_and_a_doubling_bound(asking: Asking, script: Script) -> None:
    """Full jitter: 0.5, 1, 2, 4 … seconds at most, and never above max_wait_s."""
    chance = Least()
    endpoint = script(*[failing(500)] * 5, GOOD)
    asking(ladder(retry=Retry(attempts=6, max_wait_s=3)), endpoint, chance=chance).ask("sure")
    assert chance.asked == [(0, 0.5), (0, 1), (0, 2), (0, 3), (0, 3)]


def test_the_same_chance_makes_the_same_waits(script: Script, asking: Asking) -> None:
    """A seed is all the randomness there is: two drivers with it have drawn the same in the end."""
    states: list[object] = []
    for _ in range(2):
        chance = random.Random(7)
        asking(ladder(), script(failing(500), failing(502), GOOD), chance=chance).ask("sure")
        states.append(chance.getstate())
    assert states[0] == states[1] != random.Random(7).getstate()


@pytest.mark.parametrize("fault", ["stream_overloaded", "cut"])
def test_a_stream_that_breaks_off_is_tried_again_and_its_bill_is_counted(
    asking: Asking, emulate: Emulate, fault: str
) -> None:
    """Replies above 21,333 tokens are streamed; an overloaded event comes with HTTP 200 and is no answer."""
    emulator = emulate(faults=f"{fault},times=2")
    answer = asking(STREAMED, emulator).ask("sure")
    assert [request.body.get("stream") for request in emulator.requests] == [True] * 3
    assert (answer.text, answer.rung, answer.attempts) == ("haiku's", "haiku", 3)
    assert answer.cost_nanousd == COST["haiku"] + 2 * BROKEN_OFF
    assert answer.usage == emulator.billed.usage == Usage(300, 22)


def test_a_stream_that_never_ends_well_climbs_with_its_bill(asking: Asking, emulate: Emulate) -> None:
    """The failed step has the cost of all its attempts."""
    emulator = emulate(faults=f"stream_overloaded,model={HAIKU}")
    answer = asking(STREAMED, emulator).ask("sure")
    assert (reasons(answer), answer.steps[0].attempts) == (["error", None], 3)
    assert answer.steps[0].verdict.detail.startswith("overloaded")
    assert [step.cost_nanousd for step in answer.steps] == [3 * BROKEN_OFF, COST["sonnet"]]
    assert answer.usage == emulator.billed.usage


def test_a_streamed_answer_is_the_one_that_is_not_streamed(asking: Asking, emulator: Emulator) -> None:
    """Text, confidence, usage and cost: the way it came makes no difference."""
    short, long = (asking(policy, emulator).ask("hard") for policy in (ladder(), STREAMED))
    assert [request.body.get("stream", False) for request in emulator.requests] == [False] * 3 + [True] * 3
    assert (short.text, short.rung, short.cost_nanousd, short.usage) == (
        long.text,
        long.rung,
        long.cost_nanousd,
        long.usage,
    )
    assert [step.verdict for step in short.steps] == [step.verdict for step in long.steps]


@pytest.mark.parametrize("fault", ["refusal", "truncated_json", "context_overflow", "prose", "thinking", "empty"])
def test_a_streamed_reply_is_read_as_a_whole_one(asking: Asking, emulate: Emulate, fault: str) -> None:
    """Each kind of reply makes the same verdicts and costs the same, streamed or not."""
    bent = f"{fault},model={HAIKU}"
    short, long = (asking(policy, emulate(faults=bent)).ask("sure") for policy in (ladder(), STREAMED))
    assert [(step.verdict, step.usage, step.cost_nanousd) for step in short.steps] == [
        (step.verdict, step.usage, step.cost_nanousd) for step in long.steps
    ]


def test_an_attempt_may_be_given_less_time_than_the_climb(asking: Asking, emulate: Emulate) -> None:
    """A rung's `timeout_s` ends one attempt; what is left is for the next."""
    policy = ladder()
    first = policy.ladder[0].model_copy(update={"timeout_s": 0.1})
    policy = policy.model_copy(update={"ladder": (first, *policy.ladder[1:])})
    answer = asking(policy, emulate(faults="timeout,times=2")).ask("sure")
    assert (answer.rung, answer.attempts) == ("haiku", 3)
    assert 0.2 <= answer.latency_s < 5
    assert answer.usage == Usage.from_api(USAGE)
