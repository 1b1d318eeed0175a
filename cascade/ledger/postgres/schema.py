"""The Postgres ledger's schema: the tables of `sqlite.schema`, in a Postgres schema of their own, as ordered migrations.

`version` holds the number of migrations applied. A released migration is never changed. The views are for people:
`SELECT rung, sum(cost_usd) FROM cascade_ledger.steps GROUP BY rung`.
"""

from __future__ import annotations

from cascade.ledger.postgres.months import ATTACH_OLD, BY_REQUEST, MAKE_MONTHS, prove_ends
from cascade.ledger.records import BUCKET_S, DAY_S

__all__ = ["MIGRATIONS", "SCHEMA", "prepare_months"]

SCHEMA = "cascade_ledger"
"""First in the search path of each transaction."""

_TABLES = (
    "CREATE TABLE version (made INTEGER NOT NULL)",
    "INSERT INTO version VALUES (0)",
    """CREATE TABLE writers (
        id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name TEXT NOT NULL UNIQUE, at DOUBLE PRECISION NOT NULL)""",
    """CREATE TABLE entries (
        id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, writer BIGINT NOT NULL, seq BIGINT NOT NULL,
        at DOUBLE PRECISION NOT NULL, kind TEXT NOT NULL, request TEXT NOT NULL, body TEXT NOT NULL, digest BYTEA NOT NULL,
        UNIQUE (writer, seq))""",
    """CREATE TABLE contents (
        request TEXT NOT NULL, part TEXT NOT NULL, at DOUBLE PRECISION NOT NULL, salt BYTEA NOT NULL, text TEXT NOT NULL,
        PRIMARY KEY (request, part))""",
    "CREATE INDEX contents_at ON contents (at)",
    # `name` is a digest of the key's columns: an index refuses keys above 2,700 bytes, and a task may be of any length.
    """CREATE TABLE spend (
        name BYTEA PRIMARY KEY, bucket BIGINT NOT NULL, policy TEXT NOT NULL, task TEXT NOT NULL, workflow TEXT NOT NULL,
        key TEXT NOT NULL, arm TEXT NOT NULL, rung TEXT NOT NULL, model TEXT NOT NULL, steps BIGINT NOT NULL,
        escalated BIGINT NOT NULL, cost BIGINT NOT NULL, input BIGINT NOT NULL, output BIGINT NOT NULL)""",
    "CREATE INDEX spend_bucket ON spend (bucket)",
    """CREATE TABLE traffic (
        name BYTEA PRIMARY KEY, bucket BIGINT NOT NULL, policy TEXT NOT NULL, task TEXT NOT NULL, workflow TEXT NOT NULL,
        arm TEXT NOT NULL, rung TEXT NOT NULL, slot BIGINT NOT NULL, requests BIGINT NOT NULL, answers BIGINT NOT NULL,
        resolved BIGINT NOT NULL, escalated BIGINT NOT NULL, cost BIGINT NOT NULL, cost_squared DOUBLE PRECISION NOT NULL,
        estimate BIGINT NOT NULL, estimated BIGINT NOT NULL)""",
    "CREATE INDEX traffic_bucket ON traffic (bucket)",
    # Daily sums: a month of quarters of an hour is many rows.
    """CREATE TABLE spend_days (
        name BYTEA PRIMARY KEY, bucket BIGINT NOT NULL, policy TEXT NOT NULL, task TEXT NOT NULL, workflow TEXT NOT NULL,
        key TEXT NOT NULL, arm TEXT NOT NULL, rung TEXT NOT NULL, model TEXT NOT NULL, steps BIGINT NOT NULL,
        escalated BIGINT NOT NULL, cost BIGINT NOT NULL, input BIGINT NOT NULL, output BIGINT NOT NULL)""",
    "CREATE INDEX spend_days_bucket ON spend_days (bucket)",
    """CREATE TABLE traffic_days (
        name BYTEA PRIMARY KEY, bucket BIGINT NOT NULL, policy TEXT NOT NULL, task TEXT NOT NULL, workflow TEXT NOT NULL,
        arm TEXT NOT NULL, rung TEXT NOT NULL, slot BIGINT NOT NULL, requests BIGINT NOT NULL, answers BIGINT NOT NULL,
        resolved BIGINT NOT NULL, escalated BIGINT NOT NULL, cost BIGINT NOT NULL, cost_squared DOUBLE PRECISION NOT NULL,
        estimate BIGINT NOT NULL, estimated BIGINT NOT NULL)""",
    "CREATE INDEX traffic_days_bucket ON traffic_days (bucket)",
    # Finds the most expensive requests without a scan.
    "CREATE INDEX entries_cost ON entries ((CAST(CAST(body AS jsonb) ->> 'cost' AS BIGINT))) WHERE kind = 'outcome'",
)


