"""One mistake at a time: each is one line with file:line:column, the key and how to fix it."""

from __future__ import annotations

import re

import pytest

from cascade.core.errors import PolicyError

from .builders import SOUND, broken, changed, parsed

RUNG_5 = "{rung: sonnet, model: claude-sonnet-5-5, threshold: 0.80, max_tokens: 4096, effort: low}"
RUNG_6 = "{rung: opus, model: claude-opus-5-5, max_tokens: 8192}"
STORM = "storm_guard: {rate: 0.35}"


def scores(rung: str, feature: str, scale: float = 1, mark: str = "scale: ") -> str:
    """A scorer of one rung, by one feature."""
    return f"scorer: {{{rung}: {{bias: 1, features: [{{name: {feature}, mean: 0, {mark}{scale}, weight: 1}}]}}}}"


TWICE = (
    "scorer: {haiku: {bias: 1, features: [{name: level, mean: 0, scale: 1, weight: 1},"
    " {name: ^level, mean: 0, scale: 1, weight: 1}]}}"
)

# (what is replaced, by what, where, key, a part of the problem, a part of the hint). Where is the ^ in the text; a place that
# is not in the replaced text stands as line:column.
FAULTS: list[tuple[str, str, str, str, str, str]] = [
    # keys
    ("name: sound", "name: sound\n^nam: x", "^", "nam", "unknown key", "known here: version, name, ladder"),
    ("threshold: 0.80", "^treshold: 0.80", "^", "ladder[0].treshold", "unknown key", "did you mean 'threshold'?"),
    ("max_tokens: 1024", "^maxtokens: 1024", "^", "ladder[0].maxtokens", "unknown key", "did you mean 'max_tokens'?"),
    ("ladder:", "^lader:", "^", "lader", "unknown key", "did you mean 'ladder'?"),
    ("effort: low", "^efort: low", "^", "ladder[1].efort", "unknown key", "known here: rung, model"),
    ("rate: 0.35", "^ratio: 0.35", "^", "storm_guard.ratio", "unknown key", "known here: rate, window"),
    ("words:", "^word:", "^", "tasks[0].when.word", "unknown key", "known here: pattern, words"),
    ("words: [refund]", "^not_: {flag: x}", "^", "tasks[0].when.not_", "unknown key", "not"),
    ("name: sound", "name: sound\n^name: again", "^", "name", "duplicate key", "remove one"),
    ("rung: haiku,", "rung: haiku, ^rung: h,", "^", "ladder[0].rung", "duplicate key", "remove one"),
    ("version: 1\n", "", "1:1", "", "'version' is missing", "add version"),
    ("name: sound\n", "", "1:1", "", "'name' is missing", "add name"),
    (", max_tokens: 1024", "", "4:5", "ladder[0]", "'max_tokens' is missing", "add max_tokens"),
    ("model: claude-opus-5-5, ", "", "6:5", "ladder[2]", "'model' is missing", "add model"),
    ("rung: opus, ", "", "6:5", "ladder[2]", "'rung' is missing", "add rung"),
    # YAML's words
    ("name: sound", "name: ^on", "^", "name", "YAML reads on as true", "quote it: 'on'"),
    ("rung: haiku", "rung: ^no", "^", "ladder[0].rung", "YAML reads no as false", "quote it: 'no'"),
    ("floor: sonnet", "floor: ^yes", "^", "tasks[0].floor", "YAML reads yes as true", "quote it: 'yes'"),
    (STORM, "exhausted: ^off", "^", "exhausted", "YAML reads off as false", "write 'ship' or 'abstain'"),
    (STORM, "prompt_cache: ^on", "^", "prompt_cache", "YAML reads on as true", "write 'off' or 'auto'"),
    (STORM, "prepare: ^summarise", "^", "prepare", "must be none, summarize, trim or a mapping", "did you mean 'summarize'?"),
    (STORM, "handoff: ^doub", "^", "handoff", "must be none, doubt, artifact or a mapping", "did you mean 'doubt'?"),
    (STORM, "cache: ^true", "^", "cache", "must be a mapping, not true", "cache: {}"),
    ("name: sound", "name: ^2026-11-21", "^", "name", "reads 2026-11-21 as a date", "quote it: '2026-11-21'"),
    ("name: sound", "^on: sound", "^", "on", "a key must be a word", "quote it"),
    (STORM, "deadline_s: ^1:30", "^", "deadline_s", "reads 1:30 as a number in base sixty", "quote it"),
    ("name: sound", "name: ^7", "^", "name", "must be text, not 7", "quote it: '7'"),
    # what YAML can do and a policy need not
    ("name: sound", "name: ^&a sound", "^", "", "anchors", "write the value out"),
    ("name: sound", "name: ^*a", "^", "", "aliases", "write the value out"),
    ("name: sound", "name: ^!!str sound", "^", "", "tag", "write the value out"),
    ("name: sound", "name: ^!!python/object/apply:os.system [x]", "^", "", "tag", "write the value out"),
    ("name: sound", "^<<: {name: sound}", "^", "<<", "merge keys", "write the keys out"),
    ("name: sound", "name: [sound", "3:7", "", "not valid YAML", ""),
    ("name: sound", "name: sound\n^\tx: 1", "^", "", "a tab stands here", "replace the tab by spaces"),
    ("name: sound", "name: a^: b", "^", "", "a second ': ' on this line", "quote a text"),
    ("name: sound", "name: [sound\ntasks^: 1", "^", "", "a [ that stands before this is not closed", "add the ]"),
    ("name: sound", "name: s^\x07und", "^", "", "U+0007", "remove the character"),
    ("name: sound", 'name: ^"\\ud800"', "^", "name", "unpaired surrogate", "whole character"),
    # thresholds
    ("threshold: 0.80", "threshold: ^1.01", "^", "ladder[0].threshold", "number from 0 to 1, or never, not 1.01", ""),
    ("threshold: 0.80", "threshold: ^-0.1", "^", "ladder[0].threshold", "number from 0 to 1, or never", ""),
    ("threshold: 0.80", "threshold: ^80%", "^", "ladder[0].threshold", "number from 0 to 1, or never", "did you mean 0.80?"),
    ("threshold: 0.80", "threshold: ^80", "^", "ladder[0].threshold", "number from 0 to 1, or never", "did you mean 0.80?"),
    ("threshold: 0.80", "threshold: ^nevr", "^", "ladder[0].threshold", "number from 0 to 1, or never", "did you mean never?"),
    ("threshold: 0.80", "threshold: ^'0.8'", "^", "ladder[0].threshold", "number from 0 to 1, or never", "without quotes: 0.8"),
    ("threshold: 0.80", "threshold: ^.nan", "^", "ladder[0].threshold", "number from 0 to 1, or never", ""),
    ("threshold: 0.80", "threshold: ^true", "^", "ladder[0].threshold", "number from 0 to 1, or never", ""),
    ("threshold: 0.80, max_tokens: 4096", "max_tokens: 4096", "5:5", "ladder[1]", "needs a threshold", "threshold: never"),
    ("max_tokens: 8192", "max_tokens: 8192, threshold: ^0.9", "^", "ladder[2].threshold", "last rung", "remove it"),
    ("max_tokens: 8192", "max_tokens: 8192, threshold: ^never", "^", "ladder[2].threshold", "last rung", "remove it"),
    ("haiku: 0.6", "haiku: ^6", "^", "tasks[1].thresholds.haiku", "number from 0 to 1, or never", ""),
    ("haiku: 0.6", "opus: ^0.6", "^", "tasks[1].thresholds.opus", "last rung has no threshold", "remove it"),
    ("haiku: 0.6", "llama: ^0.6", "^", "tasks[1].thresholds.llama", "no rung 'llama'", "haiku, sonnet"),
    # the ladder
    (f"  - {RUNG_5}\n  - {RUNG_6}\n", "", "4:3", "ladder", "needs at least 2 rungs, and has 1", "add one"),
    ("rung: opus", "rung: ^sonnet", "^", "ladder[2].rung", "'sonnet' is there twice", "its own name"),
    ("claude-sonnet-5-5", "claude-haiku-5-5", "6:25", "ladder[2].model", "jumps to claude-opus-5-5 past Sonnet", "Sonnet rung"),
    ("claude-opus-5-5", "^claude-fable-5", "^", "ladder[2].model", "past Opus", "put an Opus rung"),
    ("claude-opus-5-5", "^claude-sonnet-4-6", "^", "ladder[2].model", "step down", "by capability"),
    ("claude-opus-5-5", "^claude-haiku-4-5", "^", "ladder[2].model", "step down", "by capability"),
    ("claude-opus-5-5", "^us.anthropic.claude-haiku-4-5-20251001-v1:0", "^", "ladder[2].model", "step down", "by capability"),
    ("claude-haiku-5-5", "^claude-sonnet-4-6@20260301", "^", "ladder[0].model", "starts at claude-sonnet", "Haiku"),
    ("claude-opus-5-5", "^our-own-model", "^", "ladder[2].model", "no price for model 'our-own-model'", "price: {input"),
    ("claude-opus-5-5", "^claude-opus-5-5-turbo", "^", "ladder[2].model", "no price", "price: {input"),
    ("thinking: disabled", "thinking: ^between_tools", "^", "ladder[0].thinking", "not take this kind", "adaptive, disabled"),
    ("effort: low", "thinking: ^disabled", "^", "ladder[1].thinking", "not take this kind", "it takes: adaptive"),
    ("effort: low", "thinking: ^{budget_tokens: 2000}", "^", "ladder[1].thinking", "not take this kind", "it takes"),
    ("effort: low", "effort: ^hihg", "^", "ladder[1].effort", "'high'", "did you mean 'high'?"),
    ("effort: low", "effort: ^tiny", "^", "ladder[1].effort", "'low', 'medium', 'high'", ""),
    ("max_tokens: 8192", "max_tokens: ^0", "^", "ladder[2].max_tokens", "must be 1 or more, not 0", ""),
    ("max_tokens: 8192", "max_tokens: ^8k", "^", "ladder[2].max_tokens", "must be a whole number, not 8k", ""),
    ("max_tokens: 8192", "max_tokens: 8192, base_url: ^ftp://x", "^", "ladder[2].base_url", "must be an address", "https://"),
    ("max_tokens: 8192", "max_tokens: 8192, discount: ^1", "^", "ladder[2].discount", "must be below 1, not 1", ""),
    ("max_tokens: 8192", "max_tokens: ^200000", "^", "ladder[2].max_tokens", "answers with at most 128000", "128000 or less"),
    ("max_tokens: 8192", "max_tokens: 8192, price: ^{input: 1}", "^", "ladder[2].price", "'output' is missing", "add output"),
    # tasks
    ("floor: sonnet", "floor: ^gpt", "^", "tasks[0].floor", "no rung 'gpt'", "haiku, sonnet, opus"),
    ("ceiling: sonnet", "ceiling: ^top", "^", "tasks[1].ceiling", "no rung 'top'", "haiku, sonnet, opus"),
    ("floor: sonnet", "floor: sonnet, ceiling: ^haiku", "^", "tasks[0].ceiling", "below the floor", "raise the ceiling"),
    ("name: chat", "name: ^refund", "^", "tasks[1].name", "'refund' is there twice", "rename one"),
    ("words: [refund]", r"pattern: ^'(a)\1'", "^", "tasks[0].when.pattern", "not a linear-time pattern", "RE2"),
    ("words: [refund]", "any: [{pattern: ^'(?=x)'}]", "^", "tasks[0].when.any[0].pattern", "not a linear-time", "RE2"),
    ("words: [refund]", "not: {pattern: ^'('}", "^", "tasks[0].when.not.pattern", "not a linear-time", "RE2"),
    ("words: [refund]", "words: ^[]", "^", "tasks[0].when.words", "needs at least 1 entry", "add one"),
    ("words: [refund]", "words: ^refund", "^", "tasks[0].when.words", "must be a list", "words: [refund"),
    ("words: [refund]", "min_tokens: ^true", "^", "tasks[0].when.min_tokens", "must be a whole number, not true", ""),
    ("{words: [refund]}", "^{}", "^", "tasks[0].when", "empty test matches nothing", "give it a key"),
    ("checks: [not_empty]", "checks: [^not_there]", "^", "tasks[1].checks[0]", "unknown check", "max_chars"),
    ("checks: [not_empty]", "checks: [{pattern: ^'(?!x)'}]", "^", "tasks[1].checks[0].pattern", "not a linear-time", "RE2"),
    ("checks: [not_empty]", "checks: [^{max_chars: 1, pattern: x}]", "^", "tasks[1].checks[0]", "exactly one of", ""),
    # a check's program
    ("[not_empty]", "[{command: ^python x.py}]", "^", "tasks[1].checks[0].command", "must be a list", "[python, run_tests.py]"),
    ("[not_empty]", "[{command: ^[]}]", "^", "tasks[1].checks[0].command", "needs at least 1 entry", "add one"),
    ("[not_empty]", "[{command: [sh, ^'']}]", "^", "tasks[1].checks[0].command[1]", "must not be empty", ""),
    ("[not_empty]", "[{command: [sh, ^1]}]", "^", "tasks[1].checks[0].command[1]", "must be text, not 1", "quote it: '1'"),
    ("[not_empty]", '[{command: [sh, ^"\\0"]}]', "^", "tasks[1].checks[0].command[1]", "the character NUL", "remove it"),
    ("[not_empty]", "[{command: ^[no-such-program]}]", "^", "tasks[1].checks[0].command", "cannot be found", "install it"),
    ("[not_empty]", "[^{command: [sh], max_chars: 1}]", "^", "tasks[1].checks[0]", "exactly one of", ""),
    ("[not_empty]", "[^{timeout_s: 1}]", "^", "tasks[1].checks[0]", "exactly one of", ""),
    ("[not_empty]", "[^{max_chars: 1, timeout_s: 1}]", "^", "tasks[1].checks[0]", "timeout_s belongs to", "remove it"),
    ("[not_empty]", "[^{max_chars: 1, on_error: pass}]", "^", "tasks[1].checks[0]", "on_error belongs to", "remove it"),
    ("[not_empty]", "[^{max_chars: 1, name: short}]", "^", "tasks[1].checks[0]", "name belongs to", "remove it"),
    ("[not_empty]", "[{command: [sh], timeout_s: ^0}]", "^", "tasks[1].checks[0].timeout_s", "must be above 0, not 0", ""),
    ("[not_empty]", "[{command: [sh], on_error: ^fail}]", "^", "tasks[1].checks[0].on_error", "'climb' or 'pass'", ""),
    ("[not_empty]", "[{command: [sh], extract: ^json}]", "^", "tasks[1].checks[0].extract", "must be 'code'", ""),
    ("[not_empty]", "[{command: [sh], env: [^A=b]}]", "^", "tasks[1].checks[0].env[0]", "not its value", "env: ["),
    ("[not_empty]", "[{command: [sh], ^name_: x}]", "^", "tasks[1].checks[0].name_", "unknown key", "name"),
    # a review
    ("[not_empty]", "[^review]", "^", "tasks[1].checks[0]", "the rung that reads the answer", "{kind: review, rung: sonnet, below: 0.95}"),
    ("[not_empty]", "[{^review: sonnet}]", "^", "tasks[1].checks[0].review", "unknown key", "{kind: review, rung: sonnet, below: 0.95}"),
    ("[not_empty]", "[{kind: ^revue, rung: sonnet, below: 0.9}]", "^", "tasks[1].checks[0].kind", "must be 'review', not revue", "did you mean"),
    ("[not_empty]", "[{kind: ^not_empty}]", "^", "tasks[1].checks[0].kind", "must be 'review', not not_empty", "write not_empty by itself"),
    ("[not_empty]", "[{kind: review, rung: sonnet, ^above: 0.9}]", "^", "tasks[1].checks[0].above", "unknown key", "(known here: kind, rung, below)"),
    ("[not_empty]", "[^{kind: review, rung: sonnet}]", "^", "tasks[1].checks[0]", "needs the key below", "below: 0.95"),
    ("[not_empty]", "[^{kind: review, below: 0.9}]", "^", "tasks[1].checks[0]", "needs the key rung", "rung: sonnet"),
    ("[not_empty]", "[^{kind: review, rung: sonnet, below: 0.9, max_chars: 5}]", "^", "tasks[1].checks[0]", "exactly one of", ""),
    ("[not_empty]", "[^{max_chars: 5, below: 0.9}]", "^", "tasks[1].checks[0]", "below belongs to", "remove it"),
    ("[not_empty]", "[^{kind: review, rung: sonnet, below: 0.9, timeout_s: 5}]", "^", "tasks[1].checks[0]", "timeout_s belongs to", "remove it"),
    ("[not_empty]", "[{kind: review, rung: sonnet, below: ^1.5}]", "^", "tasks[1].checks[0].below", "must be 1 or less, not 1.5", ""),
    ("[not_empty]", "[{kind: review, rung: sonnet, below: ^-0.5}]", "^", "tasks[1].checks[0].below", "must be 0 or more, not -0.5", ""),
    ("[not_empty]", "[{kind: review, rung: sonnet, below: ^'0.9'}]", "^", "tasks[1].checks[0].below", "must be a number", "write it without quotes: 0.9"),
    ("[not_empty]", "[{kind: review, rung: ^gpt, below: 0.9}]", "^", "tasks[1].checks[0].rung", "no rung 'gpt' on the ladder", "use one of sonnet, opus"),
    ("[not_empty]", "[{kind: review, rung: ^haiku, below: 0.9}]", "^", "tasks[1].checks[0].rung", "no answers below it", "use one of sonnet, opus"),
    ("[not_empty]", "[{kind: review, rung: sonnet, below: 0.9}, ^{kind: review, rung: opus, below: 0.9}]", "^", "tasks[1].checks[1]", "a second review", "keep one"),
    (STORM, "checks: [{kind: review, rung: ^gpt, below: 0.9}]", "^", "checks[0].rung", "no rung 'gpt' on the ladder", "use one of sonnet, opus"),
    # graders of the audit
    (STORM, "audit: {grader: ^exat}", "^", "audit.grader", "none called 'exat'", "did you mean 'exact'?"),
    (STORM, "audit: {grader: ^numeric:x}", "^", "audit.grader", "its tolerance 'x' is not a number", "numeric:0.01"),
    (STORM, "audit: {grader: ^'pattern:(a'}", "^", "audit.grader", "its pattern cannot be used", "RE2"),
    (STORM, r"audit: {grader: ^'pattern:(a)\1'}", "^", "audit.grader", "its pattern cannot be used", "RE2"),
    (STORM, "audit: {grader: ^'no_such_module:f'}", "^", "audit.grader", "No module named 'no_such_module'", "module:function"),
    (STORM, "audit: {grader: ^'cascade:nothing'}", "^", "audit.grader", "has no attribute 'nothing'", "module:function"),
    (STORM, "audit: {grader: ^'judge:gpt'}", "^", "audit.grader", "no rung 'gpt' on the ladder", "haiku, sonnet, opus"),
    ("floor: sonnet", "grader: ^exactly", "^", "tasks[0].grader", "none called 'exactly'", "did you mean 'exact'?"),
    # the other blocks
    ("rate: 0.35", "rate: ^1.5", "^", "storm_guard.rate", "must be below 1, not 1.5", ""),
    ("rate: 0.35", "on_trip: ^stop", "^", "storm_guard.on_trip", "'escalate', 'hold' or 'alert'", ""),
    ("rate: 0.35", "window: 10", "10:14", "storm_guard", "min_samples must not exceed window", ""),
    (STORM, "storm_guard: ^off", "^", "storm_guard", "must be a mapping, not off", "leave it out"),
    (STORM, "retry: {attempts: ^0}", "^", "retry.attempts", "must be 1 or more, not 0", ""),
    (STORM, "deadline_s: ^0", "^", "deadline_s", "must be above 0, not 0", ""),
    (STORM, "deadline_s: ^.inf", "^", "deadline_s", "finite", ""),
    (STORM, "exhausted: ^guess", "^", "exhausted", "'ship' or 'abstain'", ""),
    (STORM, "triage: {order: ^random}", "^", "triage.order", "'confidence_first', 'answer_first', 'steps' or 'doubt'", ""),
    (STORM, "triage: {prompt: ^../p.txt}", "^", "triage.prompt", "not the name of a file beside", "bare file name"),
    # the scorer
    (STORM, "scorer: ^{}", "^", "scorer", "at least 1", ""),
    (STORM, "scorer: {opus: ^{bias: 1, features: []}}", "^", "scorer.opus", "no confidence to score", "use one of haiku, sonnet"),
    (STORM, "scorer: {gpt: ^{bias: 1, features: []}}", "^", "scorer.gpt", "no rung 'gpt'", "use one of haiku, sonnet"),
    (STORM, "scorer: {haiku: {bias: ^'1', features: []}}", "^", "scorer.haiku.bias", "must be a number, not '1'", "without quotes: 1"),
    (STORM, "scorer: {haiku: {bias: 1, features: [], ^weights: 1}}", "^", "scorer.haiku.weights", "unknown key", "bias, features"),
    (STORM, scores("haiku", "level", 0, mark="scale: ^"), "^", "scorer.haiku.features[0].scale", "must be above 0, not 0", ""),
    (STORM, scores("haiku", "^mood"), "^", "scorer.haiku.features[0].name", "unknown feature 'mood'", "log_input"),
    (STORM, scores("haiku", "^'task:'"), "^", "scorer.haiku.features[0].name", "unknown feature 'task:'", "task:NAME"),
    (STORM, scores("haiku", "^'agrees:sonnet'"), "^", "scorer.haiku.features[0].name", "'sonnet' has not answered yet", "lower"),
    (STORM, scores("sonnet", "^'agrees:gpt'"), "^", "scorer.sonnet.features[0].name", "unknown feature 'agrees:gpt'", "lower"),
    (STORM, scores("haiku", "^'is:1.5'"), "^", "scorer.haiku.features[0].name", "unknown feature 'is:1.5'", "is:LEVEL"),
    (STORM, scores("haiku", "^'is:sure'"), "^", "scorer.haiku.features[0].name", "unknown feature 'is:sure'", "is:LEVEL"),
    (STORM, scores("haiku", "^'agrees:sonnet*logit'"), "^", "scorer.haiku.features[0].name", "'sonnet' has not answered yet", "lower"),
    (STORM, scores("sonnet", "^'level:haiku*logit'"), "^", "scorer.sonnet.features[0].name", "unknown feature 'level:haiku*logit'", "lower"),
    (STORM, "scorer: {haiku: {target: ^wrong, bias: 1, features: []}}", "^", "scorer.haiku.target", "must be 'right' or 'gain'", ""),
    (STORM, TWICE, "^", "scorer.haiku.features[1].name", "'level' is there twice", "remove one"),
    ("version: 1", "version: ^2", "^", "version", "must be 1, not 2", ""),
    ("version: 1", "version: ^'1'", "^", "version", "must be 1, not '1'", ""),
    ("version: 1", "version: ^true", "^", "version", "must be 1, not true", ""),
    # the environment
    ("name: sound", "name: ^${NAME}", "^", "name", "variable NAME is not set", "${NAME:-a default}"),
    # plans
    (STORM, "plan: {planner: ^fable}", "^", "plan.planner", "there is no rung 'fable' on the ladder", "use one of haiku, sonnet, opus"),
    (STORM, "plan: {reviewer: ^fable}", "^", "plan.reviewer", "there is no rung 'fable' on the ladder", "use one of haiku, sonnet, opus"),
    (STORM, "plan: {max_retries: ^11}", "^", "plan.max_retries", "must be 10 or less", ""),
]  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "at", "key", "problem", "hint"), FAULTS, ids=[f"{f[3]}: {f[1][:40]}" for f in FAULTS]
)
def test_a_single_mistake_is_told_with_its_place_its_key_and_its_mend(
    old: str, new: str, at: str, key: str, problem: str, hint: str
) -> None:
    """`file:line:column: key: problem (hint)`, and no other error beside it."""
    text = changed((old, new))
    if at == "^":
        before, _, after = text.partition("^")
        text, at = before + after, f"{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}"
    error = broken(text)
    assert (error.where, error.key) == (f"p.yaml:{at}", key)
    assert str(error).startswith(f"p.yaml:{at}:{f' {key}:' if key else ''} ")
    assert problem in str(error)
    assert hint in str(error)
    assert getattr(error, "__notes__", []) == []


