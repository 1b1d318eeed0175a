"""The figures of the other pages: of a policy, of a model, of one request."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

from cascade.core.policy import Policy
from cascade.costs import Period, PeriodSums, read_sums
from cascade.dashboard.figures.overview import Known, lines_by, opened, read_overview
from cascade.dashboard.figures.requests import request_row
from cascade.dashboard.figures.series import slice_s_of, spend_points
from cascade.dashboard.values import ModelPage, PolicyPage, RequestRow
from cascade.ledger.reading import address_of, display_address
from cascade.ledger.trails import find_request, newest_stamp
from cascade.ledger.whole_sums import spend_slices
from cascade.policy.certificates import changed_parts, changes_text
from cascade.policy.pricing import NoPrice

__all__ = ["read_model", "read_policy", "read_request", "read_stamp"]


def read_policy(
    address: str | None,
    period: Period,
    policies: Sequence[Policy],
    now: float,
    name: str,
    *,
    known: Known | None = None,
) -> PolicyPage:
    """One policy's figures; it need not be at hand, nor in the ledger. As `read_overview`."""
    overview = read_overview(address, period, policies, now, policy=name, known=known)
    policy = next((one for one in policies if one.name == name), None)
    if policy is None:
        return PolicyPage(overview, is_here=False)
    ladder = tuple((rung.rung, rung.model, rung.threshold) for rung in policy.ladder)
    return PolicyPage(overview, True, ladder, _certificate(policy))


def _certificate(policy: Policy) -> str:
    if policy.certificate is None:
        return "uncertified: the thresholds are a guess until `cascade calibrate` proves them"
    try:
        changed = changed_parts(policy)
    except NoPrice as problem:
        return f"uncertified: {problem}"
    return f"uncertified: {changes_text(policy, changed)}" if changed else policy.certificate.summary


def read_model(
    address: str | None, period: Period, now: float, model: str, *, policy: str = "", known: Known | None = None
) -> ModelPage:
    """One model's figures: what it was called for, in one policy or in all. As `read_overview`."""
    named, width, only = address_of(address), slice_s_of(period), policy or None
    days = None if known is None else known.days
    with opened(named) as reader:
        if reader is None:
            points = spend_points(period, width, ())
            return ModelPage(display_address(named), period, now, model, None, width, points, (), (), ())
        sums, before = (
            _of_model(read_sums(reader, one, only, by_slot=False, known=days), model) for one in (period, period.before)
        )
        spend = spend_slices(reader, period.since, period.until, width, policy=only, model=model)
        line = next(iter(lines_by("model", sums, before)), None)
        by = (lines_by(name, sums, before) for name in ("policy", "task", "rung"))
        return ModelPage(reader.where, period, now, model, line, width, spend_points(period, width, spend), *by)


def _of_model(sums: PeriodSums, model: str) -> PeriodSums:
    """Its steps alone: the sums of requests have no model."""
    return PeriodSums(tuple(row for row in sums.spend if row.model == model))


def read_request(address: str | None, request: str) -> RequestRow | None:
    """One request with its whole trail, and its texts where the ledger has them; None if it is not there. As `read_overview`."""
    with opened(address_of(address)) as reader:
        record = None if reader is None else find_request(reader, request)
        if reader is None or record is None:
            return None
        return request_row(record, {content.part: content.text for content in reader.contents((record.id,))})


def read_stamp(address: str | None) -> str:
    """A text that changes when the ledger has grown, or is made, and does not say how large it is; cheap. Raises as `read_overview`."""
    with opened(address_of(address)) as reader:
        if reader is None:
            return ""
        # The first writer's name is random, and on no page: without it, the few possible numbers could be tried.
        name = next((str(one) for (one,) in reader.select("SELECT name FROM writers ORDER BY id LIMIT 1", {})), "")
        return blake2b(newest_stamp(reader).encode(), key=name.encode()[:64], digest_size=12).hexdigest()
