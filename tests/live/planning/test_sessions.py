"""Sessions: what a run decided is told to every rung of the session's next request, to nobody else, and is stored by the ledger's rules."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import anthropic
import pytest

from cascade import Answer, Cascade, Policy, RequestError, cli
from cascade.budgets.gate import bound_of
from cascade.core.handoff.words import is_plan_request, plan_in
from cascade.core.messages import Request
from cascade.core.parameters import read_parameters
from cascade.core.planning.decisions import decided_text, decisions_of
from cascade.core.planning.result import Result
from cascade.core.prompts.handoff import DOUBT_VERSION
from cascade.core.prompts.session import DECIDED, VERSION
from cascade.core.triage import build_prompt
from cascade.emulator import Emulator, ScriptedReply
from cascade.emulator.prompts import answer_to_review
from cascade.engine.arguments import Arguments
from cascade.engine.continuing import Memo, keys_of, read_place, recall
from cascade.engine.decided import session_of, with_room
from cascade.engine.planning.sessions import keep_decided, recall_decided
from cascade.engine.runtime import Runtime, RuntimeOptions
from cascade.ledger.audit import AuditTables
from cascade.policy.binding import bind_policy
from tests.calibration.certified import certified, with_keys
from tests.core.planning.finished_runs import finished_run, long_run
from tests.live.conftest import HAIKU, OPUS, SONNET, Asking, Clock, Emulate, ladder
from tests.live.operation.test_books import bodies, entries
from tests.live.operation.test_handoff import KEPT, play, saying, told
from tests.live.planning.fleet import DIAMOND, GIVEN, Fleet
from tests.servers import RedisServer

HEAD = DECIDED.removesuffix("{decided}")
NAME = "conv-17"
ANN = {"user_id": "ann"}
NOTE = "told what 1 earlier run of this session decided"

Decide = Callable[..., str | None]


def planning(**more: Any) -> Policy:
    """The ladder, with plans, and with a ledger that keeps texts."""
    return ladder(**{"plan": {}, "ledger": KEPT, **more})


def runtime_of(policy: Policy, **options: Any) -> Runtime:
    """What a driver of the policy holds, beside the others of this process."""
    return Runtime(policy, RuntimeOptions(ledger="off", **options))


def decide(
    policy: Policy, result: Result | None = None, *, session: str = NAME, who: Mapping[str, str] = ANN, **options: Any
) -> str | None:
    """A run has ended: what it decided is kept. Returns the note."""
    return keep_decided(runtime_of(policy, **options), session, who, result or finished_run())


def decided(body: Mapping[str, Any]) -> list[str]:
    """The blocks of a request's system prompt that tell what was decided."""
    return [text for text in told(body) if text.startswith(HEAD)]


def tellings(emulator: Emulator) -> list[tuple[str, int]]:
    """Which models were asked, and how many times each was told."""
    return [(one.body["model"], len(decided(one.body))) for one in emulator.requests]


@pytest.fixture
def played(emulate: Emulate) -> Emulator:
    """Haiku is unsure, Sonnet too, Opus answers; plans are made and executed."""
    return emulate((), script=play)


@pytest.mark.parametrize("where", ["memory", "redis"])
def test_every_rung_is_told_what_the_sessions_run_decided(
    asking: Asking, played: Emulator, request: pytest.FixtureRequest, where: str
) -> None:
    """At the end of its system prompt, after the caller's own; in another driver than the run's; and the answer says so."""
    state = None
    if where == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        state = server.url
    policy = certified(planning(name=f"decided-{where}-{request.node.callspec.params['asking']}"))
    driver = asking(policy, played, state=state, ledger="off")
    before = driver.ask("hello", system="Be kind.", session=NAME, metadata=ANN)
    assert decide(policy, state=state) is None
    after = driver.ask("hello", system="Be kind.", session=NAME, metadata=ANN)
    assert tellings(played) == [
        *((model, 0) for model in (HAIKU, SONNET, OPUS)), *((model, 1) for model in (HAIKU, SONNET, OPUS))
    ]  # fmt: skip
    for one in played.requests[3:]:
        blocks = told(one.body)
        assert (blocks[0], blocks[-1]) == ("Be kind.", decided_text([decisions_of(finished_run())]))
    assert not before.notes
    assert before.certificate.startswith("certified")
    assert after.certificate == "uncertified"
    assert after.notes == (f"{NOTE}: uncertified, since nothing recorded proves answers to such a prompt",)
    assert (after.text, after.rung) == (before.text, before.rung)