def test_the_policy_that_is_broken_here_is_sound() -> None:
    """Or else the table above proves nothing."""
    policy = parsed()
    assert [rung.rung for rung in policy.ladder] == ["haiku", "sonnet", "opus"]
    assert (policy.route("refund").floor, policy.route("chat").ceiling, policy.route("chat").thresholds[0]) == (
        1,
        1,
        0.6,
    )


@pytest.mark.parametrize(("text", "problem"), [
    ("", "the file is empty"), ("# only a comment\n", "the file is empty"), ("- a\n- b\n", "a mapping"),
    ("just words", "a mapping"), ("version: 1\n---\nversion: 1\n", "not valid YAML"),
])  # fmt: skip
def test_what_is_no_policy_at_all_says_so(text: str, problem: str) -> None:
    """An empty file, a list, prose, two documents."""
    assert problem in str(broken(text))


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file() -> None:
    """The first is the error, the others are its notes; each with its own place."""
    error = broken(changed(("name: sound", "name: 7"), ("threshold: 0.80", "threshold: 8"), ("rate: 0.35", "rat: 1")))
    notes = error.__notes__
    assert (error.where, error.key) == ("p.yaml:2:7", "name")
    assert [note.split(": ")[0] for note in notes] == ["p.yaml:4:55", "p.yaml:10:15"]