def _view(name: str, kind: str, fields: dict[str, str], shown: tuple[str, ...]) -> str:
    """One kind's entries as columns. `fields`: the body's fields and their types; `shown`: the view's columns."""
    record = ", ".join(f'"{field}" {typed}' for field, typed in fields.items())
    head = f"CREATE VIEW {name} AS SELECT e.request, to_timestamp(e.at) AS time, e.at, {', '.join(shown)}"
    tail = f"JOIN writers w ON w.id = e.writer, jsonb_to_record(CAST(e.body AS jsonb)) AS b({record})"
    return f"{head}, w.name AS writer, e.seq, e.id FROM entries e {tail} WHERE e.kind = '{kind}'"


def _columns(fields: dict[str, str], **defaults: str) -> tuple[str, ...]:
    return tuple(
        f"coalesce(b.{field}, {defaults[field]}) AS {field}" if field in defaults else f"b.{field}"
        for field in fields
        if field != "index"
    )


_TOKENS = ("input_tokens", "output_tokens", "cache_write_5m", "cache_write_1h", "cache_read", "thinking_tokens")
_USD = "b.cost / 1e9 AS cost_usd"
_REQUEST = {
    "policy": "TEXT", "policy_hash": "TEXT", "prompt_hash": "TEXT", "task": "TEXT", "arm": "TEXT", "metadata": "JSONB",
    "flags": "JSONB", "observed_as": "TEXT",
}  # fmt: skip
_OPEN = {"index": "BIGINT", "rung": "TEXT", "model": "TEXT", "bound": "BIGINT"}
_STEP = {
    "index": "BIGINT", "rung": "TEXT", "model": "TEXT", "verdict": "TEXT", "cost": "BIGINT",
    **dict.fromkeys(_TOKENS, "BIGINT"), "confidence": "DOUBLE PRECISION", "source": "TEXT",
    "self_reported": "DOUBLE PRECISION", "reason": "TEXT", "failed_checks": "JSONB", "detail": "TEXT",
    "repaired": "BOOLEAN", "attempts": "BIGINT", "latency_ms": "DOUBLE PRECISION", "upstream_id": "TEXT",
}  # fmt: skip
_OUTCOME = {
    "arm": "TEXT", "cost": "BIGINT", "steps": "BIGINT", "latency_ms": "DOUBLE PRECISION", "rung": "TEXT", "model": "TEXT",
    "confidence": "DOUBLE PRECISION", "source": "TEXT", "degraded": "TEXT", "abstained": "TEXT", "error": "TEXT",
    "resolved": "BOOLEAN", "certificate": "TEXT", "estimate": "BIGINT", "slot": "BIGINT",
}  # fmt: skip


def _steps_view(fields: dict[str, str], *more: str) -> str:
    """`more`: columns beside those of the fields. A field of more than one value is none."""
    defaults = {
        **dict.fromkeys(_TOKENS, "0"), "failed_checks": "'[]'", "detail": "''", "repaired": "false", "attempts": "1",
        "latency_ms": "0", "is_estimate": "false", "call": "0", "judge": "false", "more": "false",
    }  # fmt: skip
    single = {name: kind for name, kind in fields.items() if name != "vote"}
    return _view("steps", "step", fields, ('b."index" AS step', _USD, *more, *_columns(single, **defaults)))


_VIEWS = (
    _view(
        "requests", "request", _REQUEST,
        (
            "b.metadata ->> 'workflow' AS workflow", "b.metadata ->> 'customer' AS customer",
            *_columns(_REQUEST, metadata="'{}'", flags="'[]'"),
        ),
    ),
    _view("opens", "open", _OPEN, ('b."index" AS step', *_columns(_OPEN, bound="0"))),
    _steps_view(_STEP),
    _view(
        "outcomes", "outcome", _OUTCOME,
        (_USD, *_columns(_OUTCOME, resolved="false", certificate="'uncertified'", slot="0")),
    ),
)  # fmt: skip

