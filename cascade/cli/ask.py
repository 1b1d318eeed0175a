"""`cascade ask`."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from cascade.cli.output import print_json, stderr
from cascade.core.errors import ClimbError, RequestError
from cascade.core.trail import Answer
from cascade.core.trail_table import trail_text
from cascade.engine import Cascade

__all__ = ["AskOptions", "read_text", "run_ask"]


@dataclass(frozen=True, slots=True)
class AskOptions:
    """The command's arguments."""

    text: str
    policy: str | None
    system: str | None
    task: str | None
    flags: tuple[str, ...]
    max_tokens: int | None
    deadline_s: float | None
    metadata: tuple[str, ...] = ()
    ledger: str | None = None
    cache: bool | None = None
    session: str | None = None


def read_text(text: str) -> str:
    """The text itself, or standard input if it is `-`."""
    if text != "-":
        return text
    try:
        return sys.stdin.read().removesuffix("\n")  # as added by echo and editors
    except UnicodeDecodeError:
        raise RequestError("standard input is not UTF-8 text") from None


def run_ask(options: AskOptions, *, explain: bool, as_json: bool) -> None:
    """Ask, and print the answer; the trail goes to stderr."""
    metadata = _pairs(options.metadata)
    with Cascade(options.policy, ledger=options.ledger) as driver:
        try:
            answer = driver.ask(
                read_text(options.text),
                system=options.system,
                task=options.task,
                flags=options.flags,
                metadata=metadata,
                max_tokens=options.max_tokens,
                deadline_s=options.deadline_s,
                cache=options.cache,
                session=options.session,
            )
        except ClimbError as error:
            if explain and not as_json:
                stderr.print(trail_text(error.steps, None, stderr.width))
            raise
    if as_json:
        print_json(answer.to_dict())
        return
    if answer.text is not None:
        sys.stdout.write(answer.text + "\n")
    _print_notes(answer, explain=explain)


def _pairs(texts: tuple[str, ...]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise RequestError(f"--metadata: {text!r} is not NAME=VALUE (as in --metadata customer=c-17)")
        pairs[name] = value
    return pairs


_BASELINE_REASONS = {
    "bypass": "the mode is off",
    "observe": "the mode is observe",
    "holdout": "this request is in the rollout's holdout",
}


def _print_notes(answer: Answer, *, explain: bool) -> None:
    if answer.arm in _BASELINE_REASONS:
        stderr.print(f"{answer.arm}: the baseline answered, {_BASELINE_REASONS[answer.arm]} (see `cascade mode`)")
    if answer.abstained is not None:
        stderr.print(f"no answer: the policy abstains ({answer.abstained})")
    elif answer.degraded is not None:
        stderr.print(
            f"degraded: the answer is {answer.rung}'s, the best so far; the climb stopped there ({answer.degraded})"
        )
    if answer.cache == "hit":
        stderr.print("from the response cache: no model was asked")
    if explain:
        if answer.steps:
            stderr.print(trail_text(answer.steps, answer.rung, stderr.width))
        flags = f", flags {', '.join(answer.flags)}" if answer.flags else ""
        stderr.print(
            f"task {answer.task}{flags}; {answer.cost_usd:.6f} USD, {answer.latency_s:.2f} s;"
            f" policy {answer.policy} ({answer.policy_hash[:12]}, {answer.certificate})"
        )