def test_what_cannot_be_read_is_told_with_all_the_rest() -> None:
    """A date, a variable that is not set, a key twice, a typo and a broken invariant: one line each, in one go."""
    error = broken(
        changed(
            ("name: sound", "name: 2026-11-21"), ("rung: haiku,", "rung: haiku, rung: h,"),
            ("rung: sonnet", "rung: haiku"), ("effort: low", "efort: '${NOPE}'"), ("rate: 0.35", "rate: 1:30"),
        )
    )  # fmt: skip
    lines = (str(error), *error.__notes__)
    assert [line.split(": ")[1] for line in lines] == [
        "name", "ladder[0].rung", "ladder[1].rung", "ladder[1].efort", "ladder[1].efort", "tasks[0].floor",
        "tasks[1].ceiling", "storm_guard.rate",
    ]  # fmt: skip
    assert "unknown key" in lines[3]
    assert "NOPE is not set" in lines[4]


def test_a_typo_comes_before_the_keys_that_are_missing_beside_it() -> None:
    """In the same mapping; and the one that it was meant to be is not called missing."""
    rung = "{rung: sonnet, model: claude-sonnet-5-5, treshold: 0.80, effort: low, max_tokns: 9, pric: {}}"
    error = broken(changed((RUNG_5, rung.replace("model: claude-sonnet-5-5, ", ""))))
    assert [line.partition(": ")[2].partition(" (")[0] for line in (str(error), *error.__notes__)] == [
        "ladder[1].treshold: unknown key",
        "ladder[1].max_tokns: unknown key",
        "ladder[1].pric: unknown key",
        "ladder[1]: the key 'model' is missing",
    ]


