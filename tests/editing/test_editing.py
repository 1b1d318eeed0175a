"""A policy's YAML, changed in place: what was meant, and not a character besides; else nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.core.errors import PolicyError
from cascade.core.policy import Policy
from cascade.core.policy.certificate import Certificate, Hashes
from cascade.core.policy.scorer import Feature, Scoring
from cascade.policy.editing import edit_policy
from cascade.policy.loading import compose, parse_policy
from cascade.policy.writing import diff_of, write_policy

SHIPPED = sorted((Path(__file__).resolve().parents[2] / "policies").glob("*.yaml"))

FLOW = """\
version: 1
name: p
ladder:
  - {rung: haiku, model: claude-haiku-5-5, threshold: 0.80, max_tokens: 1024}   # cheap
  - {rung: sonnet, model: claude-sonnet-5-5, max_tokens: 4096, threshold: never}
  - {rung: opus, model: claude-opus-5-5, max_tokens: 8192}
"""

BLOCK = """\
# The first line is mine.
version: 1
name: "p" # quoted

ladder:
- rung: haiku
  model: 'claude-haiku-5-5'
  threshold:   0.8    # a guess
  max_tokens: 1024
- rung: sonnet
  model: claude-sonnet-5-5
  # it stands on a line of its own
  threshold: 'never' # quoted, too
  max_tokens: 4096
- rung: opus
  model: claude-opus-5-5
  max_tokens: 8192
tasks:
- name: refund # money
  when:
    words: [refund]
  # after the words
- name: chat
  thresholds:
    haiku: .5 # half

  when: {max_tokens: 50}
- {name: other_way, thresholds: {haiku: 0.25, }, flag_free: no}
# The last line is mine.
""".replace(", flag_free: no", "")

JSON = """\
{"version": 1, "name": "p", "ladder": [
  {"rung": "haiku", "model": "claude-haiku-5-5", "threshold":0.8, "max_tokens": 1024},
  {"rung": "sonnet", "model": "claude-sonnet-5-5", "threshold": "never", "max_tokens": 4096},
  {"rung": "opus", "model": "claude-opus-5-5", "max_tokens": 8192}],
 "tasks": [{"name": "refund"}, {"name": "chat", "thresholds": {}}]}
"""

OWN = {"flow": FLOW, "block": BLOCK, "json": JSON}
STYLES = {**OWN, **{path.stem: path.read_text("utf-8") for path in SHIPPED}}

# As `policies/` and a user may have them: their line ends, and what stands after the last line.
HABITS = {
    "as it is": str,
    "CRLF": lambda text: text.replace("\n", "\r\n"),
    "no last line end": lambda text: text.rstrip("\n"),
    "marked": lambda text: f"---\n{text}...\n",
    "byte order mark": lambda text: f"\ufeff{text}",
}  # fmt: skip

BLOCKS: dict[str, dict[str, Any]] = {
    "storm_guard": {"rate": 0.41, "on_trip": "hold"},
    "retry": {"attempts": 2, "max_wait_s": 1e-05},
}


def policy(text: str) -> Policy:
    """The policy in a text."""
    return parse_policy(text, environment={})


def edit(text: str, *what: Any) -> str:
    """The text, edited without an environment."""
    return edit_policy(text, *what, where="p.yaml", environment={})


def meant(text: str, thresholds: dict[str, Any], tasks: dict[str, Any], blocks: dict[str, Any]) -> Policy:
    """The policy that an edit shall come to, made of values and without any text."""
    _, values = compose(text, environment={})
    for rung in values["ladder"]:
        if rung["rung"] in thresholds:
            rung["threshold"] = thresholds[rung["rung"]]
    for name, own in tasks.items():
        listed = values.setdefault("tasks", [])
        found: dict[str, Any] | None = next((task for task in listed if task["name"] == name), None)
        if found is None:
            found = {"name": name}
            listed.append(found)
        found["thresholds"] = {**found.get("thresholds", {}), **own}
    for name, block in blocks.items():
        values.pop(name, None)
        if block is not None:
            values[name] = block
    return Policy.model_validate(values, by_alias=True, by_name=False)


def comments(text: str) -> list[str]:
    """Every comment of a text that has no # elsewhere."""
    return [line[line.index("#") :].strip() for line in text.splitlines() if "#" in line]