# Announced calls without a step. `name` is a digest, as above.
_CALLS = (
    """CREATE TABLE calls (
        writer BIGINT NOT NULL, name BYTEA NOT NULL, at DOUBLE PRECISION NOT NULL, policy TEXT NOT NULL, task TEXT NOT NULL,
        workflow TEXT NOT NULL, key TEXT NOT NULL, arm TEXT NOT NULL, bound BIGINT NOT NULL, PRIMARY KEY (writer, name))""",
)

# Whether a step's tokens and cost are an estimate.
_ESTIMATES = ("DROP VIEW steps", _steps_view({**_STEP, "is_estimate": "BOOLEAN"}))


def _errors(table: str, length: int) -> tuple[str, str]:
    """Failed steps, counted apart from escalated ones; for existing rows they are counted from the entries."""
    keys = "policy, task, workflow, key, arm, rung, model"
    return (
        f"ALTER TABLE {table} ADD COLUMN errors BIGINT NOT NULL DEFAULT 0",
        f"""UPDATE {table} SET errors = found.errors FROM (
            SELECT CAST(floor(s.at / {length}) AS BIGINT) * {length} AS bucket, r.b ->> 'policy' AS policy,
            r.b ->> 'task' AS task, coalesce(r.b #>> '{{metadata,workflow}}', '') AS workflow,
            coalesce(r.b #>> '{{metadata,key}}', '') AS key, r.b ->> 'arm' AS arm, s.b ->> 'rung' AS rung,
            s.b ->> 'model' AS model, count(*) AS errors
            FROM (SELECT writer, request, at, CAST(replace(body, '\\u0000', '\\ufffd') AS jsonb) AS b FROM entries
                WHERE kind = 'step' AND strpos(body, '"reason":"error"') > 0) AS s
            JOIN (SELECT writer, request, CAST(replace(body, '\\u0000', '\\ufffd') AS jsonb) AS b FROM entries
                WHERE kind = 'request') AS r
            ON r.writer = s.writer AND r.request = s.request GROUP BY 1, 2, 3, 4, 5, 6, 7, 8) AS found
            WHERE {" AND ".join(f"{table}.{key} = found.{key}" for key in ("bucket", *keys.split(", ")))}""",  # noqa: S608 - constants
    )


# Of a rung that is asked more than once each call is a row; `more`: not the last one of its step.
_SAMPLES = (
    "DROP VIEW steps",
    _steps_view(
        {
            **_STEP, "is_estimate": "BOOLEAN", "call": "BIGINT", "sample": "BIGINT", "variant": "TEXT", "judge": "BOOLEAN",
            "more": "BOOLEAN", "vote": "JSONB",
        },
        "CAST(b.vote ->> 'agree' AS BIGINT) AS needed", "CAST(b.vote ->> 'asked' AS BIGINT) AS asked",
        "jsonb_array_length(b.vote -> 'members') AS agreed",
    ),
    "DROP VIEW opens",
    _view(
        "opens", "open", {**_OPEN, "call": "BIGINT"},
        ('b."index" AS step', *_columns({**_OPEN, "call": "BIGINT"}, bound="0", call="0")),
    ),
)  # fmt: skip

# A gateway's keys, and what callers said of answers (`ledger.gateway`).
_GATEWAY = (
    "CREATE TABLE gateway_keys (id TEXT PRIMARY KEY, at DOUBLE PRECISION NOT NULL, body TEXT NOT NULL)",
    """CREATE TABLE feedback (
        id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, request TEXT NOT NULL, at DOUBLE PRECISION NOT NULL,
        score DOUBLE PRECISION NOT NULL, note TEXT, key TEXT NOT NULL)""",
    "CREATE INDEX feedback_request ON feedback (request)",
)