def test_no_message_of_a_policy_speaks_of_python() -> None:
    """Every key with every kind of wrong value: what to write, and nothing of tuples, instances and inputs."""
    jargon = re.compile(r"\b(tuple|instance|dictionary|input should|validation|decimal|NoneType|str|int|bool)\b")
    keys = ("name", "ladder", "triage", "tasks", "checks", "storm_guard", "retry", "deadline_s", "exhausted", "certificate",
            "scorer", "baseline", "mode", "observe", "rollout", "ledger", "budget")  # fmt: skip
    for value in ("", "7", "true", "x y", "[]", "[7]", "[[]]", "{}", "{a: 1}", "[{a: 1}]", "-1", "1e999", "''"):
        for key in keys:
            rest = "".join(line for line in SOUND.splitlines(keepends=True) if not line.startswith(f"{key}:"))
            if key in ("ladder", "tasks"):
                rest = "version: 1\nname: x\n" + ("" if key == "ladder" else SOUND[SOUND.index("ladder") :])
                rest = rest.partition(f"{key}:")[0]
            try:
                parsed(f"{rest}{key}: {value}\n")
            except PolicyError as error:
                for line in (str(error), *getattr(error, "__notes__", ())):
                    assert not jargon.search(line), line


def test_a_threshold_that_is_no_per_cent_gets_no_guess() -> None:
    """1.8 is not 0.02; 80 may well be 0.80."""
    assert "did you mean" not in str(broken(changed(("threshold: 0.80", "threshold: 1.8"))))


