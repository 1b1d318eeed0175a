"""Where the turns of a conversation begin, over the climb and a state in memory: no network, scripted replies."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

import pytest

from cascade.core.decision import Start
from cascade.core.messages import Message, Reply, Request, Usage
from cascade.core.policy import Policy
from cascade.engine.continuing import KEEP_S, Memo, Recalled, keys_of, lessons_of, read_place, recall, start_of
from cascade.policy.binding import bind_baseline, bind_policy
from tests.core.builders import failure, policy_of, reply, run
from tests.live.messages.conversations import SURE, UNSURE, Conversation, asks, result


def talk(**policy: Any) -> Conversation:
    """With three rungs."""
    return Conversation(policy_of(0.8, 0.8, **policy))


def test_a_loop_goes_on_at_the_rung_that_asked() -> None:
    """Turn by turn, and the note says why; the answer at its end may still climb."""
    one = talk()
    assert one.turn("go", reply(UNSURE), asks("t1")).rung == "r1"
    for number in range(1, 4):
        answer = one.turn(result(f"t{number}"), asks(f"t{number + 1}"))
        assert one.rungs(answer) == ["r1"]
        assert answer.notes[0] == f"continued on r1: it asked for t{number}"
    assert one.rungs(one.turn(result("t4"), reply(UNSURE), reply(None))) == ["r1", "r2"]


def test_a_new_user_turn_begins_at_the_first_rung() -> None:
    """Also where the loop before it ended at the top; and nothing is told."""
    one = talk()
    one.turn("go", reply(UNSURE), reply(UNSURE), asks("t1"))
    one.turn(result("t1"), reply(None))
    answer = one.turn("and now?", reply(SURE))
    assert (one.rungs(answer), answer.notes) == (["r0"], ())


def test_an_unknown_call_begins_at_the_first_rung_and_it_is_told() -> None:
    """It was made elsewhere, or is too old."""
    one = talk()
    one.messages = [{"role": "user", "content": "go"}, {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_x", "name": "search", "input": {}}]}]  # fmt: skip
    answer = one.turn(result("toolu_x"), reply(SURE))
    assert one.rungs(answer) == ["r0"]
    assert answer.notes == (
        "began at r0: which rung asked for toolu_x is not known (it is remembered for a day, in the state)",
    )


def test_a_rung_that_is_no_longer_there_gives_way_to_the_first() -> None:
    """The policy was changed while the tool ran."""
    one = talk()
    one.turn("go", reply(UNSURE), asks("t1"))
    ladder = [rung.model_copy(update={"rung": f"new{number}"}) for number, rung in enumerate(one.plan.policy.ladder)]
    one.plan = bind_policy(Policy.model_validate({**one.plan.policy.model_dump(by_alias=True, exclude_unset=True), "ladder": ladder}))  # fmt: skip
    answer = one.turn(result("t1"), reply(SURE))
    assert one.rungs(answer) == ["new0"]
    assert "the rung 'r1', which asked for t1, is no longer on the ladder" in answer.notes[0]


def test_another_policys_rung_of_the_same_name_is_another_rung() -> None:
    """The caller changed the policy in the middle of the loop."""
    one = talk()
    one.turn("go", reply(UNSURE), asks("t1"))
    one.plan = bind_policy(one.plan.policy.model_copy(update={"name": "other"}))
    answer = one.turn(result("t1"), reply(SURE))
    assert one.rungs(answer) == ["r0"]
    assert "under the policy 'test'" in answer.notes[0]


def test_three_tool_errors_climb_one_rung_and_so_do_three_more() -> None:
    """Not the fourth; and above the top there is nothing."""
    one = talk()
    one.turn("go", asks("t0"))
    asked = []
    for number in range(10):
        answer = one.turn(result(f"t{number}", failed=True), asks(f"t{number + 1}"))
        asked += one.rungs(answer)
        if number in (2, 5):
            assert (
                answer.notes[0]
                == f"climbed from r{number // 3} to r{number // 3 + 1}: {number + 1} tool errors in a row"
            )
    assert asked == ["r0"] * 2 + ["r1"] * 3 + ["r2"] * 5
    assert one.start.notes[0] == "continued on r2: it asked for t9"


def test_the_number_of_errors_is_the_policys() -> None:
    """`sticky: {loop_errors: 1}`."""
    one = talk(sticky={"loop_errors": 1})
    one.turn("go", asks("t0"))
    assert one.rungs(one.turn(result("t0", failed=True), asks("t1"))) == ["r1"]


def test_the_same_call_again_climbs_one_rung() -> None:
    """The rung above makes its own."""
    one = talk()
    same = {"type": "tool_use", "name": "search", "input": {"q": "x"}}
    for number, rungs in enumerate((["r0"], ["r0"], ["r1"], ["r2"])):
        message: Any = result(f"t{number - 1}") if number else "go"
        block = {**same, "id": f"t{number}"}
        answer = one.turn(message, reply(None, "", stop_reason="tool_use", message=Message("m", (block,), "tool_use")))
        assert one.rungs(answer) == rungs
    answer = one.turn(result("t3"), reply(None))
    assert answer.notes[:2] == (
        "continued on r2: it asked for t3",
        "the same tool call twice in a row, and no rung above r2 may be asked",
    )


def test_a_loop_that_is_stuck_stops_at_its_tasks_ceiling() -> None:
    """It is the highest rung that is asked."""
    one = talk(tasks=[{"name": "t", "when": {"words": ["go"]}, "ceiling": "r0"}], sticky={"loop_errors": 1})
    one.turn("go", asks("t0"))
    answer = one.turn(result("t0", failed=True), asks("t1"))
    assert one.rungs(answer) == ["r0"]
    assert answer.notes[1] == "1 tool error in a row, and no rung above r0 may be asked"


def test_a_session_stands_in_for_a_call_that_is_not_known() -> None:
    """The client gave the call an id of its own: the last call of this session says where the loop is."""
    one = Conversation(policy_of(0.8, 0.8), key="k1", session="s1")
    one.turn("go", reply(UNSURE), asks("t1"))
    one.messages[-1] = {
        "role": "assistant",
        "content": [{"type": "tool_use", "id": "mine", "name": "search", "input": {}}],
    }
    answer = one.turn(result("mine"), asks("t2"))
    assert one.rungs(answer) == ["r1"]
    assert answer.notes[0] == "continued on r1: it asked for the last tool of this session (mine is not known)"
    assert one.start.kept == frozenset()


@pytest.mark.parametrize(("key", "session"), [("k2", "s1"), ("k1", "s2"), ("k1", "")])
def test_another_key_or_session_knows_nothing(key: str, session: str) -> None:
    """Neither the id, under another key, nor the session."""
    policy = policy_of(0.8, 0.8)
    one = Conversation(policy, key="k1", session="s1")
    one.turn("go", reply(UNSURE), asks("t1"))
    other = Conversation(policy, key=key, session=session, state=one.state)
    other.messages = [*one.messages[:-1], {"role": "assistant", "content": [{"type": "tool_use", "id": "t1" if key == "k2" else "t?", "name": "search", "input": {}}]}]  # fmt: skip
    answer = other.turn(result("t1" if key == "k2" else "t?"), reply(SURE))
    assert other.rungs(answer) == ["r0"]


def test_keys_cannot_be_mixed_up() -> None:
    """Whatever characters a key, a session or an id holds."""
    odd = ["", "a", '"', "a|b", '","', "\ud83d"]
    seen = [keys_of([one], key, session) for one in odd for key in odd for session in odd]
    ids = {keys[0] for keys in seen}
    sessions = {keys[1] for keys in seen if len(keys) > 1}
    assert (len(ids), len(sessions)) == (36, 30)
    assert not ids & sessions


def test_all_calls_of_a_turn_are_known_by_each_of_their_ids() -> None:
    """A client may hand in the results in two messages, or in another order."""
    for answered in (("t1", "t2", "t3"), ("t3", "t1", "t2"), ("t2",)):
        one = talk()
        one.turn("go", reply(UNSURE), asks("t1", "t2", "t3"))
        assert one.rungs(one.turn(result(*answered), reply(SURE))) == ["r1"]


def test_a_paused_turn_goes_on_where_it_began() -> None:
    """Also paused twice; its calls are the API's own."""
    one = talk()
    searching = {"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {"query": "x"}}
    paused = reply(None, "", stop_reason="pause_turn", message=Message("m", (searching,), "pause_turn"))
    one.turn("go", reply(UNSURE), paused)
    for _ in range(2):
        answer = one.resume(paused)
        assert one.rungs(answer) == ["r1"]
        assert answer.notes == ("continued on r1: it paused at srv_1",)
    assert one.start.kept == {"srv_1"}
    assert one.rungs(one.resume(asks("t1"))) == ["r1"]
    assert one.rungs(one.turn(result("t1"), reply(SURE))) == ["r1"]


def test_the_thinking_of_the_rungs_own_turns_is_kept_and_of_no_other() -> None:
    """Those in a row that it made; a rung that takes over keeps nothing, and begins its own row."""
    one = talk(sticky={"loop_errors": 1})
    kept: list[set[str]] = []
    one.turn("go", asks("a", thinks=True))
    for failed, call, following in (
        (0, "a", "b"),
        (0, "b", "c"),
        (1, "c", "d"),
        (0, "d", "e"),
        (0, "e", "f"),
        (0, "f", "g"),
    ):
        one.turn(result(call, failed=bool(failed)), asks(following, thinks=following == "e"))
        kept.append(set(one.start.kept))
    assert kept == [{"a"}, {"a", "b"}, set(), {"d"}, {"e"}, {"e", "f"}], "d has no thinking to keep"


def test_a_warm_rung_is_told_with_what_leaving_it_would_cost() -> None:
    """Where its cache holds something, and it is not the first rung anyway."""
    models = ("claude-haiku-5-5", "claude-sonnet-5-5", "claude-opus-5-5")
    one = Conversation(policy_of(0.8, 0.8, models=models, price=None))
    warm = Usage(input_tokens=10, output_tokens=100, cache_read=50_000, cache_write_5m=10_000)
    one.turn("go", reply(UNSURE), asks("t1", usage=warm))
    answer = one.turn(result("t1"), asks("t2", usage=warm))
    assert answer.notes[0] == "continued on r1: it asked for t1"
    assert answer.notes[1].startswith("while the cache of r1 is warm, a turn is expected to cost 0.")
    first = talk()
    first.turn("go", asks("t1", usage=warm))
    assert len(first.turn(result("t1"), reply(SURE)).notes) == 1


def test_after_a_climb_the_next_turns_have_a_floor_and_begin_at_the_first_rung() -> None:
    """So many user turns, told each time; then none."""
    one = talk(sticky={"cool_off": 2})
    one.turn("go", reply(UNSURE), reply(SURE))
    told = []
    for _ in range(4):
        outcomes = (reply(SURE),) * (2 if len(told) < 2 else 1)
        answer = one.turn("more", *outcomes)
        told.append((one.rungs(answer), answer.notes))
    assert told == [
        (["r0", "r1"], ("floor raised to r1 for 1 more turn",)),
        (["r0", "r1"], ("floor raised to r1 for this turn",)),
        (["r0"], ()),
        (["r0"], ()),
    ]


def test_a_floor_only_rises_and_a_climb_as_far_starts_it_anew() -> None:
    """A lower climb meanwhile does neither."""
    one = talk(sticky={"cool_off": 2})
    one.turn("go", reply(UNSURE), reply(UNSURE), reply(None))
    assert one.rungs(one.turn("more", reply(UNSURE), reply(SURE), reply(None))) == ["r0", "r1", "r2"]
    assert one.turn("more", reply(UNSURE), reply(UNSURE), reply(None)).notes == ("floor raised to r2 for this turn",)
    assert one.turn("more", reply(SURE), reply(SURE), reply(None)).notes == ("floor raised to r2 for 1 more turn",)


def test_an_outage_raises_no_floor() -> None:
    """It says nothing of the conversation."""
    one = talk(sticky={})
    one.turn("go", failure(), reply(SURE))
    assert one.turn("more", reply(SURE)).notes == ()


def test_a_loop_that_was_stuck_raises_the_floor_and_its_turns_use_none_of_it() -> None:
    """Only user turns count."""
    one = talk(sticky={"cool_off": 2, "loop_errors": 1})
    one.turn("go", asks("t0"))
    one.turn(result("t0", failed=True), asks("t1"))
    for number in range(1, 6):
        assert one.rungs(one.turn(result(f"t{number}"), asks(f"t{number + 1}"))) == ["r1"]
    one.turn(result("t6"), reply(SURE))
    assert one.turn("more", reply(SURE), reply(SURE)).notes == ("floor raised to r1 for 1 more turn",)


def test_without_sticky_there_is_no_floor() -> None:
    """An omitted block is off; a cool_off of 0 too."""
    for one in (talk(), talk(sticky={"cool_off": 0})):
        one.turn("go", reply(UNSURE), reply(SURE))
        assert one.rungs(one.turn("more", reply(SURE))) == ["r0"]


def test_a_conversation_is_known_by_its_first_message_and_a_session_by_its_name() -> None:
    """A moved cache_control is no other conversation; another key is."""
    policy = policy_of(0.8, 0.8, sticky={})
    one = Conversation(policy, key="k1")
    one.turn("go", reply(UNSURE), reply(SURE))
    marked = [{"type": "text", "text": "go", "cache_control": {"type": "ephemeral"}}]
    for key, first, raised in (("k1", marked, True), ("k1", "stop", False), ("k2", "go", False)):
        other = Conversation(policy, key=key, state=one.state)
        other.messages = [{"role": "user", "content": first}, *one.messages[1:]]
        assert bool(other.turn("more", *(reply(SURE),) * (1 + raised)).notes) is raised
    policy = policy_of(0.8, 0.8, sticky={"by": "session"}, name="by-session")
    one = Conversation(policy, key="k1", session="s1")
    one.turn("go", reply(UNSURE), reply(SURE))
    for session, raised in (("s1", True), ("s2", False), ("", False)):
        other = Conversation(policy, key="k1", session=session, state=one.state)
        assert bool(other.turn("anything", *(reply(SURE),) * (1 + raised)).notes) is raised


def test_a_first_message_that_cannot_be_hashed_has_no_floor() -> None:
    """It is no JSON, or too deep for it: the API's to refuse, and no error of ours."""
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    for content in (deep, [{"type": "text", "text": {1, 2}}], [{"type": "x", 1: 2, "a": 3}]):
        request = Request(({"role": "user", "content": content},))
        assert read_place(request, policy_of(0.8, sticky={})).floor_key is None


def test_the_baseline_has_one_place_and_nothing_to_tell() -> None:
    """A holdout's tool loop is on it from the first turn to the last."""
    plan = bind_baseline(bind_policy(policy_of(0.8, 0.8, sticky={})))
    request = Request(({"role": "user", "content": "go"}, {"role": "assistant", "content": "…"}, result("t1")))
    place = read_place(request, plan.policy)
    assert start_of(place, Recalled(floor=Memo("test", "r2", 3)), request, plan) == Start()


def test_a_plain_turn_does_not_ask_the_state() -> None:
    """Nor is anything remembered of it: a remote state costs it no round trip."""
    policy = policy_of(0.8, 0.8)
    request = Request(({"role": "user", "content": "go"},))
    place = read_place(request, policy, "k1", "s1")
    assert not place.needs_recall
    plan = bind_policy(policy)
    recalled = recall(_no_state(), place)
    start = start_of(place, recalled, request, plan)
    answer = run(plan, [reply(SURE)], request=request, start=start).answer
    assert answer is not None
    assert lessons_of(place, recalled, start, answer, policy) == ()


def _no_state() -> Any:
    return None  # a call of it would fail


@pytest.mark.parametrize("text", [
    None, "", "{", "null", "[]", '{"policy": "p"}', '{"policy": 1, "rung": "r"}', '{"policy": "p", "rung": "r", "run": -1}',
    '{"policy": "p", "rung": "r", "cached": "many"}', '{"policy": "p", "rung": "r", "turns_left": true}', "[" * 900, "9" * 2_000,
])  # fmt: skip
def test_a_value_that_this_version_did_not_write_is_none(text: str | None) -> None:
    """A later version's, or somebody else's."""
    assert Memo.read(text) is None


def test_what_is_remembered_is_short_and_without_content() -> None:
    """Names and counts; later fields are passed over."""
    memo = Memo("default", "sonnet", 7, 3, 60_000, 512)
    assert json.loads(memo.to_text()) == {"policy": "default", "rung": "sonnet", "turns_left": 7, "run": 3, "cached": 60_000, "output": 512}  # fmt: skip
    assert Memo.read(memo.to_text()) == memo
    assert Memo.read('{"policy": "p", "rung": "r", "later": [1]}') == Memo("p", "r")
    assert len(memo.to_text()) < 120
    assert KEEP_S >= 3600


def test_random_conversations_keep_the_law() -> None:
    """Thirty seeded ones of forty turns: a user turn begins at the first rung, a loop where it is or one above; none is left out."""
    for seed in range(30):
        chance, asked = random.Random(seed), 0
        one = talk(sticky={"cool_off": chance.randrange(4), "loop_errors": chance.randrange(1, 4)})
        open_calls: list[str] = []
        for number in range(40):
            is_loop = bool(open_calls)
            answer = one.turn(
                result(*open_calls, failed=chance.random() < 0.5) if is_loop else f"turn {number}",
                endless=_outcomes(chance, seed),
            )
            assert one.start.index in ((asked, min(asked + 1, 2)) if is_loop else (0,))
            indices = [step.index for step in answer.steps]
            assert indices == list(range(one.start.index, one.start.index + len(indices)))
            assert answer.shipped is not None
            assert answer.shipped.index >= one.start.floor
            asked = answer.shipped.index
            open_calls = [block["id"] for block in answer.message.content if block["type"] == "tool_use"]


def _outcomes(chance: random.Random, seed: int) -> Iterator[Reply]:
    """Any rung's replies: calls, sure and unsure answers."""
    while True:
        if chance.random() < 0.5:
            yield asks(*(f"t{seed}-{chance.randrange(10**9)}" for _ in range(chance.randrange(1, 3))))
        else:
            yield reply(chance.choice((SURE, UNSURE)))
