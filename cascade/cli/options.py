"""Options that several commands share."""

from __future__ import annotations

import typer

__all__ = [
    "CORPUS_POLICY",
    "EARLY_STOP",
    "ENGINE",
    "JSON",
    "LEDGER",
    "MEMORY",
    "POLICY",
    "REPRICE",
    "SAME",
    "SCHEDULER",
    "SKIP_BAD",
    "SPLIT_SEED",
    "TRUST_IDS",
    "TUNE",
    "WORKERS",
]

JSON = typer.Option("--json", help="Print the result as JSON.")
LEDGER = typer.Option(
    "--ledger", help="The ledger: a path or postgresql://… Default: CASCADE_LEDGER, else ledger.db in CASCADE_HOME."
)
EARLY_STOP = typer.Option(
    "--early-stop",
    help="As with `early_stop: true` in the policy: a reply that climbs because of its confidence is closed there, and costs its"
    " prompt and its first tokens. It is never held, and one that ships does so even if it ends badly.",
)
REPRICE = typer.Option(
    "--reprice",
    help="Compute costs from recorded usage, at the policy's prices. With `prompt_cache: auto` escalations pay cold cache writes,"
    " an estimate.",
)
TUNE = typer.Option(help="The share of the groups in the tuning half, unless the items name their half.")
SPLIT_SEED = typer.Option(help="The seed of the random split into halves.")
SAME = typer.Option(
    help="When the answers of two samples are the same: exact, normalized, choice, numeric[:TOLERANCE], json, judge or"
    " module:function. Default: the policy's, else normalized."
)
SKIP_BAD = typer.Option("--skip-bad", help="Skip and count invalid lines and items without a score or cost.")
CORPUS_POLICY = typer.Option(
    "--policy", "-p", help="A policy file, or a shipped policy's name. Default: the corpus's own ladder."
)
POLICY = typer.Option(
    "--policy", "-p", help="A policy file, or a shipped policy's name. Default: CASCADE_POLICY, else `default`."
)
ENGINE = typer.Option(
    help="What counts a folder or pattern of Parquet shards: duckdb, dask, or python, item by item in this process. auto: duckdb where"
    " it can decide all that the policy asks for."
)
SCHEDULER = typer.Option(
    metavar="ADDRESS",
    help="A Dask scheduler, tcp://host:port, whose workers read the same paths. Implies --engine dask.",
)
WORKERS = typer.Option(
    help="The processes of a local Dask cluster; with --scheduler, the tasks at a time. Implies --engine dask. Default: one a core.",
    min=1,
)
MEMORY = typer.Option(
    help="What each process that counts may hold in memory, such as 512MiB; the rest goes to a temporary folder."
)
TRUST_IDS = typer.Option(
    "--trust-ids",
    help="Do not look for ids that occur twice over all shards, a pass of its own. Counts then have no certificate.",
)
