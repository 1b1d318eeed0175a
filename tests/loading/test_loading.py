"""Where a policy comes from: a path, a name, the environment, a prompt file; and which ladders stand."""

from __future__ import annotations

from pathlib import Path

import pytest

from cascade.core.errors import PolicyError
from cascade.core.policy import Policy
from cascade.policy.binding import bind_policy
from cascade.policy.loading import compose, load_policy, parse_policy
from cascade.policy.prompts import files_in

from .builders import POLICIES, SOUND, broken, changed, parsed

SHIPPED = sorted(path.stem for path in POLICIES.glob("*.yaml"))


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_policy_is_found_by_its_name_and_by_its_path(name: str) -> None:
    """Both are the same policy, and it can be run."""
    by_name, by_path = load_policy(name, environment={}), load_policy(POLICIES / f"{name}.yaml", environment={})
    assert (by_name.name, by_name.hash) == (name, by_path.hash)
    assert bind_policy(by_name).rates


@pytest.mark.parametrize(
    "source", ["no-such-policy", "no/such.yaml", "such.yml", Path("defaults"), "", ".", "\0", "x" * 5_000, SOUND]
)
def test_a_policy_that_is_not_there_is_one_clear_line(source: str | Path) -> None:
    """A wrong name, a path that leads nowhere, a folder, or the YAML itself given as a name."""
    with pytest.raises(PolicyError) as caught:
        load_policy(source)
    assert str(caught.value).isprintable()
    assert "default" in str(caught.value) or "give a path" in str(caught.value)


def test_a_file_that_cannot_be_a_policy_is_refused_unread(tmp_path: Path) -> None:
    """Bytes that are not UTF-8, and more than 1 MB."""
    path = tmp_path / "p.yaml"
    path.write_bytes(b"name: \xff\xfe")
    with pytest.raises(PolicyError, match="not UTF-8"):
        load_policy(path)
    path.write_text("#" * 1_000_001)
    with pytest.raises(PolicyError, match="larger than 1 MB"):
        load_policy(path)


def test_the_file_stands_in_its_errors(tmp_path: Path) -> None:
    """As it was given, with line and column."""
    path = tmp_path / "mine.yaml"
    path.write_text(changed(("name: sound", "name: on")))
    with pytest.raises(PolicyError) as caught:
        load_policy(path)
    assert caught.value.where == f"{path}:2:7"


EXPANDED: list[tuple[str, dict[str, str], str, object]] = [
    ("name: ${N}", {"N": "mine"}, "name", "mine"),
    ("name: ${N:-other}", {}, "name", "other"),
    ("name: ${N:-other}", {"N": "mine"}, "name", "mine"),
    ("name: a-${N}-${M:-x}", {"N": "b"}, "name", "a-b-x"),
    ("name: '${N}'", {"N": "007"}, "name", "007"),
    ("name: x\ndeadline_s: ${T}", {"T": "7.5"}, "deadline_s", 7.5),
    ("name: x\ndeadline_s: ${T:-9}", {}, "deadline_s", 9.0),
    ("name: $N-$", {}, "name", None),
]


@pytest.mark.parametrize(("text", "environment", "key", "value"), EXPANDED)
def test_variables_expand_in_scalars_after_parsing(
    text: str, environment: dict[str, str], key: str, value: object
) -> None:
    """A plain one may become a number; a quoted one stays text; a default stands in; a bare $ is a $."""
    if value is None:
        assert "name" in str(broken(changed(("name: sound", text)), **environment))
    else:
        assert getattr(parsed(changed(("name: sound", text)), **environment), key) == value


@pytest.mark.parametrize("value", ["a: 1, b: 2", "x}\n- y", "*anchor", "${N}", "!!python/none", "a # b"])
def test_a_variables_value_is_never_parsed_as_structure(value: str) -> None:
    """It is one scalar, whatever it holds, and is not expanded again; so as a name it is refused by its place."""
    assert broken(changed(("name: sound", "name: ${N}")), N=value).where == "p.yaml:2:7"


def test_an_expanded_value_is_checked_like_any_other() -> None:
    """A threshold from the environment must be one. Inside braces YAML wants quotes, and then it stays text."""
    flow = "- {rung: haiku, model: claude-haiku-5-5, threshold: 0.80, max_tokens: 1024, thinking: disabled}"
    text = changed((flow, "- rung: haiku\n    model: claude-haiku-5-5\n    threshold: ${T}\n    max_tokens: 1024"))
    assert parsed(text, T="0.5").ladder[0].threshold == 0.5
    assert parsed(text, T="never").ladder[0].threshold is None
    assert broken(text, T="2").key == "ladder[0].threshold"
    assert broken(text, T="\udcff").key == "ladder[0].threshold"