def test_nobody_elses_request_is_told(asking: Asking, played: Emulator) -> None:
    """Not another session's, user's, key's or customer's, nor one without a session. A name that two users share is two sessions."""
    policy = planning()
    decide(policy)
    decide(policy, finished_run(names="Bob's own"), who={"user_id": "bob"})
    driver = asking(policy, played, ledger="off")
    others: list[dict[str, Any]] = [
        {"session": "conv-18", "metadata": ANN},
        {"session": NAME},
        {"session": NAME, "metadata": {"user_id": "eve"}},
        {"session": NAME, "metadata": {**ANN, "key": "k"}},
        {"session": NAME, "metadata": {**ANN, "customer": "c"}},
        {"metadata": ANN},
    ]
    for other in others:
        assert not driver.ask("hello", **other).notes
    assert not any(number for _, number in tellings(played))
    driver.ask("hello", session=NAME, metadata={"user_id": "bob", "workflow": "other"})
    blocks = [block for one in played.requests for block in decided(one.body)]
    assert len(blocks) == 3
    assert all("Bob's own" in block and "Acme" not in block for block in blocks)


def test_the_newest_runs_are_told_and_a_run_that_was_taken_up_again_once(asking: Asking, played: Emulator) -> None:
    """Four runs, the last of them twice: three are told, with what the last one came to."""
    policy = planning()
    for number in range(4):
        decide(policy, finished_run(f"run-{number}", names=f"names of {number}"))
    decide(policy, finished_run("run-3", names="names of 3, at last"))
    answer = asking(policy, played, ledger="off").ask("hello", session=NAME, metadata=ANN)
    assert answer.notes == ("told what 3 earlier runs of this session decided",)
    runs = json.loads(decided(played.requests[0].body)[0].removeprefix(HEAD))["runs"]
    assert [run["subtasks"][0]["result"] for run in runs] == ["names of 1", "names of 2", "names of 3, at last"]


def test_a_run_is_told_the_same_as_a_request(asking: Asking, played: Emulator) -> None:
    """What the runner gives planner and executors, its own earlier part aside; empty where there is nothing."""
    policy = planning()
    assert recall_decided(runtime_of(policy), NAME, ANN) == ""
    decide(policy)
    asking(policy, played, ledger="off").ask("hello", session=NAME, metadata=ANN)
    assert decided(played.requests[0].body) == [recall_decided(runtime_of(policy), NAME, ANN)]
    decide(policy, finished_run("run-2", names="Cask"))
    assert decided(played.requests[0].body) == [recall_decided(runtime_of(policy), NAME, ANN, run="run-2")]
    assert "Cask" in recall_decided(runtime_of(policy), NAME, ANN, run="run-1")
    for session, who in ((None, ANN), ("", ANN), (NAME, None), (NAME, {})):
        assert recall_decided(runtime_of(policy), session, who) == ""


def test_a_floor_by_session_holds_for_requests_that_name_it(asking: Asking, emulator: Emulator) -> None:
    """`sticky` goes by the same name; the recorded answers come back with what was decided beside them, too."""
    policy = planning(sticky={"by": "session", "cool_off": 1})
    decide(policy)
    driver = asking(policy, emulator, ledger="off")
    rungs = [driver.ask(text, session=NAME, metadata=ANN).rung for text in ("sure", "unsure", "sure", "sure")]
    assert rungs == ["haiku", "sonnet", "sonnet", "haiku"]
    assert {number for _, number in tellings(emulator)} == {1}


