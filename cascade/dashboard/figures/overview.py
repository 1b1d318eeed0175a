"""The first page's figures, of any period, of one policy or of all."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from cascade.core.errors import LedgerError
from cascade.core.policy import Policy
from cascade.costs import Costs, Line, Period, PeriodSums, costs, lines_of, read_sums, totals
from cascade.dashboard.figures.audits import KnownAudits, audit_states
from cascade.dashboard.figures.budgets import budget_states
from cascade.dashboard.figures.happenings import read_episodes, read_events
from cascade.dashboard.figures.modes import policy_modes
from cascade.dashboard.figures.requests import large_requests, request_row
from cascade.dashboard.figures.series import escalations_of, slice_s_of, spend_points, tasks_shown
from cascade.dashboard.values import AuditState, Overview
from cascade.ledger.reading import address_of, display_address, open_reader
from cascade.ledger.stores import LedgerDown, NoLedger, Reader
from cascade.ledger.trails import newest_requests, newest_stamp
from cascade.ledger.whole_sums import KnownDays, spend_slices, traffic_slices

__all__ = ["Asked", "Known", "lines_by", "opened", "read_overview"]

_LAST: Final = 20
_LARGE: Final = 10
_MOST: Final = 50
"""Workflows, and policies without a file, that are listed."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is kept between calls for one ledger: of the audits, and of the sums of whole days."""

    audits: KnownAudits = field(default_factory=dict[str, tuple[object, AuditState]])
    days: KnownDays = field(default_factory=KnownDays)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a page is asked for. `policies`: those at hand; `policy`: the only one to show, None for all; `now`: Unix seconds.

    `last`, `large`: how many requests are listed. `known`: what is kept between calls.
    """

    address: str
    period: Period
    policies: Sequence[Policy]
    now: float
    policy: str | None = None
    last: int = _LAST
    large: int = _LARGE
    known: Known = field(default_factory=Known)

    @property
    def shown(self) -> tuple[Policy, ...]:
        """The policies at hand that the page is about."""
        return tuple(one for one in self.policies if self.policy in (None, one.name))


@contextmanager
def opened(address: str) -> Generator[Reader | None]:
    """A reader whose reads all see the same moment; None if there is no ledger. Raises LedgerError if it cannot be read."""
    try:
        try:
            reader = open_reader(address)
        except NoLedger:
            yield None
            return
        try:
            with reader.snapshot():
                yield reader
        finally:
            reader.close()
    except LedgerDown as down:
        raise LedgerError(str(down)) from None


def read_overview(
    address: str | None,
    period: Period,
    policies: Sequence[Policy],
    now: float,
    *,
    policy: str = "",
    known: Known | None = None,
) -> Overview:
    """The figures of a period. `address`: None: as for the ledger. `policy`: the only one to show. `now`: Unix seconds.

    `known`: to keep between calls, so that the audit's samples and the sums of whole days are read again only when something of them has changed.
    Without a ledger all figures are empty, and `exists` is False. Raises LedgerError if the ledger cannot be read, ConfigurationError if the
    address is invalid.
    """
    asked = Asked(address_of(address), period, policies, now, policy or None, known=known or Known())
    with opened(asked.address) as reader:
        return _empty(asked) if reader is None else overview_of(reader, asked)


def overview_of(reader: Reader, asked: Asked) -> Overview:
    """The same, from a reader. Raises LedgerDown."""
    period, policy, shown = asked.period, asked.policy, asked.shown
    days = asked.known.days
    sums = read_sums(reader, period, policy, known=days)
    earlier = read_sums(reader, period.before, policy, by_slot=False, known=days)
    found = costs(sums, earlier, "task")
    width, tasks = slice_s_of(period), tasks_shown(found.lines)
    spend = spend_slices(reader, period.since, period.until, width, policy=policy)
    traffic = traffic_slices(reader, period.since, period.until, width, policy=policy, tasks=tasks)
    limits = [limit.call_usd for one in shown for limit in one.budget if limit.call_usd is not None]
    above = int(min(limits) * 1_000_000_000) if limits else None
    by_policy = lines_by("policy", sums, earlier)
    named = [line.name for line in by_policy[:_MOST]] if policy is None else [policy]
    return Overview(
        ledger=reader.where, period=period, made_at=asked.now, policy=policy or "", costs=found, saving=found.saving, slice_s=width,
        spend=spend_points(period, width, spend, traffic),
        escalations=escalations_of(period, width, traffic, tasks),
        episodes=read_episodes(reader, period, asked.now, policy),
        audits=audit_states(reader, asked.address, shown, asked.now, asked.known.audits),
        budgets=budget_states(reader, shown, asked.now),
        large=large_requests(reader, period, above, asked.large, policy),
        large_above=above,
        last=tuple(map(request_row, newest_requests(reader, period.since, period.until, asked.last, policy))),
        events=read_events(reader, period, policy),
        modes=policy_modes(shown, named),
        rungs=lines_by("rung", sums, earlier), models=lines_by("model", sums, earlier),
        workflows=lines_by("workflow", sums, earlier)[:_MOST], by_policy=by_policy,
        stamp=newest_stamp(reader),
    )  # fmt: skip


def lines_by(by: str, now: PeriodSums, before: PeriodSums) -> tuple[Line, ...]:
    """The totals by a dimension, as `cascade costs --by` has them."""
    return lines_of(totals(now, by), totals(before, by), by)


def _empty(asked: Asked) -> Overview:
    """What is shown without a ledger: nothing but the policies' modes."""
    nothing: Costs = costs(PeriodSums(), PeriodSums(), "task")
    width, shown = slice_s_of(asked.period), asked.shown
    return Overview(
        ledger=display_address(asked.address), period=asked.period, made_at=asked.now, policy=asked.policy or "", costs=nothing, saving=None,
        slice_s=width, spend=spend_points(asked.period, width, ()), escalations=(), episodes=(), audits=(), budgets=(), large=(),
        large_above=None, last=(), events=(), modes=policy_modes(shown, () if asked.policy is None else (asked.policy,)), rungs=(),
        models=(), workflows=(), by_policy=(), exists=False,
    )  # fmt: skip
