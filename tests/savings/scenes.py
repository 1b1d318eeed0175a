"""What several tests of savings look at."""

from __future__ import annotations

from fractions import Fraction

from cascade.core.messages import Usage
from cascade.core.policy import Policy
from cascade.corpora import open_corpus
from cascade.policy.loading import load_policy
from cascade.policy.shipped import shipped
from cascade.replay.run import Replay, Wish, replay_corpus
from cascade.savings import Advice, Case, Mix, Period, PriceBook, Slice, advise, make_bill, observe, project


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
        return observe(reader, policy)


def replayed(policy: Policy) -> Replay:
    """The shipped corpus as `cascade replay` has it."""
    path = shipped("corpora", "support")
    assert path is not None
    return replay_corpus(path, Wish(policy))


def advised(slices: list[Slice], mix: Mix | None, *, days: int = 30, policy: str = "default") -> Advice:
    """What the advice is on this traffic."""
    ladder = load_policy(policy)
    book = PriceBook({}, ladder)
    bill = make_bill(slices, book)
    shown = project(slices, ladder, book, mix, bill.cost)
    counts = [part.requests for part in slices]
    requests = None if None in counts else sum(count or 0 for count in counts)
    return advise(Case(bill, shown, ladder, mix, shown.as_today.full_climb, requests, Period(Fraction(days), "given")))


LARGE = [one("claude-opus-5-5", Usage(2_000_000_000, 100_000_000), 1_000_000)]
MIX = Mix(
    (Fraction(4, 5), Fraction(3, 20), Fraction(1, 20)), (Fraction(1), Fraction(1, 5), Fraction(1, 20)), "estimate"
)