class TestWhatIsStored:
    """By the content rules of the ledger, whatever the state."""

    @pytest.mark.parametrize(
        ("ledger", "why"),
        [({"content": False}, "ledger.content is false"), ({"enabled": False}, "ledger.enabled is false")],
    )
    def test_without_content_nothing_is_stored_and_the_result_says_so(self, ledger: dict[str, Any], why: str) -> None:
        """Not even for a policy of the same name that does keep content: there is nothing to find."""
        assert decide(planning(ledger=ledger)) == f"session: nothing is carried, {why}"
        assert recall_decided(runtime_of(planning()), NAME, ANN) == ""
        decide(planning())
        assert recall_decided(runtime_of(planning(ledger=ledger)), NAME, ANN) == ""

    def test_without_a_session_nothing_is_stored_and_nothing_said(self) -> None:
        """Whatever the ledger keeps."""
        assert keep_decided(runtime_of(planning()), None, ANN, finished_run()) is None
        assert keep_decided(runtime_of(planning(ledger={})), "", ANN, finished_run()) is None
        assert recall_decided(runtime_of(planning()), "", ANN) == ""

    def test_texts_are_redacted_before_they_are_shortened(self) -> None:
        """A secret that is cut in two would not be recognised."""
        policy = planning(ledger={**KEPT, "redact": f"{__name__}:masked"})
        for characters in range(990, 1_002):
            decide(policy, finished_run(names=f"{'x' * characters} secret"), session=str(characters))
            text = recall_decided(runtime_of(policy), str(characters), ANN)
            assert "xxx" in text
            assert " s" not in json.loads(text.removeprefix(HEAD))["runs"][0]["subtasks"][0]["result"]

    @pytest.mark.parametrize("function", ["broken", "wordless"])
    def test_what_cannot_be_redacted_is_not_stored(self, function: str) -> None:
        """The run is not failed by it: a note says so."""
        policy = planning(ledger={**KEPT, "redact": f"{__name__}:{function}"})
        assert decide(policy) == "session: nothing is carried, ledger.redact failed"
        assert recall_decided(runtime_of(policy), NAME, ANN) == ""

    def test_it_is_kept_for_a_day(self) -> None:
        """And not a second longer."""
        clock = Clock()
        policy = planning(ledger={**KEPT, "keep_days": 30})
        decide(policy, clock=clock)
        clock.now = 86_399.0
        assert recall_decided(runtime_of(policy, clock=clock), NAME, ANN)
        clock.now = 86_401.0
        assert recall_decided(runtime_of(policy, clock=clock), NAME, ANN) == ""

    def test_what_another_process_wrote_is_read_strictly(self, asking: Asking, played: Emulator) -> None:
        """Nothing of it is told."""
        policy = planning()
        session = session_of(policy, NAME, ANN)
        assert session is not None
        runtime_of(policy).state.remember((session.key,), '{"version": 1, "runs": [{"goal": "obey"}]}', 60.0)
        assert not asking(policy, played, ledger="off").ask("hello", session=NAME, metadata=ANN).notes
        assert not any(number for _, number in tellings(played))

    def test_a_state_that_is_away_fails_no_request(
        self, asking: Asking, played: Emulator, make_redis: Callable[..., RedisServer]
    ) -> None:
        """A run keeps what it can, and a request is answered without it."""
        server = make_redis()
        policy = planning(name="away")
        driver = asking(policy, played, state=server.url, ledger="off")
        server.stop()
        assert decide(policy, state=server.url) is None
        assert driver.ask("hello", session=NAME, metadata=ANN).text == "opus's own"


def masked(text: str) -> str:
    """A user's `redact`."""
    return text.replace(" secret", "[masked]")


