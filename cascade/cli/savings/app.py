"""`cascade savings`: its argument and options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cascade.cli.options import ENGINE, JSON, MEMORY, POLICY, SCHEDULER, TRUST_IDS, WORKERS

__all__ = ["savings"]


def savings(  # noqa: PLR0913, PLR0917 - options
    usage: Annotated[
        Path | None,
        typer.Argument(
            help="A usage export: CSV, JSON lines, JSON or Parquet, or a folder or quoted pattern of Parquet shards. Without one, and without --workload, what the ledger shows is reported."
        ),
    ] = None,
    workload: Annotated[
        str | None,
        typer.Option(
            "--workload", "-w", help="Instead of an export: a file that describes the traffic, or `customer-service`."
        ),
    ] = None,
    ledger: Annotated[
        str | None,
        typer.Option(
            "--ledger",
            help="The ledger: a path or postgresql://… Default: CASCADE_LEDGER, else ledger.db in CASCADE_HOME. With an export it"
            " gives the mix, with a workload the shares of caches and batches.",
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            help="The start of the ledger's period: 7d, 24h, 2w, or a date or time (UTC without a zone). Default: 30d."
        ),
    ] = None,
    policy: Annotated[str | None, POLICY] = None,
    corpus: Annotated[
        str | None,
        typer.Option(
            "--corpus",
            "-c",
            help="Measure the mix on this corpus, or a folder or quoted pattern of shards, under the policy.",
        ),
    ] = None,
    mix: Annotated[
        str | None,
        typer.Option(help="An assumed mix: the percentage of requests that each rung answers, as in 80/15/5."),
    ] = None,
    routed: Annotated[
        bool,
        typer.Option(
            "--routed/--climb", help="The bill to report: one model per request, or every rung on the way up."
        ),
    ] = False,
    period_days: Annotated[
        float | None, typer.Option(help="The days that the export covers. Default: from its dates.")
    ] = None,
    requests: Annotated[
        int | None, typer.Option(help="The number of requests, where the export does not give it.", min=1)
    ] = None,
    cached: Annotated[
        float | None, typer.Option(help="Also show the bill with this share of the input cached, from 0 to 1.")
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            help="FIELD=COLUMN for a column whose name is not recognised; may be repeated. FIELD: model, requests, input"
            " (without cached tokens), prompt (with them), output, cache_read, cache_write, cache_write_5m, cache_write_1h,"
            " date, tier, request_id.",
        ),
    ] = None,
    price: Annotated[
        list[str] | None, typer.Option(help="MODEL=IN/OUT in USD per million tokens; may be repeated.")
    ] = None,
    more: Annotated[
        bool, typer.Option("--more", help="Also show prompt caching, batch, and other escalation rates.")
    ] = False,
    engine: Annotated[str, ENGINE] = "auto",
    scheduler: Annotated[str | None, SCHEDULER] = None,
    workers: Annotated[int | None, WORKERS] = None,
    memory: Annotated[str, MEMORY] = "1GiB",
    trust_ids: Annotated[bool, TRUST_IDS] = False,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Compare a bill with the bill under a policy, and tell where a saving comes from. Calls no model."""
    from cascade.cli.engines import EngineOptions  # noqa: PLC0415
    from cascade.cli.savings.command import SavingsOptions, run_savings  # noqa: PLC0415

    options = SavingsOptions(
        usage=usage, policy=policy, corpus=corpus, mix=mix, routed=routed, period_days=period_days, requests=requests,
        cached=cached, columns=tuple(column or ()), prices=tuple(price or ()), workload=workload, ledger=ledger, since=since,
        engine=EngineOptions(engine, scheduler, workers, memory, trust_ids),
    )  # fmt: skip
    run_savings(options, more=more, as_json=as_json)