def test_secrets_are_named_and_never_shown() -> None:
    """An error about a value from the environment does not print it."""
    error = broken(changed(("name: sound", "name: ${N}")), N="sk-secret value")
    assert "secret" not in str(error)


def test_a_prompt_file_beside_the_policy_is_read(tmp_path: Path) -> None:
    """Its text is in the policy, and so in its hash."""
    (tmp_path / "rules.txt").write_text("Judge yourself, é.", encoding="utf-8")
    path = tmp_path / "p.yaml"
    path.write_text(SOUND + "triage: {prompt: rules.txt}\n")
    policy = load_policy(path)
    assert policy.triage.prompt == "Judge yourself, é."
    (tmp_path / "rules.txt").write_text("Judge others.")
    assert load_policy(path).hash != policy.hash


@pytest.mark.parametrize(
    "name",
    ["none.txt", "../rules.txt", "/etc/hostname", "sub/rules.txt", "..", "empty.txt", "binary.txt", "big.txt", "''"],
)
def test_a_prompt_file_that_cannot_be_used_is_told_at_its_key(tmp_path: Path, name: str) -> None:
    """Missing, elsewhere, empty, not text, too large."""
    (tmp_path / "empty.txt").write_text(" \n")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\xff")
    (tmp_path / "big.txt").write_text("x" * 1_000_001)
    path = tmp_path / "p.yaml"
    path.write_text(SOUND + f"triage: {{prompt: {name}}}\n")
    with pytest.raises(PolicyError) as caught:
        load_policy(path)
    assert (caught.value.where, caught.value.key) == (f"{path}:11:18", "triage.prompt")


def test_the_prompt_files_of_a_plan_are_read_as_strictly(tmp_path: Path) -> None:
    """Each role's own; what cannot be used is told at its key. `files_in` names them by role."""
    for name in ("plan.txt", "review.txt"):
        (tmp_path / name).write_text(f"The words of {name}.", encoding="utf-8")
    path = tmp_path / "p.yaml"
    path.write_text(SOUND + "plan: {prompts: {planner: plan.txt, reviewer: review.txt}}\n")
    policy = load_policy(path)
    assert policy.plan is not None
    prompts = policy.plan.prompts
    assert (prompts.planner, prompts.executor, prompts.reviewer) == (
        "The words of plan.txt.", None, "The words of review.txt.",
    )  # fmt: skip
    assert files_in(compose(path.read_text())[1]) == {"planner": "plan.txt", "reviewer": "review.txt"}
    path.write_text(SOUND + "plan: {prompts: {planner: plan.txt, executor: ../review.txt}}\n")
    with pytest.raises(PolicyError, match="not the name of a file beside the policy") as caught:
        load_policy(path)
    assert (caught.value.where, caught.value.key) == (f"{path}:11:47", "plan.prompts.executor")


def ladder(*models: str) -> str:
    """A policy on these models, priced so that only the ladder's own rules speak."""
    price = "price: {input: 1, output: 1}"
    rungs = [
        f"  - {{rung: r{n}, model: '{model}', threshold: 0.8, max_tokens: 9, {price}}}"
        for n, model in enumerate(models)
    ]
    rungs[-1] = rungs[-1].replace("threshold: 0.8, ", "")
    return "version: 1\nname: x\nladder:\n" + "\n".join(rungs) + "\n"


