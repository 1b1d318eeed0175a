"""What several tests of savings look at."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from cascade.core.messages import Usage
from cascade.core.policy import Policy
from cascade.corpora import open_corpus
from cascade.policy.loading import load_policy
from cascade.policy.shipped import shipped
from cascade.replay.run import Replay, ReplayOptions, replay_corpus
from cascade.savings import Advice, Case, Mix, Period, PriceBook, Slice, advise, make_bill, mix_of_corpus, project


def one(
    model: str, usage: Usage, requests: int | None = None, *, batch: bool = False, size: int | None = None
) -> Slice:
    """A slice of traffic."""
    return Slice(model, batch, size, requests == 1, requests, usage)


def measured(policy: Policy) -> Mix:
    """The mix of the shipped corpus under a policy."""
    path = shipped("corpora", "support")
    assert path is not None
    with open_corpus(path) as reader:
        return mix_of_corpus(reader, policy)


def replayed(policy: Policy) -> Replay:
    """The shipped corpus as `cascade replay` has it."""
    path = shipped("corpora", "support")
    assert path is not None
    return replay_corpus(path, ReplayOptions(policy))


def advised(
    slices: list[Slice], mix: Mix | None, *, days: int = 30, policy: str = "default", certified: bool = False
) -> Advice:
    """What the advice is on this traffic."""
    ladder = load_policy(policy)
    book = PriceBook({}, ladder)
    bill = make_bill(slices, book)
    shown = project(slices, ladder, book, mix, bill.cost)
    counts = [part.requests for part in slices]
    requests = None if None in counts else sum(count or 0 for count in counts)
    period = Period(Fraction(days), "given")
    return advise(Case(bill, shown, ladder, mix, shown.as_today.full_climb, requests, period, certified))


LARGE = [one("claude-opus-5-5", Usage(2_000_000_000, 100_000_000), 1_000_000)]
MIX = Mix(
    (Fraction(4, 5), Fraction(3, 20), Fraction(1, 20)), (Fraction(1), Fraction(1, 5), Fraction(1, 20)), "estimate"
)

Said = tuple[tuple[float, float], tuple[float, float], float]
"""Haiku's confidence and score, Sonnet's, and Opus's score."""


GOOD: Sequence[Said] = (((0.9, 1), (0.9, 1), 0), *[((0.9, 1), (0.9, 1), 1)] * 5, *[((0.1, 0), (0.9, 1), 1)] * 2)
"""Haiku knows when it is wrong; Opus errs once where Haiku does not, and Sonnet never does."""


def corpus_of(
    folder: Path, said: Sequence[Said], *, tokens: tuple[int, int, int] = (100, 100, 100), prompt: int = 0
) -> Path:
    """A corpus with two of each of these items; every prompt and every rung's reply has so many tokens."""
    ladder = ", ".join(f'{{"rung": "{rung}"}}' for rung in ("haiku", "sonnet", "opus"))
    lines = [f'{{"corpus": "made", "version": 1, "ladder": [{ladder}]}}']
    for number, ((sure, first), (surer, second), third) in enumerate([*said, *said]):
        told = zip(("haiku", "sonnet", "opus"), (sure, surer, 1.0), (first, second, third), tokens, strict=True)
        replies = ", ".join(
            f'"{rung}": {{"confidence": {confidence}, "answer": "x", "score": {score}, "usage": {{"input_tokens": {prompt}, "output_tokens": {out}}}}}'
            for rung, confidence, score, out in told
        )
        lines.append(f'{{"id": "i{number}", "input": "q{number}", "task": "t{number % 2}", "replies": {{{replies}}}}}')
    path = folder / "made.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def said_of(path: Path) -> Mix:
    """The mix of a corpus under the default policy."""
    with open_corpus(path) as reader:
        return mix_of_corpus(reader, load_policy("default"))


def observed(folder: Path, said: Sequence[Said], *, tokens: tuple[int, int, int] = (100, 100, 100)) -> Mix:
    """The same of a corpus that is made for it."""
    return said_of(corpus_of(folder, said, tokens=tokens))


def good_corpus(folder: Path, *, times: int, prompt: int = 0) -> Path:
    """Of `GOOD`, so many times; with a prompt its replies are as short as it is."""
    return corpus_of(
        folder,
        [said for said in GOOD for _ in range(times)],
        tokens=(5, 5, 5) if prompt else (100, 100, 100),
        prompt=prompt,
    )