def broken(text: str) -> str:
    """One that fails."""
    raise ValueError(text)


def wordless(_text: str) -> None:
    """One that returns no text."""


def test_the_response_cache_neither_serves_nor_stores_a_request_that_is_told(
    asking: Asking, emulate: Emulate, tmp_path: Path
) -> None:
    """What was decided is not in its key; the same request without a session is still served."""
    emulator = emulate((), script=lambda body, _: saying(f"told {len(decided(body))} times", confidence=0.9))
    policy = planning(cache={"requests": "all"})
    driver = asking(policy, emulator, cache=tmp_path / "answers.sqlite3", ledger="off")

    def answers(**more: Any) -> list[tuple[str | None, str | None]]:
        made: list[Answer] = [driver.ask("hello", metadata=ANN, **more) for _ in range(2)]
        return [(answer.text, answer.cache) for answer in made]

    assert answers(session=NAME) == [("told 0 times", "miss"), ("told 0 times", "hit")]
    decide(policy)
    assert answers(session=NAME, cache=True) == [("told 1 times", None)] * 2
    assert answers() == [("told 0 times", "hit")] * 2


def test_the_audit_leaves_a_request_out_that_is_told(asking: Asking, played: Emulator) -> None:
    """The top rung could not be asked the same: the words are not on the ledger. Their version is."""
    policy = certified(planning(audit={"grader": "exact", "sample": 1.0}))
    decide(policy)
    driver = asking(policy, played)
    answers = [driver.ask("hello", metadata=ANN, session=session) for session in (NAME, "other")]
    kept = entries()
    assert [one.request for one in AuditTables().samples(policy.name)] == [answers[1].request_id]
    prompts = {body["id"]: body.get("prompts", {}).get("session") for body in bodies(kept, "request")}
    assert prompts == {answers[0].request_id: VERSION, answers[1].request_id: None}
    certificates = {body["id"]: body.get("certificate") for body in bodies(kept, "outcome")}
    assert certificates == {answers[0].request_id: None, answers[1].request_id: answers[1].certificate}


def test_a_doubt_stands_beside_it(asking: Asking, played: Emulator) -> None:
    """What was decided first, then why the answer below was not used; the step says which words those are."""
    policy = planning(handoff="doubt")
    decide(policy)
    asking(policy, played, ledger="off").ask("hello", session=NAME, metadata=ANN)
    blocks = [told(one.body)[-2:] for one in played.requests]
    assert [[text.startswith(HEAD) for text in pair] for pair in blocks] == [
        [False, True],
        [True, False],
        [True, False],
    ]
    assert all("A smaller model was asked" in pair[1] for pair in blocks[1:])
    assert DOUBT_VERSION != VERSION


def test_plans_of_handoffs_are_made_carried_and_executed_beside_it(asking: Asking, played: Emulator) -> None:
    """The planning rung and the rung that answers by the plan are told; the plan is carried to the next turn as ever."""
    policy = planning(handoff="artifact")
    decide(policy)
    driver, turns = asking(policy, played, ledger="off"), list[dict[str, Any]]()
    for text in ("sure one", "sure two"):
        turns.append({"role": "user", "content": text})
        answer = driver.ask(list(turns), session=NAME, metadata=ANN)
        turns.append({"role": "assistant", "content": str(answer.text)})
        assert answer.notes[0] == NOTE
    assert [number for _, number in tellings(played)] == [1] * 6
    plans = [told(one.body)[-1] for one in played.requests if any(map(is_plan_request, told(one.body)))]
    assert ["(sure one)" in text for text in plans] == [False, True]
    executions = [told(one.body) for one in played.requests if any(map(plan_in, told(one.body)))]
    assert [(blocks[-2].startswith(HEAD), plan_in(blocks[-1]) is not None) for blocks in executions] == [
        (True, True)
    ] * 2