@pytest.mark.parametrize("habit", HABITS.values(), ids=HABITS)
@pytest.mark.parametrize("style", OWN.values(), ids=OWN)
@settings(max_examples=12)
@given(st.data())
def test_an_edit_reads_back_as_what_was_meant(style: str, habit: Any, data: st.DataObject) -> None:
    """Whatever the style: the ladder's and tasks' thresholds, new tasks and blocks read back as the values meant."""
    text = habit(style)
    threshold = st.none() | st.sampled_from([0.8, 0.5, 1.0]) | st.floats(0, 1)
    own = st.dictionaries(st.sampled_from(["haiku", "sonnet"]), threshold)
    names = [task.name for task in policy(text).tasks]
    thresholds = data.draw(own)
    tasks = data.draw(st.dictionaries(st.sampled_from([*names, "new", "no", "a:b/c", "1e3"]), own, max_size=4))
    tasks = {name: given for name, given in tasks.items() if given}
    chosen = data.draw(st.sets(st.sampled_from(sorted(BLOCKS))))
    blocks = {name: data.draw(st.sampled_from([BLOCKS[name], None])) for name in chosen}
    edited = edit(text, thresholds, tasks, blocks)
    assert policy(edited) == meant(text, thresholds, tasks, blocks)
    assert edit(edited, thresholds, tasks, blocks) == edited
    assert edited.endswith("\n") == text.endswith("\n")
    assert edited.startswith("\ufeff") == text.startswith("\ufeff")
    if "\r\n" in text:
        assert "\n" not in edited.replace("\r\n", "")


@pytest.mark.parametrize("habit", HABITS.values(), ids=HABITS)
@pytest.mark.parametrize("style", STYLES.values(), ids=STYLES)
def test_only_what_is_replaced_is_touched(style: str, habit: Any) -> None:
    """With new thresholds every line but those of the thresholds is as it was; putting the old ones back gives the text."""
    text = habit(style)
    old = {rung.rung: rung.threshold for rung in policy(text).ladder[:-1]}
    edited = edit(text, {"haiku": 0.65, "sonnet": 0.70})
    before, after = text.split("\n"), edited.split("\n")
    assert len(before) == len(after)
    assert [one for one, other in zip(before, after, strict=True) if one != other and "threshold" not in one] == []
    assert comments(edited) == comments(text)
    back = edit(edited, old)
    assert policy(back) == policy(text)
    if "'" not in style and "0.8 " not in style and '"' not in style:  # a quoted or shorter old value comes back plain
        assert back == text


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_policies_keep_every_other_line(path: Path) -> None:
    """In each shipped policy the diff is the two thresholds and the blocks at the end, and nothing else."""
    text = path.read_text("utf-8")
    lines = diff_of(text, edit(text, {"haiku": 0.93, "sonnet": None}, {}, {"retry": {"attempts": 2}}), path.name).split(
        "\n"
    )
    minus = [line for line in lines if line.startswith("-")][1:]
    plus = [line for line in lines if line.startswith("+")][1:]
    assert len(minus) == 2
    assert plus[:2] == [
        minus[0].replace("-", "+", 1).replace("0.80", "0.93"),
        minus[1].replace("-", "+", 1).replace("0.80", "never"),
    ]
    assert plus[2:] == ["+", "+retry:", "+  attempts: 2"]