STANDS = [
    ("claude-haiku-5-5", "claude-sonnet-5-5", "claude-opus-5-5"),
    ("claude-haiku-4-5", "claude-haiku-5-5", "claude-sonnet-5-5"),
    ("claude-haiku-5-5", "claude-sonnet-5-5", "claude-opus-5-5", "claude-fable-5"),
    ("us.anthropic.claude-haiku-4-5-20251001-v1:0", "anthropic.claude-sonnet-4-6", "global.anthropic.claude-opus-4-7"),
    ("claude-haiku-4-5@20251001", "claude-sonnet-4-6@default", "claude-opus-4-7@default"),
    ("claude-3-5-haiku-latest", "claude-3-5-sonnet-latest", "claude-3-opus-latest"),
    ("gpt-4.1-nano", "gpt-4.1"),
    ("llama", "claude-sonnet-5-5", "claude-opus-5-5"),
    ("claude-haiku-5-5", "llama", "claude-sonnet-5-5", "gpt-4.1", "claude-opus-5-5"),
]
FALLS = [
    (("claude-sonnet-5-5", "claude-opus-5-5"), 0, "starts at"),
    (("claude-opus-5-5", "claude-opus-4-7"), 0, "starts at"),
    (("claude-3-5-sonnet-20241022", "claude-3-opus-20240229"), 0, "starts at"),
    (("claude-haiku-5-5", "claude-opus-5-5"), 1, "past Sonnet"),
    (("claude-haiku-4-5@20251001", "us.anthropic.claude-opus-4-7-v1:0"), 1, "past Sonnet"),
    (("claude-haiku-5-5", "gpt-4.1", "claude-opus-5-5"), 2, "past Sonnet"),
    (("llama", "claude-opus-5-5"), 1, "past Sonnet"),
    (("claude-haiku-5-5", "claude-sonnet-5-5", "claude-mythos-5"), 2, "past Opus"),
    (("claude-haiku-5-5", "claude-sonnet-5-5", "claude-haiku-4-5"), 2, "step down"),
    (("claude-haiku-5-5", "claude-sonnet-5-5", "claude-opus-5-5", "anthropic.claude-sonnet-4-6"), 3, "step down"),
    (("llama", "claude-sonnet-5-5", "claude-haiku-5-5"), 2, "step down"),
]


@pytest.mark.parametrize("models", STANDS)
def test_a_ladder_that_climbs_stands(models: tuple[str, ...]) -> None:
    """From Haiku by Sonnet to Opus, by canonical names, whatever the platform; other models may stand between."""
    assert [rung.model for rung in parsed(ladder(*models)).ladder] == list(models)


@pytest.mark.parametrize(("models", "rung", "problem"), FALLS)
def test_a_ladder_that_does_not_climb_is_refused(models: tuple[str, ...], rung: int, problem: str) -> None:
    """It starts above Haiku, skips Sonnet or Opus, or steps down: told at the model that does it."""
    error = broken(ladder(*models))
    assert (error.key, problem in str(error)) == (f"ladder[{rung}].model", True)


def test_two_rungs_are_the_least_and_sixteen_the_most() -> None:
    """One is no ladder."""
    assert broken(ladder("llama")).key == "ladder"
    assert broken(ladder(*["llama"] * 17)).key == "ladder"
    assert len(parsed(ladder(*["llama"] * 16)).ladder) == 16


def test_an_omitted_block_is_off_or_has_its_documented_default() -> None:
    """DESIGN §5's table."""
    policy = parsed(ladder("llama", "gpt-4.1"))
    assert (policy.storm_guard, policy.tasks, policy.exhausted, policy.deadline_s) == (None, (), "ship", 120)
    assert (policy.retry.attempts, policy.retry.max_wait_s, policy.triage.order) == (4, 30, "confidence_first")
    guard = parsed(ladder("llama", "gpt-4.1") + "storm_guard: {}\n").storm_guard
    assert guard is not None
    assert list(guard.model_dump().values()) == [0.35, 500, 200, 60, "escalate", 3600, None]


def test_the_hash_is_of_every_value() -> None:
    """The same values give the same hash, however they are written; any other value gives another."""
    assert parsed(SOUND).hash == parsed("# a comment\n" + SOUND.replace("0.80", "0.8")).hash
    others = [("0.80", "0.81"), ("name: sound", "name: x"), ("rate: 0.35", "rate: 0.36"), ("[refund]", "[refunds]")]
    assert len({parsed(changed(change)).hash for change in others} | {parsed().hash}) == 5


def test_a_policy_made_in_code_is_held_to_the_same_rules() -> None:
    """Without a file there is no place, but the same problem."""
    rungs = [{"rung": "a", "model": "claude-haiku-5-5", "threshold": 0.5, "max_tokens": 1}]
    rungs.append({"rung": "b", "model": "claude-opus-5-5", "max_tokens": 1})
    with pytest.raises(ValueError, match="past Sonnet"):
        Policy.model_validate({"version": 1, "name": "x", "ladder": rungs})


def test_a_text_is_parsed_by_the_processs_environment_if_none_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """`os.environ` is the default."""
    monkeypatch.setenv("CASCADE_TEST_NAME", "from-outside")
    assert parse_policy(changed(("name: sound", "name: ${CASCADE_TEST_NAME}"))).name == "from-outside"