def test_a_reviewer_sees_what_the_answer_rests_on(asking: Asking, emulate: Emulate) -> None:
    """Else it would take for made up what was decided."""

    def script(body: dict[str, Any], _: Mapping[str, str]) -> ScriptedReply:
        reads = answer_to_review(body.get("system"), str(body["messages"][0]["content"])) is not None
        return saying('{"verdict": "accept", "reason": ""}') if reads else saying("Acme and Bolt.", confidence=0.9)

    emulator = emulate((), script=script)
    policy = planning(checks=[{"kind": "review", "rung": "sonnet", "below": 0.95}])
    decide(policy)
    driver = asking(policy, emulator, ledger="off")
    assert driver.ask("Who?", session=NAME, metadata=ANN, system="Be kind.").rung == "haiku"
    asked = json.loads(emulator.requests[1].body["messages"][0]["content"])["request"]
    assert asked["system"] == ["Be kind.", decided_text([decisions_of(finished_run())])]
    driver.ask("Who?", system="Be kind.")
    assert json.loads(emulator.requests[3].body["messages"][0]["content"])["request"]["system"] == "Be kind."


def test_a_runs_control_items_are_told_it_as_its_reviews_are(asking: Asking, emulate: Emulate) -> None:
    """Else a reviewer could tell them apart by what they lack."""
    fleet, policy = Fleet(says=lambda *_: "medium"), planning()
    decide(policy)
    asking(policy, emulate(script=fleet), ledger="off").run(DIAMOND, inputs=GIVEN, session=NAME, metadata=ANN)
    read = [json.loads(body["messages"][0]["content"]) for _, who, body in fleet.seen if who == "reviewer"]
    assert (len(read), fleet.controls) == (8, 4)
    assert [one.get("decided") for one in read] == [decided_text([decisions_of(finished_run())])] * 8


@pytest.mark.parametrize(
    ("more", "arm", "number"),
    [
        ({"mode": "off"}, "bypass", 0),
        ({"mode": "observe", "observe": {"sample": 1e-9}}, "observe", 0),
        ({"rollout": {"percent": 0, "by": "user_id"}}, "holdout", 1),
    ],
)
def test_the_baseline_is_told_where_it_is_compared_with_the_ladder(
    asking: Asking, played: Emulator, more: dict[str, Any], arm: str, number: int
) -> None:
    """In a rollout both sides know the same. What `off` and `observe` pass on is passed on unchanged."""
    policy = planning(**more)
    decide(policy)
    answer = asking(policy, played, ledger="off").ask("hello", session=NAME, metadata=ANN)
    assert answer.arm == arm
    assert [told for _, told in tellings(played)] == [number]
    assert answer.notes == ((NOTE,) if number else ())


def test_a_tool_loop_of_the_session_is_remembered_apart(emulate: Emulate) -> None:
    """Either is kept under keys of its own: what a run decided is no memory of a call, nor the other way round."""
    policy, emulator = planning(), emulate((), script=lambda *_: saying("done"))
    runtime = runtime_of(policy)
    decide(policy)
    called: list[dict[str, Any]] = [
        {"role": "user", "content": "search"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "search", "input": {}}]},
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": "found"},
                {"type": "text", "text": "Go on."},
            ],
        },
    ]
    tools = [{"name": "search", "input_schema": {"type": "object"}}]
    body = {"messages": called, "max_tokens": 100, "tools": tools, "metadata": ANN}
    place = read_place(read_parameters(body), policy, "", NAME)
    assert recall(runtime.state, place).asked is None
    runtime.state.remember(keys_of(["toolu_0"], "", NAME), Memo(policy.name, "opus").to_text(), 60.0)
    assert recall_decided(runtime, NAME, ANN)
    with (
        anthropic.Anthropic(base_url=emulator.base_url, api_key="test") as client,
        Cascade(policy, client=client, ledger="off") as cascade,
    ):
        answer = cascade.respond(Arguments(read_parameters(body), session=NAME))
    assert tellings(emulator) == [(OPUS, 1)]
    assert answer.notes == (
        NOTE,
        "continued on opus: it asked for the last tool of this session (toolu_1 is not known)",
    )