def test_every_place_of_a_threshold() -> None:
    """Spaces, comments, quotes and trailing commas stay; what is missing is put where its like stand."""
    tasks = {
        "refund": {"haiku": 0.9},
        "chat": {"haiku": None, "sonnet": 1.0},
        "other_way": {"haiku": 0.3, "sonnet": 0.0},
    }
    edited = edit(BLOCK, {"haiku": 0.123456789, "sonnet": 0.5}, {**tasks, "later": {"sonnet": None}})
    for old, new in (
        ("threshold:   0.8    # a guess", "threshold:   0.123456789    # a guess"),
        ("threshold: 'never' # quoted, too", "threshold: 0.50 # quoted, too"),
        ("- name: refund # money\n", "- name: refund # money\n  thresholds: {haiku: 0.90}\n"),
        ("    haiku: .5 # half\n", "    haiku: never # half\n    sonnet: 1.00\n"),
        ("{haiku: 0.25, }}\n", "{haiku: 0.30, sonnet: 0.00, }}\n- {name: later, thresholds: {sonnet: never}}\n"),
    ):
        assert new in edited
        edited = edited.replace(new, old)
    assert edited == BLOCK


def test_numbers_are_written_so_that_yaml_reads_them_exactly() -> None:
    """No exponent (YAML 1.1 reads 1e-05 as a text), no rounding, two decimals at least."""
    for value, written in (
        (1e-05, "0.00001"),
        (0.1 + 0.2, "0.30000000000000004"),
        (1, "1.00"),
        (-0.0, "0.00"),
        (0.5, "0.50"),
    ):
        edited = edit(FLOW, {"haiku": value})
        assert f"threshold: {written}, " in edited
        assert policy(edited).ladder[0].threshold == value