# What the audit keeps (`ledger.audit`). A sample is its outcome's twin; `owner` and `leased_until`: who grades it.
_AUDIT = (
    """CREATE TABLE audit_samples (
        request TEXT PRIMARY KEY, at DOUBLE PRECISION NOT NULL, policy TEXT NOT NULL, epoch TEXT NOT NULL,
        task TEXT NOT NULL, workflow TEXT NOT NULL, why TEXT NOT NULL, rung TEXT NOT NULL, place BIGINT NOT NULL, is_top INTEGER NOT NULL,
        confidence DOUBLE PRECISION, source TEXT, cost BIGINT NOT NULL, estimate BIGINT, flags TEXT NOT NULL, degraded TEXT,
        has_content INTEGER NOT NULL, state TEXT NOT NULL DEFAULT 'open', owner TEXT NOT NULL DEFAULT '',
        leased_until DOUBLE PRECISION NOT NULL DEFAULT 0, bound BIGINT NOT NULL DEFAULT 0, tries BIGINT NOT NULL DEFAULT 0,
        graded_at DOUBLE PRECISION NOT NULL DEFAULT 0, number BIGINT NOT NULL DEFAULT 0, grader TEXT NOT NULL DEFAULT '',
        score DOUBLE PRECISION, relation TEXT, reason TEXT, skipped TEXT, grading_cost BIGINT NOT NULL DEFAULT 0, shadow TEXT,
        shadow_cost BIGINT NOT NULL DEFAULT 0)""",
    "CREATE INDEX audit_samples_open ON audit_samples (policy, state, at)",
    "CREATE INDEX audit_samples_number ON audit_samples (policy, number)",
    "CREATE INDEX audit_samples_at ON audit_samples (at)",
    """CREATE TABLE audit_controls (
        id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, policy TEXT NOT NULL, judge TEXT NOT NULL,
        is_right INTEGER NOT NULL, relation TEXT, at DOUBLE PRECISION NOT NULL, cost BIGINT NOT NULL)""",
    """CREATE TABLE audit_ratchets (
        policy TEXT PRIMARY KEY, certificate TEXT NOT NULL, step BIGINT NOT NULL, at DOUBLE PRECISION NOT NULL)""",
    """CREATE TABLE audit_marks (
        id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, policy TEXT NOT NULL, at DOUBLE PRECISION NOT NULL,
        kind TEXT NOT NULL, details TEXT NOT NULL)""",
)

# Answers that a cheaper rung wrote by the plan of the one that answered are graded apart.
_HANDED = ("ALTER TABLE audit_samples ADD COLUMN executed_by TEXT NOT NULL DEFAULT ''",)

# What `ledger prune` leaves of a writer's chain (`verifying.anchors`).
_ANCHORS = (
    """CREATE TABLE anchors (
        writer BIGINT PRIMARY KEY, seq BIGINT NOT NULL, digest BYTEA NOT NULL, entries BIGINT NOT NULL,
        ends DOUBLE PRECISION NOT NULL, at DOUBLE PRECISION NOT NULL)""",
    """CREATE TABLE anchored (
        writer BIGINT NOT NULL, seq BIGINT NOT NULL, previous BYTEA NOT NULL, PRIMARY KEY (writer, seq))""",
)

# Whoever has made views of these keeps them.
_SAME_VIEWS = tuple(
    view.replace("CREATE VIEW", "CREATE OR REPLACE VIEW", 1)
    for view in (_VIEWS[0], _VIEWS[3], _SAMPLES[1], _SAMPLES[3])
)

_PARTITIONED = (*MAKE_MONTHS, *_SAME_VIEWS, *ATTACH_OLD)

# What happened beside the requests (`ledger.marks`); `name` says what it is, so that it is put on record once.
_MARKS = (
    """CREATE TABLE marks (
        id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name TEXT NOT NULL UNIQUE, at DOUBLE PRECISION NOT NULL,
        policy TEXT NOT NULL, kind TEXT NOT NULL, details TEXT NOT NULL)""",
    "CREATE INDEX marks_at ON marks (at)",
    BY_REQUEST,
)

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    _TABLES, _VIEWS, _CALLS, _ESTIMATES, (*_errors("spend", BUCKET_S), *_errors("spend_days", DAY_S)), _SAMPLES,
    _GATEWAY, _AUDIT, _HANDED, _ANCHORS, _PARTITIONED, _MARKS,
)  # fmt: skip


def prepare_months(made: int) -> tuple[tuple[str, ...], ...]:
    """Transactions before the migration to months, so that it scans nothing; none if it is among the `made` migrations applied."""
    return prove_ends() if 0 < made <= MIGRATIONS.index(_PARTITIONED) else ()
