"""Hundreds of hostile files: each is a sound policy that runs, or one clear line. Never a hang, never a crash."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cascade.core.errors import PolicyError
from cascade.core.policy import Policy
from cascade.policy.binding import bind_policy
from cascade.policy.loading import load_policy, parse_policy

from .builders import POLICIES, SOUND

DEFAULT = (POLICIES / "default.yaml").read_text(encoding="utf-8")

SPLICES = [
    "&a ", "*a", "!!python/object/apply:os.system ['true']", "!!binary x", "!x ", "<<: ", "? ", ": ", "- ", "[", "]", "{", "}",
    "\t", "\n", "\r", "\x00", "\x1b", "\x85", "\u2028", "\ufeff", "\ud800".encode("utf-8", "replace").decode(), "😀", "'", '"',
    '"\\ud800"', '"\\x00"', "|", ">", "%YAML 9.9\n", "---\n", "...\n", "#", "${", "${HOME}", "${NOPE}", "${A:-${B}}", "}" * 50,
    "yes", "null", "~", ".nan", ".inf", "-.inf", "0x7f", "0o17", "1:30", "1e999", "9" * 5_000, "2026-11-21", "é" * 500, "`", "@",
    "name: twice\n", "version: 1\n", "ladder: []\n", "[" * 60, "{a: " * 60, "- " * 60, "x" * 20_000,
]  # fmt: skip

WRONG: list[Any] = [
    None, True, -1, 0, 1.5, float("nan"), float("inf"), 10**30, "", "on", "x" * 300, "a\nb", "\x1b[2J", "never", [], [[]], [None],
    {}, {"a": {}}, {"rung": 1}, ["not_empty", 7], "é", "2026-11-21", "no:such_function", {"pattern": "("}, {"flag": 7},
]  # fmt: skip


def outcome(text: str) -> Policy | PolicyError:
    """The policy in a text, ready to run; or the error, which is one printable line, as its notes are."""
    try:
        policy = parse_policy(text, where="p.yaml", environment={"HOME": "/root"})
        assert len(policy.hash) == 64
        bind_policy(policy)
    except PolicyError as error:
        for line in (str(error), *getattr(error, "__notes__", ())):
            assert line.isprintable(), line
            assert len(line) < 2_000, line
            assert line.encode()
        return error
    return policy


def mutated(chance: random.Random) -> str:
    """The default policy after one to four cuts, splices, doublings and swaps."""
    text = DEFAULT
    for _ in range(chance.randint(1, 4)):
        at, other = sorted(chance.choices(range(len(text) + 1), k=2))
        match chance.randrange(6):
            case 0:
                text = text[:at]
            case 1:
                text = text[:at] + chance.choice(SPLICES) + text[at:]
            case 2:
                text = text[:at] + text[min(other, at + 12) :]
            case 3:
                text = text[:at] + "".join(map(chr, chance.choices(range(1, 0x2FF), k=8))) + text[at:]
            case 4:
                lines = text.splitlines(keepends=True) or [""]
                text = "".join(chance.choices(lines, k=len(lines)))
            case _:
                text += text[at:other]
    return text


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a document."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from paths(inner, (*path, key))


_DOCUMENT = yaml.safe_load(SOUND)


def replaced(path: tuple[Any, ...], value: Any) -> str:
    """The sound policy with another value at this place."""
    document = here = deepcopy(_DOCUMENT)
    for part in path[:-1]:
        here = here[part]
    here[path[-1]] = value
    return yaml.dump(document, allow_unicode=True)


def test_five_hundred_mutated_policies_load_or_say_why() -> None:
    """Seeded; most are refused, some survive; 20 seconds for all of them are plenty."""
    chance = random.Random(20_261_121)
    started = time.process_time()
    outcomes = [outcome(mutated(chance)) for _ in range(500)]
    assert time.process_time() - started < 20
    refused = sum(isinstance(one, PolicyError) for one in outcomes)
    assert 300 < refused < 500


def test_a_wrong_value_at_every_key_is_told_with_its_place() -> None:
    """A dozen of these values at each of the places of a sound policy: each loads or is refused with file:line:column."""
    chance, tried, refused = random.Random(1), 0, 0
    for path in paths(_DOCUMENT):
        for value in chance.sample(WRONG, 12):
            one = outcome(replaced(path, value))
            tried += 1
            if isinstance(one, PolicyError):
                refused += 1
                assert one.where.split(":")[0] in ("p.yaml", "policy"), one
                assert one.where != "p.yaml", one
    assert tried > 400
    assert refused > tried * 0.8


BOMBS = {
    "billion laughs": "a: &a [x, x, x]\n"
    + "".join(f"{b}: &{b} [*{a}, *{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
    "an alias to itself": "a: &a [*a]\n",
    "deep flow lists": "[" * 100_000,
    "deep flow mappings": "{a: " * 50_000,
    "deep block lists": "- " * 50_000 + "x",
    "deep block mappings": "".join(" " * n + "a:\n" for n in range(1_000)),
    "deep complex keys": "? " * 50_000,
    "a megabyte of one scalar": "name: " + "x" * 990_000,
    "a megabyte of quoted blanks": 'name: "' + " " * 990_000,
    "a megabyte of digits": "version: " + "9" * 990_000,
    "a megabyte of base sixty": "version: 1" + ":59" * 300_000,
    "a megabyte of a base sixty float": "version: 1" + ":59" * 300_000 + ".5",
    "a megabyte of variables": "name: " + "${A:-b}" * 140_000,
    "a megabyte of open variables": "name: '" + "${A:-" * 190_000 + "'",
    "a megabyte of keys": "".join(f"k{n}: 1\n" for n in range(100_000)),
    "a megabyte of comments": "#\n" * 490_000,
    "a megabyte of open quotes": "'" * 990_000,
    "a megabyte of brackets": "[]" * 490_000,
    "a megabyte of colons": ":" * 990_000,
    "a megabyte of tabs": "\t" * 990_000,
    "a megabyte of folded lines": "name: >\n" + " x\n" * 330_000,
    "a huge pattern": SOUND.replace("words: [refund]", f"pattern: '{'(a|b)' * 5_000}'"),
    "a pattern that repeats itself": SOUND.replace("words: [refund]", "pattern: '((a{100}){100}){100}'"),
    "ten thousand words": SOUND.replace("words: [refund]", f"words: [{', '.join(f'w{n}' for n in range(10_000))}]"),
}


@pytest.mark.parametrize("text", BOMBS.values(), ids=BOMBS.keys())
def test_a_file_made_to_hurt_is_refused_in_bounded_time(text: str) -> None:
    """Up to 1 MB: no recursion, no multiplication, no square of its length."""
    started = time.process_time()
    assert isinstance(outcome(text), PolicyError)
    assert time.process_time() - started < 60  # what blows up takes hours


@given(text=st.text(max_size=200) | st.binary(max_size=200).map(lambda raw: raw.decode("utf-8", "surrogateescape")))
def test_any_text_is_a_policy_error(text: str) -> None:
    """Whatever is drawn, half surrogates included."""
    assert isinstance(outcome(text), PolicyError)


@given(raw=st.binary(max_size=200))
def test_any_bytes_in_a_file_are_a_policy_error(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    """Read from a disk, as they come."""
    path = tmp_path_factory.getbasetemp() / "hostile.yaml"
    path.write_bytes(raw)
    with pytest.raises(PolicyError) as caught:
        load_policy(path)
    assert str(caught.value).isprintable()