def test_what_is_as_wanted_stays_as_it_is_written() -> None:
    """`.5` wanted as 0.5, 'never' wanted as never, an equal block: not a character changes."""
    text = BLOCK + "storm_guard: {rate: .4, window: 300} # mine\n"
    assert (
        edit(
            text,
            {"haiku": 0.8, "sonnet": None},
            {"chat": {"haiku": 0.5}},
            {"storm_guard": {"window": 300, "rate": 0.4}},
        )
        == text
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (
            "certificate: {loss: x}  # mine\nretry: {attempts: 2}\n",
            "certificate: {BLOCK-FLOW}  # mine\nretry: {attempts: 2}\n",
        ),
        (
            "certificate: # mine\n    loss: x\n    n: 1\n\n# next\nretry: {attempts: 2}",
            "certificate: # mine\n    BLOCK4\n\n# next\nretry: {attempts: 2}",
        ),
        ("certificate: null # mine\n# next\n", "certificate: # mine\n  BLOCK2\n# next\n"),
        ("certificate:\n", "certificate:\n  BLOCK2\n"),
    ],
    ids=["flow", "block", "null", "empty"],
)
def test_a_block_is_replaced_in_its_own_style(old: str, new: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flow stays flow, a block keeps its indent, and comments beside the key and after the block stay."""
    # Not through the policy's own rules, so that any old and new value will do for the block.
    monkeypatch.setattr("cascade.policy.editing.parse_policy", lambda *_, **__: None)
    block = {"loss": "false_confident", "alpha": 1e-05, "hashes": {"corpus": "0e12"}, "note": "on"}
    lines = ["loss: false_confident", "alpha: 1.0e-05", "hashes: {corpus: 0e12}", "note: 'on'"]
    wanted = new.replace("BLOCK-FLOW", ", ".join(lines))
    wanted = wanted.replace("BLOCK4", "\n    ".join(lines)).replace("BLOCK2", "\n  ".join(lines))
    assert edit(FLOW + old, {}, {}, {"certificate": block}) == FLOW + wanted


def test_blocks_are_appended_after_the_last_comment_and_taken_out_whole() -> None:
    """A new block comes last, before the document's end mark; taken out again, nothing of it is left."""
    for text in (BLOCK, FLOW, FLOW.rstrip(), f"{FLOW}...\n"):
        edited = edit(text, {}, {}, {"retry": {"attempts": 2, "max_wait_s": 5.0}})
        assert "retry:\n  attempts: 2\n  max_wait_s: 5.0" in edited
        assert edited.replace("\n", "").index("retry") >= len(text.rstrip(".\n").replace("\n", ""))
        assert (
            edit(edited, {}, {}, {"retry": None}).replace("\n\n", "\n").rstrip() == text.replace("\n\n", "\n").rstrip()
        )


@pytest.mark.parametrize(
    ("text", "thresholds", "said"),
    [
        (BLOCK.replace("  0.8 ", "  ${T:-0.7} "), {"haiku": 0.9}, "p.yaml:8:16: ladder[0].threshold: the threshold comes from the environment"),
        (FLOW.replace("0.80", "&t 0.80"), {"haiku": 0.9}, "p.yaml:4:55: not valid YAML: anchors and aliases are not supported"),
        (FLOW.replace("threshold: 0.80", "<<: {threshold: 0.80}"), {"haiku": 0.9}, "p.yaml:4:44: ladder[0].<<: merge keys are not"),
        (FLOW.replace("0.80", '"0.80"'), {"haiku": 0.9}, "p.yaml:4:55: ladder[0].threshold: must be a number from 0 to 1"),
        (FLOW, {"llama": 0.9}, "p.yaml:4:3: ladder: there is no rung 'llama' on the ladder (it has haiku, sonnet, opus)"),
        (FLOW, {"opus": 0.9}, "p.yaml:4:3: ladder: the last rung, 'opus', has no threshold"),
        (FLOW, {"haiku": 1.5}, "p.yaml:4:3: ladder: 1.5 is not a threshold for 'haiku'"),
        (FLOW, {"haiku": float("nan")}, "p.yaml:4:3: ladder: nan is not a threshold for 'haiku'"),
    ],
    ids=["variable", "anchor", "merge", "quoted number", "stranger", "last", "too high", "nan"],
)  # fmt: skip
def test_what_cannot_be_edited_in_place_is_refused_with_line_and_key(text: str, thresholds: Any, said: str) -> None:
    """One line that names file:line:column and the key."""
    with pytest.raises(PolicyError) as caught:
        edit(text, thresholds)
    assert str(caught.value).startswith(said)


def test_a_variable_elsewhere_is_no_hindrance() -> None:
    """`${VAR}` in other values stays as it is written, set or not set otherwise."""
    text = BLOCK.replace('name: "p"', "name: ${NAME:-p}").replace(
        "max_tokens: 1024", "timeout_s: ${T}\n  max_tokens: 1024"
    )
    edited = edit_policy(text, {"haiku": 0.9}, environment={"T": "5"})
    assert edited == text.replace(" 0.8 ", " 0.90 ")


def test_what_would_not_read_back_is_refused() -> None:
    """A key in YAML's explicit form cannot be followed in place: an error, and no text."""
    text = BLOCK.replace("- name: refund # money\n", "- ? name\n  : refund\n")
    assert "thresholds" in edit(text, {}, {"refund": {"haiku": 0.9}})  # this one can
    text = FLOW.replace("- {rung: haiku, ", "- {threshold, rung: haiku, ").replace("threshold: 0.80, ", "")
    with pytest.raises(PolicyError, match=r"ladder\[0\].*nothing was changed"):
        edit(text, {"haiku": 0.9})


def test_a_block_that_the_policy_refuses_is_refused() -> None:
    """What loading would not take is not written: the error names the key."""
    with pytest.raises(PolicyError, match=r"storm_guard\.rate: the edited text would not be a policy"):
        edit(FLOW, {}, {}, {"storm_guard": {"rate": 7}})
    for wrong in (float("inf"), object()):
        with pytest.raises(ValueError, match="cannot stand in a policy"):
            edit(FLOW, {}, {}, {"storm_guard": {"rate": wrong}})


def test_writing_keeps_permissions_links_and_line_ends(tmp_path: Path) -> None:
    """The file behind a link has the new text byte for byte, its old mode, and no draft beside it."""
    real, link = tmp_path / "real.yaml", tmp_path / "link.yaml"
    real.write_bytes(FLOW.replace("\n", "\r\n").encode())
    real.chmod(0o640)
    link.symlink_to(real)
    text = edit(real.read_bytes().decode(), {"haiku": 0.9})
    write_policy(link, text)
    assert link.is_symlink()
    assert real.read_bytes() == text.encode()
    assert real.stat().st_mode & 0o777 == 0o640
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.yaml", "real.yaml"]


def test_a_write_that_fails_leaves_the_file_and_says_where(tmp_path: Path) -> None:
    """A folder in its place: one line, and nothing is left lying about."""
    (tmp_path / "p.yaml").mkdir()
    with pytest.raises(PolicyError, match=r"p\.yaml: cannot be written: .*check the path"):
        write_policy(tmp_path / "p.yaml", FLOW)
    assert [path.name for path in tmp_path.iterdir()] == ["p.yaml"]


def test_a_diff_is_one_that_patch_would_take() -> None:
    """Names, hunks, and the mark of a missing last line end; empty where nothing changed."""
    assert diff_of(FLOW, FLOW, "p.yaml") == ""
    assert diff_of("a\nb", "a\nc", "p.yaml") == (
        "--- p.yaml\n+++ p.yaml\n@@ -1,2 +1,2 @@\n a\n-b\n\\ No newline at end of file\n+c\n\\ No newline at end of file\n"
    )


def test_a_rung_with_samples_gets_the_threshold_that_it_had_not(tmp_path: Path) -> None:
    """Flow and block style; a variant's file stays its name, and what is under samples is not touched."""
    (tmp_path / "terse.txt").write_text("Be brief.", encoding="utf-8")
    samples = "samples: {max: 5, agree: 4, variants: [steps, terse.txt]}"
    flow = FLOW.replace("threshold: 0.80", samples)
    assert edit_policy(flow, {"haiku": 0.9}, folder=tmp_path) == flow.replace(
        "max_tokens: 1024}", "max_tokens: 1024, threshold: 0.90}"
    )
    block = BLOCK.replace("  threshold:   0.8    # a guess\n", f"  {samples}  # a vote\n")
    edited = edit_policy(block, {"haiku": None, "sonnet": 0.5}, folder=tmp_path)
    assert edited == block.replace("'claude-haiku-5-5'\n", "'claude-haiku-5-5'\n  threshold: never\n").replace(
        "'never'", "0.50"
    )
    assert edit_policy(block, {}, folder=tmp_path) == block


@pytest.mark.parametrize("style", STYLES.values(), ids=STYLES)
def test_a_certificate_and_a_scorer_are_written_replaced_and_taken_out(style: str) -> None:
    """What calibrate writes reads back as the same values, is replaced by another, and leaves the text as it was."""
    feature = Feature(name="logit", mean=1e-07, scale=0.1 + 0.2, weight=-1 / 3)
    scorer = {"haiku": Scoring(bias=-0.25, features=(feature, feature.model_copy(update={"name": "task:on"})))}
    hashes = Hashes(**{name: f"sha256:{number:064x}" for number, name in enumerate(Hashes.model_fields, 7)})
    proved = Certificate(
        loss="regression", right_at=0.5, alpha=0.02, delta=0.05, units="groups", n=311, upper_bound=1.9e-05,
        escalation={"haiku": 0.25, "sonnet": 1e-09},
        escalation_by_task={"on": {"haiku": 0.5}, "a b: c #d": {"haiku": 0.25, "sonnet": 0.125}}, grader="by hand: 2 people, \"blind\"", hashes=hashes,
    )  # fmt: skip
    text = style
    for certificate in (proved, proved.model_copy(update={"n": 312, "errors": 3, "units": "items", "grader": None})):
        blocks = {
            "certificate": certificate.model_dump(mode="json", exclude_none=True),
            "scorer": {rung: scoring.model_dump(mode="json") for rung, scoring in scorer.items()},
        }
        text = edit(text, {"haiku": 0.9}, {}, blocks)
        assert policy(text).certificate == certificate
        assert policy(text).scorer == scorer
        assert text.count("certificate") == style.count("certificate") + 1
    old = policy(style).ladder[0].threshold
    back = edit(text, {"haiku": old}, {}, {"certificate": None, "scorer": None})
    assert policy(back) == policy(style)
    assert comments(back) == comments(style)
