"""What a simulated corpus looks like: a table to judge the assumptions by.

The cascade's row is a plain reading (ship the first reply that is answered with at least 0.80, no storm guard, floors
or checks): it shows what the assumptions come to. What a policy makes of the corpus is for `cascade replay` to say.
`false-confident`: shipped below the top rung, and wrong. Single models: the same replies, as if each rung stood alone.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

from .agreement import agreement_rows
from .replies import LADDER, Item, Reply

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["summarize"]

THRESHOLD = 0.80


def summarize(name: str, items: Sequence[Item]) -> str:
    """The table, as text; costs in USD per 1,000 requests."""
    return "\n".join((
        f"synthetic corpus '{name}': {len(items)} requests; every figure follows from assumed parameters",
        "",
        *_rung_rows(items),
        "",
        *([*samples, ""] if (samples := agreement_rows(items)) else ()),
        *_policy_rows(items),
        "",
        *_task_rows(items),
    ))  # fmt: skip


def _rung_rows(items: Sequence[Item]) -> list[str]:
    rows = [
        f"{'rung':<10}{'accuracy':>9}{'mean conf':>11}{'AUROC':>7}{'levels':>8}{'top 3':>7}{'declined':>10}{'no number':>11}"
    ]
    for rung in LADDER:
        replies = [item["replies"][rung.name] for item in items]
        numbers = [reply["confidence"] for reply in replies if reply["confidence"] is not None]
        declined = sum(reply["answer"] is None for reply in replies)
        row = f"{rung.name:<10}{_accuracy(replies):>9.3f}"
        if numbers:
            clumps = Counter(numbers)
            top = sum(count for _, count in clumps.most_common(3)) / len(numbers)
            row += f"{math.fsum(numbers) / len(numbers):>11.3f}{_auroc(replies):>7.3f}{len(clumps):>8}{top:>7.2f}"
            row += f"{declined:>10}{len(replies) - len(numbers):>11}"
        rows.append(row)
    return rows


def _policy_rows(items: Sequence[Item]) -> list[str]:
    climbs = [_ship(item) for item in items]
    shipped = Counter(name for name, _, _ in climbs)
    false_confident = sum(name != LADDER[-1].name and reply["score"] < 1 for name, reply, _ in climbs) / len(items)
    told = " ".join(f"{rung.name} {shipped[rung.name]}" for rung in LADDER)
    cascade = _policy_row(
        f"cascade at {THRESHOLD:.2f}", [reply for _, reply, _ in climbs], [paid for *_, paid in climbs]
    )
    rows = [
        f"{'synthetic':<17}{'quality':>9}{'USD/1,000':>11}{'wrong':>7}{'false-confident':>17}  shipped",
        f"{cascade}{false_confident:>17.3f}  {told}",
    ]
    for rung in LADDER:
        replies = [item["replies"][rung.name] for item in items]
        rows.append(_policy_row(f"{rung.name} alone", replies, [reply["cost_usd"] for reply in replies]))
    return rows


def _policy_row(name: str, replies: Sequence[Reply], paid: Sequence[float]) -> str:
    quality, cost = _accuracy(replies), 1_000 * math.fsum(paid) / len(paid)
    return f"{name:<17}{quality:>9.3f}{cost:>11.4f}{1 - quality:>7.3f}"


def _task_rows(items: Sequence[Item]) -> list[str]:
    accuracies = "".join(f"{rung.name:>9}" for rung in LADDER)
    rows = [f"{'task':<17}{'items':>6}{accuracies}{'haiku escalates':>17}{'characters':>12}"]
    for task in dict.fromkeys(item["task"] for item in items):
        mine = [item for item in items if item["task"] == task]
        accuracies = "".join(f"{_accuracy([item['replies'][rung.name] for item in mine]):>9.3f}" for rung in LADDER)
        up = sum(not _stands(item["replies"][LADDER[0].name]) for item in mine) / len(mine)
        size = sum(_length(item) for item in mine) // len(mine)
        rows.append(f"{task:<17}{len(mine):>6}{accuracies}{up:>17.3f}{size:>12}")
    return rows


def _ship(item: Item) -> tuple[str, Reply, float]:
    """The rung that ships, its reply, and what the climb up to it cost in USD."""
    paid: list[float] = []
    for rung in LADDER[:-1]:
        reply = item["replies"][rung.name]
        paid.append(reply["cost_usd"])
        if _stands(reply):
            return rung.name, reply, math.fsum(paid)
    top = item["replies"][LADDER[-1].name]
    return LADDER[-1].name, top, math.fsum((*paid, top["cost_usd"]))


def _stands(reply: Reply) -> bool:
    sure = reply["confidence"]
    return reply["answer"] is not None and sure is not None and not sure < THRESHOLD


def _accuracy(replies: Sequence[Reply]) -> float:
    return sum(reply["score"] == 1 for reply in replies) / len(replies)


def _length(item: Item) -> int:
    text = item["input"]
    return len(text) if isinstance(text, str) else sum(len(turn["content"]) for turn in text)


def _auroc(replies: Sequence[Reply]) -> float:
    """Chance that a right reply says more than a wrong one, ties half; over answered replies with a number."""
    said = [
        (r["confidence"], r["score"] == 1) for r in replies if r["confidence"] is not None and r["answer"] is not None
    ]
    right, wrong = Counter(sure for sure, ok in said if ok), Counter(sure for sure, ok in said if not ok)
    won = sum(
        count * other * (1.0 if high > low else 0.5 if high == low else 0.0)
        for high, count in right.items()
        for low, other in wrong.items()
    )
    pairs = right.total() * wrong.total()
    return won / pairs if pairs else math.nan