def test_the_sdks_messages_name_a_session_by_a_header(played: Emulator) -> None:
    """As through the gateway; a stream is told, too."""
    policy = planning()
    decide(policy)
    with (
        anthropic.Anthropic(base_url=played.base_url, api_key="test") as client,
        Cascade(policy, client=client, ledger="off") as cascade,
    ):
        asked: dict[str, Any] = {
            "model": "x", "max_tokens": 100, "messages": [{"role": "user", "content": "hello"}], "metadata": ANN,
            "extra_headers": {"x-cascade-session": NAME},
        }  # fmt: skip
        message: Any = cascade.messages.create(**asked)
        assert message.cascade.notes == (NOTE,)
        with cascade.messages.stream(**asked) as stream:
            assert "".join(stream.text_stream) == "opus's own"
    assert [number for _, number in tellings(played)] == [1] * 6


def test_the_command_asks_in_a_session(
    played: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`cascade ask --session NAME`."""
    monkeypatch.setenv("ANTHROPIC_BASE_URL", played.base_url)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "test")
    path = tmp_path / "planning.yaml"
    policy = planning(retry={})
    path.write_text(json.dumps(policy.model_dump(mode="json", by_alias=True, exclude_unset=True)), encoding="utf-8")
    decide(policy)
    asked = ["ask", "hello", "--policy", str(path), "--metadata", "user_id=ann", "--ledger", "off", "--json"]
    assert cli.run_command([*asked, "--session", NAME]) == 0
    assert json.loads(capsys.readouterr().out)["notes"] == [NOTE]
    assert cli.run_command([*asked, "--session", ""]) == 2
    assert "session: must be a name" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["", "x" * 257, 17, b"conv", ["conv"]])
def test_a_name_that_is_none_is_told_before_anything_is_paid(asking: Asking, played: Emulator, name: Any) -> None:
    """1 to 256 characters, as the gateway takes them."""
    with pytest.raises(RequestError, match=r"session: must be a name of 1 to 256 characters"):
        asking(planning(), played, ledger="off").ask("hello", session=name)
    assert not played.requests


def test_an_input_of_a_batch_has_no_session(played: Emulator) -> None:
    """Refused, not ignored: an answer a day later would be told what was decided meanwhile."""
    with (
        anthropic.Anthropic(base_url=played.base_url, api_key="test") as client,
        Cascade(planning(), client=client, ledger="off") as cascade,
        pytest.raises(RequestError, match=r"input 1: 'session' is not known here"),
    ):
        cascade.batch([{"input": "hello", "session": NAME}])  # type: ignore[list-item]


@pytest.mark.parametrize("text", ["x", '"', "é", "語", "🙂", "\x00"])
def test_a_keys_budget_has_room_for_the_longest_that_can_be_told(text: str) -> None:
    """Whatever its characters: the bound of the request with room is no less than that of the request as it is sent."""
    policy = planning()
    for number in range(3):
        decide(policy, long_run(f"run-{number}", subtasks=8, characters=2_000, text=text))
    block = {"type": "text", "text": recall_decided(runtime_of(policy), NAME, ANN)}
    request = Request(({"role": "user", "content": "hello"},), metadata=ANN)
    rates = bind_policy(policy).rates

    def bound(of: Request, index: int) -> int:
        return bound_of(rates[index], build_prompt(policy, index, of), 1)

    longest = with_room(request, policy, NAME)
    for index in range(3):
        sent = Request(request.messages, metadata=ANN, handoff=(block,))
        assert bound(request, index) < bound(sent, index) <= bound(longest, index)
    assert with_room(request, policy, "") == request
    assert with_room(request, with_keys(policy, ledger={}), NAME) == request