def test_all_broken_invariants_are_told_at_once() -> None:
    """What only the whole policy can break is told together, too."""
    error = broken(
        changed(("rung: sonnet", "rung: haiku"), ("floor: sonnet", "floor: gpt"), ("haiku: 0.6", "opus: 0.6"))
    )
    lines = [str(error), *error.__notes__]
    assert len(lines) == 4
    for line, part in zip(lines, ("'haiku' is there twice", "'gpt'", "'sonnet'", "last rung"), strict=True):
        assert part in line


def test_all_that_cannot_be_used_is_told_at_once() -> None:
    """Prices and patterns, found after the policy itself is sound."""
    error = broken(changed(("claude-opus-5-5", "mine"), ("words: [refund]", "pattern: '('")))
    assert "no price" in str(error)
    assert ["tasks[0].when.pattern" in note for note in error.__notes__] == [True]


def test_one_bad_rung_is_not_called_a_short_ladder() -> None:
    """Its own mistake is told, and not that the ladder has too few rungs without it."""
    error = broken(changed(("threshold: 0.80", "threshold: 8"), ("threshold: 0.80", "threshold: 9")))
    assert [str(error).split()[1], *(note.split()[1] for note in error.__notes__)] == [
        "ladder[0].threshold:", "ladder[1].threshold:",
    ]  # fmt: skip


def test_a_key_that_would_tear_the_line_is_escaped() -> None:
    """Line breaks and terminal codes in a key are shown, not obeyed."""
    assert r"a\nb" in str(broken(SOUND + '"a\\nb": 1\n'))
    assert r"\x1b[31m" in str(broken(SOUND + '"\\e[31m": 1\n'))
